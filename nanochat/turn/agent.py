"""The agent turn: one user line in, one reply out, and every step of it in the session file before the next begins.

    user line -> request -> assistant line with tool calls -> result lines -> request -> … -> final line and turn record

The file is the turn's only memory. So a turn that a crash cut short is continued by reading what it wrote: a call without
a result gets an honest one and is never run again. Knows the order of these steps. Does not know queues, leases, commands or
channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from nanochat import history, pricing
from nanochat.errors import LedgerError, LimitReached, ModelError, NanochatError, StoreError
from nanochat.events import Inbound, Notice, TextDelta, TurnDone, TurnFailed, TurnStats
from nanochat.history import compaction
from nanochat.ports import Emit, Model, ModelReply, ModelRequest, ToolContext
from nanochat.records import Block, Content, Message, Record, Snapshot, TurnEnd, Usage, text_of
from nanochat.sessions import Session, SessionManager
from nanochat.turn import attachments
from nanochat.turn.condense import Condenser
from nanochat.turn.limits import Purse
from nanochat.turn.tally import Tally
from nanochat.turn.toolbox import Toolbox, blocks_of, open_calls, result_block

__all__ = ["Agent", "AgentSettings", "Stop"]

# The time is told when it has changed by something a conversation would notice; each telling costs about 15 tokens.
CLOCK_EVERY = timedelta(minutes=5)

_OUTCOMES: Mapping[str, str] = {
    "end_turn": "done",
    "stop_sequence": "done",
    "tool_use": "done",  # said without a call that could be run
    "max_tokens": "max_tokens",
    "refusal": "refusal",
    "model_context_window_exceeded": "context",
}

_REMARKS: Mapping[str, str] = {
    "max_tokens": "the reply reached model.max_tokens and ends early; say “go on” for more",
    "refusal": "the model declined to answer this",
    "context": "the conversation no longer fits the model; /compact or /new helps",
    "rounds": "limits.max_rounds tool rounds are used up; say “go on” for more",
    "deadline": "limits.turn_timeout_s is over; what was said so far is kept",
}


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The settings that shape a turn; `budget_tokens` counts the conversation, without system text and tools. `purpose` is what
    the model is told of its requests, and without `attended` nobody is there who could try again."""

    model: str
    system_prompt: str
    timezone: ZoneInfo
    max_tokens: int = 8192
    effort: str = ""
    budget_tokens: int = 16_000
    max_messages: int = 0
    warn_at: float = 0.8
    max_rounds: int = 25
    turn_timeout_s: float = 600.0
    purpose: Literal["turn", "summary"] = "turn"
    attended: bool = True


class Stop:
    """Ends what a person asked for: `/stop` and the deadline are this one mechanism."""

    def __init__(self) -> None:
        self.requested = False
        self._scope: asyncio.Timeout | None = None

    def request(self) -> None:
        """End it now, or as soon as it begins; what was said so far is kept."""
        self.requested = True
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    def bind(self, scope: asyncio.Timeout) -> None:
        """Give the scope that is to end, from inside it."""
        self._scope = scope
        if self.requested:
            self.request()

    def release(self) -> None:
        """It is over; later requests change nothing."""
        self._scope = None


@dataclass(slots=True)
class _Turn:
    """What the steps of one turn share."""

    session: Session
    inbound: Inbound
    emit: Emit
    tally: Tally
    cap_usd: float = 0.0
    content: Content = ""

    @property
    def lines(self) -> list[Record]:
        """What of it is in the file."""
        return self.session.turn_of(self.inbound.source_id)

    def hear(self, text: str) -> None:
        self.tally.hear(text)
        self.emit(TextDelta(text))

    def notice(self, text: str) -> None:
        self.emit(Notice(text))


class Agent:
    """Runs turns; safe to call concurrently for different sessions."""

    def __init__(
        self,
        manager: SessionManager,
        model: Model,
        toolbox: Toolbox,
        settings: AgentSettings,
        *,
        condenser: Condenser,
        purse: Purse,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._manager = manager
        self._model = model
        self._toolbox = toolbox
        self.settings = settings
        self._condenser = condenser
        self._purse = purse
        self._clock = clock

    async def turn(
        self, session: Session, inbound: Inbound, emit: Emit, stop: Stop, *, cap_usd: float = 0.0
    ) -> TurnDone | TurnFailed:
        """Do one turn, or what is left of it, under the lease that the caller holds; every event but the last goes to `emit`.

        Once it has cost `cap_usd` no further request is made; 0 is no cap.

        Raises:
            StoreError: a line could not be written; the turn ends there and can be continued.
        """
        turn = _Turn(session, inbound, emit, Tally(self.model_of(session)), cap_usd)
        if retold := self.retell(turn.lines):
            return retold
        if not turn.lines:
            turn.content = await attachments.to_content(self._manager.store, inbound.content)
        final: Message | None = None
        failure: NanochatError | None = None
        try:
            async with asyncio.timeout(self.settings.turn_timeout_s) as scope:
                stop.bind(scope)
                outcome, final = await self._steps(turn)
        except TimeoutError:
            if not scope.expired():
                raise
            outcome = "stopped" if stop.requested else "deadline"
        except StoreError:
            raise
        except NanochatError as error:
            outcome, failure = "failed", error
        except Exception:
            await self._end(turn, "failed", None)
            raise
        finally:
            stop.release()
        await self._end(turn, outcome, final)
        if failure is None:
            return self._told(turn, outcome)
        kept = bool(turn.tally.text)
        what = "what came so far" if kept else "your message"
        advice = f"; {what} is kept, /retry asks again" if self.settings.attended else ""
        return _failed(failure, f"{failure}{advice}", kept=kept)

    def retell(self, lines: Sequence[Record]) -> TurnDone | None:
        """What a turn with these lines said, if it came to its end."""
        ended = next(filter(None, map(_end_of, lines)), None)
        return _retold(lines, ended, self.settings.budget_tokens) if ended is not None else None

    def model_of(self, session: Session) -> str:
        """The model that answers in a session."""
        return session.state.model or self.settings.model

    def user_line(self, session: Session, inbound: Inbound, content: Content) -> Message:
        """The line that a turn begins with. The time stands in it where it has moved since it was last told."""
        told = next((line.timestamp for line in reversed(session.messages) if line.clock), None)
        is_news = told is None or inbound.at - told >= CLOCK_EVERY
        clock = inbound.at.astimezone(self.settings.timezone).strftime("%a %Y-%m-%d %H:%M %Z") if is_news else ""
        return Message("user", content, inbound.at, source_id=inbound.source_id, clock=clock)

    async def interrupt(self, session: Session, source_id: str) -> None:
        """Write the turn record of a turn that a crash cut short and that is not continued; none where none was begun."""
        lines = session.turn_of(source_id)
        if lines and not any(map(_end_of, lines)):
            tally = Tally(self.model_of(session))
            tally.recount(lines)
            end = TurnEnd(source_id, "interrupted", tally.model, usage=tally.usage, cost_usd=tally.cost_usd)
            await self._manager.append(session, end, durable=True)

    # --- the steps ---------------------------------------------------------------------------------------------------

    async def _steps(self, turn: _Turn) -> tuple[str, Message | None]:
        """All steps up to the outcome and the final line, which is not yet written."""
        if not turn.lines:
            await self._condenser.make_room(turn.session, turn.emit, turn.content)
            await self._begin(turn)
        else:
            turn.tally.recount(turn.lines)
            for call_id in open_calls(turn.lines):
                await self._write_result(turn, result_block(call_id, history.INTERRUPTED, ok=False))
        if (said := _whole_reply(turn.lines)) is not None:  # only the turn record was lost
            return {"cut": "failed", "": "done"}.get(said.mark, said.mark), None
        for _ in range(self.settings.max_rounds):
            await self._purse.check(turn.session.state, turn.tally.model, turn.tally.cost_usd or 0.0, turn.cap_usd)
            request = await self._request(turn)
            reply = await self._model.reply(request, turn.hear, turn.notice, turn.tally.begin)
            line = self._assistant_line(turn, request, reply)
            calls = [block for block in reply.content if block.get("type") == "tool_use"]
            if reply.stop_reason == "tool_use" and calls:
                await self._go_on(turn, line)
                turn.tally.tools += await self._toolbox.call_all(
                    calls,
                    lambda call_id: self._context(turn, call_id),
                    turn.emit,
                    lambda r: self._write_result(turn, r),
                )
            elif reply.stop_reason == "pause_turn":
                await self._go_on(turn, replace(line, mark="pause_turn"))
            else:
                return _OUTCOMES.get(reply.stop_reason, "done"), line if line.content else None
        return "rounds", None

    async def _begin(self, turn: _Turn) -> None:
        """Write the user's line: from here on the turn survives a crash."""
        await self._write(turn, self.user_line(turn.session, turn.inbound, turn.content), durable=True)

    async def _go_on(self, turn: _Turn, line: Message) -> None:
        """Write a reply that more will follow."""
        await self._write(turn, line, durable=False)
        turn.tally.settle()
        await self._spend(turn)

    async def _write_result(self, turn: _Turn, result: Block) -> None:
        line = Message("user", [result], self._clock(), source_id=turn.inbound.source_id)
        await self._write(turn, line, durable=False)

    async def _write(self, turn: _Turn, line: Message, *, durable: bool) -> None:
        """Write one line. Not durable, it survives the process; the turn's last write makes it survive the machine."""
        turn.tally.message_ids += _ids(await self._manager.append(turn.session, line, durable=durable))

    async def _end(self, turn: _Turn, outcome: str, final: Message | None) -> None:
        """Write the final line and the turn record in one durable write."""
        tally, source_id = turn.tally, turn.inbound.source_id
        if not turn.lines:
            await self._begin(turn)  # it was said, though it was stopped before anything else
        tally.break_off()
        mark = {"failed": "cut", "done": ""}.get(outcome, outcome)
        if final is None and tally.heard.strip():
            final = Message(
                "assistant", tally.heard, self._clock(), source_id, tally.model, prefix=tally.prefix, mark=mark or "cut"
            )
        elif final is not None:
            final = replace(final, mark=mark)
        why = "stopped by the user" if outcome == "stopped" else "not finished: the turn came to its end"
        closed = [
            Message("user", [result_block(call_id, why, ok=False)], self._clock(), source_id)
            for call_id in open_calls(turn.lines)
        ]
        last = [final] if final is not None else []
        end = tally.record(turn.inbound, outcome)
        tally.message_ids += _ids(await self._manager.append(turn.session, *closed, *last, end, durable=True))
        await self._spend(turn)

    async def _spend(self, turn: _Turn) -> None:
        try:
            await self._purse.spend(turn.session.key, turn.tally.take_unspent())
        except LedgerError as error:
            turn.emit(Notice(f"{error}; what this cost is not counted against the day's cap"))

    # --- requests ----------------------------------------------------------------------------------------------------

    async def _request(self, turn: _Turn) -> ModelRequest:
        session, tally, specs = turn.session, turn.tally, self._toolbox.specs
        ttl = compaction.choose_ttl(session.records, turn.inbound.at)
        system = history.system_blocks(session.system or self.settings.system_prompt, ttl)
        tally.ttl, tally.prefix = ttl, history.prefix_hash(tally.model, system, specs)
        messages = history.render(
            session.records, prefix=tally.prefix, pins=session.pin_texts, complete=session.complete
        )
        return ModelRequest(
            model=tally.model,
            system=system,
            messages=await attachments.with_bytes(self._manager.store, history.with_breakpoints(messages, ttl=ttl)),
            tools=specs,
            max_tokens=self.settings.max_tokens,
            effort=self.settings.effort,
            purpose=self.settings.purpose,
        )

    def _assistant_line(self, turn: _Turn, request: ModelRequest, reply: ModelReply) -> Message:
        tally = turn.tally
        if reply.model != request.model:
            tally.model = reply.model
            tally.prefix = history.prefix_hash(reply.model, request.system, request.tools)
        tally.count(reply.usage)
        source_id = turn.inbound.source_id
        return Message("assistant", reply.content, self._clock(), source_id, tally.model, reply.usage, tally.prefix)

    def _context(self, turn: _Turn, call_id: str) -> ToolContext:
        return ToolContext(turn.session.key, turn.inbound.sender, call_id, self._clock())

    # --- telling -----------------------------------------------------------------------------------------------------

    def _told(self, turn: _Turn, outcome: str) -> TurnDone:
        tally = turn.tally
        if remark := _REMARKS.get(outcome):
            turn.emit(Notice(remark))
        window = pricing.window_tokens(tally.model)
        if window and tally.context_tokens > self.settings.warn_at * window:
            turn.emit(
                Notice(f"{tally.context_tokens / window:.0%} of the model's context is in use; /compact makes room")
            )
        mark = "" if outcome == "done" else outcome
        return TurnDone(tally.text, tally.stats(self.settings.budget_tokens), mark, tuple(tally.message_ids))


def _retold(lines: Sequence[Record], end: TurnEnd, budget_tokens: int) -> TurnDone:
    """What a turn said that came to its end before a crash could be told of it."""
    messages = [line for line in lines if isinstance(line, Message)]
    replies = [line for line in messages if line.role == "assistant"]
    last = next((line.usage for line in reversed(replies) if line.usage is not None), Usage())
    stats = TurnStats(
        model=end.model,
        usage=end.usage,
        cost_usd=end.cost_usd,
        context_tokens=last.prompt + last.output,
        budget_tokens=budget_tokens,
        window_tokens=pricing.window_tokens(end.model),
        ttft_s=end.ttft_s,
        seconds=end.seconds,
    )
    said = "\n\n".join(filter(None, (text_of(line.content) for line in replies)))
    mark = "" if end.outcome == "done" else end.outcome
    return TurnDone(said, stats, mark, tuple(line.n for line in messages))


def _end_of(line: Record) -> TurnEnd | None:
    return line.event if isinstance(line, Snapshot) and isinstance(line.event, TurnEnd) else None


def _whole_reply(lines: Sequence[Record]) -> Message | None:
    """The turn's last line, if it is a reply after which nothing was to follow: asking again would answer twice."""
    last = next((line for line in reversed(lines) if isinstance(line, Message)), None)
    if last is None or last.role != "assistant" or last.mark == "pause_turn" or blocks_of([last], "tool_use"):
        return None
    return last


def _ids(records: Sequence[Record]) -> list[int]:
    return [record.n for record in records if isinstance(record, Message)]


def _failed(error: NanochatError, text: str, *, kept: bool) -> TurnFailed:
    match error:
        case ModelError():
            return TurnFailed(
                text, kind=error.kind, retryable=error.retryable, kept=kept, retry_after_s=error.retry_after_s
            )
        case LimitReached():
            return TurnFailed(text, kind="limit", kept=kept, retry_after_s=error.retry_after_s)
        case _:
            return TurnFailed(text, kept=kept)
