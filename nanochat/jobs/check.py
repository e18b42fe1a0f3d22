"""Makes jobs out of what people write, and refuses what could never be kept.

Knows the forms of schedules, zones, recipients and sources, and what may not stand together. Does not know where the words come
from: settings, options of a command, or a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from nanochat.errors import JobError, KeyFormError
from nanochat.jobs.expression import fields_of
from nanochat.jobs.job import Job
from nanochat.jobs.schedule import first_valid
from nanochat.keys import SessionKey

__all__ = ["EXAMPLES", "make", "merged", "when"]

EXAMPLES = {"cron": "0 8 * * mon-fri", "every": "90s, 15m, 2h or 1d", "at": "2026-12-24T18:00", "missed": "within:30m"}
"""One for each key whose form is not plain."""

_DISTANCE = re.compile(r"([1-9]\d{0,8})([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SOURCE = re.compile(r"[^\s:]+:\S")

# A century: longer is a typing error, and beyond some thousand years dates end.
_LONGEST = timedelta(days=36525)


def make(
    job: Job, *, every: str = "", at: str = "", recipients: Iterable[str] = (), now: datetime | None = None
) -> Job:
    """Check a job of which the schedule, but for `cron`, and the recipients are still words.

    Args:
        job: `missed` as people write it; what the words stand for is filled in here.
        now: a moment that has passed by then is refused; without it, it is none of our business.

    Raises:
        JobError: names the job, the key, what is wrong, and an example.
    """
    _check_id(job.id)
    draft = _Draft(job.id, _zone(job))
    if sum(map(bool, (job.cron.strip(), every.strip(), at.strip()))) != 1:
        raise JobError(job.id, "cron", "takes exactly one of cron, every and at")
    if job.cron:
        draft.check_cron(job.cron)
    if job.kind == "summary":
        draft.check_sources(job.sources)
    elif not job.text.strip():
        key = "prompt" if job.kind == "prompt" else "text"
        raise JobError(job.id, key, f"is missing: a job of kind {job.kind} takes it")
    return Job(
        id=job.id,
        kind=job.kind,
        zone=job.zone,
        cron=" ".join(job.cron.split()),
        every_s=draft.distance(every, "every") if every else 0,
        at=draft.moment(at, now) if at else None,
        text=job.text,
        sources=job.sources,
        recipients=draft.keys(recipients),
        missed=draft.missed(job.missed),
        quiet=job.quiet,
        usd_per_run=job.usd_per_run,
        enabled=job.enabled,
        origin=job.origin,
        by_owner=job.by_owner,
        created_at=job.created_at.replace(microsecond=0) if job.created_at else None,
    )


def merged(settings: Sequence[Job], made: Sequence[Job]) -> tuple[list[Job], list[JobError]]:
    """All jobs, and a refusal for each made one whose id the settings have given to another: theirs goes first."""
    named = {job.id for job in settings}
    clashes = [
        JobError(job.id, "id", f"stands in the settings, and for a job made by {job.origin} as well; that one waits")
        for job in made
        if job.id in named
    ]
    return [*settings, *(job for job in made if job.id not in named)], clashes


def when(text: str, zone: ZoneInfo) -> datetime:
    """A moment in UTC; without an offset it is local time.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text.strip()).replace(microsecond=0)
    if moment.tzinfo is None:
        return first_valid(moment, zone)
    return moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A job of which only the id and the zone are certain yet."""

    id: str
    zone: ZoneInfo

    def check_cron(self, text: str) -> None:
        try:
            fields_of(text)
        except ValueError as error:
            raise JobError(self.id, "cron", str(error)) from error

    def distance(self, text: str, key: str) -> int:
        found = _DISTANCE.match(text.strip().lower())
        if found is None:
            raise JobError(self.id, key, f"{text!r} is no distance, as in {EXAMPLES['every']}")
        seconds = int(found.group(1)) * _SECONDS[found.group(2)]
        if seconds > _LONGEST.total_seconds():
            raise JobError(self.id, key, f"{text!r} is longer than a century; a distance is {EXAMPLES['every']}")
        return seconds

    def moment(self, text: str, now: datetime | None) -> datetime:
        try:
            moment = when(text, self.zone)
        except (ValueError, OverflowError) as error:
            raise JobError(self.id, "at", f"{text!r} is no time, as in {EXAMPLES['at']}") from error
        if now is not None and moment <= now:
            local = now.astimezone(self.zone)
            raise JobError(self.id, "at", f"{text!r} has passed: it is {local:%Y-%m-%dT%H:%M:%S} in {self.zone.key}")
        return moment

    def missed(self, text: str) -> str:
        if text in ("once", "skip"):
            return text
        policy, colon, distance = text.partition(":")
        if policy != "within" or not colon:
            raise JobError(self.id, "missed", f"{text!r} is none of once, skip and {EXAMPLES['missed']}")
        return f"within:{self.distance(distance, 'missed')}s"

    def check_sources(self, sources: Sequence[str]) -> None:
        if not sources:
            raise JobError(self.id, "sources", "is missing: a summary takes keys or globs, as in telegram:*")
        for source in sources:
            if not _SOURCE.match(source):
                raise JobError(self.id, "sources", f"{source!r} is neither a key nor a glob, as in telegram:*")
            if source.startswith("cron:"):
                raise JobError(self.id, "sources", f"{source!r}: a job does not read jobs")

    def keys(self, recipients: Iterable[str]) -> tuple[SessionKey, ...]:
        keys = []
        for recipient in recipients:
            try:
                key = SessionKey.parse(recipient)
            except KeyFormError as error:
                raise JobError(self.id, "deliver_to", str(error)) from error
            if key.channel == "cron":
                raise JobError(self.id, "deliver_to", f"{recipient!r} is a job: nobody reads it there")
            keys.append(key)
        return tuple(dict.fromkeys(keys))


def _check_id(job_id: str) -> None:
    try:
        SessionKey("cron", job_id)
    except KeyFormError as error:
        raise JobError(job_id, "id", "takes a name of printable text, without spaces around it") from error


def _zone(job: Job) -> ZoneInfo:
    try:
        return ZoneInfo(job.zone)
    except (OSError, ValueError, KeyError) as error:
        raise JobError(
            job.id, "timezone", f"{job.zone!r} is not the name of a time zone, as in 'Europe/Berlin'"
        ) from error
