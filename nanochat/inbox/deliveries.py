"""Texts that nobody asked for here: a summary for a chat, a reminder.

    accepted -> recorded, under the recipient's lease, as a line that a reply can refer to -> sent

"Recorded" and "delivered" are two facts: what cannot be sent still stands in the conversation, and is retried with back-off.
Knows sessions and channels. Does not know who wrote the text, nor in what order claims are made.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from html import escape

from nanochat.errors import ChannelError
from nanochat.keys import SessionKey
from nanochat.ledger import Claim, Ledger
from nanochat.ports import Channel, Receipt
from nanochat.process.patience import Patience
from nanochat.records import Message
from nanochat.sessions import SessionManager

__all__ = ["Deliveries", "insist"]

_log = logging.getLogger(__name__)

# As long as Telegram keeps an update for a bot that is away; a text that is a day old is worth reading, an older one is found in
# the session.
GIVE_UP_AFTER = timedelta(hours=24)


class Deliveries:
    """Takes the two steps of a delivery, each as often as a crash makes it necessary."""

    def __init__(
        self,
        ledger: Ledger,
        channels: Mapping[str, Channel],
        manager: SessionManager,
        patience: Patience,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ledger = ledger
        self._channels = channels
        self._manager = manager
        self._patience = patience
        self._clock = clock

    async def record(self, claim: Claim) -> None:
        """Append the text to its recipient's session, once; where no channel of ours leads there, that is all.

        Raises:
            StoreError: the line could not be written.
        """
        async with self._manager.turn(claim.key) as session:
            is_there = claim.begun and (
                bool(session.turn_of(claim.source_id))
                or await self._manager.was_undone(session, claim.source_id, claim.accepted_at)
            )
            if not is_there:
                line = Message("user", _framed(claim), self._clock(), source_id=claim.source_id, delivered=True)
                await self._manager.append(session, line, durable=True)
        await self._ledger.inbox.ran(claim.source_id, self._clock())
        if claim.key.channel not in self._channels:
            _log.info("recorded what came from %s; no channel of ours leads to %s", claim.origin, claim.key)
            await self._ledger.inbox.close(
                claim.source_id, "done", self._clock(), f"recorded; no channel of the daemon leads to {claim.key}"
            )

    async def send(self, claim: Claim) -> None:
        """Bring the text to its recipient, however long that takes, and write down the evidence."""
        channel = self._channels.get(claim.key.channel)
        if channel is None:
            return
        memory = self._ledger.memory_of(claim.source_id)
        text = claim.envelopes[0].body
        try:
            receipt = await insist(
                lambda: channel.deliver(claim.key, text, memory), self._patience, self._clock, claim.key
            )
        except ChannelError as error:
            _log.error("not delivered: %s", error)
            await self._ledger.inbox.close(claim.source_id, "failed", self._clock(), f"not delivered: {error}")
            return
        if receipt is not None:
            _log.info("delivered what came from %s", claim.origin, extra={"text": text})
            await self._ledger.inbox.close(claim.source_id, "delivered", self._clock(), message_ids=receipt.message_ids)


async def insist(
    attempt: Callable[[], Awaitable[Receipt]], patience: Patience, clock: Callable[[], datetime], key: SessionKey
) -> Receipt | None:
    """Try until it is done, with back-off; None where an orderly end came first.

    Raises:
        ChannelError: later would not be different, or a day has passed.
    """
    began, tries = clock(), 0
    while True:
        try:
            return await attempt()
        except ChannelError as error:
            if not error.retryable or clock() - began >= GIVE_UP_AFTER:
                raise
            _log.warning("%s: %s; trying again", key, error)
            if not await patience.back_off(tries, error.retry_after_s):
                return None
            tries += 1


def _framed(claim: Claim) -> str:
    """The text as the model sees it: material, and where it came from; a text cannot end its own frame."""
    text = claim.envelopes[0].body.replace("</delivered", "<\u200b/delivered")
    return f'<delivered from="{escape(claim.origin)}">\n{text}\n</delivered>'
