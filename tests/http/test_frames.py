"""Frames on the wire: whole, however long they are and however slowly they are read."""

from __future__ import annotations

import asyncio

from starlette.types import Message

from nanochat.channels.http.frames import KEEP_ALIVE, PART_BYTES, EventStream, Write, frame


class Slow:
    """A reader who takes one part at a time, when it is told to; and what it has taken."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.at = asyncio.Event()
        self.go = asyncio.Event()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            return
        self.at.set()
        await self.go.wait()
        self.taken.append(message["body"])
        await asyncio.sleep(0)  # whoever else has something to send may do so now

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_long_frame_goes_out_in_parts() -> None:
    """So that a reader who does not read costs one of them, and nothing comes between."""
    slow, long = Slow(), frame("line", "x" * (3 * PART_BYTES))
    silent = asyncio.Event()

    async def write(put: Write) -> None:
        await put(long)
        silent.set()
        await asyncio.Event().wait()

    stream = EventStream(write, {}, ending=asyncio.Event(), keep_alive_s=0.0)
    serving = asyncio.create_task(stream({"type": "http"}, slow.receive, slow.send))
    await slow.at.wait()
    for _ in range(20):  # rounds of the loop, in each of which a comment would be let through
        await asyncio.sleep(0)
    assert slow.taken == []
    slow.go.set()
    await silent.wait()
    assert all(len(part) <= PART_BYTES for part in slow.taken)
    assert b"".join(slow.taken).replace(KEEP_ALIVE, b"") == long
    assert b"".join(slow.taken).startswith(long)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
