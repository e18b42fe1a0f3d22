"""What the turns of a session file took: its turn and compact records, found without decoding its messages.

A file is mostly messages, and they are passed over in large reads by what their bytes lack. Undone turns are found too: what they
took was taken. Knows how a snapshot can be told from its bytes, and what of one is needed to count it. Does not know how it is
counted, nor how it is shown.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from nanochat.doors import TurnPoint
from nanochat.keys import SessionKey
from nanochat.records import MAX_LINE_BYTES, Compact, Snapshot, TurnEnd, Usage
from nanochat.store.disk import Disk, file_error, modified_at, opened
from nanochat.store.scan import Backwards, Line, Source, whole_end
from nanochat.usage import SUMMARY, origin_of, point

__all__ = ["ends", "newest_ends", "points", "points_of"]

# Large enough that the search of a block outweighs the call for it, small beside one line at its longest.
BLOCK_BYTES = 1024 * 1024

# Every snapshot has this, however its fields are ordered or spaced; inside a text, backslashes would stand before its quotes.
_MARK = b'"metadata"'

# Unless its letters are written as escapes, as no writer does and JSON allows.
_HIDDEN = re.compile(rb"\\u00[67]")


def ends(source: Source, size: int, *, block_bytes: int = BLOCK_BYTES) -> Iterator[Snapshot]:
    """The records of all turns and compactions in the first `size` bytes, oldest first, in bounded memory."""
    known: set[int] = set()
    for line in _candidates(source, size, block_bytes):
        end = _end(source, line)
        if end is not None and _is_new(line, known):
            yield end


def newest_ends(source: Source, size: int, most: int) -> tuple[Snapshot, ...]:
    """The newest `most` of them, oldest first, read backwards and no further than they reach."""
    found: deque[Snapshot] = deque()
    known: set[int] = set()
    lines = Backwards(source, whole_end(source, size))
    while len(found) < most and (line := lines.previous()) is not None:
        if line.data is None or not _may_be_snapshot(line.data):
            continue
        end = _end(source, line)
        if end is not None and _is_new(line, known):
            found.appendleft(end)
    return tuple(found)


# --- points ----------------------------------------------------------------------------------------------------------


def points_of(path: Path, key: SessionKey, *, disk: Disk | None = None) -> Iterator[TurnPoint]:
    """What each turn and each compaction of a session's file took, oldest first; the file is open meanwhile.

    Raises:
        StoreError: it cannot be read.
    """
    disk = disk or Disk()
    try:
        with opened(disk, path, os.O_RDONLY, key) as fd:
            status = os.fstat(fd)
            yield from points(Source(disk, fd, key, modified_at(status)), status.st_size)
    except OSError as error:
        raise file_error(error, path, key) from error


def points(source: Source, size: int, *, block_bytes: int = BLOCK_BYTES) -> Iterator[TurnPoint]:
    """The points of `ends`, at a quarter of the price: a record as we write it is read without its state."""
    key = str(source.key)
    known: set[int] = set()
    for line in _candidates(source, size, block_bytes):
        found = _glance(line.data or b"", key)
        if found is False:
            end = _end(source, line)
            found = point(end) if end is not None else None
        if found is not None and _is_new(line, known):
            yield found


class _Tokens(msgspec.Struct, gc=False):
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0


class _End(msgspec.Struct, gc=False):
    """Of a turn or compact record what is counted. A value of another type is an error, and left to the patient reader."""

    kind: str = msgspec.field(name="_type", default="")
    key: str = ""
    updated_at: str = ""
    op: str = ""
    source_id: str = ""
    model: str = ""
    by: str = ""
    usage: _Tokens = msgspec.field(default_factory=_Tokens)
    cost_usd: float | None = None
    seconds: float = 0.0
    origin: str = ""


_ENDS = msgspec.json.Decoder(_End)


def _glance(line: bytes, key: str) -> TurnPoint | Literal[False] | None:
    """The point of a record, if the line has one; False where it has to be decoded to tell.

    What `lines.decode` and `usage.point` make of the line is said, and nothing else: a test holds them together.
    """
    if not line.isascii():  # what is skipped is not looked at for broken UTF-8
        return False
    try:
        end = _ENDS.decode(line)
        at = datetime.fromisoformat(end.updated_at)
    except (ValueError, RecursionError):
        return False
    if at.tzinfo is not UTC:
        return False
    if end.kind != "metadata" or end.key not in ("", key):
        return None
    tokens = end.usage
    usage = Usage(tokens.input, tokens.cache_read, tokens.cache_write, tokens.cache_write_1h, tokens.output)
    if end.op == "turn":
        origin = origin_of(end.origin, end.source_id, end.key)
        return TurnPoint(at, "turn", end.model, origin, usage, end.cost_usd, end.seconds)
    if end.op == "compact" and (usage != Usage() or end.cost_usd):
        return TurnPoint(at, "compact", end.by, SUMMARY, usage, end.cost_usd)
    return None


# --- lines -----------------------------------------------------------------------------------------------------------


def _end(source: Source, line: Line) -> Snapshot | None:
    record = source.record(line)
    return record if isinstance(record, Snapshot) and isinstance(record.event, TurnEnd | Compact) else None


def _is_new(line: Line, known: set[int]) -> bool:
    """Whether the line is none that was met before: after a failed sync lines are written once more. Its hash is remembered, not
    the line, of which there may be a million."""
    digest = hash(line.data)
    if digest in known:
        return False
    known.add(digest)
    return True


def _may_be_snapshot(line: bytes) -> bool:
    return _MARK in line or _HIDDEN.search(line) is not None


def _candidates(source: Source, size: int, block_bytes: int) -> Iterator[Line]:
    """Every line that can be a snapshot, and few others."""
    for start, data in _blocks(source, size, block_bytes):
        for begin, end in _places(data):
            if end - begin <= MAX_LINE_BYTES:
                yield Line(start + begin, start + end, data[begin:end])


def _blocks(source: Source, size: int, block_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines, many at once, and where the first begins; a line that is longer than one may be is left out where it would
    have to be held."""
    pos = start = 0
    rest, is_lost = b"", False
    while pos < size and (block := source.disk.pread(source.fd, min(block_bytes, size - pos), pos)):
        pos += len(block)
        cut = block.rfind(b"\n") + 1
        if cut == 0:
            rest = b"" if is_lost else rest + block
            is_lost = is_lost or len(rest) > MAX_LINE_BYTES
            continue
        begin = block.find(b"\n") + 1 if is_lost else 0
        if is_lost:
            start, rest = pos - len(block) + begin, b""
        yield start, rest + block[begin:cut]
        start, rest, is_lost = pos - len(block) + cut, block[cut:], False


def _places(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the lines that can be snapshots begin and end."""
    if _HIDDEN.search(data) is not None:
        yield from _places_one_by_one(data)
        return
    end = 0
    while (at := data.find(_MARK, end)) >= 0:
        begin = data.rfind(b"\n", end, at) + 1 or end
        end = data.find(b"\n", at) + 1
        yield begin, end


def _places_one_by_one(data: bytes) -> Iterator[tuple[int, int]]:
    begin = 0
    while (end := data.find(b"\n", begin) + 1) > 0:
        if _may_be_snapshot(data[begin:end]):
            yield begin, end
        begin = end
