"""An index that is damaged, in the way, or cannot be written; and several processes at it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nanochat.doors import Query
from nanochat.errors import SearchError
from nanochat.search import SearchIndex
from nanochat.store import Disk
from tests.fakes.rights import ordinary_rights
from tests.search.conftest import Shelf


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database at all, and longer than a header of one would be " * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def _overwritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:-100] = os.urandom(len(data) - 4096 - 100)
    path.write_bytes(data)


def _sql(statement: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()

    return damage


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(Path.unlink, id="missing"),
        pytest.param(_garbage, id="garbage"),
        pytest.param(_empty, id="empty"),
        pytest.param(_cut, id="cut"),
        pytest.param(_overwritten, id="overwritten"),
        pytest.param(_sql("PRAGMA user_version = 99"), id="another version"),
        pytest.param(_sql("DROP TABLE message"), id="a table is missing"),
        pytest.param(_sql("DELETE FROM session"), id="nothing is known of the files"),
    ],
)
async def test_it_is_made_anew(shelf: Shelf, damage: Callable[[Path], None], is_open: bool) -> None:
    """Whatever became of it, the answer is right; also where it was open meanwhile."""
    await shelf.say("cli:a", *(f"tide {n}" for n in range(200)))
    index = SearchIndex(shelf.sessions, shelf.index_path)
    assert len(await index.search(Query("tide", limit=500))) == 200
    if not is_open:
        await index.close()
        index = SearchIndex(shelf.sessions, shelf.index_path)
    damage(shelf.index_path)
    assert len(await index.search(Query("tide", limit=500))) == 200
    assert len(await index.search(Query('"tide 7"'))) == 1
    await index.close()


async def test_entries_that_point_elsewhere(shelf: Shelf) -> None:
    """What the index says is asked of the files: nothing that is not there is found."""
    await shelf.say("cli:a", "tide one", "flow two")
    assert await shelf.find("tide") == ["tide one"]
    _sql("UPDATE message SET start = 7")(shelf.index_path)
    assert await shelf.find("tide") == ["tide one"]


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
async def test_a_directory_in_its_place(shelf: Shelf, is_open: bool) -> None:
    """It is not ours to take away, and named."""
    await shelf.say("cli:a", "tide")
    if is_open:
        await shelf.find("tide")
        shelf.index_path.unlink()
    shelf.index_path.mkdir()
    with pytest.raises(SearchError, match=r"index.db is a directory; move it away"):
        await shelf.find("tide")
    shelf.index_path.rmdir()
    assert await shelf.find("tide") == ["tide"]


async def test_a_database_of_somebody_else(shelf: Shelf) -> None:
    """It is left as it is, and named."""
    await shelf.say("cli:a", "tide")
    _sql("CREATE TABLE theirs (x)")(shelf.index_path)
    before = shelf.index_path.read_bytes()
    for _ in range(2):
        with pytest.raises(SearchError, match="another database; move it away"):
            await shelf.find("tide")
    assert shelf.index_path.read_bytes() == before


async def test_a_journal_that_was_left_behind(shelf: Shelf) -> None:
    """It belongs to a file that is gone, and is not read into the next one."""
    await shelf.say("cli:a", "tide")
    shelf.directory.joinpath("index.db-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(2000))
    assert await shelf.find("tide") == ["tide"]


# A file system that nobody may write, not even root.
READ_ONLY = Path("/sys/kernel/index.db")


async def test_where_nothing_can_be_written(shelf: Shelf) -> None:
    """An index in memory answers, and goes on."""
    await shelf.say("cli:a", "tide one")
    index = SearchIndex(shelf.sessions, READ_ONLY)
    assert len(await index.search(Query("tide"))) == 1
    await shelf.say("cli:a", "tide two")
    assert len(await index.search(Query("tide"))) == 2
    await index.close()


async def test_where_nothing_can_be_written_and_there_is_much(shelf: Shelf) -> None:
    """Reading all of it for one question takes too long; it says what to do."""
    await shelf.say("cli:a", "tide one")
    path = shelf.path("cli:a")
    os.truncate(path, 65 * 1024 * 1024)
    index = SearchIndex(shelf.sessions, READ_ONLY)
    with pytest.raises(SearchError, match="make the directory writable"):
        await index.search(Query("tide"))
    await index.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda path: path.write_bytes(b""), "sessions is not a directory; move it away", id="a file"),
        pytest.param(lambda path: path.mkdir(mode=0), "sessions cannot be read: no permission", id="a closed one"),
    ],
)
async def test_where_the_sessions_cannot_be_listed(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    """It says so, and makes nothing."""
    make(tmp_path / "sessions")
    index = SearchIndex(tmp_path / "sessions", tmp_path / "index.db")
    with ordinary_rights(), pytest.raises(SearchError, match=words):
        await index.search(Query("tide"))
    await index.close()
    assert os.listdir(tmp_path) == ["sessions"]


async def test_where_a_session_cannot_be_read(tmp_path: Path) -> None:
    """It is named."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied", "sessions")

    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / "cli+a.jsonl").write_bytes(b'{"role":"user","content":"tide"}\n')
    index = SearchIndex(tmp_path / "sessions", tmp_path / "index.db", disk=Disk(open=refuse))
    assert await index.search(Query("tide")) == []
    assert "no permission" in index.skipped[0]
    await index.close()


FULL = """
import asyncio, resource, sys
from pathlib import Path
from nanochat.doors import Query
from nanochat.errors import SearchError
from nanochat.search import SearchIndex

async def main():
    directory = Path(sys.argv[1])
    index = SearchIndex(directory / "sessions", directory / "index.db")
    try:
        print(len(await index.search(Query("tide", limit=5000))))
    except SearchError as error:
        print(error)
    await index.close()

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
asyncio.run(main())
"""


@pytest.mark.parametrize("limit", [0, 8192, 60_000])
async def test_a_full_disk(shelf: Shelf, limit: int) -> None:
    """Wherever it is full: one line with the way on, and once there is room, all is found."""
    await shelf.say("cli:a", *(f"tide {n} {n * 7919} {n * 104729}" for n in range(2000)))

    def run(size: int) -> str:
        command = [sys.executable, "-c", FULL, str(shelf.directory), str(size)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    refused = run(limit)
    assert "search index" in refused
    assert "is the disk full" in refused
    assert run(1 << 30) == "2000\n"


# --- several processes -----------------------------------------------------------------------------------------------


async def test_another_process_that_hangs(shelf: Shelf) -> None:
    """Who waits for it is told."""
    await shelf.say("cli:a", "tide")
    waits: list[tuple[int, int]] = []
    index = SearchIndex(shelf.sessions, shelf.index_path, patience_s=0.1, progress=lambda *got: waits.append(got))
    lock = os.open(shelf.index_path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(SearchError, match="held by another process"):
        await index.search(Query("tide"))
    assert set(waits) == {(0, 0)}
    waiting = asyncio.create_task(index.search(Query("tide")))
    os.close(lock)
    assert len(await waiting) == 1
    await index.close()


async def test_closing_ends_the_wait_for_another(shelf: Shelf) -> None:
    """A program that ends does not wait for others."""
    await shelf.say("cli:a", "tide")
    is_waiting = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell(_: int, __: int) -> None:
        loop.call_soon_threadsafe(is_waiting.set)

    index = SearchIndex(shelf.sessions, shelf.index_path, progress=tell)
    lock = os.open(shelf.index_path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    search = asyncio.create_task(index.search(Query("tide")))
    await is_waiting.wait()
    await index.close()
    with pytest.raises(SearchError, match="ended"):
        await search
    os.close(lock)


CHILD = """
import asyncio, sys
from pathlib import Path
from nanochat.doors import Query
from nanochat.search import Measures, SearchIndex

async def main():
    directory = Path(sys.argv[1])
    for _ in range(3):
        index = SearchIndex(directory / "sessions", directory / "index.db", measures=Measures(batch_messages=20))
        print(len(await index.search(Query("tide", limit=5000))))
        await index.close()

asyncio.run(main())
"""


async def test_several_processes_at_once(shelf: Shelf) -> None:
    """They build it together, one batch or another, and each finds all."""
    for key in range(20):
        await shelf.say(f"cli:{key}", *(f"tide {n}" for n in range(30)))
    command = (sys.executable, "-c", CHILD, str(shelf.directory))
    children = [
        await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        for _ in range(3)
    ]
    answers = [await child.communicate() for child in children]
    assert answers == [(b"600\n" * 3, b"")] * 3


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from nanochat.search import Measures, SearchIndex

async def main():
    directory = Path(sys.argv[1])
    seen = [0]
    def die(done, total):
        seen[0] += 1
        if seen[0] >= int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    index = SearchIndex(
        directory / "sessions", directory / "index.db", progress=die, measures=Measures(batch_messages=25)
    )
    await index.sync()

asyncio.run(main())
"""


def _run_until_killed(directory: Path, step: int) -> int:
    return subprocess.run([sys.executable, "-c", KILLED, str(directory), str(step)], check=False).returncode


@pytest.mark.parametrize("step", [1, 2, 5])
async def test_a_process_that_is_killed(shelf: Shelf, step: int) -> None:
    """Whoever comes next goes on, and finds all."""
    for key in range(5):
        await shelf.say(f"cli:{key}", *(f"tide {n}" for n in range(40)))
    assert _run_until_killed(shelf.directory, step) == -9
    assert len(await shelf.find("tide", limit=1000)) == 200
