"""When to try again, and when to ask another model.

Knows `ModelError` and time as it is given. Does not know what is tried. It never tries again once text was shown, because a
person would read the beginning twice.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from nanochat.errors import ModelError

__all__ = ["Patience", "Waits", "falls_back", "in_short", "with_retries"]

_T = TypeVar("_T")

# Another model of the same provider may well answer; with these and only these. A refused key or request would be refused again.
_FALLS_BACK = frozenset({"not_found", "overloaded", "rate", "server"})

# Waits that nobody would notice need no notice.
_NOTICE_FROM_S = 1.0


@dataclass(frozen=True, slots=True)
class Waits:
    """Time and chance, so that a test need not wait for either."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long. All our own choice: a person is waiting at the other end.

    `asked_s` is the longest wait that a server may ask for; beyond it we fail at once and say so. `total_s` bounds a whole
    reply with its attempts, after which no new attempt begins.
    """

    retries: int = 3
    first_s: float = 0.5
    first_crowded_s: float = 2.0
    longest_s: float = 20.0
    asked_s: float = 60.0
    total_s: float = 180.0

    def wait_s(self, error: ModelError, tried: int, chance: float) -> float | None:
        """How long to wait after the `tried`-th attempt, counted from 1, or None to give up."""
        if not error.retryable or error.partial or tried > self.retries:
            return None
        asked = error.retry_after_s
        if asked is not None and asked > self.asked_s:
            return None
        is_crowded = error.kind in ("rate", "overloaded")
        if error.kind == "rate" and asked is None and tried > 1:
            # A real rate limit says when it ends; one that does not is a spent allowance, and hammering would not refill it.
            return None
        first = self.first_crowded_s if is_crowded else self.first_s
        ours = min(self.longest_s, first * 2.0 ** (tried - 1)) * (0.5 + chance / 2)
        return max(ours, asked or 0.0)


async def with_retries(
    attempt: Callable[[], Awaitable[_T]],
    *,
    patience: Patience,
    waits: Waits,
    began_s: float,
    on_notice: Callable[[str], None],
) -> _T:
    """Call `attempt` until it succeeds or patience ends.

    Raises:
        ModelError: the last attempt's.
    """
    tried = 0
    while True:
        tried += 1
        try:
            return await attempt()
        except ModelError as error:
            wait_s = patience.wait_s(error, tried, waits.chance())
            if wait_s is None or waits.clock() + wait_s - began_s > patience.total_s:
                raise
            if wait_s >= _NOTICE_FROM_S:
                on_notice(f"{in_short(error)}; trying again in {wait_s:.0f} s")
        await waits.sleep(wait_s)


def falls_back(error: ModelError) -> bool:
    """Whether another model may be asked in this one's place."""
    return error.kind in _FALLS_BACK and not error.partial


def in_short(error: ModelError) -> str:
    """The beginning of a notice."""
    match error.kind:
        case "rate":
            return "rate limited"
        case "overloaded":
            return "the model's servers are overloaded"
        case "server":
            return "the model's servers failed"
        case "timeout":
            return "the model did not answer in time"
        case "not_found":
            return "the model is not known there"
        case "cut":
            return "the connection to the model broke"
        case _:
            return "no connection to the model"
