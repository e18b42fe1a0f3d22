"""The Messages API over real HTTP and server-sent events, on loopback.

Knows what the real one checks (version, key, `legality`), how it streams, what its errors look like and what its cache charges
(`prompt_cache`). Does not think: what it answers is scripted, in order, or comes from a function; without either it repeats
what was said. Time stands still unless a test advances `clock`.

    async with FakeMessagesAPI() as api:
        api.script(Reply(text="hello"), Refusal(529, "overloaded_error", "Overloaded"))
        ... api.url ...
        api.requests[0].body["messages"]

By hand: `python -m tests.fakes.messages_api --port 0 --script offline`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias, TypeVar, cast

from nanochat.model.offline import OfflineModel
from nanochat.ports import ModelRequest
from nanochat.records import Block, Json, text_of
from tests.fakes.legality import refusal
from tests.fakes.prompt_cache import PromptCache
from tests.fakes.replies import Gate, Raw, Refusal, Reply, ToolCall, error_body, events

__all__ = [
    "Clock",
    "FakeMessagesAPI",
    "Gate",
    "Raw",
    "Recorded",
    "Refusal",
    "Reply",
    "Responder",
    "ToolCall",
    "main",
]

_T = TypeVar("_T")

# What every older client sends, and what the installed SDK sends (`anthropic._constants`).
_VERSIONS = ("2023-06-01", "2026-10-21")
_MAX_HEAD_BYTES = 64 * 1024
_SSE = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
_JSON = {"content-type": "application/json"}
_REASONS = {200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}


@dataclass(slots=True)
class Recorded:
    """A request that arrived. `connection` counts from 1; `gone` is set when the client hangs up before the end."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Json]
    connection: int
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def said(self) -> str:
        """The text of the last user message."""
        messages = cast(Sequence[Block], self.body.get("messages") or [])
        users = [message for message in messages if message.get("role") == "user"]
        return text_of(cast(Sequence[Block] | str, users[-1]["content"])) if users else ""


Answer: TypeAlias = Reply | Refusal | Raw
Responder: TypeAlias = Callable[[Recorded], Answer | Awaitable[Answer]]


class Clock:
    """The server's time: it moves only when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    def __call__(self) -> float:
        return self.now_s


class _Gone(Exception):
    """The client closed its side."""


class FakeMessagesAPI:
    """The server; an async context manager.

    Args:
        keys: the keys it takes; None takes any, and requests without one.
        responder: answers what the script does not.
    """

    def __init__(
        self,
        *,
        keys: Sequence[str] | None = ("test-key",),
        responder: Responder | None = None,
        clock: Callable[[], float] | None = None,
        refuse: Callable[[Mapping[str, Json]], str | None] = refusal,
        port: int = 0,
    ) -> None:
        self.clock = Clock()
        self.requests: list[Recorded] = []
        self.connections = 0
        self.url = ""
        self.cache = PromptCache(clock or self.clock)
        self.responder: Responder = responder or _echo
        self.unknown_models: set[str] = set()
        self._keys = keys
        self._refuse = refuse
        self._port = port
        self._script: deque[Answer | Responder] = deque()
        self._arrival = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def script(self, *answers: Answer | Responder) -> None:
        """Queue answers: the next request gets the first."""
        self._script.extend(answers)

    @property
    def bodies(self) -> list[dict[str, Json]]:
        return [request.body for request in self.requests]

    async def arrived(self, count: int = 1) -> Recorded:
        """Wait for the `count`-th request, counted from 1."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=_MAX_HEAD_BYTES)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    # --- HTTP --------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while await self._exchange(_Wire(reader, writer), number):
                pass
        except (_Gone, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _exchange(self, wire: _Wire, number: int) -> bool:
        """Answer one request; False closes the connection."""
        method, path, headers = await wire.read_head()
        raw = await wire.reader.readexactly(int(headers.get("content-length", "0")))
        body = json.loads(raw) if raw else {}
        request = Recorded(method, path, headers, body, number)
        async with self._arrival:
            self.requests.append(request)
            self._arrival.notify_all()
        try:
            return await self._answer(wire, request, {"request-id": f"req_{len(self.requests):06d}"})
        except (_Gone, ConnectionError):
            request.gone.set()
            raise

    async def _answer(self, wire: _Wire, request: Recorded, common: Mapping[str, str]) -> bool:
        objection = self._objection(request)
        answer: Answer = await wire.unless_gone(self._next(request)) if objection is None else objection
        match answer:
            case Refusal():
                await wire.respond(
                    answer.status, {**common, **_JSON, **answer.headers}, error_body(answer, common["request-id"])
                )
            case Raw(status=0):
                return False
            case Raw():
                await wire.respond(answer.status, {**common, **answer.headers}, answer.body)
            case Reply():
                return await _stream(wire, answer, request, self.cache.charge(request.body), common)
        return True

    async def _next(self, request: Recorded) -> Answer:
        queued = self._script.popleft() if self._script else self.responder
        if isinstance(queued, Reply | Refusal | Raw):
            return queued
        answer = queued(request)
        return answer if isinstance(answer, Reply | Refusal | Raw) else await answer

    def _objection(self, request: Recorded) -> Refusal | None:
        """What the real API would say no to, in its order: place, key, version, body."""
        if (request.method, request.path.partition("?")[0]) != ("POST", "/v1/messages"):
            return Refusal(404, "not_found_error", "Not found")
        if (problem := self._key_problem(request.headers)) is not None:
            return Refusal(401, "authentication_error", problem)
        version = request.headers.get("anthropic-version")
        if version not in _VERSIONS:
            words = f"{version!r} is not a valid version" if version else "header is required"
            return Refusal(400, "invalid_request_error", f"anthropic-version: {words}")
        if (problem := self._refuse(request.body)) is not None:
            return Refusal(400, "invalid_request_error", problem)
        if request.body["model"] in self.unknown_models:
            return Refusal(404, "not_found_error", f"model: {request.body['model']}")
        return None

    def _key_problem(self, headers: Mapping[str, str]) -> str | None:
        if self._keys is None:
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            return None if token in self._keys else "Invalid bearer token"
        if "x-api-key" in headers:
            return None if headers["x-api-key"] in self._keys else "invalid x-api-key"
        return "x-api-key header is required"


@dataclass(frozen=True, slots=True)
class _Wire:
    """HTTP/1.1 on one connection, as far as one client needs it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_head(self) -> tuple[str, str, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        pairs = (line.partition(":") for line in lines[1:] if line)
        return method, path, {name.lower(): value.strip() for name, _, value in pairs}

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.start(status, {**headers, "content-length": str(len(body))})
        self.writer.write(body)
        await self.writer.drain()

    async def event(self, event: Block) -> None:
        data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        chunk = f"event: {event['type']}\ndata: {data}\n\n".encode()
        self.writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        await self.writer.drain()

    async def unless_gone(self, waiting: Coroutine[Any, Any, _T]) -> _T:  # Any: what a coroutine yields and is sent
        """Wait for something of our own, but not for a client that has hung up."""
        ours = asyncio.ensure_future(waiting)
        theirs = asyncio.ensure_future(self.reader.read(1))
        try:
            await asyncio.wait({ours, theirs}, return_when=asyncio.FIRST_COMPLETED)
            if ours.done():
                return ours.result()
            raise _Gone
        finally:
            for task in (ours, theirs):
                task.cancel()
            await asyncio.wait({ours, theirs})
            if not theirs.cancelled():
                theirs.exception()


# --- what a reply looks like on the wire -----------------------------------------------------------------------------


async def _stream(wire: _Wire, reply: Reply, request: Recorded, charge: Block, common: Mapping[str, str]) -> bool:
    wire.start(200, {**common, **_SSE, "transfer-encoding": "chunked", **reply.headers})
    deltas = 0
    for event in reply.events or events(reply, request.body, charge):
        is_delta = event["type"] == "content_block_delta"
        is_last = event["type"] == "message_delta" and reply.after is None and not reply.events
        if reply.end != "stop" and ((is_delta and deltas == reply.after) or is_last):
            return await _end_badly(wire, reply.end)
        if is_delta:
            deltas += 1
            if reply.gate is not None:
                await wire.unless_gone(reply.gate.passed())
            if reply.delay_s:
                await wire.unless_gone(asyncio.sleep(reply.delay_s))
        await wire.event(event)
    if reply.end != "stop":
        return await _end_badly(wire, reply.end)
    wire.writer.write(b"0\r\n\r\n")
    await wire.writer.drain()
    return True


async def _end_badly(wire: _Wire, end: str) -> bool:
    match end:
        case "cut":
            return False
        case "no_stop":
            wire.writer.write(b"0\r\n\r\n")
        case "hang":
            await wire.unless_gone(asyncio.Event().wait())
        case _:
            await wire.event({"type": "error", "error": {"type": end, "message": f"it failed: {end}"}})
            wire.writer.write(b"0\r\n\r\n")
    await wire.writer.drain()
    return True


# --- answers without a script ----------------------------------------------------------------------------------------


def _echo(request: Recorded) -> Reply:
    return Reply(text=f"echo: {request.said}")


async def _offline(request: Recorded) -> Reply:
    """Answers as the offline model does, tools and all."""
    body = request.body
    system = body.get("system") or []
    reply = await OfflineModel(pace_s=0).reply(
        ModelRequest(
            model="offline",
            system=({"type": "text", "text": system},) if isinstance(system, str) else tuple(cast(list[Block], system)),
            messages=tuple(cast(list[Block], body["messages"])),
            tools=tuple(cast(list[Block], body.get("tools") or [])),
            max_tokens=cast(int, body["max_tokens"]),
        ),
        _ignore,
        _ignore,
    )
    return Reply(blocks=reply.content, stop_reason=reply.stop_reason)


def _ignore(_: str) -> None:
    return


@contextlib.asynccontextmanager
async def _serving(port: int, script: str, delay_s: float) -> AsyncIterator[FakeMessagesAPI]:
    answer = _offline if script == "offline" else _echo

    async def paced(request: Recorded) -> Answer:
        reply = answer(request)
        found = reply if isinstance(reply, Reply) else await reply
        return Reply(blocks=found.blocks, text=found.text, stop_reason=found.stop_reason, delay_s=delay_s)

    async with FakeMessagesAPI(keys=None, responder=paced, clock=time.monotonic, port=port) as api:
        yield api


async def _run(port: int, script: str, delay_s: float) -> None:
    async with _serving(port, script, delay_s) as api:
        print(api.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A Messages API on loopback, for tries by hand.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", choices=("echo", "offline"), default="offline")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="before each delta")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.port, options.script, options.delay))


if __name__ == "__main__":
    main()
