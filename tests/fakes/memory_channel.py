"""A Channel whose other side is a list: the smallest honest one.

What people see is a `Board`, which outlives the channel, so that a test can let a process die and open the next one on the same
people. Knows the contract of `ports.Channel`. Does not know who calls.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from nanochat.errors import ChannelError
from nanochat.events import Inbound, ReplyEvent, Sender, Text, TextDelta, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.ports import Accept, Envelope, Receipt, ReplyMemory, SentPart

__all__ = ["OLGA", "REPEATED", "Board", "ForgetfulMemory", "MemoryChannel", "Place"]

Place: TypeAlias = Literal["run", "parse", "show"]
"""Where a fault can be put: bringing messages in, reading one, showing an answer."""

OLGA = Sender("memory:olga", "olga", owner=True)

REPEATED = "↻ "
"""Stands in front of a message that may have been sent before."""


@dataclass
class Board:
    """What stands in each conversation: message ids and their texts, in the order of sending. `log` is every step."""

    shown: dict[SessionKey, dict[str, str]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, key: SessionKey, message_id: str, text: str) -> str:
        """Show a text as a new message (`message_id` empty), or in the place of an old one; returns its id."""
        async with self._changed:
            self.log.append(f"{'edit' if message_id else 'send'} {key} {text}")
            message_id = message_id or str(next(self._numbers))
            self.shown.setdefault(key, {})[message_id] = text
            self._changed.notify_all()
        return message_id

    def texts(self, key: SessionKey) -> list[str]:
        """What stands in a conversation now."""
        return list(self.shown.get(key, {}).values())

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something that is shown makes `holds` true."""
        async with self._changed:
            await self._changed.wait_for(holds)


class ForgetfulMemory:
    """A `ReplyMemory` in memory; `known` is what stands in it."""

    def __init__(self, *known: SentPart) -> None:
        self.known: dict[int, SentPart] = {part.index: part for part in known}
        self.steps: list[str] = []

    async def parts(self) -> tuple[SentPart, ...]:
        return tuple(self.known[index] for index in sorted(self.known))

    async def sending(self, index: int) -> None:
        self.steps.append(f"sending {index}")
        self.known[index] = SentPart(index, "")

    async def sent(self, index: int, message_id: str, digest: str = "") -> None:
        self.steps.append(f"sent {index} {message_id}")
        self.known[index] = SentPart(index, message_id, digest)

    async def dropped(self, index: int) -> None:
        self.steps.append(f"dropped {index}")
        self.known.pop(index, None)


class MemoryChannel:
    """People who write with `say` and read the board.

    `heard` is every event of every reply. `fault` puts an error where it is raised once; `opened` counts the starts of `run`,
    `closed` tells of `close`. A message that begins with `unreadable` cannot be parsed. While `gate` is closed, one that
    begins with `pdf` is being downloaded.
    """

    def __init__(
        self,
        name: str = "memory",
        board: Board | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = name
        self.board = board or Board()
        self.opened = 0
        self.closed = False
        self.parsed: list[tuple[str, ...]] = []
        self.heard: list[tuple[Inbound, ReplyEvent]] = []
        self._parsed = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()
        self.downloading = asyncio.Event()
        self._clock = clock
        self._accept: Accept | None = None
        self._running = asyncio.Event()
        self._broken: asyncio.Future[None] | None = None
        self._faults: dict[Place, list[Exception]] = {"run": [], "parse": [], "show": []}
        self._numbers = itertools.count(1)

    def fault(self, place: Place, error: Exception) -> None:
        """Raise `error` the next time that `place` is passed; a running `run` is passed at once."""
        if place == "run" and self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)
        else:
            self._faults[place].append(error)

    async def say(
        self,
        text: str,
        chat: str = "1",
        *,
        source_id: str = "",
        sender: Sender = OLGA,
        group: str = "",
        ready_at: datetime | None = None,
        manner: Literal["wait", "pass", "stop"] = "wait",
        replaces: str = "",
    ) -> str:
        """Write a message, once the channel is running; returns its source id when it was accepted."""
        source_id = source_id or f"{self.name}:{next(self._numbers)}"
        who = {"id": sender.id, "name": sender.name, "owner": sender.owner}
        body = json.dumps({"text": text, "sender": who, "at": self._clock().isoformat()})
        key = SessionKey(self.name, chat)
        await self._running.wait()
        assert self._accept is not None
        await self._accept(Envelope(source_id, key, body, group, ready_at, manner, replaces))
        return source_id

    async def run(self, accept: Accept) -> None:
        self.opened += 1
        self._pass("run")
        self._accept = accept
        self._broken = asyncio.get_running_loop().create_future()
        self._running.set()
        try:
            await self._broken
        finally:
            self._running.clear()
            self._accept = None

    async def until_parsed(self, source_id: str) -> None:
        """Wait until a message has been taken up."""
        async with self._parsed:
            await self._parsed.wait_for(lambda: (source_id,) in self.parsed)

    async def parse(self, envelopes: Sequence[Envelope]) -> Inbound:
        self._pass("parse")
        async with self._parsed:
            self.parsed.append(tuple(envelope.source_id for envelope in envelopes))
            self._parsed.notify_all()
        bodies = [json.loads(envelope.body) for envelope in envelopes]
        text = "\n".join(body["text"] for body in bodies)
        if text.startswith("pdf"):
            self.downloading.set()
            await self.gate.wait()
        if text.startswith("unreadable"):
            raise ChannelError("this kind of message cannot be read here")
        first = bodies[0]
        who = first["sender"]
        sender = Sender(who["id"], who["name"], who["owner"])
        head = envelopes[0]
        return Inbound(head.key, head.source_id, sender, (Text(text),), datetime.fromisoformat(first["at"]))

    def reply_to(self, inbound: Inbound, memory: ReplyMemory) -> _MemoryReply:
        return _MemoryReply(self, inbound, memory)

    async def deliver(self, key: SessionKey, text: str, memory: ReplyMemory) -> Receipt:
        return await self.show(key, text, memory)

    async def show(self, key: SessionKey, text: str, memory: ReplyMemory) -> Receipt:
        """One message with `text`: the one that `memory` knows, or a new one."""
        self._pass("show")
        known = await memory.parts()
        if known and known[0].message_id:
            message_id = await self.board.put(key, known[0].message_id, text)
        else:
            await memory.sending(0)
            message_id = await self.board.put(key, "", REPEATED * bool(known) + text)
        await memory.sent(0, message_id)
        return Receipt((message_id,))

    async def close(self) -> None:
        self.closed = True

    def _pass(self, place: Place) -> None:
        if self._faults[place]:
            raise self._faults[place].pop(0)


class _MemoryReply:
    """Keeps the words and shows them whole at the end."""

    def __init__(self, channel: MemoryChannel, inbound: Inbound, memory: ReplyMemory) -> None:
        self._channel = channel
        self._inbound = inbound
        self._memory = memory
        self._pieces: list[str] = []
        self._final = ""

    def __call__(self, event: ReplyEvent) -> None:
        self._channel.heard.append((self._inbound, event))
        match event:
            case TextDelta(text=text):
                self._pieces.append(text)
            case TurnDone(text=text):
                self._final = "".join(self._pieces) or text or "(nothing)"
            case TurnFailed(message=message):
                self._final = "\n".join(["".join(self._pieces), f"error: {message}"]).strip()
            case _:
                pass

    async def settle(self) -> Receipt:
        return await self._channel.show(self._inbound.key, self._final, self._memory)
