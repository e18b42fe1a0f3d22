"""The newest live part of a session file, read backwards.

A rewind is a jump, a reset is the end, a compaction says how far to go on. Knows what the events mean for what is live. Does not
know what a model is sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nanochat.errors import WrongFile
from nanochat.history.exchanges import begins_exchange
from nanochat.lines import decode
from nanochat.ports import View
from nanochat.records import FORMAT, Compact, Json, Message, Record, Reset, Rewind, Snapshot, State, Unreadable
from nanochat.store.refs import settle
from nanochat.store.scan import Backwards, Line, Source, forwards, line_at
from nanochat.store.tail import find_tail

__all__ = ["Places", "Window", "read_header", "read_view"]

# A place that does not hold costs a pass over the file; more of them in one window than this are nobody's honest edits.
_MAX_SEARCHES = 4

# How far behind an offset its message is looked for; more than the records that stand between two messages.
_CHECK_BYTES = 1024 * 1024

# `encode` writes `_n` last; so the number of a line is found without reading the line.
_NUMBER_AT_END = re.compile(rb'"_n":\s*(\d{1,18})\s*\}\s*\Z')
_NUMBER_BYTES = 64


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a session is wanted at least: user turns, and bytes of lines."""

    exchanges: int
    limit_bytes: int


class Places:
    """Finds the byte that a rewind or a compaction means. Offsets are checked: a file edited by hand has moved."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._searches = 0

    def find(self, at: int, n: int, own: Snapshot) -> int | None:
        """The place before message number `n`, said to be byte `at`, for the record `own`; None where none is before it."""
        if 0 <= at <= own.start and self._source.begins_line(at) and self._counts(at, n, own):
            return at
        return self._search(n, own.start)

    def _counts(self, at: int, n: int, own: Snapshot) -> bool:
        if n < 0:
            return True
        upto = min(own.start, at + _CHECK_BYTES)
        for line in forwards(self._source, at, upto):
            record = self._source.record(line)
            if isinstance(record, Message):
                return record.n in (n, -1)
        return upto < own.start or own.state.n == n or own.state.version < FORMAT

    def _search(self, n: int, upto: int) -> int | None:
        if n < 0 or self._searches >= _MAX_SEARCHES:
            return None
        self._searches += 1
        for line in forwards(self._source, 0, upto):
            number = _NUMBER_AT_END.search(line.data, max(0, len(line.data) - _NUMBER_BYTES)) if line.data else None
            if number and int(number[1]) == n:
                record = self._source.record(line)
                if isinstance(record, Message) and record.n == n:
                    return line.start
        return None


def read_header(source: Source, end: int, path: str) -> Snapshot | None:
    """The first line, if it is a snapshot.

    Raises:
        WrongFile: it is another session's.
    """
    line = line_at(source, 0, end)
    record = decode(line.data, 0, known_at=source.known_at) if line and line.data else None
    if not isinstance(record, Snapshot):
        return None
    if record.state.key not in ("", str(source.key)):
        raise WrongFile(
            f"{path} belongs to session {record.state.key}, not to {source.key}; move it away",
            key=str(source.key),
            path=path,
        )
    return record


def read_view(source: Source, end: int, window: Window, path: str) -> View:
    """The view of the file's first `end` bytes, which are whole lines."""
    header = read_header(source, end, path)
    tail = find_tail(source, end)
    walk = _Walk(source, window, tail.n, header)
    walk.run(end)
    created_at = min(
        (record.timestamp for record in walk.records if isinstance(record, Message)), default=source.known_at
    )
    state = tail.state or State(str(source.key), created_at, source.known_at)
    settled = settle(source, end, replace(state, key=str(source.key), n=tail.n))
    return View(
        state=settled.state,
        records=tuple(reversed(walk.records)),
        system=settled.system,
        pins=settled.pins,
        complete=walk.complete,
        end=end,
        unreadable=walk.unreadable,
    )


class _Walk:
    """One pass from the end to the boundary; `records` are newest first, `n` counts the messages before the place of the walk."""

    def __init__(self, source: Source, window: Window, n: int, header: Snapshot | None) -> None:
        self._source = source
        self._window = window
        self._n = n
        self._summary = header if header and _is_summarised(header.state, n) else None
        self._places = Places(source)
        self._back = Backwards(source, 0)
        self._floor = 0
        self._ceiling: int | None = None
        self._compacted = False
        self._numbers: set[int] = set()
        self._snapshots: set[bytes] = set()
        self._exchanges = 0
        self._bytes = 0
        self.records: list[Record] = []
        self.complete = False
        self.unreadable = 0

    def run(self, end: int) -> None:
        self._back = Backwards(self._source, end)
        while (line := self._back.previous()) is not None and line.start >= self._floor:
            self._bytes += line.end - line.start
            if self._take(line):
                return
        self.complete = True

    def _take(self, line: Line) -> bool:
        """Whether the walk is at its end with this line."""
        record = self._source.record(line)
        if isinstance(record, Message):
            return self._take_message(record)
        if isinstance(record, Snapshot) and line.data:
            return self._take_snapshot(record, line.data)
        self.unreadable += isinstance(record, Unreadable)
        return False

    def _take_message(self, message: Message) -> bool:
        given = message.n >= 0
        if not given:
            message = replace(message, n=max(0, self._n - 1))
        elif message.n in self._numbers or (self._ceiling is not None and message.n >= self._ceiling):
            return False
        self._n = message.n
        if self._summary and message.n < self._summary.state.last_consolidated:
            if not given:
                return self._begin_with(self._summary, message.end)
            self._summary = None  # the count is beyond what nanobot wrote: it hides nothing
        self._numbers.add(message.n)
        self.records.append(message)
        return begins_exchange(message) and self._is_full()

    def _is_full(self) -> bool:
        self._exchanges += 1
        wanted = self._window
        return not self._compacted and self._exchanges >= wanted.exchanges and self._bytes >= wanted.limit_bytes

    def _begin_with(self, header: Snapshot, keep: int) -> bool:
        count = header.state.last_consolidated
        summary = Compact(_summary_of(header.state), keep, count, by="nanobot", reason="imported", messages=count)
        self.records.append(replace(header, event=summary))
        self.complete = True
        return True

    def _take_snapshot(self, snapshot: Snapshot, data: bytes) -> bool:
        is_ours = snapshot.state.version >= FORMAT
        if is_ours and self._ceiling is not None and snapshot.state.n > self._ceiling:
            return False
        self._n = snapshot.state.n if is_ours else self._n
        event = snapshot.event
        if isinstance(event, Rewind):
            self._jump(event, snapshot)
            return False
        if data in self._snapshots:
            return False  # repeated after a failed sync
        self._snapshots.add(data)
        if isinstance(event, Compact):
            keep = self._places.find(event.keep, event.keep_n, snapshot)
            if keep is None:
                return False  # a boundary that is nowhere hides nothing
            snapshot = replace(snapshot, event=replace(event, keep=keep))
            self._floor = self._floor if self._compacted else keep
            self._compacted = True
        self.records.append(snapshot)
        self.complete = isinstance(event, Reset)
        return self.complete

    def _jump(self, event: Rewind, own: Snapshot) -> None:
        to = self._places.find(event.to, event.to_n, own)
        if to is None:
            return
        self._back.jump(to)
        if event.to_n >= 0:
            self._n = event.to_n
            # After a failed sync the lines taken back stand in the file twice, and `to` lies before the second copy only.
            self._ceiling = event.to_n if self._ceiling is None else min(self._ceiling, event.to_n)


def _is_summarised(state: State, n: int) -> bool:
    return state.version < FORMAT and 0 < state.last_consolidated <= n and _summary_of(state) != ""


def _summary_of(state: State) -> str:
    summary: Json = state.other.get("_last_summary")
    if isinstance(summary, dict):
        summary = summary.get("text")
    return summary if isinstance(summary, str) else ""
