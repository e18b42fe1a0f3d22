"""The inbox: what came in and is not yet answered, in the order of its coming.

    waiting -> claimed -> ran -> delivered | failed | refused
               claimed -> failed | refused | quarantined
    waiting -> replaced (an edit was taken over), dropped (an edit came too late)

Once a row has an outcome it is closed, and kept for a week so that the same source is known again. The envelopes of a group are
claimed together and closed together; the first of them, the `head`, stands for all. Knows rows and who may take which next.
Does not know what an envelope says, nor what becomes of it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias, cast

from nanochat.keys import SessionKey
from nanochat.ledger.database import Database
from nanochat.ports import Envelope

__all__ = ["KEPT_DAYS", "Claim", "Inbox", "Lane", "Suspect"]

# Telegram repeats an update for at most 24 hours, a client with an Idempotency-Key for as long as its user is patient; a week
# covers both, and our own retries.
KEPT_DAYS = 7

# The terminal sees to its own: what it left unfinished is gone on with when its session is next opened there.
TERMINAL = "cli:"

# What is begun while two processes died is begun once more, and alone: then it is known whether it was the cause.
SUSPECT_CRASHES = 2

Suspect: TypeAlias = Literal["suspect"]
"""In the place of a claim: what is next saw processes die, and is to be asked for when no other of its kind is at work."""

Lane: TypeAlias = Literal["line", "pass", "send"]
"""`line` is a session's line, in order; `pass` goes by it; `send` is what a delivery has to do once it is recorded."""

_Manner: TypeAlias = Literal["wait", "pass", "stop"]
_OPEN = f"outcome IS NULL AND substr(source_id, 1, {len(TERMINAL)}) <> '{TERMINAL}'"


# What was begun goes on first; a /new goes before those who wait, as it does in the line of a live channel: it is meant for what
# runs, and what they ask, they ask of what comes after.
_TURN_TO_COME = "state = 'waiting', manner <> 'stop', seq"


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be done next, and by us alone.

    `crashes` counts the claims that ended with their process; after an orderly end `begun` is true without one. `told` is what
    a turn that ran had said where its session file cannot tell it again. With an `origin` this is a delivery, and its body
    the text. `is_live` is an orphan of a channel that had waited for its answer.
    """

    source_id: str
    key: SessionKey
    envelopes: tuple[Envelope, ...]
    accepted_at: datetime
    begun: bool = False
    crashes: int = 0
    has_run: bool = False
    told: str = ""
    origin: str = ""
    is_live: bool = False


class _Row(NamedTuple):
    source_id: str
    band: str
    ready_at: str
    manner: str
    origin: str
    live: int
    owner: str
    attempts: int
    state: str
    head: str
    told: str
    accepted_at: str


_COLUMNS = ", ".join(_Row._fields)


class Inbox:
    """The rows of one ledger. Safe to call concurrently."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._presence = database.presence
        self._pruned_on: date | None = None

    async def accept(self, envelope: Envelope, now: datetime) -> bool:
        """Keep an envelope; durable when it returns. False where its `source_id` is known already."""

        def insert(database: sqlite3.Connection) -> bool:
            self.forget_old(database, now)
            if not _insert(database, envelope, now):
                return False
            if envelope.replaces:
                swapped = database.execute(
                    "UPDATE inbox SET body = ? WHERE place = ? AND key = ? AND state = 'waiting' AND outcome IS NULL",
                    (envelope.body, envelope.replaces, str(envelope.key)),
                )
                outcome = "replaced" if swapped.rowcount else "dropped"
                _close(database, envelope.source_id, outcome, now, f"message {envelope.replaces}")
            return True

        return await self._database.run(insert)

    def forget_old(self, database: sqlite3.Connection, now: datetime) -> None:
        """Once a day, inside a transaction: forget what was closed more than `KEPT_DAYS` ago."""
        if self._pruned_on == now.date():
            return
        self._pruned_on = now.date()
        kept_from = (now - timedelta(days=KEPT_DAYS)).isoformat()
        database.execute("DELETE FROM inbox WHERE outcome IS NOT NULL AND finished_at < ?", (kept_from,))
        database.execute("DELETE FROM reply_parts WHERE source_id NOT IN (SELECT source_id FROM inbox)")
        # By the day of whatever time zone it is: the caps ask for today, and a week is more than any zone is off.
        database.execute("DELETE FROM spend WHERE day < ?", (kept_from[:10],))

    async def add_delivery(self, envelope: Envelope, origin: str, now: datetime) -> bool:
        """Keep a text that is to be delivered to the envelope's key; False where its `source_id` is known already."""
        return await self._database.run(lambda database: _insert(database, envelope, now, origin))

    async def keys(self) -> list[SessionKey]:
        """Every session for which something is to be done."""

        def select(database: sqlite3.Connection) -> list[SessionKey]:
            rows = database.execute(f"SELECT key FROM inbox WHERE {_OPEN} GROUP BY key ORDER BY min(seq)")
            return [SessionKey.parse(key) for (key,) in rows]

        return await self._database.run(select)

    async def claim(
        self,
        key: SessionKey,
        lane: Lane,
        now: datetime,
        *,
        busy: Collection[str] = (),
        served: bool = True,
        fenced_until: datetime | None = None,
        suspects: bool = True,
    ) -> Claim | Suspect | datetime | None:
        """Take what is next in one lane of a session; or learn when to ask again; or None where nothing is to be done.

        Args:
            busy: the sources that this process works on already.
            served: whether there is a channel for what people said; without, only deliveries and orphans are taken.
            fenced_until: until then, no new message of the line is taken.
            suspects: whether a turn may be taken that saw processes die.
        """
        taken = frozenset(busy)

        def select(database: sqlite3.Connection) -> Claim | Suspect | datetime | None:
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM inbox WHERE {_OPEN} AND key = ? ORDER BY {_TURN_TO_COME}", (str(key),)
            )
            later: list[datetime] = []
            for row in map(_Row._make, rows):
                if _lane_of(row) != lane or (not served and not row.origin and not row.live):
                    continue
                if later and lane == "line" and not row.origin:
                    continue  # only a delivery, which no limit is for, goes by a message whose time has not come
                if row.state == "waiting":
                    members = _members(database, key, row)
                    ready_at = _ready_at(members, fenced_until if row.manner == "wait" and not row.origin else None)
                    if ready_at is None or ready_at <= now:
                        return self._begin(database, key, row, members)
                    later.append(ready_at)
                elif row.live and self._is_held(row):
                    continue
                elif row.head != row.source_id:
                    continue  # its head stands for it
                elif row.head in taken or (row.owner != self._presence.name and self._is_held(row)):
                    if lane != "pass":
                        break
                elif not suspects and row.state == "claimed" and self._crashes(row) >= SUSPECT_CRASHES:
                    return "suspect"
                else:
                    return self._go_on(database, key, row)
            return min(later, default=None)

        return await self._database.run(select)

    async def ran(self, source_id: str, now: datetime, told: str = "") -> None:
        """The turn is over; `told` is its last event where only the ledger can tell it again."""
        await self._database.run(
            lambda database: database.execute(
                "UPDATE inbox SET state = 'ran', ran_at = ?, told = ? WHERE head = ? AND outcome IS NULL",
                (now.isoformat(), told, source_id),
            )
        )

    async def stand_in_line(self, source_id: str) -> None:
        """Give a claim back that is not to go by the line after all: it waits in it, where it stood by its coming."""
        await self._database.run(
            lambda database: database.execute(
                "UPDATE inbox SET manner = 'wait', state = 'waiting', head = '', owner = '', attempts = 0"
                " WHERE head = ? AND outcome IS NULL",
                (source_id,),
            )
        )

    async def close(
        self, source_id: str, outcome: str, now: datetime, note: str = "", message_ids: Sequence[str] = ()
    ) -> None:
        """The end of a claim: its `outcome`, why, and the messages that are the evidence."""
        await self._database.run(lambda database: _close(database, source_id, outcome, now, note, message_ids))

    async def spare(self) -> None:
        """An orderly end is no crash: what we leave unfinished does not count against it."""
        await self._database.run(
            lambda database: database.execute(
                "UPDATE inbox SET attempts = attempts - 1"
                " WHERE owner = ? AND outcome IS NULL AND live = 0 AND state <> 'waiting'",
                (self._presence.name,),
            )
        )

    def _is_held(self, row: _Row) -> bool:
        return row.owner == self._presence.name or self._presence.is_alive(row.owner)

    def _begin(
        self, database: sqlite3.Connection, key: SessionKey, row: _Row, members: Sequence[tuple[str, str]]
    ) -> Claim:
        database.executemany(
            "UPDATE inbox SET state = 'claimed', owner = ?, attempts = 1, head = ? WHERE source_id = ?",
            [(self._presence.name, row.source_id, source_id) for source_id, _ in members],
        )
        return _claim(database, key, row, begun=False, crashes=0)

    def _go_on(self, database: sqlite3.Connection, key: SessionKey, row: _Row) -> Claim:
        database.execute(
            "UPDATE inbox SET owner = ?, attempts = attempts + ? WHERE head = ? AND outcome IS NULL",
            (self._presence.name, int(row.owner != self._presence.name), row.head),
        )
        return _claim(database, key, row, begun=True, crashes=self._crashes(row))

    def _crashes(self, row: _Row) -> int:
        """How many claims of a row that was begun ended with their process, should we take it now."""
        return max(0, row.attempts - int(row.owner == self._presence.name))


def _insert(database: sqlite3.Connection, envelope: Envelope, now: datetime, origin: str = "") -> bool:
    ready_at = envelope.ready_at.isoformat() if envelope.ready_at else ""
    added = database.execute(
        "INSERT OR IGNORE INTO inbox"
        " (source_id, seq, key, body, band, ready_at, manner, place, origin, live, accepted_at, owner, attempts, state)"
        " VALUES (?, (SELECT coalesce(max(seq), 0) + 1 FROM inbox), ?, ?, ?, ?, ?, ?, ?, 0, ?, '', 0, 'waiting')",
        (
            envelope.source_id,
            str(envelope.key),
            envelope.body,
            envelope.group,
            ready_at,
            envelope.manner,
            envelope.place,
            origin,
            now.isoformat(),
        ),
    )
    return added.rowcount == 1


def _close(
    database: sqlite3.Connection,
    source_id: str,
    outcome: str,
    now: datetime,
    note: str = "",
    message_ids: Sequence[str] = (),
) -> None:
    """Close a head with its group, or a row that was never claimed. What people wrote is no longer needed, but for its faults."""
    database.execute(
        "UPDATE inbox SET outcome = ?, note = ?, finished_at = ?, message_ids = ?, told = '',"
        " body = CASE ? WHEN 'quarantined' THEN body ELSE '' END"
        " WHERE (head = ? OR source_id = ?) AND outcome IS NULL",
        (
            outcome,
            note,
            now.isoformat(),
            json.dumps(list(message_ids)) if message_ids else "",
            outcome,
            source_id,
            source_id,
        ),
    )


def _lane_of(row: _Row) -> Lane:
    if row.origin:
        return "send" if row.state == "ran" else "line"
    return "pass" if row.manner == "pass" else "line"


def _members(database: sqlite3.Connection, key: SessionKey, row: _Row) -> list[tuple[str, str]]:
    """Source id and `ready_at` of all that is claimed with a waiting row, itself among them."""
    if not row.band:
        return [(row.source_id, row.ready_at)]
    rows = database.execute(
        "SELECT source_id, ready_at FROM inbox"
        " WHERE outcome IS NULL AND key = ? AND band = ? AND state = 'waiting' ORDER BY seq",
        (str(key), row.band),
    )
    return cast(list[tuple[str, str]], rows.fetchall())


def _ready_at(members: Sequence[tuple[str, str]], fenced_until: datetime | None) -> datetime | None:
    times = [datetime.fromisoformat(ready_at) for _, ready_at in members if ready_at]
    return max([*times, *([fenced_until] if fenced_until else [])], default=None)


def _claim(database: sqlite3.Connection, key: SessionKey, row: _Row, *, begun: bool, crashes: int) -> Claim:
    head = row.head or row.source_id
    members = database.execute(
        "SELECT source_id, body, band, manner FROM inbox WHERE head = ? AND outcome IS NULL ORDER BY seq", (head,)
    )
    return Claim(
        source_id=head,
        key=key,
        envelopes=tuple(
            Envelope(source_id, key, body, band, None, cast(_Manner, manner))
            for source_id, body, band, manner in members
        ),
        accepted_at=datetime.fromisoformat(row.accepted_at),
        begun=begun,
        crashes=crashes,
        has_run=row.state == "ran",
        told=row.told,
        origin=row.origin,
        is_live=bool(row.live),
    )
