"""One SQLite file, one connection, one thread that uses it.

What is asked for while a commit is under way is done together in the next one: a hundred small writes cost a few syncs of the
device, not a hundred. Knows tables and transactions. Does not know what a row means.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from nanochat.errors import LedgerError, NanochatError
from nanochat.process.liveness import Presence

__all__ = ["Database", "open_readonly"]

# Another process holds the file for one commit at a time, milliseconds each; who waits longer than this has met a hung one.
BUSY_TIMEOUT_S = 10.0

_TABLES = """
CREATE TABLE IF NOT EXISTS inbox (
    source_id   TEXT PRIMARY KEY,
    key         TEXT NOT NULL,
    body        TEXT NOT NULL,
    accepted_at TEXT NOT NULL,
    owner       TEXT NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 1,
    outcome     TEXT,
    finished_at TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spend (
    day TEXT NOT NULL,
    key TEXT NOT NULL,
    usd REAL NOT NULL,
    PRIMARY KEY (day, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reply_parts (
    source_id  TEXT NOT NULL,
    place      INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (source_id, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pairings (
    user_id    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    code       TEXT NOT NULL,
    offered_at TEXT NOT NULL,
    paired_at  TEXT,
    told_at    TEXT
);
CREATE TABLE IF NOT EXISTS jobs (
    id      TEXT PRIMARY KEY,
    job     TEXT NOT NULL,
    call_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job_states (
    id             TEXT PRIMARY KEY,
    mark           TEXT NOT NULL,
    decided_until  TEXT NOT NULL,
    paused         INTEGER NOT NULL DEFAULT 0,
    failure_told   TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    job_id     TEXT NOT NULL,
    fire       TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    first_fire TEXT NOT NULL,
    fires      INTEGER NOT NULL DEFAULT 1,
    started_at TEXT NOT NULL DEFAULT '',
    ended_at   TEXT NOT NULL DEFAULT '',
    text       TEXT NOT NULL DEFAULT '',
    note       TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job_id, fire)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_deliveries (
    job_id    TEXT NOT NULL,
    fire      TEXT NOT NULL,
    recipient TEXT NOT NULL,
    source_id TEXT NOT NULL,
    state     TEXT NOT NULL DEFAULT '',
    note      TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job_id, fire, recipient)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS watermarks (
    job_id TEXT NOT NULL,
    source TEXT NOT NULL,
    place  INTEGER NOT NULL,
    PRIMARY KEY (job_id, source)
) WITHOUT ROWID;
"""

# A ledger of an earlier version gets what it lacks; rows that it holds are a live channel's, and claimed.
_LATER_COLUMNS = {
    "seq": "INTEGER NOT NULL DEFAULT 0",
    "band": "TEXT NOT NULL DEFAULT ''",
    "ready_at": "TEXT NOT NULL DEFAULT ''",
    "manner": "TEXT NOT NULL DEFAULT 'wait'",
    "origin": "TEXT NOT NULL DEFAULT ''",
    "live": "INTEGER NOT NULL DEFAULT 1",
    "state": "TEXT NOT NULL DEFAULT 'claimed'",
    "head": "TEXT NOT NULL DEFAULT ''",
    "told": "TEXT NOT NULL DEFAULT ''",
    "ran_at": "TEXT",
    "note": "TEXT NOT NULL DEFAULT ''",
    "message_ids": "TEXT NOT NULL DEFAULT ''",
    "place": "TEXT NOT NULL DEFAULT ''",
    "digest": "TEXT NOT NULL DEFAULT ''",
}

_INDEXES = """
CREATE INDEX IF NOT EXISTS inbox_seq ON inbox (seq);
CREATE INDEX IF NOT EXISTS inbox_line ON inbox (key, seq) WHERE outcome IS NULL;
CREATE INDEX IF NOT EXISTS inbox_head ON inbox (head) WHERE outcome IS NULL;
CREATE INDEX IF NOT EXISTS inbox_place ON inbox (key, place) WHERE outcome IS NULL;
CREATE INDEX IF NOT EXISTS runs_fired ON runs (job_id, fire) WHERE outcome = 'fired';
"""

_T = TypeVar("_T")
_Work: TypeAlias = Callable[
    [sqlite3.Connection], Any
]  # Any: each work has a result of its own, and `run` gives it its type
_Asked: TypeAlias = tuple[_Work, Future[Any]]


class Database:
    """Runs work on the file, opened at first use. Safe to call concurrently."""

    def __init__(self, path: Path, presence: Presence) -> None:
        self.presence = presence
        self._path = path
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._asked: deque[_Asked] = deque()
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do `work` inside a transaction of its own; what it wrote is durable when this returns.

        Raises:
            LedgerError: the file cannot be used, and nothing of `work` is in it.
        """
        future: Future[Any] = Future()
        self._asked.append((work, future))
        self._thread.submit(self._work_off)
        return cast(_T, await asyncio.wrap_future(future))

    async def close(self) -> None:
        """Wait for what is under way, then close the file."""

        def close() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()

    def _work_off(self) -> None:
        batch: list[_Asked] = []
        while self._asked:
            work, future = self._asked.popleft()
            if future.set_running_or_notify_cancel():
                batch.append((work, future))
        if not batch:
            return
        try:
            done = self._commit(batch)
        except (sqlite3.DatabaseError, OSError) as error:
            _fail(batch, self._refusal(error))
        except BaseException as error:
            _fail(batch, error)
            raise
        else:
            for future, result in done:
                future.set_result(result)

    def _commit(self, batch: Sequence[_Asked]) -> list[tuple[Future[Any], Any]]:
        """All of a batch in one transaction; what fails by itself is left out and told at once."""
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            done = []
            for work, future in batch:
                connection.execute("SAVEPOINT work")
                try:
                    done.append((future, work(connection)))
                except (NanochatError, ValueError, LookupError, TypeError, OverflowError) as error:
                    connection.execute("ROLLBACK TO work")
                    future.set_exception(error)
                connection.execute("RELEASE work")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return done

    def _refusal(self, error: Exception) -> LedgerError:
        damaged = isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorcode in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        )
        busy = isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY
        hint = "another process holds it" if busy else "is the disk full or read-only?"
        hint = "it holds no conversation and may be moved away" if damaged else hint
        words = (error.strerror or error) if isinstance(error, OSError) else error
        told = LedgerError(f"ledger {self._path}: {words}; {hint}", is_damaged=damaged)
        told.__cause__ = error
        return told

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._is_in_place():
                return self._connection
            self._put_back(self._connection)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.presence.announce()
        # SQLite would create the file by the umask; a ledger names people and holds their messages.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            _make_tables(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        status = os.stat(self._path)
        self._connection, self._identity = connection, (status.st_dev, status.st_ino)
        return connection

    def _is_in_place(self) -> bool:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def _put_back(self, orphaned: sqlite3.Connection) -> None:
        """The file was deleted while we had it open. What was acknowledged must not go with its name: it is written anew, unless
        another process of ours, or a person, has put a file there."""
        self._connection = None
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy = self._path.with_name(f"{self._path.name}.new")
        lock = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._path.exists():
                target = sqlite3.connect(copy)
                try:
                    orphaned.backup(target)
                finally:
                    target.close()
                # A log that was left behind belongs to the file that is gone, and would be read into the new one.
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
                copy.replace(self._path)
        finally:
            orphaned.close()
            os.close(lock)


def _fail(batch: Sequence[_Asked], error: BaseException) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


def _make_tables(connection: sqlite3.Connection) -> None:
    # `executescript` would commit first: two processes that open a new ledger at once would each make half of it.
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)
    there = {row[1] for row in connection.execute("PRAGMA table_info(inbox)")}
    for name, kind in _LATER_COLUMNS.items():
        if name not in there:
            connection.execute(f"ALTER TABLE inbox ADD COLUMN {name} {kind}")
    if "told_at" not in {row[1] for row in connection.execute("PRAGMA table_info(pairings)")}:
        connection.execute("ALTER TABLE pairings ADD COLUMN told_at TEXT")
    connection.execute("DROP INDEX IF EXISTS inbox_open")
    for statement in filter(str.strip, _INDEXES.split(";")):
        connection.execute(statement)
    connection.execute("UPDATE inbox SET head = source_id WHERE head = '' AND state <> 'waiting'")


def open_readonly(path: Path) -> sqlite3.Connection | None:
    """A connection that changes nothing, not even a file's time; None where there is no ledger.

    Raises:
        LedgerError: the file cannot be read.
    """
    if not path.exists():
        return None
    # Without its log nobody has the file open, and SQLite is told so: else it would make a log of its own beside it.
    is_quiet = not path.with_name(path.name + "-wal").exists()
    uri = f"{path.absolute().as_uri()}?{'immutable=1' if is_quiet else 'mode=ro'}"
    connection = None
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        raise LedgerError(f"ledger {path}: {error}; it holds no conversation and may be moved away") from error
    return connection
