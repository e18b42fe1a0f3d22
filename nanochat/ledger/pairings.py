"""Who may talk to the bot besides those that the settings allow.

An unknown person is given a code, the same until they have it; whoever sits at the machine enters it. Knows codes and user ids.
Does not know the settings' own list, nor any channel.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nanochat.errors import CommandError
from nanochat.ledger.database import Database

__all__ = ["Pairing", "Pairings", "make_code", "read_pairings"]

# Eight characters without those that are taken for another (0 O, 1 I L, 2 Z, 5 S, 8 B): 25 ** 8 guesses at a code that lives an
# hour, is entered at the machine itself, and of which at most three are out.
ALPHABET = "34679ACDEFGHJKMNPQRTUVWXY"
CODE_CHARS = 8
CODE_LIVES = timedelta(hours=1)
MAX_PENDING = 3

# Names are what strangers call themselves.
MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class Pairing:
    """A person who was let in, at `paired_at`, or who was offered `code`."""

    user_id: int
    name: str
    code: str
    offered_at: datetime
    paired_at: datetime | None

    def is_pending(self, now: datetime) -> bool:
        """Whether the code still works."""
        return self.paired_at is None and now < self.offered_at + CODE_LIVES


def make_code() -> str:
    """A new code."""
    return "".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARS))


class Pairings:
    """The people of one ledger. Safe to call concurrently, also from several processes."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    async def is_paired(self, user_id: int) -> bool:
        """Whether this person was let in."""
        row = await self._database.run(
            lambda database: database.execute(
                "SELECT 1 FROM pairings WHERE user_id = ? AND paired_at IS NOT NULL", (user_id,)
            ).fetchone()
        )
        return row is not None

    async def offer(self, user_id: int, name: str) -> str | None:
        """A code for this person; None where one was told within the hour, where too many are out, or where none is needed.

        One that was not `told` is offered again, and lives an hour from then. What nobody entered in time is forgotten.
        """
        now = self._clock()

        def add(database: sqlite3.Connection) -> str | None:
            database.execute(
                "DELETE FROM pairings WHERE paired_at IS NULL AND offered_at <= ?", ((now - CODE_LIVES).isoformat(),)
            )
            there = database.execute(
                "SELECT code, paired_at, told_at FROM pairings WHERE user_id = ?", (user_id,)
            ).fetchone()
            if there is None:
                (pending,) = database.execute("SELECT count(*) FROM pairings WHERE paired_at IS NULL").fetchone()
                if pending >= MAX_PENDING:
                    return None
                code = make_code()
            else:
                code, paired_at, told_at = there
                if paired_at or told_at:
                    return None
            database.execute(
                "INSERT OR REPLACE INTO pairings (user_id, name, code, offered_at) VALUES (?, ?, ?, ?)",
                (user_id, name[:MAX_NAME_CHARS], code, now.isoformat()),
            )
            return str(code)

        return await self._database.run(add)

    async def told(self, user_id: int) -> None:
        """This person has the code that they were offered."""
        now = self._clock().isoformat()
        await self._database.run(
            lambda database: database.execute("UPDATE pairings SET told_at = ? WHERE user_id = ?", (now, user_id))
        )

    async def pair(self, code: str) -> Pairing:
        """Let in whoever was given this code; dashes, blanks and case do not count.

        Raises:
            CommandError: no such code is out.
        """
        now = self._clock()
        typed = "".join(code.split()).replace("-", "").upper()

        def let_in(database: sqlite3.Connection) -> Pairing:
            found = next((p for p in read_pairings(database) if p.code == typed and p.is_pending(now)), None)
            if found is None:
                raise CommandError(
                    f"there is no pairing code {code!r}; a code works for an hour, a new message gets a new one"
                )
            database.execute("UPDATE pairings SET paired_at = ? WHERE user_id = ?", (now.isoformat(), found.user_id))
            return Pairing(found.user_id, found.name, found.code, found.offered_at, now)

        return await self._database.run(let_in)

    async def revoke(self, user_id: int) -> bool:
        """Let this person in no longer; False where they were not."""
        gone = await self._database.run(
            lambda database: database.execute("DELETE FROM pairings WHERE user_id = ?", (user_id,)).rowcount
        )
        return gone > 0


def read_pairings(database: sqlite3.Connection) -> list[Pairing]:
    """Everybody, in the order of the offers."""
    if not database.execute("PRAGMA table_info(pairings)").fetchall():  # nobody has written the file yet
        return []
    rows = database.execute("SELECT user_id, name, code, offered_at, paired_at FROM pairings ORDER BY offered_at")
    return [
        Pairing(
            user_id,
            name,
            code,
            datetime.fromisoformat(offered_at),
            datetime.fromisoformat(paired_at) if paired_at else None,
        )
        for user_id, name, code, offered_at, paired_at in rows
    ]
