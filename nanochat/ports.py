"""The protocols between rooms, and the values that pass through them.

What a room needs of another is named here, so that each can be tried alone against a fake. Knows no implementation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from nanochat.events import Inbound, ReplyEvent, Seen, Sender
from nanochat.keys import SessionKey
from nanochat.records import Block, Event, Json, Message, Record, State, Usage

__all__ = [
    "Accept",
    "Appended",
    "Begin",
    "Brief",
    "Changes",
    "Channel",
    "Emit",
    "Envelope",
    "Handler",
    "Model",
    "ModelReply",
    "ModelRequest",
    "Receipt",
    "Reply",
    "ReplyMemory",
    "SentPart",
    "SessionStore",
    "Tool",
    "ToolContext",
    "View",
    "Watch",
]

Emit: TypeAlias = Callable[[ReplyEvent], None]
"""Never waits: a channel coalesces inside itself, newest text wins. One that raises is detached; the turn goes on."""

Handler: TypeAlias = Callable[[Inbound, Emit], Awaitable[None]]
"""Does a whole turn. Returns after the last event was emitted; raises nothing but `CancelledError`."""

Begin: TypeAlias = Callable[[Inbound, Emit, str], None]
"""Have a message answered to its end, whoever still listens, with a digest to know it again by; returns at once."""

Watch: TypeAlias = Callable[[SessionKey, Callable[[Seen], None]], Awaitable[None]]
"""Calls back for every line that others append to a session, until cancelled."""


# --- channels ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a channel received, raw; the inbox keeps it until it is answered.

    `body` is the channel's own text for it, `source_id` names it for ever (`telegram:<bot id>:<update id>`). Envelopes of one
    `group` are claimed together once the last one's `ready_at` has passed: albums, and texts that a client had split.
    `manner`: `wait` stands in the session's line; `pass` goes by it (`/stop`, `/status`, a button); `stop` stands in the line
    and ends the running turn first (`/new`, `/undo`). `place` is where the message stands at its source
    (`telegram:77/123`), empty where nothing can refer to it. With `replaces`, the body is taken over by the envelope of that
    place if it still waits, and dropped otherwise: an edited message.
    """

    source_id: str
    key: SessionKey
    body: str
    group: str = ""
    ready_at: datetime | None = None
    manner: Literal["wait", "pass", "stop"] = "wait"
    replaces: str = ""
    place: str = ""


Accept: TypeAlias = Callable[[Envelope], Awaitable[bool]]
"""Take an envelope into the inbox; durable when it returns, and only then acknowledged to its source. False: it was known."""


@dataclass(frozen=True, slots=True)
class SentPart:
    """One message that a reply had sent. `message_id` is empty where the process died between sending it and learning its id;
    `digest` is the channel's own hash of what the message last showed."""

    index: int
    message_id: str
    digest: str = ""


class ReplyMemory(Protocol):
    """What a reply has sent, kept in the ledger so that a turn continued after a crash edits instead of repeating."""

    async def parts(self) -> tuple[SentPart, ...]:
        """What an earlier attempt at the same source had sent, by index."""
        ...

    async def sending(self, index: int) -> None:
        """A new message is about to be sent: the one instant that cannot be closed begins."""
        ...

    async def sent(self, index: int, message_id: str, digest: str = "") -> None:
        """The message exists, or shows something else now."""
        ...

    async def dropped(self, index: int) -> None:
        """The message was deleted."""
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """Evidence that a text arrived: the messages' ids as the channel names them, at least one."""

    message_ids: tuple[str, ...]


class Reply(Protocol):
    """An Emit with memory: it shows a turn as it goes, and knows every part it had sent."""

    def __call__(self, event: ReplyEvent) -> None: ...

    async def settle(self) -> Receipt:
        """After the last event: wait until all that was said stands where its reader is, however long flood limits take.

        Raises:
            ChannelError: it cannot be brought there; `retryable` says whether later may be different.
        """
        ...


class Channel(Protocol):
    """A way to people that has no live connection: what comes in is acknowledged once it is in the inbox."""

    name: str

    async def run(self, accept: Accept) -> None:
        """Bring in messages until cancelled.

        Raises:
            ChannelError: it cannot go on by itself (a revoked token); the daemon starts it anew with a back-off.
        """
        ...

    async def parse(self, envelopes: Sequence[Envelope]) -> Inbound:
        """One message out of the envelopes of a group, in their order; downloads happen here.

        Raises:
            ChannelError: with a plain line for the person; `retryable` where trying again may help.
        """
        ...

    def reply_to(self, inbound: Inbound, memory: ReplyMemory) -> Reply:
        """Where the answer to `inbound` goes."""
        ...

    async def deliver(self, key: SessionKey, text: str, memory: ReplyMemory) -> Receipt:
        """Bring an unprompted text to a session's person; the same care and errors as `Reply.settle`."""
        ...

    async def close(self) -> None:
        """Let go of connections, after the last reply has settled. What is called later opens them again."""
        ...


# --- the model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request: `system` and `tools` are wire blocks, `messages` a legal list of `{role, content}` with its cache
    breakpoints in place. `purpose` tells a summary from a turn."""

    model: str
    system: tuple[Block, ...]
    messages: tuple[Block, ...]
    tools: tuple[Block, ...]
    max_tokens: int
    effort: str = ""
    purpose: Literal["turn", "summary"] = "turn"


@dataclass(frozen=True, slots=True)
class ModelReply:
    """One complete reply. `content` are its wire blocks as they can be sent back; `model` is who answered, which after a
    fallback is not who was asked."""

    content: tuple[Block, ...]
    stop_reason: str
    usage: Usage
    model: str
    request_id: str = ""
    ttft_s: float | None = None


class Model(Protocol):
    """Answers requests; safe to call concurrently. Cancelling `reply` closes its connection."""

    name: str
    """The default model's id."""

    async def reply(
        self,
        request: ModelRequest,
        on_text: Callable[[str], None],
        on_notice: Callable[[str], None],
        on_start: Callable[[str, Usage], None] | None = None,
    ) -> ModelReply:
        """Stream one reply.

        `on_text` gets each piece of text as it comes, `on_notice` one line when a wait or a fallback begins, and `on_start`,
        when a reply begins, who gives it and what it has read: so much is paid for even if the rest never comes.

        Raises:
            ModelError: after the policy of retries and fallbacks is at its end; `partial` holds the text that came.
        """
        ...

    async def warm(self) -> None:
        """Load what is slow to load, so that the first reply is not; never raises."""
        ...

    async def close(self) -> None: ...


# --- tools -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Who calls, and where. `call_id` names the call for ever: an effect keyed by it happens once."""

    key: SessionKey
    sender: Sender
    call_id: str
    now: datetime


class Tool(Protocol):
    """One thing that the model can have done. `spec` is what the Messages API is told, always the same bytes."""

    name: str
    spec: Block

    def title(self, args: Mapping[str, Json]) -> str:
        """A few words for a status line: `searching sessions: tides`."""
        ...

    async def run(self, args: Mapping[str, Json], context: ToolContext) -> str:
        """Do it, and say what came of it.

        Raises:
            ToolError: with words for the model.
        """
        ...


# --- the session store -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """The newest live part of a session.

    `records` are in file order, rewound ones left out. They begin at the last reset, at the boundary of the last compaction
    (whose own record stands among them), at the file's first line, or, with `complete` false, at a user line where the
    window was full. `system` and `pins` are the texts that `state` refers to. `end` is the byte up to which the file is known;
    `unreadable` counts the lines that were lost on the way.
    """

    state: State
    records: tuple[Record, ...]
    system: str
    pins: tuple[str, ...]
    complete: bool
    end: int
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """What others appended between two known ends. `replaced`: the file is another one now, or shorter; read it anew."""

    records: tuple[Record, ...]
    end: int
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append wrote, as it stands in the file, and what others had appended before it since the known end.

    After `replaced` the caller's records are stale: the drafts are in the file that is there now; read it anew.
    """

    records: tuple[Record, ...]
    others: tuple[Record, ...]
    state: State
    end: int
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Brief:
    """A session at a glance, from the file's first and last bytes. `preview` is the newest message's first line."""

    key: SessionKey
    state: State
    preview: str
    size_bytes: int
    modified_at: datetime


class SessionStore(Protocol):
    """Keeps each session's records in order. Safe to call concurrently, also from several processes."""

    async def read(self, key: SessionKey, *, exchanges: int, limit_bytes: int, upto: int | None = None) -> View | None:
        """The newest live part, or None where there is no such session.

        Reads backwards until a boundary, or until at least `exchanges` user turns and `limit_bytes` of lines are seen. With
        `upto` it is the view that there was when the file ended at that byte.
        """
        ...

    async def catch_up(self, key: SessionKey, known: int) -> Changes:
        """What was appended after byte `known`, whole lines only, rewound ones too. One fstat where nothing was.

        A line that `known` lies inside of is left out.
        """
        ...

    async def append(
        self, key: SessionKey, drafts: Sequence[Message | Event], *, known: int, durable: bool, now: datetime
    ) -> Appended:
        """Write all drafts in one write, after a header where the file is new.

        A draft's `n` and offsets are given here. `known` is the end that the caller has seen. With `durable` it returns when the
        device has the lines, and all lines before them.

        Raises:
            NotWritten: nothing is in the file.
            DurabilityUnknown: the lines may be in the file; never retry.
            NewerFormat, WrongFile: the file is not ours to write.
        """
        ...

    def lease(
        self, key: SessionKey, *, patience_s: float | None = None, on_wait: Callable[[str], None] | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Hold the session's turn lease. After 5 s of waiting `on_wait` is told who holds it, once.

        Raises:
            LeaseHeld: after `patience_s`; without it the wait has no end but cancellation.
        """
        ...

    async def list(self) -> list[Brief]:
        """Every session, newest first."""
        ...

    async def put_blob(self, data: bytes) -> str:
        """Keep binary content; returns its sha256 in hex. Durable when it returns, and idempotent."""
        ...

    async def get_blob(self, sha256: str) -> bytes | None: ...

    async def close(self) -> None: ...
