"""Waiting for a better time, which an orderly end cuts short.

Knows seconds. Does not know what is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

__all__ = ["MAX_BACK_OFF_S", "Patience", "Pause", "pause"]

# Doubling from a second: a network that blinks costs a second, one that is away for a day costs a request in five minutes.
FIRST_BACK_OFF_S = 1.0
MAX_BACK_OFF_S = 300.0

Pause: TypeAlias = Callable[[float, asyncio.Event], Awaitable[bool]]
"""Let so many seconds pass: True when they have, False when the event came first."""


async def pause(seconds: float, over: asyncio.Event) -> bool:
    """See `Pause`; by the loop's own clock."""
    try:
        async with asyncio.timeout(seconds):
            await over.wait()
    except TimeoutError:
        return True
    return False


class Patience:
    """Shared by all that wait in one daemon; each method may be called concurrently."""

    def __init__(self, pause: Pause = pause) -> None:
        self._pause = pause
        self._over = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether nobody is to wait any more."""
        return self._over.is_set()

    def end(self) -> None:
        """Send everybody home who waits, now or later."""
        self._over.set()

    async def wait(self, seconds: float) -> bool:
        """True after so many seconds, False when nobody is to wait any more."""
        return not self.is_over and await self._pause(max(0.0, seconds), self._over)

    async def back_off(self, tries: int, at_least_s: float | None = None) -> bool:
        """Wait longer the more tries there were, and `at_least_s`; see `wait`."""
        return await self.wait(max(at_least_s or 0.0, min(FIRST_BACK_OFF_S * 2.0 ** min(tries, 30), MAX_BACK_OFF_S)))
