"""The records of turns and compactions, found among messages: the same that decoding every line would find."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.doors import TurnPoint
from nanochat.errors import StoreError, UnknownSession, WrongFile
from nanochat.keys import SessionKey
from nanochat.lines import encode
from nanochat.records import (
    MAX_LINE_BYTES,
    Compact,
    Message,
    Opened,
    Reset,
    Rewind,
    SetValue,
    Snapshot,
    State,
    TurnEnd,
    Usage,
)
from nanochat.store import Disk, FileStore
from nanochat.store.ends import ends, newest_ends, points, points_of
from nanochat.store.scan import Source, forwards
from nanochat.usage import point
from tests.contracts.store import KEY, NOW, add, say
from tests.store.raw import RawFile

TURN = TurnEnd("telegram:1:2", "done", "m", usage=Usage(1, 2, 3, 4, 5), cost_usd=0.25, seconds=1.5, origin="owner")
COMPACT = Compact("what was said", 0, 0, "small", "budget", 7, Usage(9, 0, 0, 0, 1), 0.125)
STATE = State(str(KEY), NOW, NOW)


def read(data: bytes, block_bytes: int = 64) -> tuple[list[Snapshot], list[TurnPoint], tuple[Snapshot, ...]]:
    """What `ends`, `points` and `newest_ends` make of a file's bytes."""
    source = source_of(data)
    size = len(data)
    return (
        list(ends(source, size, block_bytes=block_bytes)),
        list(points(source, size, block_bytes=block_bytes)),
        newest_ends(source, size, 1000),
    )


def place_free(end: Snapshot) -> str:
    """Of lines that are alike, one reader meets the first and the other the last."""
    return repr(replace(end, start=-1, end=-1))


def source_of(data: bytes) -> Source:
    """An open file with these bytes."""
    disk = Disk(pread=lambda _fd, count, at: data[at : at + count])
    return Source(disk, -1, KEY, NOW)


def plainly(data: bytes) -> list[Snapshot]:
    """The same by decoding every line; of those that are alike, the first."""
    source = source_of(data)
    lines = {line.data: line for line in reversed(list(forwards(source, 0, len(data)))) if line.data}
    records = [source.record(line) for line in sorted(lines.values())]
    return [r for r in records if isinstance(r, Snapshot) and isinstance(r.event, TurnEnd | Compact)]


def both_agree(data: bytes, block_bytes: int = 64) -> list[Snapshot]:
    """All ways find what the plain one does, and that is returned."""
    expected = plainly(data)
    found, pointed, newest = read(data, block_bytes)
    assert found == expected
    assert {place_free(end) for end in newest} == {place_free(end) for end in expected}
    assert pointed == [one for end in expected if (one := point(end)) is not None]
    return expected


# --- through the store -----------------------------------------------------------------------------------------------


async def test_in_the_files_order(store: FileStore) -> None:
    """Turns and compactions, and nothing else, with their offsets."""
    done = await add(store, "a", TURN, SetValue("model", "x"), "b", COMPACT, Reset("new"), replace(TURN, model="other"))
    found = await store.turn_ends(KEY)
    assert [end.event for end in found] == [TURN, COMPACT, replace(TURN, model="other")]
    assert list(found) == [done.records[1], done.records[4], done.records[6]]


async def test_what_was_undone_counts(store: FileStore) -> None:
    """It was paid for."""
    first = await add(store, "a", TURN)
    await add(store, Rewind(first.records[0].start, 0, "undo"), known=first.end)
    assert [end.event for end in await store.turn_ends(KEY)] == [TURN]


async def test_the_newest_ones(store: FileStore) -> None:
    """As many as are asked for, oldest first; fewer where there are no more."""
    models = [replace(TURN, model=f"m{n}") for n in range(5)]
    await add(store, *(draft for model in models for draft in ("hi", model)))
    assert [end.event for end in await store.turn_ends(KEY, most=2)] == models[-2:]
    assert [end.event for end in await store.turn_ends(KEY, most=9)] == models
    assert await store.turn_ends(KEY, most=0) == ()


async def test_no_session(store: FileStore) -> None:
    """It is an error of its own, and nothing is made."""
    with pytest.raises(UnknownSession, match="telegram:12345"):
        await store.turn_ends(KEY)
    assert not store.path_of(KEY).parent.exists()


async def test_a_disk_that_fails(tmp_path: Path) -> None:
    """The error names the session and the reason."""

    def broken(_fd: int, _count: int, _at: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = FileStore(tmp_path / "data" / "sessions", disk=Disk(pread=broken))
    RawFile(store.path_of(KEY)).write(LINE)
    with pytest.raises(StoreError, match=f"telegram:12345.*{os.strerror(errno.EIO)}"):
        await store.turn_ends(KEY)
    await store.close()


def test_the_points_of_a_file(tmp_path: Path) -> None:
    """Oldest first; a restated compaction took nothing and has none."""
    path = tmp_path / "x.jsonl"
    restated = replace(COMPACT, usage=Usage(), cost_usd=None)
    path.write_bytes(b"".join(encode(Snapshot(STATE, event)) for event in (Opened(), TURN, COMPACT, restated)))
    assert list(points_of(path, KEY)) == [
        TurnPoint(NOW, "turn", "m", "owner", Usage(1, 2, 3, 4, 5), 0.25, 1.5),
        TurnPoint(NOW, "compact", "small", "summary", Usage(9, 0, 0, 0, 1), 0.125),
    ]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(lambda path: path.symlink_to("elsewhere"), WrongFile, id="a link"),
        pytest.param(lambda path: path.mkdir(), WrongFile, id="a directory"),
        pytest.param(lambda path: None, StoreError, id="nothing"),
    ],
)
def test_points_of_what_is_no_file(tmp_path: Path, make: Callable[[Path], object], error: type[StoreError]) -> None:
    """It is named, and not read."""
    path = tmp_path / "x.jsonl"
    make(path)
    with pytest.raises(error, match=r"telegram:12345.*x\.jsonl"):
        list(points_of(path, KEY))


# --- other spellings -------------------------------------------------------------------------------------------------


def respelt(**changed: object) -> dict[str, object]:
    """The turn's record as JSON, with other values; None takes a field away."""
    fields: dict[str, object] = json.loads(encode(Snapshot(STATE, TURN))) | changed
    return {name: value for name, value in fields.items() if value is not None}


LINE = encode(Snapshot(STATE, TURN))
OTHER = encode(Snapshot(STATE, replace(TURN, source_id="telegram:1:3")))


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(json.dumps(respelt()).encode(), id="spaced"),
        pytest.param(json.dumps(dict(reversed(respelt().items()))).encode(), id="reversed"),
        pytest.param(LINE.rstrip().replace(b'"metadata",', b'"\\u006detadata",'), id="a letter escaped"),
        pytest.param(
            json.dumps(respelt(metadata=None)).encode().replace(b'"metadata"', b'"\\u006detadata"'), id="only escaped"
        ),
        pytest.param(LINE.rstrip().replace(b'"op":"turn"', b'"\\u006fp":"\\u0074urn"'), id="op escaped"),
        pytest.param(b"  " + LINE.rstrip() + b"\r", id="white space around"),
        pytest.param(json.dumps(respelt(key=None)).encode(), id="no key"),
        pytest.param(json.dumps(respelt(updated_at="2026-11-20T13:00:00+01:00")).encode(), id="another zone"),
        pytest.param(json.dumps(respelt(updated_at="2026-11-20T13:00:00")).encode(), id="no zone"),
        pytest.param(json.dumps(respelt(updated_at=7)).encode(), id="a stamp that is none"),
        pytest.param(json.dumps(respelt(usage=None, cost_usd=None)).encode(), id="nothing used"),
        pytest.param(json.dumps(respelt(usage=[1])).encode(), id="usage that is none"),
        pytest.param(json.dumps(respelt(usage={"input": 1.5, "output": True})).encode(), id="tokens that are none"),
        pytest.param(json.dumps(respelt(cost_usd="much")).encode(), id="a cost that is none"),
        pytest.param(json.dumps(respelt(cost_usd=10**400)).encode(), id="a cost without bounds"),
        pytest.param(json.dumps(respelt(seconds=float("nan"))).encode(), id="not a number"),
        pytest.param(json.dumps(respelt(model="møde"), ensure_ascii=False).encode(), id="not ASCII"),
        pytest.param(json.dumps(respelt(metadata={"x": {"metadata": 1}})).encode(), id="the word twice"),
        pytest.param(LINE.rstrip().replace(b"{", b'{"role":"user","content":"x",', 1), id="begins like a message"),
    ],
)
def test_other_spellings(line: bytes) -> None:
    """A record is found however it is written, alone and among others."""
    assert len(both_agree(line + b"\n")) == 1
    assert len(both_agree(LINE + line + b"\n" + OTHER, block_bytes=1000)) == 3


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(json.dumps(respelt(key="cli:x")).encode(), id="another session's"),
        pytest.param(json.dumps(respelt(_type="note")).encode(), id="another kind"),
        pytest.param(json.dumps(respelt(op="later")).encode(), id="another op"),
        pytest.param(json.dumps(respelt(op=None)).encode(), id="no op"),
        pytest.param(LINE[:-4], id="torn"),
        pytest.param(LINE[:200] + LINE.rstrip(), id="torn and gone on with"),
        pytest.param(LINE.rstrip().replace(b'"m"', b'"\xff"'), id="not UTF-8"),
        pytest.param(LINE.rstrip().replace(b'"done"', b'"\xff"'), id="not UTF-8 where nobody looks"),
        pytest.param(LINE.rstrip().replace(b'"prefix"', b'"\xffprefix"', 1) + b"\xff", id="ends in no UTF-8"),
        pytest.param(b"[" + LINE.rstrip() + b"]", id="in a list"),
        pytest.param(b"", id="blank"),
        pytest.param(b'"metadata"', id="the word alone"),
        pytest.param(encode(say(LINE.decode())).rstrip(), id="quoted in a message"),
    ],
)
def test_what_is_no_record(line: bytes) -> None:
    """A line that only looks like one is left out, and so is what follows the last newline."""
    assert len(both_agree(LINE + line + b"\n" + OTHER)) == 2
    assert len(both_agree(LINE + OTHER[:-1])) == 1


def test_a_mark_at_the_beginning() -> None:
    """What an editor left before the first line does not hide it."""
    assert len(both_agree(b"\xef\xbb\xbf" + LINE)) == 1


def test_what_was_written_once_more() -> None:
    """After a failed sync lines stand in a file twice; they were paid for once."""
    assert len(both_agree(LINE + OTHER + b"    \n\n" + LINE + OTHER)) == 2


def test_a_line_longer_than_one_may_be() -> None:
    """It is left out, and what surrounds it is found."""
    long = LINE.rstrip()[:-1] + b',"x":"' + b"y" * (MAX_LINE_BYTES + (3 << 20)) + b'"}\n'
    assert len(both_agree(LINE + long + OTHER, block_bytes=1 << 20)) == 2
    assert len(both_agree(long + LINE, block_bytes=1 << 25)) == 1


KEYS = st.sampled_from((str(KEY), "", "cli:x"))
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
STATES = st.builds(State, KEYS, TIMES, TIMES, st.integers(0, 9))
COUNTS = st.integers(0, 1 << 70)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
MONEY = st.none() | st.floats(0, 1e6).map(lambda usd: round(usd, 8))
WORDS = st.text(max_size=8) | st.sampled_from(("owner", '"metadata"', "\\u0061", "\x7f", "\x1b"))
EVENTS = st.one_of(
    st.just(Opened()),
    st.builds(SetValue, st.just("system"), WORDS),
    st.builds(TurnEnd, WORDS, WORDS, WORDS, usage=USAGES, cost_usd=MONEY, origin=WORDS),
    st.builds(Compact, WORDS, COUNTS, COUNTS, WORDS, WORDS, usage=st.just(Usage()) | USAGES, cost_usd=MONEY),
)
MESSAGES = st.builds(Message, st.just("user"), WORDS, TIMES, extra=st.dictionaries(st.just("metadata"), WORDS))
WRITTEN = st.one_of(st.builds(Snapshot, STATES, EVENTS), MESSAGES).map(encode)
REWRITTEN = WRITTEN.flatmap(
    lambda line: st.builds(
        lambda spaced, ascii_only: (
            json.dumps(
                json.loads(line), separators=(", ", ": ") if spaced else (",", ":"), ensure_ascii=ascii_only
            ).encode()
            + b"\n"
        ),
        st.booleans(),
        st.booleans(),
    )
)
DAMAGED = st.builds(
    lambda line, at, byte: line[: at % len(line)] + byte + line[at % len(line) + 1 :],
    WRITTEN,
    st.integers(0, 2000),
    st.sampled_from((b"", b"\n", b'"', b"\\", b"{", b"}", b"\x00", b"\xc3", b"0", b",")),
)
FILES = st.lists(WRITTEN | REWRITTEN | DAMAGED, max_size=8).map(b"".join)


@given(FILES, st.integers(1, 3000))
def test_the_same_as_decoding_every_line(data: bytes, block_bytes: int) -> None:
    """Whatever a file holds, wherever blocks part it."""
    both_agree(data, block_bytes)


async def test_messages_cost_little(store: FileStore, file: RawFile) -> None:
    """They are passed over at the pace of a search, not of a reader of JSON."""
    await add(store, "a", TURN)
    file.add(encode(Message("user", "word " * 400, NOW, n=1)) * 20_000)
    await add(store, TURN, now=NOW + timedelta(hours=1))
    before = time.process_time()
    assert len(await store.turn_ends(KEY)) == 2
    seconds = time.process_time() - before
    assert seconds < 10.0  # 40 MB: about 0.04; only a change of kind should fail here, not a slow day


async def test_another_session_of_the_same_directory(store: FileStore) -> None:
    """Each has its own."""
    other = SessionKey("cli", "x")
    await add(store, "a", TURN)
    await store.append(other, [say("b"), replace(TURN, model="x")], known=0, durable=False, now=NOW)
    assert [end.event for end in await store.turn_ends(other)] == [replace(TURN, model="x")]
