"""The loop that asks Telegram for updates, and confirms them only when they are kept.

Confirming is asking for the next: so the offset moves past an update when it was taken, and never before. Nothing of the offset
is stored; Telegram knows it, and a repeat is known by its id. Knows round trips and their failures. Does not know what is in an
update.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from telegram.error import Conflict, RetryAfter, TelegramError

from nanochat.channels.telegram.envelopes import KINDS
from nanochat.channels.telegram.verdicts import Verdict, retry_after_s, verdict
from nanochat.channels.telegram.wire import Wire
from nanochat.errors import ChannelError, LedgerError
from nanochat.records import Json

__all__ = ["BAD_TOKEN", "Patience", "Poll", "Take"]

_log = logging.getLogger(__name__)

Take: TypeAlias = Callable[[Mapping[str, Json]], Awaitable[None]]
"""Keeps an update; durable when it returns."""

BAD_TOKEN = "telegram refuses the bot's token; ask @BotFather for the current one and set TELEGRAM_BOT_TOKEN"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, in seconds. `hold_s` is how long Telegram keeps a request without news; without any answer for
    `deaf_s`, the connections are built anew. A failure is followed by a wait from `backoff_s` to `backoff_max_s`."""

    hold_s: int = 25
    deaf_s: float = 120.0
    backoff_s: float = 1.0
    backoff_max_s: float = 30.0


class Poll:
    """Polls until cancelled. `clock` counts seconds and never goes back."""

    def __init__(self, wire: Wire, patience: Patience, clock: Callable[[], float]) -> None:
        self._wire = wire
        self._patience = patience
        self._clock = clock
        self._wait_s = patience.backoff_s
        self._answered_at = clock()

    async def run(self, take: Take) -> None:
        """Hand every update to `take`, in order.

        Raises:
            ChannelError: the token is refused.
        """
        offset: int | None = None
        self._answered_at = self._clock()
        while True:
            for update in await self._ask(offset):
                try:
                    await take(update)
                except LedgerError as error:
                    _log.error("telegram: an update could not be kept and is asked for again: %s", error)
                    await self._back_off()
                    break
                finally:
                    self._heard()
                update_id = update.get("update_id")
                if isinstance(update_id, int):
                    offset = update_id + 1
                self._wait_s = self._patience.backoff_s

    async def _ask(self, offset: int | None) -> list[dict[str, Json]]:
        """One round trip; no updates where it failed, after the wait that the failure asks for."""
        try:
            async with asyncio.timeout(self._answered_at + self._patience.deaf_s - self._clock()):
                updates = await self._wire.updates(offset, hold_s=self._patience.hold_s, kinds=KINDS)
        except TimeoutError:
            await self._rebuild()
        except Conflict as error:
            await self._explain(error)
            self._heard()
        except RetryAfter as error:
            await asyncio.sleep(retry_after_s(error))
            self._heard()
        except TelegramError as error:
            if verdict(error) is Verdict.TOKEN:
                raise ChannelError(BAD_TOKEN) from None
            _log.warning("telegram: polling failed (%s); trying again", type(error).__name__)
            await self._back_off()
            if self._clock() - self._answered_at >= self._patience.deaf_s:
                await self._rebuild()
        else:
            self._heard()
            # With updates, all is well only when they were taken: a full disk is not helped by Telegram's answers.
            if not updates:
                self._wait_s = self._patience.backoff_s
            return updates
        return []

    def _heard(self) -> None:
        """Telegram speaks to us; the time that we took ourselves before asking again is none of deafness."""
        self._answered_at = self._clock()

    async def _rebuild(self) -> None:
        """Sends do not count: a bot that can talk may be deaf all the same."""
        _log.warning("telegram: no answer to polling for %.0f s; building new connections", self._patience.deaf_s)
        await self._wire.close()
        self._heard()

    async def _explain(self, conflict: Conflict) -> None:
        if "webhook" in conflict.message.lower():
            _log.warning("telegram: a webhook is set for this bot, and keeps it from polling; it is taken away")
            try:
                await self._wire.drop_webhook()
            except TelegramError as error:
                _log.warning("telegram: the webhook could not be taken away (%s)", type(error).__name__)
        else:
            _log.warning("telegram: another program polls with the same bot token; stop it, or give each its own bot")
        await self._back_off()

    async def _back_off(self) -> None:
        await asyncio.sleep(self._wait_s)
        self._wait_s = min(self._wait_s * 1.5, self._patience.backoff_max_s)
