"""The ledger looked at from outside: whether the file is sound, and what lies in it undone.

Changes nothing. Knows files of SQLite and rows of the inbox. Does not know what is to be done about them.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from nanochat.errors import LedgerError
from nanochat.ledger.database import open_readonly
from nanochat.process.liveness import Presence

__all__ = ["SQLITE_VERSION", "Undone", "database_faults", "has_full_text", "undone"]

SQLITE_VERSION = sqlite3.sqlite_version

# One page that is lost makes a line for each row on it.
_MOST_FAULTS = 5


@dataclass(frozen=True, slots=True)
class Undone:
    """Messages, by `source_id` and key: those that wait, those whose process died, and those that cannot be read."""

    waiting: tuple[tuple[str, str], ...] = ()
    orphaned: tuple[tuple[str, str], ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()


def database_faults(path: Path) -> list[str]:
    """What is wrong with a file of SQLite; nothing where there is none. Reads all of it."""
    faults = _faults(path)
    # Somebody opened it while it was read as a file that nobody has open: that reading means nothing.
    return _faults(path) if faults and os.path.exists(f"{path}-wal") else faults


def _faults(path: Path) -> list[str]:
    try:
        connection = open_readonly(path)
        if connection is None:
            return []
        with closing(connection):
            rows = connection.execute(f"PRAGMA quick_check({_MOST_FAULTS})").fetchall()
    except LedgerError as error:
        return [str(error.__cause__ or error)]
    except (sqlite3.DatabaseError, OSError) as error:
        return [str(error)]
    # The first line of several tells the database's name only: "*** in database main ***".
    told = [line for (text,) in rows for line in str(text).splitlines() if not line.startswith("***")]
    return [] if told == ["ok"] else told[:_MOST_FAULTS]


def undone(path: Path, presence: Presence) -> Undone:
    """What is not closed, oldest first.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    connection = open_readonly(path)
    if connection is None:
        return Undone()
    try:
        with closing(connection):
            there = {row[1] for row in connection.execute("PRAGMA table_info(inbox)")}
            if "seq" not in there:  # of an earlier version, and not yet opened by this one
                return Undone()
            rows = connection.execute(
                "SELECT source_id, key, coalesce(outcome, state), owner FROM inbox"
                " WHERE outcome IS NULL OR outcome = 'quarantined' ORDER BY seq"
            ).fetchall()
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"ledger {path}: {error}", is_damaged=True) from error
    alive = {owner: presence.is_alive(owner) for owner in {str(row[3]) for row in rows} if owner}
    found: dict[str, list[tuple[str, str]]] = {"waiting": [], "orphaned": [], "unreadable": []}
    for source_id, key, state, owner in rows:
        if state in ("waiting", "quarantined"):
            found["waiting" if state == "waiting" else "unreadable"].append((str(source_id), str(key)))
        elif not alive.get(str(owner), False):
            found["orphaned"].append((str(source_id), str(key)))
    return Undone(**{name: tuple(rows) for name, rows in found.items()})


def has_full_text() -> bool:
    """Whether this SQLite can search in texts."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
        except sqlite3.OperationalError:
            return False
    return True
