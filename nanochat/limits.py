"""What a turn may cost, and how often one may come.

Knows money and time windows. Does not know what a turn does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanochat.errors import LimitReached
from nanochat.keys import SessionKey
from nanochat.ledger import Ledger
from nanochat.records import State

__all__ = ["Limits", "Purse", "RateFence"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The `[limits]` of the settings that bound sessions and money; 0 means no cap."""

    turns_per_minute: int = 20
    waiting: int = 10
    concurrent_turns: int = 32
    usd_per_day: float = 0.0
    usd_per_session: float = 0.0


class Purse:
    """Checks the caps before money is spent, and writes down what was."""

    def __init__(self, ledger: Ledger, limits: Limits, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._limits = limits
        self._clock = clock

    async def check(self, state: State, running_usd: float = 0.0) -> None:
        """Refuse a request that a cap forbids; `running_usd` is what the turn has cost so far.

        Raises:
            LimitReached: names the cap, what was spent, and how to go on.
        """
        cap = self._limits.usd_per_session
        spent = state.totals.cost_usd + running_usd
        if cap and spent >= cap:
            raise LimitReached(
                f"{state.key} has cost ${spent:.2f} of its ${cap:.2f}: raise limits.usd_per_session to go on",
                setting="limits.usd_per_session",
            )
        cap = self._limits.usd_per_day
        if not cap:
            return
        now = self._clock().astimezone()
        spent = await self._ledger.spent(now.date()) + running_usd
        if spent >= cap:
            midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
            raise LimitReached(
                f"today has cost ${spent:.2f} of ${cap:.2f}: it goes on tomorrow, or raise limits.usd_per_day",
                setting="limits.usd_per_day",
                retry_after_s=(midnight - now).total_seconds(),
            )

    async def spend(self, key: SessionKey, usd: float | None) -> None:
        """Write down what one request has cost; nothing where it was free or its price is unknown."""
        if usd:
            await self._ledger.spend(self._clock().astimezone().date(), key, usd)


class RateFence:
    """At most so many turns per session in any minute."""

    def __init__(self, turns_per_minute: int, clock: Callable[[], datetime]) -> None:
        self._turns_per_minute = turns_per_minute
        self._clock = clock
        self._recent: dict[SessionKey, deque[datetime]] = {}

    def pass_through(self, key: SessionKey) -> None:
        """Count one turn.

        Raises:
            LimitReached: says when the next may come.
        """
        if not self._turns_per_minute:
            return
        now = self._clock()
        minute_ago = now - timedelta(minutes=1)
        self._recent = {k: times for k, times in self._recent.items() if times[-1] > minute_ago}
        times = self._recent.setdefault(key, deque())
        while times and times[0] <= minute_ago:
            times.popleft()
        if len(times) >= self._turns_per_minute:
            wait_s = (times[0] - minute_ago).total_seconds()
            raise LimitReached(
                f"{key}: {len(times)} messages in a minute are all it takes; try again in {wait_s:.0f} s",
                setting="limits.turns_per_minute",
                retry_after_s=wait_s,
            )
        times.append(now)
