"""The Handler: every message of every channel comes through here.

In this order: chat commands, rate and money limits, the session's queue and lease, the turn; and around it the one broad
`except` of the package. Knows who may go when. Does not know how a turn is done (`agent`) or what a command says (`commands`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace

from nanochat.agent import Agent, Stop
from nanochat.commands import Call, Commands
from nanochat.errors import Busy, CommandError, LedgerError, LimitReached, NanochatError, StoreError
from nanochat.events import Inbound, Notice, ReplyEvent, TurnDone, TurnFailed
from nanochat.exchanges import begins_exchange
from nanochat.keys import SessionKey
from nanochat.limits import Limits, Purse, RateFence
from nanochat.ports import Emit
from nanochat.sessions import Session, SessionManager

__all__ = ["Assistant"]

_log = logging.getLogger(__name__)


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
        self._limits = limits
        self._fence = fence
        self._purse = purse
        self._turns = asyncio.Semaphore(limits.concurrent_turns)
        self._lines: dict[SessionKey, list[Stop]] = {}

    async def __call__(self, inbound: Inbound, emit: Emit) -> None:
        """Do all that one message asks for; the last event is emitted before this returns."""
        reply = _Reply(emit)
        with _contained(reply.fail):
            reply.finish(await self._answer(inbound, reply))

    async def again(self, inbound: Inbound, emit: Emit) -> None:
        """Go on with a message that a process which died had begun, however far it had come; what was undone stays undone."""
        reply = _Reply(emit)
        with _contained(reply.fail):
            reply.finish(await self._go_on(inbound, reply))

    def stop(self, key: SessionKey) -> bool:
        """Stop the turn of this session that runs, or is next to run, in this process; False where there is none."""
        line = self._lines.get(key)
        if not line:
            return False
        line[0].request()
        return True

    async def interrupt(self, key: SessionKey, source_id: str) -> None:
        """Close, in its session, a turn that a crash cut short and that nobody will continue."""
        async with self._manager.turn(key) as session:
            await self._agent.interrupt(session, source_id)

    async def _answer(self, inbound: Inbound, emit: _Reply) -> TurnDone | TurnFailed:
        call = self._commands.parse(inbound)
        if call is None:
            self._fence.pass_through(inbound.key)
            return await self._turn(inbound, emit)
        if call.command.name == "stop":
            return TurnDone("stopping" if self.stop(inbound.key) else "nothing is running here")
        if call.command.stops:
            self.stop(inbound.key)
        if call.command.name == "retry":
            self._fence.pass_through(inbound.key)
            return await self._retry(inbound, emit)
        if not call.command.writes:
            return TurnDone(await self._commands.run(call, await self._manager.get_or_create(inbound.key)))
        return await self._write(call, emit)

    async def _turn(self, inbound: Inbound, emit: _Reply) -> TurnDone | TurnFailed:
        stop = Stop()
        async with self._in_line(inbound.key, stop, emit) as session:
            if session is None:
                return TurnDone("", mark="stopped")
            return await self._run(session, inbound, emit, stop)

    async def _go_on(self, inbound: Inbound, emit: _Reply) -> TurnDone | TurnFailed:
        stop = Stop()
        async with self._in_line(inbound.key, stop, emit) as session:
            if session is None:
                return TurnDone("", mark="stopped")
            if await self._manager.was_undone(session, inbound.source_id):
                return TurnDone("", mark="undone")
            return await self._run(session, inbound, emit, stop)

    async def _run(self, session: Session, inbound: Inbound, emit: _Reply, stop: Stop) -> TurnDone | TurnFailed:
        if session.unreadable:
            emit(
                Notice(
                    f"{session.unreadable} lines of {inbound.key} cannot be read and are left out; see: nanochat sessions check"
                )
            )
            session.unreadable = 0
        if not session.turn_of(inbound.source_id):
            await self._purse.check(session.state)
        async with self._turns:
            return await self._agent.turn(session, inbound, emit, stop)

    async def _retry(self, inbound: Inbound, emit: _Reply) -> TurnDone | TurnFailed:
        stop = Stop()
        async with self._in_line(inbound.key, stop, emit) as session:
            if session is None:
                return TurnDone("", mark="stopped")
            await self._purse.check(session.state)
            if not any(begins_exchange(record) for record in session.records):
                raise CommandError("there is nothing to try again")
            undone = await self._manager.undo(session, "retry")
            parts = await self._manager.parts_of(undone.content if undone and undone.content else "")
            return await self._run(session, replace(inbound, content=parts), emit, stop)

    async def _write(self, call: Call, emit: _Reply) -> TurnDone:
        stop = Stop()
        async with self._in_line(call.inbound.key, stop, emit) as session:
            if session is None:
                return TurnDone("", mark="stopped")
            return TurnDone(await self._commands.run(call, session))

    @asynccontextmanager
    async def _in_line(self, key: SessionKey, stop: Stop, emit: _Reply) -> AsyncIterator[Session | None]:
        """Wait for the session's lease behind those who came first; None where `/stop` ended the wait.

        Raises:
            Busy: as many wait as may.
        """
        line = self._lines.setdefault(key, [])
        if len(line) > self._limits.waiting:
            raise Busy(f"{key}: {len(line) - 1} messages wait already; wait for a reply, or /stop")
        line.append(stop)
        try:
            async with AsyncExitStack() as stack:
                session: Session | None = None
                try:
                    async with asyncio.timeout(None) as scope:
                        stop.bind(scope)
                        lease = self._manager.turn(key, on_wait=lambda holder: emit(Notice(f"waiting for {holder}")))
                        session = await stack.enter_async_context(lease)
                except TimeoutError:
                    if not scope.expired():
                        raise
                finally:
                    stop.release()
                yield session
        finally:
            line.remove(stop)
            if not line:
                del self._lines[key]


class _Reply:
    """Hands events on: the last one is the last, and a receiver that raises is left alone from then on."""

    def __init__(self, emit: Emit) -> None:
        self._emit: Emit | None = emit

    def __call__(self, event: ReplyEvent) -> None:
        if self._emit is not None:
            with _contained(self._detach):
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
def _contained(report: Callable[[Exception], None]) -> Iterator[None]:
    """Keep a failure from spreading to other turns: the only place that takes every exception."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the boundary
        report(error)


def _refusal(error: NanochatError) -> TurnFailed:
    match error:
        case Busy():
            return TurnFailed(str(error), kind="busy", retryable=True)
        case LimitReached(retry_after_s=retry_after_s):
            return TurnFailed(
                str(error), kind="limit", retryable=retry_after_s is not None, retry_after_s=retry_after_s
            )
        case CommandError():
            return TurnFailed(str(error), kind="command")
        case StoreError() | LedgerError():
            return TurnFailed(str(error), kind="store")
        case _:
            return TurnFailed(str(error))
