"""The index as a SQLite file: which words are in which message, and how far each session's file is in it.

    said      the words of each message, and two that are no text: whose session it is, and who said it
    message   which line of which session's file it is; session 0 where it is no longer there
    session   a file as it was when it was last read, and where to read on

A message's number grows with its time. So SQLite gives the newest first without sorting, and stops as soon as there are enough,
even for a word that half of all messages have; and a time is a range of numbers. The texts are not kept: they are read from the
session files, and every answer is checked against them, so nothing can be found that is not there. (SQLite before 3.43 cannot
delete from such an index without the text, hence session 0; what has gathered of those goes when the index is made anew.)

Whoever uses the file holds a lock beside it, one process at a time: a damaged index can be taken away while others have it open,
and nobody meets a locked database. A write-ahead log would let them read beside a writer, and would be read into the next file
of its name. Knows tables and files. Does not know sessions, nor words.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nanochat.errors import SearchError
from nanochat.search.words import TOKENIZER

__all__ = ["Database", "Unusable", "Unwritable", "number_of", "second_of"]

# Whenever what is below changes, or how a text is made into words: an index of another version is made anew.
VERSION = 1

# "nanc": a database of somebody else's is not taken for ours, and thrown away.
_APPLICATION = 0x6E616E63

# No sizes of texts (`columnsize`), since nothing is ranked. With pages of its own as large as SQLite's, and 16 MB of words that
# are gathered before they are written, 600,000 messages took 6.5 s instead of 10.7, and the index was a seventh larger.
# (To have it merged into one segment at the end, by `optimize`, made it a twentieth smaller and no answer faster.)
_TABLES = f"""
BEGIN;
CREATE VIRTUAL TABLE said USING fts5(text, content='', columnsize=0, tokenize="{TOKENIZER}");
INSERT INTO said (said, rank) VALUES ('pgsz', 4050);
INSERT INTO said (said, rank) VALUES ('hashsize', 16000000);
CREATE TABLE message (
    id      INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    start   INTEGER NOT NULL,
    n       INTEGER NOT NULL
);
CREATE TABLE session (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    path     TEXT NOT NULL UNIQUE,
    key      TEXT NOT NULL DEFAULT '',
    inode    INTEGER NOT NULL DEFAULT 0,
    size     INTEGER NOT NULL DEFAULT -1,
    changed  INTEGER NOT NULL DEFAULT 0,
    upto     INTEGER NOT NULL DEFAULT -1,
    trail    INTEGER NOT NULL DEFAULT 0,
    count    INTEGER NOT NULL DEFAULT 0,
    backs    TEXT NOT NULL DEFAULT '[]',
    messages INTEGER NOT NULL DEFAULT 0,
    first    INTEGER NOT NULL DEFAULT 0x7fffffffffffffff,
    last     INTEGER NOT NULL DEFAULT -1
);
CREATE TABLE tally (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO tally VALUES ('gone', 0), ('late', 0);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""

# 16 messages of one second have numbers of that second; further ones have those of the next. Each bit more would make every entry
# of a word larger.
_BITS = 4
_MAX_SECOND = 2**40

_RETRY_S = 0.05
_BUSY_TIMEOUT_S = 10.0
_CACHE_KIB = 32 * 1024

_DAMAGED = frozenset(
    (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,  # a table that should be there
        sqlite3.SQLITE_CONSTRAINT,  # a number that was free, and is not
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_FORMAT,
    )
)
_FORBIDDEN = frozenset((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH))


class Unusable(Exception):
    """The index is damaged, of another version, or not worth keeping; it is to be taken away and made anew."""


class Unwritable(Exception):
    """The index cannot be kept in its place; says why."""


def number_of(at: float) -> int:
    """The first number of a message of that time. What is before 1970 counts as then."""
    return max(0, min(int(at), _MAX_SECOND)) << _BITS


def second_of(number: int) -> int:
    """The second that a number belongs to."""
    return number >> _BITS


class Database:
    """The file at `path`, or with None an index in memory, for as long as this lives. For one thread.

    Who waits for another process is patient as long as that one gets on, and then for `patience_s`. `stopped` ends the wait.
    """

    def __init__(self, path: Path | None, patience_s: float, stopped: threading.Event) -> None:
        self.path = path
        self.opened = 0
        """How often it was opened: what is remembered of it holds until then."""
        self._patience_s = patience_s
        self._stopped = stopped
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)

    @contextmanager
    def held(self, on_wait: Callable[[], None]) -> Iterator[sqlite3.Connection]:
        """The index to oneself, ready to be used.

        Raises:
            Unusable, Unwritable: see there.
            SearchError: it cannot be had, with the way on.
        """
        with self._locked(on_wait):
            try:
                yield self._open()
            except sqlite3.ProgrammingError:
                raise  # a mistake of ours
            except sqlite3.DatabaseError as error:
                self._roll_back()
                raise self._meaning(error) from error
            except BaseException:
                self._roll_back()
                raise

    def discard(self, on_wait: Callable[[], None]) -> None:
        """Take the file away."""
        with self._locked(on_wait):
            self.close()
            if self.path is None:
                return
            try:
                # In this order: a journal that is left without its database is ignored by the next one.
                self.path.unlink(missing_ok=True)
                self._journal.unlink(missing_ok=True)
            except OSError as error:
                raise self._refusal(error) from error

    def close(self) -> None:
        """Let the file go; it is opened again when it is needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- opening -----------------------------------------------------------------------------------------------------

    @property
    def _journal(self) -> Path:
        assert self.path is not None
        return self.path.with_name(f"{self.path.name}-journal")

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._is_in_place():
                return self._connection
            self.close()
        if self.path is not None:
            self._make_file(self.path)
        place = ":memory:" if self.path is None else self.path
        connection = self._connection = sqlite3.connect(place, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        self.opened += 1
        try:
            self._prepare(connection)
        except BaseException:
            self.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Until a commit is on the device, the journal is: after a loss of power the index is an older one, and reads on.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._check(connection)

    def _make_file(self, path: Path) -> None:
        try:
            # SQLite would make it by the umask; which words somebody used is nobody else's business.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._refusal(error) from error
        status = os.fstat(descriptor)
        os.close(descriptor)  # before SQLite has it open: closing it later would take SQLite's locks away
        self._identity = (status.st_dev, status.st_ino)

    def _is_in_place(self) -> bool:
        if self.path is None:
            return True
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def _check(self, connection: sqlite3.Connection) -> None:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not tables:
            connection.executescript(_TABLES)
        elif application != _APPLICATION:
            raise SearchError(f"{self.path} is no search index but another database; move it away")
        elif version != VERSION:
            raise Unusable(f"it is of version {version}")

    # --- the lock ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, on_wait: Callable[[], None]) -> Iterator[None]:
        if self.path is None:
            yield
            return
        try:
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._refusal(error) from error
        try:
            self._take(lock, on_wait)
            yield
        finally:
            os.close(lock)

    def _take(self, lock: int, on_wait: Callable[[], None]) -> None:
        seen, deadline = self._growth(), time.monotonic() + self._patience_s
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            on_wait()
            if self._stopped.wait(_RETRY_S):
                raise SearchError("the search was ended")
            grown = self._growth()
            if grown != seen:
                seen, deadline = grown, time.monotonic() + self._patience_s
            if time.monotonic() > deadline:
                raise SearchError(
                    f"search index {self.path} is held by another process that does not get on; end that one, or try again"
                )

    def _growth(self) -> tuple[int, ...]:
        """What changes as long as somebody writes."""
        assert self.path is not None
        grown: list[int] = []
        for path in (self.path, self._journal):
            with suppress(OSError):
                status = os.stat(path)
                grown += status.st_ino, status.st_size, status.st_mtime_ns
        return tuple(grown)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.DatabaseError:
            self.close()

    def _meaning(self, error: sqlite3.DatabaseError) -> Exception:
        code = error.sqlite_errorcode & 0xFF  # the rest tells more, and not more than is needed
        if code in _DAMAGED:
            return Unusable(str(error))
        self.close()
        if code in _FORBIDDEN:
            return Unwritable(str(error))
        return SearchError(f"search index {self.path}: {error}; is the disk full, or a file held by another program?")

    def _refusal(self, error: OSError) -> Exception:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return Unwritable(error.strerror)
        if error.errno == errno.EISDIR:
            return SearchError(f"search index {error.filename} is a directory; move it away")
        return SearchError(
            f"search index {error.filename}: {(error.strerror or '').lower()}; it can be deleted, and is made anew"
        )
