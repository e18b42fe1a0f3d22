"""Commands run in this process, with a data directory and an environment of their own."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from nanochat.__main__ import run
from nanochat.cli.options import State


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


Nanochat: TypeAlias = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no settings, no data of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("NANOCHAT_", "ANTHROPIC_", "TELEGRAM_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def nanochat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nanochat:
    """Runs one command; `stdin` is what comes through its pipe."""

    def command(*args: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run(args, State())
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return command
