"""Connections themselves: those that say nothing, those that are too many, and what is no request of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from nanochat.channels.http.connections import Connection, ServerSettings
from tests.http.conftest import Open
from tests.http.premises import TOKEN, Premises

HEAD = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"


@asynccontextmanager
async def connected(premises: Premises) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed at the end."""
    url = httpx.URL(premises.http.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def said(premises: Premises, sent: str | bytes) -> bytes:
    """All that is answered, until the other side hangs up."""
    async with connected(premises) as (reader, writer):
        writer.write(sent.encode() if isinstance(sent, str) else sent)
        return await reader.read()


def problem_of(answer: bytes) -> tuple[int, str, str]:
    """An answer's status, its media type and its problem's kind."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), fields["content-type"], json.loads(body)["kind"]


# --- who says nothing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    ["", "GET /health HT", f"GET /health HTTP/1.1\r\n{HEAD}\r\n" * 2 + "GET /he"],
    ids=["nothing", "half a head", "half a head behind others"],
)
async def test_who_does_not_ask_is_let_go(opened: Open, sent: str) -> None:
    """After a while, however often there was something new of it before."""
    premises = await opened(head_s=0.05)
    answer = await said(premises, sent)
    assert answer.count(b"HTTP/1.1 200") == sent.count("\r\n\r\n")


async def test_who_drips_is_let_go(opened: Open) -> None:
    """A byte now and then does not count as asking."""
    premises = await opened(head_s=0.05)
    async with connected(premises) as (reader, writer):
        ended = asyncio.create_task(reader.read())
        for byte in b"GET /" + b"a" * 10_000:
            if ended.done():
                break
            writer.write(bytes((byte,)))
            await asyncio.wait({ended}, timeout=0.01)
        # A byte that was on its way when the door closed has the end told as a reset.
        with suppress(ConnectionResetError):
            assert await ended == b""
        assert ended.done()


async def test_a_body_that_nobody_reads_is_not_waited_for(opened: Open) -> None:
    """Who is refused may send the rest of it, but not for ever."""
    premises = await opened(head_s=0.05)
    async with connected(premises) as (reader, writer):
        writer.write(b"POST /chat/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"x")
            await asyncio.wait({ended}, timeout=0.01)
        with suppress(ConnectionResetError):
            await ended


async def test_who_asks_and_listens_stays(opened: Open) -> None:
    """However long nothing is told."""
    premises = await opened(head_s=0.05, keep_alive_s=0.02)
    async with premises.client() as client, client.stream("GET", "/sessions/a/live") as response:
        comments = response.aiter_lines()
        for _ in range(20):
            await anext(comments)


# --- who reads nothing --------------------------------------------------------------------------------------------------


class Wire(asyncio.Transport):
    """A connection to a reader of whom nothing is known but whether it was let go."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = asyncio.Event()

    def abort(self) -> None:
        self.aborted.set()

    def is_closing(self) -> bool:
        return self.aborted.is_set()

    def close(self) -> None: ...


async def _app(scope: Scope, receive: Receive, send: Send) -> None: ...


def _connection() -> tuple[Connection, Wire]:
    settings = ServerSettings(_app, http=Connection, log_config=None)
    settings.stuck_s = 0.01
    connection, wire = Connection(settings, ServerState(), {}), Wire()
    connection.connection_made(wire)
    return connection, wire


async def test_who_reads_nothing_is_let_go() -> None:
    """What is there for it would be kept for ever."""
    connection, wire = _connection()
    connection.pause_writing()
    await wire.aborted.wait()
    connection.connection_lost(None)


async def test_who_reads_slowly_stays() -> None:
    """Each time that it has read something, the time begins anew."""
    (reading, wire), (stuck, reference) = _connection(), _connection()
    reading.pause_writing()
    reading.resume_writing()
    stuck.pause_writing()
    await reference.aborted.wait()
    assert not wire.aborted.is_set()
    for connection in (reading, stuck):
        connection.connection_lost(None)


# --- who is one too many ------------------------------------------------------------------------------------------------


async def test_one_connection_too_many_is_refused(opened: Open) -> None:
    """With a status; those that are there stay, and when one goes, the next may come."""
    premises = await opened(most_connections=2)
    async with premises.client() as client, client.stream("GET", "/sessions/a/live"):
        async with client.stream("GET", "/sessions/a/live"):
            answer = await said(premises, f"GET /health HTTP/1.1\r\n{HEAD}\r\n")
            assert problem_of(answer) == (503, "application/problem+json", "crowded")
            assert b"retry-after: " in answer.lower()
        answer = await said(premises, f"GET /health HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")


# --- what is no request of ours -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 66_000, 431),
        (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 66_000, 431),
    ],
    ids=["no version", "no host", "a long line", "a long header"],
)
async def test_what_cannot_be_read_is_a_problem_too(premises: Premises, sent: bytes, status: int) -> None:
    """As all that goes wrong."""
    assert problem_of(await said(premises, sent)) == (status, "application/problem+json", "request")


async def test_another_protocol_is_not_offered(premises: Premises, caplog: pytest.LogCaptureFixture) -> None:
    """It is answered as if it were not asked for, and nobody is told to install anything."""
    asked = f"GET /health HTTP/1.1\r\n{HEAD}Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert (await said(premises, asked)).startswith(b"HTTP/1.1 200")
    assert "websocket" not in caplog.text.lower()
