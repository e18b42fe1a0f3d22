"""Putting a whole new file in its place: it is there, durable and complete, or it is not there.

Knows bytes, and that nothing may be replaced. Does not know what is in a file.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from nanochat.keys import SessionKey
from nanochat.store.disk import Disk, make_dir, refusal, sync_dir

__all__ = ["place", "sweep"]

# Begins with a dot, so that nobody takes it for a session.
_PART_SUFFIX = ".part"

_CHUNK_BYTES = 1024 * 1024


def place(
    disk: Disk,
    path: Path,
    chunks: Iterable[bytes],
    key: SessionKey | None = None,
    modified_at: Callable[[], datetime] | None = None,
) -> bool:
    """Write a new file; False where something lies at `path`, which is left as it is.

    `modified_at`, asked when all is written, is what the file's age is counted from instead of now.

    Raises:
        NotWritten: nothing is there.
    """
    part = path.with_name(f".{path.stem}.{secrets.token_hex(8)}{_PART_SUFFIX}")
    try:
        make_dir(disk, path.parent)
        fd = disk.open_safely(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, key)
        try:
            disk.flock(fd, fcntl.LOCK_EX)
            _write(disk, fd, chunks)
            if modified_at is not None:
                os.utime(part, times=(modified_at().timestamp(),) * 2)
            disk.fsync(fd)
            os.link(part, path)  # unlike a rename it never replaces anything
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
            os.close(fd)
        sync_dir(disk, path.parent)
    except OSError as error:
        raise refusal(error, path, key) from error
    return True


def sweep(disk: Disk, directory: Path) -> None:
    """Remove what killed processes left half-written; a file that is still being written is locked."""
    for part in directory.glob(f".*{_PART_SUFFIX}"):
        with suppress(OSError):
            fd = disk.open_safely(part, os.O_RDONLY)
            try:
                disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink(missing_ok=True)
            finally:
                os.close(fd)


def _write(disk: Disk, fd: int, chunks: Iterable[bytes]) -> None:
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        if len(waiting) >= _CHUNK_BYTES:
            _write_all(disk, fd, waiting)
            waiting.clear()
    _write_all(disk, fd, waiting)


def _write_all(disk: Disk, fd: int, data: bytearray) -> None:
    written = 0
    while written < len(data):
        written += disk.write(fd, bytes(data[written:]))
