"""A model that says back what it is told, so that a test has any answer it wants on the page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nanochat.errors import ModelError
from nanochat.ports import ModelReply, ModelRequest
from nanochat.records import Block, Usage

__all__ = ["Parrot"]

# The time that stands before a person's words, and a few characters of them.
_CLOCK = re.compile(r"\A\[[^\]\n]*\]\n")
_PIECE = re.compile(r".{1,7}", re.DOTALL)


@dataclass
class Parrot:
    """Says the newest user text back, a few characters at a time.

    At each `§` it waits for the gate, which a test opens and closes; at `¶` it is cut off. `look for …` calls the tool
    `sessions` first.
    """

    name: str = "parrot-1"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def reply(
        self,
        request: ModelRequest,
        on_text: Callable[[str], None],
        on_notice: Callable[[str], None],
        on_start: Callable[[str, Usage], None] | None = None,
    ) -> ModelReply:
        usage = Usage(input=12, cache_read=40 * len(request.messages), cache_write=30)
        if on_start is not None:
            on_start(self.name, usage)
        text, has_result = _newest(request)
        if text.startswith("look for ") and not has_result:
            call: Block = {
                "type": "tool_use",
                "id": f"toolu_{len(request.messages)}",
                "name": "sessions",
                "input": {"action": "search", "query": text.removeprefix("look for ")},
            }
            return ModelReply((call,), "tool_use", usage + Usage(output=9), self.name)
        said = ""
        for piece in re.split(r"([§¶])", text):
            if piece == "§":
                self.waiting.set()
                await self.gate.wait()
            elif piece == "¶":
                raise ModelError("the model is overloaded (529)", kind="overloaded", retryable=True, partial=said)
            else:
                for word in _PIECE.findall(piece):
                    on_text(word)
                    said += word
                    await asyncio.sleep(0)
        return ModelReply(
            ({"type": "text", "text": said},), "end_turn", usage + Usage(output=len(said) // 4), self.name
        )

    async def warm(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to close."""


def _newest(request: ModelRequest) -> tuple[str, bool]:
    """What a person said last, and whether a tool has answered since."""
    has_result = False
    for message in reversed(request.messages):
        content = message["content"]
        assert isinstance(content, Sequence)
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in reversed(blocks):
            assert isinstance(block, dict)
            has_result = has_result or block["type"] == "tool_result"
            if message["role"] == "user" and block["type"] == "text":
                return _CLOCK.sub("", str(block["text"])), has_result
    raise AssertionError("nobody has said anything")
