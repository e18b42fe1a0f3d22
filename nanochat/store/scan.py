"""Lines of an open session file, backwards from a place or forwards to one, in bounded memory.

Reads with `pread` only: a map of the file would kill the process should another program cut it. Knows where lines begin and end,
and that one over `MAX_LINE_BYTES` is never held in memory. Does not know what follows from a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from nanochat.keys import SessionKey
from nanochat.lines import decode
from nanochat.records import MAX_LINE_BYTES, Record, Snapshot, UnknownLine, Unreadable
from nanochat.store.disk import Disk

__all__ = ["Backwards", "Line", "Source", "forwards", "line_at", "whole_end"]

# A turn or two fits in the first block; the growth keeps the calls few where much is read.
FIRST_BLOCK_BYTES = 64 * 1024
MAX_BLOCK_BYTES = 256 * 1024


class Line(NamedTuple):
    """The bytes `start` to `end` of a file, newline included; `data` is None where they are more than a line may be.

    A tuple, since one is made for every line that is read, and a frozen dataclass takes three times as long.
    """

    start: int
    end: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is open for reading. `known_at`, its last change, stands in for stamps that lines do not have."""

    disk: Disk
    fd: int
    key: SessionKey
    known_at: datetime

    def record(self, line: Line) -> Record | UnknownLine | Unreadable | None:
        """What a line holds. A snapshot of another session, brought along by a careless `cat`, is nothing of ours."""
        if line.data is None:
            return Unreadable(line.start, line.end, "is longer than a line may be")
        record = decode(line.data, line.start, known_at=self.known_at)
        if isinstance(record, Snapshot) and record.state.key not in ("", str(self.key)):
            return UnknownLine(line.start, line.end)
        return record

    def begins_line(self, at: int) -> bool:
        """Whether byte `at` is where a line begins, or would begin."""
        return at == 0 or self.disk.pread(self.fd, 1, at - 1) == b"\n"


class Backwards:
    """Gives the lines before byte `end`, newest first. `end` is 0 or one past a newline."""

    def __init__(self, source: Source, end: int, *, block_bytes: int = FIRST_BLOCK_BYTES) -> None:
        self._source = source
        self._end = end
        self._buffer = b""
        self._base = end  # the buffer holds the bytes from here on
        self._block = block_bytes

    def previous(self) -> Line | None:
        """The next older line, or None at the file's beginning."""
        end = self._end
        if end <= 0:
            return None
        whole = True
        # Where no newline was found the bytes have been looked at; only the newly read ones are searched.
        upto = end - 1 - self._base
        while (newline := self._buffer.rfind(b"\n", 0, max(0, upto))) < 0 and self._base > 0:
            if end - self._base > MAX_LINE_BYTES:
                whole, self._buffer = False, b""
            upto = min(self._extend(), end - 1 - self._base)
        start = self._base + newline + 1
        self._end = start
        if not whole or end - start > MAX_LINE_BYTES:
            return Line(start, end, None)
        return Line(start, end, self._buffer[start - self._base : end - self._base])

    def jump(self, to: int) -> None:
        """Go on with the line that ends at byte `to`, which lies before."""
        if to < self._base:
            self._buffer, self._base, self._block = b"", to, FIRST_BLOCK_BYTES
        self._end = to

    def _extend(self) -> int:
        """Read the block before the buffer; returns how many bytes it has."""
        self._buffer = self._buffer[: self._end - self._base]
        start = max(0, self._base - self._block)
        block = _read_fully(self._source, start, self._base)
        self._buffer, self._base = block + self._buffer, start
        self._block = min(self._block * 2, MAX_BLOCK_BYTES)
        return len(block)


def forwards(source: Source, start: int, end: int) -> Iterator[Line]:
    """The whole lines from byte `start`, oldest first; what follows the last newline before `end` is no line yet."""
    begin = pos = start
    parts: list[bytes] = []
    block_bytes = FIRST_BLOCK_BYTES
    while pos < end and (block := source.disk.pread(source.fd, min(block_bytes, end - pos), pos)):
        at, pos = pos, pos + len(block)
        block_bytes = min(block_bytes * 2, MAX_BLOCK_BYTES)
        *ended, rest = block.split(b"\n")
        for piece in ended:
            at += len(piece) + 1
            parts += piece, b"\n"
            yield Line(begin, at, b"".join(parts) if at - begin <= MAX_LINE_BYTES else None)
            begin, parts = at, []
        parts.append(rest)
        if pos - begin > MAX_LINE_BYTES:
            parts = []


def line_at(source: Source, start: int, end: int) -> Line | None:
    """The line that begins at byte `start`; None where it does not end before `end`, or is too long."""
    return next(forwards(source, start, min(end, start + MAX_LINE_BYTES)), None)


def whole_end(source: Source, size: int) -> int:
    """One past the last newline of the first `size` bytes: what follows is a line that is still being written, or was torn."""
    pos, block_bytes = size, 1
    while pos > 0:
        start = max(0, pos - block_bytes)
        newline = source.disk.pread(source.fd, pos - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        pos, block_bytes = start, MAX_BLOCK_BYTES if block_bytes > 1 else FIRST_BLOCK_BYTES
    return 0


def _read_fully(source: Source, start: int, end: int) -> bytes:
    data = source.disk.pread(source.fd, end - start, start)
    while len(data) < end - start:
        more = source.disk.pread(source.fd, end - start - len(data), start + len(data))
        if not more:
            return data + bytes(end - start - len(data))  # cut under us: NULs are no line, and offsets stay true
        data += more
    return data
