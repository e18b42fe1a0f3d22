"""System calls of which some are told to fail; all others are the operating system's own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanochat.store import Disk

__all__ = ["FaultyDisk", "Killed"]


class Killed(BaseException):
    """The process is no more: nothing that it would have done follows."""


@dataclass
class _Fault:
    error: int
    skip: int
    times: int
    before: Callable[[], None] | None


class FaultyDisk:
    """`disk` is handed to a store; `fail` says what goes wrong next; `calls` counts what was called; `killed_at` is the number of
    the call, from 0 and from now on, at which the process dies."""

    def __init__(self) -> None:
        real = Disk()
        self.calls: Counter[str] = Counter()
        self.killed_at: int | None = None
        self._faults: dict[str, _Fault] = {}
        self._room: int | None = None

        def open_(path: str | Path, flags: int, mode: int) -> int:
            self._meet("open" if flags & (os.O_WRONLY | os.O_RDWR) else "open to read")
            return real.open(path, flags, mode)

        def write(fd: int, data: bytes | memoryview) -> int:
            self._meet("write")
            if self._room is not None:
                room, self._room = self._room, None
                return real.write(fd, data[:room]) if room else 0
            return real.write(fd, data)

        def pwrite(fd: int, data: bytes, at: int) -> int:
            self._meet("pwrite")
            return real.pwrite(fd, data, at)

        def fdatasync(fd: int) -> None:
            self._meet("fdatasync")
            real.fdatasync(fd)

        def fsync(fd: int) -> None:
            self._meet("fsync")
            real.fsync(fd)

        def rename(path: Path, to: Path) -> None:
            self._meet("rename")
            real.rename(path, to)

        def unlink(path: Path) -> None:
            self._meet("unlink")
            real.unlink(path)

        self.disk = Disk(
            open=open_, write=write, pwrite=pwrite, fdatasync=fdatasync, fsync=fsync, rename=rename, unlink=unlink
        )

    def fail(
        self, call: str, error: int, *, skip: int = 0, times: int = 1, before: Callable[[], None] | None = None
    ) -> None:
        """Let `call` fail `times` times after it went well `skip` times, and do `before` first."""
        self._faults[call] = _Fault(error, skip, times, before)

    def fill(self, room: int, error: int) -> None:
        """Let the next write write `room` bytes only, and the one after it fail."""
        self._room = room
        self.fail("write", error, skip=1)

    def heal(self) -> None:
        """Let everything go well from here on."""
        self._faults.clear()
        self._room = None

    def _meet(self, call: str) -> None:
        self.calls[call] += 1
        if self.killed_at is not None:
            self.killed_at -= 1
            if self.killed_at < 0:
                raise Killed
        fault = self._faults.get(call)
        if fault is None:
            return
        if fault.skip > 0:
            fault.skip -= 1
        elif fault.times > 0:
            fault.times -= 1
            if fault.before:
                fault.before()
            raise OSError(fault.error, os.strerror(fault.error))
