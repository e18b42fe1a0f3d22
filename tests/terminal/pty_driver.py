"""A program on a real pseudo-terminal, with a screen in memory at its other end.

Knows processes and ptys. Does not know what the program is.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.fakes.screen import Screen

__all__ = ["Driven", "driven"]

# A loaded machine takes long to start Python; nothing else here takes a second.
PATIENCE_S = 30.0


class Driven:
    """A running program: what is on its screen, keys for it, and `raw`, all that it wrote. `graphics` are the numbers in its
    colour sequences."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int, screen: Screen) -> None:
        self.process = process
        self.screen = screen
        self.graphics: set[int] = set()
        self.raw = ""
        self._terminal = terminal

    def press(self, text: str) -> None:
        """Send keys."""
        os.write(self._terminal, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Change the window's size, and tell the program as a terminal does."""
        _set_size(self._terminal, columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def close(self) -> None:
        """Close the window."""
        os.dup2(os.open(os.devnull, os.O_RDWR), self._terminal)

    def shows(self, *texts: str) -> None:
        """Wait until all texts are on the screen."""
        self.until(lambda screen: all(text in screen for text in texts))

    def until(self, condition: Callable[[str], bool]) -> None:
        """Wait until the screen's text satisfies the condition."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition(self.screen.text):
            assert self._read(deadline_s - time.monotonic()), f"the screen never got there:\n{self.screen.text}"

    def exit_code(self) -> int:
        """Wait until the program has ended, and take in the last it wrote."""
        deadline_s = time.monotonic() + PATIENCE_S
        while self._read(deadline_s - time.monotonic()):
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self, patience_s: float) -> bool:
        if not select.select([self._terminal], [], [], max(0.0, patience_s))[0]:
            return False
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # EIO: the last process has left the terminal
            return False
        text = data.decode(errors="replace")
        self.raw += text
        for numbers in re.findall(r"\x1b\[([\d;]*)m", text):
            self.graphics.update(int(number) for number in numbers.split(";") if number)
        self.screen.feed(text)
        return bool(data)


@contextmanager
def driven(
    command: Sequence[str], *, environ: Mapping[str, str] | None = None, columns: int = 80, rows: int = 24
) -> Iterator[Driven]:
    """Run a program on a terminal of its own; it is gone when this ends."""
    ours, theirs = pty.openpty()
    _set_size(ours, columns, rows)
    # How large the terminal is that the tests run in is nobody's business here.
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,
        env={**inherited, "TERM": "xterm-256color", **(environ or {})},
    )
    os.close(theirs)
    try:
        yield Driven(process, ours, Screen(columns, rows))
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
