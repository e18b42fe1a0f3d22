"""What is sent and what is answered, as the description at /docs states it.

Knows field names and their meaning. Does not know where values come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "FORMS",
    "LINE_ID",
    "PRINTABLE",
    "START",
    "Archived",
    "ChannelShape",
    "ChatAnswer",
    "ChatPost",
    "CurvePoint",
    "DeltaEvent",
    "DoneEvent",
    "HealthShape",
    "HistoryShape",
    "MessageShape",
    "ProblemShape",
    "RestartEvent",
    "Row",
    "Rows",
    "SessionEvent",
    "StatsShape",
    "ToolEvent",
    "ToolShape",
    "UsageShape",
]


# What texts look like that are no free ones; each has its words for a person who sent another.
_SAYS_SOMETHING = r"[^\s]"
_SAYS_SOMETHING_IF_ANY = r"^$|[^\s]"
PRINTABLE = r"^[\x20-\x7e]+$"
START = r"^(end|start|[0-9]{1,15})$"
LINE_ID = r"^[0-9]{1,15}$"

FORMS: Mapping[str, str] = {
    _SAYS_SOMETHING: "must not be blank",
    _SAYS_SOMETHING_IF_ANY: "must not be blank",
    PRINTABLE: "must be printable ASCII",
    START: "must be end, start, or a byte of the file",
    LINE_ID: "must be the id of a line",
}


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ChatPost(_Shape):
    """A message."""

    message: Annotated[
        str,
        Field(
            min_length=1,
            pattern=_SAYS_SOMETHING,
            description="What is said: text, or a chat command such as `/undo` or `/help`.",
            examples=["my name is Olga"],
        ),
    ]
    system_prompt: Annotated[
        str | None,
        Field(
            pattern=_SAYS_SOMETHING_IF_ANY,
            description="The system text of a conversation that begins with this message.",
            examples=["Answer in Latin."],
        ),
    ] = None


class ToolShape(_Shape):
    """One tool call of a turn."""

    name: str
    ok: bool
    seconds: float


class UsageShape(_Shape):
    """Tokens; the three kinds of input are disjoint."""

    input: int
    cache_read: int
    cache_write: int
    output: int


class SessionEvent(_Shape):
    """`session`: where the answer belongs. Always the first."""

    session_id: str
    key: str
    source_id: Annotated[str, Field(description="The name of the message, as the session's lines have it.")]


class RestartEvent(_Shape):
    """`restart`: forget what was shown of this answer, it is told from its beginning."""

    reason: Annotated[Literal["resume", "replay"], Field(description="Whether it still goes on, or is over.")]


class DeltaEvent(_Shape):
    """`delta`: more of the text."""

    text: str


class ToolEvent(_Shape):
    """`tool`: a call begins, with its title, or has ended, with what came of it."""

    call_id: str
    name: str
    state: Literal["started", "finished"]
    title: str | None = None
    ok: bool | None = None
    seconds: float | None = None


class DoneEvent(_Shape):
    """A turn that came to its end. The figures are null for chat commands, which ask no model."""

    session_id: str
    key: str
    text: str
    mark: Annotated[str, Field(description="Empty, or why the answer is short: stopped, deadline, max_tokens, …")]
    message_ids: list[int]
    model: str | None
    usage: UsageShape | None
    cost_usd: float | None
    context_tokens: int | None
    budget_tokens: int | None
    window_tokens: int | None
    ttft_s: float | None
    seconds: float | None
    notices: Annotated[list[str], Field(description="What nanochat had to say meanwhile: a wait, a retry, a summary.")]


class ChatAnswer(DoneEvent):
    """A turn that came to its end, with the tools that it called."""

    tools: list[ToolShape]


class Row(_Shape):
    """A session at a glance."""

    session_id: str
    key: str
    created_at: datetime
    updated_at: datetime
    messages: int
    turns: int
    cost_usd: float
    model: Annotated[
        str | None, Field(description="The model that this session asks, where it is not the daemon's own.")
    ]
    preview: str
    size_bytes: int


class Rows(_Shape):
    """Sessions, newest first."""

    sessions: list[Row]
    total: int


class MessageShape(_Shape):
    """One line of a conversation. `text` is what was said, `content` the content as it stands in the file."""

    n: int
    role: str
    text: str
    content: Any  # Any: the wire blocks of the Messages API, which are not ours to state
    timestamp: datetime
    delivered: bool
    mark: str
    source_id: Annotated[str, Field(description="The message of a person that the line belongs to the answer of.")]
    model: str | None
    usage: UsageShape | None
    start: Annotated[int, Field(description="The byte of the session file that the line begins at.")]


class HistoryShape(_Shape):
    """The live part of a conversation, oldest first; `before` asks for the page of older messages."""

    session_id: str
    key: str
    messages: list[MessageShape]
    before: int | None


class CurvePoint(_Shape):
    """One turn, or the writing of a summary (`compact`)."""

    at: datetime
    kind: str
    model: str
    origin: str
    input: int
    cache_read: int
    cache_write: int
    output: int
    cost_usd: float | None
    seconds: float


class StatsShape(_Shape):
    """What a session has taken since it began."""

    session_id: str
    key: str
    created_at: datetime
    updated_at: datetime
    age_s: float
    messages: int
    turns: int
    usage: UsageShape
    cost_usd: float
    cache_share: Annotated[float | None, Field(description="What part of all input was read from the cache.")]
    model: str | None
    context_tokens: Annotated[int, Field(description="The last request with its reply, as a turn's `done` tells it.")]
    budget_tokens: int
    curve: list[CurvePoint]


class Archived(_Shape):
    """A session was put away: begun anew in its file, or moved with it."""

    session_id: str
    key: str
    reset: Literal[True] | None = None
    archived_to: str | None = None


class ChannelShape(_Shape):
    """How a channel does."""

    up: bool
    since: datetime
    error: str
    restarts: int


class HealthShape(_Shape):
    """`degraded` where a channel is down. With a token: who answers, and how each channel does."""

    status: Literal["ok", "degraded"]
    version: str | None = None
    pid: int | None = None
    since: datetime | None = None
    channels: dict[str, ChannelShape] | None = None


class ProblemShape(BaseModel):
    """RFC 9457. `kind` is a word for programs, `detail` a line for people."""

    type: str
    title: str
    status: int
    detail: str
    kind: str
    error_id: Annotated[str | None, Field(description="Finds the lines of the log.")] = None
    retryable: bool | None = None
    kept: Annotated[bool | None, Field(description="Whether the text so far is in the session.")] = None
    holder: Annotated[str | None, Field(description="Whose turn keeps the session busy.")] = None
