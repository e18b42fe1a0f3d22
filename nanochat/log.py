"""Log lines of a command, on standard error.

Knows what must not be seen in a line. Does not know what is worth a line. A command tells its errors itself, in one line, so
its log is silent unless it is asked for.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["redact", "written"]

# What Anthropic's keys and Telegram's bot tokens look like: they may come from a library that we never gave a secret to.
_SHAPES = re.compile(r"sk-ant-[\w-]+|(?<!\d)\d{5,}:[\w-]{30,}")

# A shorter value is no secret, and would blank ordinary words.
_MIN_SECRET_CHARS = 6


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """The text with `•••` in place of every secret, whether it is one of these values or only looks like one."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET_CHARS:
            text = text.replace(secret, "•••")
    return _SHAPES.sub("•••", text)


class _Redacting(logging.Formatter):
    """Formats, then redacts: a traceback is text only once it is formatted, so a filter would come too early."""

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__("nanochat: %(levelname)s %(name)s: %(message)s")
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self._secrets)


class _StandardError(logging.Handler):
    """Writes to what standard error is at the moment: an interactive prompt puts its own in the way for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


@contextmanager
def written(*, debug: bool, secrets: Sequence[str]) -> Iterator[None]:
    """For a while: with `debug`, every line of ours and the libraries' from INFO on is written; without, none."""
    root, ours = logging.getLogger(), logging.getLogger("nanochat")
    levels = root.level, ours.level
    # Without any handler, Python would write warnings by itself.
    handler = _StandardError() if debug else logging.NullHandler()
    handler.setFormatter(_Redacting(secrets))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    ours.setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
