"""The program's way in and out: options, exit codes, one line for an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import nanochat as package
from tests.cli.conftest import Nanochat

NANOCHAT = [sys.executable, "-m", "nanochat"]
COMMANDS = [(), ("chat",), ("sessions",), ("sessions", "list")]


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "nanochat")
def test_help(nanochat: Nanochat, command: tuple[str, ...], flag: str) -> None:
    """Everywhere, long and short."""
    ran = nanochat(*command, flag)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Usage: nanochat")


def test_version(nanochat: Nanochat) -> None:
    """One line."""
    assert nanochat("--version").out == f"nanochat {package.__version__}\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("-s", "../x", "-m", "hi"), "'../x' is not a session key"),
        (("-s", "", "-m", "hi"), "'' is not a session key"),
        (("-s", "work", "-m", "hi"), "did you mean cli:work?"),
        (("-s", "cli:a\nb", "-m", "hi"), "is not a session key"),
        (("--nonsense",), "no such option"),
        (("nonsense",), "no such command"),
        (("chat", "more"), "unexpected extra argument"),
        (("-m",), "requires an argument"),
        (("--config", "/no/such.toml", "-m", "hi"), "/no/such.toml: there is no such settings file"),
        (("-m", "hi", "--config", "/no/such.toml"), "/no/such.toml: there is no such settings file"),
        (("sessions", "list", "--config=/no/such.toml"), "/no/such.toml: there is no such settings file"),
    ],
    ids=lambda value: " ".join(value).replace("\n", "") if isinstance(value, tuple) else "",
)
def test_wrong_use_is_one_line_and_2(nanochat: Nanochat, args: tuple[str, ...], words: str) -> None:
    """On standard error, with nothing on standard output."""
    ran = nanochat(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("nanochat: ")
    assert len(ran.err.splitlines()) == 1
    assert words in ran.err


def test_a_wrong_setting_is_one_line_and_2(nanochat: Nanochat, tmp_path: Path) -> None:
    """Naming file and key."""
    path = tmp_path / "n.toml"
    path.write_text("[limits]\nwaitin = 1\n")
    ran = nanochat("--config", str(path), "-m", "hi")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"nanochat: {path}: limits.waitin is not a setting; did you mean waiting?\n"


def test_a_traceback_only_with_debug(nanochat: Nanochat) -> None:
    """And the one line still at its end."""
    assert "Traceback" not in nanochat("-s", "x", "-m", "hi").err
    ran = nanochat("--debug", "-s", "x", "-m", "hi")
    assert "Traceback" in ran.err
    assert ran.err.splitlines()[-1].startswith("nanochat: 'x' is not a session key")


def test_no_secret_in_an_error(nanochat: Nanochat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in its line nor in the traceback, wherever it was put by mistake."""
    monkeypatch.setenv("NANOCHAT_MODEL_KEY", "hunter22")
    monkeypatch.setenv("NANOCHAT_MODEL__BASE_URL", "hunter22 sk-ant-abc")
    ran = nanochat("--debug", "-m", "hi")
    assert ran.code == 2
    assert "hunter22" not in ran.err
    assert "sk-ant" not in ran.err


def test_options_of_the_program_are_taken_behind_the_command(nanochat: Nanochat, tmp_path: Path) -> None:
    """Where one types them is nobody's concern."""
    assert nanochat("chat", "-m", "hi", "--data-dir", str(tmp_path / "there")).code == 0
    assert (tmp_path / "there" / "sessions").is_dir()


def test_sessions(nanochat: Nanochat) -> None:
    """Newest first, a row each."""
    nanochat("-m", "the first")
    nanochat("-s", "cli:other", "-m", "the second")
    rows = nanochat("sessions").out.splitlines()
    assert [row.split()[0] for row in rows] == ["cli:other", "cli:default"]


@pytest.mark.parametrize("args", [("sessions", "--json"), ("sessions", "list", "--json")], ids=["group", "list"])
def test_sessions_as_json(nanochat: Nanochat, args: tuple[str, ...]) -> None:
    """One object per line, with `key`, and times with an offset."""
    nanochat("-m", "hello")
    (row,) = [json.loads(line) for line in nanochat(*args).out.splitlines()]
    assert (row["key"], row["turns"]) == ("cli:default", 1)
    assert datetime.fromisoformat(row["updated_at"]).tzinfo is not None


def test_sessions_changes_nothing(nanochat: Nanochat, tmp_path: Path) -> None:
    """Not a file, not an mtime."""
    nanochat("-m", "hello")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    nanochat("sessions")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before


def test_no_sessions(nanochat: Nanochat, tmp_path: Path) -> None:
    """Nothing is made where nothing is, and nothing stands on standard output."""
    ran = nanochat("sessions")
    assert (ran.code, ran.out) == (0, "")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("words", "offered"),
    [("nanochat ses", {"sessions"}), ("nanochat ", {"chat", "sessions"}), ("nanochat chat --no", {"--no-stream"})],
    ids=["command", "any", "option"],
)
def test_shell_completion(words: str, offered: set[str]) -> None:
    """What bash asks for at a Tab."""
    environ = {"_NANOCHAT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    ran = subprocess.run(
        NANOCHAT, capture_output=True, text=True, timeout=60, env={**os.environ, **environ}, check=True
    )
    assert {line.partition(",")[2] for line in ran.stdout.splitlines()} >= offered


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"], ids=["stdin", "stdout", "stderr"])
def test_a_closed_stream_is_no_crash(closed: str) -> None:
    """Some services start their programs so."""
    command = f"{' '.join(NANOCHAT)} -m hello {closed}"
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stderr == ""


def test_a_full_disk_is_one_line() -> None:
    """The answer could not be written: that is a failure."""
    command = f"{' '.join(NANOCHAT)} -m hello > /dev/full"
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (1, "nanochat: no space left on device\n")


def test_a_locale_without_the_characters_is_no_crash() -> None:
    """They are replaced."""
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ran = subprocess.run(
        [*NANOCHAT, "-m", "my name is Jürgen"], capture_output=True, timeout=60, env=environ, check=True
    )
    assert b"J?rgen" in ran.stdout


def imported(code: str) -> set[str]:
    """The modules that a fresh process has loaded after running `code`."""
    tail = "\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True, timeout=60)
    return set(ran.stderr.split())


def test_help_loads_little() -> None:
    """It is there at once: click, and words."""
    modules = imported(
        "from nanochat.__main__ import run; from nanochat.cli.options import State; run(['chat', '--help'], State())"
    )
    assert not modules & {"asyncio", "msgspec", "prompt_toolkit", "rich", "anthropic", "sqlite3", "nanochat.config"}


def test_the_prompt_waits_for_little() -> None:
    """What is slow to load is loaded behind it."""
    modules = imported("import nanochat.cli.chat, nanochat.channels.terminal.chat")
    assert not modules & {"rich", "anthropic", "sqlite3", "nanochat.cli.wiring", "markdown_it", "pygments"}
