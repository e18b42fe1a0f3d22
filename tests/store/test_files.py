"""Places, names, rights and formats: which file is a session's, and which is not to be touched."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanochat.errors import NewerFormat, NotWritten, StoreError, WrongFile
from nanochat.keys import SessionKey
from nanochat.records import TurnEnd
from nanochat.store import FileStore
from tests.contracts.store import KEY, NOW, add, said, say, view
from tests.fakes.disk import FaultyDisk
from tests.store.raw import RawFile


@pytest.fixture(params=[0, 0o777], ids=["umask 0", "umask 777"])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
async def test_modes(store: FileStore, tmp_path: Path) -> None:
    """Directories are 0700 and files 0600, whatever the umask."""
    await add(store, "a")
    await store.put_blob(b"x")
    async with store.lease(KEY):
        pass
    folders, files = [], []
    for folder, _, names in os.walk(tmp_path / "data"):
        folders.append(stat.S_IMODE(os.stat(folder).st_mode))
        files += [stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) for name in names]
    assert folders == [0o700] * 4
    assert files == [0o600] * 3


async def test_reading_makes_nothing(tmp_path: Path) -> None:
    """Neither making a store nor asking it anything touches the disk."""
    store = FileStore(tmp_path / "data" / "sessions")
    assert await store.read(KEY, exchanges=1, limit_bytes=1) is None
    assert await store.list() == []
    assert (await store.catch_up(KEY, 0)).records == ()
    assert await store.get_blob("0" * 64) is None
    await store.close()
    assert os.listdir(tmp_path) == []


async def test_reading_changes_nothing(store: FileStore, file: RawFile) -> None:
    """Not even a torn end, nor a time."""
    await add(store, "a")
    file.add(b'{"torn')
    before = (file.status, file.data)
    await view(store)
    await store.list()
    await store.check(KEY)
    assert (file.status, file.data) == before


def _link(path: Path) -> None:
    path.symlink_to("/dev/null")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [_link, _dangling, os.mkfifo, os.mkdir], ids=["link", "dangling", "FIFO", "directory"])
async def test_what_is_no_file(store: FileStore, file: RawFile, make: object) -> None:
    """It is refused without a hang, for reading and for writing, and left out of the list."""
    assert callable(make)
    await store.append(SessionKey("cli", "x"), [say("a")], known=0, durable=False, now=NOW)
    make(file.path)
    with pytest.raises(WrongFile, match="not a regular file"):
        await store.read(KEY, exchanges=1, limit_bytes=1)
    with pytest.raises(WrongFile, match="not a regular file"):
        await add(store, "a")
    assert [str(brief.key) for brief in await store.list()] == ["cli:x"]


async def test_another_sessions_file(store: FileStore, file: RawFile) -> None:
    """A copy under the wrong name is refused, both keys named, and not mended."""
    await store.append(SessionKey("cli", "x"), [say("a")], known=0, durable=False, now=NOW)
    data = RawFile(file.path.with_name("cli+x.jsonl")).data + b"torn"
    file.write(data)
    for attempt in (store.read(KEY, exchanges=1, limit_bytes=1), add(store, "b")):
        with pytest.raises(WrongFile, match="belongs to session cli:x, not to telegram:12345"):
            await attempt
    assert file.data == data


async def test_a_shortened_name_of_another_key(store: FileStore, tmp_path: Path) -> None:
    """Where the name does not tell the key, the header does."""
    long, other = SessionKey("http", "a" * 300), SessionKey("http", "a" * 301)
    await store.append(long, [say("a")], known=0, durable=False, now=NOW)
    assert [brief.key for brief in await store.list()] == [long]
    os.rename(store.path_of(long), store.path_of(other))
    with pytest.raises(WrongFile):
        await store.read(other, exchanges=1, limit_bytes=1)


@pytest.mark.parametrize("first", [True, False], ids=["header", "later line"])
async def test_a_newer_format(store: FileStore, file: RawFile, first: bool) -> None:
    """It is read, and never written, not even to mend its end."""
    await add(store, "a")
    newer = file.data.splitlines(keepends=True)[0].replace(b'"v":1', b'"v":2')
    file.write((newer if first else file.data + newer) + b'{"role":"user","content":"b"}\n{"torn')
    before = file.data
    await store.close()
    store = FileStore(file.path.parent)
    assert said(await view(store))[-1] == "b"
    with pytest.raises(NewerFormat, match="format 2"):
        await add(store, "c")
    assert file.data == before
    await store.close()


async def test_the_data_directory_is_a_file(tmp_path: Path) -> None:
    """It is said, and nothing hangs or is removed."""
    RawFile(tmp_path / "data").write(b"x")
    store = FileStore(tmp_path / "data" / "sessions")
    with pytest.raises(StoreError, match="data is not a directory; move it away"):
        await store.list()
    with pytest.raises(NotWritten, match="data"):
        await add(store, "a")
    with pytest.raises(StoreError):
        await store.read(KEY, exchanges=1, limit_bytes=1)
    with pytest.raises(StoreError):
        await store.exists(KEY)
    await store.close()


async def test_putting_a_session_away(store: FileStore, file: RawFile, tmp_path: Path) -> None:
    """The file is elsewhere whole, with a receipt, and the next append begins a new one."""
    first = await add(store, "a", "b", TurnEnd("s", "done"))
    data = file.data
    (archived,) = await store.archive(KEY, at=NOW, reason="asked")
    assert archived.moved_to == tmp_path / "data" / "archive" / "telegram+12345.20261120T120000Z.jsonl"
    assert RawFile(archived.moved_to).data == data
    assert (archived.messages, archived.turns, archived.size_bytes) == (2, 1, len(data))
    (receipt,) = RawFile(tmp_path / "data" / "archive" / "receipts.jsonl").lines()
    assert receipt == archived.fields()
    assert (receipt["key"], receipt["from"], receipt["at"]) == (str(KEY), str(file.path), NOW.isoformat())
    assert await store.read(KEY, exchanges=1, limit_bytes=1) is None
    assert (await add(store, "c", known=first.end)).replaced
    assert said(await view(store)) == ["c"]


async def test_putting_away_replaces_nothing(store: FileStore, file: RawFile, tmp_path: Path) -> None:
    """Twice in one second: two files, each with its fragments, and two receipts."""
    for name in ("one", "two"):
        await add(store, name)
        file.add(name.encode())
        await add(store, "more")
        await store.archive(KEY, at=NOW, reason="asked")
    archive = tmp_path / "data" / "archive"
    stem = "telegram+12345.20261120T120000Z"
    names = [f"{stem}-2.jsonl", f"{stem}-2.torn", f"{stem}.jsonl", f"{stem}.torn", "receipts.jsonl"]
    assert sorted(os.listdir(archive)) == sorted(names)
    assert (archive / f"{stem}.torn").read_bytes() == b"one\n"
    assert os.listdir(file.path.parent) == []
    receipts = RawFile(archive / "receipts.jsonl").lines()
    assert [Path(receipt["to"]).name for receipt in receipts] == [f"{stem}.jsonl", f"{stem}-2.jsonl"]


@pytest.mark.parametrize("skip", [1, 2], ids=["the place", "the receipt"])
async def test_what_cannot_be_put_away_stays(tmp_path: Path, file: RawFile, skip: int) -> None:
    """Where the archive cannot be written the session is as it was, and nothing is left there."""
    faulty = FaultyDisk()
    store = FileStore(file.path.parent, disk=faulty.disk)
    await add(store, "a")
    data = file.data
    faulty.fail("open", errno.EACCES, skip=skip, times=9)
    with pytest.raises(NotWritten, match="not ours: no permission"):
        await store.archive(KEY, at=NOW, reason="asked")
    assert file.data == data
    assert os.listdir(tmp_path / "data" / "archive") == []
    await store.close()


async def test_a_full_disk_puts_nothing_away(tmp_path: Path, file: RawFile) -> None:
    """A torn receipt is no receipt, and the next one begins on a line of its own."""
    faulty = FaultyDisk()
    store = FileStore(file.path.parent, disk=faulty.disk)
    await add(store, "a")
    faulty.fill(10, errno.ENOSPC)
    with pytest.raises(NotWritten, match="no space"):
        await store.archive(KEY, at=NOW, reason="asked")
    assert said(await view(store)) == ["a"]
    (archived,) = await store.archive(KEY, at=NOW, reason="asked")
    torn, whole = (tmp_path / "data" / "archive" / "receipts.jsonl").read_text().splitlines()
    assert len(torn) == 10
    assert json.loads(whole) == archived.fields()
    await store.close()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
async def test_a_move_that_fails_voids_its_receipt(store: FileStore, file: RawFile) -> None:
    """Another file system under `sessions` cannot be moved out of: what stands in the receipts says that it was not done."""
    await add(store, "a")
    mounted = file.path.parent
    elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        (elsewhere / file.path.name).write_bytes(file.data)
        shutil.rmtree(mounted)
        mounted.symlink_to(elsewhere)
        with pytest.raises(NotWritten):
            await store.archive(KEY, at=NOW, reason="asked")
        assert said(await view(store)) == ["a"]
        archive = mounted.parent / "archive"
        assert os.listdir(archive) == ["receipts.jsonl"]
        done, void = RawFile(archive / "receipts.jsonl").lines()
        assert void == {**{name: done[name] for name in ("key", "from", "to", "at")}, "void": os.strerror(errno.EXDEV)}
    finally:
        shutil.rmtree(elsewhere)


async def test_removing_a_session(store: FileStore, file: RawFile) -> None:
    """It is gone with its fragments, and can begin anew."""
    await add(store, "a")
    file.add(b"torn")
    await add(store, "b")
    await store.remove(KEY)
    assert await store.list() == []
    assert os.listdir(file.path.parent) == []
    await add(store, "c")
    assert said(await view(store)) == ["c"]


async def test_blobs_outlive_the_store(store: FileStore, tmp_path: Path) -> None:
    """A blob is a file of its content's name; a damaged one is none, and can be put again."""
    name = await store.put_blob(b"picture" * 1000)
    blob = RawFile(tmp_path / "data" / "blobs" / name)
    other = FileStore(tmp_path / "data" / "sessions")
    assert await other.get_blob(name) == b"picture" * 1000
    blob.write(b"damage")
    assert await other.get_blob(name) is None
    assert await other.put_blob(b"picture" * 1000) == name
    assert await other.get_blob(name) == b"picture" * 1000
    assert os.listdir(tmp_path / "data" / "blobs") == [name]
    await other.close()


@pytest.mark.parametrize(
    "name", ["../sessions/telegram+12345.jsonl", "", "ABC", "0" * 63], ids=["path", "empty", "short", "63"]
)
async def test_what_is_no_name_of_a_blob(store: FileStore, name: str) -> None:
    """It names nothing, wherever it would lead."""
    await add(store, "a")
    assert await store.get_blob(name) is None
