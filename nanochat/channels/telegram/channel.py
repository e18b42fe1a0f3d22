"""Telegram: what people write comes in, what is answered goes out.

Puts the rooms of this package together behind `ports.Channel`. Does not know what a turn is, nor where envelopes are kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from telegram.error import TelegramError

from nanochat.channels.telegram.envelopes import PRESS, TOGETHER_S, BotName, Envelopes, Facts, facts_of, room_of
from nanochat.channels.telegram.gate import Gate, Pairings
from nanochat.channels.telegram.live import LiveReply, Showing
from nanochat.channels.telegram.pacer import Pacer, Rates
from nanochat.channels.telegram.parse import Parser
from nanochat.channels.telegram.parts import Outbox, Parts
from nanochat.channels.telegram.poll import BAD_TOKEN, Patience, Poll
from nanochat.channels.telegram.text import render
from nanochat.channels.telegram.verdicts import Verdict, verdict
from nanochat.channels.telegram.wire import Room, Wire, bot_id_of
from nanochat.errors import ChannelError
from nanochat.events import Inbound, ReplyEvent, TurnDone
from nanochat.keys import SessionKey
from nanochat.ports import Accept, Envelope, Receipt, Reply, ReplyMemory
from nanochat.records import Json

__all__ = ["Pace", "Telegram", "TelegramSettings"]

_log = logging.getLogger(__name__)

# For how many messages of groups we know what to reply to; more are never under way at once.
_ASKED = 1000


@dataclass(frozen=True, slots=True)
class TelegramSettings:
    """What the channel is told. `allow` are ids of people and groups, `owner` of people; an empty `base_url` is Telegram's."""

    token: str = field(repr=False)
    base_url: str = ""
    allow: tuple[int, ...] = ()
    owner: tuple[int, ...] = ()
    groups: Literal["mention", "all", "off"] = "mention"
    stream: bool = True


@dataclass(frozen=True, slots=True)
class Pace:
    """All that has to do with time; tests hurry it."""

    patience: Patience = field(default_factory=Patience)
    rates: Rates = field(default_factory=Rates)
    showing: Showing = field(default_factory=Showing)
    together_s: float = TOGETHER_S


class Telegram:
    """See `ports.Channel`. `commands` are the names and summaries for the menu; `repeated` counts the messages that were sent
    again because it could not be known whether they had arrived."""

    name = "telegram"

    def __init__(
        self,
        settings: TelegramSettings,
        pairings: Pairings,
        commands: Sequence[tuple[str, str]] = (),
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pace: Pace | None = None,
    ) -> None:
        """Open nothing yet.

        Raises:
            SettingError: the token cannot be one.
        """
        pace = pace or Pace()
        self._bot = BotName(bot_id_of(settings.token), "")
        self._commands = tuple(commands)
        self._patience = pace.patience
        self._showing = replace(pace.showing, grows=pace.showing.grows and settings.stream)
        self._wire = Wire(settings.token, settings.base_url)
        self._gate = Gate(settings.allow, settings.owner, pairings)
        self._envelopes = Envelopes(self._bot.id, settings.groups, clock, pace.together_s)
        self._parser = Parser(self._wire, self._gate)
        self._poll = Poll(self._wire, pace.patience, time.monotonic)
        pacer = Pacer(pace.rates, time.monotonic, asyncio.sleep)
        self._outbox = Outbox(self._wire, pacer, {}, self._count_repeat, pace.rates.rest_s)
        self._group: asyncio.TaskGroup | None = None
        self._asked: OrderedDict[str, int] = OrderedDict()
        self._is_private: bool | None = None
        self.repeated = 0

    async def run(self, accept: Accept) -> None:
        """See `ports.Channel.run`."""
        await self._introduce()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    group.create_task(self._set_menu())
                    await self._poll.run(partial(self._take, accept))
                finally:
                    self._group = None
        except BaseExceptionGroup as errors:
            if isinstance(error := errors.exceptions[0], ChannelError) and len(errors.exceptions) == 1:
                raise error from None
            raise

    async def parse(self, envelopes: Sequence[Envelope]) -> Inbound:
        """See `ports.Channel.parse`.

        Raises:
            ChannelError: with a plain line for the person.
            ValueError: an update is not what Telegram says it should be.
        """
        inbound, message_id = await self._parser.parse(envelopes, self._bot)
        if message_id is not None:
            self._asked[inbound.source_id] = message_id
            if len(self._asked) > _ASKED:
                self._asked.popitem(last=False)
        return inbound

    def reply_to(self, inbound: Inbound, memory: ReplyMemory) -> Reply:
        """See `ports.Channel.reply_to`."""
        if inbound.source_id.endswith(PRESS):
            return _Pressed()
        reply = self._reply(inbound.key, memory, self._asked.get(inbound.source_id))
        if self._group is not None:
            reply.start(self._group)
        return reply

    async def deliver(self, key: SessionKey, text: str, memory: ReplyMemory) -> Receipt:
        """See `ports.Channel.deliver`; `text` is Markdown."""
        reply = self._reply(key, memory, None)
        reply(TurnDone(text))
        return await reply.settle()

    async def close(self) -> None:
        """See `ports.Channel.close`."""
        await self._wire.close()

    def set_allowed(self, allow: Iterable[int]) -> None:
        """Go by another `allow` from the next message on."""
        self._gate.set_allowed(allow)

    def remarks(self) -> tuple[str, ...]:
        """What `/status` should say of this channel."""
        if not self._bot.username:
            return ("telegram: not connected yet",)
        lines = [f"telegram: connected as @{self._bot.username}"]
        if self._is_private:
            lines.append(
                "privacy mode is on: in groups the bot sees only commands, replies to it and some mentions; to change it,"
                " use /setprivacy of @BotFather, then take the bot out of the group and add it again"
            )
        if self.repeated:
            lines.append(
                f"{self.repeated} messages were sent again, marked ↻, since it was not known whether they had arrived"
            )
        return tuple(lines)

    # --- coming in ---------------------------------------------------------------------------------------------------

    async def _introduce(self) -> None:
        """Learn the bot's own name; without a network, keep asking.

        Raises:
            ChannelError: the token is refused.
        """
        wait_s = self._patience.backoff_s
        while True:
            try:
                me = await self._wire.me()
            except TelegramError as error:
                if verdict(error) is Verdict.TOKEN:
                    raise ChannelError(BAD_TOKEN) from None
                _log.warning("telegram: cannot be reached (%s); trying again in %.0f s", type(error).__name__, wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 1.5, self._patience.backoff_max_s)
            else:
                self._bot = BotName(me.id, me.username or "")
                self._is_private = not me.can_read_all_group_messages
                _log.info("telegram: connected as @%s", self._bot.username)
                return

    async def _set_menu(self) -> None:
        try:
            await self._wire.set_menu(self._commands)
        except TelegramError as error:
            _log.warning("telegram: the menu of commands could not be set (%s)", type(error).__name__)

    async def _take(self, accept: Accept, update: Mapping[str, Json]) -> None:
        """Bring one update in, or see that it is none of ours."""
        facts = facts_of(update, self._bot)
        if facts is None:
            _log.warning("telegram: update %s cannot be made out; it is kept aside", update.get("update_id"))
            await accept(self._envelopes.unreadable(update))
        elif not facts.kind or facts.is_bot or not self._envelopes.hears(facts):
            return
        elif not await self._gate.admits(facts):
            await self._turn_away(facts)
        elif (envelope := self._envelopes.pack(facts, update)) is not None:
            await accept(envelope)

    async def _turn_away(self, facts: Facts) -> None:
        _log.info("telegram: %s is not allowed in", facts.user_id)
        line = await self._gate.introduce(facts)
        if line is not None and self._group is not None:
            self._group.create_task(self._tell(facts.room, line))

    async def _tell(self, room: Room, line: str) -> None:
        try:
            async with self._outbox.pacer.slot(room.chat):
                await self._wire.send(room, render(line), stop=False, quiet=False, answers=None)
        except TelegramError as error:
            _log.warning("telegram: a pairing code could not be told (%s)", type(error).__name__)

    # --- going out ---------------------------------------------------------------------------------------------------

    def _reply(self, key: SessionKey, memory: ReplyMemory, answers: int | None) -> LiveReply:
        # Where a key names no chat, Telegram says that there is none.
        parts = Parts(self._outbox, room_of(key) or Room(0), memory, answers)
        return LiveReply(self._outbox, parts, self._showing, time.monotonic)

    def _count_repeat(self) -> None:
        self.repeated += 1
        _log.warning("telegram: it is not known whether a message arrived; it is sent once more, marked")


class _Pressed:
    """What answers a button: the button's own sign, which was given when it was read."""

    def __call__(self, event: ReplyEvent) -> None: ...

    async def settle(self) -> Receipt:
        return Receipt(("pressed",))
