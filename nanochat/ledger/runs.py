"""What came of fires: one row for each that ran, failed or was missed, and one for each recipient.

    fired -> ran | failed            missed, skipped: one row each, or one for many that lie further back

Knows rows. Does not know how they come about (`jobs`), nor how they are shown.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nanochat.ledger.database import open_readonly

__all__ = ["Delivered", "Run", "read_runs", "runs_of"]


@dataclass(frozen=True, slots=True)
class Delivered:
    """How far what came of a fire has come on its way to one recipient.

    `state` is the delivery's own in the inbox (waiting, claimed, ran: it stands in the recipient's session), or its outcome;
    `note` is why.
    """

    recipient: str
    state: str
    note: str = ""
    source_id: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a fire. `outcome`: fired (nothing yet), ran, failed, missed, skipped. `text` is what it said, `note` why.

    With `fires` above one it stands for so many, from `first_fire` to `fire`.
    """

    job_id: str
    fire: datetime
    outcome: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    text: str = ""
    note: str = ""
    fires: int = 1
    first_fire: datetime | None = None
    deliveries: tuple[Delivered, ...] = ()


def runs_of(path: Path, job_id: str = "", limit: int = 20) -> list[Run]:
    """See `Jobs.history`; for a reader who changes nothing.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    connection = open_readonly(path)
    if connection is None:
        return []
    with closing(connection):
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'run_deliveries'").fetchone():
            return []  # of an earlier version, and not yet opened by this one
        return read_runs(connection, job_id, limit)


def read_runs(database: sqlite3.Connection, job_id: str, limit: int) -> list[Run]:
    """The newest, oldest first: of one job, or, with an empty id, of all."""
    rows = database.execute(
        "SELECT job_id, fire, outcome, started_at, ended_at, text, note, fires, first_fire FROM runs"
        " WHERE ? IN ('', job_id) ORDER BY fire DESC, job_id DESC LIMIT ?",
        (job_id, limit),
    ).fetchall()
    return [_run(row, _deliveries(database, row[0], row[1])) for row in reversed(rows)]


def _deliveries(database: sqlite3.Connection, job_id: str, fire: str) -> tuple[Delivered, ...]:
    rows = database.execute(
        "SELECT recipient, coalesce(outcome, inbox.state, run_deliveries.state),"
        " coalesce(nullif(inbox.note, ''), run_deliveries.note), source_id"
        " FROM run_deliveries LEFT JOIN inbox USING (source_id) WHERE job_id = ? AND fire = ? ORDER BY recipient",
        (job_id, fire),
    )
    return tuple(Delivered(*row) for row in rows)


def _run(row: Sequence[object], deliveries: tuple[Delivered, ...]) -> Run:
    job_id, fire, outcome, started_at, ended_at, text, note, fires, first_fire = map(str, row)
    return Run(
        job_id=job_id,
        fire=datetime.fromisoformat(fire),
        outcome=outcome,
        started_at=datetime.fromisoformat(started_at) if started_at else None,
        ended_at=datetime.fromisoformat(ended_at) if ended_at else None,
        text=text,
        note=note,
        fires=int(fires),
        first_fire=datetime.fromisoformat(first_fire),
        deliveries=deliveries,
    )
