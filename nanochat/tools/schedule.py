"""The schedule tool: jobs made in a conversation, read back in words with the next times they fire.

An owner may name any recipient and any source; a guest makes a few jobs for the own conversation; a job makes none. Knows the
table of jobs that were made. Does not know the alarm clock: it pokes whoever keeps it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

from nanochat import jobs
from nanochat.errors import JobError, ToolError
from nanochat.jobs import Job, Kind, at_words, describe, next_fires
from nanochat.ledger import Jobs
from nanochat.ports import ToolContext
from nanochat.records import Block, Json

__all__ = ["MAX_GUEST_JOBS", "ScheduleTool"]

MAX_GUEST_JOBS = 10

# All that a list can use; the next question can name one.
MAX_LISTED = 50

_DELAY = re.compile(r"([1-9]\d{0,6}) ?([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_KINDS = ("text", "prompt", "summary")

_SPEC: Block = {
    "name": "schedule",
    "description": (
        "Make, list or cancel scheduled jobs; results are sent to this conversation, or to deliver_to. action create takes"
        " exactly one of cron (five fields, local time; days by name, as in 0 8 * * mon-fri), every (90s, 15m, 2h, 1d),"
        " at (ISO 8601, local time without offset) and in (2m: once, so long from now). kind text sends text as it stands,"
        " without a model (reminders); prompt asks the assistant anew each time; summary sums up what is new in sources since"
        " the last one (sources: session keys or globs such as telegram:*; left out: all conversations). Tell the person"
        " what was made and when it fires next, from the result. action cancel takes id."
    ),
    "input_schema": {
        "type": "object",
        "properties": {
            "action": {"type": "string", "enum": ["create", "list", "cancel"]},
            "id": {"type": "string", "description": "a short name; for create it may be left out"},
            "kind": {"type": "string", "enum": list(_KINDS)},
            "text": {"type": "string", "description": "what is sent, for kind text"},
            "prompt": {"type": "string", "description": "what is asked; for a summary, what to look for"},
            "cron": {"type": "string"},
            "every": {"type": "string"},
            "at": {"type": "string"},
            "in": {"type": "string"},
            "timezone": {"type": "string", "description": "IANA name; left out: the person's"},
            "sources": {"type": "array", "items": {"type": "string"}},
            "deliver_to": {"type": "array", "items": {"type": "string"}, "description": "session keys"},
            "quiet": {"type": "boolean", "description": "a summary of nothing new is not sent"},
        },
        "required": ["action"],
    },
}


class ScheduleTool:
    """See `ports.Tool`. `settings` are the jobs of the settings file; `poke` tells the daemon, and returns False where there is
    none. `channels` are those that a recipient can be in.
    """

    name = "schedule"
    spec = _SPEC

    def __init__(
        self,
        book: Jobs,
        *,
        zone: str,
        settings: Callable[[], Sequence[Job]],
        poke: Callable[[], bool],
        channels: Collection[str],
    ) -> None:
        self._book = book
        self._zone = zone
        self._settings = settings
        self._poke = poke
        self._channels = channels

    def title(self, args: Mapping[str, Json]) -> str:
        """`scheduling: water the plants`."""
        match args.get("action"):
            case "create":
                return f"scheduling: {args.get('text') or args.get('prompt') or args.get('kind') or ''}"[:80]
            case "cancel":
                return f"cancelling job {args.get('id', '')}"
            case _:
                return "listing jobs"

    async def run(self, args: Mapping[str, Json], context: ToolContext) -> str:
        """See `ports.Tool`."""
        match args.get("action"):
            case "create":
                return await self._create(args, context)
            case "list":
                return await self._list(context)
            case "cancel":
                return await self._cancel(_string(args, "id"), context)
            case other:
                raise ToolError(f"unknown action {other!r}; it takes create, list or cancel")

    # --- create ------------------------------------------------------------------------------------------------------

    async def _create(self, args: Mapping[str, Json], context: ToolContext) -> str:
        if context.sender.id.startswith("cron:"):
            raise ToolError("a job cannot make jobs")
        # The name of the call is the provider's; with the conversation's it is nobody else's.
        call = f"{context.key} {context.call_id}"
        made = await self._book.all()
        if not context.sender.owner:
            await self._check_guest(args, context, made, call)
        try:
            job = await self._book.add(self._draft(args, context, call), call)
        except JobError as error:
            raise ToolError(str(error)) from error
        heard = self._poke()
        told = [f"job {job.id} is made. {describe(job)}.", _fires(job, context.now)]
        if not heard:
            told.append("No daemon is running: it fires once `nanochat run` is started.")
        return "\n".join(told)

    async def _check_guest(
        self, args: Mapping[str, Json], context: ToolContext, made: Sequence[Job], call: str
    ) -> None:
        named = {*_strings(args, "deliver_to"), *_strings(args, "sources")}
        if named - {str(context.key)}:
            raise ToolError(f"other conversations are the owner's: here it takes {context.key} only")
        own = [job for job in made if job.origin == _origin(context) and next_fires(job, context.now, 1)]
        if len(own) >= MAX_GUEST_JOBS:
            raise ToolError(f"{len(own)} jobs are made here already, and a guest has no more; cancel one first")

    def _draft(self, args: Mapping[str, Json], context: ToolContext, call: str) -> Job:
        kind = _kind(args)
        text = _string(args, "text", "") or _string(args, "prompt", "")
        everything = ("*:*",) if context.sender.owner else (str(context.key),)
        at = _string(args, "at", "")
        if delay := _string(args, "in", ""):
            if at:
                raise ToolError("it takes only one of in and at")
            at = (context.now + _delay(delay)).isoformat()
        usual = Job(
            id=_string(args, "id", "").strip() or _name(text or kind, call),
            kind=kind,
            zone=_string(args, "timezone", "") or self._zone,
            cron=_string(args, "cron", ""),
            text=text,
            sources=(_strings(args, "sources") or everything) if kind == "summary" else (),
            quiet=args.get("quiet") is True,
            origin=_origin(context),
            by_owner=context.sender.owner,
            created_at=context.now,
        )
        recipients = _strings(args, "deliver_to") or (str(context.key),)
        draft = jobs.make(usual, every=_string(args, "every", ""), at=at, recipients=recipients, now=context.now)
        if draft.id in {job.id for job in self._settings()}:
            raise JobError(draft.id, "id", "is taken by a job of the settings file; choose another")
        for key in draft.recipients:
            if key.channel not in self._channels:
                raise JobError(draft.id, "deliver_to", f"{key}: there is no channel {key.channel}")
        return draft

    # --- list, cancel ------------------------------------------------------------------------------------------------

    async def _list(self, context: ToolContext) -> str:
        return "\n".join(await self.in_words(context)) or "there are no scheduled jobs"

    async def in_words(self, context: ToolContext) -> list[str]:
        """What this sender may see of what is still to come, soonest first."""
        made = await self._book.all()
        is_owner = context.sender.owner
        made = [*self._settings(), *made] if is_owner else [job for job in made if job.origin == _origin(context)]
        coming = [(fires[0], job) for job in made if (fires := next_fires(job, context.now, 1))]
        coming.sort(key=lambda pair: (not pair[1].enabled, pair[0], pair[1].id))
        told = [
            f"{job.id}: {describe(job)}; " + (f"next {at_words(fire, job.zone)}" if job.enabled else "paused")
            for fire, job in coming[:MAX_LISTED]
        ]
        left = len(coming) - MAX_LISTED
        return [*told, f"({left} more)"] if left > 0 else told

    async def _cancel(self, job_id: str, context: ToolContext) -> str:
        if context.sender.id.startswith("cron:"):
            raise ToolError("a job cannot cancel jobs")
        made = {job.id: job for job in await self._book.all()}
        job = made.get(job_id)
        if job is None or not (context.sender.owner or job.origin == _origin(context)):
            if context.sender.owner and job_id in {job.id for job in self._settings()}:
                raise ToolError(f"job {job_id} stands in the settings file; it can only be taken out there")
            raise ToolError(f"there is no job {job_id!r}; action list tells them")
        await self._book.remove(job_id)
        self._poke()
        return f"job {job_id} is cancelled"


def _fires(job: Job, now: datetime) -> str:
    fires = [at_words(fire, job.zone) for fire in next_fires(job, now, 3)]
    return f"It fires on {fires[0]}." if len(fires) == 1 else f"It fires next on {', '.join(fires)}."


def _origin(context: ToolContext) -> str:
    return f"{context.sender.id} in {context.key}"


def _kind(args: Mapping[str, Json]) -> Kind:
    kind = args.get("kind")
    if kind is None:
        kind = "text" if args.get("text") else "summary" if args.get("sources") else "prompt"
    if kind not in _KINDS:
        raise ToolError(f"unknown kind {kind!r}; it takes {', '.join(_KINDS)}")
    return cast(Kind, kind)


def _delay(text: str) -> timedelta:
    found = _DELAY.match(text.strip())
    if not found:
        raise ToolError(f"in is {text!r}; it takes a distance such as 90s, 15m, 2h or 1d")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def _name(text: str, call: str) -> str:
    """A readable id that nothing else has: the first words, and a few letters of the call's."""
    words = re.findall(r"[^\W_]+", text.lower())[:4]
    return "-".join([*(word[:16] for word in words), hashlib.sha256(call.encode()).hexdigest()[:6]])


def _string(args: Mapping[str, Json], name: str, default: str | None = None) -> str:
    value = args.get(name, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise ToolError(f"{name} is missing" if value is None else f"{name} takes text")
    return value


def _strings(args: Mapping[str, Json], name: str) -> tuple[str, ...]:
    value = args.get(name)
    if isinstance(value, str) and value:
        return (value,)
    if value is None or value == "":
        return ()
    if not isinstance(value, Sequence) or not all(isinstance(part, str) for part in value):
        raise ToolError(f"{name} takes a list of texts")
    return tuple(str(part) for part in value)
