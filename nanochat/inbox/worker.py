"""Works the inbox off: in order per session, many sessions at once, and each message once, whatever dies.

    accept -> claim -> answer -> bring

    line   a session's messages, one after the other; a message's answer stands before the next one is begun
    pass   what goes by the line: /stop, /status, a button
    send   what deliveries still have to do once they are recorded; no turn waits for them

Each session has at most one task per lane, begun by an event: an accept, a ring of the bell, an alarm for what is not ready yet.
Rows are delayed by limits and never refused for them. What saw processes die is gone on with one at a time. Knows
claims and their order. Does not know how one is answered (`answering`), nor what it says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import assert_never

from nanochat.current import working_on
from nanochat.errors import LedgerError, NotWritten
from nanochat.events import Inbound, TurnFailed
from nanochat.inbox.answering import Answer, Answering, Slot, Turns
from nanochat.inbox.deliveries import Deliveries
from nanochat.keys import SessionKey
from nanochat.ledger import Claim, Lane, Ledger, Suspect
from nanochat.ports import Channel, Emit, Envelope
from nanochat.process.patience import Patience
from nanochat.turn.assistant import contained

__all__ = ["Worker"]

_log = logging.getLogger(__name__)

_LANES: tuple[Lane, ...] = ("line", "pass", "send")


class Worker:
    """One per daemon. `accept` and `deliver` may be called at any time, also before `run` and while it ends."""

    def __init__(
        self,
        ledger: Ledger,
        channels: Mapping[str, Channel],
        turns: Turns,
        deliveries: Deliveries,
        patience: Patience,
        *,
        concurrent_turns: int = 32,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._inbox = ledger.inbox
        self._channels = channels
        self._turns = turns
        self._answering = Answering(ledger, channels, turns, deliveries, patience, clock)
        self._patience = patience
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrent_turns)
        self._group: asyncio.TaskGroup | None = None
        # True for a lane at work that has to look once more.
        self._lanes: dict[tuple[SessionKey, Lane], bool] = {}
        self._alarms: dict[tuple[SessionKey, Lane], datetime] = {}
        self._busy: set[str] = set()
        self._at_head: dict[SessionKey, str] = {}
        self._suspect = asyncio.Lock()
        self._looking = 0
        self._living = 0
        self._idle = asyncio.Condition()
        self.opened = asyncio.Event()
        """Set once `run` has found what a former process left."""

    # --- what others ask of it ---------------------------------------------------------------------------------------

    async def accept(self, envelope: Envelope) -> bool:
        """See `ports.Accept`.

        Raises:
            LedgerError: it could not be kept; the channel must not acknowledge it.
        """
        if not await self._inbox.accept(envelope, self._clock()):
            return False
        if envelope.manner == "stop" and self._at_head.get(envelope.key) not in (None, envelope.source_id):
            self._turns.make_way(envelope.key)
        self._look(envelope.key, "pass" if envelope.manner == "pass" else "line")
        return True

    async def deliver(self, key: SessionKey, text: str, origin: str, source_id: str) -> bool:
        """Bring a text to a session's person when its turn comes; durable when this returns. False where it was known already.

        Raises:
            LedgerError: it could not be kept.
        """
        if not await self._inbox.add_delivery(Envelope(source_id, key, text), origin, self._clock()):
            return False
        self._look(key, "line")
        return True

    def begin(self, inbound: Inbound, emit: Emit, digest: str = "") -> None:
        """Answer a message of a channel that waits for it, to its end, whoever still listens; see `doors.LiveTurns.begin`."""
        if self._group is None or self._patience.is_over:
            emit(TurnFailed("nanochat is ending; ask again when it is back", kind="ending", retryable=True))
            return
        self._living += 1
        self._group.create_task(self._see_through(inbound, emit, digest))

    async def _see_through(self, inbound: Inbound, emit: Emit, digest: str) -> None:
        try:
            with contained(_log_fault), working_on(inbound.key, inbound.source_id):
                await self._turns.live(inbound, emit, digest)
        finally:
            self._living -= 1
        await self._tell_idle()

    def look_around(self) -> None:
        """Somebody else wrote the ledger: see what there is."""
        if self._group is not None and not self._patience.is_over:
            self._looking += 1
            self._group.create_task(self._look_around())

    def limit(self, concurrent_turns: int) -> None:
        """Go by another bound from the next claim on."""
        self._slots = asyncio.Semaphore(concurrent_turns)

    async def check(self) -> None:
        """Before `run`: whether the ledger is one that can be waited for, should it not be usable at once.

        Raises:
            LedgerError: it is damaged.
        """
        try:
            await self._inbox.keys()
        except LedgerError as error:
            if error.is_damaged:
                raise

    async def run(self) -> None:
        """Work until cancelled; what is cut short is gone on with by the next process."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._look_everywhere()
                self.opened.set()
                await asyncio.Event().wait()
        finally:
            self._group = None

    async def drain(self) -> None:
        """Claim nothing more, and return when what was claimed is done. What waits for a better time is left as it is."""
        self._patience.end()
        await self.rest()

    async def spare(self) -> None:
        """After `run`, at an orderly end: what is left unfinished does not count as crashed."""
        await self._inbox.spare()

    async def rest(self) -> None:
        """Wait until nothing is being done; what waits for its time does not count."""
        async with self._idle:
            await self._idle.wait_for(
                lambda: not (self._lanes or self._busy or self._looking or self._living),
            )

    # --- lanes -------------------------------------------------------------------------------------------------------

    async def _look_around(self) -> None:
        try:
            await self._look_everywhere()
        finally:
            self._looking -= 1
        await self._tell_idle()

    async def _look_everywhere(self) -> None:
        for key in await self._keys():
            for lane in _LANES:
                self._look(key, lane)

    async def _keys(self) -> list[SessionKey]:
        tries = 0
        while True:
            try:
                return await self._inbox.keys()
            except LedgerError as error:
                _log.error("%s; trying again", error)
                if not await self._patience.back_off(tries):
                    return []
                tries += 1

    def _look(self, key: SessionKey, lane: Lane) -> None:
        if self._group is None or self._patience.is_over:
            return
        is_at_work = (key, lane) in self._lanes
        self._lanes[key, lane] = True
        if not is_at_work:
            self._group.create_task(self._work(key, lane))

    async def _work(self, key: SessionKey, lane: Lane) -> None:
        tries = 0
        try:
            while self._lanes[key, lane] and not self._patience.is_over:
                self._lanes[key, lane] = False
                try:
                    await self._work_off(key, lane)
                    tries = 0
                except (LedgerError, NotWritten) as error:  # a full disk, say: nothing is lost by waiting
                    _log.error("%s; trying again", error)
                    self._lanes[key, lane] = await self._patience.back_off(tries)
                    tries += 1
        finally:
            del self._lanes[key, lane]
        await self._tell_idle()

    async def _work_off(self, key: SessionKey, lane: Lane) -> None:
        while not self._patience.is_over:
            done = await self._do_next(key, lane, suspects=False)
            if done == "suspect":
                async with self._suspect:
                    done = await self._do_next(key, lane, suspects=True)
            if done is None or done == "suspect":
                return
            claim, answer = done
            if claim.origin and lane == "line":
                self._look(key, "send")
            if answer is None:
                if lane == "pass":
                    self._look(key, "line")  # it may not go by it, and was sent there
            elif lane == "pass" and self._group is not None:
                # What goes by the line goes by its like as well: a /stop does not wait for a long /print to be sent.
                self._group.create_task(self._bring_aside(answer))
            else:
                await self._bring(answer)

    async def _do_next(
        self, key: SessionKey, lane: Lane, *, suspects: bool
    ) -> tuple[Claim, Answer | None] | Suspect | None:
        """Claim what is next and do it; None where nothing is to be done now."""
        async with Slot(self._slots if lane == "line" else None) as slot:
            claim = None if self._patience.is_over else await self._claim(key, lane, suspects=suspects)
            if not isinstance(claim, Claim):
                return claim
            answer = None
            try:
                with working_on(key, claim.source_id):
                    answer = await self._answering.do(claim, slot)
            finally:
                if answer is None:
                    self._let_go(claim)
        return claim, answer

    async def _claim(self, key: SessionKey, lane: Lane, *, suspects: bool) -> Claim | Suspect | None:
        now = self._clock()
        found = await self._inbox.claim(
            key,
            lane,
            now,
            busy=self._busy,
            served=key.channel in self._channels,
            fenced_until=self._turns.opens_at(key) if lane == "line" else None,
            suspects=suspects,
        )
        match found:
            case Claim():
                self._busy.add(found.source_id)
                if lane == "line":
                    self._at_head[key] = found.source_id
                return found
            case datetime():
                self._set_alarm(key, lane, found)
            case "suspect":
                return found
            case None:
                pass
            case _:
                assert_never(found)
        return None

    async def _bring(self, answer: Answer) -> None:
        try:
            with working_on(answer.claim.key, answer.claim.source_id):
                await self._answering.bring(answer)
        finally:
            self._let_go(answer.claim)
        await self._tell_idle()

    async def _bring_aside(self, answer: Answer) -> None:
        try:
            await self._bring(answer)
        except (LedgerError, NotWritten) as error:
            _log.error("%s; trying again", error)
            if await self._patience.back_off(0):
                self._look(answer.claim.key, "pass")

    def _let_go(self, claim: Claim) -> None:
        self._busy.discard(claim.source_id)
        if self._at_head.get(claim.key) == claim.source_id:
            del self._at_head[claim.key]

    def _set_alarm(self, key: SessionKey, lane: Lane, at: datetime) -> None:
        set_for = self._alarms.get((key, lane))
        if self._group is not None and (set_for is None or at < set_for):
            self._alarms[key, lane] = at
            self._group.create_task(self._ring_at(key, lane, at))

    async def _ring_at(self, key: SessionKey, lane: Lane, at: datetime) -> None:
        await self._patience.wait((at - self._clock()).total_seconds())
        if self._alarms.get((key, lane)) == at:
            del self._alarms[key, lane]
        self._look(key, lane)

    async def _tell_idle(self) -> None:
        async with self._idle:
            self._idle.notify_all()


def _log_fault(error: Exception) -> None:
    _log.error("a live message: %s", error, exc_info=error)
