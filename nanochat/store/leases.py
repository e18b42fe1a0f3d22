"""Turn leases: one turn at a time per session, over all processes of a data directory.

A lease is a `flock` on a file of its own, so the kernel gives it back when its holder dies. Inside a process callers queue first,
in the order they came. Knows who holds a lease, in words. Does not know what a turn is.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nanochat.errors import LeaseHeld
from nanochat.keys import SessionKey
from nanochat.store.disk import Disk, identity_of, make_dir, refusal
from nanochat.store.names import stem_of

__all__ = ["Leases"]

# The kernel wakes nobody without a blocked thread for each who waits; and turns take seconds.
FIRST_RETRY_S = 0.05
MAX_RETRY_S = 0.5
RETRY_GROWTH = 1.5

_HOLDER_BYTES = 200


@dataclass(slots=True)
class _Queue:
    """Those of this process who hold or want one lease."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: int = 0


class Leases:
    """The leases in one directory. `process` is what others are told of us, such as `nanochat chat`; who waits longer than
    `tell_s` is told for whom."""

    def __init__(self, directory: Path, disk: Disk, process: str, tell_s: float) -> None:
        self._directory = directory
        self._disk = disk
        self._process = process
        self._tell_s = tell_s
        self._queues: dict[SessionKey, _Queue] = {}

    @asynccontextmanager
    async def hold(
        self, key: SessionKey, patience_s: float | None, on_wait: Callable[[str], None] | None
    ) -> AsyncIterator[None]:
        """See `ports.SessionStore.lease`."""
        with self._queued(key) as queue:
            fd = await self._acquire(key, queue, patience_s, on_wait)
            try:
                yield
            finally:
                os.close(fd)  # gives the flock back
                queue.lock.release()

    @contextmanager
    def _queued(self, key: SessionKey) -> Iterator[_Queue]:
        queue = self._queues.setdefault(key, _Queue())
        queue.callers += 1
        try:
            yield queue
        finally:
            queue.callers -= 1
            if not queue.callers:
                del self._queues[key]

    async def _acquire(
        self, key: SessionKey, queue: _Queue, patience_s: float | None, on_wait: Callable[[str], None] | None
    ) -> int:
        path = self._directory / stem_of(key)
        tell = None
        if on_wait is not None:
            tell = asyncio.get_running_loop().call_later(self._tell_s, lambda: on_wait(self._holder(path)))
        try:
            async with asyncio.timeout(patience_s):
                await queue.lock.acquire()
                try:
                    return await self._lock(path, key)
                except BaseException:
                    queue.lock.release()
                    raise
        except TimeoutError as error:
            holder = self._holder(path)
            raise LeaseHeld(
                f"session {key} is in a turn of {holder}; wait for it or stop it",
                key=str(key),
                path=str(path),
                holder=holder,
            ) from error
        finally:
            if tell is not None:
                tell.cancel()

    async def _lock(self, path: Path, key: SessionKey) -> int:
        pause_s = FIRST_RETRY_S
        while (fd := self._try(path, key)) is None:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * RETRY_GROWTH, MAX_RETRY_S)
        return fd

    def _try(self, path: Path, key: SessionKey) -> int | None:
        fd = -1
        try:
            make_dir(self._disk, self._directory)
            fd, _ = self._disk.open_or_make(path, os.O_RDWR, key)
            self._disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if identity_of(os.stat(path, follow_symlinks=False)) == identity_of(os.fstat(fd)):
                words = f"pid {os.getpid()} ({self._process})\n".encode()
                os.ftruncate(fd, os.pwrite(fd, words, 0))
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as error:
            _close(fd)
            raise refusal(error, path, key) from error
        _close(fd)
        return None

    def _holder(self, path: Path) -> str:
        """Who holds the lease, as far as can be read; a process writes its words just after it got it."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return "another process"
        try:
            words = os.read(fd, _HOLDER_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        finally:
            os.close(fd)
        return words.decode(errors="replace").strip() or "another process"


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
