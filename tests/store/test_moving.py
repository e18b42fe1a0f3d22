"""A session put away or deleted by a process that dies, or whose disk fails, at any step of it."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from nanochat.errors import DurabilityUnknown, NotWritten, StoreError, WrongFile
from nanochat.keys import SessionKey
from nanochat.store import Disk, FileStore
from nanochat.store.inventory import inventory
from nanochat.store.moving import archive, remove
from nanochat.store.names import nanobot_stems
from tests.contracts.store import KEY, NOW, add
from tests.fakes.disk import FaultyDisk, Killed
from tests.store.raw import RawFile

# More than an archiving has; the last ones are not reached.
STEPS = range(24)


@pytest.fixture
async def path(store: FileStore, file: RawFile) -> Path:
    """A session of two messages, with a fragment beside it."""
    await add(store, "a")
    file.add(b"torn")
    await add(store, "b")
    return file.path


def files_of(path: Path, key: SessionKey = KEY) -> list[Path]:
    """Where the session is, by what looks at every file: in use, put away, or both."""
    return [kept.path for kept in inventory(Disk(), path.parent, key).files]


def receipts(path: Path) -> list[dict[str, object]]:
    file = path.parent.parent / "archive" / "receipts.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def fragments(path: Path) -> list[Path]:
    return [*path.parent.glob("*.torn"), *(path.parent.parent / "archive").glob("*.torn")]


def kill(faulty: FaultyDisk, step: int, path: Path) -> bool:
    """Archive, and die at that step; says whether it was reached."""
    faulty.killed_at = step
    try:
        archive(faulty.disk, path, path.parent.parent / "archive", KEY, NOW, "asked")
    except Killed:
        return True
    return False


@pytest.mark.parametrize("step", STEPS)
async def test_killed_while_it_is_put_away(path: Path, step: int) -> None:
    """The session is in one place, whole; moved, it has its receipt; and whatever is done next goes well."""
    data = RawFile(path).data
    is_killed = kill(FaultyDisk(), step, path)
    (place,) = files_of(path)
    assert place.read_bytes() == data
    assert len(fragments(path)) == 1
    if place != path:
        assert str(place) in [receipt["to"] for receipt in receipts(path)]
    assert is_killed or place != path
    store = FileStore(path.parent)
    assert await store.exists(KEY) == (place == path)
    await add(store, "c")
    (again,) = await store.archive(KEY, at=NOW, reason="asked")
    assert again.moved_to.read_bytes().startswith(data) == (place == path)
    assert sorted(files_of(path)) == sorted({place, again.moved_to} - {path})
    assert again.fields() in receipts(path)
    assert not await store.exists(KEY)
    await store.close()


def test_every_step_of_it_was_met(path: Path) -> None:
    """The one above would say nothing of steps that its numbers do not reach."""
    faulty = FaultyDisk()
    archive(faulty.disk, path, path.parent.parent / "archive", KEY, NOW, "asked")
    assert 10 < sum(faulty.calls.values()) < len(STEPS)
    assert faulty.calls["rename"] == 2


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
@pytest.mark.parametrize("skip", range(7))
def test_a_disk_that_fails_at_any_step(path: Path, call: str, skip: int) -> None:
    """What is said is so: it is where it was and nothing lies in the archive, or it is put away."""
    data = path.read_bytes()
    faulty = FaultyDisk()
    faulty.fail(call, errno.EIO, skip=skip)
    told = ""
    try:
        told = str(archive(faulty.disk, path, path.parent.parent / "archive", KEY, NOW, "asked").moved_to)
        is_moved = True
    except DurabilityUnknown as error:
        is_moved, told = True, str(error)
    except NotWritten:
        is_moved, told = False, str(path)
    (place,) = files_of(path)
    assert str(place) in told
    assert place.read_bytes() == data
    assert (place != path) == is_moved
    assert len(fragments(path)) == 1
    if not is_moved and place.parent.parent.joinpath("archive").is_dir():
        assert {*os.listdir(path.parent.parent / "archive")} <= {"receipts.jsonl"}


def test_receipts_that_are_no_file(path: Path) -> None:
    """Nothing is put away without a receipt, and no empty name stays in the archive."""
    directory = path.parent.parent / "archive"
    directory.mkdir()
    os.mkfifo(directory / "receipts.jsonl")
    with pytest.raises(WrongFile, match=r"^/[^:]*receipts.jsonl is not a regular file"):
        archive(Disk(), path, directory, KEY, NOW, "asked")
    assert os.listdir(directory) == ["receipts.jsonl"]
    assert files_of(path) == [path]


@pytest.mark.parametrize("step", range(4))
async def test_killed_while_it_is_deleted(path: Path, step: int) -> None:
    """It is there whole, or gone; deleting once more finishes it."""
    data = RawFile(path).data
    faulty = FaultyDisk()
    faulty.killed_at = step
    with suppress(Killed):
        remove(faulty.disk, path, KEY)
    assert [place.read_bytes() for place in files_of(path)] in ([], [data])
    store = FileStore(path.parent)
    if await store.exists(KEY):
        await store.remove(KEY)
        assert os.listdir(path.parent) == []
    await store.close()


@pytest.mark.parametrize(
    ("call", "skip", "is_gone"),
    [("unlink", 0, False), ("unlink", 1, True), ("fsync", 0, True)],
    ids=["the file", "its fragments", "the directory"],
)
def test_a_disk_that_fails_while_it_is_deleted(path: Path, call: str, skip: int, is_gone: bool) -> None:
    """It is not said to be there when it is gone."""
    faulty = FaultyDisk()
    faulty.fail(call, errno.EIO, skip=skip)
    with pytest.raises(StoreError) as caught:
        remove(faulty.disk, path, KEY)
    assert isinstance(caught.value, DurabilityUnknown) == is_gone
    assert isinstance(caught.value, NotWritten) != is_gone
    assert path.exists() != is_gone


@pytest.mark.parametrize("step", STEPS)
async def test_killed_between_two_files_of_a_session(path: Path, step: int) -> None:
    """Where nanobot left an older one, it is found next; neither is lost, nor twice there."""
    older = path.with_name(f"{nanobot_stems(KEY)[0]}.jsonl")
    older.write_bytes(b'{"_type":"metadata","key":"telegram:12345"}\n{"role":"user","content":"old"}\n')
    both = sorted([RawFile(path).data, RawFile(older).data])
    faulty = FaultyDisk()
    store = FileStore(path.parent, disk=faulty.disk)
    faulty.killed_at = step
    with suppress(Killed):
        await store.archive(KEY, at=NOW, reason="asked")
    assert sorted(place.read_bytes() for place in files_of(path)) == both
    faulty.killed_at = None
    if await store.exists(KEY):
        await store.archive(KEY, at=NOW, reason="asked")
    assert sorted(place.read_bytes() for place in files_of(path)) == both
    assert {*os.listdir(path.parent)} <= {path.with_suffix(".torn").name}  # a fragment may be left alone
    await store.close()
