"""One session file, open for appending.

Every append happens under `flock` on the file, behind whatever others appended, with one `O_APPEND` write; so any number of
processes write one file. Knows locking, the tail, what a failed write or sync leaves behind and how to go on from there. Does not
know threads: whoever calls sees to it that one thread at a time does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from nanochat.errors import DurabilityUnknown, NewerFormat, NotWritten
from nanochat.keys import SessionKey
from nanochat.ports import Appended
from nanochat.records import FORMAT, Event, Message, Record, Snapshot
from nanochat.store.disk import Disk, Identity, identity_of, make_dir, modified_at, open_dir, refusal, sync_dir
from nanochat.store.refs import settle
from nanochat.store.repair import blank, mend
from nanochat.store.scan import Source, whole_end
from nanochat.store.tail import Tail, advance, compose, find_tail, numbered, records_between
from nanochat.store.view import read_header

__all__ = ["MAX_CHANGES_BYTES", "Request", "SessionFile", "Written"]

# What others appended is handed over in memory; where it is more, reading the window anew costs less.
MAX_CHANGES_BYTES = 64 * 1024 * 1024

# The block size of ext4, XFS and APFS, and a page of memory: a failed write-out loses whole ones.
_BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Request:
    """An append as it was asked for; `identity` is the file that `known` was an end of, where that is known."""

    drafts: Sequence[Message | Event]
    known: int
    identity: Identity | None
    durable: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class Written:
    """An append as it was done, and in which file."""

    appended: Appended
    identity: Identity
    path: Path


class SessionFile:
    """The file of `key`, wherever `find` says it is."""

    def __init__(self, disk: Disk, key: SessionKey, find: Callable[[SessionKey], Path]) -> None:
        self._disk = disk
        self._key = key
        self._find = find
        self._path = Path()
        self._fd = -1
        self._source = Source(disk, -1, key, datetime.min)
        self._tail: Tail | None = None
        self._end = 0
        self._synced_end = 0
        self._doubtful = b""
        self._doubtful_end = 0
        self._identity: Identity = (0, 0)

    @property
    def path(self) -> Path:
        """Where it was last found."""
        return self._path

    @property
    def is_open(self) -> bool:
        """Whether it takes up a descriptor."""
        return self._fd >= 0

    @property
    def is_doubtful(self) -> bool:
        """Whether lines are to be written again, which only this object remembers."""
        return bool(self._doubtful)

    # --- the lock ----------------------------------------------------------------------------------------------------

    def lock(self, *, wait: bool) -> bool:
        """Open the file that has the name now and lock it; False where somebody else has it locked and `wait` is not said.

        Raises:
            OSError: it cannot be opened or made.
            WrongFile: it is no file.
        """
        while True:
            if self._fd < 0:
                self._open()
            try:
                self._disk.flock(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                return False
            if self._has_its_name():
                return True
            self.close()

    def unlock(self) -> None:
        """Let others append."""
        self._disk.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let the descriptor go, and all that is remembered of the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._tail, self._doubtful = -1, None, b""

    def _open(self) -> None:
        self._path = self._find(self._key)
        make_dir(self._disk, self._path.parent)
        with open_dir(self._path.parent) as directory:
            self._fd, _ = self._disk.open_or_make(self._path, os.O_RDWR | os.O_APPEND, self._key)
            status = os.fstat(self._fd)
            if status.st_size == 0:  # new: its name must be on the device before anything that is acknowledged
                try:
                    sync_dir(self._disk, directory)
                except OSError:
                    self.close()
                    raise
        self._identity = identity_of(status)
        self._source = Source(self._disk, self._fd, self._key, modified_at(status))
        self._synced_end = status.st_size  # what was there before is not ours to doubt

    def _has_its_name(self) -> bool:
        try:
            return identity_of(os.stat(self._path, follow_symlinks=False)) == self._identity
        except FileNotFoundError:
            return False

    # --- appending, under the lock -----------------------------------------------------------------------------------

    def append(self, request: Request) -> Written:
        """Write the drafts behind all that is there. Needs the lock.

        Raises:
            NotWritten: nothing of them is in the file.
            DurabilityUnknown: they may be in it.
            NewerFormat, WrongFile: the file is not ours to write.
        """
        try:
            tail = self._catch_up()
            lines = compose(request.drafts, tail, self._key, request.now)
            others, is_stale = self._others(request, tail)
        except OSError as error:
            self._tail = None
            raise refusal(error, self._path, self._key) from error
        self._write(lines.data, tail)
        self._tail, self._end = lines.tail, lines.tail.end
        appended = Appended(lines.records, others, lines.state, lines.tail.end, is_stale)
        return Written(appended, self._identity, self._path)

    def _catch_up(self) -> Tail:
        size = os.fstat(self._fd).st_size
        tail = self._tail
        if tail is None or size != tail.end:
            tail = self._look(size, tail)
        if self._doubtful:
            tail = self._write_again(tail)
        self._tail = tail
        return tail

    def _look(self, size: int, known: Tail | None) -> Tail:
        """The tail as it is now, the file's end mended where it needs that."""
        end = whole_end(self._source, size)
        is_longer = known is not None and known.end <= end and self._source.begins_line(known.end)
        if known is not None and is_longer and end - known.end <= MAX_CHANGES_BYTES:
            tail = advance(known, records_between(self._source, known.end, end), end)
        else:
            self._synced_end = min(self._synced_end, end)
            self._doubtful = self._doubtful if self._doubtful_end <= end else b""  # somebody emptied the file
            self._refuse_newer(read_header(self._source, end, str(self._path)))
            tail = find_tail(self._source, end)
            if tail.state is not None:
                tail = replace(tail, state=settle(self._source, end, tail.state).state)
        self._refuse_newer(tail)
        if end < size:
            size = mend(self._source, self._path, end, size)
            tail = advance(tail, records_between(self._source, end, size), size)
        return tail

    def _refuse_newer(self, known: Snapshot | Tail | None) -> None:
        if known is not None and known.state is not None and known.state.version > FORMAT:
            raise NewerFormat(
                f"session {self._key} was written by a newer nanochat (format {known.state.version}): it can be read only",
                key=str(self._key),
                path=str(self._path),
            )

    def _others(self, request: Request, tail: Tail) -> tuple[tuple[Record, ...], bool]:
        """What stands between the known end and the tail, and whether the caller knows another file than this one."""
        known, end = request.known, tail.end
        if known == end and request.identity in (None, self._identity):
            return (), False
        is_other = known > 0 and request.identity not in (None, self._identity)
        if is_other or known > end or end - known > MAX_CHANGES_BYTES or not self._source.begins_line(known):
            return (), True
        return numbered(records_between(self._source, known, end), tail.n), False

    def _write(self, data: bytes, tail: Tail) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._disk.write(self._fd, rest) :]
        except OSError as error:
            self._take_back(tail, len(data) - len(rest))
            raise refusal(error, self._path, self._key) from error

    def _take_back(self, tail: Tail, written: int) -> None:
        """Blank the part of our lines that did reach the file. A device that has no room for more still takes these."""
        if not written:
            return
        self._tail = None
        try:
            blank(self._disk, self._fd, self._path, tail.end, tail.end + written, closing=b"\n")
        except OSError as error:
            raise self._unknown(error) from error
        self._tail = replace(tail, end=tail.end + written)

    # --- durability --------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Have all lines on the device that were appended here, and those before them. Does not need the lock.

        Raises:
            DurabilityUnknown: the device failed; the next append will write them once more.
        """
        try:
            self._disk.fdatasync(self._fd)
        except OSError as error:
            self._doubt(self._end)
            raise self._unknown(error) from error
        self._synced_end = self._end

    def _unknown(self, error: OSError) -> DurabilityUnknown:
        return DurabilityUnknown(
            f"session {self._key}: the device failed ({error.strerror}): what was just written may be lost; check the disk",
            key=str(self._key),
            path=str(self._path),
        )

    def _doubt(self, end: int) -> None:
        """Remember the lines since the last good sync. The kernel forgets that they are unwritten, and so the next sync would
        say all is well without them; their pages may go at any time."""
        start = self._doubtful_end if self._doubtful else self._synced_end
        try:
            self._doubtful += self._disk.pread(self._fd, end - start, start)
        except OSError:
            self._doubtful += (
                b"\n"  # not even to be read: nothing can be repeated, but a fresh block is begun all the same
            )
        self._doubtful_end = end

    def _write_again(self, tail: Tail) -> Tail:
        """Repeat the doubtful lines in fresh blocks, and believe the device only once it gives them back.

        The same `_n` makes the repetition count instead of the first writing. The block that failed is left: an ext4 without a
        journal can keep it marked as never written, and give NULs for it later, whatever is put into it.
        """
        if tail.end > self._doubtful_end:
            self._doubt(tail.end)  # lines of others on the same device, in their order
        to_block = -tail.end % _BLOCK_BYTES
        pad = b" " * (to_block - 1) + b"\n" if to_block else b""
        data = pad + b"\n" + self._doubtful  # should the pad be lost, the newline still parts its NULs from our lines
        end = tail.end + len(data)
        self._write(data, tail)
        self._doubtful_end = end
        self._tail = replace(tail, end=end)
        self._disk.fdatasync(self._fd)
        self._disk.forget(self._fd)
        if self._disk.pread(self._fd, len(data), tail.end) != data:
            raise NotWritten(
                f"session {self._key}: the device does not keep what is written; nothing more was written; check the disk",
                key=str(self._key),
                path=str(self._path),
            )
        self._doubtful, self._synced_end = b"", end
        return self._tail
