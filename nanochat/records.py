"""What the lines of a session file stand for. The laws of format 1:

1. A line is one JSON object in UTF-8. A line without `_type` is a message; `_type: "metadata"` is a snapshot; any other
   `_type` belongs to somebody else: ignored, never erased.
2. A snapshot repeats the whole `State`, so the last one tells it all, and adds one `Event` (its `op` and the op's fields).
   An op that we do not know changes nothing but the state.
3. `_n` counts message lines and is never given twice. `n` in a snapshot is the count so far.
4. A `rewind` to byte `to` means that what is live is what was live when the file was `to` bytes long.
5. Offsets point at line starts and are checked by an `_n` beside them, because editing a file by hand is legal.

Knows values, and what an event does to a state. Does not know their JSON (`lines` does), files, keys or time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import TypeAlias

__all__ = [
    "FORMAT",
    "MAX_LINE_BYTES",
    "OWN_METADATA",
    "Block",
    "Compact",
    "Content",
    "Event",
    "Json",
    "Message",
    "Opened",
    "Record",
    "Ref",
    "Reset",
    "Rewind",
    "SetValue",
    "Snapshot",
    "State",
    "ToolTime",
    "Totals",
    "TurnEnd",
    "UnknownLine",
    "UnknownOp",
    "Unreadable",
    "Usage",
    "after",
    "text_of",
]

FORMAT = 1

# A line is read whole into memory by every follower; nanobot's and jq's readers bear this, and no honest message is longer.
MAX_LINE_BYTES = 8 * 1024 * 1024

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
Block: TypeAlias = Mapping[str, Json]
"""One Anthropic content block, as it stands on the wire."""
Content: TypeAlias = str | Sequence[Block]

OWN_METADATA = frozenset(("model", "system", "pins", "totals"))
"""The names in a snapshot's `metadata` that are ours."""

_EMPTY: Mapping[str, Json] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more requests. The four input kinds are disjoint: their sum is what the model read.

    `cache_write` was written for five minutes, `cache_write_1h` for an hour.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0

    @property
    def prompt(self) -> int:
        """All that the model read."""
        return self.input + self.cache_read + self.cache_write + self.cache_write_1h

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.cache_write_1h + other.cache_write_1h,
            self.output + other.output,
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """What a session has used since it began; nothing takes it back, neither undo nor reset."""

    turns: int = 0
    usage: Usage = Usage()
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Ref:
    """A line of the same file: its byte offset, and the count of message lines before it to check the offset by."""

    at: int
    n: int


@dataclass(frozen=True, slots=True)
class State:
    """What every snapshot repeats.

    `last_consolidated` is nanobot's: how many of the oldest messages are no longer sent. `other` holds what foreign
    programs keep in `metadata`; it is handed on, short values only.
    """

    key: str
    created_at: datetime
    updated_at: datetime
    n: int = 0
    last_consolidated: int = 0
    version: int = FORMAT
    model: str = ""
    system: Ref | None = None
    pins: tuple[Ref, ...] = ()
    totals: Totals = Totals()
    other: Mapping[str, Json] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Message:
    """One line of the conversation. `n` and the offsets are given at append: `start` is its first byte, `end` one past its
    newline.

    `source_id` names the inbound that this line's turn belongs to. `model`, `usage` and `prefix` (the hash of model, system
    and tools) are an assistant line's own request. `mark` says why an assistant line is short (`stopped`, `cut`, …).
    `clock` is the local time shown to the model with this line, or empty. `extra` holds the fields that we do not know.
    """

    role: str
    content: Content
    timestamp: datetime
    source_id: str = ""
    model: str = ""
    usage: Usage | None = None
    prefix: str = ""
    mark: str = ""
    clock: str = ""
    delivered: bool = False
    extra: Mapping[str, Json] = field(default_factory=lambda: _EMPTY)
    n: int = -1
    start: int = -1
    end: int = -1


@dataclass(frozen=True, slots=True)
class Opened:
    """The first line of a file, or its repeat where the first was lost."""


@dataclass(frozen=True, slots=True)
class SetValue:
    """A setting of the conversation changed: `name` is system, model, pin or unpin (`value`: the number of the pin, from 1)."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class ToolTime:
    """How long one tool call took."""

    name: str
    seconds: float
    ok: bool


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """A turn came to its end. `outcome` is done, stopped, deadline, failed, interrupted, refusal, max_tokens, rounds or context;
    `usage` and `cost_usd` are the sums over its requests, `origin` who caused it (`owner`, a sender's id, `cron:<id>`)."""

    source_id: str
    outcome: str
    model: str = ""
    prefix: str = ""
    usage: Usage = Usage()
    cost_usd: float | None = None
    ttft_s: float | None = None
    seconds: float = 0.0
    origin: str = ""
    tools: tuple[ToolTime, ...] = ()
    ttl: str = ""


@dataclass(frozen=True, slots=True)
class Rewind:
    """Back to what was live at byte `to`; `pins` is the list of pins from here on, since undo keeps other settings."""

    to: int
    to_n: int
    reason: str
    pins: tuple[Ref, ...] = ()


@dataclass(frozen=True, slots=True)
class Reset:
    """A new conversation begins here, with the same model and system text."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Compact:
    """What lies before byte `keep` is sent as `summary` from now on. `by` is the model's name, or `breadcrumb`;
    `messages` how many lines the summary stands for; `usage` and `cost_usd` what writing it took."""

    summary: str
    keep: int
    keep_n: int
    by: str
    reason: str
    messages: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class UnknownOp:
    """An op of a later nanochat."""

    op: str


Event: TypeAlias = Opened | SetValue | TurnEnd | Rewind | Reset | Compact | UnknownOp


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A metadata line: the state after it, and what happened."""

    state: State
    event: Event
    start: int = -1
    end: int = -1


Record: TypeAlias = Message | Snapshot


@dataclass(frozen=True, slots=True)
class UnknownLine:
    """Valid JSON that is neither a message nor a snapshot; left alone."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that costs itself only. `why` is fit for `nanochat sessions check`."""

    start: int
    end: int
    why: str


def text_of(content: Content) -> str:
    """The text blocks of a message's content, joined by newlines."""
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", "")) for block in content if block.get("type") == "text")


# --- what an event does to the state ---------------------------------------------------------------------------------

# A foreign value longer than this would be repeated in every snapshot; nanobot's own keys that matter are shorter.
_MAX_OTHER_BYTES = 240


def after(state: State, event: Event, start: int, now: datetime) -> State:
    """The state once `event` is written as the line at byte `start`."""
    changed = replace(
        state,
        updated_at=max(now, state.updated_at),
        other={name: value for name, value in state.other.items() if _is_short(value)} if state.other else _EMPTY,
    )
    match event:
        case SetValue(name="system", value=value):
            return replace(changed, system=Ref(start, state.n) if value else None)
        case SetValue(name="model", value=value):
            return replace(changed, model=value)
        case SetValue(name="pin"):
            return replace(changed, pins=(*state.pins, Ref(start, state.n)))
        case SetValue(name="unpin", value=value) if value.isdigit():
            return replace(changed, pins=tuple(pin for i, pin in enumerate(state.pins, 1) if i != int(value)))
        case TurnEnd():
            return replace(changed, totals=_add(state.totals, 1, event.usage, event.cost_usd))
        case Compact():
            totals = _add(state.totals, 0, event.usage, event.cost_usd)
            other = {
                name: value for name, value in changed.other.items() if name not in (*OWN_METADATA, "_last_summary")
            } or _EMPTY
            return replace(changed, totals=totals, last_consolidated=max(0, event.keep_n), other=other)
        case Reset():
            return replace(changed, pins=(), last_consolidated=state.n)
        case Rewind():
            return replace(changed, pins=event.pins, last_consolidated=min(state.last_consolidated, max(0, event.to_n)))
        case _:
            return changed


def _add(totals: Totals, turns: int, usage: Usage, cost_usd: float | None) -> Totals:
    return Totals(totals.turns + turns, totals.usage + usage, totals.cost_usd + (cost_usd or 0.0))


def _is_short(value: Json) -> bool:
    try:
        return len(json.dumps(value, allow_nan=False)) <= _MAX_OTHER_BYTES
    except (ValueError, RecursionError):
        return False  # it could be read and cannot be written: a number without end, a nest without bottom
