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
from nanochat.channels.telegram.verdicts import FAULTS, Verdict, verdict
from nanochat.channels.telegram.wire import STOP, Room, Wire, bot_id_of
from nanochat.errors import ChannelError, LedgerError, NanochatError
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
        self._parser = Parser(self._wire, self._gate, self._acknowledge)
        self._poll = Poll(self._wire, pace.patience, time.monotonic)
        pacer = Pacer(pace.rates, time.monotonic, asyncio.sleep)
        self._outbox = Outbox(self._wire, pacer, {}, self._count_repeat, pace.rates.rest_s)
        self._group: asyncio.TaskGroup | None = None
        self._asked: OrderedDict[str, int] = OrderedDict()
        # The replies that grow, by what their buttons name.
        self._live: dict[str, LiveReply] = {}
        # Who is being told a pairing code just now.
        self._told: set[int] = set()
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
            # What ended it is named, not the group of tasks that it came out of.
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
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
        stop = _place_of(inbound.source_id)
        reply = self._reply(inbound.key, memory, self._asked.get(inbound.source_id), stop)
        self._live = {name: live for name, live in self._live.items() if not live.is_final} | {stop: reply}
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
        """Bring one update in; one that something stumbles over is kept aside, so that those behind it are heard.

        Raises:
            LedgerError: it could not be kept.
        """
        try:
            await self._sort(accept, update)
        except LedgerError:
            raise
        except (NanochatError, *FAULTS) as error:
            _log.error("telegram: update %s is kept aside", update.get("update_id"), exc_info=error)
            await accept(self._envelopes.unreadable(update))

    async def _sort(self, accept: Accept, update: Mapping[str, Json]) -> None:
        """Bring one update in, or see that it is none of ours."""
        facts = facts_of(update, self._bot)
        if facts is None:
            _log.warning("telegram: update %s cannot be made out; it is kept aside", update.get("update_id"))
            await accept(self._envelopes.unreadable(update))
        elif not facts.kind or facts.is_bot or not self._envelopes.hears(facts):
            return
        elif not await self._gate.admits(facts):
            await self._turn_away(facts)
        elif facts.kind == "press" and not self._stops(facts):
            if self._group is not None:
                self._group.create_task(self._let_be(facts))
        else:
            await accept(self._envelopes.pack(facts, update))

    def _stops(self, facts: Facts) -> bool:
        """Whether what a pressed button names is under way: a Stop is meant for that answer, and for no other."""
        name = facts.text.removeprefix(STOP) if facts.text.startswith(STOP) else ""
        return name in self._live and not self._live[name].is_final

    async def _let_be(self, facts: Facts) -> None:
        """Answer a press that stops nothing, and take a Stop away that has nothing to stop."""
        is_stop = facts.text.startswith(STOP)
        try:
            await self._wire.answer_press(facts.press, "this one is over" if is_stop else "")
            if is_stop:
                async with self._outbox.pacer.slot(facts.room.chat):
                    await self._wire.take_button(facts.room, facts.message_id)
        except TelegramError as error:
            _log.info("telegram: an old button could not be answered (%s)", type(error).__name__)

    async def _turn_away(self, facts: Facts) -> None:
        _log.info("telegram: %s is not allowed in", facts.user_id)
        if facts.user_id in self._told:
            return
        line = await self._gate.introduce(facts)
        if line is not None and self._group is not None:
            self._told.add(facts.user_id)
            self._group.create_task(self._tell(facts, line))

    async def _tell(self, facts: Facts, line: str) -> None:
        """Tell a pairing code; one that could not be told is told with the person's next message."""
        try:
            async with self._outbox.pacer.slot(facts.room.chat):
                await self._wire.send(facts.room, render(line), stop="", quiet=False, answers=None)
            await self._gate.told(facts.user_id)
        except TelegramError as error:
            _log.warning("telegram: a pairing code could not be told (%s)", type(error).__name__)
        except LedgerError as error:
            _log.error("telegram: that a pairing code was told could not be noted: %s", error)
        finally:
            self._told.discard(facts.user_id)

    def _acknowledge(self, press_id: str) -> None:
        """Take the waiting sign off a pressed button, beside what the press asks for."""
        if self._group is not None:
            self._group.create_task(self._answer_press(press_id))

    async def _answer_press(self, press_id: str) -> None:
        try:
            await self._wire.answer_press(press_id, "stopping")
        except TelegramError as error:
            # A press that is older than a minute has no sign any more, and the poll loop knows of a bad token.
            _log.info("telegram: a press could not be answered (%s)", type(error).__name__)

    # --- going out ---------------------------------------------------------------------------------------------------

    def _reply(self, key: SessionKey, memory: ReplyMemory, answers: int | None, stop: str = "") -> LiveReply:
        # Where a key names no chat, Telegram says that there is none.
        parts = Parts(self._outbox, room_of(key) or Room(0), memory, answers, stop)
        return LiveReply(self._outbox, parts, self._showing, time.monotonic)

    def _count_repeat(self) -> None:
        self.repeated += 1
        _log.warning("telegram: it is not known whether a message arrived; it is sent once more, marked")


def _place_of(source_id: str) -> str:
    """The update's own number, short enough for a button."""
    return source_id.rpartition(":")[2]


class _Pressed:
    """What answers a button: the button's own sign, which was given when it was read."""

    def __call__(self, event: ReplyEvent) -> None: ...

    async def settle(self) -> Receipt:
        return Receipt(("pressed",))
