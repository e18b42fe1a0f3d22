"""Records as people read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from nanochat import transcript
from nanochat.errors import CommandError
from nanochat.keys import SessionKey
from nanochat.records import Block, Message, Record, Reset, Snapshot, State

KEY = SessionKey("cli", "a")
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def records() -> list[Record]:
    return [
        Message("user", "question", NOW),
        Message("assistant", [{"type": "tool_use", "id": "t", "name": "x", "input": {}}], NOW),
        Message("user", [{"type": "tool_result", "tool_use_id": "t", "content": "secret"}], NOW),
        Message("assistant", [{"type": "text", "text": "answer"}], NOW, mark="stopped"),
        Message("user", '<delivered from="cron:bell">\nding\n</delivered>', NOW, delivered=True),
        Snapshot(State("cli:a", NOW, NOW), Reset()),
    ]


def test_a_watcher_sees_what_was_said() -> None:
    """Tool traffic is left out, marks and changes are shown."""
    seen = [(entry.kind, entry.text) for entry in transcript.to_seen(KEY, records())]
    assert seen == [
        ("user", "question"),
        ("assistant", "answer […stopped]"),
        ("delivered", "ding"),
        ("change", "a new conversation begins"),
    ]


@pytest.mark.parametrize(("count", "first"), [(1, "question"), (9, "question"), (0, None)])
def test_exchanges_begin_with_the_question(count: int, first: str | None) -> None:
    """Asked for more than there are, all come."""
    shown = transcript.exchanges(KEY, records(), count)
    assert (shown[0].text if shown else None) == first


def test_markdown_names_the_speakers() -> None:
    """A file that a person can read without us."""
    text = transcript.to_markdown(KEY, records(), UTC)
    assert text.startswith("# cli:a\n")
    assert "## You, 2026-11-20 12:00\n\nquestion" in text


def test_json_goes_both_ways() -> None:
    """What is written can be read, from an array and from lines."""
    rows = json.loads(transcript.to_json(records()))
    assert transcript.from_json(json.dumps(rows))[0] == ("user", "question")
    lines = "\n".join(json.dumps(row) for row in rows) + "\nnot json\n"
    assert transcript.from_json(lines)[:2] == [("user", "question"), ("assistant", "answer")]


def test_a_session_file_gives_what_is_live() -> None:
    """What was undone, or lies before a reset, does not come back by loading the file."""
    lines = ['{"_type":"metadata","op":"open"}', '{"role":"user","content":"old"}', '{"_type":"metadata","op":"reset"}']
    lines += ['{"role":"user","content":"kept"}', '{"role":"user","content":"undone"}']
    to = sum(len(line) + 1 for line in lines[:4])
    lines.append(f'{{"_type":"metadata","op":"rewind","to":{to}}}')
    assert transcript.from_json("\n".join([*lines, '{"role":"user","content":"new"}'])) == [
        ("user", "kept"),
        ("user", "new"),
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", "42", "hello", '[{"role": "system", "content": "x"}]'])
def test_json_without_messages_is_refused(text: str) -> None:
    """The line says what it takes."""
    with pytest.raises(CommandError, match="no messages"):
        transcript.from_json(text)


def test_what_was_delivered_is_recalled_where_nothing_was_asked() -> None:
    """Whoever opens a session that only jobs have written to is shown the last of it."""
    lines = [Message("user", f"news {n}", NOW, delivered=True) for n in range(3)]
    assert [seen.text for seen in transcript.exchanges(KEY, lines, 2)] == ["news 1", "news 2"]


def test_tool_calls_in_a_few_words() -> None:
    """Ours and nanobot's, on one line, and short."""
    own = Message(
        "assistant", [{"type": "tool_use", "id": "t", "name": "look", "input": {"at": "the\nsea", "n": 3}}], NOW
    )
    call: Block = {"function": {"name": "find", "arguments": '{"words": "' + "x" * 200 + '"}'}}
    broken: Block = {"function": {"name": "find", "arguments": "{"}}
    theirs = Message("assistant", "", NOW, extra={"tool_calls": [call, broken, "nonsense"]})
    assert transcript.calls(own) == ["look the sea 3"]
    long, short = transcript.calls(theirs)
    assert (len(long), long[:8], long[-1]) == (80, "find xxx", "…")
    assert short == "find"
    assert transcript.calls(Message("user", "hi", NOW)) == []
