"""Who is next in each session, within this process.

Knows places in a line. Does not know what is done there, nor other processes: the turn lease is between those.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from nanochat.errors import Busy
from nanochat.keys import SessionKey
from nanochat.turn.agent import Stop

__all__ = ["Lines"]


@dataclass(slots=True)
class _Place:
    stop: Stop
    is_brief: bool
    has_come: asyncio.Event = field(default_factory=asyncio.Event)


class Lines:
    """A line for each session in which at most `waiting` stand behind the first; it may be changed at any time."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self._lines: dict[SessionKey, list[_Place]] = {}
        # Who is on the way to a line, and whether he was stopped before he got there.
        self._coming: dict[SessionKey, dict[str, bool]] = {}

    @contextmanager
    def coming(self, key: SessionKey, source_id: str) -> Iterator[None]:
        """Be on the way to the line: whoever is stopped meanwhile is stopped when he stands there."""
        self._coming.setdefault(key, {})[source_id] = False
        try:
            yield
        finally:
            self._arrive(key, source_id)

    @asynccontextmanager
    async def place(
        self, key: SessionKey, stop: Stop, *, first: bool = False, brief: bool = False, source_id: str = ""
    ) -> AsyncIterator[asyncio.Event]:
        """Stand in line; the event is set when one's turn has come. With `first` the running one makes way, and one stands
        before those who wait; who is `brief` is over at once, and makes way for nobody.

        Raises:
            Busy: the line is full.
        """
        line = self._lines.setdefault(key, [])
        if len(line) > self.waiting:
            raise Busy(f"{key}: {len(line) - 1} messages wait already; wait for a reply, or /stop")
        if self._arrive(key, source_id):
            stop.request()
        if first:
            self.make_way(key)
        mine = _Place(stop, brief)
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

    def make_way(self, key: SessionKey) -> None:
        """Stop who runs, for one who is to come instead."""
        line = self._lines.get(key)
        if not line or not line[0].is_brief:
            self.stop_first(key)

    def stop_first(self, key: SessionKey) -> bool:
        """Stop who runs, or is next to run, be it only on the way here; False where there is nobody."""
        if line := self._lines.get(key):
            line[0].stop.request()
            return True
        coming = self._coming.get(key, {})
        coming.update(dict.fromkeys(coming, True))
        return bool(coming)

    def _arrive(self, key: SessionKey, source_id: str) -> bool:
        """Whether one who is no longer on the way was stopped there."""
        coming = self._coming.get(key, {})
        was_stopped = coming.pop(source_id, False)
        if not coming:
            self._coming.pop(key, None)
        return was_stopped
