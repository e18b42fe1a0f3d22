"""The lines that a session file ends with, and which of them were taken back.

Read backwards, only as far as is asked for. Knows what a rewind means for the lines before it. Does not know who wants to see
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nanochat.doors import Line
from nanochat.records import Message, Rewind, Snapshot
from nanochat.store.follow import line_of
from nanochat.store.scan import Backwards, Source, whole_end
from nanochat.store.view import Places

__all__ = ["LastLines", "last_lines"]


@dataclass(frozen=True, slots=True)
class LastLines:
    """The newest lines of a file, oldest first; `undone` has the first bytes of those that were taken back. From byte `end` on it
    can be followed."""

    lines: tuple[Line, ...]
    undone: frozenset[int]
    end: int


def last_lines(source: Source, size: int, count: int, counts: Callable[[Line], bool]) -> LastLines:
    """The last lines of the first `size` bytes, so many as `count` of them count."""
    end = whole_end(source, size)
    back, places = Backwards(source, end), Places(source)
    lines: list[Line] = []
    undone: set[int] = set()
    numbers: set[int] = set()
    live_before = end
    while count > 0 and (piece := back.previous()) is not None:
        if piece.data is not None and piece.data.isspace():
            continue
        line = line_of(source, piece)
        record = line.record
        if isinstance(record, Message) and record.n >= 0:
            if record.n in numbers:
                continue  # it was written once more, after a failed sync
            numbers.add(record.n)
        if line.start >= live_before:
            undone.add(line.start)
        elif isinstance(record, Snapshot) and isinstance(record.event, Rewind):
            to = places.find(record.event.to, record.event.to_n, record)
            live_before = live_before if to is None else to
        lines.append(line)
        count -= counts(line)
    return LastLines(tuple(reversed(lines)), frozenset(undone), end)
