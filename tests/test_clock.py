"""The alarm clock and the ledger's jobs together: every fire is decided once, whatever dies and however the wall clock jumps."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanochat.channels.cron import Clock
from nanochat.errors import JobError, LedgerError
from nanochat.jobs import Job, next_fires
from nanochat.keys import SessionKey
from nanochat.ledger import Ledger, Run, runs_of
from nanochat.ports import Envelope
from nanochat.process.liveness import Presence
from tests.fakes.house import FakeClock

MINUTE = Job("minute", "text", "Europe/Prague", cron="*/10 * * * *", text="hi")


class Bureau:
    """One process with a clock and a ledger after the other on one directory. `taken` counts what reached the inbox as new."""

    def __init__(self, directory: Path, jobs: Sequence[Job] = (MINUTE,)) -> None:
        self.path = directory / "ledger.db"
        self.leases = directory / "leases"
        self.wall = FakeClock()
        self.jobs = jobs
        self.taken: Counter[str] = Counter()
        self.dies_at_accept = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.presence = Presence(self.leases)
        self.ledger = Ledger(self.path, self.presence, clock=self.wall)
        self.clock = Clock(self.ledger.jobs, self.jobs, clock=self.wall)
        self._task = asyncio.create_task(self.clock.run(self._accept))
        await self.rest()

    async def rest(self) -> None:
        """Until all that is due is accepted, or the process has died of it."""
        assert self._task is not None
        resting = asyncio.create_task(self.clock.rest())
        await asyncio.wait([resting, self._task], return_when=asyncio.FIRST_COMPLETED)
        resting.cancel()

    async def look(self) -> None:
        self.clock.look()
        await self.rest()

    async def _accept(self, envelope: Envelope) -> bool:
        if self.dies_at_accept:
            self.dies_at_accept = False
            raise LedgerError("killed")
        is_new = await self.ledger.inbox.accept(envelope, self.wall())
        self.taken[envelope.source_id] += int(is_new)
        return is_new

    async def close(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError, ExceptionGroup):
            await self._task
        await self.ledger.close()
        self.presence.leave()

    async def step(self, **amount: float) -> None:
        self.wall.advance(**amount)
        await self.look()

    def rows(self, job_id: str = "minute") -> list[Run]:
        return runs_of(self.path, job_id, 100_000)


def outcomes(runs: Sequence[Run]) -> list[tuple[str, str]]:
    return [(f"{run.fire:%H:%M}", run.outcome) for run in runs]


@pytest.mark.parametrize("seed", range(12))
async def test_every_fire_of_a_timeline_has_one_row(tmp_path: Path, seed: int) -> None:
    """Restarts, kills before and after the inbox, and jumps of the wall clock: fired, missed or skipped, and each only once."""
    chance = random.Random(seed)
    job = replace(MINUTE, missed=chance.choice(("once", "skip", "within:1800s")))
    bureau = Bureau(tmp_path, [job])
    began = latest = bureau.wall()
    await bureau.open()
    for _ in range(60):
        match chance.randrange(6):
            case 0:
                await bureau.close()
                bureau.wall.advance(seconds=chance.randrange(4 * 3600))
                await bureau.open()
            case 1:
                bureau.dies_at_accept = True
                await bureau.step(seconds=chance.randrange(1200))
                await bureau.close()
                bureau.dies_at_accept = False
                await bureau.open()
            case 2:
                await bureau.step(seconds=chance.choice((-7200, 7200)))
            case _:
                await bureau.step(seconds=chance.randrange(900))
        latest = max(latest, bureau.wall())
    await bureau.close()
    due = [fire for fire in next_fires(job, began, 10_000) if fire <= latest]
    decided = bureau.rows()
    assert sum(run.fires for run in decided) == len(due)
    single = [run.fire for run in decided if run.fires == 1]
    assert len(single) == len(set(single))
    assert set(single) <= set(due)
    fired = [run for run in decided if run.outcome == "fired"]
    assert len(bureau.taken) == len(fired)
    assert set(bureau.taken.values()) == {1}


async def test_what_fell_due_while_nothing_ran(tmp_path: Path) -> None:
    """`once` runs the last, and each of the others has its row."""
    bureau = Bureau(tmp_path)
    await bureau.open()
    await bureau.close()
    bureau.wall.advance(minutes=35)
    await bureau.open()
    await bureau.close()
    assert outcomes(bureau.rows()) == [("12:10", "missed"), ("12:20", "missed"), ("12:30", "fired")]
    assert list(bureau.taken) == ["cron:minute:2026-11-20T12:30:00Z"]


async def test_a_year_away_takes_some_rows(tmp_path: Path) -> None:
    """The newest are told one by one, those before them by their number."""
    bureau = Bureau(tmp_path)
    await bureau.open()
    await bureau.close()
    bureau.wall.advance(days=365)
    await bureau.open()
    await bureau.close()
    rows = bureau.rows()
    assert len(rows) == 22
    assert sum(run.fires for run in rows) == 365 * 144
    assert [run.outcome for run in rows] == ["missed"] * 21 + ["fired"]


async def test_made_jobs_come_and_go(tmp_path: Path) -> None:
    """One that is made fires without a restart, a paused or removed one does not, and what a pause held back is not missed."""
    bureau = Bureau(tmp_path, [])
    await bureau.open()
    book = bureau.ledger.jobs
    made = replace(MINUTE, id="made", origin="cli", created_at=bureau.wall())
    assert await book.add(made, "call-1") == made
    assert await book.add(replace(made, id="again"), "call-1") == made
    with pytest.raises(JobError):
        await book.add(made, "call-2")
    await bureau.look()
    assert bureau.clock.job("made") == made
    await bureau.step(minutes=11)
    await book.pause(made, bureau.wall())
    await bureau.step(minutes=30)
    await book.resume(made, bureau.wall())
    await bureau.step(minutes=10)
    assert await book.remove("made")
    await bureau.step(minutes=30)
    await bureau.close()
    assert outcomes(bureau.rows("made")) == [("12:10", "fired"), ("12:50", "fired")]
    assert bureau.clock.jobs() == []


async def test_settings_change_without_a_restart(tmp_path: Path) -> None:
    """A changed schedule begins anew; an id that a made job has goes to the settings' one."""
    bureau = Bureau(tmp_path)
    await bureau.open()
    await bureau.ledger.jobs.add(replace(MINUTE, text="made", created_at=bureau.wall()))
    bureau.wall.advance(minutes=5)
    bureau.clock.set_jobs([replace(MINUTE, cron="*/15 * * * *")])
    await bureau.rest()
    await bureau.step(minutes=11)
    bureau.clock.set_jobs([])
    await bureau.rest()
    kept = bureau.clock.job("minute")
    await bureau.close()
    assert outcomes(bureau.rows()) == [("12:15", "fired")]
    assert kept is not None
    assert kept.text == "made"


async def test_a_single_moment_that_passed_unseen(tmp_path: Path) -> None:
    """In the settings it is no error: it was never decided, so its policy decides; and it runs once only."""
    at = datetime(2026, 11, 20, 11, tzinfo=UTC)
    jobs = [Job("late", "text", "UTC", at=at, text="x"), Job("over", "text", "UTC", at=at, text="x", missed="skip")]
    bureau = Bureau(tmp_path, jobs)
    for _ in range(2):
        await bureau.open()
        await bureau.close()
    assert outcomes(bureau.rows("")) == [("11:00", "fired"), ("11:00", "skipped")]
    assert list(bureau.taken) == ["cron:late:2026-11-20T11:00:00Z"]


async def test_an_alarm_rings_by_the_real_clock(tmp_path: Path) -> None:
    """The library wakes us when a job is due, without anybody looking."""
    bureau = Bureau(tmp_path, [Job("soon", "text", "UTC", every_s=1, text="x")])
    rang = asyncio.Event()
    presence = Presence(bureau.leases)
    ledger = Ledger(bureau.path, presence)

    async def accept(envelope: Envelope) -> bool:
        rang.set()
        return True

    task = asyncio.create_task(Clock(ledger.jobs, bureau.jobs).run(accept))
    await rang.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await ledger.close()
    presence.leave()


async def test_what_came_of_it_takes_its_place(tmp_path: Path) -> None:
    """A run is recorded over its fire, with each recipient's delivery; a fire that nobody took up for days was missed."""
    bureau = Bureau(tmp_path)
    await bureau.open()
    await bureau.step(minutes=20)
    book, fire, wall = bureau.ledger.jobs, datetime(2026, 11, 20, 12, 20, tzinfo=UTC), bureau.wall()
    key = SessionKey("telegram", "77")
    await book.record(Run("minute", fire, "ran", wall, wall, "hello"))
    await book.delivering("minute", fire, key, "delivery-1")
    await bureau.ledger.inbox.add_delivery(Envelope("delivery-1", key, "hello"), "cron:minute", wall)
    [*_, run] = await book.history("minute")
    assert (run.outcome, run.text, run.deliveries[0].state) == ("ran", "hello", "waiting")
    await bureau.ledger.inbox.close("delivery-1", "delivered", wall, message_ids=("5",))
    await book.begin({}, ["minute"], wall)
    [*_, run] = await book.history("minute")
    assert run.deliveries[0].state == "delivered"
    assert await book.fired(wall) == []
    wall += timedelta(seconds=7)
    await book.fire("minute", wall)
    assert await book.fired(wall) == [("minute", wall)]
    assert await book.fired(wall + timedelta(days=8)) == []
    assert [run.outcome for run in await book.history("minute")][-1:] == ["missed"]
    assert await book.watermark("minute", "cli:a") is None
    await book.set_watermarks("minute", {"cli:a": 7})
    assert await book.watermark("minute", "cli:a") == 7
    await bureau.close()
