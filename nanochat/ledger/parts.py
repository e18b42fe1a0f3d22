"""What each reply has sent so far, so that a turn continued after a crash edits instead of repeating.

Knows places and message ids. Does not know what the messages say.
"""

from __future__ import annotations

from nanochat.ledger.database import Database
from nanochat.ports import SentPart

__all__ = ["PartsOf"]


class PartsOf:
    """The `ReplyMemory` of one source."""

    def __init__(self, database: Database, source_id: str) -> None:
        self._database = database
        self._source_id = source_id

    async def parts(self) -> tuple[SentPart, ...]:
        """See `ports.ReplyMemory`."""
        rows = await self._database.run(
            lambda database: database.execute(
                "SELECT place, message_id, digest FROM reply_parts WHERE source_id = ? ORDER BY place",
                (self._source_id,),
            ).fetchall()
        )
        return tuple(SentPart(place, message_id, digest) for place, message_id, digest in rows)

    async def sending(self, index: int) -> None:
        """See `ports.ReplyMemory`."""
        await self.sent(index, "")

    async def sent(self, index: int, message_id: str, digest: str = "") -> None:
        """See `ports.ReplyMemory`."""
        await self._database.run(
            lambda database: database.execute(
                "INSERT OR REPLACE INTO reply_parts VALUES (?, ?, ?, ?)", (self._source_id, index, message_id, digest)
            )
        )

    async def dropped(self, index: int) -> None:
        """See `ports.ReplyMemory`."""
        await self._database.run(
            lambda database: database.execute(
                "DELETE FROM reply_parts WHERE source_id = ? AND place = ?", (self._source_id, index)
            )
        )
