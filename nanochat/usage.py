"""What turns took: points on a conversation's curve, and sums by session, day, model or origin.

Knows turn and compact records. Nothing takes back what was taken, neither undo nor reset nor the archive. Does not know files,
nor how a sum is shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Literal, TypeAlias

from nanochat.doors import TurnPoint
from nanochat.records import Compact, Snapshot, TurnEnd, Usage

__all__ = ["SUMMARY", "Account", "By", "Period", "Row", "Sum", "curve", "origin_of", "point"]

SUMMARY = "summary"
"""The origin of what compactions take: nobody asked for them."""

By: TypeAlias = Literal["session", "day", "model", "origin"]
"""What a row of an account stands for."""

_JOB = "cron:"


# --- points ----------------------------------------------------------------------------------------------------------


def curve(ends: Iterable[Snapshot], most: int = 1000) -> tuple[TurnPoint, ...]:
    """The newest `most` points of records that come in the file's order, newest last."""
    points = (point(end) for end in ends)
    return tuple(deque((one for one in points if one is not None), maxlen=most))


def point(end: Snapshot) -> TurnPoint | None:
    """What a turn or a compaction took; None for other records, and for a compaction that took nothing, as one restated."""
    at, event = end.state.updated_at, end.event
    match event:
        case TurnEnd():
            origin = origin_of(event.origin, event.source_id, end.state.key)
            return TurnPoint(at, "turn", event.model, origin, event.usage, event.cost_usd, event.seconds)
        case Compact() if event.usage != Usage() or event.cost_usd:
            return TurnPoint(at, "compact", event.by, SUMMARY, event.usage, event.cost_usd)
        case _:
            return None


def origin_of(recorded: str, source_id: str, key: str) -> str:
    """Who caused a turn: what its record says, but of a fire its job, which as the owner's acts in the owner's name."""
    return key if key.startswith(_JOB) and source_id.startswith(f"{key}:") else recorded


# --- sums ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sum:
    """What some turns, and summaries of older messages, took together.

    `cost_usd` is None where no price was known at all; of `unpriced` turns and summaries it was not, and they are not in it.
    """

    turns: int
    summaries: int
    usage: Usage
    cost_usd: float | None
    unpriced: int

    @property
    def cache_write(self) -> int:
        """The tokens written to the cache, for five minutes or for an hour."""
        return self.usage.cache_write + self.usage.cache_write_1h

    @property
    def cache_share(self) -> float | None:
        """The part of what was read that came from the cache; None where nothing was read."""
        prompt = self.usage.prompt
        return self.usage.cache_read / prompt if prompt else None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an account. `name` is the session's key, the day as in `2026-11-20`, the model or the origin; empty where the
    record did not say. `is_archived`: of files put away, beside which a session can have one in use."""

    name: str
    sum: Sum
    is_archived: bool = False


@dataclass(frozen=True, slots=True)
class Period:
    """The days that count, both ends with them; None is no end."""

    since: date | None = None
    until: date | None = None


class Account:
    """Adds up points by what `by` says; days begin at midnight in `zone`."""

    def __init__(self, by: By, zone: tzinfo, period: Period | None = None) -> None:
        self._by = by
        self._zone = zone
        period = period or Period()
        self._since = _midnight(period.since, zone) if period.since else None
        last = period.until
        self._until = _midnight(last + timedelta(days=1), zone) if last and last < date.max else None
        self._sums: dict[tuple[str, bool], _Running] = {}

    def add(self, key: str, points: Iterable[TurnPoint], *, is_archived: bool = False) -> None:
        """Count the points of a session's file that lie in the period, in any order."""
        marked = is_archived and self._by == "session"
        for one in points:
            if (self._since and one.at < self._since) or (self._until and one.at >= self._until):
                continue
            place = self._name(key, one), marked
            running = self._sums.get(place)
            if running is None:
                running = self._sums[place] = _Running()
            running.add(one)

    def _name(self, key: str, one: TurnPoint) -> str:
        match self._by:
            case "session":
                return key
            case "day":
                return one.at.astimezone(self._zone).date().isoformat()
            case "model":
                return one.model
            case "origin":
                return one.origin

    def rows(self) -> tuple[Row, ...]:
        """The sums: days in their order, all others the dearest first."""
        rows = [Row(name, running.sum(), is_archived) for (name, is_archived), running in self._sums.items()]
        return tuple(sorted(rows, key=_by_name if self._by == "day" else _dearest))

    def total(self) -> Sum:
        """What all rows take together."""
        total = _Running()
        for running in self._sums.values():
            total.merge(running)
        return total.sum()


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone)


def _by_name(row: Row) -> str:
    return row.name


def _dearest(row: Row) -> tuple[float, int, str, bool]:
    return -(row.sum.cost_usd or 0.0), -row.sum.usage.prompt - row.sum.usage.output, row.name, row.is_archived


class _Running:
    """A sum under way: plain numbers, since a million points take their turn here."""

    __slots__ = ("cost_usd", "priced", "summaries", "tokens", "turns", "unpriced")

    def __init__(self) -> None:
        self.turns = 0
        self.summaries = 0
        self.tokens = [0, 0, 0, 0, 0]
        self.cost_usd = 0.0
        self.priced = 0
        self.unpriced = 0

    def add(self, one: TurnPoint) -> None:
        if one.kind == "turn":
            self.turns += 1
        else:
            self.summaries += 1
        usage, tokens = one.usage, self.tokens
        tokens[0] += usage.input
        tokens[1] += usage.cache_read
        tokens[2] += usage.cache_write
        tokens[3] += usage.cache_write_1h
        tokens[4] += usage.output
        if one.cost_usd is not None:
            self.priced += 1
            self.cost_usd += one.cost_usd
        elif usage.prompt or usage.output:  # what took nothing cost nothing, whoever's price it was
            self.unpriced += 1

    def merge(self, other: _Running) -> None:
        self.turns += other.turns
        self.summaries += other.summaries
        self.tokens = [mine + theirs for mine, theirs in zip(self.tokens, other.tokens, strict=True)]
        self.cost_usd += other.cost_usd
        self.priced += other.priced
        self.unpriced += other.unpriced

    def sum(self) -> Sum:
        is_known = self.priced or not self.unpriced
        return Sum(self.turns, self.summaries, Usage(*self.tokens), self.cost_usd if is_known else None, self.unpriced)
