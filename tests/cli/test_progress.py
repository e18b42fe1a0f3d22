"""How far a long command is: a bar on a terminal, and nothing anywhere else."""

from __future__ import annotations

import os
import sys

import pytest

from nanochat.cli.progress import Bar, measured
from tests.terminal.pty_driver import driven

SCRIPT = """
from nanochat.cli.progress import measured
for n in measured([1, 2, 3, 4], "counting", 10, lambda n: n, patience_s={patience_s}):
    print("item", n)
"""


def test_nowhere_but_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """All items come, in their order, and nothing is written."""
    assert list(measured("abc", "counting", 3, lambda _: 1, patience_s=0)) == ["a", "b", "c"]
    assert list(measured("", "counting", 0, lambda _: 1)) == []
    with Bar(patience_s=0) as bar:
        bar.show("counting", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal() -> None:
    """The bar is there, and gone when all is done."""
    command = [sys.executable, "-c", SCRIPT.format(patience_s=0)]
    with driven(command, environ={"PYTHONPATH": os.getcwd()}) as program:
        assert program.exit_code() == 0
        assert "counting" in program.raw
        assert program.screen.lines == ["item 1", "item 2", "item 3", "item 4"]


def test_what_is_soon_done_has_none() -> None:
    """Nobody has looked for a sign of life yet."""
    command = [sys.executable, "-c", SCRIPT.format(patience_s=600)]
    with driven(command, environ={"PYTHONPATH": os.getcwd()}) as program:
        assert program.exit_code() == 0
        assert "counting" not in program.raw


def test_whose_end_nobody_knows() -> None:
    """It says what is waited for, and goes as well when the block is left by an error."""
    script = """
from nanochat.cli.progress import Bar
try:
    with Bar(patience_s=0) as bar:
        bar.show("waiting", 0, 0)
        bar.show("counting", 1, 2)
        raise ValueError
except ValueError:
    print("done")
"""
    with driven([sys.executable, "-c", script], environ={"PYTHONPATH": os.getcwd()}) as program:
        assert program.exit_code() == 0
        assert "waiting" in program.raw
        assert program.screen.lines == ["done"]
