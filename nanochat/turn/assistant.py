"""The Handler: every message of every channel comes through here.

In this order: chat commands, rate and money limits, the session's queue and lease, the turn; and around it the one broad
`except` of the package. Knows who may go when. Does not know how a turn is done (`agent`) or what a command says (`commands`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from functools import partial
from typing import TypeAlias

from nanochat.errors import Busy, CommandError, LedgerError, LimitReached, NanochatError, StoreError
from nanochat.events import Inbound, Notice, ReplyEvent, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.ports import Emit
from nanochat.records import Snapshot, TurnEnd
from nanochat.sessions import Session, SessionManager, last_question
from nanochat.turn.agent import Agent, Stop
from nanochat.turn.commands import Call, Commands
from nanochat.turn.limits import RATE_SETTING, Limits, Purse, RateFence
from nanochat.turn.lineup import Lines

__all__ = ["Assistant", "Work", "contained"]

_log = logging.getLogger(__name__)

Work: TypeAlias = Callable[[Session, Inbound, Emit, Stop], Awaitable[TurnDone | TurnFailed]]
"""What is done under a session's lease; it returns its last event instead of emitting it."""


class Assistant:
    """Answers messages, one at a time per session and many at once; see `ports.Handler`."""

    def __init__(
        self,
        manager: SessionManager,
        agent: Agent,
        commands: Commands,
        *,
        limits: Limits,
        fence: RateFence,
        purse: Purse,
    ) -> None:
        self._manager = manager
        self._agent = agent
        self._commands = commands
        self._fence = fence
        self._purse = purse
        self._turns = asyncio.Semaphore(limits.concurrent_turns)
        self._lines = Lines(limits.waiting)

    async def __call__(self, inbound: Inbound, emit: Emit) -> None:
        """Do all that one message asks for; the last event is emitted before this returns."""
        reply = _Reply(emit)
        with contained(reply.fail):
            reply.finish(await self._answer(inbound, reply))

    async def again(self, inbound: Inbound, emit: Emit) -> None:
        """Go on with a message that a process which died had begun, however far it had come; what was undone stays undone."""
        reply = _Reply(emit)
        with contained(reply.fail):
            reply.finish(await self._in_turn(inbound, reply, self._go_on))

    async def retell(self, inbound: Inbound, emit: Emit) -> None:
        """Tell what became of a message that was answered before, from its session: nothing is asked, and nothing written."""
        reply = _Reply(emit)
        with contained(reply.fail):
            reply.finish(await self._retell(inbound))

    def coming(self, key: SessionKey, source_id: str) -> AbstractContextManager[None]:
        """For a while, a message is on its way here: `/stop` finds it although it has not come."""
        return self._lines.coming(key, source_id)

    def make_way(self, key: SessionKey) -> None:
        """A command that ends the running turn will come: stop what runs, but for others of its kind."""
        self._lines.make_way(key)

    async def have_done(self, inbound: Inbound, emit: Emit, work: Work) -> None:
        """Have other work done with a message's care: in the session's line, under its lease, within `/stop`'s reach."""

        async def bounded(session: Session, inbound: Inbound, emit: Emit, stop: Stop) -> TurnDone | TurnFailed:
            async with self._turns:
                return await work(session, inbound, emit, stop)

        reply = _Reply(emit)
        with contained(reply.fail):
            reply.finish(await self._in_turn(inbound, reply, bounded))

    def stop(self, key: SessionKey) -> bool:
        """Stop what of this session runs, or is next to run, in this process; False where there is nothing."""
        return self._lines.stop_first(key)

    def limit(self, limits: Limits) -> None:
        """Go by other limits from the next message on; turns that run are left alone."""
        self._turns = asyncio.Semaphore(limits.concurrent_turns)
        self._lines.waiting = limits.waiting

    async def interrupt(self, key: SessionKey, source_id: str) -> bool:
        """Close, in its session, a turn that a crash cut short and that nobody will continue; False if it was never begun."""
        async with self._manager.turn(key) as session:
            await self._agent.interrupt(session, source_id)
            return bool(session.turn_of(source_id))

    def passes(self, inbound: Inbound) -> bool:
        """Whether a message is a command that goes by queue and lease, because it changes nothing in the session."""
        try:
            call = self._commands.parse(inbound)
        except CommandError:
            return True
        return call is not None and not call.command.writes

    async def _answer(self, inbound: Inbound, emit: _Reply) -> TurnDone | TurnFailed:
        call = self._commands.parse(inbound)
        if call is None:
            self._fence.pass_through(inbound.key)
            return await self._in_turn(inbound, emit, self._run)
        if call.command.name == "stop":
            return TurnDone("stopping" if self.stop(inbound.key) else "nothing is running here")
        if not call.command.writes:
            return TurnDone(await self._commands.run(call, await self._manager.get_or_create(inbound.key)))
        if call.command.name == "retry":
            self._fence.pass_through(inbound.key)
            return await self._in_turn(inbound, emit, self._retry, first=True)
        stops = call.command.stops
        return await self._in_turn(inbound, emit, partial(self._write, call), first=stops, brief=stops)

    async def _in_turn(
        self, inbound: Inbound, emit: _Reply, work: Work, *, first: bool = False, brief: bool = False
    ) -> TurnDone | TurnFailed:
        """Wait for the session's lease behind those who came first, then do the work; `/stop` ends the one and the other.

        With `first` it stops the running turn and goes before those who wait: what they asked, they asked of what comes after.
        Two that are `brief` (two /undo) are done both.

        Raises:
            Busy: as many wait as may.
        """
        stop = Stop()
        place = self._lines.place(inbound.key, stop, first=first, brief=brief, source_id=inbound.source_id)
        async with place as turn_has_come, AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(None) as scope:
                    stop.bind(scope)
                    await turn_has_come.wait()
                    lease = self._manager.turn(
                        inbound.key, on_wait=lambda holder: emit(Notice(f"waiting for {holder}"))
                    )
                    session = await stack.enter_async_context(lease)
                    stop.release()
            except TimeoutError:
                if not scope.expired():
                    raise
                return TurnDone("", mark="stopped")
            if lost := session.take_unreadable():
                what, are = ("a line", "is") if lost == 1 else (f"{lost} lines", "are")
                emit(
                    Notice(
                        f"{what} of {inbound.key} cannot be read, and {are} passed over; nanochat sessions check tells more"
                    )
                )
            return await work(session, inbound, emit, stop)

    async def _run(self, session: Session, inbound: Inbound, emit: Emit, stop: Stop) -> TurnDone | TurnFailed:
        if not session.turn_of(inbound.source_id):
            await self._purse.check(session.state, self._agent.model_of(session))
        async with self._turns:
            return await self._agent.turn(session, inbound, emit, stop)

    async def _retell(self, inbound: Inbound) -> TurnDone | TurnFailed:
        session = await self._manager.get_or_create(inbound.key)
        source_id = inbound.source_id
        lines = session.turn_of(source_id) or await self._manager.before_reset(session, source_id)
        if told := self._agent.retell(lines):
            if told.mark in ("failed", "interrupted"):
                return TurnFailed(
                    f"the answer to this message was cut short: {told.mark}", kind="cut", kept=bool(told.text)
                )
            return told
        if self._commands.is_command(inbound):
            return TurnFailed(
                f"{self._named(inbound)} was carried out before; what it said is not kept", kind="command"
            )
        if await self._manager.was_undone(session, source_id, inbound.at):
            return TurnDone("", mark="undone")
        return TurnFailed("this message was received before, and its answer is no longer at hand", kind="command")

    async def _go_on(self, session: Session, inbound: Inbound, emit: Emit, stop: Stop) -> TurnDone | TurnFailed:
        """What is left of a message that was begun before: nothing, all, or the rest."""
        source_id = inbound.source_id
        lines = session.turn_of(source_id)
        if not lines:
            if self._commands.is_command(inbound):
                return TurnFailed(
                    f"{self._named(inbound)} was cut short; look whether it was carried out", kind="crashed"
                )
            if told := self._agent.retell(await self._manager.before_reset(session, source_id)):
                return told
            if await self._manager.was_undone(session, source_id, inbound.at):
                return TurnDone("", mark="undone")
        elif not any(isinstance(line, Snapshot) and isinstance(line.event, TurnEnd) for line in lines) and (
            (newest := last_question(session.records)) is not None and newest.source_id != source_id
        ):
            # The model has read both questions by now; asked again, it would answer this one twice.
            await self._agent.interrupt(session, source_id)
            return TurnFailed(
                "the answer to this message was cut short, and the conversation has gone on since", kind="crashed"
            )
        return await self._run(session, inbound, emit, stop)

    def _named(self, inbound: Inbound) -> str:
        """A command without what it was told: what people say stays out of the log."""
        try:
            call = self._commands.parse(inbound)
        except CommandError:
            call = None
        return f"/{call.command.name}" if call is not None else "a command"

    async def _retry(self, session: Session, inbound: Inbound, emit: Emit, stop: Stop) -> TurnDone | TurnFailed:
        question = last_question(session.records)
        if question is None:
            raise CommandError("there is nothing to try again")
        await self._purse.check(session.state, self._agent.model_of(session))
        again = self._agent.user_line(session, inbound, question.content)
        await self._manager.undo(session, "retry", instead=again)
        return await self._run(session, inbound, emit, stop)

    async def _write(
        self, call: Call, session: Session, inbound: Inbound, emit: Emit, stop: Stop
    ) -> TurnDone | TurnFailed:
        try:
            async with asyncio.timeout(None) as scope:
                stop.bind(scope)
                return TurnDone(await self._commands.run(call, session))
        except TimeoutError:
            if not scope.expired():
                raise
            return TurnDone("", mark="stopped")
        finally:
            stop.release()


class _Reply:
    """Hands events on: the last one is the last, and a receiver that raises is left alone from then on."""

    def __init__(self, emit: Emit) -> None:
        self._emit: Emit | None = emit

    def __call__(self, event: ReplyEvent) -> None:
        if self._emit is not None:
            with contained(self._detach):
                self._emit(event)

    def finish(self, final: TurnDone | TurnFailed) -> None:
        self(final)
        self._emit = None

    def fail(self, error: Exception) -> None:
        if isinstance(error, NanochatError):
            return self.finish(_refusal(error))
        error_id = secrets.token_hex(4)
        _log.error("a turn failed, id %s", error_id, exc_info=error)
        return self.finish(
            TurnFailed(f"something went wrong inside nanochat; the log tells more under id {error_id}", error_id)
        )

    def _detach(self, error: Exception) -> None:
        _log.error("a channel could not take an event; the turn goes on without it", exc_info=error)
        self._emit = None


@contextmanager
def contained(report: Callable[[Exception], None]) -> Iterator[None]:
    """Keep a failure from spreading to other turns: the only place that takes every exception."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the boundary
        report(error)


def _refusal(error: NanochatError) -> TurnFailed:
    match error:
        case Busy():
            return TurnFailed(str(error), kind="busy", retryable=True)
        case LimitReached(retry_after_s=retry_after_s, setting=setting):
            kind = "pace" if setting == RATE_SETTING else "limit"
            return TurnFailed(str(error), kind=kind, retryable=retry_after_s is not None, retry_after_s=retry_after_s)
        case CommandError():
            return TurnFailed(str(error), kind="command")
        case StoreError() | LedgerError():
            return TurnFailed(str(error), kind="store")
        case _:
            return TurnFailed(str(error))
