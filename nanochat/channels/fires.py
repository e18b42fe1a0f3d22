"""The channel of the alarm clock: a fire comes in, and what came of it goes out to the job's recipients.

    fire -> Inbound -> the run -> a delivery for each recipient, or one line that it failed, at most once a day

No run waits for a delivery: each is handed over and goes its own way. Knows jobs and what a run's last event means. Does not know
when a fire is due (`cron`), nor how a delivery arrives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeAlias
from zoneinfo import ZoneInfo

from nanochat.errors import ChannelError, JobError
from nanochat.events import Inbound, ReplyEvent, Sender, Text, TurnDone, TurnFailed
from nanochat.jobs import Job, parse_body
from nanochat.keys import SessionKey
from nanochat.ports import Accept, Envelope, Receipt, ReplyMemory

__all__ = ["FAILED", "Alarm", "Book", "Deliver", "Fires"]

Deliver: TypeAlias = Callable[[SessionKey, str, str, str], Awaitable[bool]]
"""Hand over a text for a session's person, with its origin and its source id; durable when it returns. False: it was known."""

# Turns that were ended on purpose: nobody waits for what they would have said.
_SILENT = ("stopped", "undone", "nothing new")

FAILED = {
    "failed": "it was cut short",
    "deadline": "limits.turn_timeout_s was over",
    "interrupted": "it was cut short",
    "refusal": "the model declined",
    "context": "it was too much for the model",
}
"""The marks of turns that ended before they had said what they were asked, in words; `runs` writes these down as failed."""


class Alarm(Protocol):
    """What brings the fires in."""

    async def run(self, accept: Accept) -> None: ...

    async def close(self) -> None: ...


class Book(Protocol):
    """Where it is noted which delivery belongs to which fire."""

    async def delivering(self, job_id: str, fire: datetime, recipient: SessionKey, source_id: str) -> None: ...


class Fires:
    """See `ports.Channel`. `job_of` finds a job by its id.

    What a job says that is removed while it runs stays in its session, and nobody is sent it.
    """

    name = "cron"

    def __init__(
        self,
        alarm: Alarm,
        book: Book,
        deliver: Deliver,
        job_of: Callable[[str], Awaitable[Job | None]],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._alarm = alarm
        self._book = book
        self._deliver = deliver
        self._job_of = job_of
        self._clock = clock

    async def run(self, accept: Accept) -> None:
        """See `ports.Channel.run`."""
        await self._alarm.run(accept)

    async def parse(self, envelopes: Sequence[Envelope]) -> Inbound:
        """See `ports.Channel.parse`; a job that is gone is for the run to tell."""
        [envelope] = envelopes
        try:
            job_id, _ = parse_body(envelope.body)
        except JobError as error:
            raise ChannelError(str(error)) from error
        job = await self._job_of(job_id)
        sender = Sender(f"cron:{job_id}", job_id, owner=job is not None and job.by_owner)
        text = job.text if job is not None else ""
        return Inbound(envelope.key, envelope.source_id, sender, (Text(text),), self._clock())

    def reply_to(self, inbound: Inbound, memory: ReplyMemory) -> _Outcome:
        """See `ports.Channel.reply_to`."""
        return _Outcome(self, inbound)

    async def deliver(self, key: SessionKey, text: str, memory: ReplyMemory) -> Receipt:
        """Tell a job's recipients that it failed: all that can be said to a job."""
        return await self.tell_failure(key, text)

    async def close(self) -> None:
        """See `ports.Channel.close`."""
        await self._alarm.close()

    async def hand_out(self, inbound: Inbound, text: str) -> Receipt:
        """A delivery for each recipient; the same fire's twice is one."""
        job = await self._job(inbound.key)
        fire = inbound.source_id.removeprefix(f"{inbound.key}:")
        ids = []
        for recipient in job.recipients:
            source_id = f"{inbound.source_id}/{recipient}"
            await self._book.delivering(job.id, _time_of(fire) or inbound.at, recipient, source_id)
            await self._deliver(recipient, text, str(inbound.key), source_id)
            ids.append(source_id)
        return Receipt(tuple(ids) or (inbound.source_id,))

    async def tell_failure(self, key: SessionKey, why: str) -> Receipt:
        """One line for each recipient, and no second one on the same day: the delivery is named by it."""
        job = await self._job(key)
        day = self._clock().astimezone(ZoneInfo(job.zone)).date()
        line = " ".join(f"⚠ {key} failed: {why}".split())
        ids = []
        for recipient in job.recipients:
            source_id = f"{key}:failed:{day}/{recipient}"
            await self._deliver(recipient, line, str(key), source_id)
            ids.append(source_id)
        return Receipt(tuple(ids) or (str(key),))

    async def _job(self, key: SessionKey) -> Job:
        job = await self._job_of(key.chat_id)
        if job is None:
            raise ChannelError(f"job {key.chat_id} was removed; what it said is kept in {key}")
        return job


class _Outcome:
    """The Reply of a fire: waits for the last event."""

    def __init__(self, fires: Fires, inbound: Inbound) -> None:
        self._fires = fires
        self._inbound = inbound
        self._final: TurnDone | TurnFailed | None = None

    def __call__(self, event: ReplyEvent) -> None:
        if isinstance(event, TurnDone | TurnFailed):
            self._final = event

    async def settle(self) -> Receipt:
        """See `ports.Reply.settle`."""
        match self._final:
            case TurnFailed(message=why):
                return await self._fires.tell_failure(self._inbound.key, why)
            case TurnDone(mark=mark) if mark in FAILED:
                return await self._fires.tell_failure(self._inbound.key, FAILED[mark])
            case TurnDone(text=text, mark=mark) if text.strip() and mark not in _SILENT:
                return await self._fires.hand_out(self._inbound, text)
            case _:
                return Receipt((self._inbound.source_id,))


def _time_of(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
