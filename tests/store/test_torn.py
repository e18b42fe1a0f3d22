"""What is left of a file after a crash, a full disk or a careless hand: the rest of it lives on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanochat.records import Message, TurnEnd
from nanochat.store import FileStore
from tests.contracts.store import KEY, NOW, add, said, say, view
from tests.store.raw import RawFile


async def _lines(tmp_path: Path) -> bytes:
    """A file of a header, two exchanges and their turns."""
    store = FileStore(tmp_path / "whole" / "sessions")
    first = await add(store, "hä", say("1", "assistant"), TurnEnd("s1", "done"))
    await add(store, "b", say("2", "assistant"), TurnEnd("s2", "done"), known=first.end)
    await store.close()
    return RawFile(tmp_path / "whole" / "sessions" / "telegram+12345.jsonl").data


def _kept(data: bytes) -> list[str]:
    lines = [json.loads(line) for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
    return [line["content"] for line in lines if "role" in line]


async def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Wherever a crash cuts the file, whole lines live, the torn one is whole or absent, and appending goes on after it."""
    data = await _lines(tmp_path)
    store = FileStore(tmp_path / "data" / "sessions", durability="off")
    file = RawFile(tmp_path / "data" / "sessions" / "telegram+12345.jsonl")
    for cut in range(len(data)):
        file.remove()
        file.write(data[:cut])
        kept = _kept(data[:cut])
        before = await store.read(KEY, exchanges=100, limit_bytes=1 << 30)
        assert (said(before) if before else []) == kept, cut
        # All that a line lacks may be its newline.
        kept = _kept(data[: cut + 1])
        await add(store, "again", say("3", "assistant"), TurnEnd("s3", "done"))
        after = await view(store)
        assert said(after) == [*kept, "again", "3"], cut
        numbers = [record.n for record in after.records if isinstance(record, Message)]
        assert numbers == list(range(len(kept) + 2)), cut
        assert after.unreadable == 0, cut
        assert after.state.n == len(kept) + 2, cut
        fragment = data[data.rfind(b"\n", 0, cut) + 1 : cut]
        is_torn = bool(fragment) and data[cut : cut + 1] != b"\n"
        assert file.torn == (fragment + b"\n" if is_torn else b""), cut
    await store.close()


async def test_a_torn_header_is_rewritten(store: FileStore, file: RawFile) -> None:
    """A file of which not even the first line is whole is an empty session, and the next append gives it a header."""
    file.write(b'{"_type":"metadata","key":"tele')
    assert await store.read(KEY, exchanges=1, limit_bytes=1) is None
    await add(store, "a")
    lines = file.lines()
    assert [line.get("op", "message") for line in lines] == ["open", "message"]
    assert said(await view(store)) == ["a"]


async def test_the_file_never_gets_shorter_nor_another(store: FileStore, file: RawFile) -> None:
    """Repair is done in place."""
    await add(store, "a")
    file.add(b'{"role":"user","content":"to')
    before = file.status
    await add(store, "b")
    after = file.status
    assert after.st_ino == before.st_ino
    assert after.st_size > before.st_size
    assert said(await view(store)) == ["a", "b"]


@pytest.mark.parametrize(
    "garbage",
    [b"garbage", b"\x00" * 5000, b"\xff\xfe\xfd", b'{"role":"user","content":"t\xc3', b"[1, 2", b"12", b"  "],
    ids=["text", "NULs", "bytes", "half a character", "array", "number", "blanks"],
)
async def test_foreign_garbage_without_a_newline(store: FileStore, file: RawFile, garbage: bytes) -> None:
    """It is blanked and kept aside, and merges with no line of ours."""
    first = await add(store, "a")
    file.add(garbage)
    await add(store, "b", known=first.end)
    found = await view(store)
    assert (said(found), found.unreadable) == (["a", "b"], 0)
    assert file.torn == (garbage + b"\n" if garbage.strip(b" ") else b"")


async def test_a_repair_that_was_cut_short(store: FileStore, file: RawFile) -> None:
    """Blanks without their newline are no fragment: nothing is kept twice."""
    await add(store, "a")
    file.add(b" " * 30)
    await add(store, "b")
    assert said(await view(store)) == ["a", "b"]
    assert file.torn == b""


async def test_an_enormous_torn_tail(store: FileStore, file: RawFile) -> None:
    """Fifty megabytes without a newline are blanked like five bytes."""
    await add(store, "a")
    file.add(b'{"role":"user","content":"' + b"x" * 50_000_000)
    await add(store, "b")
    assert said(await view(store)) == ["a", "b"]
    assert len(file.torn) == 50_000_000 + 27


async def test_an_enormous_foreign_line(store: FileStore, file: RawFile) -> None:
    """It is skipped and counted; the lines around it are read."""
    first = await add(store, "a")
    file.add(b'{"role":"user","content":"' + b"x" * 50_000_000 + b'"}\n')
    assert (await store.catch_up(KEY, first.end)).records == ()
    await add(store, "b", known=first.end)
    found = await view(store)
    assert (said(found), found.unreadable) == (["a", "b"], 1)


@pytest.mark.parametrize(
    ("line", "unreadable"),
    [
        (b'{"role":"user","content":"\xff"}\n', 1),
        (b"\x00" * 4096 + b"\n", 1),
        (b"{broken\n", 1),
        (b'{"role":"user","content":' + b"[" * 100_000 + b"\n", 1),
        (b'{"_type":"provider_state","state":{}}\n', 0),
        (b"[1,2,3]\n", 0),
        (b"17\n", 0),
        (b'"text"\n', 0),
        (b'{"no":"role"}\n', 0),
        (b"\r\n\n  \n", 0),
    ],
    ids=["not UTF-8", "NULs", "broken", "too deep", "foreign type", "array", "number", "text", "no role", "blank"],
)
async def test_a_line_that_is_no_record(store: FileStore, file: RawFile, line: bytes, unreadable: int) -> None:
    """It costs itself only, and stays in the file."""
    first = await add(store, "a")
    file.add(line)
    await add(store, "b", known=first.end)
    found = await view(store)
    assert (said(found), found.unreadable) == (["a", "b"], unreadable)
    assert found.state.n == 2
    assert line in file.data


async def test_text_round_trips_exactly(store: FileStore) -> None:
    """Surrogates, NUL, line separators, line ends and byte order marks inside a text are that text."""
    texts = ["\ud83d", "a\x00b", "\u2028\u2029\x85", "\r\n", "\ufeffx", '"\\', "\U0001f600"]
    await add(store, *texts)
    found = await view(store)
    assert [record.content for record in found.records if isinstance(record, Message)] == texts


async def test_duplicate_names_in_an_object(store: FileStore, file: RawFile) -> None:
    """The last one counts, as everywhere."""
    await add(store, "a")
    file.add(b'{"role":"user","content":"x","content":"y"}\n')
    assert said(await view(store)) == ["a", "y"]


async def test_byte_order_mark_and_windows_line_ends(store: FileStore, file: RawFile) -> None:
    """A file saved by such an editor is read; what is appended ends with a line feed."""
    await add(store, "a")
    file.write(b"\xef\xbb\xbf" + file.data.replace(b"\n", b"\r\n"))
    await add(store, "b")
    found = await view(store)
    assert (said(found), found.unreadable) == (["a", "b"], 0)
    assert not file.data.endswith(b"\r\n")
    assert file.data.count(b'"op":"open"') == 1


async def test_an_empty_file_is_a_new_session(store: FileStore, file: RawFile) -> None:
    """It has no view, and gets its header with the first line."""
    file.write(b"")
    assert await store.read(KEY, exchanges=1, limit_bytes=1) is None
    await add(store, "a")
    assert file.lines()[0]["op"] == "open"


async def test_a_missing_header(store: FileStore, file: RawFile) -> None:
    """The name tells the key, and the next append writes a header."""
    file.write(b'{"role":"user","content":"a","timestamp":"2026-11-20T12:00:00+00:00"}\n')
    found = await view(store)
    assert (said(found), found.state.key, found.state.n) == (["a"], str(KEY), 1)
    done = await add(store, "b", known=found.end)
    lines = file.lines()
    assert [(line.get("op"), line.get("_n")) for line in lines] == [(None, None), ("open", None), (None, 1)]
    assert done.state.created_at == NOW


async def test_a_foreign_append_is_picked_up(store: FileStore, file: RawFile) -> None:
    """A line written by hand is numbered and kept in order."""
    first = await add(store, "a")
    file.add(b'{"role":"user","content":"by hand"}\n')
    done = await add(store, "b", known=first.end)
    assert [(r.content, r.n) for r in done.others if isinstance(r, Message)] == [("by hand", 1)]
    assert [r.n for r in done.records if isinstance(r, Message)] == [2]
    assert said(await view(store)) == ["a", "by hand", "b"]


async def test_lines_that_a_careless_hand_brought_from_another_session(store: FileStore, file: RawFile) -> None:
    """Another session's snapshots mean nothing here."""
    first = await add(store, "a")
    file.add(b'{"_type":"metadata","key":"cli:x","op":"reset","n":99,"v":1,"metadata":{"model":"m"}}\n')
    done = await add(store, "b", known=first.end)
    assert said(await view(store)) == ["a", "b"]
    assert (done.state.model, done.state.n) == ("", 2)


async def test_equal_numbers(store: FileStore, file: RawFile) -> None:
    """Of two lines with the same number the later one counts."""
    await add(store, "a", "b")
    file.add(b'{"role":"user","content":"B","_n":1}\n')
    await add(store, "c")
    found = await view(store)
    assert said(found) == ["a", "B", "c"]
    assert found.state.n == 3
