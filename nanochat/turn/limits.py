"""What a turn may cost, and how often one may come.

Knows money and time windows. Does not know what a turn does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from nanochat.errors import LimitReached
from nanochat.keys import SessionKey
from nanochat.ledger import Ledger
from nanochat.pricing import cost_usd
from nanochat.records import State, Usage

__all__ = ["RATE_SETTING", "Limits", "Purse", "RateFence"]

RATE_SETTING = "limits.turns_per_minute"
"""The limit that only delays: it opens again by itself within a minute."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The `[limits]` of the settings that bound sessions and money; 0 means no cap."""

    turns_per_minute: int = 20
    waiting: int = 10
    concurrent_turns: int = 32
    usd_per_day: float = 0.0
    usd_per_session: float = 0.0

    @property
    def has_cap(self) -> bool:
        """Whether money is capped at all."""
        return bool(self.usd_per_day or self.usd_per_session)


class Purse:
    """Checks the caps before money is spent, and writes down what was; days begin at midnight in `zone`."""

    def __init__(self, ledger: Ledger, limits: Limits, zone: tzinfo, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self.limits = limits
        self._zone = zone
        self._clock = clock

    async def check(self, state: State, model: str, running_usd: float = 0.0, turn_cap_usd: float = 0.0) -> None:
        """Refuse a request to `model` that a cap forbids; `running_usd` is what the turn has cost so far, of `turn_cap_usd`.

        Raises:
            LimitReached: names the cap, what was spent, and how to go on.
        """
        if (self.limits.has_cap or turn_cap_usd) and cost_usd(model, Usage()) is None:
            raise LimitReached(
                f"the price of {model} is not known, so no money cap could be kept with it: /model default, or take the cap away",
                setting="limits.usd_per_session" if self.limits.usd_per_session else "limits.usd_per_day",
            )
        if turn_cap_usd and running_usd >= turn_cap_usd:
            raise LimitReached(
                f"this run has cost {_money(running_usd)} of its {_money(turn_cap_usd)}: raise usd_per_run to have it go on",
                setting="usd_per_run",
            )
        cap = self.limits.usd_per_session
        spent = state.totals.cost_usd + running_usd
        if cap and spent >= cap:
            raise LimitReached(
                f"{state.key} has cost {_money(spent)} of its {_money(cap)}: raise limits.usd_per_session to go on",
                setting="limits.usd_per_session",
            )
        cap = self.limits.usd_per_day
        if not cap:
            return
        now = self._clock().astimezone(self._zone)
        spent = await self._ledger.spent(now.date())
        if spent >= cap:
            midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
            raise LimitReached(
                f"today has cost {_money(spent)} of {_money(cap)}: it goes on tomorrow, or raise limits.usd_per_day",
                setting="limits.usd_per_day",
                retry_after_s=(midnight - now).total_seconds(),
            )

    async def spend(self, key: SessionKey, usd: float | None) -> None:
        """Write down what one request has cost; nothing where it was free or its price is unknown."""
        if usd:
            await self._ledger.spend(self._clock().astimezone(self._zone).date(), key, usd)


class RateFence:
    """At most so many turns per session in any minute; `turns_per_minute` may be changed at any time, 0 is no limit."""

    def __init__(self, turns_per_minute: int, clock: Callable[[], datetime]) -> None:
        self.turns_per_minute = turns_per_minute
        self._clock = clock
        self._recent: dict[SessionKey, deque[datetime]] = {}

    def opens_at(self, key: SessionKey) -> datetime | None:
        """When the next turn may come; None where it may come now."""
        times = self._recent.get(key, deque())
        if not self.turns_per_minute or len(times) < self.turns_per_minute:
            return None
        opens_at = times[-self.turns_per_minute] + timedelta(minutes=1)
        return opens_at if opens_at > self._clock() else None

    def pass_through(self, key: SessionKey) -> None:
        """Count one turn.

        Raises:
            LimitReached: says when the next may come.
        """
        if not self.turns_per_minute:
            return
        now = self._clock()
        minute_ago = now - timedelta(minutes=1)
        self._recent = {k: times for k, times in self._recent.items() if times[-1] > minute_ago}
        times = self._recent.setdefault(key, deque())
        while times and times[0] <= minute_ago:
            times.popleft()
        if len(times) >= self.turns_per_minute:
            wait_s = (times[0] - minute_ago).total_seconds()
            raise LimitReached(
                f"{key}: {len(times)} messages in a minute are all it takes; try again in {wait_s:.0f} s",
                setting=RATE_SETTING,
                retry_after_s=wait_s,
            )
        times.append(now)


def _money(usd: float) -> str:
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.4f}"
