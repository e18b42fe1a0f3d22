"""`nanochat sessions reset`, `undo`, `archive` and `delete`: changing conversations from outside."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.conftest import Nanochat
from tests.fakes.rights import ordinary_rights


@pytest.fixture
def path(nanochat: Nanochat, tmp_path: Path) -> Path:
    """The file of `cli:default`, with two exchanges."""
    nanochat("-m", "my name is Olga")
    nanochat("-m", "hello")
    return tmp_path / "data" / "sessions" / "cli+default.jsonl"


def test_reset_and_back(nanochat: Nanochat, path: Path) -> None:
    """The old conversation is behind, and comes back; the file only grows."""
    before = path.read_bytes()
    ran = nanochat("sessions", "reset", "cli:default")
    assert ran.code == 0
    assert ran.out == "a new conversation begins in cli:default; nanochat sessions undo cli:default goes back\n"
    assert "Olga" not in nanochat("-m", "what is my name?").out
    assert nanochat("sessions", "undo", "cli:default").out == "took back “what is my name?”\n"
    assert nanochat("sessions", "undo", "cli:default").out == "took back the /new\n"
    assert "Olga" in nanochat("-m", "what is my name?").out
    assert path.read_bytes().startswith(before)


def test_undo_until_nothing_is_left(nanochat: Nanochat, path: Path) -> None:
    """It says what it took, and then that there is nothing, with 1."""
    rows = [json.loads(nanochat("sessions", "undo", "cli:default", "--json").out) for _ in range(2)]
    assert rows == [
        {"key": "cli:default", "undone": "exchange", "text": "hello"},
        {"key": "cli:default", "undone": "exchange", "text": "my name is Olga"},
    ]
    ran = nanochat("sessions", "undo", "cli:default", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "nanochat: there is nothing to take back in cli:default\n"


def test_archive(nanochat: Nanochat, path: Path) -> None:
    """The file is where the receipt says, and whoever asks for the session is told so."""
    before = path.read_bytes()
    row = json.loads(nanochat("sessions", "archive", "cli:default", "--json").out)
    assert (row["key"], row["from"], row["messages"], row["turns"]) == ("cli:default", str(path), 4, 2)
    assert (row["size_bytes"], row["reason"]) == (len(before), "asked")
    assert datetime.fromisoformat(row["at"]).tzinfo is not None
    assert Path(row["to"]).read_bytes() == before
    assert Path(row["to"]).stat().st_mode & 0o777 == 0o600
    (receipt,) = Path(row.pop("receipt")).read_text().splitlines()
    assert json.loads(receipt) == row
    assert nanochat("sessions", "show", "cli:default").err == (
        f"nanochat: there is no session cli:default; it was put away as {row['to']}; nanochat sessions lists them\n"
    )


def test_talking_on_and_bringing_back(nanochat: Nanochat, path: Path) -> None:
    """A new file begins; once it is away too, the old one can be moved back by hand."""
    first = json.loads(nanochat("sessions", "archive", "cli:default", "--json").out)
    assert "Olga" not in nanochat("-m", "what is my name?").out
    ran = nanochat("sessions", "archive", "cli:default")
    assert ran.out.startswith(f"cli:default (2 messages) is now {path.parent.parent / 'archive'}")
    Path(first["to"]).rename(first["from"])
    assert "Olga" in nanochat("-m", "what is my name?").out


def test_delete_asks_to_be_sure(nanochat: Nanochat, path: Path) -> None:
    """Without --yes it says what would be lost, on one line, and loses nothing."""
    before = path.read_bytes()
    ran = nanochat("sessions", "delete", "cli:default", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        f"nanochat: this would destroy cli:default for good: 4 messages in {len(before):,} bytes;"
        " --yes does it, nanochat sessions archive cli:default puts it away\n"
    )
    assert path.read_bytes() == before


def test_delete(nanochat: Nanochat, path: Path) -> None:
    """It is gone, and said to be."""
    size = path.stat().st_size
    row = json.loads(nanochat("sessions", "delete", "cli:default", "--yes", "--json").out)
    assert row == {"key": "cli:default", "deleted": True, "messages": 4, "size_bytes": size}
    assert os.listdir(path.parent) == []
    assert nanochat("sessions", "list").out == ""
    nanochat("-m", "hi")
    assert nanochat("sessions", "delete", "cli:default", "--yes").out.startswith("deleted cli:default: 2 messages in ")


@pytest.mark.parametrize("command", ["reset", "undo", "archive"])
def test_a_file_that_cannot_be_changed(nanochat: Nanochat, path: Path, command: str) -> None:
    """One line that names it and 1; the conversation is as it was."""
    keep = path.with_name("elsewhere")
    path.rename(keep)
    path.symlink_to(keep)
    before = keep.read_bytes()
    ran = nanochat("sessions", command, "cli:default")
    assert (ran.code, ran.out) == (1, "")
    assert "is not a regular file; move it away" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert keep.read_bytes() == before


def test_an_archive_that_cannot_be(nanochat: Nanochat, path: Path) -> None:
    """A file in the directory's place: the session stays where it is."""
    (path.parent.parent / "archive").write_text("in the way")
    ran = nanochat("sessions", "archive", "cli:default")
    assert (ran.code, ran.out) == (1, "")
    assert "nothing was written" in ran.err
    assert "Olga" in nanochat("sessions", "show", "cli:default").out


def test_a_read_only_directory(nanochat: Nanochat, path: Path) -> None:
    """Looking works; changing says in one line why it does not."""
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with ordinary_rights():
            assert "Olga" in nanochat("sessions", "show", "cli:default").out
            for command in ("reset", "undo", "archive"):
                ran = nanochat("sessions", command, "cli:default")
                assert (ran.code, ran.out) == (1, "")
                assert "read-only or not ours" in ran.err
    finally:
        path.parent.chmod(0o700)
