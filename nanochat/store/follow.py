"""A session file told line by line as it grows.

Nobody tells us of an append, so the file is looked at, ten times a second while it changes. A line is told when its newline is
there, and read anew until then, because a torn one is mended in place. Knows one file, and where lines begin. Does not know
what a line means to anybody.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import TypeAlias

from aiofiles.threadpool import wrap
from aiofiles.threadpool.binary import AsyncFileIO

from nanochat.doors import Line
from nanochat.keys import SessionKey
from nanochat.records import MAX_LINE_BYTES, UnknownLine, Unreadable
from nanochat.store.disk import Disk, Identity, file_error, identity_of, modified_at
from nanochat.store.places import find_path, own_path
from nanochat.store.scan import Line as Piece
from nanochat.store.scan import Source, whole_end

__all__ = ["LOOK_S", "Follower", "follow", "line_of"]

# A look is one `stat`, 2 µs: ten a second are not to be seen in a process list, and a person takes them for at once.
LOOK_S = 0.1
# A single file that rests for a minute is looked at less often.
REST_S = 0.25
REST_AFTER_S = 60.0

# What is read at a time; a longer line is read whole, as long as it may be one.
BLOCK_BYTES = 256 * 1024
# From here on decoding takes milliseconds, which the loop has not.
_INLINE_BYTES = 32 * 1024

# The last bytes that were told, a line's time and number: should others stand in their place, the file was edited by hand.
_MARK_BYTES = 64

_Signature: TypeAlias = tuple[int, int, int]


class Follower:
    """One session's file, from byte `start`, or with None from its end as it is now.

    `is_behind` says that more can be read at once. Not safe to use concurrently.
    """

    def __init__(
        self, disk: Disk, sessions_dir: Path, key: SessionKey, start: int | None, path: str | None = None
    ) -> None:
        self.key = key
        self.is_behind = False
        self._disk = disk
        self._dir = sessions_dir
        self._own = str(own_path(sessions_dir, key))
        self._path = path or str(find_path(disk, sessions_dir, key))
        self._raw: io.FileIO | None = None
        self._file: AsyncFileIO | None = None
        self._seen: _Signature | None = None
        self._identity: Identity | None = None
        self._pos = start or 0
        self._mark: bytes | None = None if start else b""
        self._passed = 0  # of a line that is too long, what has been looked through
        self._block = BLOCK_BYTES
        self._end_at_first: int | None = None
        status = self._look() if start is None or start > 0 else None
        if status is None:
            self._pos, self._mark = 0, b""
        elif start is None:
            self._end_at_first = status.st_size
            self._identity = identity_of(status)
        elif start == status.st_size:  # nothing to read: thousands of such files need not be opened
            self._identity, self._seen = identity_of(status), _signature(status)

    @property
    def path(self) -> str:
        """Where the file is, or will be."""
        return self._path

    @property
    def is_held(self) -> bool:
        """Whether it takes up a descriptor."""
        return self._raw is not None

    @property
    def is_there(self) -> bool:
        """Whether there was a file when it was last looked at."""
        return self._seen is not None

    def has_changed(self) -> bool:
        """Whether there may be news: one `stat`.

        Raises:
            StoreError: it cannot be looked at.
        """
        return self.is_behind or _signature(self._look()) != self._seen

    async def news(self) -> list[Line]:
        """Some of what was appended since the last call, in order.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            return await self._news()
        except OSError as error:
            raise file_error(error, Path(self._path), self.key) from error

    def let_go(self) -> None:
        """Give the descriptor back; what is known of the file stays."""
        if self._raw is not None:
            self._raw.close()
        self._raw = self._file = None

    async def _news(self) -> list[Line]:
        status = self._look()
        if self._raw is not None and (status is None or identity_of(status) != self._identity):
            lines = await self._read()  # what was appended before it was put away
            if not self.is_behind:
                self._begin_anew()
                self.is_behind = status is not None
            return lines
        self._seen = _signature(status)
        self.is_behind = False
        if status is None:
            self._begin_anew()
            return []
        return await self._read() if self._open() else []

    def _look(self) -> os.stat_result | None:
        if self._path != self._own and os.path.lexists(self._own):
            self._path = self._own
        try:
            try:
                return os.stat(self._path, follow_symlinks=False)
            except FileNotFoundError:
                self._path = str(find_path(self._disk, self._dir, self.key))
                return os.stat(self._path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise file_error(error, Path(self._path), self.key) from error

    def _open(self) -> bool:
        if self._raw is None:
            try:
                fd = self._disk.open_safely(self._path, os.O_RDONLY, self.key)
            except FileNotFoundError:
                self._seen = None
                return False
            self._raw = io.FileIO(fd, "rb")
            self._file = wrap(self._raw)
            identity = identity_of(os.fstat(fd))
            if self._identity not in (None, identity):
                self._forget_place()
            self._identity = identity
        return True

    def _begin_anew(self) -> None:
        """Whatever is at the path now is another file."""
        self.let_go()
        self._identity = self._seen = None
        self._forget_place()

    def _forget_place(self) -> None:
        self._pos, self._mark, self._passed, self._end_at_first = 0, b"", 0, None

    # --- reading, of the file that is open ---------------------------------------------------------------------------

    async def _read(self) -> list[Line]:
        raw = self._raw
        assert raw is not None
        status = os.fstat(raw.fileno())
        source = Source(self._disk, raw.fileno(), self.key, modified_at(status))
        if self._end_at_first is not None and self._end_at_first <= status.st_size:
            self._pos = await asyncio.to_thread(whole_end, source, self._end_at_first)
            self._mark = None if self._pos else b""
        self._end_at_first = None
        if status.st_size < max(self._pos, self._passed):
            self._forget_place()
        if self._passed:
            return await self._pass_over(status.st_size)
        begin = max(0, self._pos - _MARK_BYTES) if self._mark is None else self._pos - len(self._mark)
        data = await self._at(begin, self._pos - begin + self._block)
        told, body = data[: self._pos - begin], data[self._pos - begin :]
        if not self._is_as_told(told):
            self._forget_place()
            self.is_behind = True
            return []
        return await self._take(told, body, source, status.st_size)

    def _is_as_told(self, told: bytes) -> bool:
        if self._mark is None or told == self._mark:
            return True
        # A writer that ran out of space blanks what it had written of its lines, and writes them again later.
        return len(told) == len(self._mark) and all(
            now == was or now in b" \n" for now, was in zip(told, self._mark, strict=True)
        )

    async def _take(self, told: bytes, body: bytes, source: Source, size: int) -> list[Line]:
        reached = self._pos + len(body)
        self.is_behind = bool(body) and reached < size
        end = body.rfind(b"\n") + 1
        if end == 0:
            self._mark = told if self._mark is not None else None
            if self.is_behind and len(body) > MAX_LINE_BYTES:
                self._passed = reached
            elif self.is_behind:
                self._block = min(self._block * 4, MAX_LINE_BYTES + 1)
            return []
        is_inside = self._mark is None and told[-1:] != b"\n" and self._pos > 0
        first = body.find(b"\n") + 1 if is_inside else 0
        begin, whole = self._pos + first, body[first:end]
        self._block = BLOCK_BYTES
        self._mark = (told + body[:end])[-_MARK_BYTES:]
        self._pos += end
        if len(whole) <= _INLINE_BYTES:
            return list(_lines(source, begin, whole))
        return await asyncio.to_thread(lambda: list(_lines(source, begin, whole)))

    async def _pass_over(self, size: int) -> list[Line]:
        """Look for the end of a line that is too long; it is told as an empty one."""
        block = await self._at(self._passed, BLOCK_BYTES)
        newline = block.find(b"\n")
        if newline < 0:
            self._passed += len(block)
            self.is_behind = bool(block) and self._passed < size
            return []
        line = Line(self.key, "", None, self._pos, self._passed + newline + 1)
        self._pos, self._mark, self._passed, self._block = line.end, None, 0, BLOCK_BYTES
        self.is_behind = True
        return [line]

    async def _at(self, start: int, count: int) -> bytes:
        assert self._file is not None
        await self._file.seek(start)
        return bytes(await self._file.read(count))


def _signature(status: os.stat_result | None) -> _Signature | None:
    return (status.st_ino, status.st_size, status.st_mtime_ns) if status is not None else None


def _lines(source: Source, start: int, data: bytes) -> Iterator[Line]:
    """The lines of `data`, which ends with a newline; blank ones are what mending leaves, and no lines."""
    for piece in data.split(b"\n")[:-1]:
        end = start + len(piece) + 1
        if piece and not piece.isspace():
            yield line_of(source, Piece(start, end, piece + b"\n" if end - start <= MAX_LINE_BYTES else None))
        start = end


def line_of(source: Source, piece: Piece) -> Line:
    """A line as followers are told it."""
    record = source.record(piece)
    text = "" if piece.data is None else piece.data[:-1].decode(errors="replace")
    known = None if isinstance(record, Unreadable | UnknownLine) else record
    return Line(source.key, text, known, piece.start, piece.end)


async def follow(follower: Follower) -> AsyncGenerator[Line, None]:
    """See `doors.Follow`. Blank lines are left out; one that is longer than a line may be has an empty text.

    Raises:
        StoreError: the file cannot be read.
    """
    rests_from = time.monotonic() + REST_AFTER_S
    try:
        lines = await follower.news()  # from now on it is held open, and what is put away is still read to its end
        while True:
            for line in lines:
                yield line
            now = time.monotonic()
            if lines:
                rests_from = now + REST_AFTER_S
            if not follower.is_behind:
                await asyncio.sleep(REST_S if now > rests_from else LOOK_S)
            lines = await follower.news() if follower.has_changed() else []
    finally:
        follower.let_go()
