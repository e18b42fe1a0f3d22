"""Work in progress, in SQLite: what came in and is not yet answered, and what was spent today.

Knows rows. Holds no conversation: delete `ledger.db` and no transcript is lost. Does not know what a turn is.

An inbox row lives so:   claimed -> done | failed | interrupted   (its `outcome`; NULL while it is unfinished)
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from nanochat.errors import LedgerError
from nanochat.keys import SessionKey
from nanochat.liveness import Presence

__all__ = ["KEPT_DAYS", "Envelope", "Ledger", "Row"]

# Telegram repeats an update for at most 24 hours, a client with an Idempotency-Key for as long as its user is patient; a week
# covers both, and our own retries.
KEPT_DAYS = 7

_SCHEMA = """
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
CREATE INDEX IF NOT EXISTS inbox_open ON inbox (key) WHERE outcome IS NULL;
CREATE TABLE IF NOT EXISTS spend (
    day TEXT NOT NULL,
    key TEXT NOT NULL,
    usd REAL NOT NULL,
    PRIMARY KEY (day, key)
) WITHOUT ROWID;
"""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a channel received, raw: `body` is the channel's own text for it."""

    source_id: str
    key: SessionKey
    body: str


@dataclass(frozen=True, slots=True)
class Row:
    """An unfinished inbox row whose process is gone. `attempts` counts its claims, the lost one included."""

    envelope: Envelope
    accepted_at: datetime
    attempts: int


class Ledger:
    """One database, one connection, one thread that uses it; opened at first use. Safe to call concurrently."""

    def __init__(self, path: Path, presence: Presence) -> None:
        self._path = path
        self._presence = presence
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._database: sqlite3.Connection | None = None

    async def accept_claimed(self, envelope: Envelope, now: datetime) -> bool:
        """Record an inbound that this process is about to handle; False where its `source_id` is known already."""

        def insert(database: sqlite3.Connection) -> bool:
            changed = database.execute(
                "INSERT OR IGNORE INTO inbox (source_id, key, body, accepted_at, owner) VALUES (?, ?, ?, ?, ?)",
                (envelope.source_id, str(envelope.key), envelope.body, now.isoformat(), self._presence.name),
            )
            return changed.rowcount == 1

        return await self._run(insert)

    async def finish(self, source_id: str, outcome: str, now: datetime) -> None:
        """Close a row. `outcome`: done, failed, interrupted."""
        await self._run(
            lambda database: database.execute(
                "UPDATE inbox SET outcome = ?, finished_at = ? WHERE source_id = ?",
                (outcome, now.isoformat(), source_id),
            )
        )

    async def claim_orphans(self, key: SessionKey, source_prefix: str) -> list[Row]:
        """Take over the unfinished rows of `key` whose process died, oldest first; one more attempt is counted for each."""

        def claim(database: sqlite3.Connection) -> list[Row]:
            rows = database.execute(
                "SELECT source_id, body, accepted_at, owner, attempts FROM inbox"
                " WHERE outcome IS NULL AND key = ? AND substr(source_id, 1, ?) = ? ORDER BY accepted_at",
                (str(key), len(source_prefix), source_prefix),
            ).fetchall()
            taken = []
            for source_id, body, accepted_at, owner, attempts in rows:
                if owner == self._presence.name or self._presence.is_alive(owner):
                    continue
                changed = database.execute(
                    "UPDATE inbox SET owner = ?, attempts = attempts + 1 WHERE source_id = ? AND owner = ? AND outcome IS NULL",
                    (self._presence.name, source_id, owner),
                )
                if changed.rowcount == 1:
                    envelope = Envelope(source_id, key, body)
                    taken.append(Row(envelope, datetime.fromisoformat(accepted_at), attempts))
            return taken

        return await self._run(claim)

    async def spend(self, day: date, key: SessionKey, usd: float) -> None:
        """Add to what `key` has cost on `day`."""
        await self._run(
            lambda database: database.execute(
                "INSERT INTO spend VALUES (?, ?, ?) ON CONFLICT (day, key) DO UPDATE SET usd = usd + excluded.usd",
                (day.isoformat(), str(key), usd),
            )
        )

    async def spent(self, day: date) -> float:
        """What all sessions together have cost on `day`, in USD."""

        def total(database: sqlite3.Connection) -> float:
            row = database.execute(
                "SELECT coalesce(sum(usd), 0) FROM spend WHERE day = ?", (day.isoformat(),)
            ).fetchone()
            return float(row[0])

        return await self._run(total)

    async def close(self) -> None:
        """Wait for what is under way, then close the file."""

        def close() -> None:
            if self._database is not None:
                self._database.close()
                self._database = None

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def transact() -> _T:
            try:
                database = self._open()
                with database:
                    return work(database)
            except sqlite3.DatabaseError as error:
                hint = (
                    "it holds no conversation and may be moved away"
                    if _is_damage(error)
                    else "is the disk full or read-only?"
                )
                raise LedgerError(f"ledger {self._path}: {error}; {hint}") from error
            except OSError as error:
                raise LedgerError(
                    f"ledger {self._path}: {error.strerror or error}; is the disk full or read-only?"
                ) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, transact)

    def _open(self) -> sqlite3.Connection:
        if self._database is not None:
            return self._database
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._presence.announce()
        # SQLite would create the file by the umask; a ledger names people and holds their messages.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self._path, timeout=10, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(_SCHEMA)
            with database:
                kept_from = (datetime.now(UTC) - timedelta(days=KEPT_DAYS)).isoformat()
                database.execute("DELETE FROM inbox WHERE outcome IS NOT NULL AND finished_at < ?", (kept_from,))
        except BaseException:
            database.close()
            raise
        self._database = database
        return database


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
