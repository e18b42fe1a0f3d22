"""What comes in, and what goes back up the same call.

    Inbound -> TextDelta* | ToolStarted ToolFinished | Notice* -> TurnDone or TurnFailed

Exactly one of `TurnDone` and `TurnFailed` is emitted for each Inbound, and nothing after it. Every `ToolStarted` is
followed by a `ToolFinished` of the same `call_id`. The text of all deltas joined is what was said; `TurnDone.text` is what a
channel shows that has shown no delta (a command's answer has none). Knows no channel and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from nanochat.keys import SessionKey
from nanochat.records import Usage

__all__ = [
    "Attachment",
    "Inbound",
    "Notice",
    "Part",
    "ReplyEvent",
    "Seen",
    "Sender",
    "Text",
    "TextDelta",
    "ToolFinished",
    "ToolStarted",
    "TurnDone",
    "TurnFailed",
    "TurnStats",
]


@dataclass(frozen=True, slots=True)
class Sender:
    """Who speaks: `id` is the channel's own name for the person, `owner` says that this daemon is theirs."""

    id: str
    name: str
    owner: bool


@dataclass(frozen=True, slots=True)
class Text:
    """Text that a person wrote, or that a channel quotes for them."""

    text: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A picture or a document, whole: `media_type` as in `image/png`, `application/pdf`."""

    kind: Literal["image", "document"]
    media_type: str
    data: bytes
    name: str = ""


Part: TypeAlias = Text | Attachment


@dataclass(frozen=True, slots=True)
class Inbound:
    """What somebody, or an alarm clock, said. `at` is aware UTC; `source_id` is unique for ever."""

    key: SessionKey
    source_id: str
    sender: Sender
    content: tuple[Part, ...]
    at: datetime

    @property
    def text(self) -> str:
        """The written parts, one under the other."""
        return "\n".join(part.text for part in self.content if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the reply's text, as Markdown."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool call begins; `title` is a few words for a status line (`searching the web: tides`)."""

    call_id: str
    name: str
    title: str


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """The call `call_id` has its result; `seconds` from its start."""

    call_id: str
    name: str
    ok: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Notice:
    """One plain line from nanochat itself: a retry, a wait, a compaction, a limit that comes near."""

    text: str


@dataclass(frozen=True, slots=True)
class TurnStats:
    """What a turn took. `usage` is the sum over its requests; `context_tokens` the size of the last request and reply.

    `cost_usd` is None where the model's price is unknown; `ttft_s` is None where no text came; `window_tokens` is the
    model's context window, or 0 where it is unknown.
    """

    model: str
    usage: Usage
    cost_usd: float | None
    context_tokens: int
    budget_tokens: int
    window_tokens: int
    ttft_s: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class TurnDone:
    """The reply is complete and durable. `mark` is empty, or why it is shorter than it could be: stopped, deadline,
    max_tokens, refusal, rounds, context. `stats` is None for commands, and `message_ids` are the `_n` of the lines written."""

    text: str
    stats: TurnStats | None = None
    mark: str = ""
    message_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """The turn did not come to its end. `message` is fit for a person; `error_id` finds the log lines; `kept` says that
    the text so far is in the session; `kind` is ModelError's kind, or: busy, pace (too many turns in a
    minute), limit, store, command, crashed, ending (the daemon is), internal."""

    message: str
    error_id: str = ""
    kind: str = "internal"
    retryable: bool = False
    kept: bool = False
    retry_after_s: float | None = None


ReplyEvent: TypeAlias = TextDelta | ToolStarted | ToolFinished | Notice | TurnDone | TurnFailed


@dataclass(frozen=True, slots=True)
class Seen:
    """A line that another process, or another channel, appended to a session that somebody watches.

    `kind` is user, assistant, delivered or change (a reset, an undo, a compaction: `text` says which).
    """

    key: SessionKey
    kind: Literal["user", "assistant", "delivered", "change"]
    text: str
    at: datetime
