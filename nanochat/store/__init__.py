"""The session files: one JSONL file per conversation, appended in place, read backwards from its end.

    sessions/telegram+12345.jsonl   a conversation          sessions/telegram+12345.torn    what could not be read of its end
    leases/telegram+12345           who is in a turn of it  blobs/<sha256>                  pictures and documents
    archive/                        session files that were put away, and their receipts

`FileStore` keeps the promises of `ports.SessionStore`. What is under it, lower ones first: `disk` (system calls), `names`,
`scan` (lines), `refs`, `tail` and `view` (what lines mean), `repair`, `file` (one open file), `writer` (threads); beside them
`leases`, `blobs`, `listing`, `inventory`, `ends`, `annals`, `last_lines`, `follow` and `follow_all`, `moving`, `check`; and
`placing`, for files that come from elsewhere. Knows files. Does not know what a turn is, nor what is sent to a model.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

from nanochat.doors import Line
from nanochat.errors import StoreError, UnknownSession
from nanochat.keys import SessionKey
from nanochat.ports import Appended, Brief, Changes, View
from nanochat.records import Event, Message, Record, Snapshot
from nanochat.store.annals import Fate, annals
from nanochat.store.blobs import Blobs
from nanochat.store.check import Damage, check
from nanochat.store.disk import Disk, Identity, dir_error, file_error, identity_of, modified_at, opened
from nanochat.store.ends import ends, newest_ends
from nanochat.store.file import MAX_CHANGES_BYTES, Request, SessionFile
from nanochat.store.follow import Follower, follow
from nanochat.store.follow_all import follow_all
from nanochat.store.last_lines import LastLines, last_lines
from nanochat.store.leases import Leases
from nanochat.store.listing import glance, list_sessions
from nanochat.store.moving import Archived, archive, remove
from nanochat.store.places import find_path
from nanochat.store.scan import Source, forwards, whole_end
from nanochat.store.tail import find_tail, numbered, records_between
from nanochat.store.view import Window, read_view
from nanochat.store.writer import Writer

__all__ = ["Archived", "Damage", "Disk", "Fate", "FileStore", "LastLines", "Patience", "check"]

# Sessions whose place and identity are remembered: a few words each, more than a busy daemon ever has at once.
MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is remembered of a session's file: where it is, which file it was when last read or written, and a size at which its
    end was an unfinished line."""

    path: Path
    identity: Identity | None = None
    unfinished: int = -1


@dataclass(frozen=True, slots=True)
class Patience:
    """How long others are waited for: until one who waits for a lease is told who holds it, and for appends under way when the
    store is closed."""

    tell_s: float = 5.0
    close_s: float = 5.0


class FileStore:
    """All session files of `sessions_dir`; `leases/` and `blobs/` lie beside it. Safe to use concurrently, also from several
    processes. Nothing is on the disk before the first write.

    `max_open` bounds the descriptors kept for appending. `durability`: `turn` syncs where it is asked for, `always` every append,
    `off` none (what is acknowledged then survives our death, not the machine's). `process` is what others are told of us while
    we hold a lease.
    """

    def __init__(
        self,
        sessions_dir: Path,
        *,
        max_open: int = 64,
        durability: Literal["turn", "always", "off"] = "turn",
        process: str = "nanochat",
        patience: Patience | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._dir = sessions_dir
        self._disk = disk or Disk()
        self._durability = durability
        self._seen: OrderedDict[SessionKey, _Seen] = OrderedDict()
        patience = patience or Patience()
        self._writer = Writer(self._file, max_open, patience.close_s)
        self._leases = Leases(sessions_dir.parent / "leases", self._disk, process, patience.tell_s)
        self._blobs = Blobs(sessions_dir.parent / "blobs", self._disk)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, key: SessionKey, *, exchanges: int, limit_bytes: int, upto: int | None = None) -> View | None:
        """See `ports.SessionStore.read`."""
        found = await asyncio.to_thread(self._read, key, Window(exchanges, limit_bytes), upto)
        if found is None:
            return None
        view, seen = found
        self._remember(key, seen)
        return view

    def _read(self, key: SessionKey, window: Window, upto: int | None) -> tuple[View, _Seen] | None:
        path = self._find(key)
        try:
            with self._opened(key, path) as (source, status):
                size = status.st_size if upto is None else min(upto, status.st_size)
                end = whole_end(source, size)
                if end == 0:
                    return None
                return read_view(source, end, window, str(path)), _Seen(path, identity_of(status))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error(error, path, key) from error

    async def catch_up(self, key: SessionKey, known: int) -> Changes:
        """See `ports.SessionStore.catch_up`. Looks at the file in place and goes to a thread only for news."""
        seen = self._seen.get(key) or self._remember(key, _Seen(await asyncio.to_thread(self._find, key)))
        try:
            status = os.stat(seen.path, follow_symlinks=False)
        except FileNotFoundError:
            if seen.identity is not None:  # what begins anew may begin elsewhere: nanobot's file is no more
                self._seen.pop(key, None)
            return Changes((), 0, replaced=known > 0)
        except OSError as error:
            raise file_error(error, seen.path, key) from error
        size, identity = status.st_size, identity_of(status)
        is_other = known > 0 and seen.identity not in (None, identity)
        if is_other or size < known or size - known > MAX_CHANGES_BYTES:
            return Changes((), known, replaced=True)
        if size in (known, seen.unfinished):
            return Changes((), known)
        changes = await asyncio.to_thread(self._changes, key, seen.path, known)
        if not changes.replaced:
            self._remember(key, _Seen(seen.path, identity, size if changes.end < size else -1))
        return changes

    def _changes(self, key: SessionKey, path: Path, known: int) -> Changes:
        try:
            with self._opened(key, path) as (source, status):
                end = whole_end(source, status.st_size)
                if end < known:
                    return Changes((), known, replaced=status.st_size < known)
                begin = known if source.begins_line(known) else next(forwards(source, known, end)).end
                records = records_between(source, begin, end)
                if any(isinstance(record, Message) and record.n < 0 for record in records):
                    records = numbered(records, find_tail(source, end).n)
                return Changes(records, end)
        except FileNotFoundError:
            return Changes((), 0, replaced=True)
        except OSError as error:
            raise file_error(error, path, key) from error

    @contextmanager
    def _opened(self, key: SessionKey, path: Path) -> Iterator[tuple[Source, os.stat_result]]:
        with opened(self._disk, path, os.O_RDONLY, key) as fd:
            status = os.fstat(fd)
            yield Source(self._disk, fd, key, modified_at(status)), status

    async def list(self) -> list[Brief]:
        """See `ports.SessionStore.list`."""
        return await asyncio.to_thread(list_sessions, self._disk, self._dir)

    async def brief(self, key: SessionKey) -> Brief | None:
        """One session at a glance; None where there is none.

        Raises:
            StoreError: it cannot be read.
        """
        return await asyncio.to_thread(self._brief, key)

    def _brief(self, key: SessionKey) -> Brief | None:
        path = self._find(key)
        try:
            return glance(self._disk, str(path), key)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error(error, path, key) from error

    async def exists(self, key: SessionKey) -> bool:
        """Whether anything lies where the session's file would be, be it readable or not. An empty file is none yet: a process
        died before it wrote there."""
        return await asyncio.to_thread(self._exists, key)

    def _exists(self, key: SessionKey) -> bool:
        path = self._find(key)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise file_error(error, path, key) from error
        return status.st_size > 0 or not stat.S_ISREG(status.st_mode)

    async def everything(self, key: SessionKey) -> tuple[tuple[Record, Fate], ...]:
        """All records of a session's file and what became of each, in its order; empty where there is no file.

        Raises:
            StoreError: it cannot be read.
        """
        return await asyncio.to_thread(self._everything, key)

    def _everything(self, key: SessionKey) -> tuple[tuple[Record, Fate], ...]:
        path = self._find(key)
        try:
            with self._opened(key, path) as (source, status):
                return tuple(annals(source, whole_end(source, status.st_size)))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise file_error(error, path, key) from error

    async def check(self, key: SessionKey) -> tuple[Damage, ...]:
        """Everything that is wrong with a session's file; nothing is changed.

        Raises:
            StoreError: it cannot be read at all.
        """
        return await asyncio.to_thread(self._check, key)

    def _check(self, key: SessionKey) -> tuple[Damage, ...]:
        path = self._find(key)
        try:
            return tuple(check(path, key, disk=self._disk))
        except OSError as error:
            raise file_error(error, path, key) from error

    async def turn_ends(self, key: SessionKey, most: int | None = None) -> tuple[Snapshot, ...]:
        """The records of all turns and compactions of a session, undone ones too, oldest first; with `most` its newest ones, and
        no more of the file is read than they take.

        Raises:
            UnknownSession: there is no file.
            StoreError: it cannot be read.
        """
        return await asyncio.to_thread(self._turn_ends, key, most)

    def _turn_ends(self, key: SessionKey, most: int | None) -> tuple[Snapshot, ...]:
        path = self._find(key)
        try:
            with self._opened(key, path) as (source, status):
                size = status.st_size
                return tuple(ends(source, size)) if most is None else newest_ends(source, size, most)
        except FileNotFoundError:
            raise UnknownSession(str(key)) from None
        except OSError as error:
            raise file_error(error, path, key) from error

    def follow(self, key: SessionKey, start: int | None) -> AsyncGenerator[Line, None]:
        """See `doors.Follow` and `follow.follow`; "from now on" is from this call on."""
        return follow(Follower(self._disk, self._dir, key, start))

    def follow_all(
        self,
        wanted: Callable[[SessionKey], bool],
        starts: Mapping[SessionKey, int],
        on_error: Callable[[StoreError], None],
    ) -> AsyncGenerator[Line, None]:
        """See `follow_all.follow_all`."""
        return follow_all(self._disk, self._dir, wanted, starts, on_error)

    async def last_lines(self, key: SessionKey, count: int, counts: Callable[[Line], bool]) -> LastLines | None:
        """The end of a session's file, so that `count` of its lines count; None where there is no such session.

        Raises:
            StoreError: it cannot be read.
        """
        return await asyncio.to_thread(self._last_lines, key, count, counts)

    def _last_lines(self, key: SessionKey, count: int, counts: Callable[[Line], bool]) -> LastLines | None:
        path = self._find(key)
        try:
            with self._opened(key, path) as (source, status):
                return last_lines(source, status.st_size, count, counts)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise file_error(error, path, key) from error

    def path_of(self, key: SessionKey) -> Path:
        """Where the session's file is, or will be."""
        return self._find(key)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def append(
        self, key: SessionKey, drafts: Sequence[Message | Event], *, known: int, durable: bool, now: datetime
    ) -> Appended:
        """See `ports.SessionStore.append`; `records` has one for each draft. A caller that is cancelled does not take it
        back: the drafts are written all the same."""
        is_durable = self._durability == "always" or (durable and self._durability == "turn")
        seen = self._seen.get(key)
        request = Request(tuple(drafts), known, seen.identity if seen else None, is_durable, now)
        written = await self._writer.append(key, request)
        self._remember(key, _Seen(written.path, written.identity))
        return written.appended

    def lease(
        self, key: SessionKey, *, patience_s: float | None = None, on_wait: Callable[[str], None] | None = None
    ) -> AbstractAsyncContextManager[None]:
        """See `ports.SessionStore.lease`."""
        return self._leases.hold(key, patience_s, on_wait)

    async def archive(self, key: SessionKey, *, at: datetime, reason: str) -> tuple[Archived, ...]:
        """Move a session's file to the archive, with a receipt; the next append begins a new one. Under the lease.

        Where nanobot had left an older file of this key, that is the next to be found, and goes the same way.

        Raises:
            StoreError: the file is still there; or, as `DurabilityUnknown`, it has moved.
        """
        return await asyncio.to_thread(self._archive, key, at, reason)

    def _archive(self, key: SessionKey, at: datetime, reason: str) -> tuple[Archived, ...]:
        directory = self._dir.parent / "archive"
        archived = [archive(self._disk, self._find(key), directory, key, at, reason)]
        while os.path.lexists(path := self._find(key)):
            archived.append(archive(self._disk, path, directory, key, at, reason))
        return tuple(archived)

    async def remove(self, key: SessionKey) -> None:
        """Remove a session's file for good, and those of nanobot that it hid. Under the lease.

        Raises:
            StoreError: it is still there; or, as `DurabilityUnknown`, it is gone.
        """
        await asyncio.to_thread(self._remove, key)

    def _remove(self, key: SessionKey) -> None:
        remove(self._disk, self._find(key), key)
        while os.path.lexists(path := self._find(key)):
            remove(self._disk, path, key)

    async def put_blob(self, data: bytes) -> str:
        """See `ports.SessionStore.put_blob`."""
        return await self._blobs.put(data)

    async def get_blob(self, sha256: str) -> bytes | None:
        """The blob of that name; None where it is missing or damaged."""
        return await self._blobs.get(sha256)

    async def close(self) -> None:
        """Wait for appends under way, five seconds at most, and let the files go."""
        await self._writer.close()

    # --- where things are --------------------------------------------------------------------------------------------

    def _find(self, key: SessionKey) -> Path:
        """Where the session's file is, for who reads it or takes it away.

        Raises:
            StoreError: the directory cannot be read.
        """
        try:
            return find_path(self._disk, self._dir, key)
        except OSError as error:
            raise dir_error(error, self._dir, key) from error

    def _file(self, key: SessionKey) -> SessionFile:
        # What fails here is the append's to tell: nothing was written.
        return SessionFile(self._disk, key, partial(find_path, self._disk, self._dir))

    def _remember(self, key: SessionKey, seen: _Seen) -> _Seen:
        self._seen[key] = seen
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return seen
