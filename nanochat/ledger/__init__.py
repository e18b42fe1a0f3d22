"""Work in progress, in SQLite: what came in and is not yet answered, what was sent of it, who was let in, what was spent today.

Knows rows. Holds no conversation: delete `ledger.db` and no transcript is lost. Does not know what a turn is.

A row of a channel that waits for its answer lives so:   claimed -> done | failed | refused | interrupted
All others are told of in `inbox`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from nanochat.doors import Known
from nanochat.keys import SessionKey
from nanochat.ledger.database import Database
from nanochat.ledger.inbox import KEPT_DAYS, Claim, Inbox, Lane, Suspect
from nanochat.ledger.jobs import Jobs, Made, made_jobs
from nanochat.ledger.pairings import Pairing, Pairings
from nanochat.ledger.parts import PartsOf
from nanochat.ledger.runs import Delivered, Run, runs_of
from nanochat.ledger.story import Story, people, stories
from nanochat.ports import Envelope, ReplyMemory
from nanochat.process.liveness import Presence

__all__ = [
    "KEPT_DAYS",
    "Claim",
    "Delivered",
    "Inbox",
    "Jobs",
    "Lane",
    "Ledger",
    "Made",
    "Pairing",
    "Pairings",
    "Row",
    "Run",
    "Story",
    "Suspect",
    "made_jobs",
    "people",
    "runs_of",
    "stories",
]


@dataclass(frozen=True, slots=True)
class Row:
    """An unfinished inbox row whose process is gone. `attempts` counts its claims, the lost one included."""

    envelope: Envelope
    accepted_at: datetime
    attempts: int


class Ledger:
    """One database, opened at first use. Safe to call concurrently."""

    def __init__(
        self, path: Path, presence: Presence, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._presence = presence
        self._database = Database(path, presence)
        self.inbox = Inbox(self._database)
        self.pairings = Pairings(self._database, clock=clock)
        self.jobs = Jobs(self._database)

    def memory_of(self, source_id: str) -> ReplyMemory:
        """What the reply to this source has sent."""
        return PartsOf(self._database, source_id)

    async def accept_claimed(self, envelope: Envelope, now: datetime, digest: str = "") -> bool:
        """Record an inbound that this process is about to handle; False where its `source_id` is known already.

        One that was refused may come again. `digest` is kept when the body is not, to tell a repeat from another message.
        """

        def insert(database: sqlite3.Connection) -> bool:
            self.inbox.forget_old(database, now)
            changed = database.execute(
                "INSERT INTO inbox (source_id, seq, key, body, accepted_at, owner, live, head, digest)"
                " VALUES (?, (SELECT coalesce(max(seq), 0) + 1 FROM inbox), ?, ?, ?, ?, 1, ?, ?)"
                " ON CONFLICT (source_id) DO UPDATE SET body = excluded.body, owner = excluded.owner,"
                " digest = excluded.digest, attempts = 1, outcome = NULL, finished_at = NULL, note = ''"
                " WHERE outcome = 'refused' AND live = 1",
                (
                    envelope.source_id,
                    str(envelope.key),
                    envelope.body,
                    now.isoformat(),
                    self._presence.name,
                    envelope.source_id,
                    digest,
                ),
            )
            return changed.rowcount == 1

        return await self._database.run(insert)

    async def finish(self, source_id: str, outcome: str, now: datetime, note: str = "") -> None:
        """Close a row. `outcome`: done, failed, refused, interrupted; `note` says why."""
        await self._database.run(
            lambda database: database.execute(
                # What it said is in its session file; here it would only be kept.
                "UPDATE inbox SET outcome = ?, finished_at = ?, note = ?, body = '' WHERE source_id = ?",
                (outcome, now.isoformat(), note, source_id),
            )
        )

    async def known(self, source_id: str) -> Known | None:
        """What is known of a message that was not refused."""

        def select(database: sqlite3.Connection) -> Known | None:
            row = database.execute(
                "SELECT key, outcome, digest, note FROM inbox WHERE source_id = ? AND outcome IS NOT 'refused'",
                (source_id,),
            ).fetchone()
            if row is None:
                return None
            key, outcome, digest, note = row
            return Known(SessionKey.parse(key), outcome is None, digest, note if outcome == "failed" else "")

        return await self._database.run(select)

    async def release(self, source_ids: Sequence[str]) -> None:
        """Give claimed orphans back, as if they had not been looked at."""
        await self._database.run(
            lambda database: database.executemany(
                "UPDATE inbox SET owner = 'nobody', attempts = attempts - 1 WHERE source_id = ? AND outcome IS NULL",
                [(source_id,) for source_id in source_ids],
            )
        )

    async def claim_orphans(self, key: SessionKey, source_prefix: str, most: int = 1000) -> list[Row]:
        """Take over unfinished rows of `key` whose process died, oldest first; one more attempt is counted for each."""

        def claim(database: sqlite3.Connection) -> list[Row]:
            rows = database.execute(
                "SELECT source_id, body, accepted_at, owner, attempts FROM inbox"
                " WHERE outcome IS NULL AND key = ? AND substr(source_id, 1, ?) = ? AND state <> 'waiting'"
                " ORDER BY seq, accepted_at",
                (str(key), len(source_prefix), source_prefix),
            ).fetchall()
            taken: list[Row] = []
            for source_id, body, accepted_at, owner, attempts in rows:
                if len(taken) >= most:
                    break
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

        return await self._database.run(claim)

    async def spend(self, day: date, key: SessionKey, usd: float) -> None:
        """Add to what `key` has cost on `day`."""
        await self._database.run(
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

        return await self._database.run(total)

    async def close(self) -> None:
        """Wait for what is under way, then close the file."""
        await self._database.close()
