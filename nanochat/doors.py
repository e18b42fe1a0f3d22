"""What the roof hands to a channel whose clients look inside and may leave before their answer: protocols and values.

    LiveTurns   turns that go on whoever still listens, and are told again
    Sessions    conversations looked at, and put away, from outside a turn
    Follow      every line of a session file as it is appended
    Search      where words were said

Knows no implementation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from nanochat.events import Inbound
from nanochat.keys import SessionKey
from nanochat.ports import Brief, Emit
from nanochat.records import Message, Record, Usage

__all__ = [
    "ChannelHealth",
    "Follow",
    "Found",
    "Health",
    "Known",
    "Line",
    "LiveTurns",
    "Page",
    "Query",
    "Search",
    "SessionStats",
    "Sessions",
    "TurnPoint",
]


# --- turns -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """A message that was received before: whether it `is_open` (is being answered, or will be gone on with), the `digest` that
    it was begun with, and, of one that failed, the `note` that says why."""

    key: SessionKey
    is_open: bool
    digest: str = ""
    note: str = ""


class LiveTurns(Protocol):
    """Turns that outlive those who asked for them. Every method may be called concurrently."""

    def begin(self, inbound: Inbound, emit: Emit, digest: str = "") -> None:
        """Have a message answered to its end, and tell `emit` all of it: exactly one last event, as `ports.Handler`.

        Returns at once. The daemon finishes the turn before it ends, and goes on with it after a crash: then the channel's
        `reply_to` is asked for somebody to tell. A message whose `source_id` is known is failed with kind `command`; one that
        was refused (busy, pace, limit) is forgotten, so that it can be sent again.
        """
        ...

    async def known(self, source_id: str) -> Known | None:
        """What is known of a message, for seven days.

        Raises:
            LedgerError: it cannot be told.
        """
        ...

    async def retell(self, inbound: Inbound, emit: Emit) -> None:
        """Tell from its session what became of a message that is closed; the model is not asked, nothing is written."""
        ...

    async def set_system(self, key: SessionKey, text: str) -> bool:
        """Give a conversation its system text, before its first message. False where it has another and has begun.

        Raises:
            StoreError: it could not be written.
        """
        ...


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """Whether a channel is up, since when, why not, and how often it was started anew."""

    name: str
    is_up: bool
    since: datetime
    error: str = ""
    restarts: int = 0


Health: TypeAlias = Callable[[], Sequence[ChannelHealth]]
"""How each channel of the daemon does, now."""


# --- sessions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Some live messages of a session, oldest first. `before` asks for the page of older ones; None where there are none."""

    messages: tuple[Message, ...]
    before: int | None


@dataclass(frozen=True, slots=True)
class TurnPoint:
    """One turn on the curve of what a conversation costs: `usage` and `cost_usd` are the sums over its requests, `origin` who
    caused it. `kind` is `turn`, or `compact` for the writing of a summary."""

    at: datetime
    kind: str
    model: str
    origin: str
    usage: Usage
    cost_usd: float | None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SessionStats:
    """What a session has taken: `brief.state.totals` since it began, `curve` per turn, newest last, the newest 1,000 at most.

    `context_tokens` is the size of its last request with the reply, as `TurnStats` has it, or, where nothing was asked since its
    last reset or compaction, of the conversation; `budget_tokens` what may be sent.
    """

    brief: Brief
    context_tokens: int
    budget_tokens: int
    curve: tuple[TurnPoint, ...]


class Sessions(Protocol):
    """All conversations, from outside a turn. Every method may be called concurrently, and beside a daemon.

    Raises:
        UnknownSession: there is no such session.
        LeaseHeld: a turn of it runs for more than five seconds; `holder` tells whose.
        StoreError: the file cannot be read or written.
    """

    async def list(self) -> Sequence[Brief]:
        """Every session, newest first."""
        ...

    async def history(self, key: SessionKey, *, before: int | None = None, limit: int = 100) -> Page:
        """The newest `limit` live messages since the last reset, or the newest before message number `before`."""
        ...

    async def stats(self, key: SessionKey) -> SessionStats:
        """What a session has taken."""
        ...

    async def reset(self, key: SessionKey, reason: str) -> None:
        """Begin a new conversation in it; nothing is destroyed."""
        ...

    async def archive(self, key: SessionKey) -> str:
        """Put its file away, and say where it is now; the next message begins a new file."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a session file as it stands there, without its newline, from byte `start` to byte `end`.

    `record` is None where it cannot be read, or is not ours.
    """

    key: SessionKey
    text: str
    record: Record | None
    start: int
    end: int


Follow: TypeAlias = Callable[[SessionKey, int | None], AsyncIterator[Line]]
"""Every line from a byte on, or, with None, from now on, until the iterator is closed: whole lines, each once. A session that is
not there yet is waited for; one whose file was replaced is told from its first byte on. Blank lines, which mending leaves, are
left out; of a line longer than a line may be the text is empty."""


# --- search ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: `words` as typed (all of them; "quoted words" stand together, `word*` is a beginning), in sessions
    whose key matches one of `keys` (globs; none: all), said by one of `roles` (none: all), from `since` on, before `until`."""

    words: str
    keys: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 20


@dataclass(frozen=True, slots=True)
class Found:
    """One message that was found; `text` is all of it, `excerpt` some words around the first place, on one line."""

    key: SessionKey
    n: int
    role: str
    at: datetime
    text: str
    excerpt: str


class Search(Protocol):
    """Finds what was said, newest first."""

    async def search(self, query: Query) -> Sequence[Found]:
        """What matches, newest first, undone messages left out.

        Raises:
            SearchError: the words cannot be looked for, or the index cannot be used.
        """
        ...
