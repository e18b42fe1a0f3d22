"""Keeping the index up with the session files: what is new is read, what is gone is taken out.

One pass over the directory tells what changed; of a file that grew, what was added is read. A file that is another one now, or
was changed in place, is read anew. (Not noticed is an edit in place that keeps the file's length, when lines were appended before
anybody searched again; the answers are checked, so it can hide a word and never make one up.) Everything is written in batches,
each of them whole: who is interrupted goes on there. Knows files, and what the index has of them. Does not know queries.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeAlias

from nanochat.errors import SearchError, StoreError
from nanochat.keys import SessionKey
from nanochat.search.batch import Batch, File, Measures, Stamp, doubt, forget
from nanochat.search.database import Database, Unusable
from nanochat.search.reading import Back, Said, read
from nanochat.store.disk import Disk, dir_error, file_error, modified_at, opened
from nanochat.store.headers import header_key
from nanochat.store.names import SUFFIX, key_of, nanobot_key_of
from nanochat.store.places import workspaces
from nanochat.store.scan import Source, whole_end
from nanochat.store.view import read_header

__all__ = ["Progress", "Upkeep", "scan"]

Progress: TypeAlias = Callable[[int, int], None]
"""Told, from another thread, how many bytes of how many are read; and 0 of 0 while another process is waited for."""

# So much before the place to read on from must still be as it was.
_TRAIL_BYTES = 256

_WORKSPACE_CHARS = 32

_log = logging.getLogger(__name__)


def scan(sessions_dir: Path) -> dict[str, Stamp]:
    """Every file that may hold a session, by its path below the directory.

    Raises:
        SearchError: the directory cannot be read.
    """
    found: dict[str, Stamp] = {}
    try:
        is_workspace = _scan(sessions_dir, "", found)
        if is_workspace:
            for directory in workspaces(sessions_dir):
                _scan(directory, f"{directory.name}/", found)
    except OSError as error:
        raise SearchError(str(dir_error(error, sessions_dir))) from error
    return found


def _scan(directory: Path, prefix: str, found: dict[str, Stamp]) -> bool:
    """Take what is in one directory; says whether there is anything that can be a workspace of nanobot's."""
    seems_workspace = False
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        with os.scandir(descriptor) as entries:  # by descriptor: names are looked up at a third less than whole paths
            for entry in entries:
                name = entry.name
                if not name.endswith(SUFFIX):
                    seems_workspace = seems_workspace or len(name) == _WORKSPACE_CHARS
                    continue
                if name[0] == "." or not (name.isascii() or _is_text(name)):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found[prefix + name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    finally:
        os.close(descriptor)
    return seems_workspace


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class Upkeep:
    """Brings an index up to date. For one thread, under the index's lock."""

    def __init__(
        self,
        disk: Disk,
        sessions_dir: Path,
        progress: Progress | None,
        stopped: threading.Event,
        measures: Measures,
    ) -> None:
        self._disk = disk
        self._dir = sessions_dir
        self._progress = progress
        self._measures = measures
        self._stopped = stopped
        self._stamps: dict[str, Stamp] = {}
        self._known = (0, 0)
        self._done = self._total = 0
        self._told: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        """The files that could not be read, and why."""

    def sync(self, database: Database, connection: sqlite3.Connection, found: dict[str, Stamp]) -> None:
        """Have in the index what is in the files.

        Raises:
            Unusable: it is better made anew.
            SearchError: it was stopped; what was read is in the index.
        """
        self._recall(database, connection)
        if found == self._stamps:
            self.skipped = {}
            return
        try:
            self._drop(connection, self._stamps.keys() - found.keys())
            self._read(connection, [path for path, stamp in found.items() if self._stamps.get(path) != stamp], found)
        except BaseException:
            self._known = (0, 0)
            raise

    def doubt(self, connection: sqlite3.Connection, paths: Iterable[str]) -> None:
        """Have files read anew by the next sync: they are not what the index says."""
        for path in paths:
            doubt(connection, path)
            self._stamps.pop(path, None)

    def _recall(self, database: Database, connection: sqlite3.Connection) -> None:
        """Know what the index knows, unless nobody has changed it since."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if self._known != (database.opened, version):
            rows = connection.execute("SELECT path, inode, size, changed FROM session")
            self._stamps = {path: (inode, size, changed) for path, inode, size, changed in rows}
            self._known = (database.opened, version)

    def _drop(self, connection: sqlite3.Connection, gone: Collection[str]) -> None:
        """Take out the files that are no longer there."""
        connection.execute("BEGIN IMMEDIATE")
        rows = [connection.execute("SELECT id FROM session WHERE path = ?", (path,)).fetchone() for path in gone]
        with_words = forget(connection, [session for (session,) in rows])
        connection.executemany("DELETE FROM session WHERE id = ?", rows)
        connection.execute("COMMIT")
        for path in gone:
            del self._stamps[path]
        (left,) = connection.execute("SELECT coalesce(sum(messages), 0) FROM session").fetchone()
        (dead,) = connection.execute("SELECT value FROM tally WHERE name = 'gone'").fetchone()
        measures, whole = self._measures, left + dead
        is_mostly_gone = whole > measures.cheap_messages and dead > whole * measures.worthless_share
        if is_mostly_gone or (with_words and left <= measures.cheap_messages):
            raise Unusable("much of it is gone")

    def _read(self, connection: sqlite3.Connection, stale: list[str], found: dict[str, Stamp]) -> None:
        # From the file that was silent longest: so the numbers of one batch lie together, and few are between those of another.
        stale.sort(key=lambda path: found[path][2])
        self._done, self._total = 0, sum(found[path][1] for path in stale)
        self.skipped = {}
        batch = Batch(connection, self._measures)
        for path in stale:
            try:
                self._read_file(batch, path, found[path])
            except FileNotFoundError:
                continue  # it was there a moment ago
            except (OSError, StoreError) as error:
                batch.doubt_file(path)  # part of it may be taken
                self._skip(path, file_error(error, self._dir / path) if isinstance(error, OSError) else error)
            if batch.is_full:
                batch.write()
            if self._stopped.is_set():
                break
        batch.write()
        if self._stopped.is_set():
            raise SearchError("the search was ended")
        if batch.written > self._measures.batch_messages:
            connection.execute("PRAGMA shrink_memory")  # a daemon that built it once has no use for all that it took

    def _skip(self, path: str, error: StoreError) -> None:
        self.skipped[path] = str(error)
        if self._told.get(path) != str(error):
            self._told[path] = str(error)
            _log.warning("search: %s; it is left out", error)

    def _read_file(self, batch: Batch, path: str, seen: Stamp) -> None:
        done = self._done
        key = self._key_of(path)
        with opened(self._disk, self._dir / path, os.O_RDONLY, key) as fd:
            status = os.fstat(fd)
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            if key is None:  # no session's, and not to be looked at again until it changes
                file = File(batch.begin_file(path), "", stamp)
                batch.forget(file.id)
                batch.end_file(file)
                self._stamps[path] = stamp
                return
            source = Source(self._disk, fd, key, modified_at(status))
            end = whole_end(source, status.st_size)
            read_header(source, end, str(self._dir / path))
            file = self._begin(batch, path, source, stamp)
            before = file.count
            for upto, count, entry in read(source, file.upto, end, file.count):
                if isinstance(entry, Said):
                    batch.add(file.id, entry, is_repeated=entry.n < before)
                elif entry is not None:
                    file.backs.append(entry)
                before = file.count = count
                if batch.is_full:
                    file.upto = upto
                    self._end(batch, source, file, (stamp[0], upto, stamp[2]))
                    batch.write()
                    self._tell(done + upto)
                    if self._stopped.is_set():
                        return
            file.upto = end
            self._end(batch, source, file, stamp)
        self._stamps[path] = stamp
        self._done = done + seen[1]
        self._tell(self._done)

    def _key_of(self, path: str) -> SessionKey | None:
        stem = path.rpartition("/")[2].removesuffix(SUFFIX)
        if (key := key_of(stem)) is not None:
            return key
        with opened(self._disk, self._dir / path) as fd:
            return header_key(self._disk, fd) or nanobot_key_of(stem)

    def _begin(self, batch: Batch, path: str, source: Source, stamp: Stamp) -> File:
        """Where a file is read on from: its beginning, unless it is the one that is known, and longer."""
        row = batch.connection.execute(
            "SELECT id, key, inode, size, upto, trail, count, backs FROM session WHERE path = ?", (path,)
        ).fetchone()
        if row is None:
            return File(batch.begin_file(path), str(source.key), stamp)
        session, key, inode, size, upto, trail, count, backs = row
        is_longer = (key, inode) == (str(source.key), stamp[0]) and upto >= 0 and size < stamp[1]
        if is_longer and upto <= stamp[1] and trail == _trail(source, upto):
            return File(session, key, stamp, upto, trail, count, [Back(*back) for back in json.loads(backs)])
        batch.forget(session)
        return File(session, str(source.key), stamp)

    def _end(self, batch: Batch, source: Source, file: File, stamp: Stamp) -> None:
        file.stamp, file.trail = stamp, _trail(source, file.upto)
        batch.end_file(file)

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(min(done, self._total), self._total)


def _trail(source: Source, upto: int) -> int:
    start = max(0, upto - _TRAIL_BYTES)
    return zlib.crc32(source.disk.pread(source.fd, upto - start, start))
