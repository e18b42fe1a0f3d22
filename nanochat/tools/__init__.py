"""What the model can have done. Each tool is a room of its own and knows one thing."""

from nanochat.tools.memory import MemoryTool
from nanochat.tools.schedule import ScheduleTool
from nanochat.tools.sessions import SessionsTool

__all__ = ["MemoryTool", "ScheduleTool", "SessionsTool"]
