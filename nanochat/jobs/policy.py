"""What is to be done about the fires of a while: which one is run now, and what is said of the others.

Knows the policies for what fell due while nothing ran. Does not know who ran what, nor where it is written down.

    once     the last one is run, the others were missed
    skip     none is run, unless it is due just now; they were skipped
    within   as `once`, if the last one is not older than that; else all were missed
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from nanochat.jobs.job import Job
from nanochat.jobs.schedule import Schedule, schedule_of

__all__ = ["NAMED", "ON_TIME", "Decision", "JobState", "Verdict", "decide"]

# Younger than this a fire is not late: between the alarm and the decision lie a busy loop and the check for a changed clock,
# every 30 s.
ON_TIME = timedelta(seconds=60)

# So many of the newest that are not run are told of one by one, those before them by their number: a year of minutes is
# half a million.
NAMED = 20


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of all fires after the former `until` and not after the new one: `fire` is run, `missed` plus `skipped`
    others are not, one of which is zero. `named` are the newest of them, oldest first; `first` is the oldest of all, and
    `unnamed_last` the newest that is not named."""

    until: datetime
    fire: datetime | None = None
    missed: int = 0
    skipped: int = 0
    named: tuple[datetime, ...] = ()
    first: datetime | None = None
    unnamed_last: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a job is decided: `mark` is the schedule that this is said of. What falls due while `paused` is not wanted."""

    mark: str
    until: datetime
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision on a job, and the state that it was taken in."""

    job_id: str
    state: JobState
    decision: Decision


def decide(job: Job, until: datetime, now: datetime, schedule: Schedule | None = None) -> Decision:
    """Decide on every fire after `until` and not after `now`; takes as long for a year as for a day.

    Args:
        schedule: the job's, where it is at hand.
    """
    schedule = schedule or schedule_of(job)
    last = schedule.last(now)
    if last is None or last <= until:
        return Decision(until)
    runs = _is_run(job.missed, now - last)
    others = schedule.count(until, last) - int(runs)
    newest = list(islice(_before(schedule, last, until, inclusive=not runs), NAMED + 1))
    named, before = tuple(newest[:NAMED][::-1]), newest[NAMED:]
    first = schedule.after(until) if others else None
    missed, skipped = (0, others) if job.missed == "skip" else (others, 0)
    return Decision(
        last,
        last if runs else None,
        missed,
        skipped,
        named=named,
        first=first,
        unnamed_last=before[0] if before else None,
    )


def _is_run(missed: str, age: timedelta) -> bool:
    if missed == "once" or age <= ON_TIME:
        return True
    policy, _, distance = missed.partition(":")
    return policy == "within" and age <= timedelta(seconds=int(distance.removesuffix("s")))


def _before(schedule: Schedule, last: datetime, until: datetime, *, inclusive: bool) -> Iterator[datetime]:
    moment: datetime | None = last
    if inclusive:
        yield last
    while moment is not None:
        moment = schedule.last(moment - timedelta(microseconds=1))
        if moment is None or moment <= until:
            return
        yield moment
