"""Several processes, and several callers, write and read one file; some of them die, some are stopped, some change their mind."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from nanochat.errors import LeaseHeld, NotWritten
from nanochat.keys import SessionKey
from nanochat.ports import SessionStore
from nanochat.records import Message, TurnEnd
from nanochat.store import FileStore, Patience
from tests.contracts.store import KEY, NOW, add, said, say, view
from tests.store.conftest import Start
from tests.store.raw import RawFile


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout
    return (await process.stdout.readline()).decode().strip()


async def test_two_processes_write(store: FileStore, file: RawFile, child: Start) -> None:
    """Nothing is lost, each one's order is kept, and the numbers have no gap."""
    processes = [await child("write", name, "300") for name in "ab"]
    for process in processes:
        out, _ = await process.communicate()
        assert len(out.splitlines()) == 300
    found = await view(store)
    lines = [text for text in said(found) if text[0] in "ab"]
    for name in "ab":
        assert [text for text in lines if text[0] == name] == [f"{name}{i}" for i in range(300)]
    assert [record.n for record in found.records if isinstance(record, Message)] == list(range(1200))
    assert file.data.count(b'"op":"open"') >= 1
    assert found.unreadable == 0


@pytest.mark.parametrize("seed", range(3))
async def test_killed_writers(store: FileStore, child: Start, seed: int) -> None:
    """What a writer had acknowledged when it was killed is in the file, and at most one append more."""
    chance = random.Random(seed)
    acknowledged: list[str] = []
    for i in range(10):
        process = await child("write", f"r{i}-", "100000")
        for _ in range(chance.randrange(1, 40)):
            acknowledged.append(await _line(process))
        process.kill()
        assert process.stdout
        rest = (await process.stdout.read()).decode()
        acknowledged += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        await process.wait()
    acknowledged = [line.strip() for line in acknowledged]
    await add(store, "survivor")
    found = await view(store)
    texts = [text for text in said(found) if text[0] == "r"]
    assert [text for text in texts if text in set(acknowledged)] == acknowledged
    assert len(texts) - len(acknowledged) <= 10
    numbers = [record.n for record in found.records if isinstance(record, Message)]
    assert numbers == list(range(len(numbers)))
    assert found.unreadable == 0


async def test_a_writer_killed_in_the_middle_of_a_line(store: FileStore, child: Start) -> None:
    """Its lock is gone with it; the survivor mends the line and goes on."""
    await add(store, "a")
    process = await child("lock")
    assert await _line(process) == "locked"
    appending = asyncio.create_task(add(store, "b"))
    process.kill()
    await appending
    assert said(await view(store)) == ["a", "b"]


async def test_a_stopped_holder_stalls_its_own_session_only(store: FileStore, child: Start) -> None:
    """While a stopped process holds one file, all other sessions are written, and that one as soon as it is killed."""
    await add(store, "a")
    process = await child("lock")
    assert await _line(process) == "locked"
    process.send_signal(signal.SIGSTOP)
    stuck = [asyncio.create_task(add(store, f"b{i}")) for i in range(12)]
    for i in range(20):
        await store.append(SessionKey("cli", f"s{i}"), [say("x")], known=0, durable=True, now=NOW)
    assert not any(task.done() for task in stuck)
    assert said(await view(store)) == ["a"]
    process.kill()
    await asyncio.gather(*stuck)
    assert said(await view(store)) == ["a", *(f"b{i}" for i in range(12))]


async def test_closing_while_a_holder_is_stopped(tmp_path: Path, child: Start, store: FileStore) -> None:
    """A store does not wait for ever to be closed, and who waits is told that nothing was written."""
    await add(store, "a")
    other = FileStore(tmp_path / "data" / "sessions", patience=Patience(close_s=0.1))
    process = await child("lock")
    assert await _line(process) == "locked"
    stuck = asyncio.create_task(add(other, "b"))
    await asyncio.sleep(0)
    await other.close()
    with pytest.raises(NotWritten, match="another process holds"):
        await stuck
    process.kill()
    await add(store, "c")
    assert said(await view(store)) == ["a", "c"]


async def test_a_cancelled_append_is_carried_out(store: FileStore) -> None:
    """Who is cancelled while it waits finds its lines when it looks; the next append numbers on behind them."""
    first = await add(store, "a")
    task = asyncio.create_task(add(store, "b", TurnEnd("s", "done"), known=first.end))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    done = await add(store, "c", known=first.end)
    assert [record.content for record in done.others if isinstance(record, Message)] == ["b"]
    assert said(await view(store)) == ["a", "b", "c"]
    assert done.state.totals.turns == 1


async def test_a_file_deleted_under_us(store: FileStore, file: RawFile) -> None:
    """The next append begins a new file with a header, and says that the old one is gone."""
    first = await add(store, "a")
    file.remove()
    assert (await store.catch_up(KEY, first.end)).replaced
    done = await add(store, "b", known=first.end)
    assert done.replaced
    assert file.lines()[0]["op"] == "open"
    assert said(await view(store)) == ["b"]


async def test_a_file_replaced_under_us(store: FileStore, file: RawFile, tmp_path: Path) -> None:
    """Writes follow the name, also where the new file is longer than the old one."""
    first = await add(store, "a")
    new = RawFile(tmp_path / "new")
    new.write(file.data + b'{"role":"user","content":"edited"}\n')
    os.replace(new.path, file.path)
    assert (await store.catch_up(KEY, first.end)).replaced
    done = await add(store, "b", known=first.end)
    assert (done.replaced, done.others) == (True, ())
    found = await view(store)
    assert said(found) == ["a", "edited", "b"]
    again = await add(store, "c", known=found.end)
    assert not again.replaced


async def test_a_file_emptied_under_us(store: FileStore, file: RawFile) -> None:
    """It gets its header again."""
    first = await add(store, "a")
    file.write(b"")
    assert (await store.catch_up(KEY, first.end)).replaced
    assert (await add(store, "b", known=first.end)).replaced
    assert [line.get("op") for line in file.lines()] == ["open", None]


async def test_a_file_edited_in_place(store: FileStore, file: RawFile) -> None:
    """An editor that made lines longer leaves no caller with the old offsets."""
    first = await add(store, "a", "b")
    file.replace(b'"content":"a"', b'"content":"aaaa"')
    done = await add(store, "c", known=first.end)
    assert done.replaced
    assert said(await view(store)) == ["aaaa", "b", "c"]


async def test_a_reader_races_a_writer(store: FileStore, child: Start) -> None:
    """No reader ever sees a torn line, or less than it saw before."""
    process = await child("write", "a", "200")
    assert await _line(process) == "a0"
    seen = 0
    known = 0
    while process.returncode is None and seen < 200:
        found = await view(store)
        lines = [text for text in said(found) if text[0] == "a"]
        assert lines == [f"a{i}" for i in range(len(lines))]
        assert len(lines) >= seen
        assert found.unreadable == 0
        seen = len(lines)
        changes = await store.catch_up(KEY, known)
        assert not changes.replaced
        known = changes.end
    await process.communicate()


async def test_news_of_an_unfinished_line(store: FileStore, file: RawFile) -> None:
    """A line that is still being written is no news until it is whole."""
    first = await add(store, "a")
    file.add(b'{"role":"user","content":"b",')
    for _ in range(3):
        changes = await store.catch_up(KEY, first.end)
        assert (changes.records, changes.end, changes.replaced) == ((), first.end, False)
    file.add(b'"x":1}\n')
    changes = await store.catch_up(KEY, first.end)
    assert [(r.content, r.n) for r in changes.records if isinstance(r, Message)] == [("b", 1)]


async def test_a_lease_of_another_process(store: FileStore, child: Start, file: RawFile) -> None:
    """It excludes us, in words that say who it is, and is free when that process dies."""
    process = await child("hold")
    assert await _line(process) == "held"
    with pytest.raises(LeaseHeld, match="is in a turn of pid") as caught:
        async with store.lease(KEY, patience_s=0):
            pass
    assert caught.value.holder == f"pid {process.pid} (test hold)"
    taking = asyncio.create_task(_take(store))
    process.kill()
    await asyncio.wait_for(taking, 10)
    lease = RawFile(file.path.parent.parent / "leases" / "telegram+12345")
    assert lease.data == f"pid {os.getpid()} (nanochat)\n".encode()
    assert lease.status.st_mode & 0o777 == 0o600


async def test_who_waits_long_is_told_for_whom(tmp_path: Path) -> None:
    """Once, after a while, and not at all if the wait was short."""
    store = FileStore(tmp_path / "data" / "sessions", patience=Patience(tell_s=0.01))
    told: list[str] = []
    came = asyncio.Event()

    def tell(holder: str) -> None:
        told.append(holder)
        came.set()

    async with store.lease(KEY, on_wait=tell):
        waiting = asyncio.create_task(_take(store, tell))
        await came.wait()
    await waiting
    assert told == [f"pid {os.getpid()} (nanochat)"]
    await store.close()


async def test_two_stores_of_one_process_exclude_each_other(store: FileStore, tmp_path: Path) -> None:
    """A lease is a matter of the data directory, not of the object."""
    other = FileStore(tmp_path / "data" / "sessions")
    async with store.lease(KEY):
        with pytest.raises(LeaseHeld):
            async with other.lease(KEY, patience_s=0.06):
                pass
    async with other.lease(KEY, patience_s=0):
        pass


async def _take(store: SessionStore, tell: object = None) -> None:
    async with store.lease(KEY, on_wait=tell if callable(tell) else None):
        pass
