"""The program on a real terminal of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal.pty_driver import driven

NANOCHAT = [sys.executable, "-m", "nanochat"]
SCRIPTED = [sys.executable, "-m", "tests.terminal.scripted_chat"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the package and the tests are importable by a new process."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_conversation() -> None:
    """A prompt, a message, an answer, Ctrl-D, and a clean end."""
    with driven(NANOCHAT) as program:
        program.shows("nanochat · cli:default · offline · /help", "the offline demo model answers", "you>")
        program.press("my name is Olga\r")
        program.shows("you> my name is Olga", "Olga.", " in · ")
        program.press("\x04")
        assert program.exit_code() == 0
    assert "Traceback" not in program.screen.text


def test_coming_back(tmp_path: Path) -> None:
    """The last exchange is there again, and so is what was typed."""
    with driven(NANOCHAT) as program:
        program.shows("you>")
        program.press("my name is Olga\r")
        program.shows("Olga.", " in · ")
        program.press("/exit\r")
        assert program.exit_code() == 0
    with driven(NANOCHAT) as program:
        program.shows("you> my name is Olga")
        program.press("\x04")
        assert program.exit_code() == 0


def test_keys_before_the_prompt_are_not_lost() -> None:
    """Who types at once is answered."""
    with driven(NANOCHAT) as program:
        program.press("hello\r")
        program.shows("you> hello", " in · ")
        program.press("\x04")
        assert program.exit_code() == 0


def test_a_paste_of_several_lines(tmp_path: Path) -> None:
    """A bracketed paste is one message."""
    with driven([*SCRIPTED, str(tmp_path)]) as program:
        program.shows("you>")
        program.press("\x1b[200~one\ntwo\x1b[201~")
        program.shows("you> one\n     two")
        program.press("\r")
        program.shows("echo: one\ntwo")


def test_ctrl_c_stops_the_turn_then_twice_leaves(tmp_path: Path) -> None:
    """The program outlives the first, and ends by itself after the last."""
    with driven([*SCRIPTED, str(tmp_path)]) as program:
        program.shows("you>")
        program.press("slow\r")
        program.shows("This begins")
        program.press("\x03")
        program.shows("(stopped)")
        program.press("\x03")
        program.shows("once more leaves")
        program.press("\x03")
        assert program.exit_code() == 0


def test_a_signal_is_a_ctrl_c(tmp_path: Path) -> None:
    """`kill -INT` stops the turn as the key does."""
    with driven([*SCRIPTED, str(tmp_path)]) as program:
        program.shows("you>")
        program.press("slow\r")
        program.shows("This begins")
        program.process.send_signal(signal.SIGINT)
        program.shows("(stopped)")
        program.press("\x04")
        assert program.exit_code() == 0


def test_a_terminal_that_goes_away_ends_the_program(tmp_path: Path) -> None:
    """No process is left behind a closed window."""
    with driven([*SCRIPTED, str(tmp_path)]) as program:
        program.shows("you>")
        program.process.send_signal(signal.SIGHUP)
        assert program.exit_code() == -signal.SIGHUP


def test_no_color(tmp_path: Path) -> None:
    """Bold and dim stay, colours do not."""
    with driven([*SCRIPTED, str(tmp_path)], environ={"NO_COLOR": "1"}) as program:
        program.shows("you>")
        program.press("markdown\r")
        program.shows("The end.", " in · ")
        program.press("fail\r")
        program.shows("the connection was cut")
        program.press("\x04")
        assert program.exit_code() == 0
    colours = {number for number in program.graphics if 30 <= number <= 49 or 90 <= number <= 107}
    assert colours <= {39, 49}


def test_a_dumb_terminal_is_told(tmp_path: Path) -> None:
    """There is another way to say it."""
    with driven(NANOCHAT, environ={"TERM": "dumb"}) as program:
        assert program.exit_code() == 2
        assert "say it with -m" in program.screen.text


def test_ctrl_c_on_one_message_is_130(tmp_path: Path) -> None:
    """A shell's loop must see that somebody wants it to end."""
    code = (
        "import asyncio, sys\n"
        "from tests.fakes.scripted_handler import Pause, ScriptedHandler\n"
        "from tests.terminal.test_once import MESSAGE\n"
        "from nanochat.channels.terminal.once import once\n"
        "from nanochat.events import TextDelta\n"
        "script = [TextDelta('It begins'), Pause()]\n"
        "sys.exit(asyncio.run(once(ScriptedHandler(script), MESSAGE, as_json=False, stream=True)))\n"
    )
    with driven([sys.executable, "-c", code]) as program:
        program.shows("It begins")
        program.press("\x03")
        assert program.exit_code() == 130
        assert "It begins" in program.screen.text


def test_head_is_no_error() -> None:
    """A reader that leaves early gets no traceback."""
    command = f"{sys.executable} -m nanochat -m hello | true"
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, env=os.environ)
    assert (ran.returncode, ran.stderr) == (0, "")
