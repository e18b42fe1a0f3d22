"""A disk that is full, read-only or dying: what is not acknowledged is not there, and what is acknowledged is."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.errors import DurabilityUnknown, NotWritten
from nanochat.records import Message, Rewind, Snapshot, TurnEnd
from nanochat.store import FileStore
from tests.contracts.store import KEY, NOW, add, said, say, view
from tests.fakes.disk import FaultyDisk
from tests.store.conftest import Start
from tests.store.raw import RawFile


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
async def store(tmp_path: Path, disk: FaultyDisk) -> AsyncIterator[FileStore]:
    store = FileStore(tmp_path / "data" / "sessions", disk=disk.disk)
    yield store
    await store.close()


@pytest.mark.parametrize("room", [0, 1, 5, 60, 100, 200], ids=lambda room: f"room for {room}")
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=lambda e: errno.errorcode[e])
async def test_no_room(store: FileStore, file: RawFile, disk: FaultyDisk, room: int, error: int) -> None:
    """A write that reached the file in part is taken back, and the same drafts can be written when there is room."""
    first = await add(store, "a")
    disk.fill(room, error)
    with pytest.raises(NotWritten, match="nothing was written"):
        await add(store, "b", say("c" * 100, "assistant"), known=first.end)
    assert said(await view(store)) == ["a"]
    assert file.data.endswith(b"\n")
    again = await add(store, "b", say("c", "assistant"), known=first.end)
    found = await view(store)
    assert (said(found), found.unreadable) == (["a", "b", "c"], 0)
    assert not again.replaced
    assert [record.n for record in again.records if isinstance(record, Message)] == [1, 2]


async def test_no_room_for_a_header(store: FileStore, disk: FaultyDisk) -> None:
    """A session that could not begin begins when there is room."""
    disk.fill(20, errno.ENOSPC)
    with pytest.raises(NotWritten):
        await add(store, "a")
    await add(store, "b")
    found = await view(store)
    assert (said(found), found.unreadable) == (["b"], 0)


async def test_the_limit_of_a_file(file: RawFile, store: FileStore, child: Start) -> None:
    """With the kernel's own limit in force: refused, and fine once it is lifted."""
    process = await child("fill", "10000")
    out, _ = await process.communicate()
    refused, after = out.decode().splitlines()
    count = int(refused.split()[0])
    assert "file size limit" in refused
    assert after == "after"
    texts = said(await view(store))
    assert [text for text in texts if text[0] == "a"] == [*(f"a{i}" for i in range(count)), "after"]
    assert len(file.data) > 10_000 - 700


async def test_blanks_that_fail_too(store: FileStore, disk: FaultyDisk) -> None:
    """If the part that was written cannot be taken back, nobody may claim that it is not there."""
    first = await add(store, "a")
    disk.fill(30, errno.EIO)
    disk.fail("pwrite", errno.EIO)
    with pytest.raises(DurabilityUnknown):
        await add(store, "b", known=first.end)
    await add(store, "c")
    assert said(await view(store)) == ["a", "c"]


async def test_one_failed_sync(store: FileStore, file: RawFile, disk: FaultyDisk) -> None:
    """It is not acknowledged; the next append writes it once more, and it is seen once."""
    first = await add(store, "a")
    disk.fail("fdatasync", errno.EIO)
    with pytest.raises(DurabilityUnknown, match="may be lost"):
        await add(store, "b", TurnEnd("s", "done"), known=first.end)
    done = await add(store, "c", known=first.end)
    found = await view(store)
    assert said(found) == ["a", "b", "c"]
    assert [record.n for record in found.records if isinstance(record, Message)] == [0, 1, 2]
    assert [type(record.event).__name__ for record in found.records if isinstance(record, Snapshot)] == [
        "Opened",
        "TurnEnd",
    ]
    assert [record.content for record in done.others if isinstance(record, Message)] == ["b"]
    assert file.data.count(b'"content":"b"') == 2


async def test_what_is_repeated_stands_in_fresh_blocks(store: FileStore, file: RawFile, disk: FaultyDisk) -> None:
    """The block that failed is left alone, and NULs in its place later would merge with no line."""
    first = await add(store, "a")
    disk.fail("fdatasync", errno.EIO)
    with pytest.raises(DurabilityUnknown):
        await add(store, "b", known=first.end)
    await add(store, "c", known=first.end)
    data = file.data
    again = data.rindex(b'{"role":"user","content":"b"')
    assert again > 4096
    assert data[4096:again] == b"\n"
    file.write(data[: first.end] + bytes(4096 - first.end) + data[4096:])
    found = await view(store)
    assert (said(found), found.unreadable) == (["a", "b", "c"], 1)


async def test_undo_after_a_failed_sync(store: FileStore, disk: FaultyDisk) -> None:
    """Of lines that stand in the file twice, neither is live once they are taken back."""
    first = await add(store, "a")
    disk.fail("fdatasync", errno.EIO)
    with pytest.raises(DurabilityUnknown):
        await add(store, "b", TurnEnd("s", "done"), known=first.end)
    await add(store, "c", known=first.end)
    found = await view(store)
    undone = next(record for record in found.records if isinstance(record, Message) and record.content == "b")
    await add(store, Rewind(undone.start, undone.n, "undo"), known=found.end)
    assert said(await view(store)) == ["a"]


async def test_a_device_that_never_works(store: FileStore, disk: FaultyDisk) -> None:
    """Nothing is ever acknowledged, and reading goes on."""
    first = await add(store, "a")
    disk.fail("fdatasync", errno.EIO, times=1000)
    with pytest.raises(DurabilityUnknown):
        await add(store, "b", known=first.end)
    for _ in range(20):
        with pytest.raises(NotWritten):
            await add(store, "c", known=first.end)
        assert said(await view(store)) == ["a", "b"]


async def test_a_device_that_works_again(store: FileStore, disk: FaultyDisk) -> None:
    """After many failures all that was in doubt is written, once in the view and without growing with each attempt."""
    first = await add(store, "a")
    disk.fail("fdatasync", errno.EIO, times=10)
    with pytest.raises(DurabilityUnknown):
        await add(store, "b", known=first.end)
    for _ in range(9):
        with pytest.raises(NotWritten):
            await add(store, "c", known=first.end)
    done = await add(store, "c", known=first.end)
    assert said(await view(store)) == ["a", "b", "c"]
    assert done.end < 12 * 4096
    assert disk.calls["fdatasync"] == 1 + 10 + 2


async def test_lines_without_a_sync_are_repeated_too(store: FileStore, disk: FaultyDisk) -> None:
    """A failed sync puts in doubt all lines since the last good one."""
    first = await add(store, "a")
    second = await add(store, "tool", known=first.end, durable=False)
    disk.fail("fdatasync", errno.EIO)
    with pytest.raises(DurabilityUnknown):
        await add(store, "b", known=second.end)
    done = await add(store, "c", known=second.end)
    repeated = [record.content for record in done.others if isinstance(record, Message)]
    assert repeated == ["tool", "b"]
    assert said(await view(store)) == ["a", "tool", "b", "c"]


async def test_nothing_is_repeated_without_an_error(store: FileStore, file: RawFile) -> None:
    """However many lines are appended without a sync, each is written once."""
    known = 0
    for i in range(50):
        known = (await add(store, f"<{i}>", known=known, durable=i % 7 == 0)).end
    assert [file.data.count(b'"<%d>"' % i) for i in range(50)] == [1] * 50


async def test_a_directory_that_cannot_be_synced(store: FileStore, disk: FaultyDisk) -> None:
    """A new file whose name may be lost is not acknowledged."""
    await store.append(type(KEY)("cli", "first"), [say("x")], known=0, durable=True, now=NOW)
    disk.fail("fsync", errno.EIO)
    with pytest.raises(NotWritten):
        await add(store, "a")
    before = disk.calls["fsync"]
    await add(store, "a")
    assert disk.calls["fsync"] == before + 1


@pytest.mark.parametrize(
    ("durability", "durable", "syncs"),
    [("turn", True, 1), ("turn", False, 0), ("always", False, 1), ("off", True, 0)],
    ids=["turn asked", "turn not asked", "always", "off"],
)
async def test_durability(tmp_path: Path, disk: FaultyDisk, durability: str, durable: bool, syncs: int) -> None:
    """A setting says when the device is waited for."""
    store = FileStore(tmp_path / "sessions", durability=durability, disk=disk.disk)  # type: ignore[arg-type]  # one of three
    await add(store, "a", durable=durable)
    await store.close()
    assert disk.calls["fdatasync"] == syncs


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES], ids=lambda e: errno.errorcode[e])
async def test_read_only(store: FileStore, disk: FaultyDisk, tmp_path: Path, error: int) -> None:
    """Reading goes on; appending says which directory is read-only."""
    await add(store, "a")
    await store.close()
    other = FileStore(tmp_path / "data" / "sessions", disk=disk.disk)
    disk.fail("open", error, times=100)
    assert said(await view(other)) == ["a"]
    with pytest.raises(NotWritten, match=f"data directory {tmp_path / 'data'} is read-only"):
        await add(other, "b")
    with pytest.raises(NotWritten, match="read-only"):
        async with other.lease(KEY):
            pass
    await other.close()


async def test_no_descriptor_left(store: FileStore, disk: FaultyDisk) -> None:
    """Only the caller that got none fails, and others go on."""
    disk.fail("open", errno.EMFILE, times=2)
    with pytest.raises(NotWritten, match="too many files are open"):
        await add(store, "a")
    await add(store, "b")
    assert said(await view(store)) == ["b"]


async def test_idle_files_make_room(store: FileStore, disk: FaultyDisk) -> None:
    """Before a caller fails for want of a descriptor, those that nobody needs are closed."""
    await store.append(type(KEY)("cli", "idle"), [say("x")], known=0, durable=True, now=NOW)
    disk.fail("open", errno.EMFILE)
    await add(store, "a")


async def test_more_sessions_than_descriptors(child: Start) -> None:
    """Forty descriptors serve two hundred sessions at once."""
    process = await child("many", "40")
    out, _ = await process.communicate()
    assert out == b"done\n"


async def test_a_fault_of_a_draft_stops_nobody(store: FileStore) -> None:
    """A draft that is nonsense fails its own caller, even if it is nonsense nobody thought of."""
    await add(store, "a")
    with pytest.raises(TypeError):
        await store.append(KEY, ["no draft"], known=0, durable=True, now=NOW)  # type: ignore[list-item]  # the point
    await add(store, "b")
    assert said(await view(store)) == ["a", "b"]


async def test_a_closed_store_refuses(store: FileStore) -> None:
    """After close nothing is written."""
    await store.close()
    with pytest.raises(NotWritten, match="closed"):
        await add(store, "a")


async def test_an_enormous_message(store: FileStore, file: RawFile) -> None:
    """It is refused in plain words, and not one byte of it is written."""
    with pytest.raises(NotWritten, match=r"message of 50\.0 MB is longer than a line may be \(8 MiB\)"):
        await add(store, "x" * 50_000_000)
    assert file.data == b""


async def test_a_device_that_lies(tmp_path: Path, disk: FaultyDisk, file: RawFile) -> None:
    """A sync that says all is well is not believed after a failure, until the lines can be read back."""
    lies = [True]

    def forget(fd: int) -> None:
        if lies.pop():
            with file.path.open("r+b") as raw:
                raw.seek(4096)
                raw.write(bytes(100))

    store = FileStore(tmp_path / "data" / "sessions", disk=replace(disk.disk, forget=forget))
    first = await add(store, "a")
    disk.fail("fdatasync", errno.EIO)
    with pytest.raises(DurabilityUnknown):
        await add(store, "b", known=first.end)
    with pytest.raises(NotWritten, match="does not keep what is written"):
        await add(store, "c", known=first.end)
    lies.append(False)
    await add(store, "c", known=first.end)
    assert said(await view(store)) == ["a", "b", "c"]
    await store.close()


async def test_a_blob_that_has_no_room(store: FileStore, disk: FaultyDisk, tmp_path: Path) -> None:
    """It is refused, leaves nothing, and can be kept when there is room."""
    disk.fill(3, errno.ENOSPC)
    with pytest.raises(NotWritten, match="no space"):
        await store.put_blob(b"picture")
    assert os.listdir(tmp_path / "data" / "blobs") == []
    assert await store.get_blob(await store.put_blob(b"picture")) == b"picture"


async def test_what_killed_processes_left_of_blobs(store: FileStore, tmp_path: Path) -> None:
    """An old part is removed, one that may be in the making is not."""
    await store.put_blob(b"a")
    parts = [RawFile(tmp_path / "data" / "blobs" / f"{name}.part") for name in ("old", "new")]
    for part in parts:
        part.write(b"x")
    os.utime(parts[0].path, (1, 1))
    other = FileStore(tmp_path / "data" / "sessions")
    await other.put_blob(b"a")
    assert [name for name in os.listdir(tmp_path / "data" / "blobs") if name.endswith(".part")] == ["new.part"]
    await other.close()


async def test_descriptors_are_bounded(tmp_path: Path) -> None:
    """However many sessions are written, no more files than agreed stay open."""
    store = FileStore(tmp_path / "data" / "sessions", max_open=3)
    before = len(os.listdir("/proc/self/fd"))
    for i in range(30):
        await store.append(type(KEY)("cli", f"s{i}"), [say("a")], known=0, durable=False, now=NOW)
    await store.append(type(KEY)("cli", "s0"), [say("b")], known=0, durable=False, now=NOW)
    assert len(os.listdir("/proc/self/fd")) <= before + 4
    await store.close()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert len(await store.list()) == 30


CALLS = {
    "write": errno.ENOSPC,
    "pwrite": errno.EIO,
    "fdatasync": errno.EIO,
    "fsync": errno.EIO,
    "open": errno.EMFILE,
    "open to read": errno.EMFILE,
}


@dataclass(frozen=True)
class Fault:
    """A call that fails `times` times, `skip` calls after the append numbered `before` begins."""

    before: int
    call: str
    skip: int
    times: int
    room: int


FAULTS = st.builds(
    Fault,
    st.integers(0, 7),
    st.sampled_from(sorted(CALLS)),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(0, 400),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(FAULTS, max_size=5), st.integers(0, 255))
def test_any_faults(faults: list[Fault], durable: int) -> None:
    """Whatever fails when: what was acknowledged is there, once and in order, and what was refused is not."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_endure(faults, durable, Path(directory)))


async def _endure(faults: list[Fault], durable: int, directory: Path) -> None:
    disk = FaultyDisk()
    store = FileStore(directory / "sessions", disk=disk.disk)
    fate: dict[int, str] = {}
    for i in range(8):
        for fault in faults:
            if fault.before == i and fault.call == "write":
                disk.fill(fault.room, CALLS["write"])
            elif fault.before == i:
                disk.fail(fault.call, CALLS[fault.call], skip=fault.skip, times=fault.times)
        try:
            await add(store, f"q{i}", say(f"a{i}" + "x" * 300, "assistant"), durable=bool(durable >> i & 1))
            fate[i] = "acknowledged"
        except NotWritten:
            fate[i] = "refused"
        except DurabilityUnknown:
            fate[i] = "unknown"
    disk.heal()
    await add(store, "q8", say("a8", "assistant"))
    found = await view(store)
    texts = [text.rstrip("x") for text in said(found)]
    for i in range(8):
        pair = [f"q{i}", f"a{i}"]
        outcomes: dict[str, list[list[str]]] = {
            "acknowledged": [pair],
            "refused": [[]],
            "unknown": [[], pair[:1], pair],
        }
        assert [text for text in texts if text in pair] in outcomes[fate[i]], fate
    assert texts == sorted(texts, key=lambda text: (int(text[1:]), text[0] == "a"))
    numbers = [record.n for record in found.records if isinstance(record, Message)]
    assert numbers == sorted(set(numbers))
    fresh = FileStore(directory / "sessions")
    assert await view(fresh) == found
    await fresh.close()
    await store.close()
