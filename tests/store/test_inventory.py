"""Which files hold sessions, and whose each is."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from nanochat.errors import StoreError, WrongFile
from nanochat.keys import SessionKey
from nanochat.lines import encode
from nanochat.records import Opened, Snapshot, State
from nanochat.store import Disk
from nanochat.store.inventory import Kept, inventory
from nanochat.store.names import stem_of
from tests.contracts.store import KEY, NOW

LONG = SessionKey("http", "X" * 300)


def header(key: SessionKey) -> bytes:
    return encode(Snapshot(State(str(key), NOW, NOW), Opened()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "archive").mkdir()
    return tmp_path


def put(path: Path, key: SessionKey = KEY) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(header(key))
    return path


def told(data: Path, key: SessionKey | None = None) -> list[tuple[str, bool]]:
    """The keys that are found, and which were put away."""
    return sorted((str(kept.key), kept.is_archived) for kept in inventory(Disk(), data / "sessions", key).files)


def test_names_and_headers(data: Path) -> None:
    """A name tells its key, or else the header does; nanobot's names are told as well."""
    put(data / "sessions" / f"{stem_of(KEY)}.jsonl")
    put(data / "sessions" / f"{stem_of(LONG)}.jsonl", LONG)
    put(data / "sessions" / "telegram_7.jsonl", SessionKey("telegram", "7"))
    (data / "sessions" / f"{base64.urlsafe_b64encode(b'cli:old').decode().rstrip('=')}.jsonl").write_bytes(b"{}\n")
    put(data / "sessions" / ("0" * 32) / "cli+deep.jsonl", SessionKey("cli", "deep"))
    keys = sorted(("telegram:12345", str(LONG), "telegram:7", "cli:old", "cli:deep"))
    assert told(data) == [(key, False) for key in keys]


def test_what_was_put_away(data: Path) -> None:
    """As often as it was, beside the session that is in use now."""
    put(data / "sessions" / f"{stem_of(KEY)}.jsonl")
    for stamp in ("20261120T175800Z", "20261121T090000Z"):
        put(data / "archive" / f"{stem_of(KEY)}.{stamp}.jsonl")
    put(data / "archive" / f"{stem_of(LONG)}.20261120T175800Z.jsonl", LONG)
    (data / "archive" / "receipts.jsonl").write_bytes(b'{"key":"telegram:12345"}\n')
    assert told(data) == sorted([(str(KEY), False), (str(KEY), True), (str(KEY), True), (str(LONG), True)])


@pytest.mark.parametrize("key", [KEY, LONG], ids=["its own name", "a shortened name"])
def test_of_one_session(data: Path, key: SessionKey) -> None:
    """All its files, and no other's."""
    for each in (KEY, LONG, SessionKey("telegram", "1")):
        put(data / "sessions" / f"{stem_of(each)}.jsonl", each)
        put(data / "archive" / f"{stem_of(each)}.20261120T175800Z.jsonl", each)
    assert told(data, key) == [(str(key), False), (str(key), True)]


def test_a_file_with_two_names_is_one(data: Path) -> None:
    """As after a crash between the two halves of a move."""
    path = put(data / "sessions" / f"{stem_of(KEY)}.jsonl")
    os.link(path, data / "archive" / f"{stem_of(KEY)}.20261120T175800Z.jsonl")
    found = inventory(Disk(), data / "sessions")
    assert found.files == (Kept(path, KEY, len(header(KEY))),)


def test_what_is_no_session(data: Path) -> None:
    """Empty ones, hidden ones, others' names, and such as tell no key."""
    for name in ("notes.jsonl", "x.txt", ".cli+x.jsonl", "cli+x.torn", "~.jsonl"):
        (data / "sessions" / name).write_bytes(b"hello\n")
    (data / "sessions" / "cli+empty.jsonl").write_bytes(b"")
    found = inventory(Disk(), data / "sessions")
    assert (found.files, found.faults) == ((), ())


def test_a_name_that_cannot_be_told(data: Path) -> None:
    """Where the header is needed and cannot be read, that is said; not to who asks for another session."""
    (data / "sessions" / "mystery.jsonl").symlink_to("elsewhere")
    found = inventory(Disk(), data / "sessions")
    assert [type(fault) for fault in found.faults] == [WrongFile]
    assert "mystery.jsonl" in str(found.faults[0])
    assert inventory(Disk(), data / "sessions", KEY).faults == ()


def test_what_is_no_file(data: Path) -> None:
    """It has a session's name and no bytes, and is not passed over: whoever reads it learns why it cannot be."""
    os.mkfifo(path := data / "sessions" / f"{stem_of(KEY)}.jsonl")
    assert inventory(Disk(), data / "sessions").files == (Kept(path, KEY, 0),)


def test_a_file_in_the_directorys_place(data: Path) -> None:
    """It is said, and not taken for an empty directory."""
    (data / "sessions").rmdir()
    (data / "sessions").write_text("in the way")
    with pytest.raises(StoreError, match="sessions is not a directory; move it away"):
        inventory(Disk(), data / "sessions")


def test_a_file_in_the_archives_place(data: Path) -> None:
    """It is said too, and those that are in use are told all the same."""
    (data / "archive").rmdir()
    (data / "archive").write_text("in the way")
    path = put(data / "sessions" / f"{stem_of(KEY)}.jsonl")
    found = inventory(Disk(), data / "sessions")
    assert [kept.path for kept in found.files] == [path]
    assert [str(fault) for fault in found.faults] == [f"{data / 'archive'} is not a directory; move it away"]


def test_nothing_there(tmp_path: Path) -> None:
    """No directory is no session, and is not made."""
    assert inventory(Disk(), tmp_path / "data" / "sessions").files == ()
    assert list(tmp_path.iterdir()) == []
