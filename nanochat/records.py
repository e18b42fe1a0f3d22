"""The lines of a session file, and the values they stand for. JSON is decoded here and nowhere else.

The laws of format 1:

1. A line is one JSON object in UTF-8. A line without `_type` is a message; `_type: "metadata"` is a snapshot; any other
   `_type` belongs to somebody else: ignored, never erased.
2. A snapshot repeats the whole `State`, so the last one tells it all, and adds one `Event` (its `op` and the op's fields).
   An op that we do not know changes nothing but the state.
3. `_n` counts message lines and is never given twice. `n` in a snapshot is the count so far.
4. A `rewind` to byte `to` means that what is live is what was live when the file was `to` bytes long.
5. Offsets point at line starts and are checked by an `_n` beside them, because editing a file by hand is legal.

Knows bytes and values. Does not know files, keys or time: offsets and stamps are given to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypeAlias, cast

__all__ = [
    "FORMAT",
    "MAX_LINE_BYTES",
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
    "decode",
    "encode",
    "state_of",
    "text_of",
]

FORMAT = 1

# A line is read whole into memory by every follower; nanobot's and jq's readers bear this, and no honest message is longer.
MAX_LINE_BYTES = 8 * 1024 * 1024

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
Block: TypeAlias = Mapping[str, Json]
"""One Anthropic content block, as it stands on the wire."""
Content: TypeAlias = str | Sequence[Block]

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

    `source_id` names the inbound that this line's turn belongs to. `usage` and `prefix` (the hash of model, system and tools)
    are an assistant line's own request. `mark` says why an assistant line is short (`stopped`, `cut`, …). `clock` is the
    local time shown to the model with this line, or empty. `extra` holds the fields that we do not know.
    """

    role: str
    content: Content
    timestamp: datetime
    source_id: str = ""
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


# --- values to bytes -------------------------------------------------------------------------------------------------


def encode(record: Record) -> bytes:
    """One line with its newline.

    Raises:
        ValueError: for NaN, bytes, or whatever else JSON has no form for; nothing half-made is returned.
    """
    fields = _message_fields(record) if isinstance(record, Message) else _snapshot_fields(record)
    try:
        text = _PLAIN.encode(fields)
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate: its \u escape is the only valid UTF-8 that reads back the same
        return _ESCAPED.encode(fields).encode() + b"\n"
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


_PLAIN = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ESCAPED = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _message_fields(message: Message) -> dict[str, object]:
    fields: dict[str, object] = {
        "role": message.role,
        "content": message.content,
        "timestamp": _stamp(message.timestamp),
    }
    optional: dict[str, object] = {
        "source_id": message.source_id,
        "clock": message.clock,
        "mark": message.mark,
        "delivered": message.delivered,
        "prefix": message.prefix,
        "usage": _usage_fields(message.usage) if message.usage is not None else None,
    }
    fields.update({name: value for name, value in optional.items() if value})
    fields.update({name: value for name, value in message.extra.items() if name not in fields})
    fields["_n"] = message.n
    return fields


def _snapshot_fields(snapshot: Snapshot) -> dict[str, object]:
    state = snapshot.state
    op, event = _event_fields(snapshot.event)
    metadata: dict[str, object] = dict(state.other)
    if state.model:
        metadata["model"] = state.model
    if state.system is not None:
        metadata["system"] = {"at": state.system.at, "n": state.system.n}
    if state.pins:
        metadata["pins"] = [[pin.at, pin.n] for pin in state.pins]
    if state.totals != Totals():
        totals = {"turns": state.totals.turns, **_usage_fields(state.totals.usage)}
        metadata["totals"] = {**totals, "cost_usd": round(state.totals.cost_usd, 8)}
    if isinstance(snapshot.event, Compact):
        # nanobot reads its own summary here; only this one record carries it, so snapshots stay short.
        metadata["_last_summary"] = {"text": snapshot.event.summary, "last_active": _stamp(state.updated_at)}
    return {
        "_type": "metadata",
        "key": state.key,
        "created_at": _stamp(state.created_at),
        "updated_at": _stamp(state.updated_at),
        "metadata": metadata,
        "last_consolidated": state.last_consolidated,
        "v": state.version,
        "op": op,
        "n": state.n,
        **event,
    }


def _event_fields(event: Event) -> tuple[str, dict[str, object]]:
    match event:
        case Opened():
            return "open", {}
        case SetValue():
            return "set", {"name": event.name, "value": event.value}
        case TurnEnd():
            return "turn", _without_empty(
                {
                    "source_id": event.source_id,
                    "outcome": event.outcome,
                    "model": event.model,
                    "prefix": event.prefix,
                    "usage": _usage_fields(event.usage),
                    "cost_usd": None if event.cost_usd is None else round(event.cost_usd, 8),
                    "ttft_s": None if event.ttft_s is None else round(event.ttft_s, 4),
                    "seconds": round(event.seconds, 4),
                    "origin": event.origin,
                    "ttl": event.ttl,
                    "tools": [[tool.name, round(tool.seconds, 3), tool.ok] for tool in event.tools],
                }
            )
        case Rewind():
            return "rewind", {"to": event.to, "to_n": event.to_n, "reason": event.reason}
        case Reset():
            return "reset", _without_empty({"reason": event.reason})
        case Compact():
            return "compact", _without_empty(
                {
                    "summary": event.summary,
                    "keep": event.keep,
                    "keep_n": event.keep_n,
                    "by": event.by,
                    "reason": event.reason,
                    "messages": event.messages,
                    "usage": _usage_fields(event.usage),
                    "cost_usd": None if event.cost_usd is None else round(event.cost_usd, 8),
                }
            )
        case UnknownOp():
            return event.op, {}


def _without_empty(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def _usage_fields(usage: Usage) -> dict[str, int]:
    fields = {
        "input": usage.input,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
        "cache_write_1h": usage.cache_write_1h,
        "output": usage.output,
    }
    return {name: value for name, value in fields.items() if value}


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


# --- bytes to values -------------------------------------------------------------------------------------------------


def decode(line: bytes, start: int, *, known_at: datetime) -> Record | UnknownLine | Unreadable | None:
    """One line, its newline included, that begins at byte `start` of its file; None for a blank one.

    `known_at` stands in for a stamp that is missing or wrong: a message is worth more than its time.
    """
    end = start + len(line)
    if not line.strip(b" \t\r\n"):
        return None
    try:
        fields = _loads(line, start)
    except UnicodeDecodeError:
        return Unreadable(start, end, "is not UTF-8")
    except (ValueError, RecursionError):
        return Unreadable(start, end, "is not JSON")
    if not isinstance(fields, dict):
        return UnknownLine(start, end)
    kind = fields.get("_type")
    if kind == "metadata":
        return _snapshot(fields, start, end, known_at)
    if kind is None and isinstance(fields.get("role"), str) and _is_content(fields.get("content")):
        return _message(fields, start, end, known_at)
    return UnknownLine(start, end)


def state_of(line: bytes, start: int, *, known_at: datetime) -> State | None:
    """The state that a snapshot repeats, for those who need not know what happened; None for any other line."""
    try:
        fields = _loads(line, start)
    except (ValueError, RecursionError):
        return None
    return _state(fields, known_at) if isinstance(fields, dict) and fields.get("_type") == "metadata" else None


def _loads(line: bytes, start: int) -> Json:
    # `loads(bytes)` would guess UTF-16 from NUL bytes; a file of ours is UTF-8, with a mark only if an editor left one.
    return cast(Json, json.loads(line.decode("utf-8-sig" if start == 0 else "utf-8")))


def _is_content(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(block, dict) for block in value))


_MESSAGE_FIELDS = frozenset(
    ("role", "content", "timestamp", "source_id", "clock", "mark", "delivered", "prefix", "usage", "_n")
)


def _message(fields: dict[str, Json], start: int, end: int, known_at: datetime) -> Message:
    extra = {name: value for name, value in fields.items() if name not in _MESSAGE_FIELDS}
    return Message(
        role=_text(fields, "role"),
        content=cast(Content, fields["content"]),
        timestamp=_time(fields.get("timestamp"), known_at),
        source_id=_text(fields, "source_id"),
        usage=_usage(fields["usage"]) if isinstance(fields.get("usage"), dict) else None,
        prefix=_text(fields, "prefix"),
        mark=_text(fields, "mark"),
        clock=_text(fields, "clock"),
        delivered=fields.get("delivered") is True,
        extra=extra or _EMPTY,
        n=_count(fields, "_n", -1),
        start=start,
        end=end,
    )


_OWN_METADATA = frozenset(("model", "system", "pins", "totals"))
_COMPACT_METADATA = _OWN_METADATA | {"_last_summary"}


def _snapshot(fields: dict[str, Json], start: int, end: int, known_at: datetime) -> Snapshot:
    state = _state(fields, known_at)
    return Snapshot(state, _event(fields, state), start, end)


def _state(fields: dict[str, Json], known_at: datetime) -> State:
    metadata = _mapping(fields, "metadata")
    own = _COMPACT_METADATA if fields.get("op") == "compact" else _OWN_METADATA
    pins = metadata.get("pins")
    totals = _mapping(metadata, "totals")
    return State(
        key=_text(fields, "key"),
        created_at=_time(fields.get("created_at"), known_at),
        updated_at=_time(fields.get("updated_at"), known_at),
        n=max(0, _count(fields, "n", 0)),
        last_consolidated=max(0, _count(fields, "last_consolidated", 0)),
        version=_count(fields, "v", 0),
        model=_text(metadata, "model"),
        system=_ref(metadata.get("system")),
        pins=tuple(ref for pin in (pins if isinstance(pins, list) else []) if (ref := _ref(pin)) is not None),
        totals=Totals(_count(totals, "turns", 0), _usage(totals), _number(totals, "cost_usd") or 0.0),
        other={name: value for name, value in metadata.items() if name not in own} or _EMPTY,
    )


def _event(fields: dict[str, Json], state: State) -> Event:
    op = fields.get("op", "open")
    match op:
        case "open":
            return Opened()
        case "set":
            return SetValue(_text(fields, "name"), _text(fields, "value"))
        case "turn":
            tools = fields.get("tools")
            return TurnEnd(
                source_id=_text(fields, "source_id"),
                outcome=_text(fields, "outcome"),
                model=_text(fields, "model"),
                prefix=_text(fields, "prefix"),
                usage=_usage(_mapping(fields, "usage")),
                cost_usd=_number(fields, "cost_usd"),
                ttft_s=_number(fields, "ttft_s"),
                seconds=_number(fields, "seconds") or 0.0,
                origin=_text(fields, "origin"),
                tools=tuple(_tool_time(tool) for tool in (tools if isinstance(tools, list) else [])),
                ttl=_text(fields, "ttl"),
            )
        case "rewind":
            return Rewind(_count(fields, "to", -1), _count(fields, "to_n", -1), _text(fields, "reason"), state.pins)
        case "reset":
            return Reset(_text(fields, "reason"))
        case "compact":
            return Compact(
                summary=_text(fields, "summary"),
                keep=_count(fields, "keep", -1),
                keep_n=_count(fields, "keep_n", -1),
                by=_text(fields, "by"),
                reason=_text(fields, "reason"),
                messages=_count(fields, "messages", 0),
                usage=_usage(_mapping(fields, "usage")),
                cost_usd=_number(fields, "cost_usd"),
            )
        case _:
            return UnknownOp(str(op))


def _text(fields: Mapping[str, Json], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _count(fields: Mapping[str, Json], name: str, default: int) -> int:
    value = fields.get(name)
    return value if type(value) is int else default  # not a bool, which is an int too


def _number(fields: Mapping[str, Json], name: str) -> float | None:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mapping(fields: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    value = fields.get(name)
    return value if isinstance(value, dict) else _EMPTY


def _ref(value: Json) -> Ref | None:
    if isinstance(value, dict):
        value = [value.get("at"), value.get("n")]
    match value:
        case [int(at), int(n)] if at >= 0:
            return Ref(at, n)
        case _:
            return None


def _tool_time(value: Json) -> ToolTime:
    match value:
        case [str(name), int() | float() as seconds, bool(ok)]:
            return ToolTime(name, float(seconds), ok)
        case _:
            return ToolTime("", 0.0, ok=False)


def _usage(value: Json) -> Usage:
    fields = value if isinstance(value, Mapping) else _EMPTY
    return Usage(
        _count(fields, "input", 0),
        _count(fields, "cache_read", 0),
        _count(fields, "cache_write", 0),
        _count(fields, "cache_write_1h", 0),
        _count(fields, "output", 0),
    )


def _time(value: Json, known_at: datetime) -> datetime:
    if not isinstance(value, str):
        return known_at
    try:
        # nanobot's stamps have no offset and are local times; `astimezone` reads them as such.
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return known_at


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
            other = {name: value for name, value in changed.other.items() if name not in _COMPACT_METADATA} or _EMPTY
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
    return len(_PLAIN.encode(value)) <= _MAX_OTHER_BYTES
