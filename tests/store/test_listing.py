"""Sessions at a glance, and what is wrong with them line by line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.errors import StoreError
from nanochat.keys import SessionKey
from nanochat.lines import encode, state_of
from nanochat.records import Compact, Message, Opened, Ref, Rewind, Snapshot, State, Totals, TurnEnd, Usage
from nanochat.store import Damage, Disk, FileStore
from nanochat.store.listing import list_sessions, state_at_a_glance
from tests.contracts.store import KEY, NOW, add, say, view
from tests.store.raw import RawFile


async def test_newest_first(store: FileStore, file: RawFile) -> None:
    """The order is that of the last change, and sizes are the files'."""
    await add(store, "a")
    other = SessionKey("cli", "x")
    await store.append(other, [say("b")], known=0, durable=False, now=NOW)
    os.utime(file.path, (1, 1))
    briefs = await store.list()
    assert [brief.key for brief in briefs] == [other, KEY]
    assert briefs[1].size_bytes == file.status.st_size
    assert briefs[1].modified_at.timestamp() == 1


async def test_a_long_last_message(store: FileStore) -> None:
    """One that is longer than the first read is shown all the same, cut short."""
    await add(store, "older", TurnEnd("s", "done", model="m"), "x" * 100_000)
    (brief,) = await store.list()
    assert brief.preview == "x" * 119 + "…"
    assert brief.state.totals.turns == 1


async def test_what_was_delivered_last(store: FileStore) -> None:
    """Its words, without the frame that they stand in for the model."""
    framed = '<delivered from="cron:tea">\nThe tea is ready.\nDrink it.\n</delivered>'
    await add(store, Message("user", framed, NOW, delivered=True), TurnEnd("s", "done"))
    (brief,) = await store.list()
    assert brief.preview == "The tea is ready."


async def test_a_long_row_of_messages(store: FileStore, file: RawFile) -> None:
    """Where no snapshot is near, the header's state is shown."""
    await add(store, "a")
    file.add(b'{"role":"user","content":"' + b"y" * 1000 + b'"}\n' * 1)
    file.add((b'{"role":"user","content":"' + b"z" * 1000 + b'"}\n') * 2000)
    (brief,) = await store.list()
    assert brief.state.created_at == NOW
    assert brief.preview.startswith("zz")


async def test_what_is_left_out(store: FileStore, file: RawFile) -> None:
    """Files that are no sessions, empty ones, hidden ones, and such as tell no key."""
    await add(store, "a")
    for name in ("notes.jsonl", "x.txt", ".hidden.jsonl", "telegram+1.torn", "cli+x.checkpoint.json"):
        RawFile(file.path.parent / name).write(b"hello\n")
    RawFile(file.path.parent / "cli+empty.jsonl").write(b"")
    assert [brief.key for brief in await store.list()] == [KEY]


async def test_five_thousand_sessions(tmp_path: Path) -> None:
    """All of them; how long that takes, the benchmark tells."""
    store = FileStore(tmp_path / "one" / "sessions")
    turn = TurnEnd("s", "done", "m", usage=Usage(1, 2, 3, 4, 5), cost_usd=0.1)
    await add(store, "x" * 500, say("y" * 500, "assistant"), turn)
    data = RawFile(store.path_of(KEY)).data
    await store.close()
    folder = tmp_path / "data" / "sessions"
    os.makedirs(folder)
    for i in range(5000):
        RawFile(folder / f"telegram+{i}.jsonl").write(data.replace(b"telegram:12345", b"telegram:%d" % i))
    assert len({brief.key for brief in list_sessions(Disk(), folder)}) == 5000


# --- the short way and the plain one ---------------------------------------------------------------------------------

STATE = State(str(KEY), NOW, NOW, 4, 2, model="m", totals=Totals(3, Usage(1, 2, 3, 4, 5), 0.25))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
NUMBERS = st.integers(-3, 9) | st.integers() | st.floats() | JSON
STAMPS = st.sampled_from(
    ("2026-11-20T12:00:00+00:00", "2026-11-20T12:00:00.5+00:00", "2026-11-20T13:00+01:00", "2026-11-20T13:00", "noon")
)
PLAIN = json.loads(encode(Snapshot(STATE, Opened())))
FIELDS = {
    "_type": st.just("note") | JSON,
    "key": JSON,
    "created_at": STAMPS | JSON,
    "updated_at": STAMPS | JSON,
    "last_consolidated": NUMBERS,
    "v": NUMBERS,
    "n": NUMBERS,
    "op": st.just("compact") | JSON,
    "x": JSON,
    "metadata": JSON,
}
METADATA = {
    "model": JSON,
    "totals": JSON,
    "system": st.fixed_dictionaries({"at": NUMBERS, "n": NUMBERS}) | JSON,
    "pins": JSON,
    "_last_summary": JSON,
}
TOTALS = {
    **dict.fromkeys(("turns", "input", "cache_read", "cache_write", "cache_write_1h", "output", "cost_usd"), NUMBERS),
    "x": JSON,
}


def changed(
    fields: Mapping[str, object], values: Mapping[str, st.SearchStrategy[object]]
) -> st.SearchStrategy[dict[str, object]]:
    """The fields with one of them changed, or another one beside them."""
    one = st.sampled_from(sorted(values)).flatmap(lambda name: st.tuples(st.just(name), values[name]))
    return one.map(lambda pair: {**fields, pair[0]: pair[1]})


RESPELT = st.one_of(
    changed(PLAIN, FIELDS),
    changed(PLAIN["metadata"], METADATA).map(lambda metadata: {**PLAIN, "metadata": metadata}),
    changed(PLAIN["metadata"]["totals"], TOTALS).map(
        lambda totals: {**PLAIN, "metadata": {"model": "m", "totals": totals}}
    ),
)
LINES = st.builds(lambda fields, ascii_only: json.dumps(fields, ensure_ascii=ascii_only), RESPELT, st.booleans()).map(
    lambda text: text.encode(errors="surrogatepass") + b"\n"
)
WRITTEN = st.builds(
    lambda model, usd, turns: encode(
        Snapshot(replace(STATE, model=model, totals=Totals(turns, Usage(turns), usd)), TurnEnd("s", "done"))
    ),
    st.sampled_from(("", "m", "é")),
    st.floats(0, 1e6),
    st.integers(0, 1 << 70),
)
DAMAGED = st.builds(
    lambda line, at, byte: line[: at % len(line)] + byte + line[at % len(line) + 1 :],
    WRITTEN,
    st.integers(0, 1000),
    st.sampled_from((b"", b"\n", b'"', b"\\", b"{", b"}", b"\x00", b"\xc3", b"0", b",", b"-", b".")),
)


def agree(line: bytes) -> None:
    """Where the short way says something, it is what the plain one says."""
    short = state_at_a_glance(line)
    assert short is None or short == state_of(line, 7, known_at=datetime(2000, 1, 1, tzinfo=UTC))


@given(LINES | WRITTEN | DAMAGED)
def test_a_state_at_a_glance(line: bytes) -> None:
    """The short way never says anything else than the plain one."""
    agree(line)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"_type": "note"}, id="another kind"),
        pytest.param({"n": -1}, id="fewer than no messages"),
        pytest.param({"last_consolidated": -1}, id="fewer than none left out"),
        pytest.param({"v": True}, id="a version that is none"),
        pytest.param({"created_at": "2026-11-20T13:00:00"}, id="begun in no zone"),
        pytest.param({"updated_at": "2026-11-20T13:00:00"}, id="changed in no zone"),
        pytest.param({"updated_at": 7}, id="a stamp that is none"),
        pytest.param({"metadata": {"totals": {"turns": 1.0, "cost_usd": 1}}}, id="turns that are none"),
        pytest.param({"metadata": {"totals": {"cost_usd": 10**400}}}, id="a cost without bounds"),
        pytest.param({"metadata": None}, id="no metadata"),
    ],
)
def test_other_spellings_of_a_state(other: dict[str, object]) -> None:
    """Nor where a program or a hand wrote what we do not."""
    agree(json.dumps(PLAIN | other).encode() + b"\n")


@pytest.mark.parametrize(
    ("state", "is_short"),
    [
        pytest.param(STATE, True, id="as most are"),
        pytest.param(State(str(KEY), NOW, NOW), True, id="with nothing in it"),
        pytest.param(replace(STATE, system=Ref(7, 1)), False, id="a system text"),
        pytest.param(replace(STATE, pins=(Ref(7, 1),)), False, id="pins"),
        pytest.param(replace(STATE, other={"x": 1}), False, id="another program's"),
        pytest.param(replace(STATE, model="é"), False, id="not ASCII"),
    ],
)
def test_which_states_are_told_at_a_glance(state: State, is_short: bool) -> None:
    """Those of most sessions; no other is told wrong."""
    for event in (Opened(), TurnEnd("s", "done")):
        assert state_at_a_glance(encode(Snapshot(state, event))) == (state if is_short else None)


async def test_a_whole_file_has_no_damage(store: FileStore) -> None:
    """Nothing is reported of a file that went through everything."""
    first = await add(store, "a", "b", "c")
    second = await add(store, Compact("s", first.records[1].start, 1, "t", "r"), known=first.end)
    await add(store, Rewind(first.records[2].start, 2, "undo"), "d", known=second.end)
    assert await store.check(KEY) == ()


async def test_damage_is_told_line_by_line(store: FileStore, file: RawFile) -> None:
    """With the line's number, its first byte, and why."""
    first = await add(store, "a")
    size = first.end
    file.add(b"{broken\n")
    file.add(b'{"role":"user","content":"\xff"}\n')
    file.add(b'{"role":"user","content":"x","_n":7}\n')
    await add(store, Rewind(5, 99, "hostile"))
    file.add(b'{"to')
    damage = await store.check(KEY)
    assert damage[:2] == (Damage(3, size, "is not JSON"), Damage(4, size + 8, "is not UTF-8"))
    assert [found.line for found in damage] == [3, 4, 5, 6, 7]
    assert [found.why.split(",")[0] for found in damage[2:]] == [
        "is message 7",
        "goes back to byte 5",
        "is not finished (4 bytes); the next append mends it",
    ]


async def test_damage_of_the_beginning(store: FileStore, file: RawFile) -> None:
    """A header that is missing, or another session's, or too new."""
    await add(store, "a")
    header, line = file.data.splitlines(keepends=True)
    file.write(line)
    assert [(found.line, found.why) for found in await store.check(KEY)] == [(1, "is not a header")]
    file.write(header.replace(b"telegram:12345", b"cli:x") + line)
    assert [found.why for found in await store.check(KEY)] == ["belongs to session cli:x"]
    file.write(header.replace(b'"v":1', b'"v":9') + line)
    assert "format 9" in (await store.check(KEY))[0].why


async def test_an_enormous_line_is_damage(store: FileStore, file: RawFile) -> None:
    """It is named and not read."""
    await add(store, "a")
    file.add(b"x" * 20_000_000 + b"\n")
    assert [(found.line, found.why) for found in await store.check(KEY)] == [(3, "is longer than a line may be")]
    assert (await view(store)).unreadable == 1


async def test_checking_what_is_not_there(store: FileStore) -> None:
    """It is an error that names the session."""
    with pytest.raises(StoreError, match="telegram:12345"):
        await store.check(KEY)
