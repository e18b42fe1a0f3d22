"""The program's way in and out: arguments, exit codes, and the one line that an error is worth.

Knows errors and their exit codes. Does not know what a command does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import TextIO

import click

from nanochat.cli.app import app
from nanochat.cli.options import State
from nanochat.errors import KeyFormError, NanochatError, SettingError

__all__ = ["main", "run"]

_FAILED, _WRONG_USE, _INTERRUPTED = 1, 2, 130


def main() -> None:
    """Run the command of this process's arguments, and exit with its code."""
    # A shell can close them (`>&-`); and a locale without a reply's characters is no reason to fail.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    # What nobody foresaw ends in Python's own hook; there it becomes one line, without a broad `except` here.
    state = State()
    sys.excepthook = partial(_unforeseen, state)
    sys.exit(run(sys.argv[1:], state))


def run(args: Sequence[str], state: State) -> int:
    """Run one command; returns the exit code, after its error was told on standard error."""
    try:
        code = app.main(list(args), "nanochat", standalone_mode=False, obj=state)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "nanochat"
        _tell(state, f"{_lowered(error.format_message())}; {path} -h tells more")
        return _WRONG_USE
    except click.Abort:
        return _INTERRUPTED
    except NanochatError as error:
        _tell(state, str(error), error)
        return _WRONG_USE if isinstance(error, SettingError | KeyFormError) else _FAILED
    return code if isinstance(code, int) else 0


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _unforeseen(state: State, _kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    cause = error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError) and cause.strerror:
        words = ": ".join(filter(None, [str(cause.filename or ""), _lowered(cause.strerror)]))
        # What standard output still holds would be written once more at exit, and fail once more: exit code 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    else:
        words = f"internal error: {type(cause).__name__}: {cause}; --debug shows where"
    _tell(state, words, error)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")


def _tell(state: State, message: str, error: BaseException | None = None) -> None:
    """One line, after the traceback where it is asked for; no secret is in either."""
    import traceback  # noqa: PLC0415 - both are needed only where something went wrong, and cost time everywhere else

    from nanochat.log import redact  # noqa: PLC0415 - the same reason

    if state.debug and error is not None:
        print(redact("".join(traceback.format_exception(error)), state.secrets), file=sys.stderr, end="")
    print("nanochat:", redact(" ".join(message.split()), state.secrets), file=sys.stderr)


if __name__ == "__main__":
    main()
