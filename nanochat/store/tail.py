"""What an append must know of a file: where it ends, how many messages it holds, and its state; and what the append writes.

Knows how records follow each other. Does not know locks or descriptors' lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from nanochat.errors import NotWritten
from nanochat.keys import SessionKey
from nanochat.lines import encode
from nanochat.records import FORMAT, MAX_LINE_BYTES, Event, Message, Opened, Record, Snapshot, State, after
from nanochat.store.scan import Backwards, Source, forwards, line_at

__all__ = ["Lines", "Tail", "advance", "compose", "find_tail", "numbered", "records_between"]

# A snapshot is repeated before more than this stands behind it, so that opening a file never reads far.
_SNAPSHOT_EVERY_BYTES = 512 * 1024

# Farther back no snapshot of ours can be the newest one; a file without any so near was made by others, and has its header.
_SEARCH_BYTES = 1024 * 1024

# So many of the newest lines are read in full for their numbers; beyond them only the newest snapshot is looked for. After a
# failed sync lines are repeated, and the greatest number may stand before the last line.
_NUMBERED_LINES = 256

_SNAPSHOT_HINT = b'"_type"'


@dataclass(frozen=True, slots=True)
class Tail:
    """The first `end` bytes of a file: `n` message lines so far, the newest snapshot's state, if there is one, and its end."""

    end: int = 0
    n: int = 0
    state: State | None = None
    state_end: int = 0


@dataclass(frozen=True, slots=True)
class Lines:
    """What one append writes: the bytes, a record for each draft, and the tail once they are written."""

    data: bytes
    records: tuple[Record, ...]
    tail: Tail
    state: State


def find_tail(source: Source, end: int) -> Tail:
    """The tail of the first `end` bytes, read backwards to the newest snapshot, or taken from the header where none is near.

    A snapshot of ours carries the count; a file that nanobot wrote has none and is counted through.
    """
    back = Backwards(source, end)
    newest: Snapshot | None = None
    n, uncounted, seen, counted = 0, 0, 0, False
    while (newest is None or not counted) and (line := back.previous()) is not None:
        seen += 1
        if counted and end - line.end > _SEARCH_BYTES:
            line = line_at(source, 0, end) or line
            back.jump(0)
        if line.data is None or (counted and seen > _NUMBERED_LINES and _SNAPSHOT_HINT not in line.data):
            continue
        match source.record(line):
            case Message(n=-1):
                uncounted += not counted
            case Message() as message:
                n = max(n, message.n + 1 + (0 if counted else uncounted))
                counted = True
            case Snapshot() as snapshot:
                newest = newest or snapshot
                if snapshot.state.version >= FORMAT:
                    n = max(n, snapshot.state.n + (0 if counted else uncounted))
                    counted = True
    n = n if counted else uncounted
    return Tail(end, n, newest.state, newest.end) if newest else Tail(end, n)


def advance(tail: Tail, records: Iterable[Record], end: int) -> Tail:
    """The tail after lines that others appended."""
    for record in records:
        if isinstance(record, Message):
            tail = replace(tail, n=max(tail.n, record.n + 1) if record.n >= 0 else tail.n + 1)
        else:
            tail = Tail(end, max(tail.n, record.state.n), record.state, record.end)
    return replace(tail, end=end)


def records_between(source: Source, start: int, end: int) -> tuple[Record, ...]:
    """The records of whole lines in a part of a file; of messages with the same `_n` only the later one."""
    records: dict[object, Record] = {}
    for line in forwards(source, start, end):
        record = source.record(line)
        if isinstance(record, Message):
            name: object = record.n if record.n >= 0 else (record.start,)
            records.pop(name, None)
            records[name] = record
        elif isinstance(record, Snapshot):
            records[record.start,] = record
    return tuple(records.values())


def numbered(records: Sequence[Record], n: int) -> tuple[Record, ...]:
    """The same records, with numbers for messages that have none; `n` messages stand in the file up to the last of them."""
    result: list[Record] = []
    for record in reversed(records):
        if isinstance(record, Message):
            n = record.n if record.n >= 0 else max(0, n - 1)
            result.append(replace(record, n=n) if record.n < 0 else record)
        else:
            n = record.state.n if record.state.version >= FORMAT else n
            result.append(record)
    return tuple(reversed(result))


def compose(drafts: Sequence[Message | Event], tail: Tail, key: SessionKey, now: datetime) -> Lines:
    """The lines of an append behind `tail`, after a header where the file has none.

    Raises:
        NotWritten: a draft has no form in JSON, or one too long.
    """
    at, n, state_end = tail.end, tail.n, tail.state_end
    lines: list[bytes] = []
    records: list[Record] = []
    if tail.state is None:
        state = State(key=str(key), created_at=now, updated_at=now, n=n)
        lines.append(encode(Snapshot(state, Opened())))
        at = state_end = at + len(lines[0])
    else:
        state = tail.state
        if state.key != str(key) or state.version != FORMAT:
            state = replace(state, key=str(key), version=FORMAT)
    for draft in drafts:
        record: Record
        if isinstance(draft, Message):
            record = replace(draft, n=n, start=at, end=-1)
            n += 1
        else:
            state = after(replace(state, n=n), draft, at, now)
            record = Snapshot(state, draft, at)
        lines.append(_encoded(record, key))
        at += len(lines[-1])
        state_end = state_end if isinstance(draft, Message) else at
        records.append(replace(record, end=at))
    state = replace(state, n=n, updated_at=max(state.updated_at, now))
    if at - state_end > _SNAPSHOT_EVERY_BYTES:
        lines.append(encode(Snapshot(state, Opened())))
        at = state_end = at + len(lines[-1])
    return Lines(b"".join(lines), tuple(records), Tail(at, n, state, state_end), state)


def _encoded(record: Record, key: SessionKey) -> bytes:
    what = "message" if isinstance(record, Message) else "record"
    try:
        line = encode(record)
    except ValueError as error:
        raise NotWritten(f"session {key}: {what} cannot be written: {error}", key=str(key)) from error
    if len(line) > MAX_LINE_BYTES:
        size, limit = len(line) / 1e6, MAX_LINE_BYTES // 1024**2
        raise NotWritten(
            f"session {key}: {what} of {size:.1f} MB is longer than a line may be ({limit} MiB)", key=str(key)
        )
    return line
