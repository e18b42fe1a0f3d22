"""A Handler that answers from a script, and can be held at any point.

Knows the contract of `ports.Handler`. Does not know who calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from nanochat.events import Inbound, ReplyEvent, TextDelta, TurnDone, TurnStats
from nanochat.ports import Emit
from nanochat.records import Usage

__all__ = ["STATS", "Pause", "Script", "ScriptedHandler", "said"]

STATS = TurnStats("test-1", Usage(100, 900, 0, 0, 20), 0.0123, 1020, 16000, 200000, 0.5, 1.25)


@dataclass(frozen=True, slots=True)
class Pause:
    """Where a script waits until the test says `go`, or `/stop` comes."""

    go: asyncio.Event = field(default_factory=asyncio.Event)


Script: TypeAlias = Sequence[ReplyEvent | Pause]
"""The events of one reply, in order, and where it waits."""


def said(*pieces: str, mark: str = "") -> list[ReplyEvent]:
    """A reply in pieces, complete."""
    return [*map(TextDelta, pieces), TurnDone("".join(pieces), STATS, mark)]


class ScriptedHandler:
    """Answers each message with the next script, one turn at a time; without a script it echoes.

    `/stop` overtakes: it ends the running script with the mark `stopped`. `seen` holds all messages in the order of their
    coming.
    """

    def __init__(self, *scripts: Script) -> None:
        self.seen: list[Inbound] = []
        self._scripts: Iterator[Script] = iter(scripts)
        self._queue = asyncio.Lock()
        self._stop: Callable[[], None] = lambda: None

    async def __call__(self, inbound: Inbound, emit: Emit) -> None:
        await self.answer(inbound, emit)

    async def answer(self, inbound: Inbound, emit: Emit, script: Script | None = None) -> None:
        """Play `script`, or the next one, when it is this message's turn."""
        self.seen.append(inbound)
        if inbound.text == "/stop":
            self._stop()
            emit(TurnDone("stopped"))
            return
        async with self._queue:
            await self._play(script or next(self._scripts, said(f"echo: {inbound.text}")), emit)

    async def _play(self, script: Script, emit: Emit) -> None:
        stopped = asyncio.Event()
        self._stop = stopped.set
        text = ""
        for step in script:
            if isinstance(step, Pause):
                waits = [asyncio.create_task(event.wait()) for event in (step.go, stopped)]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
                if stopped.is_set():
                    emit(TurnDone(text, STATS, "stopped"))
                    return
                continue
            if isinstance(step, TextDelta):
                text += step.text
            emit(step)
            await asyncio.sleep(0)
