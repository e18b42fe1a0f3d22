"""Which processes of ours are still alive.

Knows that the kernel releases a file lock when its holder dies, by whatever death; process numbers are given twice and
mean nothing in another container. Does not know what a process was doing (`ledger` does).
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Presence"]


class Presence:
    """This process, marked by a lock held on a file of its own for as long as it lives."""

    def __init__(self, directory: Path) -> None:
        self.name = f"process-{uuid.uuid4().hex}"
        self._directory = directory
        self._descriptor = -1

    def announce(self) -> None:
        """Take the lock, and clear away the marks of the dead. Blocking, about a millisecond; once is enough.

        Raises:
            OSError: the directory cannot be written.
        """
        if self._descriptor >= 0:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in self._directory.glob("process-*"):
            with self._probed(other.name) as is_alive:
                if not is_alive:
                    other.unlink(missing_ok=True)
        mark = self._directory / self.name
        while self._descriptor < 0:
            descriptor = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                self._descriptor = descriptor
            else:  # another process cleared it away between our two calls
                os.close(descriptor)

    def is_alive(self, name: str) -> bool:
        """Whether the process that announced itself as `name` still runs."""
        with self._probed(name) as is_alive:
            return is_alive

    @contextmanager
    def _probed(self, name: str) -> Iterator[bool]:
        """Look whether `name` is alive; if not, its lock is ours meanwhile, so that it cannot come alive in between."""
        try:
            descriptor = os.open(self._directory / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield True
        else:
            yield False
        finally:
            os.close(descriptor)

    def leave(self) -> None:
        """Give the mark up, as death would."""
        if self._descriptor >= 0:
            (self._directory / self.name).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1
