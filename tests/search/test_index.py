"""What is found in conversations, and what no longer is."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanochat.doors import Query
from nanochat.errors import SearchError
from nanochat.keys import SessionKey
from nanochat.lines import encode
from nanochat.records import Block, Compact, Message, Reset, Rewind, SetValue
from nanochat.search import Measures, SearchIndex
from nanochat.store import Disk
from tests.search.conftest import NOON, Shelf


async def test_newest_first_in_all_conversations(shelf: Shelf) -> None:
    """With where and when, and all of the text."""
    await shelf.say("cli:a", "the tide is high")
    await shelf.say("telegram:1", "no tide today")
    await shelf.say("cli:a", "nothing")
    first, second = await shelf.index.search(Query("tide"))
    assert (str(first.key), first.n, first.role, first.at) == ("telegram:1", 0, "user", NOON + timedelta(minutes=2))
    assert (first.text, first.excerpt) == ("no tide today", "no tide today")
    assert second.text == "the tide is high"


async def test_what_is_new_is_found_at_once(shelf: Shelf) -> None:
    """Nobody has to tell the index."""
    await shelf.say("cli:a", "tide one")
    assert await shelf.find("tide") == ["tide one"]
    await shelf.say("cli:a", "tide two")
    await shelf.say("cli:b", "tide three")
    assert await shelf.find("tide") == ["tide three", "tide two", "tide one"]


async def test_only_what_was_said_is_found(shelf: Shelf) -> None:
    """By people and the model: no tools, no settings, no summaries; a delivery without its frame."""
    call: Block = {"type": "tool_use", "id": "1", "name": "sessions", "input": {"query": "tide"}}
    result: Block = {"type": "tool_result", "tool_use_id": "1", "content": "tide"}
    await shelf.append(
        "cli:a",
        Message("assistant", [{"type": "text", "text": "I look"}, call], shelf.now),
        Message("user", [result], shelf.now),
        SetValue("system", "tide"),
        Compact("tide", 0, 0, "model", "budget"),
        Message("user", '<delivered from="tide">\nlow water\n</delivered>', shelf.now, delivered=True),
    )
    assert await shelf.find("tide") == []
    assert await shelf.find("look") == ["I look"]
    [delivered] = await shelf.index.search(Query("water"))
    assert (delivered.role, delivered.text) == ("delivered", "low water")


async def test_before_a_reset_and_a_compaction(shelf: Shelf) -> None:
    """Nothing is forgotten by them, nor are jobs' sessions left out."""
    await shelf.say("cron:morning", "tide one")
    await shelf.append("cron:morning", Reset())
    await shelf.say("cron:morning", "tide two")
    await shelf.append("cron:morning", Compact("sum", 1, 1, "model", "budget"))
    assert await shelf.find("tide") == ["tide two", "tide one"]


async def test_what_is_taken_back_and_comes_again(shelf: Shelf) -> None:
    """An undo hides, and the undo of an undo shows; whether or not somebody searched in between."""
    await shelf.say("cli:a", "tide one")
    start = await shelf.say("cli:a", "tide two", "tide three")
    undo = await shelf.take_back("cli:a", start, 1)
    assert await shelf.find("tide") == ["tide one"]
    await shelf.say("cli:a", "tide four")
    assert await shelf.find("tide") == ["tide four", "tide one"]
    await shelf.take_back("cli:a", undo, 3)
    assert await shelf.find("tide") == ["tide three", "tide two", "tide one"]


async def test_an_undo_of_a_reset(shelf: Shelf) -> None:
    """It takes back what came after."""
    await shelf.say("cli:a", "tide one")
    reset = await shelf.append("cli:a", Reset())
    await shelf.say("cli:a", "tide two")
    await shelf.append("cli:a", Rewind(reset, 1, "undo"))
    assert await shelf.find("tide") == ["tide one"]


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        pytest.param(("cli:a",), ["a"], id="a key"),
        pytest.param(("cli:a", "telegram:1"), ["t", "a"], id="two keys"),
        pytest.param(("cli:*",), ["b", "a"], id="a glob"),
        pytest.param(("cli:[ab]", "cli:*"), ["b", "a"], id="globs"),
        pytest.param(("*",), ["t", "b", "a"], id="all"),
        pytest.param(("cli:x",), [], id="nobody's"),
    ],
)
async def test_in_some_conversations(shelf: Shelf, keys: tuple[str, ...], found: list[str]) -> None:
    """Keys, and globs."""
    for key, name in (("cli:a", "a"), ("cli:b", "b"), ("telegram:1", "t")):
        await shelf.say(key, f"tide {name}")
    assert await shelf.find("tide", *keys) == [f"tide {name}" for name in found]


async def test_in_more_conversations_than_can_be_named(shelf: Shelf) -> None:
    """A glob that many keys match, and others do not."""
    for number in range(70):
        await shelf.say(f"cli:s{number}", f"tide {number}")
    await shelf.say("telegram:1", "tide")
    assert await shelf.find("tide", "cli:*", limit=100) == [f"tide {number}" for number in reversed(range(70))]
    assert await shelf.find("tide", "cli:*", limit=2) == ["tide 69", "tide 68"]


async def test_of_some_speakers(shelf: Shelf) -> None:
    """And a role that nobody has is refused."""
    await shelf.say("cli:a", "tide?")
    await shelf.say("cli:a", "tide!", role="assistant")
    assert await shelf.find("tide", roles=("user",)) == ["tide?"]
    assert await shelf.find("tide", roles=("assistant", "delivered")) == ["tide!"]
    with pytest.raises(SearchError, match="user, assistant or delivered"):
        await shelf.find("tide", roles=("tool",))


async def test_of_some_time(shelf: Shelf) -> None:
    """From one moment on, and before another, to the microsecond."""
    moment = NOON + timedelta(minutes=2)
    await shelf.say("cli:a", "tide 1", "tide 2", "tide 3")
    assert await shelf.find("tide", since=moment) == ["tide 3", "tide 2"]
    assert await shelf.find("tide", until=moment) == ["tide 1"]
    assert await shelf.find("tide", since=moment, until=moment + timedelta(microseconds=1)) == ["tide 2"]


async def test_many_of_one_moment(shelf: Shelf) -> None:
    """However many messages a second has, each is one, and of that second."""
    await shelf.append("cli:a", *(Message("user", f"tide {n}", NOON) for n in range(100)))
    assert len(await shelf.find("tide", limit=1000, until=NOON + timedelta(microseconds=1))) == 100
    await shelf.append("cli:b", *(Message("user", f"tide {n}", NOON) for n in range(100)))
    assert len(await shelf.find("tide", limit=1000, since=NOON, until=NOON + timedelta(seconds=1))) == 200
    assert await shelf.find("tide", since=NOON + timedelta(seconds=1)) == []


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(datetime(1, 1, 1, tzinfo=UTC), id="year 1"),
        pytest.param(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), id="year 9999"),
    ],
)
async def test_of_times_that_cannot_be(shelf: Shelf, at: datetime) -> None:
    """A clock that was wrong loses nothing."""
    await shelf.append("cli:a", Message("user", "tide", at))
    [found] = await shelf.index.search(Query("tide"))
    assert abs(found.at - at) <= timedelta(microseconds=8)


async def test_the_limit(shelf: Shelf) -> None:
    """The newest so many, at least one."""
    with pytest.raises(SearchError, match="at least 1"):
        await shelf.find("tide", limit=0)
    await shelf.say("cli:a", *(f"tide {n}" for n in range(10)))
    assert await shelf.find("tide", limit=3) == ["tide 9", "tide 8", "tide 7"]


# --- files that change otherwise -------------------------------------------------------------------------------------


async def test_a_session_that_is_put_away(shelf: Shelf) -> None:
    """Its words are not found, and do not stay in the index; those of its next file are."""
    await shelf.say("cli:a", "secret tide")
    await shelf.say("cli:b", "other tide")
    await shelf.index.sync()
    assert b"secret" in shelf.index_path.read_bytes()
    await shelf.store.archive(SessionKey("cli", "a"), at=NOON, reason="asked")
    assert await shelf.find("tide") == ["other tide"]
    assert b"secret" not in shelf.index_path.read_bytes()
    shelf.ends.clear()
    await shelf.say("cli:a", "new tide")
    assert await shelf.find("tide") == ["new tide", "other tide"]


async def test_a_session_that_is_replaced(shelf: Shelf) -> None:
    """As by an editor, or by nanobot: the file is another one."""
    await shelf.say("cli:a", "tide one", "tide two")
    assert len(await shelf.find("tide")) == 2
    path = shelf.path("cli:a")
    path.with_suffix(".new").write_bytes(path.read_bytes().replace(b"tide one", b"low water, once more"))
    path.with_suffix(".new").replace(path)
    assert await shelf.find("tide") == ["tide two"]
    assert await shelf.find("water") == ["low water, once more"]


async def test_a_directory_that_is_copied(shelf: Shelf) -> None:
    """With its index: every file is another one, and each message is found once."""
    for number in range(20):
        await shelf.say(f"cli:{number}", *(f"tide {n}" for n in range(5)))
    assert len(await shelf.find("tide", limit=500)) == 100
    copy = shelf.directory.with_name("copy")
    shutil.copytree(shelf.directory, copy)
    index = SearchIndex(copy / "sessions", copy / "index.db", measures=Measures(batch_messages=7))
    assert len(await index.search(Query("tide", limit=500))) == 100
    await index.close()


@pytest.mark.parametrize("new", ["flow one", "shorter", "a longer text than there was"])
async def test_a_session_that_is_edited_in_place(shelf: Shelf, new: str) -> None:
    """The same file, and other words in it."""
    await shelf.say("cli:a", "tide one", "tide two")
    assert len(await shelf.find("tide")) == 2
    path = shelf.path("cli:a")
    path.write_bytes(path.read_bytes().replace(b"tide one", new.encode()))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # an edit within one tick of the clock has no time of its own
    assert await shelf.find("tide") == ["tide two"]
    assert await shelf.find(new) == [new]


async def test_an_edit_and_an_append_before_anybody_searched(shelf: Shelf) -> None:
    """Lines that moved are noticed by what stands before the new ones; a word that is gone, when it would be found."""
    await shelf.say("cli:a", "tide one", *(f"filling {n}" for n in range(20)))
    assert await shelf.find("tide") == ["tide one"]
    path = shelf.path("cli:a")
    path.write_bytes(
        path.read_bytes().replace(b"tide one", b"flow one") + encode(Message("user", "tide two", NOON, n=21))
    )
    assert await shelf.find("tide") == ["tide two"]
    assert await shelf.find("flow") == ["flow one"]


async def test_a_torn_end(shelf: Shelf) -> None:
    """A line without its end is none yet, and one when it has it."""
    await shelf.say("cli:a", "tide one")
    line = encode(Message("user", "tide two", NOON + timedelta(hours=1), n=1))
    with shelf.path("cli:a").open("ab") as file:
        file.write(line[:-10])
    assert await shelf.find("tide") == ["tide one"]
    with shelf.path("cli:a").open("ab") as file:
        file.write(line[-10:])
    assert await shelf.find("tide") == ["tide two", "tide one"]


async def test_lines_that_stand_twice(shelf: Shelf) -> None:
    """After a failed sync they are written again, with the same numbers: each is found once; in one reading, and in two."""
    await shelf.say("cli:a", "tide one", "tide two")
    path = shelf.path("cli:a")
    last = path.read_bytes().splitlines(keepends=True)[-1]
    with path.open("ab") as file:
        file.write(last)
    assert await shelf.find("tide") == ["tide two", "tide one"]
    with path.open("ab") as file:
        file.write(last)
    assert await shelf.find("tide") == ["tide two", "tide one"]


async def test_files_of_nanobot(shelf: Shelf) -> None:
    """Under its names, in its workspaces, without numbers; and hidden once the session has a file of ours."""
    shelf.sessions.mkdir(parents=True)
    lines = (
        b'{"_type":"metadata","key":"telegram:7"}\n{"role":"user","content":"tide","timestamp":"2026-11-20T12:00:00"}\n'
    )
    (shelf.sessions / "telegram_7.jsonl").write_bytes(lines)
    workspace = shelf.sessions / ("0123456789abcdef" * 2)
    workspace.mkdir()
    (workspace / "dGVsZWdyYW06OA.jsonl").write_bytes(lines.replace(b"telegram:7", b"telegram:8"))
    found = await shelf.index.search(Query("tide"))
    assert sorted((str(each.key), each.n) for each in found) == [("telegram:7", 0), ("telegram:8", 0)]
    shelf.path("telegram:7").rename(shelf.sessions / "telegram+7.jsonl")
    (shelf.sessions / "telegram_7.jsonl").write_bytes(lines)
    assert len(await shelf.find("tide")) == 2


async def test_what_is_no_session(shelf: Shelf) -> None:
    """Other files are nobody's words."""
    await shelf.say("cli:a", "tide")
    (shelf.sessions / "notes.jsonl").write_text('{"role":"user","content":"tide"}\n')
    (shelf.sessions / "notes.txt").write_text("tide")
    (shelf.sessions / ".cli+b.jsonl").write_text('{"role":"user","content":"tide"}\n')
    (shelf.sessions / "cli+empty.jsonl").write_bytes(b"")
    os.close(os.open(os.fsencode(shelf.sessions) + b"/\xff.jsonl", os.O_CREAT))
    assert await shelf.find("tide") == ["tide"]
    assert shelf.index.skipped == ()


async def test_files_that_cannot_be_read(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    """Each is named, and the others are searched; what is mended is found."""
    await shelf.say("cli:a", "tide")
    (shelf.sessions / "cli+dir.jsonl").mkdir()
    (shelf.sessions / "cli+link.jsonl").symlink_to("/etc/passwd")
    other = shelf.sessions / "cli+other.jsonl"
    other.write_bytes(shelf.path("cli:a").read_bytes())
    assert await shelf.find("tide") == ["tide"]
    assert await shelf.find("tide") == ["tide"]
    assert len(shelf.index.skipped) == 3
    assert any("cli+other.jsonl belongs to session cli:a" in fault for fault in shelf.index.skipped)
    assert len(caplog.records) == 3  # told once
    other.write_bytes(other.read_bytes().replace(b"cli:a", b"cli:other"))
    assert len(await shelf.find("tide")) == 2
    assert len(shelf.index.skipped) == 2


async def test_a_disk_that_fails_amid_a_file(shelf: Shelf) -> None:
    """What was taken of the file is not found until all of it can be read, and then once."""
    fails = True

    def pread(fd: int, size: int, at: int) -> bytes:
        if fails and at > 100_000:
            raise OSError(5, "Input/output error")
        return os.pread(fd, size, at)

    index = SearchIndex(shelf.sessions, shelf.index_path, disk=Disk(pread=pread))
    await shelf.say("cli:a", *(f"tide {n} " + "x" * 100 for n in range(100)))
    assert len(await index.search(Query("tide", limit=9999))) == 100
    await shelf.say("cli:a", *(f"tide {n} " + "x" * 100 for n in range(2000)))
    assert await index.search(Query("tide", limit=9999)) == []
    assert "input/output error" in index.skipped[0].lower()
    fails = False
    assert len(await index.search(Query("tide", limit=9999))) == 2100
    assert index.skipped == ()
    await index.close()


async def test_much_that_is_gone(shelf: Shelf) -> None:
    """Where reading all again would be dear, it is left until much is gone; it is never found."""
    index = SearchIndex(shelf.sessions, shelf.index_path, measures=Measures(cheap_messages=3))
    await shelf.say("cli:a", *(f"secret {n}" for n in range(4)))
    await shelf.say("cli:b", *(f"tide {n}" for n in range(20)))
    await index.sync()
    await shelf.store.remove(SessionKey("cli", "a"))
    assert await index.search(Query("secret")) == []
    assert b"secret" in shelf.index_path.read_bytes()
    path = shelf.path("cli:b")
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").replace(path)
    assert len(await index.search(Query("tide"))) == 20
    await shelf.say("cli:c", "one more")
    assert len(await index.search(Query("tide"))) == 20
    assert b"secret" not in shelf.index_path.read_bytes()
    await index.close()


# --- the index itself ------------------------------------------------------------------------------------------------


async def test_without_conversations_nothing_is_made(tmp_path: Path) -> None:
    """No directory, no file."""
    index = SearchIndex(tmp_path / "data" / "sessions", tmp_path / "data" / "index.db")
    assert await index.search(Query("tide")) == []
    await index.sync()
    await index.close()
    assert not (tmp_path / "data").exists()


async def test_session_files_are_left_alone(shelf: Shelf) -> None:
    """Not a byte, not a time of change; and the index is ours alone to read."""
    await shelf.say("cli:a", "tide")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in shelf.sessions.iterdir()}
    await shelf.find("tide")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in shelf.sessions.iterdir()} == before
    assert shelf.index_path.stat().st_mode & 0o777 == 0o600


async def test_what_has_not_changed_is_not_read_again(shelf: Shelf) -> None:
    """Nothing is written either."""
    await shelf.say("cli:a", "tide")
    await shelf.find("tide")
    before = shelf.index_path.stat().st_mtime_ns
    await shelf.find("tide")
    assert shelf.index_path.stat().st_mtime_ns == before


async def test_it_goes_on_where_it_was(shelf: Shelf) -> None:
    """Another process finds it as it is."""
    await shelf.say("cli:a", "tide")
    await shelf.find("tide")
    before = shelf.index_path.stat()
    told: list[tuple[int, int]] = []
    other = SearchIndex(shelf.sessions, shelf.index_path, progress=lambda *got: told.append(got))
    assert len(await other.search(Query("tide"))) == 1
    await other.close()
    assert told == []
    assert shelf.index_path.stat().st_mtime_ns == before.st_mtime_ns


async def test_progress_is_told(shelf: Shelf) -> None:
    """In bytes, up to all of them."""
    await shelf.say("cli:a", "tide")
    await shelf.say("cli:b", "tide")
    told: list[tuple[int, int]] = []
    index = SearchIndex(shelf.sessions, shelf.index_path, progress=lambda *got: told.append(got))
    await index.sync()
    await index.close()
    size = sum(path.stat().st_size for path in shelf.sessions.iterdir())
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


async def test_many_at_once(shelf: Shelf) -> None:
    """Queries of one process wait for each other."""
    await shelf.say("cli:a", "tide")
    found = await asyncio.gather(*(shelf.find("tide") for _ in range(20)))
    assert found == [["tide"]] * 20


async def test_after_it_was_closed(shelf: Shelf) -> None:
    """It says so."""
    await shelf.index.close()
    with pytest.raises(SearchError, match="closed"):
        await shelf.find("tide")


async def test_a_batch_ends_inside_a_file(shelf: Shelf) -> None:
    """A long conversation is written in parts, and whoever is stopped after one goes on behind it."""
    await shelf.say("cli:a", *(f"tide {n}" for n in range(30)))
    loop = asyncio.get_running_loop()
    is_told = threading.Event()

    async def close() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(index.close())
            group.create_task(asyncio.to_thread(is_told.set))  # after the other has begun

    def stop(_: int, __: int) -> None:
        asyncio.run_coroutine_threadsafe(close(), loop)
        is_told.wait()

    index = SearchIndex(shelf.sessions, shelf.index_path, progress=stop, measures=Measures(batch_messages=7))
    with pytest.raises(SearchError, match="ended"):
        await index.sync()
    connection = sqlite3.connect(shelf.index_path)
    assert connection.execute("SELECT count(*) FROM message").fetchone() == (7,)
    connection.close()
    assert len(await shelf.find("tide", limit=100)) == 30
