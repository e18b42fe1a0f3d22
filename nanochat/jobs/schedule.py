"""When a job falls due: the moments of a schedule, forward, backward, and how many there are between two.

    cron   as Debian's cron reads it, with L and #; local time
    every  a distance in real time
    at     once

Local time has days of 23 and 25 hours. A cron job of fixed hours and minutes that falls into the gap fires where the gap ends,
and one that falls into the fold fires the first time; one whose minute or hour begins with a star goes by the clock on the wall,
minute by minute. A day whose offset does not change is reckoned without looking at its minutes, so no question
takes longer the longer ago it was asked last. Times passed in and out are aware; out in UTC.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import TypeAlias
from zoneinfo import ZoneInfo

from cronsim import CronSim

from nanochat.jobs.expression import fields_of
from nanochat.jobs.job import Job

__all__ = ["At", "Cron", "Every", "Schedule", "begins", "first_valid", "mark_of", "next_fires", "schedule_of"]

# A day, and a fold or gap at either end of it, in any zone since 1970.
_DAY_AND_CHANGE = timedelta(hours=30)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)

# The longest that a cron expression waits: a leap day that is also a Monday, across the year 2100, comes after 40 years.
_YEARS = 50


@dataclass(frozen=True, slots=True)
class At:
    """One moment."""

    moment: datetime

    def after(self, moment: datetime) -> datetime | None:
        """The first fire after `moment`."""
        return self.moment if moment < self.moment else None

    def last(self, moment: datetime) -> datetime | None:
        """The last fire that is not after `moment`."""
        return self.moment if self.moment <= moment else None

    def count(self, begin: datetime, end: datetime) -> int:
        """How many fires there are after `begin` and not after `end`."""
        return int(begin < self.moment <= end)


@dataclass(frozen=True, slots=True)
class Every:
    """One distance after the other from `anchor` on; the anchor itself is none of them."""

    anchor: datetime
    distance: timedelta

    def after(self, moment: datetime) -> datetime | None:
        """See `At.after`."""
        return self._fire(max(self._number(moment), 0) + 1)

    def last(self, moment: datetime) -> datetime | None:
        """See `At.last`."""
        number = self._number(moment)
        return self._fire(number) if number > 0 else None

    def count(self, begin: datetime, end: datetime) -> int:
        """See `At.count`."""
        return max(0, self._number(end) - max(self._number(begin), 0))

    def _number(self, moment: datetime) -> int:
        return (moment - self.anchor) // self.distance

    def _fire(self, number: int) -> datetime | None:
        try:
            return self.anchor + number * self.distance
        except OverflowError:
            return None


class Cron:
    """An expression of five fields in a zone. Made once and asked often: reading the fields is the dear part.

    Raises:
        CronSimError: a field cannot be read.
    """

    def __init__(self, fields: str, zone: ZoneInfo) -> None:
        # Naive: whatever zone it had, its own reckoning with time is not used.
        self._days = CronSim(fields, datetime(2000, 1, 1))
        self._zone = zone
        self._minutes = sorted(self._days.minutes)
        self._hours = sorted(self._days.hours)
        minute, hour = fields.split()[:2]
        self._by_the_wall = minute.startswith("*") or hour.startswith("*")

    def after(self, moment: datetime) -> datetime | None:
        """See `At.after`."""
        local = moment.astimezone(self._zone)
        day = local.date() - _DAY  # in the gap of a midnight, a fire of the evening before may still come
        end = min(local.year + _YEARS, date.max.year - 1)
        while day.year <= end:
            if day.month not in self._days.months:
                day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
                continue
            if self._days.match_day(day) and (found := self._first_on(day, moment)) is not None:
                return found
            day += _DAY
        return None

    def last(self, moment: datetime) -> datetime | None:
        """See `At.last`."""
        local = moment.astimezone(self._zone)
        day = local.date() + _DAY
        while day.year > max(local.year - _YEARS, date.min.year + 1):
            if day.month not in self._days.months:
                day = day.replace(day=1) - _DAY
                continue
            if self._days.match_day(day) and (found := self._last_on(day, moment)) is not None:
                return found
            day -= _DAY
        return None

    def count(self, begin: datetime, end: datetime) -> int:
        """See `At.count`."""
        if end <= begin:
            return 0
        day = begin.astimezone(self._zone).date() - _DAY
        last = end.astimezone(self._zone).date() + _DAY
        total = 0
        while day <= last:
            if day.month in self._days.months and self._days.match_day(day):
                total += self._count_on(day, begin, end)
            day += _DAY
        return total

    # --- one day, which matches -------------------------------------------------------------------------------------

    def _first_on(self, day: date, moment: datetime) -> datetime | None:
        offset = self._offset(day)
        if offset is None:
            return next((fire for fire in self._uneven(day) if fire > moment), None)
        place = self._place(day, offset, moment)
        return self._fire(day, offset, place) if place < self._per_day else None

    def _last_on(self, day: date, moment: datetime) -> datetime | None:
        offset = self._offset(day)
        if offset is None:
            return max((fire for fire in self._uneven(day) if fire <= moment), default=None)
        place = self._place(day, offset, moment)
        return self._fire(day, offset, place - 1) if place else None

    def _count_on(self, day: date, begin: datetime, end: datetime) -> int:
        offset = self._offset(day)
        if offset is None:
            return sum(begin < fire <= end for fire in self._uneven(day))
        return self._place(day, offset, end) - self._place(day, offset, begin)

    @property
    def _per_day(self) -> int:
        return len(self._hours) * len(self._minutes)

    def _offset(self, day: date) -> timedelta | None:
        """The day's offset to UTC, or None where it is not one and the same all day."""
        ends = (datetime.combine(one, time(), self._zone) for one in (day, day + _DAY))
        offsets = {moment.replace(fold=fold).utcoffset() for moment in ends for fold in (0, 1)}
        return offsets.pop() if len(offsets) == 1 else None

    def _place(self, day: date, offset: timedelta, moment: datetime) -> int:
        """How many of an even day's fires are not after `moment`."""
        minutes = (moment.astimezone(UTC).replace(tzinfo=None) + offset - datetime.combine(day, time())) // _MINUTE
        hour, minute = divmod(minutes, 60)
        if hour < 0:
            return 0
        whole = bisect_right(self._hours, hour)
        if not whole or self._hours[whole - 1] != hour:
            return whole * len(self._minutes)
        return (whole - 1) * len(self._minutes) + bisect_right(self._minutes, minute)

    def _fire(self, day: date, offset: timedelta, place: int) -> datetime:
        hour, minute = divmod(place, len(self._minutes))
        local = datetime.combine(day, time(self._hours[hour], self._minutes[minute]), UTC)
        return local - offset

    def _uneven(self, day: date) -> Iterator[datetime]:
        """The fires of a day on which the clock is changed, in order."""
        if not self._by_the_wall:
            named = (datetime.combine(day, time(hour, minute)) for hour in self._hours for minute in self._minutes)
            yield from sorted({first_valid(moment, self._zone) for moment in named})
            return
        noon = datetime.combine(day, time(12), self._zone).astimezone(UTC).replace(second=0)
        moment, end = noon - _DAY_AND_CHANGE / 2, noon + _DAY_AND_CHANGE / 2
        while moment < end:
            local = moment.astimezone(self._zone)
            if local.date() == day and local.hour in self._days.hours and local.minute in self._days.minutes:
                yield moment
            moment += _MINUTE


Schedule: TypeAlias = At | Cron | Every


def schedule_of(job: Job) -> Schedule:
    """The schedule of a job that was checked."""
    zone = ZoneInfo(job.zone)
    if job.at is not None:
        return At(job.at)
    if job.every_s:
        anchor = job.created_at or datetime(1970, 1, 1, tzinfo=zone)
        return Every(anchor.astimezone(UTC), timedelta(seconds=job.every_s))
    return Cron(fields_of(job.cron), zone)


def next_fires(job: Job, after: datetime, count: int = 3) -> list[datetime]:
    """The next fires after a moment, as many as there are up to `count`."""
    schedule = schedule_of(job)

    def fires() -> Iterator[datetime]:
        moment: datetime | None = after
        while moment is not None and (moment := schedule.after(moment)) is not None:
            yield moment

    return list(islice(fires(), count))


def mark_of(job: Job) -> str:
    """Differs where a job falls due at other times: what was decided for the one says nothing of the other."""
    return f"{job.cron or job.every_s or (job.at and job.at.isoformat())} {job.zone}"


def begins(job: Job, now: datetime) -> datetime:
    """From when on the fires of a job that was not known before count: from its making, or from now.

    A single moment of the settings that has passed counts as well: it was never decided, so `missed` decides.
    """
    start = job.created_at or now
    if job.at is not None and job.created_at is None:
        return min(start, job.at - timedelta(microseconds=1))
    return start


def first_valid(local: datetime, zone: ZoneInfo) -> datetime:
    """A naive local time as UTC: the first of two that are called so, and where there is none, the end of the gap."""
    moment = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None, fold=0) == local:
        return moment
    # Read with the offset of after the gap, it lies before the gap: in between is the change.
    low, high = local.replace(tzinfo=zone, fold=1).astimezone(UTC), moment
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high
