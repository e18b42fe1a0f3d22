"""Conversations as nanobot keeps them: what is exported is read back, by us and by rules that are nanobot's."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings

from nanochat import transcript
from nanochat.catalog import Catalog
from nanochat.keys import SessionKey
from nanochat.nanobot import to_nanobot
from nanochat.records import Block, Compact, Json, Message, Record, Snapshot, State, text_of
from nanochat.sessions import SessionManager
from nanochat.store import FileStore
from tests.fakes.pastime import ACTS, Act, live_through

KEY = SessionKey("cli", "default")
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
STATE = State(str(KEY), NOW, NOW)


def rows(text: str) -> list[dict[str, Any]]:  # Any: whatever JSON is in it
    return [json.loads(line) for line in text.split("\n") if line]


def exported(*records: Record, state: State = STATE) -> list[dict[str, Any]]:  # Any: the same
    """The rows behind the header."""
    placed = [replace(record, start=i, end=i + 1) for i, record in enumerate(records)]
    return rows(to_nanobot(KEY, state, placed, ZoneInfo("Europe/Prague")))[1:]


# --- read back ---------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(ACTS)
def test_any_conversation_goes_both_ways(acts: list[Act]) -> None:
    """What a model would be sent of an exported conversation is what it would be sent of the original, and each form holds all
    that was said."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_compare(acts, Path(directory)))


async def _compare(acts: list[Act], directory: Path) -> None:
    store = FileStore(directory / "ours" / "sessions", durability="off")
    manager = SessionManager(store)
    catalog = Catalog(manager, store, budget_tokens=1000)
    await live_through(manager, KEY, [Act("say", 0, "hello"), *acts])
    records = (await catalog.whole(KEY)).records
    text = to_nanobot(KEY, (await catalog.brief(KEY)).state, records)
    theirs = directory / "theirs" / "sessions"
    theirs.mkdir(parents=True)
    (theirs / "cli_default.jsonl").write_text(text, encoding="utf-8")
    again = SessionManager(theirs)
    session = await again.get_or_create(KEY)
    assert _sent(session.get_history()) == _sent((await manager.get_or_create(KEY)).get_history())
    assert _said(await again.whole(session)) == _said(_unsummarised(records))
    assert [entry.text for entry in transcript.to_seen(KEY, records) if entry.kind != "change"] == [
        entry.text for entry in transcript.to_seen(KEY, _live(text)) if entry.kind != "change"
    ]
    _obey(rows(text))
    if _said(records):
        assert transcript.from_json(transcript.to_json(records)) == _said(records)
    markdown = transcript.to_markdown(KEY, records, UTC)
    assert all(entry.text in markdown for entry in transcript.to_seen(KEY, records))
    await manager.close()
    await again.close()


def _sent(messages: Sequence[Block]) -> list[object]:
    """With text in one form: a line's own and a block's are the same to the model."""
    return [
        (m["role"], [{"type": "text", "text": m["content"]}] if isinstance(m["content"], str) else m["content"])
        for m in messages
    ]


def _said(records: Sequence[Record]) -> list[tuple[str, str]]:
    messages = [(r.role, text_of(r.content)) for r in records if isinstance(r, Message)]
    return [(role, said) for role, said in messages if role in ("user", "assistant") and said.strip()]


def _unsummarised(records: Sequence[Record]) -> Sequence[Record]:
    """nanobot's file has no place for where a summary ends but a count; behind it is where we begin to read."""
    compact = next(
        (r.event for r in reversed(records) if isinstance(r, Snapshot) and isinstance(r.event, Compact)), None
    )
    return records if compact is None else [record for record in records if record.start >= compact.keep]


def _live(text: str) -> list[Message]:
    """Every row as a message, which is what nanobot makes of it."""
    return [
        Message(row["role"], row["content"], NOW, mark=row.get("mark", ""), delivered=row.get("delivered", False))
        for row in rows(text)[1:]
        if row["role"] != "tool" and not row.get("_hidden_history")
    ]


def _obey(lines: list[dict[str, Any]]) -> None:  # Any: whatever JSON is in it
    """nanobot's rules: times without offset, a count within the rows, and every tool row named after a call before it."""
    header, *messages = lines
    assert datetime.fromisoformat(header["created_at"]).tzinfo is None
    assert 0 <= header["last_archived"] <= len(messages)
    assert header["last_archived"] == header["last_consolidated"]
    called: set[str] = set()
    for message in messages:
        assert message["role"] in ("user", "assistant", "tool")
        assert datetime.fromisoformat(message["timestamp"]).tzinfo is None
        assert not {"_n", "source_id", "usage", "prefix"} & {*message}
        called |= {call["id"] for call in message.get("tool_calls", [])}
        assert message["role"] != "tool" or message["tool_call_id"] in called
        blocks = message["content"] if isinstance(message["content"], list) else []
        assert {block["type"] for block in blocks} <= {"text", "image_url"}


# --- row by row --------------------------------------------------------------------------------------------------------


def test_a_tool_call() -> None:
    """In OpenAI's form, the result in a row of its own, by the tool's name; thoughts are left out."""
    call: Block = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "tides"}}
    reply = Message("assistant", [{"type": "thinking", "thinking": "hm", "signature": "x"}, call], NOW)
    result = Message(
        "user", [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "low"}]}], NOW
    )
    first, second = exported(reply, result)
    assert first == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at": "tides"}'}},
        ],
        "timestamp": "2026-11-20T13:00:00",
    }
    assert second == {
        "role": "tool",
        "tool_call_id": "t1",
        "name": "look",
        "content": "low",
        "timestamp": "2026-11-20T13:00:00",
    }


def test_pictures_and_documents() -> None:
    """A picture as OpenAI has it; of a document its name."""
    picture: Block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    linked: Block = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    document: Block = {"type": "document", "title": "a.pdf", "source": {"type": "file", "file_id": "f"}}
    (row,) = exported(Message("user", [picture, linked, document, {}], NOW))
    assert row["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "text", "text": "[document: a.pdf]"},
        {"type": "text", "text": "[not kept here]"},
    ]


def test_its_own_rows_stay_as_they_are() -> None:
    """What nanobot wrote goes back with all that stood beside it."""
    calls: list[Json] = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    theirs = (
        Message("assistant", "", NOW, extra={"tool_calls": calls, "latency_ms": 120}),
        Message("assistant", [], NOW, extra={"tool_calls": calls}),
        Message("tool", "done", NOW, extra={"tool_call_id": "c1", "name": "f"}),
    )
    first, second, third = exported(*theirs)
    assert (first["tool_calls"], first["latency_ms"]) == (calls, 120)
    assert second["tool_calls"] == calls
    assert (third["role"], third["tool_call_id"], third["name"]) == ("tool", "c1", "f")


def test_a_summary_of_what_is_not_here() -> None:
    """It is kept all the same: a row that is never sent stands for what it sums up."""
    state = replace(STATE, other={"_last_summary": "older", "title": "Tides"})
    records = (
        Snapshot(STATE, Compact("they spoke of tides", 0, 0, "m", "asked", 7), 0, 1),
        Message("user", "hi", NOW, n=7, start=1),
    )
    header, hidden, row = rows(to_nanobot(KEY, state, records, UTC))
    assert header["last_consolidated"] == 1
    assert header["metadata"] == {
        "title": "Tides",
        "_last_summary": {"text": "they spoke of tides", "last_active": "2026-11-20T12:00:00"},
    }
    assert hidden["_hidden_history"] is True
    assert row["content"] == "hi"


def test_half_a_character_is_replaced() -> None:
    """nanobot could not save a conversation that holds one."""
    text = to_nanobot(KEY, STATE, [Message("user", "a\ud800b", NOW)], UTC)
    assert "a\ufffdb" in text.encode().decode()
