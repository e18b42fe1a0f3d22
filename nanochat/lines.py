"""The lines of a session file as JSON. It is made and read here and nowhere else.

Knows the fields of format 1, and is patient: a field that is missing or wrong costs itself, a line that cannot be read costs
that line. Does not know files: offsets and stamps are given to it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import cast

from nanochat.records import (
    OWN_METADATA,
    Compact,
    Content,
    Event,
    Json,
    Message,
    Opened,
    Record,
    Ref,
    Reset,
    Rewind,
    SetValue,
    Snapshot,
    State,
    ToolTime,
    Totals,
    TurnEnd,
    UnknownLine,
    UnknownOp,
    Unreadable,
    Usage,
)

__all__ = ["decode", "encode", "state_of", "text_at_a_glance"]

_EMPTY: Mapping[str, Json] = MappingProxyType({})

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
        "model": message.model,
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
    if not line or line.isspace():
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
    if fields.get("content") is None and fields.get("tool_calls"):
        fields["content"] = ""  # nanobot's way of saying that a reply was calls only
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


# How `encode` begins a message whose content is plain text.
_PLAIN_MESSAGE = re.compile(rb'\{"role":"[a-z]+","content":"')


def text_at_a_glance(line: bytes) -> str | None:
    """The text of a message as we write it, for a list of thousands; None where the line has to be decoded to tell."""
    begun = _PLAIN_MESSAGE.match(line)
    if begun is None:
        return None
    try:
        text, _ = _DECODER.raw_decode(line.decode(), begun.end() - 1)
    except ValueError:
        return None
    return cast(str, text)


# NaN and its kin are no JSON, though Python's writer makes them; they are read as null, since we could not write them again.
# Made once: `json.loads` with an option makes one for each line.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def _loads(line: bytes, start: int) -> Json:
    # `loads(bytes)` would guess UTF-16 from NUL bytes; a file of ours is UTF-8, with a mark only if an editor left one.
    return cast(Json, _DECODER.decode(line.decode("utf-8-sig" if start == 0 else "utf-8")))


def _is_content(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(block, dict) for block in value))


_MESSAGE_FIELDS = frozenset(
    ("role", "content", "timestamp", "source_id", "clock", "mark", "delivered", "prefix", "usage", "model", "_n")
)


def _message(fields: dict[str, Json], start: int, end: int, known_at: datetime) -> Message:
    extra = {name: value for name, value in fields.items() if name not in _MESSAGE_FIELDS}
    return Message(
        role=_text(fields, "role"),
        content=cast(Content, fields["content"]),
        timestamp=_time(fields.get("timestamp"), known_at),
        source_id=_text(fields, "source_id"),
        usage=_usage(fields["usage"]) if isinstance(fields.get("usage"), dict) else None,
        model=_text(fields, "model"),
        prefix=_text(fields, "prefix"),
        mark=_text(fields, "mark"),
        clock=_text(fields, "clock"),
        delivered=fields.get("delivered") is True,
        extra=extra or _EMPTY,
        n=_count(fields, "_n", -1),
        start=start,
        end=end,
    )


_COMPACT_METADATA = OWN_METADATA | {"_last_summary"}


def _snapshot(fields: dict[str, Json], start: int, end: int, known_at: datetime) -> Snapshot:
    state = _state(fields, known_at)
    return Snapshot(state, _event(fields, state), start, end)


def _state(fields: dict[str, Json], known_at: datetime) -> State:
    metadata = _mapping(fields, "metadata")
    own = _COMPACT_METADATA if fields.get("op") == "compact" else OWN_METADATA
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
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


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
            return ToolTime(name, _number({"seconds": seconds}, "seconds") or 0.0, ok)
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
        at = datetime.fromisoformat(value)
        return at if at.tzinfo is UTC else at.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return known_at
