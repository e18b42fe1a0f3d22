"""Server-sent events: how they stand on the wire, and a response that sends them until it is over, or its reader is gone.

Knows the text/event-stream format, WHATWG HTML §9.2. Does not know what is told.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

__all__ = ["EVENT_STREAM", "KEEP_ALIVE", "PART_BYTES", "EventStream", "Write", "Writer", "comment", "frame", "gone"]

EVENT_STREAM = "text/event-stream"

KEEP_ALIVE = b": keep-alive\n\n"

# What is handed over at once: more than this is kept here while a reader does not read, and not a second time by its connection.
PART_BYTES = 64 * 1024

# What a reader's own line breaks would be taken for.
_BREAKS = re.compile("\r\n|\r|\n")

Write: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Put whole frames on the wire; waits while the reader is slow."""

Writer: TypeAlias = Callable[[Write], Awaitable[None]]
"""Writes a stream from its first frame to its last."""


def frame(event: str, fields: Mapping[str, object] | str, event_id: str = "") -> bytes:
    """One event; text is sent as it is, whatever else as JSON."""
    text = fields if isinstance(fields, str) else json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    lines = [f"event: {event}", *([f"id: {event_id}"] if event_id else [])]
    lines += [f"data: {line}" for line in _BREAKS.split(text)]
    return ("\n".join(lines) + "\n\n").encode(errors="replace")


def comment(text: str) -> bytes:
    """A line that programs pass over."""
    return f": {_BREAKS.sub(' ', text)}\n\n".encode(errors="replace")


async def gone(receive: Receive) -> None:
    """Return when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Has a `writer` write, and a comment sent when nothing was for `keep_alive_s`, until the reader is gone.

    Once `ending` is set, the writer has `farewell_s` to come to its end.
    """

    media_type = EVENT_STREAM

    def __init__(
        self,
        writer: Writer,
        headers: Mapping[str, str],
        *,
        ending: asyncio.Event,
        keep_alive_s: float,
        farewell_s: float = 0.0,
    ) -> None:
        self.status_code = 200
        self.background = None
        # Proxies that collect an answer before they hand it on would make a stream one late lump.
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no", **headers})
        self._writer = writer
        self._ending = ending
        self._keep_alive_s = keep_alive_s
        self._farewell_s = farewell_s
        self._was_written = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = asyncio.Lock()  # a comment would be taken for a part of the frame that it came into

        async def write(frames: bytes) -> None:
            self._was_written = True
            async with whole:
                for begin in range(0, len(frames), PART_BYTES):
                    part = frames[begin : begin + PART_BYTES]
                    await send({"type": "http.response.body", "body": part, "more_body": True})

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._write(write))
            others = [group.create_task(wait) for wait in (gone(receive), self._ending.wait(), self._live(write))]
            leaving, ending, _ = others
            await asyncio.wait({writing, leaving, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not (writing.done() or leaving.done()):
                await asyncio.wait({writing, leaving}, timeout=self._farewell_s, return_when=asyncio.FIRST_COMPLETED)
            for task in (writing, *others):
                task.cancel()
        if not leaving.done() or leaving.cancelled():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, write: Write) -> None:
        await self._writer(write)

    async def _live(self, write: Write) -> None:
        """Have proxies, and readers, know that somebody is there."""
        while True:
            await asyncio.sleep(self._keep_alive_s)
            if not self._was_written:
                await write(KEEP_ALIVE)
            self._was_written = False
