"""A channel at work between the fake Bot API and a handler: the smallest dispatcher there can be.

Keeps what is accepted, takes groups up when they are ready, keeps the order per key and lets pass what may. Loses all of it when
it is closed, which is when a process dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nanochat.channels.telegram import Pace, Telegram, TelegramSettings
from nanochat.channels.telegram.live import Showing
from nanochat.channels.telegram.pacer import Rates
from nanochat.channels.telegram.poll import Patience
from nanochat.errors import ChannelError, LedgerError
from nanochat.events import Inbound, ReplyEvent
from nanochat.keys import SessionKey
from nanochat.ports import Envelope, Handler, Receipt
from tests.fakes.bot_api import FakeBotAPI
from tests.fakes.memory_channel import ForgetfulMemory
from tests.fakes.scripted_handler import ScriptedHandler

__all__ = ["HURRIED", "PairingBook", "Switchboard", "open_switchboard"]

HURRIED = Pace(
    patience=Patience(deaf_s=8.0, backoff_s=0.005, backoff_max_s=0.02),
    rates=Rates(private_s=0.01, group_s=0.01, per_second=10_000, rest_s=0.005),
    showing=Showing(first_s=0.05, typing_after_s=0.02, typing_every_s=0.02),
    together_s=0.1,
)


@dataclass
class PairingBook:
    """Who was let in; offers each person one code, until they have it."""

    paired: set[int] = field(default_factory=set)
    has_code: set[int] = field(default_factory=set)
    refusals: int = 0

    async def is_paired(self, user_id: int) -> bool:
        return user_id in self.paired

    async def offer(self, user_id: int, name: str) -> str | None:
        return None if user_id in self.has_code else "ABCD2345"

    async def told(self, user_id: int) -> None:
        if self.refusals:
            self.refusals -= 1
            raise LedgerError("the disk is full")
        self.has_code.add(user_id)


class Switchboard:
    """`accepted` is the inbox; `inbounds`, `receipts` and `failures` what became of it, in order."""

    def __init__(self, channel: Telegram, handler: Handler, group: asyncio.TaskGroup) -> None:
        self.channel = channel
        self.accepted: dict[str, Envelope] = {}
        self.inbounds: list[Inbound] = []
        self.receipts: list[Receipt] = []
        self.failures: list[ChannelError | ValueError] = []
        self.memories: dict[str, ForgetfulMemory] = {}
        self.refusals = 0
        self.retries = 0
        self._handler = handler
        self._group = group
        self._locks: dict[SessionKey, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished: set[str] = set()
        self._changed = asyncio.Condition()

    async def accept(self, envelope: Envelope) -> bool:
        if self.refusals:
            self.refusals -= 1
            raise LedgerError("the disk is full")
        if envelope.source_id in self.accepted:
            return False
        self.accepted[envelope.source_id] = envelope
        self._begin(envelope)
        return True

    def inherit(self, dead: Switchboard) -> None:
        """Take over what a switchboard that died had accepted: its unfinished messages are begun again."""
        self.accepted = dict(dead.accepted)
        self.memories = dead.memories
        self._finished = dead._finished
        for envelope in dead.accepted.values():
            if envelope.source_id not in self._finished:
                self._begin(envelope)

    async def until_finished(self, count: int) -> None:
        """Wait until so many messages were answered, here or by those that died."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._finished) >= count)

    def _begin(self, envelope: Envelope) -> None:
        task = self._group.create_task(self._take(envelope))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Drop everything as it is."""
        for task in self._tasks:
            task.cancel()

    async def until(self, count: int) -> None:
        """Wait until so many messages were dealt with here."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.receipts) + len(self.failures) >= count)

    async def _take(self, envelope: Envelope) -> None:
        if envelope.ready_at is not None:
            await asyncio.sleep((envelope.ready_at - datetime.now(UTC)).total_seconds())
        together = [envelope]
        if envelope.group:
            together = [one for one in self.accepted.values() if one.group == envelope.group]
        if together[-1] is not envelope or envelope.replaces:
            return
        if envelope.manner == "pass":
            await self._answer(together)
        else:
            async with self._locks.setdefault(envelope.key, asyncio.Lock()):
                await self._answer(together)
        async with self._changed:
            self._changed.notify_all()

    async def _tell(self, inbound: Inbound, memory: ForgetfulMemory) -> Receipt:
        """Have it answered once; what could not be brought there is told again, as often as `retries` says."""
        told: list[ReplyEvent] = []
        reply = self.channel.reply_to(inbound, memory)

        def emit(event: ReplyEvent) -> None:
            told.append(event)
            reply(event)

        await self._handler(inbound, emit)
        for _ in range(self.retries):
            try:
                return await reply.settle()
            except ChannelError as error:
                if not error.retryable:
                    raise
                reply = self.channel.reply_to(inbound, memory)
                for event in told:
                    reply(event)
        return await reply.settle()

    async def _answer(self, envelopes: list[Envelope]) -> None:
        memory = self.memories.setdefault(envelopes[0].source_id, ForgetfulMemory())
        try:
            inbound = await self.channel.parse(envelopes)
            self.inbounds.append(inbound)
            self.receipts.append(await self._tell(inbound, memory))
            self._finished.update(envelope.source_id for envelope in envelopes)
        except (ChannelError, ValueError) as error:
            self.failures.append(error)


@asynccontextmanager
async def open_switchboard(
    api: FakeBotAPI,
    handler: Handler | None = None,
    *,
    pace: Pace = HURRIED,
    book: PairingBook | None = None,
    **settings: Any,  # Any: handed through to TelegramSettings as it is
) -> AsyncIterator[Switchboard]:
    """Open the channel on `api` and run it until the end of the block."""
    told = TelegramSettings(token=api.token, base_url=api.url, **settings)
    channel = Telegram(told, book or PairingBook(), [("new", "a new conversation")], pace=pace)
    try:
        async with asyncio.TaskGroup() as group:
            board = Switchboard(channel, handler or ScriptedHandler(), group)
            running = group.create_task(channel.run(board.accept))
            try:
                yield board
            finally:
                running.cancel()
                board.close()
    finally:
        await channel.close()
