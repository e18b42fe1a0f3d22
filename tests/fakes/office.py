"""The inbox and its worker put together around a house and one channel in memory, as the daemon does it.

Several offices on one data directory and one board are a process and its successors: `die` is kill -9, `leave` an orderly end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanochat.channels.cron import Clock
from nanochat.channels.fires import Fires
from nanochat.inbox.answering import Turns
from nanochat.inbox.deliveries import Deliveries
from nanochat.inbox.dispatcher import Dispatcher
from nanochat.inbox.worker import Worker
from nanochat.jobs import Job
from nanochat.keys import SessionKey
from nanochat.ledger import Story, stories
from nanochat.ports import Channel, Envelope, Handler, Model, ModelReply, ModelRequest
from nanochat.process.patience import Patience
from nanochat.records import Usage
from nanochat.turn.limits import Limits
from nanochat.turn.runs import Runs
from tests.fakes.house import House
from tests.fakes.memory_channel import REPEATED, Board, MemoryChannel
from tests.fakes.patience import Pauses

__all__ = ["KEY", "Echo", "Office", "envelope", "once"]

KEY = SessionKey("memory", "1")


def envelope(text: str, source_id: str, key: SessionKey = KEY, **fields: Any) -> Envelope:  # Any: an Envelope's own
    """A message as `MemoryChannel` brings it."""
    sender = {"id": "memory:olga", "name": "olga", "owner": True}
    body = json.dumps({"text": text, "sender": sender, "at": "2026-11-20T12:00:00+00:00"})
    return Envelope(source_id, key, body, **fields)


def once(texts: list[str]) -> list[str]:
    """What stands there, without those that were sent and then, since nobody could know, sent again with a sign."""
    known = [text for text in texts if f"{REPEATED}{text}" not in texts]
    return [text.removeprefix(REPEATED) for text in known]


@dataclass
class Echo:
    """A model that says `echo: ` and the newest user text; while `gate` is closed it does not come to its second word."""

    name: str = "echo-1"
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def reply(
        self,
        request: ModelRequest,
        on_text: Callable[[str], None],
        on_notice: Callable[[str], None],
        on_start: Callable[[str, Usage], None] | None = None,
    ) -> ModelReply:
        content = request.messages[-1]["content"]
        assert isinstance(content, Sequence)
        newest = [str(block["text"]) for block in content if isinstance(block, dict) and "text" in block][-1]
        text = newest.rpartition("] ")[2].rpartition("\n")[2]
        self.asked.append(text)
        on_text("echo:")
        self.begun.set()
        await self.gate.wait()
        on_text(f" {text}")
        return ModelReply(({"type": "text", "text": f"echo: {text}"},), "end_turn", Usage(input=9), request.model)

    async def warm(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to close."""


class Office:
    """One process. `model` answers; what people see stands on `board`."""

    def __init__(  # noqa: PLR0913 - each test names the one it is about
        self,
        directory: Path,
        *,
        board: Board | None = None,
        pauses: Pauses | None = None,
        limits: Limits | None = None,
        model: Model | None = None,
        handler: Handler | None = None,
        channels: Sequence[Channel] | None = None,
        patience: Patience | None = None,
        jobs: Sequence[Job] | None = None,
    ) -> None:
        self.path = directory / "ledger.db"
        self.pauses = pauses or Pauses()
        self.clock = self.pauses.clock
        self.echo = Echo()
        self.house = House(
            directory,
            limits=limits,
            clock=self.clock,
            model=model or self.echo,
            jobs=jobs,
        )
        self.board = board or Board()
        self.channel = MemoryChannel("memory", self.board, self.clock)
        served = {channel.name: channel for channel in ((self.channel,) if channels is None else channels)}
        assistant = self.house.assistant
        patience = patience or Patience(self.pauses)
        ledger = self.house.ledger
        self.alarm = Clock(ledger.jobs, jobs or (), clock=self.clock)
        self.fires = Fires(self.alarm, ledger.jobs, self._deliver, self.job_of, self.clock)
        if jobs is not None:
            served[self.fires.name] = self.fires
        self.runs = Runs(
            assistant,
            self.house.manager,
            self.house.crew,
            ledger.jobs,
            self.house.purse,
            job_of=self.job_of,
            clock=self.clock,
        )
        self.dispatcher = Dispatcher(
            handler or assistant,
            ledger,
            again=assistant.again,
            passes=assistant.passes,
            interrupt=assistant.interrupt,
            clock=self.clock,
        )
        turns = Turns(
            handler or self.runs,
            self.runs.again,
            self.dispatcher.live,
            self.runs.passes,
            self.runs.interrupt,
            assistant.make_way,
            assistant.coming,
            self.house.fence.opens_at,
        )
        self.worker = Worker(
            ledger,
            served,
            turns,
            Deliveries(ledger, served, self.house.manager, patience, self.clock),
            patience,
            concurrent_turns=(limits or Limits()).concurrent_turns,
            clock=self.clock,
        )
        self._serves_jobs = jobs is not None
        self._jobs = tuple(jobs or ())
        self._tasks: list[asyncio.Task[None]] = []

    async def job_of(self, job_id: str) -> Job | None:
        """A job by its id, of the settings or made."""
        return next((job for job in [*self._jobs, *await self.house.ledger.jobs.all()] if job.id == job_id), None)

    async def _deliver(self, key: SessionKey, text: str, origin: str, source_id: str) -> bool:
        return await self.worker.deliver(key, text, origin, source_id)

    async def tick(self, seconds: float) -> None:
        """Let time pass, and wait until what fell due is done."""
        self.pauses.advance(seconds)
        self.alarm.look()
        await self.alarm.rest()
        await self.worker.rest()

    async def open(self) -> None:
        """Begin to work, and to take messages in."""
        self._tasks = [
            asyncio.create_task(self.worker.run()),
            asyncio.create_task(self.channel.run(self.worker.accept)),
        ]
        if self._serves_jobs:
            self._tasks.append(asyncio.create_task(self.fires.run(self.worker.accept)))
        await self.worker.opened.wait()

    async def put(self, text: str, source_id: str, key: SessionKey = KEY, **fields: Any) -> bool:  # Any: an Envelope's
        """Have a message accepted, whether or not the office is open."""
        return await self.worker.accept(envelope(text, source_id, key, **fields))

    async def shown(self, text: str, key: SessionKey = KEY) -> None:
        """Wait until a text stands in the conversation."""
        await self.board.until(lambda: text in self.board.texts(key))

    async def until_asked(self, count: int) -> None:
        """Wait until so many requests have come to the model."""
        while len(self.echo.asked) < count:
            self.echo.begun.clear()
            await self.echo.begun.wait()

    async def die(self) -> None:
        """Stop where it stands, and write nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self.house.presence.leave()

    async def leave(self) -> None:
        """Finish what runs, and end."""
        await self.worker.drain()
        await self.house.ledger.inbox.spare()
        await self.die()

    async def close(self) -> None:
        """Leave nothing open."""
        await self.die()
        await self.house.close()

    def rows(self, subject: str = "") -> list[Story]:
        """What `nanochat why` reads."""
        return stories(self.path, subject, 1000)

    def states(self) -> dict[str, str]:
        """How far each source has come."""
        return {row.source_id: row.state for row in self.rows()}
