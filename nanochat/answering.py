"""One claim of the inbox, from its envelopes to the evidence that its answer arrived.

    parse -> the turn, or what is left of it -> settle

Whatever goes wrong costs this message only, and its sender gets a plain line. Knows channels and the Handler behind them.
Does not know which claim comes next, nor what a message says.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from nanochat.assistant import contained
from nanochat.deliveries import Deliveries, insist
from nanochat.dispatcher import MAX_ATTEMPTS, unpacked
from nanochat.errors import ChannelError, LedgerError, NanochatError, NotWritten
from nanochat.events import Inbound, ReplyEvent, TurnDone, TurnFailed
from nanochat.heard import Heard
from nanochat.keys import SessionKey
from nanochat.ledger import Claim, Ledger
from nanochat.patience import Patience
from nanochat.ports import Channel, Handler, Receipt, ReplyMemory

__all__ = ["Answer", "Answering", "Turns"]

_log = logging.getLogger(__name__)

# A file that cannot be downloaded within about a minute will not come by waiting longer, and its sender waits for a word.
PARSE_TRIES = 6

# Busy is for channels that wait: a row tries again when a place in the line may have come free.
BUSY_S = 1.0


@dataclass(frozen=True, slots=True)
class Turns:
    """What the worker needs of the rooms that do turns."""

    handler: Handler
    again: Handler
    """The Handler for what was begun before."""
    passes: Callable[[Inbound], bool]
    """Whether a message is a command that changes nothing, and may be carried out again."""
    interrupt: Callable[[SessionKey, str], Awaitable[bool]]
    """Close, in its session, a turn that is not to be continued."""
    stop: Callable[[SessionKey], bool]
    opens_at: Callable[[SessionKey], datetime | None]
    """When the session's rate limit lets the next turn pass; None for now."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A turn that is over, on its way to its reader."""

    claim: Claim
    channel: Channel
    inbound: Inbound
    memory: ReplyMemory
    heard: Heard


class Answering:
    """Does what a claim asks for. Safe to call concurrently for different claims."""

    def __init__(
        self,
        ledger: Ledger,
        channels: Mapping[str, Channel],
        turns: Turns,
        deliveries: Deliveries,
        patience: Patience,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._inbox = ledger.inbox
        self._channels = channels
        self._turns = turns
        self._deliveries = deliveries
        self._patience = patience
        self._clock = clock

    async def do(self, claim: Claim) -> Answer | None:
        """All up to the last event; None where nothing is left to be brought to anybody.

        Raises:
            LedgerError, NotWritten: the disk does not take it; the claim stays as it is, and may be done again.
        """
        faults: list[Exception] = []
        answer = None
        with contained(faults.append):
            if claim.crashes >= MAX_ATTEMPTS:
                await self._give_up(claim)
            elif claim.origin:
                await (self._deliveries.send(claim) if claim.has_run else self._deliveries.record(claim))
            elif claim.is_live:
                await self._end_live(claim)
            else:
                answer = await self._answer(claim)
        for error in faults:
            await self._stumble(claim, error)
        return answer

    async def _answer(self, claim: Claim) -> Answer | None:
        channel = self._channels[claim.key.channel]
        inbound = await self._parse(claim, channel)
        if inbound is None:
            return None
        memory = self._ledger.memory_of(claim.source_id)
        heard = Heard(channel.reply_to(inbound, memory))
        if claim.told:
            heard.recall(claim.told)
        else:
            await self._turn(claim, inbound, heard)
            if heard.final is None:
                return None
            # A turn's reply stands in the session file; only the ledger knows what a command or a failure said.
            is_told = isinstance(heard.final, TurnDone) and bool(heard.final.message_ids)
            await self._inbox.ran(claim.source_id, self._clock(), "" if is_told else heard.packed())
        return Answer(claim, channel, inbound, memory, heard)

    async def _parse(self, claim: Claim, channel: Channel) -> Inbound | None:
        """What the envelopes say; None where the row was closed instead, or waits for the next process."""
        tries = 0
        while True:
            read: list[Inbound] = []
            faults: list[Exception] = []
            with contained(faults.append):
                read.append(await channel.parse(claim.envelopes))
            if read:
                return replace(read[0], key=claim.key, source_id=claim.source_id)
            [error] = faults
            if not isinstance(error, ChannelError):
                _log.error("cannot be read, and is put aside", exc_info=error)
                why = f"{type(error).__name__}: {error}"
                await self._inbox.close(claim.source_id, "quarantined", self._clock(), why)
                return None
            tries += 1
            if not error.retryable or tries >= PARSE_TRIES:
                await self._say(claim, str(error))
                return None
            if not await self._patience.back_off(tries - 1, error.retry_after_s):
                return None

    async def _turn(self, claim: Claim, inbound: Inbound, heard: Heard) -> None:
        """Have the turn done, or what is left of it; limits of live channels only delay it."""
        if not claim.begun:
            _log.info("taken up", extra={"text": inbound.text})
        while True:
            await self._handle(claim, inbound, heard)
            refusal = heard.refusal
            if refusal is None:
                return
            is_late = refusal.kind == "busy" or self._turns.opens_at(claim.key) is not None
            if not is_late:
                heard.insist()
                return
            heard.forget()
            if not await self._patience.wait(refusal.retry_after_s or BUSY_S):
                return

    async def _handle(self, claim: Claim, inbound: Inbound, heard: Heard) -> None:
        if claim.begun and not self._turns.passes(inbound):
            await self._turns.again(inbound, heard)
        else:
            await self._turns.handler(inbound, heard)

    async def _end_live(self, claim: Claim) -> None:
        """Finish what a channel had waited for whose process died: nobody listens, and the session file tells."""
        inbound = unpacked(claim.envelopes[0])
        heard = Heard(_Nobody())
        await self._turn(claim, inbound, heard)
        if heard.final is not None:
            outcome = "done" if isinstance(heard.final, TurnDone) else "failed"
            await self._inbox.close(claim.source_id, outcome, self._clock())

    # --- endings -----------------------------------------------------------------------------------------------------

    async def bring(self, answer: Answer) -> None:
        """See an answer to its reader and close its row.

        Raises:
            LedgerError, NotWritten: as `do`.
        """
        faults: list[Exception] = []
        with contained(faults.append):
            await self._settle(answer)
        for error in faults:
            await self._stumble(answer.claim, error)

    async def _settle(self, answer: Answer) -> None:
        claim, heard = answer.claim, answer.heard
        is_first = True

        async def attempt() -> Receipt:
            nonlocal is_first
            if not is_first:
                heard.repeat(answer.channel.reply_to(answer.inbound, answer.memory))
            is_first = False
            return await heard.reply.settle()

        try:
            receipt = await insist(attempt, self._patience, self._clock, claim.key)
        except ChannelError as error:
            _log.error("the answer could not be delivered: %s", error)
            await self._inbox.close(claim.source_id, "failed", self._clock(), f"not delivered: {error}")
            return
        if receipt is None:
            return
        outcome, note = _outcome(heard.final)
        _log.info("answered: %s %s", outcome, note, extra={"text": heard.text})
        await self._inbox.close(claim.source_id, outcome, self._clock(), note, receipt.message_ids)

    async def _give_up(self, claim: Claim) -> None:
        """A message that has brought processes down. Told once; should even that bring one down, it is closed in silence."""
        what = f"deliver what came from {claim.origin}" if claim.origin else "answer your message"
        words = f"{claim.crashes} attempts to {what} were cut short; it is given up"
        _log.error("%s", words)
        if not claim.origin:
            await self._turns.interrupt(claim.key, claim.source_id)
        if claim.crashes == MAX_ATTEMPTS and not claim.origin:
            await self._say(claim, words)
        else:
            await self._inbox.close(claim.source_id, "failed", self._clock(), words)

    async def _stumble(self, claim: Claim, error: Exception) -> None:
        """What went wrong beside the turn: a disk is waited for, the rest ends the row."""
        if isinstance(error, LedgerError | NotWritten):
            raise error
        if isinstance(error, NanochatError):
            _log.error("failed: %s", error)
            words = str(error)
        else:
            error_id = secrets.token_hex(4)
            _log.error("failed, id %s", error_id, exc_info=error)
            words = f"something went wrong inside nanochat; the log tells more under id {error_id}"
        faults: list[Exception] = []
        with contained(faults.append):
            await self._say(claim, words)
        if faults:
            await self._inbox.close(claim.source_id, "failed", self._clock(), words)

    async def _say(self, claim: Claim, words: str) -> None:
        """One plain line instead of an answer, and the row's end."""
        channel = self._channels.get(claim.key.channel)
        note = words
        ids: tuple[str, ...] = ()
        if channel is not None and not claim.is_live:
            memory = self._ledger.memory_of(claim.source_id)
            try:
                receipt = await insist(
                    lambda: channel.deliver(claim.key, words, memory), self._patience, self._clock, claim.key
                )
            except ChannelError as error:
                note = f"{words}; not delivered: {error}"
            else:
                if receipt is None:
                    return
                ids = receipt.message_ids
        await self._inbox.close(claim.source_id, "failed", self._clock(), note, ids)


class _Nobody:
    """The Reply of somebody who has gone."""

    def __call__(self, event: ReplyEvent) -> None:
        """Nobody listens."""

    async def settle(self) -> Receipt:
        """There is no evidence to be had."""
        return Receipt(())


def _outcome(final: TurnDone | TurnFailed | None) -> tuple[str, str]:
    match final:
        case TurnDone(mark=mark):
            return "delivered", mark
        case TurnFailed(kind="limit", message=message):
            return "refused", message
        case TurnFailed(message=message):
            return "failed", message
        case None:
            return "failed", "no answer came"
        case _:
            assert_never(final)
