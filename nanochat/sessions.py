"""Sessions as a process knows them: the live part of each file, kept in step with it.

`SessionManager.get_or_create` is the one way in. Whoever changes a conversation holds its turn lease (`SessionManager.turn`)
and writes through `append`, which also takes in what other processes wrote meanwhile. Knows records and the store's promises.
Does not know files, models or channels.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from weakref import WeakValueDictionary

from nanochat import history
from nanochat.errors import NotWritten
from nanochat.history.exchanges import begins_exchange, pins_needed
from nanochat.keys import SessionKey
from nanochat.ports import Appended, SessionStore, View
from nanochat.records import (
    Block,
    Compact,
    Content,
    Event,
    Json,
    Message,
    Opened,
    Record,
    Ref,
    Reset,
    Rewind,
    Snapshot,
    State,
    TurnEnd,
    UnknownOp,
    Usage,
)
from nanochat.store import FileStore

__all__ = ["WINDOW_BYTES", "Session", "SessionManager", "Undone", "last_question", "source_of"]

# Sessions held strongly: the chats of a busy hour. One in use is never evicted, however many there are.
MAX_CACHED = 128

# The window is read until a boundary; these only bound a file that was never compacted (nanobot's, or a hand-made one). They
# must stay above what may be sent: the exchanges that compaction never takes, and the budget at some eight bytes a token.
WINDOW_EXCHANGES = 40
WINDOW_BYTES = 256 * 1024

# How far back the lines of a crashed turn are looked for, rewound ones included; more than the longest turn's.
RECENT_BYTES = 4 * 1024 * 1024

# A person who prints or saves a conversation wants all of it, and a machine at home has so much memory to spare.
WHOLE_BYTES = 64 * 1024 * 1024

# How long a cancelled write is waited for before its outcome is left to the next reader of the file.
SETTLE_S = 5.0

# A file is followed by looking at it: a reader at a terminal notices half a second, a processor does not notice four fstats.
FOLLOW_S = 0.25

_MESSAGE_FIELDS = frozenset(field.name for field in dataclass_fields(Message)) - {"n", "start", "end", "extra"}

_held: ContextVar[frozenset[SessionKey]] = ContextVar("nanochat_held_leases", default=frozenset())


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo took back: an exchange, by its user line's content, or, with `content` None, a reset."""

    content: Content | None


class Session:
    """One conversation. Made by `SessionManager` only; two callers in a process always hold the same one."""

    def __init__(self, key: SessionKey, now: datetime) -> None:
        self.key = key
        self.state = State(key=str(key), created_at=now, updated_at=now)
        self.records: list[Record] = []
        """The live lines in memory, oldest first; see `ports.View`."""
        self.system = ""
        self.pins: list[tuple[int, str]] = []
        """The byte offset and the text of each pin."""
        self.pin_texts: list[tuple[int, str]] = []
        """The same, with pins that were dropped since the newest compaction: its head is sent as it was until the next."""
        self.complete = True
        self.unreadable = 0
        self.end = 0
        self.unsaved: list[Message] = []
        self.listeners: list[Callable[[Sequence[Record]], None]] = []
        self._stale = True
        self._io = asyncio.Lock()

    @property
    def created_at(self) -> datetime:
        """When the file's first line was written, or now for a session that is not written yet."""
        return self.state.created_at

    @property
    def updated_at(self) -> datetime:
        """When the last snapshot was written."""
        return self.state.updated_at

    @property
    def messages(self) -> list[Message]:
        """The live messages in memory, oldest first, those not yet saved last."""
        return [record for record in self.records if isinstance(record, Message)] + self.unsaved

    def add_message(self, role: str, content: Content, **fields: object) -> Message:
        """Stamp a message and keep it for the next `SessionManager.save`.

        `fields` are a message's own (`source_id`, `mark`, `timestamp`, …); others stand beside them in the line as they are.
        """
        extra = {name: value for name, value in fields.items() if name not in _MESSAGE_FIELDS}
        message = Message(role, content, datetime.now(UTC), extra=cast(Mapping[str, Json], extra))
        own = {name: value for name, value in fields.items() if name in _MESSAGE_FIELDS}
        message = replace(message, **own)  # type: ignore[arg-type]  # the names are a message's, the values the caller's
        self.unsaved.append(message)
        return message

    def get_history(self, *, max_messages: int = 0, max_tokens: int = 0) -> list[Block]:
        """The newest legal part of the conversation as Messages API messages; 0 means no limit.

        `max_tokens` counts as `sizes.measure` does: exactly where the model said, by the learned ratio elsewhere.
        """
        records = [*self.records, *self.unsaved]
        return history.tail(records, pins=self.pin_texts, max_messages=max_messages, max_tokens=max_tokens)

    def take_unreadable(self) -> int:
        """How many lines were lost on the way to the window, told once."""
        lost, self.unreadable = self.unreadable, 0
        return lost

    def turn_of(self, source_id: str) -> list[Record]:
        """The live lines that belong to one inbound, in order; empty where none was written, or all were undone."""
        return [record for record in self.records if source_of(record) == source_id]

    def take_in(self, records: Sequence[Record]) -> None:
        """Bring appended lines to bear, in order. Lines and ends of turns are the daily bread; whatever moves a boundary or a
        setting is rare, and makes the session stale: the store alone knows how to read it."""
        for record in records:
            if isinstance(record, Snapshot):
                self.state = record.state
                self._stale |= not isinstance(record.event, TurnEnd | Opened | UnknownOp)
                self.records.append(record)
            elif any(isinstance(old, Message) and old.n == record.n for old in self.records[-64:]):
                self._stale = True  # the same `_n` again, after a failed sync: the later line counts
            else:
                self.records.append(record)


class SessionManager:
    """All sessions of one directory. Every method may be called concurrently."""

    def __init__(
        self,
        store: SessionStore | str | os.PathLike[str],
        *,
        window_bytes: int = WINDOW_BYTES,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._window_bytes = window_bytes
        self.store: SessionStore = FileStore(Path(store)) if isinstance(store, str | os.PathLike) else store
        self._clock = clock or (lambda: datetime.now(UTC))
        self._recent: OrderedDict[SessionKey, Session] = OrderedDict()
        self._alive: WeakValueDictionary[SessionKey, Session] = WeakValueDictionary()

    async def get_or_create(self, key: SessionKey | str) -> Session:
        """The session, in step with its file. A new one is on disk only after its first save.

        Raises:
            KeyFormError: for text that is no key.
            StoreError: where the file cannot be read.
        """
        key = SessionKey.parse(key) if isinstance(key, str) else key
        session = self._alive.get(key)
        if session is None:
            session = self._alive[key] = Session(key, self._clock())
        self._recent[key] = session
        self._recent.move_to_end(key)
        while len(self._recent) > MAX_CACHED:
            self._recent.popitem(last=False)
        await self.catch_up(session)
        return session

    async def catch_up(self, session: Session) -> None:
        """Take in what other processes appended; one fstat where nothing was."""
        async with session._io:
            if not session._stale:
                changes = await self.store.catch_up(session.key, session.end)
                session._stale = changes.replaced
                if not changes.replaced:
                    session.end = changes.end
                    _take_others(session, changes.records)
            if session._stale:
                await self._read(session)

    async def _read(self, session: Session) -> None:
        view = await self.store.read(session.key, exchanges=WINDOW_EXCHANGES, limit_bytes=self._window_bytes)
        if view is None:
            now = self._clock()
            session.state = State(key=str(session.key), created_at=now, updated_at=now)
            session.records, session.system, session.pins = [], "", []
            session.complete, session.unreadable, session.end = True, 0, 0
        else:
            session.state, session.records, session.system = view.state, list(view.records), view.system
            session.pins = _pins_of(view)
            session.complete, session.unreadable, session.end = view.complete, view.unreadable, view.end
        session.pin_texts = await self._with_dropped_pins(session)
        session._stale = False

    async def _with_dropped_pins(self, session: Session) -> list[tuple[int, str]]:
        compacted = [r for r in session.records if isinstance(r, Snapshot) and isinstance(r.event, Compact)]
        if set(pins_needed(session.records)) <= {at for at, _ in session.pins}:
            return session.pins
        before = await self.store.read(session.key, exchanges=1, limit_bytes=0, upto=compacted[-1].start)
        return [*session.pins, *(_pins_of(before) if before is not None else ())]

    @asynccontextmanager
    async def turn(
        self, key: SessionKey, *, patience_s: float | None = None, on_wait: Callable[[str], None] | None = None
    ) -> AsyncIterator[Session]:
        """Hold the session's turn lease: nobody else, in any process, changes the conversation meanwhile.

        Raises:
            LeaseHeld: after `patience_s`; without it the wait has no end but cancellation.
        """
        async with self.store.lease(key, patience_s=patience_s, on_wait=on_wait):
            token = _held.set(_held.get() | {key})
            try:
                yield await self.get_or_create(key)
            finally:
                _held.reset(token)

    async def save(self, session: Session) -> None:
        """Append what `add_message` kept; durable when this returns.

        Costs the new lines, never the old ones. Takes the turn lease unless the caller holds it. Cancelled, it has written all
        or nothing, and the messages are no longer kept if it has.

        Raises:
            NotWritten: nothing was written, and the messages are still kept.
            DurabilityUnknown: they may be in the file; they are no longer kept.
        """
        if session.key not in _held.get():
            async with self.turn(session.key):
                await self.save(session)
            return
        drafts, session.unsaved = session.unsaved, []
        if not drafts:
            return
        try:
            await self.append(session, *drafts, durable=True)
        except NotWritten:
            session.unsaved[:0] = drafts
            raise

    async def append(self, session: Session, *drafts: Message | Event, durable: bool) -> tuple[Record, ...]:
        """Write all drafts in one write, under the lease that the caller holds; returns them as they stand in the file.

        A write cannot be taken back: cancelled, this waits for its outcome and takes it in before it lets go of the lease.
        """
        async with session._io:
            session._stale = True  # should this fail, only the file knows what is in it
            # A task of its own, since what is cancelled here is the wait. It ends by itself, and is waited for.
            writing = asyncio.get_running_loop().create_task(
                self.store.append(session.key, drafts, known=session.end, durable=durable, now=self._clock())
            )
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError:
                await asyncio.wait({writing}, timeout=SETTLE_S)
                if writing.done() and writing.exception() is None:
                    _take_appended(session, writing.result())
                raise
            appended = writing.result()
            _take_appended(session, appended)
            if session._stale:
                await self._read(session)
            return appended.records

    async def undo(self, session: Session, reason: str = "undo", *, instead: Message | None = None) -> Undone | None:
        """Take back the last exchange, or the reset after which nothing was said; None where nothing is left. Needs the lease.

        Deliveries after it are restated, and so is a compaction whose boundary lies before it. `instead` is a line to stand in
        its place, in the same write: between the two a crash would lose the question.
        """
        target: Message | Snapshot | None = last_question(session.records)
        first = session.records[0] if session.records else None
        if target is None and isinstance(first, Snapshot) and isinstance(first.event, Reset):
            target = first
        if target is None:
            return None
        later = [record for record in session.records if record.start > target.start]
        compactions = [r.event for r in later if isinstance(r, Snapshot) and isinstance(r.event, Compact)]
        restated: list[Message | Event] = [
            replace(event, usage=Usage(), cost_usd=None) for event in compactions[-1:] if event.keep <= target.start
        ]
        restated += [replace(r, n=-1, start=-1, end=-1) for r in later if isinstance(r, Message) and r.delivered]
        restated += [instead] if instead is not None else []
        if isinstance(target, Message):
            pins = tuple(ref for ref in session.state.pins if ref.at < target.start)
            await self.append(session, Rewind(target.start, target.n, reason, pins), *restated, durable=True)
            return Undone(target.content)
        pins = await self._pins_at(session.key, target.start)
        rewind = Rewind(target.start, target.state.n, reason, pins)
        await self.append(session, rewind, *restated, durable=True)
        return Undone(None)

    async def _pins_at(self, key: SessionKey, upto: int) -> tuple[Ref, ...]:
        view = await self.store.read(key, exchanges=1, limit_bytes=0, upto=upto)
        return view.state.pins if view is not None else ()

    async def was_undone(self, session: Session, source_id: str, since: datetime) -> bool:
        """Whether lines of this inbound, which came in at `since`, stand in the file without being live.

        Also true where the file grew by so much since then that it cannot be told: what may have been answered is not
        answered again.
        """
        begin = max(0, session.end - RECENT_BYTES)
        recent = (await self.store.catch_up(session.key, begin)).records
        if session.turn_of(source_id):
            return False
        oldest = next((record.timestamp for record in recent if isinstance(record, Message)), since)
        return (begin > 0 and oldest > since) or any(source_of(record) == source_id for record in recent)

    async def before_reset(self, session: Session, source_id: str) -> list[Record]:
        """The lines of an inbound that were live when a reset, of late, left them behind; empty where none were."""
        begin = max(0, session.end - RECENT_BYTES)
        recent = (await self.store.catch_up(session.key, begin)).records
        last = max((i for i, record in enumerate(recent) if source_of(record) == source_id), default=len(recent))
        reset = next((r for r in recent[last:] if isinstance(r, Snapshot) and isinstance(r.event, Reset)), None)
        if reset is None:
            return []
        view = await self.store.read(session.key, exchanges=1, limit_bytes=RECENT_BYTES, upto=reset.start)
        return [record for record in (view.records if view is not None else ()) if source_of(record) == source_id]

    async def whole(self, session: Session) -> list[Record]:
        """The conversation since its last reset, with what compactions no longer send, oldest first.

        Reads as much as there is; at most about `WHOLE_BYTES` for each compaction.
        """
        found: dict[int, Record] = {}
        upto: int | None = None
        while True:
            view = await self.store.read(session.key, exchanges=1, limit_bytes=WHOLE_BYTES, upto=upto)
            records = view.records if view is not None else ()
            found.update({record.start: record for record in records if record.start not in found})
            compacted = [r.start for r in records if isinstance(r, Snapshot) and isinstance(r.event, Compact)]
            if not compacted or compacted[-1] <= 0:
                return [found[start] for start in sorted(found)]
            upto = compacted[-1]

    async def follow(self, key: SessionKey, show: Callable[[Sequence[Record]], None]) -> None:
        """Call back with the records that other processes append, until cancelled."""
        session = await self.get_or_create(key)
        session.listeners.append(show)
        try:
            while True:
                await asyncio.sleep(FOLLOW_S)
                await self.catch_up(session)
        finally:
            session.listeners.remove(show)

    async def close(self) -> None:
        """Wait for writes under way and let the files go."""
        await self.store.close()


def _pins_of(view: View) -> list[tuple[int, str]]:
    return [(ref.at, text) for ref, text in zip(view.state.pins, view.pins, strict=True)]


def _take_appended(session: Session, appended: Appended) -> None:
    session._stale = appended.replaced
    _take_others(session, appended.others)
    session.take_in(appended.records)
    session.state, session.end = appended.state, appended.end


def _take_others(session: Session, records: Sequence[Record]) -> None:
    if records:
        session.take_in(records)
        for listener in tuple(session.listeners):
            listener(records)


def last_question(records: Sequence[Record]) -> Message | None:
    """The newest line that a person said."""
    return next((r for r in reversed(records) if isinstance(r, Message) and begins_exchange(r)), None)


def source_of(record: Record) -> str:
    """The inbound that a line belongs to, or nothing."""
    if isinstance(record, Message):
        return record.source_id
    return record.event.source_id if isinstance(record.event, TurnEnd) else ""
