"""Keeping the index up with the session files: what is new is read, what is gone is taken out.

One pass over the directory tells what changed; of a file that grew, what was added is read. A file that is another one now, or
was changed in place, is read anew. (Not noticed is an edit in place that keeps the file's length, when lines were appended before
anybody searched again; the answers are checked, so it can hide a word and never make one up.) Everything is written in batches,
each of them whole: who is interrupted goes on there. Knows files and what was said in them. Does not know queries.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from nanochat.errors import SearchError, StoreError
from nanochat.keys import SessionKey
from nanochat.search.database import Database, Unusable, number_of, second_of
from nanochat.search.reading import Back, Said, read
from nanochat.search.words import spread
from nanochat.store.disk import Disk, file_error, modified_at, opened
from nanochat.store.listing import glance
from nanochat.store.names import SUFFIX, key_of
from nanochat.store.places import workspaces
from nanochat.store.scan import Source, whole_end
from nanochat.store.view import read_header

__all__ = ["ROLES", "Measures", "Progress", "Stamp", "Upkeep", "role_word", "scan", "session_word"]

Stamp: TypeAlias = tuple[int, int, int]
"""What a file is known by: inode, size, and when it was changed."""

Progress: TypeAlias = Callable[[int, int], None]
"""Told, from another thread, how many bytes of how many are read; and 0 of 0 while another process is waited for."""

ROLES = ("user", "assistant", "delivered")

# So much before the place to read on from must still be as it was.
_TRAIL_BYTES = 256

_WORKSPACE_CHARS = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measures:
    """How much is done at a time.

    A batch is of `batch_messages`, or of `batch_chars` of text. When a conversation is deleted, its words should go with it:
    `cheap_messages` are read again in a second, and then they do; beyond that they stay, though never found again, until they
    are `worthless_share` of the index.
    """

    batch_messages: int = 50_000
    batch_chars: int = 8_000_000
    cheap_messages: int = 20_000
    worthless_share: float = 1 / 3


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
        raise SearchError(
            f"{error.filename or sessions_dir}: cannot be searched: {(error.strerror or '').lower()}"
        ) from error
    return found


def _scan(directory: Path, prefix: str, found: dict[str, Stamp]) -> bool:
    """Take what is in one directory; says whether there is anything that can be a workspace of nanobot's."""
    seems_workspace = False
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
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


def session_word(session: int) -> str:
    """What stands for a session among the words of its messages."""
    return f"\ue000s{session}"


def role_word(role: str) -> str:
    """What stands for a role there."""
    return f"\ue000{role[0]}"


@dataclass(slots=True)
class _File:
    """A row of `session`, as it is written."""

    id: int
    key: str
    stamp: Stamp
    upto: int = 0
    trail: int = 0
    count: int = 0
    backs: list[Back] = field(default_factory=list)


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
            _doubt(connection, path)
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
        with_words = _forget(connection, [session for (session,) in rows])
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
        batch = _Batch(connection, self._measures)
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

    def _read_file(self, batch: _Batch, path: str, seen: Stamp) -> None:
        done = self._done
        key = self._key_of(path)
        with opened(self._disk, self._dir / path, os.O_RDONLY, key) as fd:
            status = os.fstat(fd)
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            if key is None:  # no session's, and not to be looked at again until it changes
                file = _File(batch.begin_file(path), "", stamp)
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
        name = path.rpartition("/")[2].removesuffix(SUFFIX)
        key = key_of(name)
        if key is None:
            brief = glance(self._disk, str(self._dir / path))
            key = brief.key if brief else None
        return key

    def _begin(self, batch: _Batch, path: str, source: Source, stamp: Stamp) -> _File:
        """Where a file is read on from: its beginning, unless it is the one that is known, and longer."""
        row = batch.connection.execute(
            "SELECT id, key, inode, size, upto, trail, count, backs FROM session WHERE path = ?", (path,)
        ).fetchone()
        if row is None:
            return _File(batch.begin_file(path), str(source.key), stamp)
        session, key, inode, size, upto, trail, count, backs = row
        is_longer = (key, inode) == (str(source.key), stamp[0]) and upto >= 0 and size < stamp[1]
        if is_longer and upto <= stamp[1] and trail == _trail(source, upto):
            return _File(session, key, stamp, upto, trail, count, [Back(*back) for back in json.loads(backs)])
        batch.forget(session)
        return _File(session, str(source.key), stamp)

    def _end(self, batch: _Batch, source: Source, file: _File, stamp: Stamp) -> None:
        file.stamp, file.trail = stamp, _trail(source, file.upto)
        batch.end_file(file)

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(min(done, self._total), self._total)


def _trail(source: Source, upto: int) -> int:
    start = max(0, upto - _TRAIL_BYTES)
    return zlib.crc32(source.disk.pread(source.fd, upto - start, start))


def _doubt(connection: sqlite3.Connection, path: str) -> None:
    """Have a file read anew when it is next seen; until then, nothing in it is live."""
    connection.execute("UPDATE session SET upto = -1, size = -1 WHERE path = ? AND upto >= 0", (path,))


def _forget(connection: sqlite3.Connection, sessions: Collection[int]) -> int:
    """Have none of the messages of sessions found any more; returns how many they were."""
    if not sessions:
        return 0
    those = json.dumps(list(sessions))
    first, last = connection.execute(
        "SELECT min(first), max(last) FROM session WHERE id IN (SELECT value FROM json_each(?))", (those,)
    ).fetchone()
    gone = connection.execute(
        "UPDATE message SET session = 0 WHERE session IN (SELECT value FROM json_each(?)) AND id BETWEEN ? AND ?",
        (those, first, last),
    ).rowcount
    connection.execute("UPDATE tally SET value = value + ? WHERE name = 'gone'", (gone,))
    connection.execute("UPDATE session SET messages = 0 WHERE id IN (SELECT value FROM json_each(?))", (those,))
    return gone


class _Batch:
    """Messages that are written together, and how far the files that they are of are read with them."""

    def __init__(self, connection: sqlite3.Connection, measures: Measures) -> None:
        self.connection = connection
        self._measures = measures
        self.written = 0
        self._rows: list[tuple[int, int, int, int, str]] = []
        self._repeated: dict[int, set[int]] = {}
        self._forgotten: set[int] = set()
        self._chars = 0

    @property
    def is_full(self) -> bool:
        """Whether it should be written."""
        return self._chars >= self._measures.batch_chars or len(self._rows) >= self._measures.batch_messages

    def begin(self) -> None:
        """Whatever is written from here on is written whole, or not at all."""
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")

    def begin_file(self, path: str) -> int:
        """The id of a file's session, made where it has none."""
        self.begin()
        self.connection.execute("INSERT OR IGNORE INTO session (path) VALUES (?)", (path,))
        (session,) = self.connection.execute("SELECT id FROM session WHERE path = ?", (path,)).fetchone()
        return int(session)

    def end_file(self, file: _File) -> None:
        """Note how far a file is read."""
        self.begin()
        self.connection.execute(
            "UPDATE session SET key = ?, inode = ?, size = ?, changed = ?, upto = ?, trail = ?, count = ?, backs = ?"
            " WHERE id = ?",
            (file.key, *file.stamp, file.upto, file.trail, file.count, json.dumps(file.backs), file.id),
        )

    def doubt_file(self, path: str) -> None:
        """Have a file read anew next time."""
        self.begin()
        _doubt(self.connection, path)

    def forget(self, session: int) -> None:
        """Have none found of a session's messages but those that are taken from now on.

        It is done when the batch is written: to find them takes a pass over the index, and after a copy of the whole directory
        every file is another one.
        """
        self._forgotten.add(session)

    def add(self, session: int, said: Said, *, is_repeated: bool) -> None:
        """Take a message; one that is written once more, after a failed sync, takes the place of the first."""
        if is_repeated:
            self._repeated.setdefault(session, set()).add(said.n)
        text = f"{spread(said.text)}\n{session_word(session)} {role_word(said.kind)}"
        self._rows.append((number_of(said.at.timestamp()), session, said.start, said.n, text))
        self._chars += len(text)

    def write(self) -> None:
        """Write all of it."""
        self.begin()
        _forget(self.connection, self._forgotten)
        if self._repeated:
            self._drop_repeated()
        self._rows.sort()  # SQLite writes what it has gathered whenever a number is less than the one before
        numbers, late = self._numbers()
        self.connection.executemany(
            "INSERT INTO said (rowid, text) VALUES (?, ?)",
            ((number, row[4]) for number, row in zip(numbers, self._rows, strict=True)),
        )
        self.connection.executemany(
            "INSERT INTO message VALUES (?, ?, ?, ?)",
            ((number, *row[1:4]) for number, row in zip(numbers, self._rows, strict=True)),
        )
        self._count(numbers)
        if late:
            self.connection.execute("UPDATE tally SET value = max(value, ?) WHERE name = 'late'", (late,))
        self.connection.execute("COMMIT")
        self.written += len(self._rows)
        self._rows, self._repeated, self._forgotten, self._chars = [], {}, set(), 0

    def _numbers(self) -> tuple[list[int], int]:
        """A free number for each row, and by how many seconds one was moved at most."""
        numbers: list[int] = []
        last, taken, late = -1, -1, 0
        for row in self._rows:
            number = max(row[0], last + 1)
            while taken <= number:
                if taken == number:
                    number += 1
                taken = self._next_taken(number)
            numbers.append(number)
            last = number
            late = max(late, second_of(number) - second_of(row[0]))
        return numbers, late

    def _next_taken(self, number: int) -> int:
        row: tuple[int] | None = self.connection.execute(
            "SELECT id FROM message WHERE id >= ? ORDER BY id LIMIT 1", (number,)
        ).fetchone()
        return row[0] if row else 2**63

    def _drop_repeated(self) -> None:
        """Keep the last of those that have the same number in the same session."""
        last = {(row[1], row[3]): place for place, row in enumerate(self._rows)}
        self._rows = [row for place, row in enumerate(self._rows) if last[row[1], row[3]] == place]
        for session, numbers in self._repeated.items():
            dropped = self.connection.execute(
                "UPDATE message SET session = 0 WHERE session = ?1 AND n IN (SELECT value FROM json_each(?2))"
                " AND id BETWEEN (SELECT first FROM session WHERE id = ?1) AND (SELECT last FROM session WHERE id = ?1)",
                (session, json.dumps(sorted(numbers))),
            ).rowcount
            self.connection.execute("UPDATE session SET messages = messages - ? WHERE id = ?", (dropped, session))
            self.connection.execute("UPDATE tally SET value = value + ? WHERE name = 'gone'", (dropped,))

    def _count(self, numbers: list[int]) -> None:
        counts: dict[int, list[int]] = {}
        for number, row in zip(numbers, self._rows, strict=True):
            count = counts.setdefault(row[1], [0, number, number])
            count[0] += 1
            count[2] = number  # they are in order
        self.connection.executemany(
            "UPDATE session SET messages = messages + ?, first = min(first, ?), last = max(last, ?) WHERE id = ?",
            ((*count, session) for session, count in counts.items()),
        )
