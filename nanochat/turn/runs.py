"""What a fire of a job does: a turn of `cron:<id>`, begun with a reset so that no fire sends the ones before it again.

    text       recorded as it stands, without a model
    prompt     a turn with tools
    summary    what is new in the job's sources, quoted as data, in a turn without tools

Stands before the Handler of all other messages and hands those on. Each run is written down, whatever became of it. Knows jobs,
and which turn belongs to which kind. Does not know when a fire is due (`jobs`), nor who gets the result (`channels`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import assert_never

from nanochat.errors import LimitReached
from nanochat.events import Inbound, ReplyEvent, Text, TurnDone, TurnFailed
from nanochat.history import digest
from nanochat.jobs import Job
from nanochat.keys import SessionKey
from nanochat.ledger import Jobs, Run
from nanochat.ports import Emit
from nanochat.pricing import cost_usd
from nanochat.records import Message, Reset, Snapshot, TurnEnd, Usage, text_of
from nanochat.sessions import Session, SessionManager
from nanochat.turn.agent import Agent, Stop
from nanochat.turn.assistant import Assistant
from nanochat.turn.gathering import gather
from nanochat.turn.limits import Purse

__all__ = ["FAILED_MARKS", "NOTHING_NEW", "Crew", "Runs", "is_fire"]

FAILED_MARKS = ("failed", "deadline", "interrupted", "refusal", "context")
"""The marks of turns that ended without what they were to bring."""

NOTHING_NEW = "nothing new"
"""The mark of a quiet summary that had nothing to sum up."""

# English text has about four characters a token, other scripts fewer: an estimate that must not fall short takes three.
_CHARS_PER_TOKEN = 3

# So much of what a run may cost goes into reading; the rest is for the answer, whose tokens cost about five times as much.
_READING_SHARE = 0.5

# A few lines of talk; a summary of less would be the talk itself.
_LEAST_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Crew:
    """Who does the turns: `prompts` has tools, but none that makes jobs; `digests` has none."""

    prompts: Agent
    digests: Agent


class Runs:
    """A Handler for the fires of jobs, and for everything else `assistant`. `job_of` finds a job by its id."""

    def __init__(
        self,
        assistant: Assistant,
        manager: SessionManager,
        crew: Crew,
        book: Jobs,
        purse: Purse,
        *,
        job_of: Callable[[str], Awaitable[Job | None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._assistant = assistant
        self._manager = manager
        self._crew = crew
        self._book = book
        self._purse = purse
        self._job_of = job_of
        self._clock = clock

    async def __call__(self, inbound: Inbound, emit: Emit) -> None:
        """See `ports.Handler`."""
        if is_fire(inbound.key, inbound.source_id):
            await self._run(inbound, emit, begun=False)
        else:
            await self._assistant(inbound, emit)

    async def again(self, inbound: Inbound, emit: Emit) -> None:
        """The same for what a process that died had begun."""
        if is_fire(inbound.key, inbound.source_id):
            await self._run(inbound, emit, begun=True)
        else:
            await self._assistant.again(inbound, emit)

    def passes(self, inbound: Inbound) -> bool:
        """See `Assistant.passes`; a job's text is never a command."""
        return not is_fire(inbound.key, inbound.source_id) and self._assistant.passes(inbound)

    async def interrupt(self, key: SessionKey, source_id: str) -> bool:
        """See `Assistant.interrupt`."""
        was_begun = await self._assistant.interrupt(key, source_id)
        if is_fire(key, source_id):
            why = "every attempt was cut short; it is given up"
            await self._write_down(key, source_id, self._clock(), TurnFailed(why, kind="crashed"))
        return was_begun

    async def _run(self, inbound: Inbound, emit: Emit, *, begun: bool) -> None:
        started_at = self._clock()
        finals: list[TurnDone | TurnFailed] = []

        def hear(event: ReplyEvent) -> None:
            if isinstance(event, TurnDone | TurnFailed):
                finals.append(event)
            else:
                emit(event)

        await self._assistant.have_done(inbound, hear, partial(self._work, begun))
        [final] = finals
        if not (isinstance(final, TurnFailed) and final.kind == "busy"):  # which is tried again
            await self._write_down(inbound.key, inbound.source_id, started_at, final)
        emit(final)

    async def _write_down(
        self, key: SessionKey, source_id: str, started_at: datetime, final: TurnDone | TurnFailed
    ) -> None:
        is_failed = isinstance(final, TurnFailed) or final.mark in FAILED_MARKS
        await self._book.record(
            Run(
                job_id=key.chat_id,
                fire=_fire_of(key, source_id) or started_at,
                outcome="failed" if is_failed else "ran",
                started_at=started_at,
                ended_at=self._clock(),
                text="" if isinstance(final, TurnFailed) else final.text,
                note=final.message if isinstance(final, TurnFailed) else final.mark,
            )
        )

    # --- the kinds ---------------------------------------------------------------------------------------------------

    async def _work(
        self, begun: bool, session: Session, inbound: Inbound, emit: Emit, stop: Stop
    ) -> TurnDone | TurnFailed:
        job = await self._job_of(inbound.key.chat_id)
        if job is None:
            return TurnFailed(f"job {inbound.key.chat_id} was removed before it ran", kind="command")
        if not session.turn_of(inbound.source_id):
            if begun and await self._manager.was_undone(session, inbound.source_id, inbound.at):
                return TurnDone("", mark="undone")
            if job.kind == "prompt":
                await self._purse.check(session.state, self._crew.prompts.model_of(session))
        match job.kind:
            case "text":
                return await self._say(session, inbound, job.text)
            case "prompt":
                await self._begin(session, inbound)
                return await self._crew.prompts.turn(session, inbound, emit, stop, cap_usd=job.usd_per_run)
            case "summary":
                return await self._sum_up(job, session, inbound, emit, stop)
            case _:
                assert_never(job.kind)

    async def _begin(self, session: Session, inbound: Inbound) -> None:
        """Put former fires out of sight, unless this one has begun."""
        if session.messages and not session.turn_of(inbound.source_id):
            await self._manager.append(session, Reset("fire"), durable=False)

    async def _say(self, session: Session, inbound: Inbound, text: str) -> TurnDone:
        """A turn without a model: what fell due, and `text`."""
        if not any(isinstance(line, Snapshot) for line in session.turn_of(inbound.source_id)):
            await self._begin(session, inbound)
            source_id, now = inbound.source_id, self._clock()
            lines = [Message("assistant", text, now, source_id)]
            if not session.turn_of(source_id):
                lines.insert(0, Message("user", f"({source_id} is due)", now, source_id))
            end = TurnEnd(source_id, "done", cost_usd=0.0, origin=str(inbound.key))
            await self._manager.append(session, *lines, end, durable=True)
        ids = tuple(line.n for line in session.turn_of(inbound.source_id) if isinstance(line, Message))
        return TurnDone(text, message_ids=ids)

    async def _sum_up(
        self, job: Job, session: Session, inbound: Inbound, emit: Emit, stop: Stop
    ) -> TurnDone | TurnFailed:
        agent = self._crew.digests
        if not session.turn_of(inbound.source_id):
            found = await gather(self._manager.store, job.sources, partial(self._watermark, job), self._clock())
            if not found.sources:
                if job.quiet:
                    return TurnDone("", mark=NOTHING_NEW)
                return await self._say(session, inbound, _nothing_new(job))
            model = agent.model_of(session)
            await self._purse.check(session.state, model)
            chars = _affordable_chars(model, job.usd_per_run)
            asked = digest.ask(found.sources, job.text, missing=found.missing, max_chars=chars)
            inbound = replace(inbound, content=(Text(asked),))
        elif not digest.marks(_asked_in(session, inbound)):  # there was nothing new, and that was said without a model
            return await self._say(session, inbound, _nothing_new(job))
        await self._begin(session, inbound)
        final = await agent.turn(session, inbound, emit, stop, cap_usd=job.usd_per_run)
        if isinstance(final, TurnDone) and final.mark in ("", "max_tokens"):
            read = digest.marks(_asked_in(session, inbound))
            await self._book.set_watermarks(job.id, {str(key): n for key, n in read.items()})
        return final

    async def _watermark(self, job: Job, key: SessionKey) -> int | None:
        return await self._book.watermark(job.id, str(key))


def is_fire(key: SessionKey, source_id: str) -> bool:
    """Whether this is a job falling due, and not somebody who talks in its session."""
    return key.channel == "cron" and source_id.startswith(f"{key}:")


def _fire_of(key: SessionKey, source_id: str) -> datetime | None:
    try:
        return datetime.fromisoformat(source_id.removeprefix(f"{key}:"))
    except ValueError:
        return None


def _asked_in(session: Session, inbound: Inbound) -> str:
    """The user line of a turn, as it stands in the file."""
    lines = session.turn_of(inbound.source_id)
    asked = next((line for line in lines if isinstance(line, Message) and line.role == "user"), None)
    return text_of(asked.content) if asked is not None else ""


def _affordable_chars(model: str, usd_per_run: float) -> int:
    """How much may be read for the price of a run.

    Raises:
        LimitReached: too little to be worth it.
    """
    per_token = cost_usd(model, Usage(input=1)) or 0.0
    if not usd_per_run or not per_token:
        return digest.QUOTE_CHARS
    chars = int(usd_per_run * _READING_SHARE / per_token * _CHARS_PER_TOKEN)
    if chars < _LEAST_CHARS:
        raise LimitReached(
            f"for ${usd_per_run:g} {model} could read {chars} characters: raise usd_per_run to have a summary",
            setting="usd_per_run",
        )
    return min(digest.QUOTE_CHARS, chars)


def _nothing_new(job: Job) -> str:
    return f"Nothing new in {', '.join(job.sources)}."
