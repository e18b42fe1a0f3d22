"""Records as people read them: lines for a terminal that watches, Markdown for a file, JSON for another program.

Pure. Knows what a reader cares for: what was said by whom, and what changed. Does not know where it is shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo

from nanochat.errors import CommandError
from nanochat.events import Seen
from nanochat.keys import SessionKey
from nanochat.records import Compact, Json, Message, Record, Reset, Rewind, SetValue, Snapshot, text_of

__all__ = ["calls", "exchanges", "from_json", "to_json", "to_markdown", "to_seen", "unframed"]

# Of what a tool was asked: enough to know what it was about.
_CALL_CHARS = 80

# What a delivered text stands in for the model's eyes.
_FRAMED = re.compile(r'<delivered from="[^"]*">\n(.*)\n</delivered>\Z', re.DOTALL)


def unframed(text: str) -> str:
    """A delivered text without what it stands in for the model; any other as it is."""
    framed = _FRAMED.match(text) if text.startswith("<delivered ") else None
    return framed[1].strip() if framed else text


def to_seen(key: SessionKey, records: Iterable[Record]) -> list[Seen]:
    """One entry per line that a person would want to see; tool traffic and settings are left out."""
    seen = []
    for record in records:
        if isinstance(record, Message):
            text = _said(record)
            if not text or record.role not in ("user", "assistant"):
                continue
            if record.delivered:
                seen.append(Seen(key, "delivered", text, record.timestamp))
            else:
                seen.append(Seen(key, "user" if record.role == "user" else "assistant", text, record.timestamp))
        elif change := _change(record):
            seen.append(Seen(key, "change", change, record.state.updated_at))
    return seen


def exchanges(key: SessionKey, records: Sequence[Record], count: int) -> list[Seen]:
    """The last `count` exchanges, the question first; where nothing was asked yet, the last that was delivered."""
    spoken = [entry for entry in to_seen(key, records) if entry.kind != "change"]
    starts = [i for i, entry in enumerate(spoken) if entry.kind == "user"]
    if count <= 0:
        return []
    if not starts:
        return spoken[-count:]
    return spoken[starts[max(0, len(starts) - count)] :]


def calls(message: Message) -> list[str]:
    """The tools that a reply called, in a few words each: `sessions search tides`."""
    found: list[str] = []
    for block in () if isinstance(message.content, str) else message.content:
        if block.get("type") in ("tool_use", "server_tool_use"):
            found.append(_call(block.get("name"), block.get("input")))
    theirs = message.extra.get("tool_calls")  # a line of nanobot's
    for call in theirs if isinstance(theirs, Sequence) and not isinstance(theirs, str) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            arguments = function.get("arguments")
            found.append(_call(function.get("name"), _loads(arguments) if isinstance(arguments, str) else arguments))
    return found


def _call(name: Json, arguments: Json) -> str:
    values = arguments.values() if isinstance(arguments, Mapping) else ()
    words = " ".join(" ".join([str(name), *(str(value) for value in values if isinstance(value, str | int))]).split())
    return words if len(words) <= _CALL_CHARS else words[: _CALL_CHARS - 1] + "…"


def to_markdown(key: SessionKey, records: Sequence[Record], zone: tzinfo | None) -> str:
    """A whole conversation as one Markdown text with a heading per speaker."""
    parts = [f"# {key}"]
    names = {"user": "You", "assistant": "nanochat", "delivered": "Delivered"}
    for entry in to_seen(key, records):
        at = entry.at.astimezone(zone).strftime("%Y-%m-%d %H:%M")
        if entry.kind == "change":
            parts.append(f"*{at}: {entry.text}*")
        else:
            parts.append(f"## {names[entry.kind]}, {at}\n\n{entry.text}")
    return "\n\n".join(parts) + "\n"


def to_json(records: Sequence[Record]) -> str:
    """The live messages as a JSON array of `{role, content, timestamp}`, content as on the wire."""
    messages = [
        {"role": record.role, "content": record.content, "timestamp": record.timestamp.isoformat()}
        for record in records
        if isinstance(record, Message)
    ]
    return json.dumps(messages, ensure_ascii=False, indent=1) + "\n"


def from_json(text: str) -> list[tuple[str, str]]:
    """Role and text of each message in a JSON array or in JSON lines; the rest is passed over.

    Of a session file only what is live is taken: neither what was undone, nor what stands before its last reset.

    Raises:
        CommandError: where no message is found.
    """
    try:
        rows = json.loads(text)
        messages: list[Mapping[str, Json]] = []
        if isinstance(rows, list):
            messages = [row for row in rows if isinstance(row, dict)]
    except ValueError:
        messages = _live(text)
    found = []
    for row in messages:
        if row.get("role") in ("user", "assistant"):
            content = row.get("content")
            said = content if isinstance(content, str) else text_of(content) if isinstance(content, list) else ""
            if said.strip():
                found.append((str(row["role"]), said))
    if not found:
        raise CommandError("no messages found: it takes a JSON array, or JSON lines, of {role, content}")
    return found


def _live(text: str) -> list[Mapping[str, Json]]:
    """The rows of JSON lines that a rewind or a reset among them does not take back."""
    rows: list[tuple[int, Mapping[str, Json]]] = []
    start = 0
    for line in text.split("\n"):
        row = _loads(line)
        if isinstance(row, dict):
            to = row.get("to")
            if row.get("op") == "rewind" and isinstance(to, int):
                rows = [(begin, kept) for begin, kept in rows if begin < to]
            elif row.get("op") == "reset":
                rows = []
            else:
                rows.append((start, row))
        start += len(line.encode()) + 1
    return [row for _, row in rows]


def _loads(line: str) -> Json:
    try:
        loaded: Json = json.loads(line)
    except ValueError:
        return None
    return loaded


def _said(message: Message) -> str:
    text = text_of(message.content).strip()
    if message.delivered:
        text = unframed(text)
    return f"{text} […{message.mark}]" if text and message.mark and message.mark != "pause_turn" else text


def _change(snapshot: Snapshot) -> str:
    match snapshot.event:
        case Reset():
            return "a new conversation begins"
        case Rewind():
            return "the last exchange was taken back"
        case Compact(messages=messages):
            return f"{messages} older messages are now sent as a summary"
        case SetValue(name="system"):
            return "the system text was changed"
        case SetValue(name="model", value=value):
            return f"the model is now {value or 'the default'}"
        case _:
            return ""
