"""All conversations, looked at and put away from outside a turn: `doors.Sessions`, and what the command line has besides.

Looking reads files and changes nothing; whatever changes one holds the session's lease, and so never comes into the middle of
somebody's turn. Knows sessions and the store. Does not know who asks, nor whether messages wait for a session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import cast

from nanochat import usage
from nanochat.doors import Page, SessionStats
from nanochat.errors import LeaseHeld, StoreError, UnknownSession
from nanochat.history.exchanges import begins_exchange
from nanochat.history.sizes import measure
from nanochat.keys import SessionKey
from nanochat.ports import Brief
from nanochat.records import Compact, Content, Message, Record, Reset, Snapshot
from nanochat.sessions import Session, SessionManager, Undone
from nanochat.store import Archived, Fate, FileStore
from nanochat.turn import attachments

__all__ = ["Catalog", "Swept", "Told"]

# The most turns on a curve.
CURVE_TURNS = 1000

# How much of a file is read at once on the way back to what is asked for: a little at first, since most ask for little.
STEP_BYTES = 256 * 1024
MAX_STEP_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Told:
    """Live records of a conversation since its last reset, oldest first. `is_damaged`: lines among them could not be read."""

    records: tuple[Record, ...]
    is_damaged: bool


@dataclass(frozen=True, slots=True)
class Swept:
    """What was put away for its silence, and in words what could not be."""

    archived: tuple[Archived, ...]
    faults: tuple[str, ...]


class Catalog:
    """Keeps the promises of `doors.Sessions`. `store` is the one that `manager` is over; `budget_tokens` what a request may
    send of a conversation; a turn under way is waited for `patience_s`, then its holder is named."""

    def __init__(
        self,
        manager: SessionManager,
        store: FileStore,
        *,
        budget_tokens: int,
        patience_s: float = 5.0,
        step_bytes: int = STEP_BYTES,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._manager = manager
        self._store = store
        self._budget_tokens = budget_tokens
        self._patience_s = patience_s
        self._step_bytes = step_bytes
        self._clock = clock

    # --- looking -----------------------------------------------------------------------------------------------------

    async def list(self) -> Sequence[Brief]:
        """See `doors.Sessions.list`."""
        return await self._store.list()

    async def brief(self, key: SessionKey) -> Brief:
        """One session at a glance."""
        found = await self._store.brief(key)
        if found is None:
            raise UnknownSession(str(key))
        return found

    async def history(self, key: SessionKey, *, before: int | None = None, limit: int = 100) -> Page:
        """See `doors.Sessions.history`. Reads backwards, as far as the page is from the end."""

        def is_wanted(record: Record) -> bool:
            return isinstance(record, Message) and (before is None or record.n < before)

        told = await self._back(key, is_wanted, limit + 1)
        messages = [record for record in told.records if isinstance(record, Message) and is_wanted(record)]
        page = messages[max(0, len(messages) - limit) :]
        return Page(tuple(page), page[0].n if page and len(messages) > len(page) else None)

    async def whole(self, key: SessionKey) -> Told:
        """The conversation since its last reset, with what compactions no longer send."""
        return await self._back(key)

    async def newest(self, key: SessionKey, exchanges: int) -> Told:
        """The last exchanges of it, with their deliveries, or as many as there are."""
        told = await self._back(key, begins_exchange, exchanges)
        starts = [i for i, record in enumerate(told.records) if begins_exchange(record)]
        return replace(told, records=told.records[starts[-exchanges] :]) if len(starts) >= exchanges else told

    async def everything(self, key: SessionKey) -> tuple[tuple[Record, Fate], ...]:
        """All that its file holds, what was reset and undone as well."""
        await self._expect(key)
        return await self._store.everything(key)

    async def faults(self, key: SessionKey) -> int:
        """How many lines of its file cannot be read, or say what does not hold."""
        return len({damage.line for damage in await self._store.check(key)})

    async def with_bytes(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """The records with large pictures and documents in place, for a reader that does not have our files."""
        return tuple([await self._filled(record) for record in records])

    async def stats(self, key: SessionKey) -> SessionStats:
        """See `doors.Sessions.stats`."""
        brief = await self.brief(key)
        session = await self._manager.get_or_create(key)
        ends = await self._store.turn_ends(key, CURVE_TURNS)
        return SessionStats(brief, _context_tokens(session), self._budget_tokens, usage.curve(ends, CURVE_TURNS))

    # --- changing ----------------------------------------------------------------------------------------------------

    async def reset(self, key: SessionKey, reason: str) -> None:
        """See `doors.Sessions.reset`."""
        async with self._turn(key) as session:
            await self._manager.append(session, Reset(reason), durable=True)

    async def undo(self, key: SessionKey) -> Undone | None:
        """Take back the last exchange, or a reset after which nothing was said; None where nothing is left to take back."""
        async with self._turn(key) as session:
            return await self._manager.undo(session)

    async def archive(self, key: SessionKey) -> str:
        """See `doors.Sessions.archive`."""
        return str((await self.put_away(key, "asked"))[0].moved_to)

    async def put_away(self, key: SessionKey, reason: str) -> tuple[Archived, ...]:
        """Move its file to the archive: the file, and then those of nanobot that it hid, if any."""
        async with self._lease(key):
            return await self._store.archive(key, at=self._clock(), reason=reason)

    async def delete(self, key: SessionKey) -> None:
        """Remove its file for good. Blobs stay: another session may name the same ones."""
        async with self._lease(key):
            await self._store.remove(key)

    async def archive_silent(self, older_than: timedelta, is_wanted: Callable[[SessionKey], bool]) -> Swept:
        """Put away what was silent for so long and is not in a turn. `is_wanted` says of which it must not be done; it is asked
        again just before, with the session's lease held."""
        archived: list[Archived] = []
        faults: list[str] = []
        reason = f"silent for {older_than.days} days"
        for brief in await self.list():
            key = brief.key
            if is_wanted(key) or not self._is_silent(brief, older_than):
                continue
            try:
                async with self._store.lease(key, patience_s=0.0):
                    now = await self._store.brief(key)
                    if now is not None and self._is_silent(now, older_than) and not is_wanted(key):
                        archived += await self._store.archive(key, at=self._clock(), reason=reason)
            except LeaseHeld:
                continue
            except StoreError as error:
                faults.append(str(error))
        return Swept(tuple(archived), tuple(faults))

    def _is_silent(self, brief: Brief, older_than: timedelta) -> bool:
        # A file that was just copied here is new, whatever its last line says.
        return self._clock() - max(brief.modified_at, brief.state.updated_at) > older_than

    # --- on the way --------------------------------------------------------------------------------------------------

    async def _expect(self, key: SessionKey) -> None:
        """That there is such a session; asking leaves no trace of one that is not there."""
        if not await self._store.exists(key):
            raise UnknownSession(str(key))

    @asynccontextmanager
    async def _lease(self, key: SessionKey) -> AsyncIterator[None]:
        await self._expect(key)
        async with self._store.lease(key, patience_s=self._patience_s):
            await self._expect(key)  # who held it may have put it away
            yield

    @asynccontextmanager
    async def _turn(self, key: SessionKey) -> AsyncIterator[Session]:
        await self._expect(key)
        async with self._manager.turn(key, patience_s=self._patience_s) as session:
            await self._expect(key)
            yield session

    async def _back(
        self, key: SessionKey, is_wanted: Callable[[Record], bool] = lambda _: False, count: int = 1
    ) -> Told:
        """Live records, read backwards in steps until so many are wanted ones or the last reset is reached.

        What was live before a live line is what was live when the file ended there; so each step is a view of its own, and a
        compaction is passed like any other line.
        """
        await self._expect(key)
        steps: list[list[Record]] = []
        numbers: set[int] = set()
        is_damaged = False
        step_bytes = self._step_bytes
        upto: int | None = None
        while True:
            view = await self._store.read(key, exchanges=1, limit_bytes=step_bytes, upto=upto)
            if view is None:
                break
            is_damaged |= view.unreadable > 0
            if not view.records:
                break
            # After a failed sync a line stands there twice; the later one counts.
            new = [r for r in view.records if not (isinstance(r, Message) and r.n in numbers)]
            numbers.update(record.n for record in new if isinstance(record, Message))
            steps.append(new)
            count -= sum(map(is_wanted, new))
            is_first = view.complete and not any(isinstance(r, Snapshot) and isinstance(r.event, Compact) for r in new)
            upto = 0 if is_first else view.records[0].start
            if upto <= 0 or count <= 0:
                break
            step_bytes = min(2 * step_bytes, MAX_STEP_BYTES)
        return Told(tuple(record for step in reversed(steps) for record in step), is_damaged)

    async def _filled(self, record: Record) -> Record:
        if not isinstance(record, Message) or isinstance(record.content, str):
            return record
        message, *_ = await attachments.with_bytes(self._store, [{"role": record.role, "content": record.content}])
        return replace(record, content=cast(Content, message["content"]))


def _context_tokens(session: Session) -> int:
    """The size of the last request and its reply, as the model told it; where none was since a boundary, of the conversation."""
    for record in reversed(session.records):
        if isinstance(record, Snapshot) and isinstance(record.event, Compact):
            break
        if isinstance(record, Message) and record.usage is not None:
            return record.usage.prompt + record.usage.output
    return measure(session.records, session.pin_texts).total_tokens
