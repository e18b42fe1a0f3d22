"""kill -9 at every step of a fire: one run, one line in the recipient's session, one message in the chat.

The whole program, a process that is killed, and around it the fakes of both APIs. What it shall stand before is held by the test:
what the ledger takes, a session's lease, an answer of the model, a call of the Bot API.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from nanochat.ledger import Ledger
from nanochat.process.liveness import Presence
from tests.cli.test_run_jobs import command
from tests.fakes.bot_api import Chat, FakeBotAPI, RunningClock
from tests.fakes.messages_api import FakeMessagesAPI, Recorded, Reply

OLGA = 4242
ANSWER = "Drink the tea while it is hot."
PATIENCE_S = 20.0

# From the writing of the settings, when all code is loaded; the daemon is up long before.
DUE_IN = timedelta(seconds=0.8)


@dataclass
class Stage:
    """A daemon with one job that falls due once, and the person whom it is for."""

    directory: Path
    api: FakeBotAPI
    messages: FakeMessagesAPI
    chat: Chat
    nest: asyncio.subprocess.Process
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    pid: int = 0

    async def reply(self, _: Recorded) -> Reply:
        """The model: answers once `answer` is set."""
        self.asked.set()
        await self.answer.wait()
        return Reply(text=ANSWER)

    @property
    def config(self) -> Path:
        return self.directory / "nanochat.toml"

    async def start(self, *args: str) -> None:
        """Let a daemon come up, or what else stands behind `nanochat`."""
        assert self.nest.stdin is not None
        assert self.nest.stdout is not None
        environ = {
            "ANTHROPIC_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": self.messages.url,
            "TELEGRAM_BOT_TOKEN": self.api.token,
            "NANOCHAT_TELEGRAM__ENABLED": "true",
            "NANOCHAT_TELEGRAM__BASE_URL": self.api.url,
        }
        run = ("run", "--data-dir", str(self.directory), "--config", str(self.config))
        asked = {"args": args or run, "environ": environ, "log": str(self.directory / "log")}
        self.nest.stdin.write(json.dumps(asked).encode() + b"\n")
        self.pid = int((await self.nest.stdout.readline()).split()[1])

    async def end(self, number: signal.Signals) -> int:
        """Send the daemon a signal; returns its wait status."""
        os.kill(self.pid, number)
        return await self.ended()

    async def ended(self) -> int:
        assert self.nest.stdout is not None
        status = int((await self.nest.stdout.readline()).split()[1])
        self.pid = 0
        return status

    async def begin(self) -> None:
        """Let the first daemon come up, with a job that falls due soon."""
        due = datetime.now(UTC) + DUE_IN
        self.config.write_text(
            f"telegram.allow = [{OLGA}]\nowner = [{OLGA}]\n"
            f'[[cron.jobs]]\nid = "tea"\nat = {due.isoformat()}\nprompt = "tell me of tea"\n'
            f'deliver_to = "telegram:{OLGA}"\n'
        )
        await self.start()

    async def kill(self) -> None:
        assert os.WTERMSIG(await self.end(signal.SIGKILL)) == signal.SIGKILL

    @contextmanager
    def ledger_locked(self) -> Iterator[None]:
        """Nobody else can write the ledger."""
        ledger = self.ledger()
        ledger.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            ledger.close()

    @contextmanager
    def refused(self, table: str) -> Iterator[None]:
        """The ledger takes nothing new into a table."""
        ledger = self.ledger()
        ledger.execute(f"CREATE TRIGGER held BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'held'); END")
        try:
            yield
        finally:
            ledger.execute("DROP TRIGGER held")
            ledger.close()

    def ledger(self) -> sqlite3.Connection:
        return sqlite3.connect(self.directory / "ledger.db", isolation_level=None, check_same_thread=False)

    def rows(self, question: str) -> int:
        """How many rows there are `FROM …`."""
        ledger = self.ledger()
        try:
            return int(ledger.execute(f"SELECT count(*) FROM {question}").fetchone()[0])
        finally:
            ledger.close()

    @contextmanager
    def lease(self, stem: str) -> Iterator[None]:
        """Nobody else can take a turn in the session."""
        (self.directory / "leases").mkdir(exist_ok=True)
        descriptor = os.open(self.directory / "leases" / stem, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def lines(self, stem: str) -> str:
        """A session's file."""
        path = self.directory / "sessions" / f"{stem}.jsonl"
        return path.read_text() if path.exists() else ""


async def until(holds: Callable[[], object]) -> None:
    """Wait for what another process writes; nothing tells of it."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)


async def make_ledger(directory: Path) -> None:
    """Before there is a daemon, so that it can be held from its first moment on."""
    presence = Presence(directory / "leases")
    ledger = Ledger(directory / "ledger.db", presence)
    await ledger.inbox.keys()
    await ledger.close()
    presence.leave()


@asynccontextmanager
async def staged(directory: Path) -> AsyncIterator[Stage]:
    async with FakeBotAPI(clock=RunningClock()) as api, FakeMessagesAPI(keys=None) as messages:
        nest = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.soak.daemons", stdin=PIPE, stdout=PIPE)
        chat = api.user(OLGA, "Olga").private()
        stage = Stage(directory, api, messages, chat, nest)
        messages.responder = stage.reply
        try:
            await stage.start("--version")
            assert await stage.ended() == 0
            await make_ledger(directory)
            yield stage
        finally:
            if stage.pid:
                os.kill(stage.pid, signal.SIGKILL)
            assert nest.stdin is not None
            nest.stdin.close()
            await nest.wait()


# --- the steps: each returns when the daemon is dead ------------------------------------------------------------------


async def before_the_inbox(stage: Stage) -> None:
    """The fire is due, and nothing can be written down of it."""
    stage.answer.set()
    with stage.refused("runs"):
        await stage.begin()
        await until(lambda: "cron is down" in (stage.directory / "log").read_text())
        assert not stage.rows("runs")
        await stage.kill()


async def between_decision_and_inbox(stage: Stage) -> None:
    """That it is to be run is written down, and it is not in the inbox yet."""
    stage.answer.set()
    with stage.refused("inbox"):
        await stage.begin()
        await until(lambda: stage.rows("runs"))
        await stage.kill()
    assert (stage.rows("runs"), stage.rows("inbox")) == (1, 0)


async def in_the_inbox(stage: Stage) -> None:
    """Accepted, and its turn not begun."""
    stage.answer.set()
    with stage.lease("cron+tea"):
        await stage.begin()
        await until(lambda: stage.rows("inbox WHERE key = 'cron:tea'"))
        await stage.kill()
    assert not stage.asked.is_set()


async def in_the_model_call(stage: Stage) -> None:
    """Asked, and not answered."""
    await stage.begin()
    await stage.asked.wait()
    await stage.kill()


async def after_the_turn(stage: Stage) -> None:
    """The answer stands in the job's session, and the ledger does not know it."""
    await stage.begin()
    await stage.asked.wait()
    with stage.ledger_locked():
        stage.answer.set()
        await until(lambda: '"op":"turn"' in stage.lines("cron+tea"))
        await stage.kill()


async def before_the_append(stage: Stage) -> None:
    """Handed over for the recipient, whose session is taken."""
    stage.answer.set()
    with stage.lease(f"telegram+{OLGA}"):
        await stage.begin()
        await until(lambda: stage.rows("inbox WHERE source_id LIKE 'cron:tea:%/telegram:%'"))
        await stage.kill()
    assert ANSWER not in stage.lines(f"telegram+{OLGA}")


async def after_the_append(stage: Stage) -> None:
    """It stands in the recipient's session, and the ledger does not know it."""
    stage.answer.set()
    with ExitStack() as locks:
        with stage.lease(f"telegram+{OLGA}"):
            await stage.begin()
            await until(lambda: stage.rows("inbox WHERE source_id LIKE 'cron:tea:%/telegram:%' AND state = 'claimed'"))
            locks.enter_context(stage.ledger_locked())
        await until(lambda: ANSWER in stage.lines(f"telegram+{OLGA}"))
        await stage.kill()
    assert not stage.rows("inbox WHERE source_id LIKE 'cron:tea:%/telegram:%' AND state != 'claimed'")


async def before_it_is_sent(stage: Stage) -> None:
    """The call has left us, and was never carried out; which we cannot know either."""
    gate = stage.api.gate("sendMessage", when="before")
    stage.answer.set()
    await stage.begin()
    await gate.reached.wait()
    await stage.kill()


async def after_it_was_sent(stage: Stage) -> None:
    """The call was carried out, and we never learned it: the one instant that cannot be known."""
    gate = stage.api.gate("sendMessage", when="after")
    stage.answer.set()
    await stage.begin()
    await gate.reached.wait()
    await stage.kill()


Step: TypeAlias = Callable[[Stage], Awaitable[None]]
STEPS: tuple[Step, ...] = (
    before_the_inbox,
    between_decision_and_inbox,
    in_the_inbox,
    in_the_model_call,
    after_the_turn,
    before_the_append,
    after_the_append,
    before_it_is_sent,
    after_it_was_sent,
)

# Between a call and its answer nobody knows whether the message has arrived: what is sent again says so.
SENT: Mapping[Step, list[str]] = {before_it_is_sent: [f"↻ {ANSWER}"], after_it_was_sent: [ANSWER, f"↻ {ANSWER}"]}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_killed(tmp_path: Path, step: Step) -> None:
    """The next process brings it to its end, once; only where nobody can know, the message comes twice, and marked."""
    async with staged(tmp_path) as stage:
        await step(stage)
        stage.answer.set()
        await stage.start()
        await until(lambda: stage.rows("inbox WHERE source_id LIKE '%/telegram:%' AND outcome = 'delivered'"))
        assert await stage.end(signal.SIGTERM) == 0
        [run] = map(json.loads, (await command(stage.config, tmp_path, "cron", "history", "--json")).splitlines())
        texts = stage.chat.texts
    assert (run["outcome"], run["fires"], run["text"]) == ("ran", 1, ANSWER)
    assert [one["state"] for one in run["deliveries"]] == ["delivered"]
    assert stage.lines("cron+tea").count('"op":"turn"') == 1
    assert stage.lines(f"telegram+{OLGA}").count('"delivered":true') == 1
    assert texts == SENT.get(step, [ANSWER])
