"""Tool calls: run side by side, each with a deadline, each result handed on as it comes.

Whatever becomes of a call, the model gets a result and the reader is told. Knows tools. Does not know the session that the
results are written to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from nanochat.errors import ToolError
from nanochat.events import ToolFinished, ToolStarted
from nanochat.ports import Emit, Tool, ToolContext
from nanochat.records import Block, Json, Message, Record, ToolTime

__all__ = ["Toolbox", "blocks_of", "open_calls", "result_block"]

# A result is read again with every later request until the next compaction; what does not fit is for another, narrower call.
MAX_RESULT_CHARS = 20_000


class Toolbox:
    """The tools of a turn, and of the API's own the specs only. `timeout_s` may be changed at any time."""

    def __init__(self, tools: Sequence[Tool], server_tools: Sequence[Block], timeout_s: float) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self.timeout_s = timeout_s
        self.specs: tuple[Block, ...] = (*(tool.spec for tool in tools), *server_tools)

    async def call_all(
        self,
        calls: Sequence[Block],
        context: Callable[[str], ToolContext],
        emit: Emit,
        write: Callable[[Block], Awaitable[None]],
    ) -> list[ToolTime]:
        """Run `tool_use` blocks concurrently; `write` gets each `tool_result` block as its call ends.

        `context` makes a call's context from its id. Returns how long each took, in the order of their ends.
        """
        times: list[ToolTime] = []

        async def one(call: Block) -> None:
            result, taken = await self._call(call, context(str(call["id"])), emit)
            times.append(taken)
            await write(result)

        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(one(call))
        except ExceptionGroup as group_error:
            # The first that failed ended the others; one cause reads better than a tree.
            raise group_error.exceptions[0] from group_error
        return times

    async def _call(self, call: Block, context: ToolContext, emit: Emit) -> tuple[Block, ToolTime]:
        call_id, name = str(call["id"]), str(call["name"])
        args = cast(Mapping[str, Json], call["input"]) if isinstance(call.get("input"), Mapping) else {}
        tool = self._tools.get(name)
        emit(ToolStarted(call_id, name, tool.title(args) if tool else name))
        began_s, ok = time.perf_counter(), False
        try:
            async with asyncio.timeout(self.timeout_s):
                text = await tool.run(args, context) if tool else f"there is no tool {name!r}"
            ok = tool is not None
        except ToolError as error:
            text = str(error)
        except TimeoutError:
            text = f"no result within {self.timeout_s:g} s"
        finally:
            taken = ToolTime(name, time.perf_counter() - began_s, ok)
            emit(ToolFinished(call_id, name, ok, taken.seconds))
        if len(text) > MAX_RESULT_CHARS:
            text = f"{text[:MAX_RESULT_CHARS]}\n[{len(text) - MAX_RESULT_CHARS} more characters left out]"
        return result_block(call_id, text, ok=ok), taken


def result_block(call_id: str, text: str, *, ok: bool) -> Block:
    """A `tool_result`, which may not be empty."""
    result: dict[str, Json] = {"type": "tool_result", "tool_use_id": call_id, "content": text or "(nothing)"}
    return result if ok else {**result, "is_error": True}


def open_calls(lines: Sequence[Record]) -> list[str]:
    """The ids of the calls among a turn's lines that have no result, in their order."""
    answered = {str(block.get("tool_use_id")) for block in blocks_of(lines, "tool_result")}
    asked = [str(block.get("id")) for block in blocks_of(lines, "tool_use")]
    return [call_id for call_id in asked if call_id not in answered]


def blocks_of(lines: Sequence[Record], kind: str) -> list[Block]:
    """All blocks of one type among a turn's lines."""
    contents = [line.content for line in lines if isinstance(line, Message) and not isinstance(line.content, str)]
    return [block for content in contents for block in content if block.get("type") == kind]
