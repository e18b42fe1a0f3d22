"""What a session file says, and what is live of it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.keys import SessionKey
from nanochat.lines import encode
from nanochat.records import Message, Opened, Reset, Rewind, Snapshot, State, TurnEnd, after, text_of
from nanochat.search.reading import Back, Said, glance, is_live, live_spans, look_at, read
from nanochat.store.annals import annals
from nanochat.store.disk import Disk
from nanochat.store.scan import Line, Source

KEY = SessionKey("cli", "a")
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@contextmanager
def source_of(data: bytes) -> Iterator[Source]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield Source(Disk(), file.fileno(), KEY, NOON)


# --- the short way and the plain one ---------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
STAMPS = st.sampled_from(
    ["2026-11-20T12:00:00+00:00", "2026-11-20T12:00:00.5+00:00", "2026-11-20T12:00:00", "2026-11-20T12:00Z", "noon", ""]
)
BLOCKS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={"type": st.sampled_from(["text", "tool_use"]) | JSON, "text": st.text(max_size=8) | JSON, "x": JSON},
    )
    | JSON,
    max_size=3,
)
TEXTS = st.text(max_size=12) | st.sampled_from([" ", '<delivered from="x">\nhello\n</delivered>', "\ud800", "é"])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "_type": st.sampled_from(["metadata", "metadata", "other", ""]) | JSON,
        "role": st.sampled_from(["user", "assistant", "tool", ""]) | JSON,
        "content": TEXTS | BLOCKS | JSON,
        "timestamp": STAMPS | JSON,
        "_n": st.integers(-3, 9) | st.integers() | JSON,
        "n": st.integers(-3, 9) | st.integers() | JSON,
        "v": st.sampled_from([0, 1, 2]) | JSON,
        "key": st.sampled_from(["", "cli:a", "cli:b"]) | JSON,
        "op": st.sampled_from(["turn", "rewind", "reset", "open"]) | JSON,
        "mark": st.sampled_from(["", "stopped"]) | JSON,
        "delivered": st.booleans() | JSON,
        "to": st.integers(0, 9),
        "other": JSON,
    },
)


def agree(data: bytes, start: int) -> None:
    """Where the short way says something, it is what the plain one says."""
    line = Line(start, start + len(data), data)
    short = glance(line, str(KEY))
    if short is None:
        return
    plain = look_at(Source(Disk(), -1, KEY, NOON), line)
    assert short == plain


@settings(deadline=None)
@given(FIELDS, st.booleans(), st.sampled_from([0, 100]))
def test_the_short_way_says_what_the_plain_one_says(fields: dict[str, object], is_ascii: bool, start: int) -> None:
    """For whatever JSON somebody wrote, with every field of ours right or wrong."""
    try:
        data = json.dumps(fields, ensure_ascii=is_ascii).encode() + b"\n"
    except UnicodeEncodeError:
        data = json.dumps(fields).encode() + b"\n"
    agree(data, start)


@settings(deadline=None)
@given(FIELDS, st.data())
def test_the_short_way_of_damaged_lines(fields: dict[str, object], data: st.DataObject) -> None:
    """A byte that is wrong is seen by both, or by neither."""
    line = bytearray(json.dumps(fields).encode() + b"\n")
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != 10))
    agree(bytes(line), 100)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'{"role":"user","role":"assistant","content":"a"}', id="a field twice"),
        pytest.param(b'{"role":"user","content":"a","x":"\xff"}', id="no UTF-8"),
        pytest.param(b'{"role":"user","content":"a","x":"\\ud800"}', id="half a character"),
        pytest.param(b'{"role":"user","content":"a","x":NaN}', id="not a number"),
        pytest.param(b'{"role":"user","content":"a","_n":1.0}', id="a number with a point"),
        pytest.param(b'{"role":"user","content":"a","_n":true}', id="a truth"),
        pytest.param(b'{"role":"user","content":"a","_n":99999999999999999999}', id="a large number"),
        pytest.param(b'\xef\xbb\xbf{"role":"user","content":"a"}', id="a mark before it"),
        pytest.param(b'{"r\\u006fle":"user","content":"a"}', id="a name with escapes"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"   ", id="blank"),
    ],
)
@pytest.mark.parametrize("start", [0, 7])
def test_the_short_way_of_odd_lines(line: bytes, start: int) -> None:
    """What only a hand, or another program, would write."""
    agree(line + b"\n", start)


def test_our_own_lines_are_read_the_short_way() -> None:
    """Else it would be no use."""
    message = Message("assistant", [{"type": "text", "text": "hi"}], NOON, model="m", n=3)
    look = glance(Line(7, 99, encode(message)), "cli:a")
    assert look is not None
    assert look.said == Said(7, 3, NOON, "assistant", "hi")
    turn = Snapshot(after(State("cli:a", NOON, NOON, n=4), TurnEnd("cli:1", "done"), 0, NOON), TurnEnd("cli:1", "done"))
    look = glance(Line(7, 99, encode(turn)), "cli:a")
    assert look is not None
    assert (look.total, look.rewind) == (4, None)


# --- what is live ----------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["say", "say", "say", "tool", "turn", "reset", "rewind", "blank"]), st.integers(0, 99)),
    max_size=30,
)


def history(steps: Sequence[tuple[str, int]]) -> bytes:
    """A file whose rewinds go back to any line before them."""
    state = State(str(KEY), NOON, NOON)
    data = encode(Snapshot(state, Opened()))
    places = [(len(data), 0)]
    n = 0
    for step, draw in steps:
        match step:
            case "say" | "tool":
                role = "user" if step == "say" else "tool"
                line = encode(Message(role, f"number {n}", NOON + timedelta(seconds=n), n=n))
                n += 1
            case "blank":
                line = b"   \n"
            case "rewind":
                to, to_n = places[draw % len(places)]
                line = encode(Snapshot(replace(state, n=n), Rewind(to, to_n, "undo")))
            case "reset":
                line = encode(Snapshot(replace(state, n=n), Reset()))
            case _:
                line = encode(Snapshot(replace(state, n=n), TurnEnd("cli:1", "done")))
        data += line
        places.append((len(data), n))
    return data


def live_texts(source: Source, end: int) -> list[str]:
    """What `read` and `live_spans` make of a file."""
    backs: list[Back] = []
    said: list[Said] = []
    for _, _, entry in read(source, 0, end, 0):
        if isinstance(entry, Said):
            said.append(entry)
        elif entry is not None:
            backs.append(entry)
    spans = live_spans(backs, end)
    return [entry.text for entry in said if is_live(spans, entry.start, entry.n)]


@settings(deadline=None)
@given(STEPS)
def test_live_is_what_the_store_takes_for_it(steps: Sequence[tuple[str, int]]) -> None:
    """For every history of undos, and undos of undos; what stands before a reset is live to a search."""
    data = history(steps)
    with source_of(data) as source:
        expected = [
            text_of(record.content)
            for record, fate in annals(source, len(data))
            if isinstance(record, Message) and record.role == "user" and fate != "undone"
        ]
        assert live_texts(source, len(data)) == expected


@settings(deadline=None)
@given(STEPS, st.data())
def test_reading_on_is_reading_all(steps: Sequence[tuple[str, int]], draw: st.DataObject) -> None:
    """Wherever it was stopped."""
    data = history(steps)
    with source_of(data) as source:
        whole = list(read(source, 0, len(data), 0))
        cut = draw.draw(st.integers(0, len(whole)))
        at, count = (whole[cut - 1][0], whole[cut - 1][1]) if cut else (0, 0)
        assert [*whole[:cut], *read(source, at, len(data), count)] == whole


def test_lines_written_again_after_a_failed_sync() -> None:
    """A rewind that lies behind the first copy of what it takes back takes both."""
    lines = [encode(Message("user", f"number {n}", NOON, n=n)) for n in range(3)]
    first = b"".join(lines)
    back = encode(Snapshot(State(str(KEY), NOON, NOON, n=3), Rewind(len(first) + len(lines[0]), 1, "undo")))
    data = first + first + back
    with source_of(data) as source:
        assert live_texts(source, len(data)) == ["number 0", "number 0"]  # whose first copy the index drops


def test_messages_without_numbers_are_counted() -> None:
    """As nanobot writes them."""
    lines = [b'{"role":"user","content":"a"}\n', b'{"role":"tool","content":"b"}\n', b'{"role":"user","content":"c"}\n']
    data = b"".join(lines)
    with source_of(data) as source:
        said = [entry for _, _, entry in read(source, 0, len(data), 0) if isinstance(entry, Said)]
    assert [(entry.n, entry.text, entry.at) for entry in said] == [
        (0, "a", NOON),
        (2, "c", NOON),
    ]


def test_reading_needs_no_more_than_a_block(tmp_path: Path) -> None:
    """A line that is longer than one may be is passed over."""
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.write(b'{"role":"user","content":"' + b"x" * (9 * 1024 * 1024) + b'"}\n')
        file.write(encode(Message("user", "short", NOON, n=1)))
    fd = os.open(path, os.O_RDONLY)
    try:
        entries = [entry for _, _, entry in read(Source(Disk(), fd, KEY, NOON), 0, path.stat().st_size, 0)]
    finally:
        os.close(fd)
    assert [entry.text for entry in entries if isinstance(entry, Said)] == ["short"]
