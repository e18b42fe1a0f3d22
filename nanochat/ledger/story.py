"""What became of what came in: the ledger's rows for a reader, who changes nothing.

Knows a row's life in words. Does not know how it is shown.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from nanochat.errors import LedgerError
from nanochat.ledger.database import open_readonly
from nanochat.ledger.pairings import Pairing, read_pairings

__all__ = ["Story", "people", "spent_on", "stories"]


@dataclass(frozen=True, slots=True)
class Story:
    """One row. `state` is its outcome, or how far it has come: waiting, claimed, ran.

    `head` is the source that a group was answered under, `origin` where a delivery came from.
    """

    source_id: str
    key: str
    state: str
    note: str
    accepted_at: datetime
    ran_at: datetime | None
    finished_at: datetime | None
    attempts: int
    head: str
    origin: str
    message_ids: tuple[str, ...]


def stories(path: Path, subject: str, limit: int) -> list[Story]:
    """The newest rows, oldest first: of one source or one session, or, with an empty `subject`, of all.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    connection = open_readonly(path)
    if connection is None:
        return []
    with closing(connection):
        there = {row[1] for row in connection.execute("PRAGMA table_info(inbox)")}
        if "seq" not in there:  # of an earlier version, and not yet opened by this one
            return []
        rows = connection.execute(
            "SELECT source_id, key, coalesce(outcome, state), note, accepted_at, ran_at, finished_at, attempts, head, origin,"
            " message_ids FROM inbox WHERE ? IN ('', source_id, key) ORDER BY seq DESC, accepted_at DESC LIMIT ?",
            (subject, limit),
        ).fetchall()
    return [_story(row) for row in reversed(rows)]


def people(path: Path) -> list[Pairing]:
    """Everybody who was let in or offered a code, in the order of the offers.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    connection = open_readonly(path)
    if connection is None:
        return []
    with closing(connection):
        return read_pairings(connection)


def spent_on(path: Path, day: date) -> float:
    """What all sessions together have cost on `day`, in USD.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    connection = open_readonly(path)
    if connection is None:
        return 0.0
    with closing(connection):
        try:
            rows = connection.execute(
                "SELECT coalesce(sum(usd), 0) FROM spend WHERE day = ?", (day.isoformat(),)
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"ledger {path}: {error}; it holds no conversation and may be moved away") from error
    return float(rows[0][0])


def _story(row: Sequence[object]) -> Story:
    source_id, key, state, note, accepted_at, ran_at, finished_at, attempts, head, origin, message_ids = row
    return Story(
        source_id=str(source_id),
        key=str(key),
        state=str(state),
        note=str(note),
        accepted_at=datetime.fromisoformat(str(accepted_at)),
        ran_at=datetime.fromisoformat(str(ran_at)) if ran_at else None,
        finished_at=datetime.fromisoformat(str(finished_at)) if finished_at else None,
        attempts=int(str(attempts)),
        head=str(head),
        origin=str(origin),
        message_ids=tuple(str(one) for one in json.loads(str(message_ids or "[]"))),
    )
