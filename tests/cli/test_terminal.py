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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["term", "hup"])
def test_an_end_from_outside_is_a_ctrl_d(tmp_path: Path, number: signal.Signals) -> None:
    """The running turn is stopped and kept, the terminal is left as it was, and the code says which signal it was."""
    with driven([*SCRIPTED, str(tmp_path)]) as program:
        program.shows("you>")
        program.press("slow\r")
        program.shows("This begins")
        program.process.send_signal(number)
        assert program.exit_code() == 128 + number
    assert "(stopped)" in program.screen.text
    assert program.raw.rfind("\x1b[?2004l") > program.raw.rfind("\x1b[?2004h")


def test_an_end_from_outside_before_the_prompt(tmp_path: Path) -> None:
    """Whenever it comes, the program ends."""
    code = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from nanochat.channels.terminal import chat\n"
        "from tests.terminal import scripted_chat\n"
        "class Early(chat.Chat):\n"
        "    async def run(self):\n"
        "        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)\n"
        "        return await super().run()\n"
        "chat.Chat = Early\n"
        "sys.exit(asyncio.run(scripted_chat._main(Path(sys.argv[1]))))\n"
    )
    with driven([sys.executable, "-c", code, str(tmp_path)]) as program:
        assert program.exit_code() == 143


def test_a_closed_window_keeps_what_was_said(tmp_path: Path) -> None:
    """Writing fails then, and the turn is ended as it should be all the same."""
    environ = {"NANOCHAT_DATA_DIR": str(tmp_path)}
    with driven(NANOCHAT, environ=environ) as program:
        program.shows("you>")
        program.press("tell me a long story\r")
        program.shows("you> tell me", "lighthouse")
        program.close()
        assert program.process.wait(20) in (0, 129)
    assert '"mark":"stopped"' in (tmp_path / "sessions" / "cli+default.jsonl").read_text().replace(": ", ":")


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


def test_head_of_the_sessions_is_no_error(tmp_path: Path) -> None:
    """Nor is it one where a listing is cut."""
    environ = {**os.environ, "NANOCHAT_DATA_DIR": str(tmp_path)}
    subprocess.run([*NANOCHAT, "-m", "hello"], check=True, capture_output=True, timeout=60, env=environ)
    command = f"( {sys.executable} -m nanochat sessions; echo $? >&2 ) | true"
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, env=environ)
    assert ran.stderr == "0\n"
