"""When to draw, and what was said at this terminal.

Knows clocks. Does not know what is drawn.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from nanochat.events import Inbound, Sender, Text
from nanochat.keys import SessionKey

__all__ = ["inbound", "paced"]

# Fast enough to look like writing, slow enough that drawing stays a small part of one core.
_FRAME_S = 0.04
# A frame that took long is followed by a rest of four times that: drawing takes at most a fifth of a core.
_REST = 4


async def paced(dirty: asyncio.Event, draw: Callable[[], None]) -> None:
    """Draw whenever `dirty` is set, until cancelled; what comes within one frame's time is drawn together."""
    while True:
        await dirty.wait()
        dirty.clear()
        started_s = time.monotonic()
        draw()
        took_s = time.monotonic() - started_s
        await asyncio.sleep(max(_FRAME_S, _REST * took_s))


def inbound(key: SessionKey, sender: Sender, text: str) -> Inbound:
    """What somebody said at this terminal, just now."""
    return Inbound(key, f"cli:{uuid.uuid4()}", sender, (Text(text),), datetime.now(UTC))
