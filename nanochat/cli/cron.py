"""`nanochat cron`: the jobs, when they fire next, and what came of it.

Knows how jobs and runs are shown, and how one is made at the command line. Does not know when a job falls due, nor what it does.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from zoneinfo import ZoneInfo

from nanochat.channels.terminal.words import clean
from nanochat.cli.jobs import checked, from_settings
from nanochat.cli.ledgers import ledger_of
from nanochat.cli.places import LEDGER, WAKE, data_dir
from nanochat.config import Config
from nanochat.errors import CommandError, JobError
from nanochat.jobs import (
    Job,
    JobState,
    Kind,
    at_words,
    body_of,
    describe,
    make,
    merged,
    next_fires,
    schedule_of,
    source_id,
)
from nanochat.keys import SessionKey
from nanochat.ledger import Run, made_jobs, runs_of
from nanochat.ports import Envelope
from nanochat.process import wake

__all__ = ["Wish", "add", "history", "list_jobs", "next_runs", "pause", "remove", "resume", "run_now"]

_NO_DAEMON = "nanochat: no daemon is running; jobs fire while nanochat run does"
_SLUG_CHARS = 24


@dataclass(frozen=True, slots=True)
class Wish:
    """A job as it was typed."""

    cron: str
    every: str
    at: str
    text: str
    prompt: str
    sources: tuple[str, ...]
    deliver_to: tuple[str, ...]
    timezone: str
    missed: str
    quiet: bool
    job_id: str


@dataclass(frozen=True, slots=True)
class _Known:
    """Every job, and what a daemon has written down about it."""

    jobs: tuple[Job, ...]
    states: dict[str, JobState]

    def next_fires(self, job: Job, now: datetime) -> Iterator[datetime]:
        """What is still to come of a job; nothing while it rests."""
        state = self.states.get(job.id)
        if not job.enabled or (state is not None and state.paused):
            return
        schedule = schedule_of(job)
        moment: datetime | None = max(now, state.until) if state is not None else now
        while moment is not None and (moment := schedule.after(moment)) is not None:
            yield moment

    def line(self, job: Job, now: datetime) -> Iterator[tuple[datetime, str, str]]:
        """What is still to come, with the job's id and zone."""
        for fire in self.next_fires(job, now):
            yield fire, job.id, job.zone

    def condition(self, job: Job, now: datetime) -> str:
        """`active`, `paused`, `disabled` or `over`."""
        state = self.states.get(job.id)
        if state is not None and state.paused:
            return "paused"
        if not job.enabled:
            return "disabled"
        return "active" if any(True for _ in islice(self.next_fires(job, now), 1)) else "over"


# --- reading ---------------------------------------------------------------------------------------------------------


def list_jobs(config: Config, *, as_json: bool) -> int:
    """Print every job; changes nothing. Returns the exit code."""
    now = datetime.now(UTC)
    known = _known(config)
    if not known.jobs and not as_json:
        print("nanochat: there are no jobs; nanochat cron add -h tells how to make one", file=sys.stderr)
    for job in known.jobs:
        fire = next(known.next_fires(job, now), None)
        if as_json:
            print(json.dumps(_fields(job, known.condition(job, now), fire), ensure_ascii=False))
        else:
            condition = f"next {at_words(fire, job.zone)}" if fire is not None else known.condition(job, now)
            print(f"{clean(job.id)}  {condition}\n    {clean(describe(job))}{_missed(job)}{_origin(job)}")
    return 0


def next_runs(config: Config, job_id: str, count: int, *, as_json: bool) -> int:
    """Print the next fires of all jobs, or of one, in their order; changes nothing. Returns the exit code."""
    now = datetime.now(UTC)
    known = _known(config)
    jobs = [_one(known.jobs, job_id)] if job_id else known.jobs
    shown = 0
    for fire, name, zone in islice(merge(*(known.line(job, now) for job in jobs)), count):
        shown += 1
        if as_json:
            print(json.dumps({"id": name, "at": _local(fire, zone)}, ensure_ascii=False))
        else:
            print(f"{at_words(fire, zone)}  {clean(name)}")
    if not shown and not as_json:
        print("nanochat: nothing is to come", file=sys.stderr)
    return 0


def history(config: Config, job_id: str, count: int, *, as_json: bool) -> int:
    """Print what came of the newest fires, of one job with what it said; changes nothing. Returns the exit code."""
    known = _known(config)
    runs = runs_of(data_dir(config) / LEDGER, job_id, count)
    if job_id and not runs:
        _one(known.jobs, job_id)
    if not runs and not as_json:
        print(f"nanochat: nothing was due yet{f' for {clean(job_id)}' if job_id else ''}", file=sys.stderr)
    zones = {job.id: job.zone for job in known.jobs}
    for run in runs:
        zone = zones.get(run.job_id, config.timezone)
        if as_json:
            print(json.dumps(_run_fields(run, zone), ensure_ascii=False))
            continue
        print(_run_line(run, zone))
        if job_id and run.text:
            print("\n".join(f"    {line}" for line in clean(run.text).splitlines()))
    return 0


# --- changing --------------------------------------------------------------------------------------------------------


async def add(config: Config, wish: Wish) -> int:
    """Make a job, and read it back. Returns the exit code.

    Raises:
        JobError: it cannot be kept.
    """
    now = datetime.now(UTC)
    taken = {job.id for job in _known(config).jobs}
    job = _job(config, wish, now, taken)
    if job.id in taken:
        raise JobError(job.id, "id", "another job has this id; nanochat cron remove takes one away")
    async with ledger_of(config) as ledger:
        await ledger.jobs.add(job)
    print(f"added {clean(job.id)}: {clean(describe(job))}")
    print(f"next: {', '.join(at_words(fire, job.zone) for fire in next_fires(job, now))}")
    return _tell(config)


async def remove(config: Config, job_id: str) -> int:
    """Take a made job away; what came of it is kept. Returns the exit code.

    Raises:
        JobError: it stands in the settings.
        CommandError: there is none.
    """
    async with ledger_of(config) as ledger:
        was_there = await ledger.jobs.remove(job_id)
    if not was_there:
        _one(_known(config).jobs, job_id)
        raise JobError(job_id, "id", "stands in the settings file; take it out there, or nanochat cron pause")
    print(f"removed {clean(job_id)}")
    wake.ring(data_dir(config) / WAKE)
    return 0


async def pause(config: Config, job_id: str) -> int:
    """Let a job rest. Returns the exit code.

    Raises:
        CommandError: there is none.
    """
    job = _one(_known(config).jobs, job_id)
    async with ledger_of(config) as ledger:
        await ledger.jobs.pause(job, datetime.now(UTC))
    print(f"paused {clean(job_id)}; nanochat cron resume {clean(job_id)} lets it fire again")
    wake.ring(data_dir(config) / WAKE)
    return 0


async def resume(config: Config, job_id: str) -> int:
    """Let a job fire again, from now on. Returns the exit code.

    Raises:
        CommandError: there is none.
        JobError: the settings have it disabled.
    """
    now = datetime.now(UTC)
    job = _one(_known(config).jobs, job_id)
    async with ledger_of(config) as ledger:
        await ledger.jobs.resume(job, now)
    if not job.enabled:
        raise JobError(job_id, "enabled", "is false in the settings file")
    fires = next_fires(job, now, 1)
    print(f"resumed {clean(job_id)}; " + (f"next: {at_words(fires[0], job.zone)}" if fires else "nothing is to come"))
    return _tell(config)


async def run_now(config: Config, job_id: str) -> int:
    """Have a job run out of its turn. Returns the exit code.

    Raises:
        CommandError: there is none.
    """
    now = datetime.now(UTC)
    _one(_known(config).jobs, job_id)
    async with ledger_of(config) as ledger:
        await ledger.jobs.fire(job_id, now)
        envelope = Envelope(source_id(job_id, now), SessionKey("cron", job_id), body_of(job_id, now))
        await ledger.inbox.accept(envelope, now)
    if wake.ring(data_dir(config) / WAKE):
        print(f"{clean(job_id)} runs; nanochat cron history {clean(job_id)} tells what comes of it")
    else:
        print(f"{clean(job_id)} runs as soon as a daemon does")
        print(_NO_DAEMON, file=sys.stderr)
    return 0


def _tell(config: Config) -> int:
    if not wake.ring(data_dir(config) / WAKE):
        print(_NO_DAEMON, file=sys.stderr)
    return 0


def _job(config: Config, wish: Wish, now: datetime, taken: set[str]) -> Job:
    name = wish.job_id or _free_id(wish, taken)
    if wish.text and (wish.prompt or wish.sources):
        raise JobError(name, "--text", "stands alone: it needs no model, --prompt and --summary do")
    if not (wish.text or wish.prompt or wish.sources):
        raise JobError(name, "--text", "is missing: a job takes one of --text, --prompt and --summary")
    kind: Kind = "text" if wish.text else "summary" if wish.sources else "prompt"
    draft = Job(
        id=name,
        kind=kind,
        zone=wish.timezone or config.timezone,
        cron=wish.cron,
        text=wish.text or wish.prompt,
        sources=wish.sources,
        missed=wish.missed,
        quiet=wish.quiet,
        origin="the command line",
        created_at=now,
    )
    return checked(make(draft, every=wish.every, at=wish.at, recipients=wish.deliver_to, now=now))


def _free_id(wish: Wish, taken: set[str]) -> str:
    words = re.sub(r"\W+", "-", (wish.text or wish.prompt or "summary").lower())[:_SLUG_CHARS].strip("-_") or "job"
    numbered = (f"{words}-{number}" for number in range(2, len(taken) + 3))
    return words if words not in taken else next(name for name in numbered if name not in taken)


def _known(config: Config) -> _Known:
    made = made_jobs(data_dir(config) / LEDGER)
    jobs, clashes = merged(from_settings(config), made.jobs)
    for clash in clashes:
        print(f"nanochat: {clean(str(clash))}", file=sys.stderr)
    return _Known(tuple(jobs), dict(made.states or {}))


def _one(jobs: tuple[Job, ...], job_id: str) -> Job:
    for job in jobs:
        if job.id == job_id:
            return job
    raise CommandError(f"there is no job {job_id!r}; nanochat cron list shows those there are")


# --- showing ---------------------------------------------------------------------------------------------------------


def _missed(job: Job) -> str:
    return "" if job.missed == "once" else f"; missed: {job.missed}"


def _origin(job: Job) -> str:
    return f"; from {clean(job.origin)}"


def _local(moment: datetime, zone: str) -> str:
    return moment.astimezone(ZoneInfo(zone)).isoformat()


def _fields(job: Job, condition: str, fire: datetime | None) -> dict[str, object]:
    return {
        "id": job.id,
        "kind": job.kind,
        "when": describe(job).partition(": ")[0],
        "cron": job.cron or None,
        "every_s": job.every_s or None,
        "at": _local(job.at, job.zone) if job.at else None,
        "timezone": job.zone,
        "text": job.text,
        "sources": job.sources,
        "deliver_to": [str(key) for key in job.recipients],
        "missed": job.missed,
        "quiet": job.quiet,
        "usd_per_run": job.usd_per_run,
        "state": condition,
        "next": _local(fire, job.zone) if fire else None,
        "origin": job.origin,
        "created_at": _local(job.created_at, job.zone) if job.created_at else None,
    }


def _run_line(run: Run, zone: str) -> str:
    parts = [at_words(run.fire, zone), clean(run.job_id), run.outcome]
    if run.fires > 1 and run.first_fire is not None:
        parts[-1] = f"{run.fires} {run.outcome}, the first at {at_words(run.first_fire, zone)}"
    if run.started_at is not None and run.ended_at is not None:
        parts.append(f"in {(run.ended_at - run.started_at).total_seconds():.1f} s")
    for delivery in run.deliveries:
        words = {"delivered": "delivered to", "done": "recorded in", "failed": "not delivered to"}
        note = f" ({clean(delivery.note)})" if delivery.note and delivery.state != "done" else ""
        parts.append(f"{words.get(delivery.state, 'on its way to')} {clean(delivery.recipient)}{note}")
    if run.note:
        parts.append(clean(run.note))
    return "  ".join(parts)


def _run_fields(run: Run, zone: str) -> dict[str, object]:
    return {
        "id": run.job_id,
        "fire": _local(run.fire, zone),
        "outcome": run.outcome,
        "fires": run.fires,
        "first_fire": _local(run.first_fire or run.fire, zone),
        "started_at": _local(run.started_at, zone) if run.started_at else None,
        "ended_at": _local(run.ended_at, zone) if run.ended_at else None,
        "text": run.text,
        "why": run.note,
        "deliveries": [
            {"key": one.recipient, "state": one.state, "why": one.note, "source_id": one.source_id}
            for one in run.deliveries
        ],
    }
