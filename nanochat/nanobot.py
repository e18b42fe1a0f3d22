"""A conversation as nanobot keeps one: what is live, in a file that it can go on with.

nanobot does not know undo, and replays what a reset left behind; so its file is given the live messages only, tool calls in
OpenAI's form, and a summary where it looks for one. What it has no place for is left out: system text, pins, the model's
thoughts, figures.

Pure. Knows nanobot's header and rows. Does not know where a file lies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo

from nanochat.history.blocks import clean_text
from nanochat.history.exchanges import is_whole
from nanochat.keys import SessionKey
from nanochat.records import Block, Compact, Json, Message, Record, Snapshot, State

__all__ = ["to_nanobot"]


def to_nanobot(key: SessionKey, state: State, records: Sequence[Record], zone: tzinfo | None = None) -> str:
    """A whole file of JSON lines. `records` are live ones, oldest first, large content in place.

    nanobot's times have no offset; they are told in `zone`, or else in the machine's own.
    """
    compact = next(
        (r.event for r in reversed(records) if isinstance(r, Snapshot) and isinstance(r.event, Compact)), None
    )
    messages = [record for record in records if isinstance(record, Message)]
    names: dict[str, str] = {}
    rows: list[dict[str, Json]] = []
    consolidated = 0
    boundary = _boundary(messages, compact) if compact is not None else 0
    for message in messages:
        for row in _rows(message, names):
            rows.append({**row, **_beside(message), "timestamp": _stamp(message.timestamp, zone)})
            consolidated += message.start < boundary
    if compact is not None and not consolidated:
        # What the summary stands for is not here, and nanobot counts: a row that it never sends takes the place.
        stand_in: dict[str, Json] = {"role": "user", "content": "(summarised)", "_hidden_history": True}
        rows.insert(0, {**stand_in, "timestamp": _stamp(state.created_at, zone)})
        consolidated = 1
    metadata = {name: value for name, value in state.other.items() if name != "_last_summary"}
    if compact is not None:
        metadata["_last_summary"] = {"text": compact.summary, "last_active": _stamp(state.updated_at, zone)}
    header: dict[str, Json] = {
        "_type": "metadata",
        "key": str(key),
        "created_at": _stamp(state.created_at, zone),
        "updated_at": _stamp(state.updated_at, zone),
        "metadata": metadata,
        "last_archived": consolidated,
        "last_consolidated": consolidated,
    }
    return "".join(_line(fields) for fields in (header, *rows))


def _line(fields: Mapping[str, Json]) -> str:
    # With half a character in it nanobot would read the file, and never save it again.
    return clean_text(json.dumps(fields, ensure_ascii=False, allow_nan=False)) + "\n"


def _boundary(messages: Sequence[Message], compact: Compact) -> int:
    """The byte from which on messages are not summarised; the number of the line tells more than its place."""
    return next((m.start for m in messages if compact.keep_n >= 0 and m.n == compact.keep_n), compact.keep)


def _stamp(at: datetime, zone: tzinfo | None) -> str:
    return at.astimezone(zone).replace(tzinfo=None).isoformat()


def _beside(message: Message) -> dict[str, Json]:
    """What stands beside a row: nanobot keeps it as it is, and nanochat knows it again."""
    own: dict[str, Json] = {"clock": message.clock, "mark": message.mark, "delivered": message.delivered}
    return {**message.extra, **{name: value for name, value in own.items() if value}}


def _rows(message: Message, names: dict[str, str]) -> Iterator[dict[str, Json]]:
    """A line's rows, without their time; none where nothing is left. `names` are the tools' by the ids of their calls."""
    is_theirs = message.role not in ("user", "assistant") or "tool_calls" in message.extra
    if is_theirs or isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
    elif message.role == "assistant":
        yield from _reply(message, message.content, names)
    else:
        yield from _said(message.content, names)


def _reply(message: Message, blocks: Sequence[Block], names: dict[str, str]) -> Iterator[dict[str, Json]]:
    texts = [block for block in blocks if block.get("type") == "text" and str(block.get("text", "")).strip()]
    called = [block for block in blocks if block.get("type") == "tool_use"] if is_whole(message) else []
    names.update({str(block.get("id")): str(block.get("name")) for block in called})
    calls: list[Json] = [
        {
            "id": block.get("id"),
            "type": "function",
            "function": {"name": block.get("name"), "arguments": json.dumps(block.get("input"), ensure_ascii=False)},
        }
        for block in called
    ]
    if texts or calls:
        yield {"role": "assistant", "content": _content(texts), **({"tool_calls": calls} if calls else {})}


def _said(blocks: Sequence[Block], names: Mapping[str, str]) -> Iterator[dict[str, Json]]:
    for block in blocks:
        if block.get("type") == "tool_result":
            call = str(block.get("tool_use_id"))
            content = block.get("content")
            inner = [one for one in content if isinstance(one, Mapping)] if isinstance(content, list | tuple) else []
            told = content if isinstance(content, str) else _content([_part(one) for one in inner])
            yield {"role": "tool", "tool_call_id": call, "name": names.get(call, ""), "content": told}
    others = [_part(block) for block in blocks if block.get("type") != "tool_result"]
    if others:
        yield {"role": "user", "content": _content(others)}


def _content(blocks: Sequence[Block]) -> Json:
    """A plain text where that is all, as nanobot itself has it."""
    if all(block.get("type") == "text" for block in blocks) and len(blocks) <= 1:
        return str(blocks[0].get("text", "")) if blocks else ""
    return [{"type": "text", "text": block.get("text")} if block.get("type") == "text" else block for block in blocks]


def _part(block: Block) -> Block:
    """A block of a user's line in OpenAI's form; of what has none, its name."""
    match block:
        case {"type": "text"}:
            return block
        case {"type": "image", "source": {"type": "base64", "media_type": str(kind), "data": str(data)}}:
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        case {"type": "image", "source": {"type": "url", "url": str(url)}}:
            return {"type": "image_url", "image_url": {"url": url}}
        case {"type": str(kind)}:
            return {"type": "text", "text": f"[{kind.replace('_', ' ')}: {block.get('title') or 'not kept here'}]"}
        case _:
            return {"type": "text", "text": "[not kept here]"}
