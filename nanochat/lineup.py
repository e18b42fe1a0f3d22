"""Who is next in each session, within this process.

Knows places in a line. Does not know what is done there, nor other processes: the turn lease is between those.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nanochat.agent import Stop
from nanochat.errors import Busy
from nanochat.keys import SessionKey

__all__ = ["Lines"]


@dataclass(slots=True)
class _Place:
    stop: Stop
    has_come: asyncio.Event = field(default_factory=asyncio.Event)


class Lines:
    """A line for each session in which at most `waiting` stand behind the first; it may be changed at any time."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self._lines: dict[SessionKey, list[_Place]] = {}

    @asynccontextmanager
    async def place(self, key: SessionKey, stop: Stop, *, first: bool) -> AsyncIterator[asyncio.Event]:
        """Stand in line; the event is set when one's turn has come. With `first` the running one is stopped, and one stands
        before those who wait.

        Raises:
            Busy: the line is full.
        """
        line = self._lines.setdefault(key, [])
        if len(line) > self.waiting:
            raise Busy(f"{key}: {len(line) - 1} messages wait already; wait for a reply, or /stop")
        if first:
            self.stop_first(key)
        mine = _Place(stop)
        line.insert(1 if first else len(line), mine)
        line[0].has_come.set()
        try:
            yield mine.has_come
        finally:
            line.remove(mine)
            if line:
                line[0].has_come.set()
            else:
                del self._lines[key]

    def stop_first(self, key: SessionKey) -> bool:
        """Stop who runs, or is next to run; False where the line is empty."""
        line = self._lines.get(key)
        if not line:
            return False
        line[0].stop.request()
        return True
