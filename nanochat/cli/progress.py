"""How far a long command is, on standard error.

Knows when it is worth a line: on a terminal, and not before a second has gone. Does not know what is counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # rich is loaded only where there is something to wait for
    from rich.progress import Progress

__all__ = ["Bar", "measured"]

_T = TypeVar("_T")

# What is done before anybody looks for a sign of life needs none.
_PATIENCE_S = 1.0


def measured(
    items: Iterable[_T], words: str, total: int, weight: Callable[[_T], int], *, patience_s: float = _PATIENCE_S
) -> Iterator[_T]:
    """The items, with a bar that has moved by each one's `weight`, of `total`, once it is done; it goes when they do."""
    done = 0
    with Bar(patience_s) as bar:
        for item in items:
            yield item
            done += weight(item)
            bar.show(words, done, total)


class Bar(AbstractContextManager["Bar"]):
    """A bar that goes with the block; it may be shown from another thread."""

    def __init__(self, patience_s: float = _PATIENCE_S) -> None:
        self._begun_s = time.monotonic()
        self._patience_s = patience_s
        self._progress: Progress | None = None

    def show(self, words: str, done: int, total: int) -> None:
        """How much is done, of a `total` that is 0 where nobody knows it."""
        if self._progress is None:
            if time.monotonic() - self._begun_s < self._patience_s or not sys.stderr.isatty():
                return
            self._progress = _started(words)
        self._progress.update(self._progress.task_ids[0], description=words, completed=done, total=total or None)

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()


def _started(words: str) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # What is printed meanwhile stands above the bar; what goes into a pipe goes there.
    above = sys.stdout.isatty()
    progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=above)
    progress.add_task(words, total=None)
    progress.start()
    return progress
