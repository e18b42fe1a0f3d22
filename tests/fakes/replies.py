"""What the fake Messages API can be told to answer, and what that looks like on the wire.

Knows the events of a stream and the shape of an error. Does not know HTTP, nor who asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast
from uuid import uuid4

from nanochat.records import Block, Json
from tests.fakes.legality import sign
from tests.fakes.prompt_cache import tokens

__all__ = ["Gate", "Raw", "Refusal", "Reply", "ToolCall", "error_body", "events"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A `tool_use` block to come; without `id` it gets one of its own."""

    name: str
    input: Mapping[str, Json]
    id: str = ""


class Gate:
    """Holds a reply back, delta by delta, until the test lets it go on."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(0)
        self._wide_open = asyncio.Event()
        self._waiting = asyncio.Event()
        self._arrived = 0
        self._arrival = asyncio.Condition()

    async def passed(self) -> None:
        """Called by the server before each delta."""
        async with self._arrival:
            self._arrived += 1
            self._arrival.notify_all()
        if not self._wide_open.is_set():
            await self._free.acquire()

    async def reached(self, delta: int = 1) -> None:
        """Wait until the server stands before its `delta`-th delta, counted from 1."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: self._arrived >= delta)

    def let(self, deltas: int = 1) -> None:
        for _ in range(deltas):
            self._free.release()

    def let_all(self) -> None:
        self._wide_open.set()
        self.let(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One streamed reply: thinking, then text, then tool calls; or `blocks` as they stand on the wire; or bare `events`.

    After `after` deltas (None: after all) the stream ends as `end` says: `stop` regularly, `cut` by closing the socket,
    `no_stop` cleanly but without its last events, `hang` not at all, any other word as an `error` event of that type.
    Bare `events` without `after` are all sent before that. `usage` replaces what the cache charged; `no_usage` leaves it out.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: Sequence[ToolCall] = ()
    blocks: Sequence[Block] = ()
    events: Sequence[Block] = ()
    stop_reason: str = ""
    piece: int = 12
    end: str = "stop"
    after: int | None = None
    gate: Gate | None = None
    delay_s: float = 0.0
    usage: Mapping[str, Json] | None = None
    no_usage: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response as the API words it; `code` becomes `error.details.error_code`."""

    status: int
    type: str
    message: str = "refused"
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = ""


@dataclass(frozen=True, slots=True)
class Raw:
    """Any response at all; with `status` 0 the socket is closed without one."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def events(reply: Reply, body: Mapping[str, Json], charge: Block) -> Iterator[Block]:
    """The stream of `reply` to the request `body`, with the input's `charge` as its usage."""
    blocks = reply.blocks or _blocks(reply, body)
    usage = (
        {} if reply.no_usage else {"usage": reply.usage or {**charge, "output_tokens": 1, "service_tier": "standard"}}
    )
    yield {
        "type": "message_start",
        "message": {
            "id": "msg_fake",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            **usage,
        },
    }
    yield {"type": "ping"}
    for index, block in enumerate(blocks):
        start, deltas = _take_apart(block, reply.piece)
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop_reason = reply.stop_reason or ("tool_use" if reply.tool_calls else "end_turn")
    output = sum(tokens(block) for block in blocks)
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, "stop_sequence": None},
        **({} if reply.no_usage else {"usage": {"output_tokens": output}}),
    }
    yield {"type": "message_stop"}


def _blocks(reply: Reply, body: Mapping[str, Json]) -> list[Block]:
    """Thinking is signed for this request, so that `legality` notices when it is sent back behind another history."""
    found: list[Block] = []
    if reply.thinking:
        found.append({"type": "thinking", "thinking": reply.thinking, "signature": sign(body)})
    if reply.text:
        found.append({"type": "text", "text": reply.text})
    for call in reply.tool_calls:
        # Unlike any other, also of another server in the same test: what a call does is done once per id.
        call_id = call.id or f"toolu_{uuid4().hex}"
        found.append({"type": "tool_use", "id": call_id, "name": call.name, "input": call.input})
    return found


def _take_apart(block: Block, piece: int) -> tuple[Block, list[Block]]:
    """A block as it starts, and the deltas that complete it."""
    match block:
        case {"type": "text", "text": str(text)}:
            start = {**block, "text": ""}
            cited = cast(Sequence[Json], start.get("citations") or [])
            if cited:
                start["citations"] = []
            found: list[Block] = [{"type": "citations_delta", "citation": citation} for citation in cited]
            return start, found + [{"type": "text_delta", "text": part} for part in _pieces(text, piece)]
        case {"type": "thinking", "thinking": str(text)}:
            found = [{"type": "thinking_delta", "thinking": part} for part in _pieces(text, piece)]
            if "signature" in block:
                found.append({"type": "signature_delta", "signature": block["signature"]})
            return {"type": "thinking", "thinking": "", "signature": ""}, found
        case {"type": "tool_use" | "server_tool_use", "input": given}:
            # A string stands for arguments that are no whole JSON.
            text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False) if given else ""
            start = {**block, "input": {}}
            return start, [{"type": "input_json_delta", "partial_json": part} for part in ["", *_pieces(text, piece)]]
        case _:
            return block, []


def _pieces(text: str, piece: int) -> list[str]:
    return [text[at : at + piece] for at in range(0, len(text), piece)]


def error_body(refused: Refusal, request_id: str) -> bytes:
    error: dict[str, Json] = {"type": refused.type, "message": refused.message}
    if refused.code:
        error["details"] = {"error_code": refused.code}
    return json.dumps({"type": "error", "error": error, "request_id": request_id}).encode()
