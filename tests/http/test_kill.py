"""kill -9 at every step of a posted message: one exchange in the session, one answer for whoever posts it again, or nobody does.

The whole program, a process that is killed, and a fake of the Messages API. What it shall stand before is held by the test: what
the ledger takes, the session's lease, the model's answer.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

from nanochat.ledger import Ledger
from nanochat.process.liveness import Presence
from tests.fakes.messages_api import FakeMessagesAPI, Gate, Recorded, Reply
from tests.http.premises import TOKEN, Event, asked, events_of, read_events

ANSWER = "the tide comes twice a day"
QUESTION = "tell me of tides"
KEY = "one"
PATIENCE_S = 20.0

_NEST = "import nanochat.channels.http; from tests.soak.daemons import main; main()"


@pytest.fixture(scope="module")
def nest() -> Iterator[subprocess.Popen[str]]:
    """Has loaded everything once, and forks daemons."""
    with subprocess.Popen([sys.executable, "-c", _NEST], stdin=-1, stdout=-1, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@dataclass
class Stage:
    """A data directory, the daemons that come and go on it, and somebody who posts one message."""

    directory: Path
    messages: FakeMessagesAPI
    nest: subprocess.Popen[str]
    gate: Gate = field(default_factory=Gate)
    pid: int = 0
    starts: int = 0
    url: str = ""
    status: int = 0
    told: list[Event] = field(default_factory=list)

    def reply(self, _: Recorded) -> Reply:
        """The model, held by the gate."""
        return Reply(text=ANSWER, gate=self.gate)

    async def start(self) -> None:
        """Let a daemon come up."""
        self.starts += 1
        log = self.directory / f"log{self.starts}"
        environ = {
            "ANTHROPIC_API_KEY": "test-key",
            "ANTHROPIC_BASE_URL": self.messages.url,
            "NANOCHAT_HTTP__ENABLED": "true",
            "NANOCHAT_HTTP__PORT": "0",
            "NANOCHAT_HTTP_TOKEN": TOKEN,
        }
        self._tell({"args": ["run", "--data-dir", str(self.directory)], "environ": environ, "log": str(log)})
        self.pid = int(self._hear().split()[1])
        await until(lambda: log.exists() and "listening on" in log.read_text())
        self.url = log.read_text().partition("listening on ")[2].split()[0]

    def end(self, number: signal.Signals) -> int:
        """Send the daemon a signal; returns its wait status."""
        os.kill(self.pid, number)
        status = int(self._hear().split()[1])
        self.pid = 0
        return status

    @asynccontextmanager
    async def posted(self) -> AsyncIterator[None]:
        """Meanwhile somebody reads the answer to the message; when this ends, their daemon is dead."""
        reading = asyncio.create_task(self._read())
        try:
            yield
        finally:
            assert os.WTERMSIG(self.end(signal.SIGKILL)) == signal.SIGKILL
            await reading

    async def _read(self) -> None:
        try:
            async with self.client() as client, asked(client, "olga", QUESTION, KEY) as response:
                self.status = response.status_code
                async for event in read_events(response):
                    self.told.append(event)
        except httpx.TransportError:
            pass  # it was killed

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE_S, trust_env=False
        )

    @contextmanager
    def ledger_locked(self) -> Iterator[None]:
        """Nobody else can write the ledger."""
        ledger = self._ledger()
        ledger.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            ledger.close()

    @contextmanager
    def inbox_full(self) -> Iterator[None]:
        """The ledger takes no message."""
        ledger = self._ledger()
        ledger.execute("CREATE TRIGGER held BEFORE INSERT ON inbox BEGIN SELECT RAISE(ABORT, 'held'); END")
        try:
            yield
        finally:
            ledger.execute("DROP TRIGGER held")
            ledger.close()

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Nobody else can take a turn in the session."""
        descriptor = os.open(self.directory / "leases" / "http+olga", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def rows(self, where: str = "1") -> int:
        """How many messages of HTTP the ledger has."""
        ledger = self._ledger()
        try:
            question = f"SELECT count(*) FROM inbox WHERE source_id LIKE 'http:%' AND {where}"
            return int(ledger.execute(question).fetchone()[0])
        finally:
            ledger.close()

    def lines(self) -> list[dict[str, Any]]:  # Any: as they stand in the file
        """The session's file."""
        path = self.directory / "sessions" / "http+olga.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def has(self, field: str, value: str) -> bool:
        """Whether there is a line in the session's file that says so."""
        return any(line.get(field) == value for line in self.lines())

    def _ledger(self) -> sqlite3.Connection:
        return sqlite3.connect(self.directory / "ledger.db", isolation_level=None)

    def _tell(self, asked: object) -> None:
        assert self.nest.stdin is not None
        self.nest.stdin.write(json.dumps(asked) + "\n")
        self.nest.stdin.flush()

    def _hear(self) -> str:
        assert self.nest.stdout is not None
        return self.nest.stdout.readline()


async def until(holds: Callable[[], object]) -> None:
    """Wait for what another process writes; nothing tells of it."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)


@asynccontextmanager
async def staged(directory: Path, nest: subprocess.Popen[str]) -> AsyncIterator[Stage]:
    """With a ledger, so that it can be held from the first daemon's first moment on."""
    presence = Presence(directory / "leases")
    ledger = Ledger(directory / "ledger.db", presence)
    await ledger.inbox.keys()
    await ledger.close()
    presence.leave()
    async with FakeMessagesAPI() as messages:
        stage = Stage(directory, messages, nest)
        messages.responder = stage.reply
        try:
            yield stage
        finally:
            if stage.pid:
                stage.end(signal.SIGKILL)


# --- the steps: each returns when the daemon is dead ------------------------------------------------------------------


async def before_it_is_accepted(stage: Stage) -> None:
    """It has come, and nothing can be written down of it."""
    with stage.inbox_full():
        async with stage.posted():
            await until(lambda: stage.status == 503)
    assert not stage.rows()


async def before_its_turn(stage: Stage) -> None:
    """Accepted, and its turn not begun."""
    with stage.lease():
        async with stage.posted():
            await until(stage.rows)
    assert not stage.lines()


async def in_the_model_call(stage: Stage) -> None:
    """The message stands in the session; asked, and not answered."""
    async with stage.posted():
        await stage.messages.arrived()
    assert stage.has("role", "user")


async def in_the_answer(stage: Stage) -> None:
    """Some of it was told."""
    stage.gate.let(1)
    async with stage.posted():
        await until(lambda: any(event.name == "delta" for event in stage.told))
    assert not stage.has("role", "assistant")


async def before_it_is_closed(stage: Stage) -> None:
    """The answer stands in the session, and the ledger does not know it."""
    async with stage.posted():
        await stage.messages.arrived()
        with stage.ledger_locked():
            stage.gate.let_all()
            await until(lambda: stage.has("op", "turn"))
            os.kill(stage.pid, signal.SIGSTOP)
    assert stage.rows("state = 'claimed'")


async def after_it_is_closed(stage: Stage) -> None:
    """All of it is done."""
    async with stage.posted():
        await stage.messages.arrived()
        stage.gate.let_all()
        await until(lambda: stage.rows("outcome = 'done'"))


Step: TypeAlias = Callable[[Stage], Awaitable[None]]
STEPS: tuple[Step, ...] = (
    before_it_is_accepted,
    before_its_turn,
    in_the_model_call,
    in_the_answer,
    before_it_is_closed,
    after_it_is_closed,
)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_killed(tmp_path: Path, nest: subprocess.Popen[str], step: Step) -> None:
    """The next process brings it to its end, whether it is posted again or not; posted again, it is told whole, and once."""
    async with staged(tmp_path, nest) as stage:
        await stage.start()
        await step(stage)
        was_accepted = bool(stage.rows())
        stage.gate.let_all()
        await stage.start()
        if was_accepted:
            await until(lambda: stage.rows("outcome = 'done'"))
        async with stage.client() as client:
            first, second = [await events_of(client, "olga", QUESTION, KEY) for _ in range(2)]
        assert os.waitstatus_to_exitcode(stage.end(signal.SIGTERM)) == 0
    assert [event.name for event in first if event.name == "restart"] == ["restart"] * was_accepted
    assert [event.data["reason"] for event in second if event.name == "restart"] == ["replay"]
    for told in (first, second):
        assert [event.name for event in told if event.name in ("done", "error")] == ["done"]
        assert "".join(event.data["text"] for event in told if event.name == "delta") == ANSWER
    said = [line for line in stage.lines() if "role" in line]
    assert [line["role"] for line in said] == ["user", "assistant"]
    assert [line["op"] for line in stage.lines() if line.get("op") == "turn"] == ["turn"]
    assert first[-1].data["message_ids"] == [line["_n"] for line in said]
