"""Time that passes when a test says so, for whoever waits by `nanochat.process.patience`.

Knows who waits until when. Does not know what for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.fakes.house import FakeClock

__all__ = ["Pauses"]


@dataclass
class Pauses:
    """A `patience.Pause` on a clock that stands still. `waits` holds what was asked for, in seconds."""

    clock: FakeClock = field(default_factory=FakeClock)
    waits: list[float] = field(default_factory=list)
    _sleepers: list[tuple[datetime, asyncio.Event]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, seconds: float, over: asyncio.Event) -> bool:
        up = asyncio.Event()
        sleeper = (self.clock.now + timedelta(seconds=seconds), up)
        self.waits.append(seconds)
        self._sleepers.append(sleeper)
        async with self._changed:
            self._changed.notify_all()
        tasks = [asyncio.ensure_future(up.wait()), asyncio.ensure_future(over.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
        return up.is_set()

    async def until_asleep(self, count: int = 1) -> None:
        """Wait until so many wait."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._sleepers) >= count)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake whose time has come."""
        self.clock.advance(seconds=seconds)
        for sleeper in list(self._sleepers):
            if sleeper[0] <= self.clock.now:
                self._sleepers.remove(sleeper)
                sleeper[1].set()
