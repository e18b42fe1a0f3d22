"""When a chat may be sent the next message or edit.

Per chat one request at a time, with a distance between them that grows when Telegram complains; over all chats a bucket. Knows
time, as it is given. Does not know what is sent: whoever has the slot decides only then, so that the newest text wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

__all__ = ["PRIVATE_S", "Pacer", "Rates"]

# https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this, read 2026-11-20: about one message per second
# in a chat, 20 per minute in a group, 30 per second in all. Five per second are left for what is not paced.
PRIVATE_S = 1.0
GROUP_S = 3.0
PER_SECOND = 25

# After a complaint the chat's distance is this much longer, up to a bound, until it has been quiet for long enough.
_SLOWER = 1.5
_SLOWEST_S = 30.0
_FORGIVEN_S = 600.0

# Chats of which nothing needs to be remembered are forgotten when there are this many: our own choice.
_MAX_LANES = 1000


@dataclass(frozen=True, slots=True)
class Rates:
    """The distances, in seconds; `per_second` is for all chats together. `rest_s` is the first rest after a call that failed."""

    private_s: float = PRIVATE_S
    group_s: float = GROUP_S
    per_second: float = PER_SECOND
    rest_s: float = 1.0


@dataclass(slots=True)
class _Lane:
    base_s: float
    distance_s: float
    free_at: float = 0.0
    flooded_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pacer:
    """Hands out slots. `clock` counts seconds and never goes back."""

    def __init__(self, rates: Rates, clock: Callable[[], float], sleep: Callable[[float], Awaitable[object]]) -> None:
        self._rates = rates
        self._clock = clock
        self._sleep = sleep
        self._lanes: dict[int, _Lane] = {}
        # The bucket as one moment: when it would be full again (the generic cell rate algorithm).
        self._full_at = 0.0

    @asynccontextmanager
    async def slot(self, chat: int) -> AsyncIterator[None]:
        """Wait until `chat` may be sent something; one request is to be made inside. Slots are given in the order asked."""
        lane = self._lane(chat)
        async with lane.lock:
            while (wait_s := lane.free_at - self._clock()) > 0:
                await self._sleep(wait_s)
            if (wait_s := self._take()) > 0:
                await self._sleep(wait_s)
            try:
                yield
            finally:
                lane.free_at = max(lane.free_at, self._clock() + lane.distance_s)

    def flooded(self, chat: int, retry_after_s: float) -> None:
        """Telegram wants silence in `chat` for that long."""
        lane, now = self._lane(chat), self._clock()
        lane.flooded_at = now
        lane.distance_s = min(lane.distance_s * _SLOWER, _SLOWEST_S)
        lane.free_at = max(lane.free_at, now + retry_after_s)

    def is_free(self, chat: int) -> bool:
        """Whether a slot would be given at once: what may as well be left out asks this first."""
        lane = self._lane(chat)
        return not lane.lock.locked() and lane.free_at <= self._clock()

    def _lane(self, chat: int) -> _Lane:
        now = self._clock()
        lane = self._lanes.get(chat)
        if lane is None:
            if len(self._lanes) >= _MAX_LANES:
                self._lanes = {chat: lane for chat, lane in self._lanes.items() if not _is_forgettable(lane, now)}
            base_s = self._rates.group_s if chat < 0 else self._rates.private_s
            lane = self._lanes[chat] = _Lane(base_s, base_s)
        elif lane.distance_s > lane.base_s and now - lane.flooded_at > _FORGIVEN_S:
            lane.distance_s = lane.base_s
        return lane

    def _take(self) -> float:
        """Take one from the bucket, which holds a second's worth; returns how long to wait before using it."""
        now = self._clock()
        self._full_at = max(self._full_at, now) + 1 / self._rates.per_second
        return self._full_at - now - 1.0


def _is_forgettable(lane: _Lane, now: float) -> bool:
    return not lane.lock.locked() and lane.free_at <= now and now - lane.flooded_at > _FORGIVEN_S
