"""The system calls by which session files are read and written, and what their failures mean to a person.

Gathered in one value so that a test can hand in a disk that fails at a chosen call. Knows no format and no file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from nanochat.errors import DurabilityUnknown, NotWritten, StoreError, WrongFile
from nanochat.keys import SessionKey

__all__ = [
    "Disk",
    "Identity",
    "dir_error",
    "file_error",
    "identity_of",
    "make_dir",
    "modified_at",
    "open_dir",
    "opened",
    "refusal",
    "sync_dir",
    "unsettled",
]

Identity: TypeAlias = tuple[int, int]
"""Device and inode: which file it is, whatever its name."""

# O_NOFOLLOW: a link in the data directory is not a session file. O_NONBLOCK: opening a FIFO must not hang.
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


if sys.platform == "darwin":

    def _sync_content(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync there stops at the device's own cache, see fsync(2)

    def _forget(fd: int) -> None:
        return None  # a cache cannot be dropped for one file

else:
    _sync_content = os.fdatasync

    def _forget(fd: int) -> None:
        """Have the next read of the file come from the device."""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@dataclass(frozen=True, slots=True)
class Disk:
    """The calls, with the operating system's own behind them."""

    open: Callable[[str | Path, int, int], int] = os.open
    pread: Callable[[int, int, int], bytes] = os.pread
    write: Callable[[int, bytes | memoryview], int] = os.write
    pwrite: Callable[[int, bytes, int], int] = os.pwrite
    fdatasync: Callable[[int], None] = _sync_content
    fsync: Callable[[int], None] = os.fsync
    flock: Callable[[int, int], None] = fcntl.flock
    rename: Callable[[Path, Path], None] = os.rename
    unlink: Callable[[Path], None] = os.unlink
    forget: Callable[[int], None] = _forget

    def open_safely(self, path: str | Path, flags: int, key: SessionKey | None = None) -> int:
        """Open a regular file, its mode 0600 where it is made.

        Raises:
            WrongFile: a link, a FIFO, a directory or a device lies there.
            OSError: as `os.open` does.
        """
        try:
            fd = self.open(path, flags | _SAFELY, 0o600)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise _not_a_file(path, key) from error
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise _not_a_file(path, key)
        if flags & os.O_EXCL:
            os.fchmod(fd, 0o600)  # whatever the umask took away
        return fd

    def open_or_make(self, path: Path, flags: int, key: SessionKey | None = None) -> tuple[int, bool]:
        """`open_safely`, making the file where none is; says whether it did."""
        while True:
            try:
                return self.open_safely(path, flags, key), False
            except FileNotFoundError:
                with suppress(FileExistsError):  # another process was quicker: open that one
                    return self.open_safely(path, flags | os.O_CREAT | os.O_EXCL, key), True


@contextmanager
def opened(disk: Disk, path: Path, flags: int = os.O_RDONLY, key: SessionKey | None = None) -> Iterator[int]:
    """A descriptor for the length of a block."""
    fd = disk.open_safely(path, flags, key)
    try:
        yield fd
    finally:
        os.close(fd)


def identity_of(status: os.stat_result) -> Identity:
    """Which file a `stat` looked at."""
    return status.st_dev, status.st_ino


def modified_at(status: os.stat_result) -> datetime:
    """When a file was last written."""
    return datetime.fromtimestamp(status.st_mtime, UTC)


def make_dir(disk: Disk, path: Path) -> None:
    """Make a directory and its missing parents, 0700 and durable; one that is there is left as it is."""
    if path.is_dir():
        return
    if path.parent != path:
        make_dir(disk, path.parent)
    with suppress(FileExistsError):  # another process was quicker
        path.mkdir(mode=0o700)
        path.chmod(0o700)
        sync_dir(disk, path.parent)


@contextmanager
def open_dir(path: Path) -> Iterator[int]:
    """A descriptor of a directory for the length of a block."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def sync_dir(disk: Disk, directory: int | Path) -> None:
    """Have the names in a directory on the device."""
    if isinstance(directory, Path):
        with open_dir(directory) as fd:
            sync_dir(disk, fd)
        return
    try:
        disk.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing says so
            raise


def refusal(error: OSError, path: Path, key: SessionKey | None = None) -> NotWritten:
    """The outcome of a write of which nothing is in the file."""
    return NotWritten(
        f"{_subject(key, path)}: nothing was written: {_reason(error, path)}", key=str(key or ""), path=str(path)
    )


def unsettled(error: OSError, done: str, path: Path, key: SessionKey) -> DurabilityUnknown:
    """The outcome of a change that is made, as `done` says, and may be lost with the machine."""
    words = f"session {key}: {done}, but the device failed behind it ({_reason(error, path)}); check the disk"
    return DurabilityUnknown(words, key=str(key), path=str(path))


def file_error(error: OSError, path: Path, key: SessionKey | None = None) -> StoreError:
    """The outcome of a file that cannot be read."""
    return StoreError(
        f"{_subject(key, path)}: cannot be read: {_reason(error, path)}", key=str(key or ""), path=str(path)
    )


def dir_error(error: OSError, directory: Path, key: SessionKey | None = None) -> StoreError:
    """The outcome of a directory that cannot be read."""
    of_key = f"session {key}: " if key else ""
    match error.errno:
        case errno.ENOTDIR:
            there = next((path for path in (directory, *directory.parents) if os.path.lexists(path)), directory)
            words = f"{there} is not a directory; move it away"
        case errno.EACCES | errno.EPERM:
            words = (
                f"{directory} cannot be read: no permission on {error.filename or directory}; make it readable for you"
            )
        case _:
            words = f"{directory} cannot be read: {os.strerror(error.errno or 0).lower()}"
    return StoreError(of_key + words, key=str(key or ""), path=str(directory))


def _subject(key: SessionKey | None, path: str | Path) -> str:
    return f"session {key}" if key else str(path)


def _reason(error: OSError, path: Path) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"no space is left for {path.parent}"
        case errno.EFBIG:
            return f"{path} may not grow further (a file size limit)"
        case errno.EROFS:
            return f"data directory {path.parent.parent} is read-only"
        case errno.EACCES | errno.EPERM:
            return f"data directory {path.parent.parent} is read-only or not ours: no permission on {error.filename or path}"
        case errno.EMFILE | errno.ENFILE:
            return "too many files are open"
        case _:
            return f"{os.strerror(error.errno or 0)} on {error.filename or path}"


def _not_a_file(path: str | Path, key: SessionKey | None) -> WrongFile:
    of_key = f"session {key}: " if key else ""
    return WrongFile(f"{of_key}{path} is not a regular file; move it away", key=str(key or ""), path=str(path))
