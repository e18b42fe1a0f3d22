"""The daemon over HTTP, against the bare SDK call that each turn makes; and what 200 streams at once do to it.

The daemon and the fake Messages API in processes of their own; the clients, which take the times, in this one.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.report import Figure, median, show
from tests.fakes.messages_api import FakeMessagesAPI
from tests.soak.telegram import resident_mb

__all__ = ["run"]

ROUNDS = 60
WARMING = 8
SESSIONS = 20
STREAMS = 200
QUESTION = "what does the tide do at the full moon, and why is it so? " * 3
TOKEN = "a-token-for-benchmarks"
PATIENCE_S = 60.0

_END_OF_CHUNKS = b"\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Streamed:
    """One stream as its client saw it."""

    first_s: float
    whole_s: float
    is_done: bool


class Daemon:
    """A daemon that was started here."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port

    async def ask(self, connection: Connection, session: str, text: str = QUESTION) -> Streamed:
        """Post a message, and read its stream to the end."""
        body = json.dumps({"message": text}).encode()
        return await connection.post(f"/chat/stream/{session}", body)

    async def settled_mb(self) -> float:
        """What it holds in memory once that no longer grows."""
        before, now = 0.0, resident_mb(self.pid)
        while now > before + 0.2:
            await asyncio.sleep(2)
            before, now = now, resident_mb(self.pid)
        return now


class Connection:
    """The least client that there can be: what it takes by itself is nobody's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> Connection:
        """A connection that is kept open."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, path: str, body: bytes) -> Streamed:
        """Send one request and read its stream; times count from the first byte sent."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        began = time.perf_counter()
        self._writer.write(head.encode() + body)
        seen, first_s = b"", 0.0
        async with asyncio.timeout(PATIENCE_S):
            while not seen.endswith(_END_OF_CHUNKS):
                seen += await self._reader.read(65536)
                if not first_s and b"event: delta" in seen:
                    first_s = time.perf_counter() - began
        return Streamed(first_s, time.perf_counter() - began, b"event: done" in seen)

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()


def run(directory: Path) -> list[Figure]:
    """Measure daemons that have their data below `directory`."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", "nanochat"], check=True)
    figures = asyncio.run(_all(directory))
    show("HTTP, above the bare SDK's create(stream=True) of the same request", figures)
    return figures


async def _all(directory: Path) -> list[Figure]:
    figures = await _compared(directory / "http")
    figures += await _crowd(directory / "crowd")
    figures += await _idle(directory / "idle")
    return figures


async def _compared(directory: Path) -> list[Figure]:
    import anthropic  # noqa: PLC0415 - a second that the other figures need not wait for

    request = await _request(directory / "once")
    async with _fake() as url, _daemon(directory / "data", _reaching(url)) as daemon:
        client = anthropic.AsyncAnthropic(api_key="sk-test", base_url=url, max_retries=0)
        connection = await Connection.to(daemon.port)
        ours, bare = [], []
        for i in range(WARMING + ROUNDS):
            streamed = await daemon.ask(connection, f"s{i % SESSIONS}")
            assert streamed.is_done
            ours.append(streamed.first_s * 1000)
            bare.append(await _bare_call(client, request) * 1000)
        await connection.close()
        await client.close()
    ours, bare = ours[WARMING:], bare[WARMING:]
    note = f"{median(ours):.1f} ms, bare {median(bare):.1f} ms"
    worst = f"{_part(ours, 0.9):.1f} ms, bare {_part(bare, 0.9):.1f} ms"
    return [
        Figure("time to the first delta, added", median(ours) - median(bare), "ms", 5, note),
        Figure("the same, nine of ten", _part(ours, 0.9) - _part(bare, 0.9), "ms", None, worst),
    ]


async def _crowd(directory: Path) -> list[Figure]:
    """Everybody asks at once, each in a session of their own; the model takes a while over each piece."""
    environ = {"NANOCHAT_LIMITS__CONCURRENT_TURNS": str(STREAMS)}
    async with _fake("--delay", "0.02") as url, _daemon(directory, {**_reaching(url), **environ}) as daemon:
        connections = [await Connection.to(daemon.port) for _ in range(STREAMS)]
        await daemon.ask(connections[0], "warm")
        streams = await asyncio.gather(*(daemon.ask(connection, f"c{i}") for i, connection in enumerate(connections)))
        memory_mb = resident_mb(daemon.pid)
        for connection in connections:
            await connection.close()
    firsts = [streamed.first_s * 1000 for streamed in streams if streamed.first_s]
    return [
        Figure(f"of {STREAMS} streams at once, not complete", sum(not s.is_done for s in streams), "streams", 0),
        Figure("first delta, nineteen of twenty", _part(firsts, 0.95), "ms", None, f"median {median(firsts):.0f} ms"),
        Figure("the last of them done", max(streamed.whole_s for streamed in streams) * 1000, "ms"),
        Figure("resident memory then", memory_mb, "MB"),
    ]


async def _idle(directory: Path) -> list[Figure]:
    """Beside the SDK, which is loaded soon after the start, and shares some of what HTTP needs."""
    sizes = []
    async with _fake() as url:
        for is_enabled in ("true", "false"):
            environ = {**_reaching(url), "NANOCHAT_HTTP__ENABLED": is_enabled}
            async with _daemon(directory / is_enabled, environ) as daemon:
                sizes.append(await daemon.settled_mb())
    return [Figure("resident memory added, idle", sizes[0] - sizes[1], "MB", None, f"{sizes[1]:.0f} MB without")]


async def _request(directory: Path) -> dict[str, Any]:  # Any: a request's fields
    """What the daemon sends for the question."""
    async with FakeMessagesAPI(keys=None) as messages, _daemon(directory, _reaching(messages.url)) as daemon:
        connection = await Connection.to(daemon.port)
        await daemon.ask(connection, "once")
        await connection.close()
        return dict(messages.bodies[0])


async def _bare_call(client: Any, request: dict[str, Any]) -> float:  # Any: the SDK is loaded late
    first_at = 0.0
    began = time.perf_counter()
    async for event in await client.messages.create(**request):
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            first_at = first_at or time.perf_counter()
    return first_at - began


def _part(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def _reaching(url: str) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": url}


@asynccontextmanager
async def _daemon(directory: Path, environ: Mapping[str, str]) -> AsyncIterator[Daemon]:
    """Have a daemon serve on a free port, and end it."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    settings = {
        "NANOCHAT_DATA_DIR": str(directory),
        "NANOCHAT_HTTP_TOKEN": TOKEN,
        "NANOCHAT_HTTP__ENABLED": "true",
        "NANOCHAT_HTTP__PORT": "0",
        "NANOCHAT_LIMITS__TURNS_PER_MINUTE": "0",
        "NANOCHAT_LOG__FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nanochat", "run"), stderr=PIPE, env={**inherited, **settings, **environ}
    )
    assert process.stderr is not None
    try:
        yield Daemon(process.pid, await _port(process.stderr, environ.get("NANOCHAT_HTTP__ENABLED") != "false"))
    finally:
        process.terminate()
        await process.wait()


async def _port(log: asyncio.StreamReader, is_enabled: bool) -> int:
    async with asyncio.timeout(PATIENCE_S):
        while line := json.loads(await log.readline()):
            if "listening on" in line["event"]:
                return int(line["event"].rstrip("/").rpartition(":")[2])
            if not is_enabled and line["event"].startswith("up"):
                return 0
    raise AssertionError("it does not listen")


@asynccontextmanager
async def _fake(*options: str) -> AsyncIterator[str]:
    """The fake Messages API in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.messages_api", "--port", "0", "--script", "echo", *options),
        stdout=PIPE,
        stderr=DEVNULL,
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().split()[-1]
    finally:
        process.terminate()
        await process.wait()
