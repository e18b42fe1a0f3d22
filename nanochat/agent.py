"""The agent turn: one user line in, one reply out, and every step of it in the session file before the next begins.

    user line -> request -> assistant line with tool calls -> result lines -> request -> … -> final line and turn record

The file is the turn's only memory. So a turn that a crash cut short is continued by reading what it wrote: a call without
a result gets an honest one and is never run again. Knows the order of these steps. Does not know queues, leases, commands or
channels.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import cast
from zoneinfo import ZoneInfo

from nanochat import compaction, history, pricing
from nanochat.condense import Condenser
from nanochat.errors import LimitReached, ModelError, ToolError
from nanochat.events import (
    Inbound,
    Notice,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnDone,
    TurnFailed,
    TurnStats,
)
from nanochat.limits import Purse
from nanochat.ports import Emit, Model, ModelReply, ModelRequest, Tool, ToolContext
from nanochat.records import Block, Content, Json, Message, Record, Snapshot, ToolTime, TurnEnd, Usage, text_of
from nanochat.sessions import Session, SessionManager
from nanochat.sizes import FIRST_BYTES_PER_TOKEN, weigh

__all__ = ["Agent", "AgentSettings", "Stop"]

# A result is read again with every later request until the next compaction; what does not fit is for another, narrower call.
MAX_RESULT_CHARS = 20_000

# The time is told when it has changed by something a conversation would notice; each telling costs about 15 tokens.
CLOCK_EVERY = timedelta(minutes=5)

# A turn record stays under 1 KB: the first calls tell where the time went.
MAX_TOOL_TIMES = 8

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
    """The settings that shape a turn; `budget_tokens` counts the conversation, without system text and tools."""

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
    tool_timeout_s: float = 60.0
    server_tools: tuple[Block, ...] = ()


class Stop:
    """Ends a running turn: `/stop` and the deadline are this one mechanism."""

    def __init__(self) -> None:
        self.requested = False
        self._scope: asyncio.Timeout | None = None

    def request(self) -> None:
        """End the turn now, or as soon as it begins; what was said so far is kept."""
        self.requested = True
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    def bind(self, scope: asyncio.Timeout) -> None:
        """Give the turn's scope, from inside it."""
        self._scope = scope
        if self.requested:
            self.request()

    def release(self) -> None:
        """The turn is over; later requests change nothing."""
        self._scope = None


@dataclass(slots=True)
class _Run:
    """One turn as it goes: what it has said, used and left open. Summed up in its turn record."""

    inbound: Inbound
    emit: Emit
    model: str
    started: float
    prefix: str = ""
    ttl: str = ""
    usage: Usage = field(default_factory=Usage)
    last: Usage = field(default_factory=Usage)
    begun: tuple[str, Usage] | None = None
    cost_usd: float | None = 0.0
    ttft_s: float | None = None
    tools: list[ToolTime] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    hearing: list[str] = field(default_factory=list)
    open_calls: list[str] = field(default_factory=list)
    message_ids: list[int] = field(default_factory=list)

    def hear(self, text: str) -> None:
        if self.ttft_s is None:
            self.ttft_s = time.perf_counter() - self.started
        self.hearing.append(text)
        self.emit(TextDelta(text))

    def begin(self, model: str, usage: Usage) -> None:
        """A reply begins; should it never end, so much was paid for."""
        self.begun = (model, usage)

    def break_off(self) -> None:
        """Count a reply that did not come to its end: what it had read, and about what it had said."""
        if self.begun is not None:
            model, usage = self.begun
            said = weigh("".join(self.hearing), FIRST_BYTES_PER_TOKEN)
            self.model = model
            self.count(replace(usage, output=max(usage.output, said)), model)

    def count(self, usage: Usage, model: str) -> None:
        self.begun = None
        cost = pricing.cost_usd(model, usage)
        self.usage, self.last = self.usage + usage, usage
        self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost

    def heard(self) -> None:
        """The request's text is in the file now."""
        self.said.append("".join(self.hearing))
        self.hearing.clear()

    def text(self) -> str:
        return "\n\n".join(text for text in [*self.said, "".join(self.hearing)] if text)


class Agent:
    """Runs turns; safe to call concurrently for different sessions."""

    def __init__(
        self,
        manager: SessionManager,
        model: Model,
        tools: Sequence[Tool],
        settings: AgentSettings,
        *,
        condenser: Condenser,
        purse: Purse,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._manager = manager
        self._model = model
        self._tools = {tool.name: tool for tool in tools}
        self._specs = (*(tool.spec for tool in tools), *settings.server_tools)
        self.settings = settings
        self._condenser = condenser
        self._purse = purse
        self._clock = clock

    async def turn(self, session: Session, inbound: Inbound, emit: Emit, stop: Stop) -> TurnDone | TurnFailed:
        """Do one turn, or what is left of it, under the lease that the caller holds; every event but the last goes to `emit`.

        Raises:
            StoreError: a line could not be written; the turn ends there and can be continued.
        """
        run = _Run(inbound, emit, session.state.model or self.settings.model, time.perf_counter())
        lines = session.turn_of(inbound.source_id)
        if ended := next(filter(None, map(_end_of, lines)), None):
            return self._retold(lines, ended)
        if lines:
            await self._pick_up(session, run, lines)
        else:
            await self._begin(session, run)
        final: Message | None = None
        failure: ModelError | LimitReached | None = None
        try:
            async with asyncio.timeout(self.settings.turn_timeout_s) as scope:
                stop.bind(scope)
                outcome, final = await self._rounds(session, run)
        except TimeoutError:
            if not scope.expired():
                raise
            outcome = "stopped" if stop.requested else "deadline"
        except (ModelError, LimitReached) as error:
            outcome, failure = "failed", error
        finally:
            stop.release()
        await self._end(session, run, outcome, final)
        if failure is not None:
            return _failed(failure, kept=bool(run.text()))
        if remark := _REMARKS.get(outcome):
            emit(Notice(remark))
        self._warn(run)
        return TurnDone(run.text(), self._stats(run), "" if outcome == "done" else outcome, tuple(run.message_ids))

    async def interrupt(self, session: Session, source_id: str) -> None:
        """Write the turn record of a turn that a crash cut short and that is not continued; none where none was begun."""
        lines = session.turn_of(source_id)
        if lines and not any(map(_end_of, lines)):
            await self._manager.append(session, TurnEnd(source_id, "interrupted"), durable=True)

    # --- the steps ---------------------------------------------------------------------------------------------------

    async def _begin(self, session: Session, run: _Run) -> None:
        """Make room if there is none, then write the user's line: from here on the turn survives a crash."""
        inbound = run.inbound
        content = await self._manager.content_of(inbound.content)
        await self._condenser.make_room(session, run.emit, content)
        line = Message(
            "user", content, inbound.at, source_id=inbound.source_id, clock=self._clock_line(session, inbound.at)
        )
        written = await self._manager.append(session, line, durable=True)
        run.message_ids += _ids(written)

    async def _pick_up(self, session: Session, run: _Run, lines: Sequence[Record]) -> None:
        """Take over from a process that died: what it used still counts, what it left open is closed."""
        answered = {str(block.get("tool_use_id")) for block in _blocks(lines, "tool_result")}
        asked = [str(block.get("id")) for block in _blocks(lines, "tool_use")]
        for line in lines:
            if isinstance(line, Message):
                run.message_ids.append(line.n)
                if line.role == "assistant":
                    run.count(line.usage or Usage(), run.model)
                    run.said.append(text_of(line.content))
        lost = [call_id for call_id in asked if call_id not in answered]
        if lost:
            results = [_result(call_id, history.INTERRUPTED, ok=False) for call_id in lost]
            await self._append(session, run, *(self._user_line(run, [result]) for result in results))

    async def _rounds(self, session: Session, run: _Run) -> tuple[str, Message | None]:
        """Ask, have tools run, ask again; returns the outcome and the final line, not yet written."""
        if _is_answered(session.turn_of(run.inbound.source_id)):
            return "done", None  # only the turn record was lost
        for _ in range(self.settings.max_rounds):
            await self._purse.check(session.state, run.cost_usd or 0.0)
            request = await self._request(session, run)
            reply = await self._model.reply(request, run.hear, lambda text: run.emit(Notice(text)), run.begin)
            line = self._assistant_line(run, request, reply)
            calls = [block for block in reply.content if block.get("type") == "tool_use"]
            if reply.stop_reason == "tool_use" and calls:
                await self._append(session, run, line)
                run.heard()
                await self._call_all(session, run, calls)
            elif reply.stop_reason == "pause_turn":
                await self._append(session, run, replace(line, mark="pause_turn"))
                run.heard()
            else:
                return _OUTCOMES.get(reply.stop_reason, "done"), line if line.content else None
        return "rounds", None

    async def _end(self, session: Session, run: _Run, outcome: str, final: Message | None) -> None:
        """Write the final line and the turn record in one durable write."""
        run.break_off()
        heard = "".join(run.hearing)
        mark = {"failed": "cut", "done": ""}.get(outcome, outcome)
        if final is None and heard.strip():
            final = Message(
                "assistant",
                heard,
                self._clock(),
                source_id=run.inbound.source_id,
                prefix=run.prefix,
                mark=mark or "cut",
            )
        elif final is not None and mark:
            final = replace(final, mark=mark)
        why = "stopped by the user" if outcome == "stopped" else "not finished: the turn came to its end"
        closed = [self._user_line(run, [_result(call_id, why, ok=False)]) for call_id in run.open_calls]
        end = TurnEnd(
            source_id=run.inbound.source_id,
            outcome=outcome,
            model=run.model,
            prefix=run.prefix,
            usage=run.usage,
            cost_usd=run.cost_usd,
            ttft_s=run.ttft_s,
            seconds=time.perf_counter() - run.started,
            origin="owner" if run.inbound.sender.owner else run.inbound.sender.id,
            tools=tuple(run.tools[:MAX_TOOL_TIMES]),
            ttl=run.ttl,
        )
        last = [final] if final is not None else []
        run.message_ids += _ids(await self._manager.append(session, *closed, *last, end, durable=True))
        await self._purse.spend(session.key, run.cost_usd)

    # --- requests ----------------------------------------------------------------------------------------------------

    async def _request(self, session: Session, run: _Run) -> ModelRequest:
        settings = self.settings
        ttl = compaction.choose_ttl(session.records, run.inbound.at)
        system = history.system_blocks(session.system or settings.system_prompt, ttl)
        run.ttl, run.prefix = ttl, history.prefix_hash(run.model, system, self._specs)
        messages = history.render(session.records, prefix=run.prefix, pins=session.pin_texts, complete=session.complete)
        return ModelRequest(
            model=run.model,
            system=system,
            messages=await self._manager.expand(history.with_breakpoints(messages, ttl=ttl)),
            tools=self._specs,
            max_tokens=settings.max_tokens,
            effort=settings.effort,
        )

    def _assistant_line(self, run: _Run, request: ModelRequest, reply: ModelReply) -> Message:
        if reply.model != request.model:
            run.model = reply.model
            run.prefix = history.prefix_hash(reply.model, request.system, request.tools)
        run.count(reply.usage, run.model)
        return Message(
            "assistant",
            reply.content,
            self._clock(),
            source_id=run.inbound.source_id,
            usage=reply.usage,
            prefix=run.prefix,
        )

    def _clock_line(self, session: Session, at: datetime) -> str:
        told = next((line.timestamp for line in reversed(session.messages) if line.clock), None)
        if told is not None and at - told < CLOCK_EVERY:
            return ""
        return at.astimezone(self.settings.timezone).strftime("%a %Y-%m-%d %H:%M %Z")

    # --- tools -------------------------------------------------------------------------------------------------------

    async def _call_all(self, session: Session, run: _Run, calls: Sequence[Block]) -> None:
        run.open_calls = [str(call["id"]) for call in calls]
        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(self._call(session, run, call))
        except ExceptionGroup as group:
            raise group.exceptions[
                0
            ] from group  # the first that failed ended the others; one cause reads better than a tree

    async def _call(self, session: Session, run: _Run, call: Block) -> None:
        """Run one call to its result line; whatever becomes of it, the model and the reader are told."""
        call_id, name = str(call["id"]), str(call["name"])
        args = cast(Mapping[str, Json], call["input"]) if isinstance(call.get("input"), Mapping) else {}
        tool = self._tools.get(name)
        run.emit(ToolStarted(call_id, name, tool.title(args) if tool else name))
        started, ok = time.perf_counter(), False
        try:
            context = ToolContext(session.key, run.inbound.sender, call_id, self._clock())
            async with asyncio.timeout(self.settings.tool_timeout_s):
                text = await tool.run(args, context) if tool else f"there is no tool {name!r}"
            ok = tool is not None
        except ToolError as error:
            text = str(error)
        except TimeoutError:
            text = f"no result within {self.settings.tool_timeout_s:g} s"
        finally:
            seconds = time.perf_counter() - started
            run.tools.append(ToolTime(name, seconds, ok))
            run.emit(ToolFinished(call_id, name, ok, seconds))
        if len(text) > MAX_RESULT_CHARS:
            text = f"{text[:MAX_RESULT_CHARS]}\n[{len(text) - MAX_RESULT_CHARS} more characters left out]"
        await self._append(session, run, self._user_line(run, [_result(call_id, text, ok=ok)]))
        run.open_calls.remove(call_id)

    def _user_line(self, run: _Run, content: Content) -> Message:
        return Message("user", content, self._clock(), source_id=run.inbound.source_id)

    async def _append(self, session: Session, run: _Run, *lines: Message) -> None:
        """Write lines that a crash of the process must not lose; the turn's last write makes them durable."""
        run.message_ids += _ids(await self._manager.append(session, *lines, durable=False))

    # --- telling -----------------------------------------------------------------------------------------------------

    def _stats(self, run: _Run) -> TurnStats:
        return TurnStats(
            model=run.model,
            usage=run.usage,
            cost_usd=run.cost_usd,
            context_tokens=run.last.prompt + run.last.output,
            budget_tokens=self.settings.budget_tokens,
            window_tokens=pricing.window_tokens(run.model),
            ttft_s=run.ttft_s,
            seconds=time.perf_counter() - run.started,
        )

    def _warn(self, run: _Run) -> None:
        window = pricing.window_tokens(run.model)
        used = run.last.prompt + run.last.output
        if window and used > self.settings.warn_at * window:
            run.emit(Notice(f"{used / window:.0%} of the model's context is in use; /compact makes room"))

    def _retold(self, lines: Sequence[Record], end: TurnEnd) -> TurnDone:
        """What a turn said that came to its end before a crash could be told of it."""
        messages = [line for line in lines if isinstance(line, Message)]
        said = [text_of(line.content) for line in messages if line.role == "assistant"]
        mark = "" if end.outcome == "done" else end.outcome
        return TurnDone("\n\n".join(text for text in said if text), None, mark, tuple(line.n for line in messages))


def _end_of(line: Record) -> TurnEnd | None:
    return line.event if isinstance(line, Snapshot) and isinstance(line.event, TurnEnd) else None


def _is_answered(lines: Sequence[Record]) -> bool:
    """Whether a turn's last line is a whole reply, so that asking again would answer twice."""
    last = next((line for line in reversed(lines) if isinstance(line, Message)), None)
    return (
        last is not None
        and last.role == "assistant"
        and last.mark != "pause_turn"
        and not any(_blocks([last], "tool_use"))
    )


def _blocks(lines: Sequence[Record], kind: str) -> list[Block]:
    contents = [line.content for line in lines if isinstance(line, Message) and not isinstance(line.content, str)]
    return [block for content in contents for block in content if block.get("type") == kind]


def _result(call_id: str, text: str, *, ok: bool) -> Block:
    result: dict[str, Json] = {"type": "tool_result", "tool_use_id": call_id, "content": text or "(nothing)"}
    return result if ok else {**result, "is_error": True}


def _ids(records: Sequence[Record]) -> list[int]:
    return [record.n for record in records if isinstance(record, Message)]


def _failed(error: ModelError | LimitReached, *, kept: bool) -> TurnFailed:
    hint = f"; {'what came so far' if kept else 'your message'} is kept, /retry asks again"
    if isinstance(error, LimitReached):
        return TurnFailed(str(error) + hint, kind="limit", kept=kept, retry_after_s=error.retry_after_s)
    return TurnFailed(
        str(error) + hint, kind=error.kind, retryable=error.retryable, kept=kept, retry_after_s=error.retry_after_s
    )
