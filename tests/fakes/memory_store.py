"""A session store that keeps everything in memory and thinks forwards: what `FileStore` reads backwards from a file, this one
replays from the beginning. Slow and plain, so that it can serve as the other's measure."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from nanochat.errors import LeaseHeld, NotWritten
from nanochat.history.exchanges import begins_exchange
from nanochat.keys import SessionKey
from nanochat.lines import encode
from nanochat.ports import Appended, Brief, Changes, View
from nanochat.records import (
    MAX_LINE_BYTES,
    Compact,
    Event,
    Message,
    Opened,
    Record,
    Reset,
    Rewind,
    SetValue,
    Snapshot,
    State,
    after,
    text_of,
)

__all__ = ["MemoryStore"]

WAIT_NOTICE_S = 5.0


class MemoryStore:
    """All sessions of one process. Keeps the promises of `ports.SessionStore`, but for durability and other processes."""

    def __init__(self) -> None:
        self._files: dict[SessionKey, list[Record]] = {}
        self._states: dict[SessionKey, State] = {}
        self._leases: dict[SessionKey, asyncio.Lock] = {}
        self._blobs: dict[str, bytes] = {}

    async def read(self, key: SessionKey, *, exchanges: int, limit_bytes: int, upto: int | None = None) -> View | None:
        records = self._files.get(key, [])
        end = _end(records)
        if upto is not None and upto < end:
            records = [record for record in records if record.end <= upto]
        if not records:
            return None
        state = next(record.state for record in reversed(records) if isinstance(record, Snapshot))
        n = max((record.n + 1 for record in records if isinstance(record, Message)), default=0)
        state = replace(state, n=max(state.n, n))
        values = {
            record.start: record.event.value
            for record in records
            if isinstance(record, Snapshot) and isinstance(record.event, SetValue)
        }
        shown, complete = _window(_live(records), exchanges, limit_bytes)
        system = values[state.system.at] if state.system else ""
        pins = tuple(values[pin.at] for pin in state.pins)
        return View(state, tuple(shown), system, pins, complete, _end(records))

    async def catch_up(self, key: SessionKey, known: int) -> Changes:
        records = self._files.get(key, [])
        end = _end(records)
        if known > end:
            return Changes((), known, replaced=True)
        return Changes(tuple(record for record in records if record.start >= known), end)

    async def append(
        self, key: SessionKey, drafts: Sequence[Message | Event], *, known: int, durable: bool, now: datetime
    ) -> Appended:
        before = self._files.get(key, [])
        others = (await self.catch_up(key, known)).records
        added: list[Record] = []
        at = _end(before)
        state = self._states.get(key)
        if state is None:
            state = State(str(key), now, now)
            header = Snapshot(state, Opened(), 0)
            at = len(_encoded(header))
            added.append(replace(header, end=at))
        is_new = len(added)
        for draft in drafts:
            record: Record
            if isinstance(draft, Message):
                record = replace(draft, n=state.n, start=at)
                state = replace(state, n=state.n + 1)
            else:
                state = after(state, draft, at, now)
                record = Snapshot(state, draft, at)
            at += len(_encoded(record))
            added.append(replace(record, end=at))
        self._states[key] = replace(state, updated_at=max(state.updated_at, now))
        self._files[key] = [*before, *added]
        return Appended(tuple(added[is_new:]), others, self._states[key], at, replaced=known > _end(before))

    @asynccontextmanager
    async def lease(
        self, key: SessionKey, *, patience_s: float | None = None, on_wait: Callable[[str], None] | None = None
    ) -> AsyncIterator[None]:
        lock = self._leases.setdefault(key, asyncio.Lock())
        tell = asyncio.get_running_loop().call_later(WAIT_NOTICE_S, on_wait or _silent, "this process")
        try:
            async with asyncio.timeout(patience_s):
                await lock.acquire()
        except TimeoutError as error:
            raise LeaseHeld(f"session {key} is in a turn", key=str(key), holder="this process") from error
        finally:
            tell.cancel()
        try:
            yield
        finally:
            lock.release()

    async def list(self) -> list[Brief]:
        briefs = []
        for key, records in self._files.items():
            newest = next((record for record in reversed(records) if isinstance(record, Message)), None)
            preview = text_of(newest.content).strip().partition("\n")[0] if newest else ""
            state = self._states[key]
            briefs.append(Brief(key, state, preview, _end(records), state.updated_at))
        return sorted(briefs, key=lambda brief: brief.modified_at, reverse=True)

    async def put_blob(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self._blobs[sha256] = data
        return sha256

    async def get_blob(self, sha256: str) -> bytes | None:
        return self._blobs.get(sha256)

    async def close(self) -> None:
        return None


def _end(records: Sequence[Record]) -> int:
    return records[-1].end if records else 0


def _encoded(record: Record) -> bytes:
    try:
        line = encode(record)
    except ValueError as error:
        raise NotWritten(f"cannot be written: {error}") from error
    if len(line) > MAX_LINE_BYTES:
        raise NotWritten(f"a message of {len(line)} bytes is longer than a line may be")
    return line


def _live(records: Sequence[Record]) -> list[Record]:
    """What is live after all records; the versions on the way are what a rewind goes back to."""
    versions: dict[int, list[Record]] = {0: []}
    live: list[Record] = []
    for record in records:
        event = record.event if isinstance(record, Snapshot) else None
        if isinstance(event, Rewind) and event.to in versions:
            live = versions[event.to]
        elif isinstance(event, Reset):
            live = [record]
        elif not isinstance(event, Rewind):
            live = [*live, record]
        versions[record.end] = live
    compactions = [r.event for r in live if isinstance(r, Snapshot) and isinstance(r.event, Compact)]
    if compactions:
        live = [record for record in live if record.start >= compactions[-1].keep]
    return live


def _window(live: Sequence[Record], exchanges: int, limit_bytes: int) -> tuple[Sequence[Record], bool]:
    """The newest part that is large enough and begins at a user line, and whether that is all of it."""
    if any(isinstance(record, Snapshot) and isinstance(record.event, Compact) for record in live):
        return live, True
    seen, size = 0, 0
    for i in range(len(live) - 1, -1, -1):
        record = live[i]
        size += record.end - record.start
        if begins_exchange(record):
            seen += 1
            if seen >= exchanges and size >= limit_bytes:
                return live[i:], False
    return live, True


def _silent(holder: str) -> None:
    return None
