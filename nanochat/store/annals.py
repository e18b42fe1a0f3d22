"""All that a session file holds, and what became of each line.

Read forwards, once, with all of it in memory: for a person who wants to see everything. Knows what the events mean for what is
live, as `view` does, which reads backwards and only as far as it must. Does not know how it is shown.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from nanochat.records import FORMAT, Message, Record, Reset, Rewind, Snapshot
from nanochat.store.scan import Source, forwards
from nanochat.store.tail import find_tail, numbered
from nanochat.store.view import Places

__all__ = ["Fate", "annals"]

Fate: TypeAlias = Literal["live", "reset", "undone"]
"""`reset`: a new conversation was begun behind it. `undone`: it was taken back."""


def annals(source: Source, end: int) -> list[tuple[Record, Fate]]:
    """Every record of the file's first `end` bytes, in its order; of a line that was repeated after a failed sync, one."""
    chain = _Chain(Places(source))
    for line in forwards(source, 0, end):
        record = source.record(line)
        if isinstance(record, Message | Snapshot):
            chain.add(record)
    fates = chain.fates()
    records = numbered(chain.records, find_tail(source, end).n)
    return [(record, fate) for record, fate in zip(records, fates, strict=True) if fate is not None]


@dataclass(slots=True)
class _Chain:
    """What was live at every point of the file, as a tree: each record knows the one before it; a rewind goes on from an older
    one."""

    places: Places
    records: list[Record] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    head: int = -1

    def add(self, record: Record) -> None:
        index = len(self.records)
        if isinstance(record, Snapshot) and isinstance(record.event, Rewind):
            self._rewind(record, record.event)
            self.before.append(-1)
        else:
            self.before.append(self.head)
            self.head = index
        self.records.append(record)
        self.heads.append(self.head)
        self.ends.append(record.end)

    def _rewind(self, own: Snapshot, event: Rewind) -> None:
        to = self.places.find(event.to, event.to_n, own)
        if to is None:
            return
        count = bisect_right(self.ends, to)
        self.head = self.heads[count - 1] if count else -1
        # After a failed sync what was taken back stands there twice, and `to` lies before the second copy only.
        while self.head >= 0 and _is_behind(self.records[self.head], event.to_n):
            self.head = self.before[self.head]

    def fates(self) -> list[Fate | None]:
        """What became of each record; None for one that was written once more."""
        fates: list[Fate | None] = ["undone"] * len(self.records)
        numbers: set[int] = set()
        at, fate = self.head, "live"
        while at >= 0:
            record = self.records[at]
            is_repeated = isinstance(record, Message) and record.n in numbers
            fates[at] = None if is_repeated else "live" if fate == "live" else "reset"
            if isinstance(record, Message) and record.n >= 0:
                numbers.add(record.n)
            elif isinstance(record, Snapshot) and isinstance(record.event, Reset):
                fate = "reset"
            at = self.before[at]
        for i in range(len(self.records) - 1, -1, -1):
            record = self.records[i]
            if isinstance(record, Snapshot):
                fates[i] = "live" if isinstance(record.event, Rewind) else fates[i]
            elif fates[i] == "undone" and record.n >= 0:
                fates[i] = None if record.n in numbers else "undone"
                numbers.add(record.n)
        return fates


def _is_behind(record: Record, n: int) -> bool:
    if n < 0:
        return False
    if isinstance(record, Message):
        return record.n >= n
    return record.state.version >= FORMAT and record.state.n > n
