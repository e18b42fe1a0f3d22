"""`nanochat chat -m`: the whole way through a house with the offline model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Nanochat

ROOT = Path(__file__).parents[2]


def shell(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which `{}` is the program."""
    line = command.format(f"{sys.executable} -m nanochat")
    environ = {**os.environ, "NANOCHAT_DATA_DIR": str(directory / "data"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, timeout=60, env=environ, cwd=directory
    )


def said_in(directory: Path) -> list[str]:
    """What the person said in the default session, message by message."""
    lines = (directory / "data" / "sessions" / "cli+default.jsonl").read_text().splitlines()
    return [row["content"] for row in map(json.loads, lines) if row.get("role") == "user"]


def test_one_message_one_answer(nanochat: Nanochat) -> None:
    """On standard output, with nothing on standard error."""
    ran = nanochat("chat", "-m", "my name is Olga")
    assert (ran.code, ran.err) == (0, "")
    assert "Olga" in ran.out


def test_the_command_may_be_left_out(nanochat: Nanochat) -> None:
    """`nanochat -m` is `nanochat chat -m`, also behind the program's own options."""
    assert nanochat("-m", "hello").code == 0
    assert nanochat("--debug", "-m", "hello").code == 0


def test_the_session_remembers(nanochat: Nanochat) -> None:
    """The next process goes on where this one ended; another session does not know."""
    nanochat("-m", "my name is Olga")
    assert "Olga" in nanochat("-m", "what is my name?").out
    assert "Olga" not in nanochat("-s", "cli:other", "-m", "what is my name?").out


@pytest.mark.parametrize("args", [(), ("-m", "-")], ids=["pipe", "dash"])
def test_a_pipe_is_the_message(nanochat: Nanochat, args: tuple[str, ...]) -> None:
    """With nothing said, or with a dash."""
    nanochat(*args, stdin="my name is Jürgen\n".encode())
    assert "Jürgen" in nanochat("-m", "what is my name?").out


def test_a_pipe_beside_a_message_is_put_below_it(nanochat: Nanochat, tmp_path: Path) -> None:
    """So is a file."""
    (tmp_path / "diff").write_text("- old\n+ new\n")
    for command in ("cat diff | {} -m 'review this'", "{} -m 'review this' < diff", "cat diff | {} -m ''"):
        shell(command, tmp_path)
    texts = [text.partition("] ")[2] or text for text in said_in(tmp_path)]
    assert texts == ["review this\n\n- old\n+ new", "review this\n\n- old\n+ new", "- old\n+ new"]


@pytest.mark.parametrize("stdin", [": | {}", "{} < /dev/null"], ids=["empty", "nothing"])
def test_nothing_beside_a_message(tmp_path: Path, stdin: str) -> None:
    """The message is said as it is."""
    assert shell(stdin + " -m hello", tmp_path).stderr == ""
    assert said_in(tmp_path)[0].endswith("hello")


def test_a_pipe_through_which_nothing_comes(tmp_path: Path) -> None:
    """It is waited for a little, and that is told; what began to come is waited for to its end."""
    assert "left aside" in shell("( sleep 6 & ) | {} -m hello", tmp_path).stderr
    shell("( echo one; sleep 3; echo two ) | {} -m hello", tmp_path)
    assert [text.rpartition("hello")[2] for text in said_in(tmp_path)] == ["", "\n\none\ntwo"]


def test_more_than_a_message_may_be(tmp_path: Path) -> None:
    """Without end, it must not fill the memory."""
    ran = shell("yes | {} -m hello", tmp_path)
    assert (ran.returncode, ran.stderr) == (
        2,
        "nanochat: standard input is more than a message may be (8 MiB); nanochat chat -h tells more\n",
    )


def test_bytes_that_are_no_text_are_replaced(nanochat: Nanochat) -> None:
    """A pipe may bring anything."""
    assert nanochat(stdin=b"my name is \xff\xfe").code == 0


def test_json(nanochat: Nanochat) -> None:
    """Every line is an object; the last one is complete."""
    ran = nanochat("-m", "hello", "--json")
    *deltas, done = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert done["type"] == "done"
    assert "".join(delta["text"] for delta in deltas if delta["type"] == "delta") == done["text"]
    assert done["key"] == "cli:default"


def test_a_system_text(nanochat: Nanochat, tmp_path: Path) -> None:
    """It is set in the session before the message."""
    assert nanochat("-m", "hello", "--system", "Be brief.").code == 0
    lines = (tmp_path / "data" / "sessions" / "cli+default.jsonl").read_text().splitlines()
    assert any("Be brief." in line for line in lines)


def test_another_channels_session_is_told(nanochat: Nanochat) -> None:
    """Who speaks in it from here must know that the other side does not see it."""
    ran = nanochat("-s", "telegram:42", "-m", "hello")
    assert ran.code == 0
    assert ran.err == "nanochat: you speak in telegram:42 from here: telegram is not shown this\n"


@pytest.mark.parametrize("message", ["", "  ", "\n"], ids=["empty", "blanks", "line"])
def test_nothing_to_say(nanochat: Nanochat, message: str) -> None:
    """It is wrong use, whichever way it comes."""
    for ran in (nanochat("-m", message), nanochat(stdin=message.encode())):
        assert ran.code == 2
        assert "there is nothing to say" in ran.err


def test_an_unknown_chat_command_fails(nanochat: Nanochat) -> None:
    """And names the nearest."""
    ran = nanochat("-m", "/usge")
    assert ran.code == 1
    assert "/usage" in ran.err
