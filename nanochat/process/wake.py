"""The bell at the daemon's door: whoever else writes the ledger rings it.

A datagram says only that there is something new; what it is stands in the ledger, so a ring may be lost or doubled. Knows a
socket. Does not know why it rings.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nanochat.errors import NanochatError

__all__ = ["listen", "ring"]

# sun_path holds 108 bytes on Linux and 104 on macOS, its closing zero included: unix(7), read 2026-11-20.
MAX_PATH_BYTES = 103


@contextmanager
def listen(path: Path, heard: Callable[[], None]) -> Iterator[None]:
    """Call `heard`, on this loop, whenever somebody rings. The caller is the only listener of its data directory.

    Raises:
        NanochatError: no socket can be made at `path`.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        try:
            path.unlink(missing_ok=True)  # of a daemon that was killed
            before = os.umask(0o177)
            try:
                with _reachable(path) as place:
                    bell.bind(place)
            finally:
                os.umask(before)
        except OSError as error:
            raise NanochatError(f"{path}: no socket can be made here: {error.strerror or error}") from error

        def drain() -> None:
            try:
                while True:
                    bell.recv(1)
            except BlockingIOError:
                heard()

        loop.add_reader(bell, drain)
        try:
            yield
        finally:
            loop.remove_reader(bell)
            path.unlink(missing_ok=True)


def ring(path: Path) -> bool:
    """Tell the daemon that there is something new; False where none is there to hear it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        try:
            with _reachable(path) as place:
                bell.sendto(b"!", place)
        except BlockingIOError:
            return True  # it has so many rings to hear that it will look anyway
        except OSError:
            return False
    return True


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """The path in a form that a socket's address can hold."""
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
