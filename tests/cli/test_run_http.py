"""`nanochat run` with HTTP, as a process: conversations outlive it, however it ends, and their clients."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import stat
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from nanochat.records import text_of
from tests.fakes.messages_api import FakeMessagesAPI, Gate, Recorded, Reply

TOKEN = "a-token-of-the-tests"
STEP_S = 20.0


@dataclass
class Daemon:
    """A process, and a client at its port."""

    process: Process
    client: httpx.AsyncClient

    async def say(self, text: str, session: str = "olga", key: str = "") -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return await self.client.post(f"/chat/{session}", json={"message": text}, headers=headers)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await self.process.wait()


@asynccontextmanager
async def daemon(
    directory: Path, api: FakeMessagesAPI, token: str = TOKEN, descriptors: int = 1024, **settings: str
) -> AsyncIterator[Daemon]:
    """Up and listening; killed at the end, if it has not ended."""
    environ = {name: value for name, value in os.environ.items() if name.startswith(("PATH", "PYTHON", "HOME"))}
    environ |= {"ANTHROPIC_API_KEY": "test-key", "ANTHROPIC_BASE_URL": api.url, "NANOCHAT_HTTP__ENABLED": "true"}
    environ |= {"NANOCHAT_HTTP__PORT": "0", "NANOCHAT_HTTP_TOKEN": token}
    environ |= {f"NANOCHAT_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "nanochat", "run", "--data-dir", str(directory)),
        env=environ,
        stderr=PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors)),
    )
    try:
        async with asyncio.timeout(STEP_S):
            url = await _listening(process)
        socket_path = None if token else str(directory / "http.sock")
        async with httpx.AsyncClient(
            base_url=url if token else "http://localhost",
            transport=httpx.AsyncHTTPTransport(uds=socket_path),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=STEP_S,
        ) as client:
            yield Daemon(process, client)
    finally:
        if process.returncode is None:
            process.kill()
        assert process.stderr is not None
        await process.stderr.read()
        await process.wait()


async def _listening(process: Process) -> str:
    assert process.stderr is not None
    lines = []
    while line := (await process.stderr.readline()).decode():
        lines.append(line)
        if "listening on" in line:
            return line.partition("listening on ")[2].split()[0]
    raise AssertionError("".join(lines))


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:  # Any: each kind has its own
    """What a stream tells, event by event."""
    name = ""
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def lines_of(path: Path) -> list[Mapping[str, Any]]:  # Any: as they stand in the file
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_ten_turns_and_a_restart_between(tmp_path: Path) -> None:
    """The model hears the whole conversation, as if nothing had been."""
    async with FakeMessagesAPI() as api:
        api.script(*(Reply(text=f"answer {i}") for i in range(10)))
        for half in (range(5), range(5, 10)):
            async with daemon(tmp_path, api) as one:
                for i in half:
                    said = (await one.say(f"question {i}")).json()
                    assert said["text"] == f"answer {i}"
                assert await one.end() == 0
        messages = api.requests[-1].body["messages"]
        assert isinstance(messages, list)
        told = [text_of(message["content"]) for message in messages]
        assert [text.rpartition("\n")[2] for text in told[::2]] == [f"question {i}" for i in range(10)]
        assert told[1::2] == [f"answer {i}" for i in range(9)]


async def test_killed_in_the_middle_and_asked_again(tmp_path: Path) -> None:
    """The same key gets the whole answer, once; another body under it is refused."""
    gate, headers = Gate(), {"Idempotency-Key": "one"}
    async with FakeMessagesAPI() as api:
        api.script(Reply(text="the tide comes twice a day", gate=gate), Reply(text="the tide comes twice a day"))
        async with daemon(tmp_path, api) as one:
            body = {"message": "tell me of tides"}
            async with one.client.stream("POST", "/chat/stream/olga", json=body, headers=headers) as stream:
                gate.let(1)
                async for name, _ in events(stream):
                    if name == "delta":
                        break
                await one.end(signal.SIGKILL)
        gate.let_all()
        async with daemon(tmp_path, api) as two:
            async with two.client.stream("POST", "/chat/stream/olga", json=body, headers=headers) as stream:
                told = [event async for event in events(stream)]
            assert [name for name, _ in told[:2]] == ["session", "restart"]
            assert [name for name, _ in told if name in ("done", "error")] == ["done"]
            assert told[-1][1]["text"] == "the tide comes twice a day"
            other = await two.client.post("/chat/olga", json={"message": "something else"}, headers=headers)
            assert other.status_code == 422
            replayed = await two.say("tell me of tides", key="one")
            assert replayed.json()["message_ids"] == told[-1][1]["message_ids"]
        said = [line for line in lines_of(tmp_path / "sessions" / "http+olga.jsonl") if "role" in line]
        assert [line["role"] for line in said] == ["user", "assistant"]
        assert len(api.requests) == 2


async def test_an_orderly_end_waits_for_a_stream(tmp_path: Path) -> None:
    """What was begun is told to its end; whoever left finds the answer in the session."""
    gates = [Gate(), Gate()]
    asked = asyncio.Event()

    def answer(request: Recorded) -> Reply:
        if len(api.requests) == 2:
            asked.set()
        return Reply(text="slow but sure", gate=gates[0 if request.said.endswith("stay") else 1])

    async with FakeMessagesAPI(responder=answer) as api, daemon(tmp_path, api) as one:
        leaving = asyncio.create_task(one.say("leave", "gone"))
        async with one.client.stream("POST", "/chat/stream/here", json={"message": "stay"}) as stream:
            async with asyncio.timeout(STEP_S):
                await asked.wait()
            leaving.cancel()
            one.process.send_signal(signal.SIGTERM)
            for gate in gates:
                gate.let_all()
            told = [event async for event in events(stream)]
        assert told[-1][0] == "done"
        assert await one.process.wait() == 0
        for name in ("here", "gone"):
            last = [line for line in lines_of(tmp_path / "sessions" / f"http+{name}.jsonl") if "role" in line][-1]
            assert text_of(last["content"]) == "slow but sure"


async def test_a_small_budget_compacts(tmp_path: Path) -> None:
    """As everywhere: whoever follows the session sees the summary's line, and the context stays within bounds."""

    def answer(request: Recorded) -> Reply:
        is_summary = not request.body.get("tools")
        return Reply(text="they spoke of many things" if is_summary else "a word of the answer " * 40)

    async with (
        FakeMessagesAPI(responder=answer) as api,
        daemon(tmp_path, api, context__budget_tokens="2000", limits__turns_per_minute="0") as one,
    ):
        sizes = []
        notices: list[str] = []
        for i in range(20):
            said = (await one.say(f"question {i}: " + "what of it? " * 20)).json()
            sizes.append(said["context_tokens"])
            notices += said["notices"]
        ops = [line.get("op") for line in lines_of(tmp_path / "sessions" / "http+olga.jsonl")]
        assert "compact" in ops
        assert max(sizes[10:]) < 2 * max(sizes[:10])
        assert any("summar" in notice for notice in notices)
        history = (await one.client.get("/sessions/olga/history", params={"limit": 1000})).json()
        assert len(history["messages"]) == 40
        stats = (await one.client.get("/sessions/olga/stats")).json()
        assert stats["context_tokens"] == sizes[-1]
        assert {point["kind"] for point in stats["curve"]} == {"turn", "compact"}


async def test_without_a_token_there_is_a_socket_for_one_user(tmp_path: Path) -> None:
    """Nobody else can open it, and it is gone with the daemon."""
    async with FakeMessagesAPI() as api, daemon(tmp_path, api, token="") as one:
        path = tmp_path / "http.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        health = (await one.client.get("/health")).json()
        assert health["channels"]["http"]["up"]
        assert await one.end() == 0
        assert not path.exists()


async def test_a_crowd_that_says_nothing_takes_no_more_than_its_part(tmp_path: Path) -> None:
    """More connections than there are descriptors: the daemon has some left to work with, and goes on when they are gone."""
    async with FakeMessagesAPI() as api, daemon(tmp_path, api, descriptors=120) as one:
        address = (one.client.base_url.host, one.client.base_url.port or 0)
        with ExitStack() as crowd:
            for _ in range(150):
                crowd.enter_context(socket.create_connection(address))
            async with asyncio.timeout(STEP_S):
                while (await one.client.get("/health", headers={"Connection": "close"})).status_code != 503:
                    pass
            assert len(os.listdir(f"/proc/{one.process.pid}/fd")) < 100
        async with asyncio.timeout(STEP_S):
            while (said := await one.say("hi")).status_code == 503:
                pass
        assert said.status_code == 200
        assert await one.end() == 0
        assert one.process.stderr is not None
        assert b"Too many open files" not in await one.process.stderr.read()


async def test_silent_sessions_are_put_away(tmp_path: Path) -> None:
    """After `sessions.archive_after_days`, with what they hold."""
    sessions = tmp_path / "sessions"
    sessions.mkdir()
    stamp = "2026-01-05T10:00:00+00:00"
    header = {"_type": "metadata", "key": "cli:old", "created_at": stamp, "updated_at": stamp, "metadata": {}}
    line = {"role": "user", "content": "long ago", "timestamp": stamp}
    text = json.dumps(header) + "\n" + json.dumps(line) + "\n"
    for name in ("old", "new"):
        (sessions / f"cli+{name}.jsonl").write_text(text.replace("cli:old", f"cli:{name}"))
    os.utime(sessions / "cli+old.jsonl", (1767600000, 1767600000))
    async with FakeMessagesAPI() as api, daemon(tmp_path, api, sessions__archive_after_days="30") as one:
        async with asyncio.timeout(STEP_S):
            assert one.process.stderr is not None
            while b"was silent for 30 days" not in await one.process.stderr.readline():
                pass
        left = (await one.client.get("/sessions")).json()["sessions"]
        assert [row["key"] for row in left] == ["cli:new"]
        [archived] = (tmp_path / "archive").glob("cli+old.*.jsonl")
        assert archived.read_text() == text
