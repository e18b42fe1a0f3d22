"""Lines and values: whatever is written reads back the same, and whatever is read never breaks the reader."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.lines import decode, encode, state_of
from nanochat.records import (
    Compact,
    Event,
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
    after,
    text_of,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

COUNTS = st.integers(0, 1 << 40)
TIMES = st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
TEXT = st.text(max_size=20)
WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
# Eight digits are kept of money, four of seconds.
MONEY = st.integers(0, 10**9).map(lambda n: round(n / 10**8, 8))
SECONDS = st.integers(0, 10**8).map(lambda n: round(n / 10**4, 4))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
BLOCKS = st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=3)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
REFS = st.builds(Ref, COUNTS, COUNTS)
OWN_NAMES = {
    "role",
    "content",
    "timestamp",
    "source_id",
    "clock",
    "mark",
    "delivered",
    "prefix",
    "usage",
    "_n",
    "_type",
}

MESSAGES = st.builds(
    Message,
    role=TEXT,
    content=TEXT | BLOCKS,
    timestamp=TIMES,
    source_id=TEXT,
    usage=st.none() | USAGES.filter(lambda usage: usage != Usage()),
    prefix=TEXT,
    mark=TEXT,
    clock=TEXT,
    delivered=st.booleans(),
    extra=st.dictionaries(TEXT.filter(lambda name: name not in OWN_NAMES), JSON, max_size=3),
    n=COUNTS,
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Opened),
    st.builds(SetValue, TEXT, TEXT),
    st.builds(
        TurnEnd,
        source_id=TEXT,
        outcome=TEXT,
        model=TEXT,
        prefix=TEXT,
        usage=USAGES,
        cost_usd=st.none() | MONEY,
        ttft_s=st.none() | SECONDS,
        seconds=SECONDS,
        origin=TEXT,
        tools=st.lists(st.builds(ToolTime, TEXT, SECONDS.map(lambda s: round(s, 3)), st.booleans()), max_size=3).map(
            tuple
        ),
        ttl=TEXT,
    ),
    st.builds(Reset, TEXT),
    st.builds(
        Compact,
        summary=TEXT,
        keep=COUNTS,
        keep_n=COUNTS,
        by=TEXT,
        reason=TEXT,
        messages=COUNTS,
        usage=USAGES,
        cost_usd=st.none() | MONEY,
    ),
    st.builds(UnknownOp, st.sampled_from(["dance", "sing"])),
)
STATES = st.builds(
    State,
    key=WORDS,
    created_at=TIMES,
    updated_at=TIMES,
    n=COUNTS,
    last_consolidated=COUNTS,
    version=COUNTS,
    model=TEXT,
    system=st.none() | REFS,
    pins=st.lists(REFS, max_size=3).map(tuple),
    totals=st.builds(Totals, COUNTS, USAGES, MONEY),
    other=st.dictionaries(
        TEXT.filter(lambda name: name not in {"model", "system", "pins", "totals", "_last_summary"}), JSON, max_size=3
    ),
)


def _placed(record: Record, line: bytes, start: int) -> Record:
    return replace(record, start=start, end=start + len(line))


@given(MESSAGES, COUNTS)
def test_a_message_reads_back(message: Message, start: int) -> None:
    """Every field, whatever text it holds; also a lone surrogate."""
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    line.decode()
    assert decode(line, start, known_at=NOW) == _placed(message, line, start)


@given(STATES, EVENTS, COUNTS)
def test_a_snapshot_reads_back(state: State, event: Event, start: int) -> None:
    """State and event, and the state alone too."""
    line = encode(Snapshot(state, event))
    assert decode(line, start, known_at=NOW) == _placed(Snapshot(state, event), line, start)
    assert state_of(line, start, known_at=NOW) == state


@given(st.lists(REFS, max_size=3).map(tuple), COUNTS, COUNTS, TEXT)
def test_a_rewind_reads_back(pins: tuple[Ref, ...], to: int, n: int, reason: str) -> None:
    """Its pins are those of the state that it makes."""
    event = Rewind(to, n, reason, pins)
    state = after(State("cli:x", NOW, NOW, n=n), event, 0, NOW)
    line = encode(Snapshot(state, event))
    assert decode(line, 0, known_at=NOW) == _placed(Snapshot(state, event), line, 0)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_something(line: bytes) -> None:
    """A record, a foreign line, an unreadable one or a blank: never an exception."""
    found = decode(line + b"\n", 7, known_at=NOW)
    assert found is None or (found.start, found.end) == (7, 8 + len(line))


WEIRD = st.dictionaries(
    st.sampled_from(
        [
            *("_type", "role", "content", "timestamp", "usage", "_n", "op", "metadata", "key", "v", "n", "to", "to_n"),
            *(
                "keep",
                "tools",
                "created_at",
                "updated_at",
                "last_consolidated",
                "cost_usd",
                "source_id",
                "name",
                "value",
            ),
        ]
    ),
    JSON
    | st.sampled_from(["metadata", "user", "rewind", "compact", "turn", "set", "9999-99-99", "0001-01-01"])
    | st.fixed_dictionaries({"system": JSON, "pins": JSON, "totals": JSON, "model": JSON}),
)


@given(WEIRD)
def test_wrong_types_in_right_fields(fields: dict[str, Any]) -> None:
    """They are read as missing, and what came of it can be written."""
    found = decode(json.dumps(fields).encode() + b"\n", 0, known_at=NOW)
    if isinstance(found, Message | Snapshot):
        encode(found)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"\n", type(None)),
        (b" \t\r\n", type(None)),
        (b"\xff\n", Unreadable),
        (b"{\n", Unreadable),
        (b"\x00\n", Unreadable),
        (b"[]\n", UnknownLine),
        (b'{"_type":"provider_state"}\n', UnknownLine),
        (b'{"role":"user"}\n', UnknownLine),
        (b'{"role":"user","content":["text"]}\n', UnknownLine),
        (b'{"role":"user","content":[]}\n', Message),
        (b'{"_type":"metadata"}\n', Snapshot),
        (b'\xef\xbb\xbf{"_type":"metadata"}\n', Snapshot),
    ],
)
def test_kinds_of_lines(line: bytes, kind: type) -> None:
    """Law 1, by example."""
    assert type(decode(line, 0, known_at=NOW)) is kind


def test_a_byte_order_mark_is_one_at_the_beginning_only() -> None:
    """Elsewhere it is damage."""
    assert isinstance(decode(b"\xef\xbb\xbf{}\n", 10, known_at=NOW), Unreadable)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"x", {1, 2}, object()], ids=["nan", "inf", "b", "set", "it"]
)
def test_what_json_has_no_form_for(value: object) -> None:
    """It is a ValueError, before anything is written."""
    with pytest.raises(ValueError, match=r"JSON"):
        encode(Message("user", [{"type": "text", "text": value}], NOW))  # type: ignore[dict-item]  # the point of the test


def test_a_circle_is_no_json() -> None:
    """Nor is it an endless loop."""
    block: dict[str, Any] = {}
    block["self"] = block
    with pytest.raises(ValueError, match=r"JSON|Circular"):
        encode(Message("user", [block], NOW))


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2026-11-20T12:00:00+00:00", NOW),
        ("2026-11-20T12:00:00Z", NOW),
        ("2026-11-20T14:00:00+02:00", NOW),
        ("2026-01-02T03:04:05.5", datetime(2026, 1, 2, 3, 4, 5, 500_000).astimezone(UTC)),
        ("yesterday", datetime(2000, 1, 1, tzinfo=UTC)),
        (17, datetime(2000, 1, 1, tzinfo=UTC)),
        (None, datetime(2000, 1, 1, tzinfo=UTC)),
    ],
    ids=["UTC", "Z", "offset", "local", "word", "number", "nothing"],
)
def test_stamps(stamp: object, expected: datetime) -> None:
    """With an offset as it says, without one as local time, and as the file's where there is none."""
    line = json.dumps({"role": "user", "content": "a", "timestamp": stamp}).encode()
    message = decode(line + b"\n", 0, known_at=datetime(2000, 1, 1, tzinfo=UTC))
    assert isinstance(message, Message)
    assert message.timestamp == expected


def test_times_are_written_in_utc() -> None:
    """Whatever zone they came in."""
    berlin = timezone(timedelta(hours=1))
    assert b'"2026-11-20T12:00:00+00:00"' in encode(Message("user", "a", NOW.astimezone(berlin)))


def test_nanobots_fields() -> None:
    """A header of ours is one of nanobot's, and a compaction carries its summary where nanobot looks for it."""
    state = State("cli:x", NOW, NOW, n=3)
    header = json.loads(encode(Snapshot(state, Opened())))
    assert {"_type", "key", "created_at", "updated_at", "metadata", "last_consolidated"} <= header.keys()
    compact = Compact("earlier talk", 10, 2, "m", "budget")
    line = json.loads(encode(Snapshot(after(state, compact, 99, NOW), compact)))
    assert line["metadata"]["_last_summary"]["text"] == "earlier talk"
    assert line["last_consolidated"] == 2


def test_usage_adds_up() -> None:
    """Kind by kind; all kinds that were read are the prompt."""
    total = Usage(1, 2, 3, 4, 5) + Usage(10, 20, 30, 40, 50)
    assert total == Usage(11, 22, 33, 44, 55)
    assert total.prompt == 110


def test_text_of() -> None:
    """The text blocks, one under the other."""
    assert text_of("a") == "a"
    assert text_of([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]) == "a\nb"


STATE = State("cli:x", NOW, NOW, n=5, pins=(Ref(1, 1), Ref(2, 2)), model="m", system=Ref(3, 3))


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (Opened(), {}),
        (UnknownOp("dance"), {}),
        (SetValue("model", "n"), {"model": "n"}),
        (SetValue("system", "s"), {"system": Ref(77, 5)}),
        (SetValue("system", ""), {"system": None}),
        (SetValue("pin", "p"), {"pins": (Ref(1, 1), Ref(2, 2), Ref(77, 5))}),
        (SetValue("unpin", "1"), {"pins": (Ref(2, 2),)}),
        (SetValue("unpin", "9"), {}),
        (SetValue("unpin", "x"), {}),
        (SetValue("colour", "red"), {}),
        (Reset(), {"pins": (), "last_consolidated": 5}),
        (Rewind(0, 2, "undo", (Ref(1, 1),)), {"pins": (Ref(1, 1),), "last_consolidated": 0}),
        (Compact("s", 10, 3, "m", "r"), {"last_consolidated": 3}),
        (
            TurnEnd("s", "done", usage=Usage(input=7), cost_usd=0.5),
            {"totals": Totals(1, Usage(input=7), 0.5)},
        ),
        (
            Compact("s", 10, 3, "m", "r", usage=Usage(output=7), cost_usd=0.5),
            {"last_consolidated": 3, "totals": Totals(0, Usage(output=7), 0.5)},
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
def test_what_an_event_changes(event: Event, changes: dict[str, Any]) -> None:
    """These fields of the state, and no others."""
    later = NOW + timedelta(hours=1)
    assert after(STATE, event, 77, later) == replace(STATE, updated_at=later, **changes)


def test_long_foreign_values_are_not_repeated() -> None:
    """A snapshot stays short; short ones are handed on."""
    state = replace(STATE, other={"long": "x" * 300, "short": 1})
    assert after(state, Opened(), 0, NOW).other == {"short": 1}


def test_the_last_change_never_goes_back() -> None:
    """Even if the clock does."""
    assert after(STATE, Opened(), 0, NOW - timedelta(days=1)).updated_at == NOW


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "1" * 400], ids=["nan", "inf", "1e400", "400 digits"])
def test_a_number_that_json_has_no_form_for_costs_itself_only(number: str) -> None:
    """Written by careless programs, it neither closes a session to its readers nor to its writers."""
    line = (
        f'{{"_type":"metadata","key":"cli:a","op":"turn","n":2,"cost_usd":{number},"seconds":{number},'
        f'"tools":[["x",{number},true]],"metadata":{{"score":{number},"totals":{{"turns":1,"cost_usd":{number}}}}}}}\n'
    )
    record = decode(line.encode(), 0, known_at=NOW)
    assert isinstance(record, Snapshot)
    assert record.state.totals == Totals(turns=1)
    following = Snapshot(after(record.state, TurnEnd("s", "done"), 100, NOW), TurnEnd("s", "done"))
    assert decode(encode(following), 100, known_at=NOW) is not None
