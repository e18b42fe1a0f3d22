"""Commands over files and directories that are not what they should be: each is named, and what is sound goes on."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.cli.conftest import Nanochat
from tests.fakes.rights import ordinary_rights

Damaging: TypeAlias = Callable[[Path], object]


@pytest.fixture
def path(nanochat: Nanochat, tmp_path: Path) -> Path:
    """The file of `cli:default`, beside another session."""
    for key in ("cli:default", "cli:other"):
        nanochat("-s", key, "-m", "hello")
    return tmp_path / "data" / "sessions" / "cli+default.jsonl"


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


NO_FILES = [_link, _directory, _fifo]


@pytest.mark.parametrize("damage", NO_FILES, ids=["link", "directory", "fifo"])
@pytest.mark.parametrize("args", [(), ("cli:default",)], ids=["all", "one"])
def test_check_names_what_is_no_file(nanochat: Nanochat, path: Path, damage: Damaging, args: tuple[str, ...]) -> None:
    """A list leaves it out; whoever checks learns of it, and the others are checked all the same."""
    damage(path)
    ran = nanochat("sessions", "check", *args)
    assert (ran.code, ran.out) == (1, f"session cli:default: {path} is not a regular file; move it away\n")
    assert ran.err == f"nanochat: {'1 session' if args else '2 sessions'} checked\n"
    (row,) = map(json.loads, nanochat("sessions", "check", *args, "--json").out.splitlines())
    assert (row["key"], row["path"], row["line"], row["byte"]) == ("cli:default", str(path), None, None)
    assert "is not a regular file" in row["why"]


def test_check_names_what_cannot_be_opened(nanochat: Nanochat, path: Path) -> None:
    """A file that others own is no sound one."""
    path.chmod(0)
    with ordinary_rights():
        ran = nanochat("sessions", "check")
    assert ran.code == 1
    assert "session cli:default: cannot be read" in ran.out
    assert ran.err == "nanochat: 2 sessions checked\n"


def test_check_names_what_tells_no_key(nanochat: Nanochat, path: Path) -> None:
    """Where only the header could say whose it is, and cannot be read."""
    (path.parent / "mystery.jsonl").symlink_to("elsewhere")
    ran = nanochat("sessions", "check", "--json")
    assert ran.code == 1
    assert "mystery.jsonl is not a regular file" in json.loads(ran.out)["why"]


@pytest.mark.parametrize("damage", NO_FILES, ids=["link", "directory", "fifo"])
def test_deleting_what_is_no_file(nanochat: Nanochat, path: Path, damage: Damaging) -> None:
    """It is not ours to remove; the line names the session, and the path once."""
    damage(path)
    ran = nanochat("sessions", "delete", "cli:default", "--yes")
    assert (ran.code, ran.err) == (
        1,
        f"nanochat: session cli:default: {path} is not a regular file; move it away\n",
    )
    assert os.path.lexists(path)


@pytest.mark.parametrize("damage", NO_FILES, ids=["link", "directory", "fifo"])
def test_doctor_names_what_is_no_file(nanochat: Nanochat, path: Path, damage: Damaging) -> None:
    """Nothing hangs, and it is wrong."""
    damage(path)
    rows = list(map(json.loads, nanochat("doctor", "--offline", "--json").out.splitlines()))
    assert [row["found"] for row in rows if row["check"] == "sessions" and row["state"] == "wrong"] == [
        f"{path} is not a regular file"
    ]


@pytest.mark.parametrize("command", ["sessions", "sessions check", "sessions show cli:default", "usage", "tail"])
@pytest.mark.parametrize("whose", ["data", "sessions"])
def test_a_file_in_a_directorys_place(nanochat: Nanochat, tmp_path: Path, command: str, whose: str) -> None:
    """It is not taken for an empty one: one line says what to do."""
    place = tmp_path / "data" if whose == "data" else tmp_path / "data" / "sessions"
    place.parent.mkdir(exist_ok=True)
    place.write_text("in the way")
    ran = nanochat(*command.split())
    assert (ran.code, ran.out) == (1, "")
    assert len(ran.err.splitlines()) == 1
    assert str(place) in ran.err
    assert "ot a directory" in ran.err


def test_doctor_and_a_file_in_the_sessions_place(nanochat: Nanochat, tmp_path: Path) -> None:
    """It is found, and said to be in the way."""
    place = tmp_path / "data" / "sessions"
    place.parent.mkdir()
    place.write_text("in the way")
    ran = nanochat("doctor", "--offline")
    assert ran.code == 1
    assert f"{place} is not a directory → move it away" in ran.out


@pytest.mark.parametrize("args", [("sessions", "show", "cli:default"), ("-m", "hello")], ids=["show", "chat"])
def test_a_directory_that_may_not_be_entered(nanochat: Nanochat, path: Path, args: tuple[str, ...]) -> None:
    """It is no fault of the program's: one line names it and what to do."""
    path.parent.chmod(0)
    try:
        with ordinary_rights():
            ran = nanochat(*args)
    finally:
        path.parent.chmod(0o700)
    assert (ran.code, ran.out) == (1, "")
    assert str(path.parent) in ran.err
    assert "make it readable for you" in ran.err


def test_garbage_is_not_silence(nanochat: Nanochat, path: Path) -> None:
    """Where no line can be read, it is not only said that nothing was said."""
    path.write_bytes(b"\xff\xfe\n[1, 2\nnothing\n")
    for form in ((), ("-n", "1"), ("--json",)):
        ran = nanochat("sessions", "show", "cli:default", *form)
        assert "3 lines of cli:default cannot be read or used" in ran.err
    assert "3 lines of cli:default cannot be read" in nanochat("sessions", "export", "cli:default").err


COMMANDS = [
    "sessions show",
    "sessions export",
    "sessions export --format nanobot",
    "sessions reset",
    "sessions undo",
    "sessions archive",
    "sessions delete --yes",
    "sessions check",
    "usage",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_file_is_no_session_yet(nanochat: Nanochat, path: Path, command: str) -> None:
    """As a list has it; the next message begins it."""
    path.write_bytes(b"")
    before = path.stat()
    ran = nanochat(*command.split(), "cli:default")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "nanochat: there is no session cli:default; nanochat sessions lists them\n"
    assert stat.S_ISREG(path.stat().st_mode)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert nanochat("-m", "hello").code == 0


@pytest.mark.parametrize("command", [*COMMANDS, "usage --plot", "tail"])
def test_an_empty_key_is_none(nanochat: Nanochat, path: Path, command: str) -> None:
    """As from a variable of the shell that was never set: it does not mean all, nor the default one."""
    before = path.read_bytes()
    ran = nanochat(*command.split(), "")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "nanochat: '' is not a session key: it must look like cli:default or telegram:12345\n"
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", [*COMMANDS, "usage --plot", "tail"])
def test_a_key_that_was_mistyped(nanochat: Nanochat, path: Path, command: str) -> None:
    """Every command names the session that may have been meant."""
    ran = nanochat(*command.split(), "cli:defualt")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "nanochat: there is no session cli:defualt; did you mean cli:default? nanochat sessions lists them\n"
    )


def test_patterns_that_match_nothing(nanochat: Nanochat, path: Path) -> None:
    """One line, whatever stands in them."""
    ran = nanochat("sessions", "list", "x\ny\x1b[31m*")
    assert len(ran.err.splitlines()) == 1
    assert "\x1b" not in ran.err


def test_a_key_that_looks_like_a_pattern(nanochat: Nanochat, path: Path) -> None:
    """It names itself."""
    nanochat("-s", "http:a[1]", "-m", "hello")
    assert nanochat("sessions", "list", "http:a[1]").out.startswith("http:a[1] ")
