"""The queue of updates, as tdlib/telegram-bot-api keeps it, and the time that it goes by.

Knows offsets, waiting polls, who is allowed what, and what has grown too old. Does not know what an update tells.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["UPDATE_KINDS", "BotError", "Clock", "RunningClock", "ServerClock", "UpdateQueue"]

# "Incoming updates are stored on the server … not longer than 24 hours", https://core.telegram.org/bots/api, read 2026-11-20.
UPDATE_LIFE_S = 24 * 3600.0
# These five are Client.cpp of tdlib/telegram-bot-api 10.0: process_get_updates_query, do_get_updates, fail_query_conflict.
MAX_TIMEOUT_S = 50
MAX_LIMIT = 100
SAME_OFFSET_HOLD_S = 3.0
SAME_OFFSET_HASTE_S = 0.5
CONFLICT_PAUSE_S = 3.0

UPDATE_KINDS = (
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "inline_query",
    "chosen_inline_result",
    "callback_query",
    "shipping_query",
    "pre_checkout_query",
    "poll",
    "poll_answer",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "message_reaction",
    "message_reaction_count",
)
_ON_REQUEST = frozenset(("chat_member", "message_reaction", "message_reaction_count"))
_DEFAULT = frozenset(UPDATE_KINDS) - _ON_REQUEST

_TERMINATED = (
    "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first",
)


class BotError(Exception):
    """What the Bot API answers instead of a result."""

    def __init__(self, status: int, description: str, parameters: Mapping[str, int] | None = None) -> None:
        super().__init__(description)
        self.status = status
        self.description = description
        self.parameters = dict(parameters or {})


class ServerClock(Protocol):
    """The server's time, in seconds since 1970."""

    @property
    def now_s(self) -> float: ...

    def call_at(self, when_s: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call at that time; returns what takes it back."""
        ...

    def advance(self, seconds: float) -> None: ...


class Clock:
    """Stands still unless a test advances it."""

    def __init__(self, start_s: float | None = None) -> None:
        self._now_s = float(int(time.time())) if start_s is None else start_s
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    @property
    def now_s(self) -> float:
        return self._now_s

    def call_at(self, when_s: float, call: Callable[[], None]) -> Callable[[], None]:
        number = next(self._numbers)
        heapq.heappush(self._calls, (when_s, number, call))
        return lambda: self._take_back(number)

    def _take_back(self, number: int) -> None:
        self._calls = [entry for entry in self._calls if entry[1] != number]
        heapq.heapify(self._calls)

    def advance(self, seconds: float) -> None:
        """Move on, calling what falls due on the way, each at its time."""
        goal_s = self._now_s + seconds
        while self._calls and self._calls[0][0] <= goal_s:
            when_s, _, call = heapq.heappop(self._calls)
            self._now_s = max(self._now_s, when_s)
            call()
        self._now_s = goal_s


class RunningClock:
    """Goes as the wall clock does; `advance` sets it forward, for what is asked of it from then on."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    @property
    def now_s(self) -> float:
        return time.time() + self._ahead_s

    def call_at(self, when_s: float, call: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_later(max(0.0, when_s - self.now_s), call).cancel

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds


@dataclass(frozen=True, slots=True)
class _Pending:
    number: int
    body: Mapping[str, object]
    expires_s: float


class UpdateQueue:
    """What waits to be fetched. `next_id` is the next update's; `confirmed` counts those that an offset forgot."""

    def __init__(self, clock: ServerClock, first_id: int = 700_000_001) -> None:
        self.next_id = first_id
        self.confirmed = 0
        self.allowed: frozenset[str] = _DEFAULT
        self.webhook_url = ""
        self._clock = clock
        self._pending: list[_Pending] = []
        self._waiting: asyncio.Future[None] | None = None
        self._last_offset: int | None = None
        self._last_start_s = 0.0
        self._next_conflict_s = 0.0
        self._forced_conflicts = 0

    @property
    def pending(self) -> list[Mapping[str, object]]:
        """What would be handed out, oldest first."""
        self._pending = [one for one in self._pending if one.expires_s > self._clock.now_s]
        return [one.body for one in self._pending]

    @property
    def is_polled(self) -> bool:
        """A poll is being held."""
        return self._waiting is not None

    def push(self, kind: str, content: Mapping[str, object]) -> int | None:
        """Add an update; None where its kind was not asked for: such are lost, not kept."""
        if kind in UPDATE_KINDS and kind not in self.allowed:
            return None
        number = self.next_id
        self.next_id += 1
        self.put({"update_id": number, kind: content})
        return number

    def put(self, update: Mapping[str, object]) -> None:
        """Add a whole update as it is, also one that was there before."""
        number = update["update_id"]
        assert isinstance(number, int)
        self._pending.append(_Pending(number, update, self._clock.now_s + UPDATE_LIFE_S))
        self._pending.sort(key=lambda one: one.number)
        self.next_id = max(self.next_id, number + 1)
        self._wake()

    def drop(self) -> None:
        self._pending.clear()

    def conflict(self, times: int) -> None:
        """Another instance polls: the held poll, or the next one, and so `times` in all end in a 409."""
        self._forced_conflicts += times
        if self._waiting is not None:
            self._forced_conflicts -= 1
            self._end(self._waiting, BotError(409, _TERMINATED[0]))

    async def get(self, offset: int, limit: int, timeout_s: int, allowed: Sequence[str] | None) -> list[object]:
        """One getUpdates.

        Raises:
            BotError: a webhook is set, or another poll came after this one.
        """
        if self.webhook_url:
            raise BotError(409, _TERMINATED[1])
        if self._forced_conflicts:
            self._forced_conflicts -= 1
            raise BotError(409, _TERMINATED[0])
        self._end_older_poll()
        if allowed is not None:
            known = frozenset(allowed) & frozenset(UPDATE_KINDS)
            self.allowed = known or _DEFAULT
        hold_s, count = self._paced(offset, float(min(max(timeout_s, 0), MAX_TIMEOUT_S)), limit)
        self._confirm(offset)
        if not self.pending and hold_s:
            await self._hold(hold_s)
        return list(self.pending[:count])

    def _paced(self, offset: int, hold_s: float, limit: int) -> tuple[float, int]:
        """Whoever asks again without confirming is slowed down."""
        now_s, count = self._clock.now_s, min(max(limit, 1), MAX_LIMIT)
        if offset == self._last_offset:
            if now_s < self._last_start_s + SAME_OFFSET_HOLD_S:
                hold_s = max(hold_s, SAME_OFFSET_HOLD_S)
            if now_s < self._last_start_s + SAME_OFFSET_HASTE_S:
                count = 1
        self._last_offset, self._last_start_s = offset, now_s
        return hold_s, count

    def _confirm(self, offset: int) -> None:
        if offset < 0:
            kept = self._pending[offset:]
        elif offset <= self.next_id:
            kept = [one for one in self._pending if one.number >= offset]
        else:
            kept = self._pending
        self.confirmed += len(self._pending) - len(kept)
        self._pending = kept

    async def _hold(self, hold_s: float) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting = waiting
        take_back = self._clock.call_at(self._clock.now_s + hold_s, lambda: self._end(waiting))
        try:
            await waiting
        finally:
            take_back()
            if self._waiting is waiting:
                self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None:
            self._end(self._waiting)

    def _end(self, waiting: asyncio.Future[None], error: BotError | None = None) -> None:
        if waiting is self._waiting:
            self._waiting = None
        if waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    def _end_older_poll(self) -> None:
        """It is told at once, or, where one was told so lately, after the pause that keeps two instances from racing."""
        older, self._waiting = self._waiting, None
        if older is None:
            return
        error = BotError(409, _TERMINATED[0])
        now_s = self._clock.now_s
        if now_s >= self._next_conflict_s:
            self._next_conflict_s = now_s + CONFLICT_PAUSE_S
            self._end(older, error)
        else:
            self._clock.call_at(self._next_conflict_s, lambda: self._end(older, error))
            self._next_conflict_s += CONFLICT_PAUSE_S
