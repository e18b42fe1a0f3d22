"""How far a long command is, on standard error.

Knows when it is worth a line: on a terminal, and not before a second has gone. Does not know what is counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["PATIENCE_S", "measured"]

_T = TypeVar("_T")

# What is done before anybody looks for a sign of life needs none.
PATIENCE_S = 1.0


def measured(
    items: Iterable[_T], words: str, total: int, weight: Callable[[_T], int], *, patience_s: float = PATIENCE_S
) -> Iterator[_T]:
    """The items, with a bar that has moved by each one's `weight`, of `total`, once it is done; it goes when they do."""
    begun_s, done = time.monotonic(), 0
    waiting = iter(items)
    for item in waiting:
        yield item
        done += weight(item)
        if time.monotonic() - begun_s >= patience_s and sys.stderr.isatty():
            yield from _with_bar(waiting, words, total, weight, done)


def _with_bar(items: Iterator[_T], words: str, total: int, weight: Callable[[_T], int], done: int) -> Iterator[_T]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # What is printed meanwhile stands above the bar; what goes into a pipe goes there.
    above = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=above) as progress:
        task = progress.add_task(words, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task, weight(item))
