"""A follower, be it `tail -f` or ours, shows every line once, whatever happens to the conversation."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.doors import Line
from nanochat.errors import NotWritten, StoreError, WrongFile
from nanochat.keys import SessionKey
from nanochat.records import MAX_LINE_BYTES, Compact, Message, Opened, Reset, Rewind, Snapshot, TurnEnd
from nanochat.store import Disk, FileStore
from nanochat.store.follow import Follower
from nanochat.store.follow_all import MAX_HELD
from nanochat.store.names import nanobot_stems
from tests.contracts.store import KEY, NOW, add, say
from tests.fakes.disk import FaultyDisk
from tests.store.raw import RawFile

_T = TypeVar("_T")


@pytest.mark.skipif(shutil.which("tail") is None, reason="needs tail")
async def test_tail_shows_each_line_once(store: FileStore, file: RawFile) -> None:
    """Through undo, reset, compaction and the repair of a torn line, with no replay and no complaint."""
    first = await add(store, "m0", say("m1", "assistant"))
    process = await asyncio.create_subprocess_exec(
        "tail",
        "-n",
        "+1",
        "--sleep-interval=0.05",
        "-f",
        str(file.path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    shown = [await process.stdout.readline() for _ in range(3)]
    await add(store, "m2", TurnEnd("s", "done"), known=first.end)
    await add(store, Rewind(first.end, 2, "undo"), "m3")
    await add(store, Compact("summary", first.records[1].start, 1, "test", "budget"), "m4")
    file.add(b'{"role":"user","content":"tor')
    while not shown[-1].endswith(b"m4" + b'","timestamp":"2026-11-20T12:00:00+00:00","_n":4}\n'):
        shown.append(await process.stdout.readline())
    await add(store, Reset(), "m5")
    while b'"m5"' not in shown[-1]:
        shown.append(await process.stdout.readline())
    process.kill()
    shown.append(await process.stdout.read())
    assert await process.stderr.read() == b""
    await process.wait()
    lines = [json.loads(line) for line in shown if _is_whole(line)]
    assert [line["content"] for line in lines if "role" in line] == [f"m{i}" for i in range(6)]
    assert [line["op"] for line in lines if "op" in line] == ["open", "turn", "rewind", "compact", "reset"]
    assert (await store.check(KEY)) == ()


def _is_whole(line: bytes) -> bool:
    """As `jq -R 'fromjson?'` would have it."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


# --- ours ----------------------------------------------------------------------------------------------------------------


def _whole(data: bytes) -> list[bytes]:
    """The lines that a follower tells of a file which was only appended to."""
    lines = data.split(b"\n")[:-1]
    return [line for line in lines if line and not line.isspace()]


def _follower(file: RawFile, start: int | None = 0) -> Follower:
    return Follower(Disk(), file.path.parent, KEY, start)


async def _told(follower: Follower) -> list[Line]:
    """All that there is to tell now, without waiting for a look."""
    lines = []
    while follower.has_changed():
        lines += await follower.news()
    return lines


async def _texts(follower: Follower) -> list[str]:
    return [str(line.record.content) for line in await _told(follower) if isinstance(line.record, Message)]


async def _soon(lines: AsyncIterator[_T], count: int) -> list[_T]:
    """The next ones, which come within a look or two."""
    async with asyncio.timeout(20):
        return [await anext(lines) for _ in range(count)]


async def test_lines_as_they_stand(store: FileStore, file: RawFile) -> None:
    """From byte 0: text, record and place of every line, in order."""
    await add(store, "hä", say("1", "assistant"), TurnEnd("s", "done"))
    async with aclosing(store.follow(KEY, 0)) as lines:
        told = await _soon(lines, 4)
    assert [line.text.encode() for line in told] == _whole(file.data)
    assert [(line.start, line.end) for line in told] == [
        (line.record.start, line.record.end) for line in told if line.record
    ]
    assert [file.data[line.start : line.end] for line in told] == [line.text.encode() + b"\n" for line in told]
    assert {line.key for line in told} == {KEY}


async def test_from_now_on(store: FileStore) -> None:
    """What was appended before the call is not told, what comes between the call and the first look is."""
    await add(store, "old")
    lines = store.follow(KEY, None)
    done = await add(store, "new")
    async with aclosing(lines):
        (line,) = await _soon(lines, 1)
        assert line.record == done.records[0]
        again = await add(store, "newer")
        (line,) = await _soon(lines, 1)
        assert line.record == again.records[0]


@pytest.mark.parametrize("start", [0, None, 7], ids=["all", "now", "a byte"])
async def test_a_session_that_begins_later(store: FileStore, start: int | None) -> None:
    """It is waited for, and told from its first line."""
    async with aclosing(store.follow(KEY, start)) as lines:
        first = asyncio.ensure_future(_soon(lines, 2))
        await asyncio.sleep(0)
        await add(store, "a")
        header, message = await first
    assert isinstance(header.record, Snapshot)
    assert message.record is not None
    assert message.start == header.end


async def test_from_every_byte(store: FileStore, file: RawFile) -> None:
    """The lines that begin there or later; where the file is shorter by now, it is another one, and told whole."""
    await add(store, "a", "b", say("c", "assistant"))
    data = file.data
    for start in range(len(data) + 3):
        follower = _follower(file, start)
        told = await _told(follower)
        follower.let_go()
        begin = 0 if start > len(data) else start
        assert [line.start for line in told] == [
            at for at in range(len(data)) if at >= begin and (at == 0 or data[at - 1 : at] == b"\n")
        ], start


async def test_a_line_is_told_when_it_ends(file: RawFile) -> None:
    """However slowly it is written: cut at every byte, nothing is told before its newline."""
    line = b'{"role":"user","content":"h\xc3\xa4"}\n'
    follower = _follower(file)
    file.write(b"")
    for at in range(len(line)):
        assert await _told(follower) == []
        file.add(line[at : at + 1])
    assert await _texts(follower) == ["hä"]
    follower.let_go()


async def test_from_now_on_beside_a_line_under_way(file: RawFile) -> None:
    """The line that was not finished when following began is told whole."""
    file.write(b'{"role":"user","content":"a"}\n{"role":"user",')
    follower = _follower(file, None)
    file.add(b'"content":"b"}\n')
    assert await _texts(follower) == ["b"]
    follower.let_go()


@pytest.mark.parametrize("cut", [1, 20, 60], ids=lambda cut: f"after {cut} bytes")
async def test_a_torn_line_that_is_mended(store: FileStore, file: RawFile, cut: int) -> None:
    """The fragment, seen and then blanked, is never told; what follows is, once."""
    await add(store, "a")
    follower = _follower(file)
    assert await _texts(follower) == ["a"]
    file.add(b'{"role":"user","content":"torn torn torn torn torn torn torn torn"'[:cut])
    assert await _told(follower) == []
    await add(store, "b")
    assert await _texts(follower) == ["b"]
    follower.let_go()


async def test_a_whole_line_that_lacked_its_newline(store: FileStore, file: RawFile) -> None:
    """It is told once the next append gives it one."""
    await add(store, "a")
    follower = _follower(file)
    file.add(b'{"role":"user","content":"b"}')
    assert await _texts(follower) == ["a"]
    await add(store, "c")
    assert await _texts(follower) == ["b", "c"]
    follower.let_go()


@pytest.mark.parametrize("room", [10, 100, 250], ids=lambda room: f"room for {room}")
async def test_lines_that_are_taken_back(tmp_path: Path, file: RawFile, room: int) -> None:
    """A full disk: a follower that was quick enough to see a line which is blanked again goes on behind the blanks."""
    disk = FaultyDisk()
    store = FileStore(file.path.parent, disk=disk.disk)
    first = await add(store, "a")
    follower = _follower(file)
    assert await _texts(follower) == ["a"]
    before = file.data
    disk.fill(room, errno.ENOSPC)
    with pytest.raises(NotWritten):
        await add(store, "b", "c" * 500, known=first.end)
    blanked = file.data
    file.write(before + b'{"role":"user","content":"b","timestamp":"2026-11-20T12:00:00+00:00","_n":1}\n')
    assert await _texts(follower) == ["b"]
    file.write(blanked if len(blanked) > len(file.data) else blanked[:-1].ljust(len(file.data) - 1) + b"\n")
    assert await _told(follower) == []
    await add(store, "b", "c")
    assert await _texts(follower) == ["b", "c"]
    follower.let_go()
    await store.close()


async def test_what_cannot_be_read(file: RawFile) -> None:
    """A line that is not ours, or not JSON, is told as it stands, without a record; its neighbours are not hurt."""
    file.write(
        b'{"role":"user","content":"a"}\n{nonsense\n\xff\xfe\n[1]\n\n   \n{"_type":"other"}\n'
        b'{"_type":"metadata","key":"telegram:999"}\n{"role":"user","content":"b"}\n'
    )
    follower = _follower(file)
    told = await _told(follower)
    follower.let_go()
    assert [line.text for line in told] == [
        '{"role":"user","content":"a"}',
        "{nonsense",
        "\ufffd\ufffd",
        "[1]",
        '{"_type":"other"}',
        '{"_type":"metadata","key":"telegram:999"}',
        '{"role":"user","content":"b"}',
    ]
    assert [line.record is None for line in told] == [False, True, True, True, True, True, False]


async def test_a_file_in_the_place_of_another(store: FileStore, file: RawFile) -> None:
    """Edited by a program that writes a new file: it is told from its first byte on."""
    await add(store, "a", "b")
    follower = _follower(file)
    assert await _texts(follower) == ["a", "b"]
    edited = file.path.with_name("edited")
    edited.write_bytes(file.data.replace(b'"a"', b'"A"'))
    edited.replace(file.path)
    assert await _texts(follower) == ["A", "b"]
    follower.let_go()


@pytest.mark.parametrize(
    ("old", "new"), [(b'"a"', b'""'), (b'"a"', b'"aaaa"')], ids=["a shorter text", "a longer text"]
)
async def test_a_file_edited_in_place(store: FileStore, file: RawFile, old: bytes, new: bytes) -> None:
    """Whether it is shorter or longer then, what was told stands elsewhere: it is told from its first byte on."""
    await add(store, "a", "b")
    follower = _follower(file)
    assert len(await _told(follower)) == 3
    file.replace(old, new)
    assert len(await _told(follower)) == 3
    await add(store, "c")
    assert await _texts(follower) == ["c"]
    follower.let_go()


async def test_a_session_that_is_put_away(store: FileStore, file: RawFile) -> None:
    """Its last lines are told although the file has gone meanwhile, and then those of the new one."""
    await add(store, "a")
    follower = _follower(file)
    assert await _texts(follower) == ["a"]
    await add(store, "b")
    await store.archive(KEY, at=NOW, reason="asked")
    await add(store, "c")
    told = await _told(follower)
    assert [line.record.content for line in told if isinstance(line.record, Message)] == ["b", "c"]
    assert [line.start for line in told][1] == 0
    await store.remove(KEY)
    assert await _told(follower) == []
    await add(store, "d")
    assert await _texts(follower) == ["d"]
    follower.let_go()


async def test_a_long_line(file: RawFile) -> None:
    """As long as a line may be it is told; one byte more, and it is an empty one, with its place."""
    frame = len(b'{"role":"user","content":""}\n')
    longest = b'{"role":"user","content":"' + b"x" * (MAX_LINE_BYTES - frame) + b'"}\n'
    for line, is_told in ((longest, True), (longest[:30] + b"x" + longest[30:], False), (b"y" * (20 << 20), False)):
        file.write(b'{"role":"user","content":"a"}\n' + line)
        follower = _follower(file)
        told = await _told(follower)
        if line.endswith(b"\n"):
            assert [bool(each.text) for each in told] == [True, is_told]
            assert told[1].end == len(file.data)
        file.add(b"\n" if line[-1:] != b"\n" else b"")
        file.add(b'{"role":"user","content":"b"}\n')
        told += await _told(follower)
        assert [each.end - each.start for each in told] == [30, len(line.rstrip(b"\n")) + 1, 30]
        assert told[2].record is not None
        follower.let_go()


async def test_a_long_file_comes_in_parts(file: RawFile) -> None:
    """Memory is bounded: no part is much more than a block."""
    line = b'{"role":"user","content":"' + b"x" * 970 + b'"}\n'
    file.write(line * 5000)
    follower = _follower(file)
    counts = []
    while follower.has_changed():
        counts.append(len(await follower.news()))
    assert sum(counts) == 5000
    assert max(counts) * len(line) <= 256 * 1024
    follower.let_go()


async def test_a_link_in_its_place(store: FileStore, file: RawFile, tmp_path: Path) -> None:
    """It is refused, as everywhere."""
    file.path.parent.mkdir(parents=True)
    file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WrongFile):
        await _soon(store.follow(KEY, 0), 1)


async def test_nanobots_file(store: FileStore, file: RawFile) -> None:
    """It is followed where it lies; once there is one of ours, that one."""
    theirs = RawFile(file.path.with_name(f"{nanobot_stems(KEY)[0]}.jsonl"))
    theirs.write(b'{"role":"user","content":"a"}\n')
    follower = _follower(file)
    assert await _texts(follower) == ["a"]
    theirs.add(b'{"role":"user","content":"b"}\n')
    assert await _texts(follower) == ["b"]
    file.write(b'{"role":"user","content":"c"}\n')
    assert await _texts(follower) == ["c"]
    follower.let_go()


ACTS = st.lists(st.sampled_from(["say", "rewind", "reset", "tear", "look", "blank", "foreign"]), max_size=12)


@settings(max_examples=25, deadline=None)
@given(ACTS)
def test_whatever_is_appended(acts: list[str]) -> None:
    """Looked at whenever, a follower has told in the end just the lines that the file has, in order and each once."""

    async def live() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            store = FileStore(Path(scratch) / "sessions", durability="off")
            file = RawFile(Path(scratch) / "sessions" / "telegram+12345.jsonl")
            follower = _follower(file)
            told: list[Line] = []
            for i, act in enumerate(acts):
                match act:
                    case "say":
                        await add(store, f"q{i}", say(f"a{i}", "assistant"), TurnEnd("s", "done"))
                    case "rewind":
                        await add(store, Rewind(0, 0, "undo"))
                    case "reset":
                        await add(store, Reset())
                    case "look":
                        told += await _told(follower)
                    case _:
                        file.path.parent.mkdir(exist_ok=True)
                        file.add({"tear": b'{"torn', "blank": b"\n  \n", "foreign": b"[1]\n"}[act])
            await add(store, "last")
            told += await _told(follower)
            follower.let_go()
            assert [line.text.encode() for line in told] == _whole(file.data)
            await store.close()

    asyncio.run(live())


# --- of many sessions ------------------------------------------------------------------------------------------------------


OTHER = SessionKey("cli", "other")


def _never(error: StoreError) -> None:
    raise error


async def _add_to(store: FileStore, key: SessionKey, text: str) -> None:
    await store.append(key, [say(text)], known=0, durable=False, now=NOW)


async def test_all_sessions(store: FileStore, file: RawFile) -> None:
    """From their starts; those that begin later from their first line; and those that are not wanted never."""
    await _add_to(store, KEY, "old")
    await _add_to(store, OTHER, "old")
    lines = store.follow_all(lambda key: key.chat_id != "unwanted", {KEY: len(file.data), OTHER: 0}, _never)
    async with aclosing(lines):
        told = await _soon(lines, 2)
        assert [line.key for line in told] == [OTHER, OTHER]
        await _add_to(store, KEY, "new")
        (line,) = await _soon(lines, 1)
        assert isinstance(line.record, Message)
        assert (line.key, line.record.content) == (KEY, "new")
        await _add_to(store, SessionKey("cli", "unwanted"), "x")
        await _add_to(store, SessionKey("http", "x" * 300), "later")
        header, message = await _soon(lines, 2)
        assert isinstance(header.record, Snapshot)
        assert header.record.event == Opened()
        assert isinstance(message.record, Message)
        assert message.record.content == "later"


async def test_all_sessions_of_no_directory(store: FileStore, file: RawFile) -> None:
    """The first session of all is waited for as well, also one of nanobot's in a workspace."""
    lines = store.follow_all(lambda _: True, {}, _never)
    async with aclosing(lines):
        first = asyncio.ensure_future(_soon(lines, 2))
        await asyncio.sleep(0)
        await _add_to(store, KEY, "a")
        assert [line.key for line in await first] == [KEY, KEY]
        theirs = file.path.parent / ("0" * 32) / f"{nanobot_stems(OTHER)[0]}.jsonl"
        RawFile(theirs).write(b'{"role":"user","content":"b"}\n')
        (line,) = await _soon(lines, 1)
        assert line.key == OTHER


async def test_one_of_all_is_put_away(store: FileStore) -> None:
    """It is told to its end, forgotten, and told from its beginning when it begins again."""
    await _add_to(store, KEY, "a")
    lines = store.follow_all(lambda _: True, {}, _never)
    async with aclosing(lines):
        await _soon(lines, 2)
        await _add_to(store, KEY, "b")
        await store.archive(KEY, at=NOW, reason="asked")
        (line,) = await _soon(lines, 1)
        assert isinstance(line.record, Message)
        assert line.record.content == "b"
        await _add_to(store, OTHER, "meanwhile")
        await _soon(lines, 2)
        await _add_to(store, KEY, "c")
        told = await _soon(lines, 2)
        assert (told[0].key, told[0].start) == (KEY, 0)


async def test_one_of_all_cannot_be_read(store: FileStore, file: RawFile) -> None:
    """It is complained of once, and the others are told."""
    file.path.parent.mkdir(parents=True)
    os.mkfifo(file.path)
    errors: list[StoreError] = []
    lines = store.follow_all(lambda _: True, {}, errors.append)
    async with aclosing(lines):
        for i in range(3):
            await _add_to(store, OTHER, f"{i}")
            await _soon(lines, 2 if i == 0 else 1)
    assert [type(error) for error in errors] == [WrongFile]


async def test_descriptors_are_bounded(store: FileStore) -> None:
    """However many sessions change: only those that changed last are held open."""
    keys = [SessionKey("cli", f"s{i}") for i in range(MAX_HELD + 20)]
    for key in keys:
        await _add_to(store, key, "a")
    await store.close()
    before = len(os.listdir("/dev/fd"))
    lines = store.follow_all(lambda _: True, {}, _never)
    async with aclosing(lines):
        told = await _soon(lines, 2 * len(keys))
        assert {line.key for line in told} == {*keys}
        assert len(os.listdir("/dev/fd")) - before <= MAX_HELD + 8  # the loop's own, and the pool's
    assert len(os.listdir("/dev/fd")) - before <= 8


# --- where a file ends -----------------------------------------------------------------------------------------------------


def _is_message(line: Line) -> bool:
    return isinstance(line.record, Message)


async def test_the_last_lines(store: FileStore, file: RawFile) -> None:
    """So many that enough of them count, in the file's order, and where to follow from."""
    await add(store, "a", say("b", "assistant"), TurnEnd("s", "done"), "c", TurnEnd("s", "done"))
    file.add(b'{"torn')
    last = await store.last_lines(KEY, 2, _is_message)
    assert last is not None
    kinds = ["message" if _is_message(line) else "snapshot" for line in last.lines]
    assert kinds == ["message", "snapshot", "message", "snapshot"]
    assert last.end == file.data.rfind(b"\n") + 1
    nothing = await store.last_lines(KEY, 0, _is_message)
    assert nothing is not None
    assert (nothing.lines, nothing.end) == ((), last.end)
    assert await store.last_lines(OTHER, 2, _is_message) is None


async def test_the_last_lines_know_what_was_taken_back(store: FileStore) -> None:
    """An undo, an undo of a reset, and an undo in what was undone: marked is what is not live."""
    first = await add(store, "a", say("A", "assistant"))
    second = await add(store, "b", say("B", "assistant"), known=first.end)
    undo = await add(store, Rewind(second.records[0].start, 2, "undo"), known=second.end)
    third = await add(store, "c", Reset(), "d", known=undo.end)
    await add(store, Rewind(third.records[1].start, 5, "undo"), "e", known=third.end)
    last = await store.last_lines(KEY, 100, _is_message)
    assert last is not None
    undone = [line for line in last.lines if line.start in last.undone]
    assert [line.record.content for line in undone if isinstance(line.record, Message)] == ["b", "B", "d"]
    assert [type(line.record.event) for line in undone if isinstance(line.record, Snapshot)] == [Reset]
