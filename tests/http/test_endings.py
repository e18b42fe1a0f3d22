"""The channel's own life: how it begins, how it ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from nanochat.channels.http.sockets import MAX_PATH_BYTES, on_path, on_port
from nanochat.errors import ChannelError
from nanochat.events import Inbound, Sender, Text, TextDelta, TurnDone
from nanochat.keys import SessionKey
from nanochat.ports import Envelope, ModelReply, ModelRequest
from nanochat.records import Usage
from tests.fakes.memory_channel import ForgetfulMemory
from tests.http.conftest import Open
from tests.http.premises import TOKEN, Premises, asked, events_of, read_events

KEY = SessionKey("http", "a")


# --- the end ------------------------------------------------------------------------------------------------------------


async def test_open_streams_do_not_hold_up_the_end(premises: Premises, client: httpx.AsyncClient) -> None:
    """Those that follow a session end at once, and whole."""
    async with client.stream("GET", "/sessions/a/live") as response:
        began = time.monotonic()
        ending = asyncio.create_task(premises.end())
        assert [event async for event in read_events(response)] == []
        await ending
    assert time.monotonic() - began < 10.0  # who waits for the streams waits for ever


async def test_an_answer_that_is_finished_within_the_grace_is_told(
    premises: Premises, client: httpx.AsyncClient
) -> None:
    """While the daemon waits for it, the server answers; and then it ends."""
    echo = premises.office.echo
    echo.gate.clear()
    async with asked(client, "a", "hi") as response:
        stream = read_events(response)
        await anext(stream)
        ending = asyncio.create_task(premises.end())
        await asyncio.sleep(0)
        refused = await client.post("/chat/stream/b", json={"message": "no"})
        assert (refused.status_code, refused.json()["kind"]) == (503, "ending")
        assert (await client.get("/health")).status_code == 200
        echo.gate.set()
        events = [event async for event in stream]
        await ending
    assert events[-1].name == "done"


async def test_an_answer_that_is_not_finished_is_told_to_come_back(
    premises: Premises, client: httpx.AsyncClient
) -> None:
    """As the last event of a stream, and as the answer of who waits for all of it; the turn is not touched."""
    echo = premises.office.echo
    echo.gate.clear()
    async with asked(client, "a", "hi") as response:
        stream = read_events(response)
        await anext(stream)
        whole = asyncio.create_task(client.post("/chat/b", json={"message": "hi"}))
        await premises.office.until_asked(2)
        await premises.hang_up()
        events = [event async for event in stream]
    assert (events[-1].name, events[-1].data["kind"], events[-1].data["status"]) == ("error", "ending", 503)
    assert (await whole).status_code == 503
    echo.gate.set()


async def test_a_channel_can_be_run_again(premises: Premises) -> None:
    """After it ended; what went on meanwhile is told to whoever asks again."""
    echo = premises.office.echo
    echo.gate.clear()
    async with premises.client() as client, asked(client, "a", "hi", "key-1") as response:
        await anext(read_events(response))
        await premises.office.until_asked(1)
        await premises.hang_up()
    again = asyncio.create_task(premises.http.run(premises.office.worker.accept))
    await premises.http.listening.wait()
    async with premises.client() as client:
        echo.gate.set()
        events = await events_of(client, "a", "hi", "key-1")
    assert (events[1].name, events[-1].name) == ("restart", "done")
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again


async def test_a_reader_who_does_not_read_holds_up_nobody(opened: Open) -> None:
    """Its answer is as long as it likes; others are answered meanwhile, the turn ends, and so does the server."""
    words = "word " * 1_200_000  # more than the kernel keeps for a reader who does not read

    class Talkative:
        name = "talkative-1"

        async def reply(self, request: ModelRequest, on_text, on_notice, on_start=None) -> ModelReply:  # type: ignore[no-untyped-def]  # see ports.Model
            text = words if "much" in str(request.messages[-1]) else "little"
            on_text(text)
            return ModelReply(({"type": "text", "text": text},), "end_turn", Usage(input=1), request.model)

        async def warm(self) -> None: ...

        async def close(self) -> None: ...

    premises = await opened(model=Talkative())
    async with premises.client() as client:
        silent = socket.create_connection((client.base_url.host, client.base_url.port or 0))
        body = b'{"message": "say much"}'
        head = f"POST /chat/stream/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        silent.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert (await client.post("/chat/b", json={"message": "hi"})).json()["text"] == "little"
        await premises.office.worker.rest()
        [said] = [m for m in (await client.get("/sessions/a/history")).json()["messages"] if m["role"] == "assistant"]
        assert len(said["text"]) == len(words.strip())
        began = time.monotonic()
        await premises.end()
        assert time.monotonic() - began < 30.0  # who waits for the reader waits for a minute
        assert await asyncio.to_thread(_rest_of, silent) < len(words)


def _rest_of(silent: socket.socket) -> int:
    """How many bytes had been put on the wire for somebody."""
    size = 0
    with silent:
        try:
            while data := silent.recv(1 << 20):
                size += len(data)
        except ConnectionResetError:
            pass
    return size


async def test_nothing_of_a_client_who_left_is_kept(premises: Premises, client: httpx.AsyncClient) -> None:
    """Its reader goes with it."""
    for _ in range(3):
        async with client.stream("GET", "/sessions/a/live") as response:
            assert response.status_code == 200
    premises.office.echo.gate.clear()
    async with asked(client, "a", "hi"):
        pass
    premises.office.echo.gate.set()
    await premises.office.worker.rest()
    await premises.end()


# --- the port -----------------------------------------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_one_line(premises: Premises) -> None:
    """With what to do about it; the daemon tries again."""
    port = httpx.URL(premises.http.url).port or 0
    with pytest.raises(
        ChannelError, match=rf"http: 127\.0\.0\.1:{port} is taken by another program: set http\.port"
    ) as caught:
        await on_port("127.0.0.1", port)
    assert caught.value.retryable


@pytest.mark.parametrize("host", ["host.invalid", "300.1.1.1", "a" * 70 + ".invalid"])
async def test_a_host_that_is_none_is_one_line(host: str) -> None:
    """It names the setting."""
    with pytest.raises(ChannelError, match=r"http\.host"):
        await on_port(host, 0)


async def test_an_address_of_another_machine_cannot_be_had() -> None:
    """It is said so."""
    with pytest.raises(ChannelError, match="cannot be used"):
        await on_port("192.0.2.1", 0)


async def test_localhost_is_all_of_its_addresses() -> None:
    """By one port."""
    listening = await on_port("localhost", 0)
    ports = {each.getsockname()[1] for each in listening.sockets}
    listening.close()
    assert listening.url == f"http://localhost:{ports.pop()}/"
    assert not ports


async def test_where_it_listens_is_logged(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """And the token is not."""
    caplog.set_level(logging.DEBUG)
    premises = await opened()
    assert f"http: listening on {premises.http.url}" in caplog.messages
    assert TOKEN not in caplog.text + repr(premises.settings)


# --- the socket file ----------------------------------------------------------------------------------------------------


def test_a_socket_of_the_dead_is_replaced(tmp_path: Path) -> None:
    """Its file says nothing of whether somebody listens."""
    path = tmp_path / "http.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    listening = on_path(path)
    assert path.stat().st_mode & 0o777 == 0o600
    listening.close()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_of_the_living_is_left_alone(tmp_path: Path) -> None:
    """Another process answers there."""
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(ChannelError, match="another process answers"):
            on_path(path)
        assert path.exists()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """It is somebody's file."""
    path = tmp_path / "http.sock"
    path.write_text("mine")
    with pytest.raises(ChannelError, match="no socket"):
        on_path(path)
    assert path.read_text() == "mine"


def test_a_path_that_is_too_long_is_said(tmp_path: Path) -> None:
    """With the way out."""
    with pytest.raises(ChannelError, match="NANOCHAT_HTTP_TOKEN"):
        on_path(tmp_path / ("x" * MAX_PATH_BYTES))


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    """In one line."""
    with pytest.raises(ChannelError, match="the socket cannot be made"):
        on_path(tmp_path / "no" / "http.sock")


def test_a_successors_socket_is_not_taken_away(tmp_path: Path) -> None:
    """Who ends late leaves what is no longer theirs."""
    path = tmp_path / "http.sock"
    first = on_path(path)
    os.unlink(path)
    second = on_path(path)
    first.close()
    assert path.exists()
    second.close()


async def test_without_a_token_only_this_user_can_ask(opened: Open, tmp_path: Path) -> None:
    """By a socket file that is theirs alone, whatever name they ask for, and trusted."""
    first = await opened()
    await first.close()
    premises = await opened(settings=replace(first.settings, token=""))
    path = tmp_path / "http.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    assert premises.http.url == f"unix:{path}"
    async with premises.client() as client:
        assert (await client.post("/chat/a", json={"message": "hi"})).json()["text"] == "echo: hi"
        health = await client.get("/health", headers={"Host": "anything"})
    assert health.json()["version"] == "0.0.1"
    await premises.end()
    assert not path.exists()


# --- what the daemon asks of any channel --------------------------------------------------------------------------------


async def test_nothing_of_it_waits_to_be_read(premises: Premises) -> None:
    """Its messages come in whole."""
    with pytest.raises(ChannelError):
        await premises.http.parse([Envelope("http:1", KEY, "{}")])


async def test_a_delivery_stands_in_its_session(premises: Premises) -> None:
    """Which is where its readers look."""
    assert (await premises.http.deliver(KEY, "good morning", ForgetfulMemory())).message_ids


async def test_a_reply_that_is_begun_twice_is_told_anew(premises: Premises, client: httpx.AsyncClient) -> None:
    """Who had heard the first attempt is told to forget it."""
    inbound = Inbound(KEY, "http:1", Sender("http", "http", owner=True), (Text("hi"),), premises.office.clock.now)
    first = premises.http.reply_to(inbound, ForgetfulMemory())
    first(TextDelta("I th"))
    second = premises.http.reply_to(inbound, ForgetfulMemory())
    second(TurnDone("I thought"))
    assert (await second.settle()).message_ids == ()
    await premises.http.close()
    await premises.http.close()
