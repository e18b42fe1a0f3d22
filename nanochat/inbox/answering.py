"""One claim of the inbox, from its envelopes to the evidence that its answer arrived.

    parse -> the turn, or what is left of it -> settle

Whatever goes wrong costs this message only, and its sender gets a plain line. Knows channels and the Handler behind them.
Does not know which claim comes next, nor what a message says.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self, assert_never

from nanochat.errors import ChannelError, LedgerError, NanochatError, NotWritten
from nanochat.events import Inbound, ReplyEvent, TurnDone, TurnFailed
from nanochat.inbox.deliveries import Deliveries, insist
from nanochat.inbox.dispatcher import MAX_ATTEMPTS, unpacked
from nanochat.inbox.heard import Heard
from nanochat.keys import SessionKey
from nanochat.ledger import Claim, Ledger
from nanochat.ports import Channel, Emit, Handler, Receipt, Reply
from nanochat.process.patience import Patience
from nanochat.turn.assistant import contained

__all__ = ["Answer", "Answering", "Slot", "Turns"]

_log = logging.getLogger(__name__)

# A file that cannot be downloaded within about a minute will not come by waiting longer, and its sender waits for a word.
PARSE_TRIES = 6

# Kinds of failures that say no to a person, and nothing of how we do.
_BETWEEN_US = ("command", "limit", "busy", "pace")

# The turn has brought down nobody, and its answer is there. What was to be shown so often, and never was to its end, may all the
# same be what kills; it stands in its session.
MAX_TELLINGS = 10

# Busy is for channels that wait: a row tries again when a place in the line may have come free.
BUSY_S = 1.0


@dataclass(frozen=True, slots=True)
class Turns:
    """What the worker needs of the rooms that do turns."""

    handler: Handler
    again: Handler
    """The Handler for what was begun before."""
    live: Callable[[Inbound, Emit, str], Awaitable[None]]
    """Answer a message of a channel that waits for it, whose row is kept with this digest."""
    passes: Callable[[Inbound], bool]
    """Whether a message is a command that changes nothing, and may be carried out again."""
    interrupt: Callable[[SessionKey, str], Awaitable[bool]]
    """Close, in its session, a turn that is not to be continued."""
    make_way: Callable[[SessionKey], None]
    """Stop what runs in a session, for a command that ends it."""
    coming: Callable[[SessionKey, str], AbstractContextManager[None]]
    """For a while, have a message be found by whoever stops what runs, although it has not come to its turn."""
    opens_at: Callable[[SessionKey], datetime | None]
    """When the session's rate limit lets the next turn pass; None for now."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be told, on its way to its reader: a turn that is over, or one plain line in its place.

    `show` is one try to bring it. `outcome` and `note` close the row, `how` (a mark, or a failure's kind) goes into the log.
    """

    claim: Claim
    show: Callable[[], Awaitable[Receipt]]
    outcome: str
    note: str
    text: str
    how: str = ""
    is_line: bool = False


class Slot:
    """A place among the turns that may run at once, which whoever waits for a better time gives up; without `slots`, none is
    needed."""

    def __init__(self, slots: asyncio.Semaphore | None) -> None:
        self._slots = slots
        self._is_held = False

    async def __aenter__(self) -> Self:
        await self._take()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Meanwhile, others may."""
        self._give_back()
        yield
        await self._take()

    async def _take(self) -> None:
        if self._slots is not None:
            await self._slots.acquire()
            self._is_held = True

    def _give_back(self) -> None:
        if self._slots is not None and self._is_held:
            self._is_held = False
            self._slots.release()


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

    async def do(self, claim: Claim, slot: Slot) -> Answer | None:
        """All up to the last event; None where nothing is left to be brought to anybody.

        Raises:
            LedgerError, NotWritten: the disk does not take it; the claim stays as it is, and may be done again.
        """
        faults: list[Exception] = []
        answer = None
        with contained(faults.append):
            if claim.crashes >= (MAX_TELLINGS if claim.has_run else MAX_ATTEMPTS):
                answer = await self._give_up(claim)
            elif claim.origin:
                await (self._deliveries.send(claim) if claim.has_run else self._deliveries.record(claim))
            elif claim.is_live:
                await self._end_live(claim, slot)
            else:
                # What waits is found by /stop from here on, although it stands in no line before it was downloaded.
                is_turn = claim.envelopes[0].manner == "wait"
                with self._turns.coming(claim.key, claim.source_id) if is_turn else nullcontext():
                    answer = await self._answer(claim, slot)
        for error in faults:
            answer = await self._stumble(claim, error)
        return answer

    async def _answer(self, claim: Claim, slot: Slot) -> Answer | None:
        channel = self._channels[claim.key.channel]
        inbound = await self._parse(claim, channel, slot)
        if not isinstance(inbound, Inbound):
            return inbound
        if claim.envelopes[0].manner == "pass" and not self._turns.passes(inbound):
            await self._inbox.stand_in_line(claim.source_id)
            return None
        memory = self._ledger.memory_of(claim.source_id)
        heard = Heard(channel.reply_to(inbound, memory))
        if claim.told:
            heard.recall(claim.told)
        else:
            await self._turn(claim, inbound, heard, slot)
            if heard.final is None:
                return None
            # A turn's reply stands in the session file; only the ledger knows what a command or a failure said.
            is_told = isinstance(heard.final, TurnDone) and bool(heard.final.message_ids)
            told = "" if is_told else heard.packed()
            await self._noted(lambda: self._inbox.ran(claim.source_id, self._clock(), told), slot)
        is_first = True

        async def show() -> Receipt:
            nonlocal is_first
            if not is_first:
                heard.repeat(channel.reply_to(inbound, memory))
            is_first = False
            return await heard.reply.settle()

        outcome, how, note = _outcome(heard.final)
        return Answer(claim, show, outcome, note, heard.text, how)

    async def _parse(self, claim: Claim, channel: Channel, slot: Slot) -> Inbound | Answer | None:
        """What the envelopes say; or the line to be told instead; None where the row waits for the next process."""
        tries = 0
        while True:
            read: list[Inbound] = []
            faults: list[Exception] = []
            with contained(faults.append):
                read.append(await channel.parse(claim.envelopes))
            if read:
                return replace(read[0], key=claim.key, source_id=claim.source_id)
            [error] = faults
            if isinstance(error, ValueError | LookupError | TypeError):  # not in the form that it should be in
                _log.error("cannot be read, and is put aside", exc_info=error)
                words = "this message cannot be read, and is put aside; nanochat why tells more"
                return await self._line(claim, words, "quarantined", f"{type(error).__name__}: {error}")
            if not isinstance(error, ChannelError):
                raise error
            tries += 1
            if not error.retryable or tries >= PARSE_TRIES:
                _log.warning("cannot be taken in", extra={"text": str(error)})
                return await self._line(claim, str(error))
            async with slot.aside():
                goes_on = await self._patience.back_off(tries - 1, error.retry_after_s)
            if not goes_on:
                return None

    async def _turn(self, claim: Claim, inbound: Inbound, heard: Heard, slot: Slot) -> None:
        """Have the turn done, or what is left of it; limits of live channels only delay it."""
        if not claim.begun:
            _log.info("taken up", extra={"text": inbound.text})
        while True:
            await self._handle(claim, inbound, heard)
            refusal = heard.refusal
            if refusal is None:
                return
            heard.forget()
            async with slot.aside():
                goes_on = await self._patience.wait(refusal.retry_after_s or BUSY_S)
            if not goes_on:
                return

    async def _handle(self, claim: Claim, inbound: Inbound, heard: Heard) -> None:
        if claim.begun and not self._turns.passes(inbound):
            await self._turns.again(inbound, heard)
        else:
            await self._turns.handler(inbound, heard)

    async def _end_live(self, claim: Claim, slot: Slot) -> None:
        """Finish what a channel had waited for whose process died. Who asks for it again is told, and the session file tells."""
        inbound = unpacked(claim.envelopes[0])
        heard = Heard(self._listener(claim, inbound))
        await self._turn(claim, inbound, heard, slot)
        if heard.final is not None:
            outcome = "done" if isinstance(heard.final, TurnDone) else "failed"
            await self._inbox.close(claim.source_id, outcome, self._clock())

    def _listener(self, claim: Claim, inbound: Inbound) -> Reply:
        """The channel that had brought the message, if it is served: its name begins the source's."""
        channel = self._channels.get(claim.source_id.partition(":")[0])
        return channel.reply_to(inbound, self._ledger.memory_of(claim.source_id)) if channel is not None else _Nobody()

    # --- endings -----------------------------------------------------------------------------------------------------

    async def bring(self, answer: Answer) -> None:
        """See an answer to its reader and close its row.

        Raises:
            LedgerError, NotWritten: as `do`.
        """
        bringing: Answer | None = answer
        while bringing is not None:
            faults: list[Exception] = []
            with contained(faults.append):
                await self._settle(bringing)
            if not faults:
                return
            if bringing.is_line and not isinstance(faults[0], LedgerError):
                _log.error("not even a line about it could be told", exc_info=faults[0])
                await self._close(bringing, bringing.outcome, f"{bringing.note}; not delivered")
                return
            bringing = await self._stumble(bringing.claim, faults[0])

    async def _settle(self, answer: Answer) -> None:
        try:
            receipt = await insist(answer.show, self._patience, self._clock, answer.claim.key)
        except ChannelError as error:
            _log.error("the answer could not be delivered: %s", error)
            if answer.is_line:
                await self._close(answer, answer.outcome, f"{answer.note}; not delivered: {error}")
            else:
                await self._close(answer, "failed", f"not delivered: {error}")
            return
        if receipt is not None:
            # A refused key or a spent credit is the operator's to mend; what a person may not do is between them and us.
            is_ours = answer.outcome == "failed" and answer.how not in _BETWEEN_US
            level = logging.WARNING if is_ours else logging.INFO
            _log.log(level, "answered: %s %s", answer.outcome, answer.how, extra={"text": answer.text})
            await self._close(answer, answer.outcome, answer.note, receipt.message_ids)

    async def _close(self, answer: Answer, outcome: str, note: str, message_ids: tuple[str, ...] = ()) -> None:
        source_id = answer.claim.source_id
        await self._noted(lambda: self._inbox.close(source_id, outcome, self._clock(), note, message_ids), Slot(None))

    async def _noted(self, note: Callable[[], Awaitable[None]], slot: Slot) -> None:
        """Have the ledger take a note of what was done, however long its disk is full: done again, it would be done twice.

        Without it, at an orderly end, the next process finds out by itself.
        """
        tries = 0
        while True:
            try:
                await note()
            except LedgerError as error:
                _log.error("%s; trying again", error)
            else:
                return
            async with slot.aside():
                goes_on = await self._patience.back_off(tries)
            if not goes_on:
                return
            tries += 1

    async def _give_up(self, claim: Claim) -> Answer | None:
        """A message that has brought processes down. Told once; should even that bring one down, it is closed in silence."""
        if claim.has_run or claim.origin:
            words = f"{claim.crashes} attempts to deliver it were cut short; it is given up"
        else:
            words = f"{claim.crashes} attempts to answer your message were cut short; it is given up"
            await self._turns.interrupt(claim.key, claim.source_id)
        _log.error("%s", words)
        if not (claim.has_run or claim.origin) and claim.crashes == MAX_ATTEMPTS:
            return await self._line(claim, words)
        await self._inbox.close(claim.source_id, "failed", self._clock(), words)
        self._tell_live(claim, words)
        return None

    async def _stumble(self, claim: Claim, error: Exception) -> Answer | None:
        """What went wrong beside the turn: a disk is waited for, the rest is told and ends the row."""
        if isinstance(error, LedgerError | NotWritten):
            raise error
        if isinstance(error, NanochatError):
            _log.error("failed: %s", error)
            return await self._line(claim, str(error))
        error_id = secrets.token_hex(4)
        _log.error("failed, id %s", error_id, exc_info=error)
        return await self._line(claim, f"something went wrong inside nanochat; the log tells more under id {error_id}")

    async def _line(self, claim: Claim, words: str, outcome: str = "failed", note: str = "") -> Answer | None:
        """One plain line instead of an answer; where nobody can be told, the row's end."""
        channel = self._channels.get(claim.key.channel)
        if channel is None or claim.is_live or claim.origin:
            await self._inbox.close(claim.source_id, outcome, self._clock(), note or words)
            self._tell_live(claim, words)
            return None
        memory = self._ledger.memory_of(claim.source_id)
        return Answer(
            claim,
            lambda: channel.deliver(claim.key, words, memory),
            outcome,
            note or words,
            words,
            is_line=True,
        )

    def _tell_live(self, claim: Claim, words: str) -> None:
        if claim.is_live:
            self._listener(claim, unpacked(claim.envelopes[0]))(TurnFailed(words, kind="crashed"))


class _Nobody:
    """The Reply of somebody who has gone."""

    def __call__(self, event: ReplyEvent) -> None:
        """Nobody listens."""

    async def settle(self) -> Receipt:
        """There is no evidence to be had."""
        return Receipt(())


def _outcome(final: TurnDone | TurnFailed | None) -> tuple[str, str, str]:
    """How a row is closed: its outcome, a word for the log, and a note, in which nothing is kept that a person said."""
    match final:
        case TurnDone(mark=mark):
            return "delivered", mark, mark
        case TurnFailed(kind="command"):
            return "failed", "command", "a command that cannot be carried out"
        case TurnFailed(kind="limit", message=message):
            return "refused", "limit", message
        case TurnFailed(kind=kind, message=message):
            return "failed", kind, message
        case None:
            return "failed", "", "no answer came"
        case _:
            assert_never(final)
