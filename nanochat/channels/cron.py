"""The alarm clock: when a job falls due, its fire goes into the inbox.

    the jobs -> alarms; one rings, or the bell, or half a minute is over -> what is due is decided and written down -> accepted

APScheduler only wakes us. What is due is reckoned by our own clock from the moment up to which the ledger says it is decided,
for all jobs alike, so a wall clock that jumps, a long sleep and a restart are one case. Knows when. Does not know what a fire
does, nor who keeps the jobs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from nanochat.jobs import (
    Job,
    JobState,
    Schedule,
    Verdict,
    begins,
    body_of,
    decide,
    mark_of,
    merged,
    schedule_of,
    source_id,
)
from nanochat.keys import SessionKey
from nanochat.ports import Accept, Envelope

__all__ = ["Book", "Clock"]

_log = logging.getLogger(__name__)

# Timers run by a clock that stands still while the machine sleeps and does not follow when the wall clock is set.
CHECK_S = 30.0

# So many jobs are decided in one transaction; after so many that were a long time away, others may go first.
_TOGETHER = 500
_AT_A_TIME = 20


class Book(Protocol):
    """Where the jobs that were made stand, and what is decided; `ledger.Jobs` tells what each does."""

    async def all(self) -> list[Job]: ...

    async def states(self) -> dict[str, JobState]: ...

    async def begin(self, begun: Mapping[str, JobState], known: Collection[str], now: datetime) -> None: ...

    async def decide(self, verdicts: Sequence[Verdict], now: datetime) -> list[tuple[str, datetime]]: ...

    async def fired(self, now: datetime) -> list[tuple[str, datetime]]: ...


@dataclass(slots=True)
class _Entry:
    """A job on the clock. `due` is its next fire, None where there is none or the job rests."""

    job: Job
    schedule: Schedule
    state: JobState
    due: datetime | None


class Clock:
    """One per daemon. Everything but `run` may be called at any time and never waits."""

    name = "cron"

    def __init__(
        self,
        book: Book,
        jobs: Sequence[Job],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        check_s: float = CHECK_S,
    ) -> None:
        self._book = book
        self._settings = tuple(jobs)
        self._clock = clock
        self._check_s = check_s
        self._entries: dict[str, _Entry] = {}
        self._accepted: set[tuple[str, datetime]] = set()
        self._clashes: set[str] = set()
        self._is_stale = True
        self._ring = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._scheduler: AsyncIOScheduler | None = None

    # --- what others ask of it ---------------------------------------------------------------------------------------

    def look(self) -> None:
        """Jobs were made, changed or fired by hand: see what there is."""
        self._is_stale = True
        self._stir()

    def set_jobs(self, jobs: Sequence[Job]) -> None:
        """The settings' jobs are these from now on."""
        self._settings = tuple(jobs)
        self.look()

    def job(self, job_id: str) -> Job | None:
        """A job by its name, as it was when last looked at; a paused one too."""
        entry = self._entries.get(job_id)
        return entry.job if entry is not None else next((job for job in self._settings if job.id == job_id), None)

    def jobs(self) -> list[Job]:
        """Every job, as it was when last looked at."""
        return [entry.job for entry in self._entries.values()]

    async def rest(self) -> None:
        """Wait until everything that is due now is accepted."""
        await self._is_idle.wait()

    # --- the work ----------------------------------------------------------------------------------------------------

    async def run(self, accept: Accept) -> None:
        """Fire until cancelled.

        Raises:
            LedgerError: nothing can be written down; what was not, is decided anew by the next run.
        """
        scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1000}
        )
        self._scheduler = scheduler
        self._entries.clear()
        self._accepted.clear()
        self._is_stale = True
        scheduler.start()
        try:
            while True:
                self._ring.clear()
                await self._look(accept)
                await self._fire(accept)
                if not self._ring.is_set():
                    self._is_idle.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._check_s):
                        await self._ring.wait()
                scheduler.wakeup()
        finally:
            self._scheduler = None
            scheduler.shutdown(wait=False)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _alarm(self) -> None:
        self._stir()

    def _stir(self) -> None:
        self._is_idle.clear()
        self._ring.set()

    async def _look(self, accept: Accept) -> None:
        if not self._is_stale:
            return
        self._is_stale = False
        now = self._clock()
        jobs, clashes = merged(self._settings, await self._book.all())
        for clash in clashes:
            if clash.job_id not in self._clashes:
                _log.error("%s", clash)
        self._clashes = {clash.job_id for clash in clashes}
        states = await self._book.states()
        begun = {job.id: _beginning(job, states, now) for job in jobs if _is_new(job, states)}
        known = [job.id for job in self._settings]
        if begun or not self._entries or len(states) > len(jobs):
            await self._book.begin(begun, known, now)
        for job_id, state in begun.items():
            was_paused = job_id in states and states[job_id].paused
            states[job_id] = JobState(state.mark, state.until, was_paused)
        await self._set(jobs, states)
        fired = set(await self._book.fired(now))
        await self._accept_all(accept, sorted(fired - self._accepted))
        self._accepted = fired

    async def _set(self, jobs: Sequence[Job], states: Mapping[str, JobState]) -> None:
        for gone in self._entries.keys() - {job.id for job in jobs}:
            self._silence(gone)
            del self._entries[gone]
        for place, job in enumerate(jobs):
            before = self._entries.get(job.id)
            if before is not None and (before.job, before.state) == (job, states[job.id]):
                continue
            if place % _AT_A_TIME == 0:
                await asyncio.sleep(0)
            schedule = schedule_of(job)
            entry = _Entry(job, schedule, states[job.id], None)
            if job.enabled and not entry.state.paused:
                entry.due = schedule.after(entry.state.until)
            self._entries[job.id] = entry
            self._set_alarm(entry)

    async def _fire(self, accept: Accept) -> None:
        """Decide on everything that is due, and hand over what is to be run."""
        now = self._clock()
        due = iter([entry for entry in self._entries.values() if entry.due is not None and entry.due <= now])
        while together := list(islice(due, _TOGETHER)):
            verdicts = []
            for place, entry in enumerate(together):
                if place % _AT_A_TIME == _AT_A_TIME - 1:
                    await asyncio.sleep(0)
                decision = decide(entry.job, entry.state.until, now, entry.schedule)
                verdicts.append(Verdict(entry.job.id, entry.state, decision))
            fires = await self._book.decide(verdicts, now)
            for entry, verdict in zip(together, verdicts, strict=True):
                entry.state = JobState(entry.state.mark, verdict.decision.until)
                entry.due = entry.schedule.after(entry.state.until)
                others = verdict.decision.missed + verdict.decision.skipped
                if others:
                    what = "skipped" if verdict.decision.skipped else "missed"
                    _log.warning("job %r: %d %s, the last was due at %s", entry.job.id, others, what, entry.state.until)
            await self._accept_all(accept, fires)

    async def _accept_all(self, accept: Accept, fires: Sequence[tuple[str, datetime]]) -> None:
        """All at once: the inbox then keeps them in a few transactions."""
        async with asyncio.TaskGroup() as group:
            for envelope in _envelopes(fires):
                group.create_task(_accepted(accept, envelope))
        self._accepted.update(fires)

    # --- alarms ------------------------------------------------------------------------------------------------------

    def _set_alarm(self, entry: _Entry) -> None:
        self._silence(entry.job.id)
        if self._scheduler is not None and entry.due is not None:
            trigger = _Fires(entry.schedule)
            self._scheduler.add_job(self._alarm, trigger, id=entry.job.id, next_run_time=entry.due)

    def _silence(self, job_id: str) -> None:
        if self._scheduler is not None and job_id in self._entries:
            with suppress(JobLookupError):  # a job that has no more fires has gone by itself
                self._scheduler.remove_job(job_id)


class _Fires(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """Our own schedules, for the library. What has passed is ours to decide, so it is never counted up here."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first fire to come."""
        return self._schedule.after(max(previous_fire_time or now, now))


def _mark(job: Job, states: Mapping[str, JobState]) -> str:
    """What falls due while a job of the settings is not enabled is not missed: enabled again, it begins anew."""
    rests = not job.enabled and not (job.id in states and states[job.id].paused)
    return f"{mark_of(job)} off" if rests else mark_of(job)


def _beginning(job: Job, states: Mapping[str, JobState], now: datetime) -> JobState:
    # Where another schedule stood under this name, this one begins now, whenever it was made.
    return JobState(_mark(job, states), begins(replace(job, created_at=None) if job.id in states else job, now))


def _is_new(job: Job, states: Mapping[str, JobState]) -> bool:
    return job.id not in states or states[job.id].mark != _mark(job, states)


def _envelopes(fires: Sequence[tuple[str, datetime]]) -> Iterator[Envelope]:
    for job_id, fire in fires:
        yield Envelope(source_id(job_id, fire), SessionKey("cron", job_id), body_of(job_id, fire))


async def _accepted(accept: Accept, envelope: Envelope) -> None:
    await accept(envelope)
