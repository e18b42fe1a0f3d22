"""The data directory: whether it can be written, how much room there is, and who else can read it.

Knows directories and modes. Does not know what is in a file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from nanochat.cli.checks.finding import Finding, may, ok, warning, wrong
from nanochat.cli.places import ARCHIVE, HTTP_SOCKET, INDEX, LEDGER, WAKE

__all__ = ["LITTLE_BYTES", "SCARCE_BYTES", "is_open", "look", "place", "rights", "room"]

# A turn with pictures takes some megabytes: below the first figure the next may fail, below the second within weeks of use.
SCARCE_BYTES = 32 * 1024 * 1024
LITTLE_BYTES = 512 * 1024 * 1024

# `os.path` and not `Path`, whose questions raise where a directory above cannot be entered.

# What is nobody else's business, by its place in the data directory.
_DIRECTORIES = ("sessions", "blobs", "memory", ARCHIVE, "leases")
_FILES = (LEDGER, f"{LEDGER}-wal", INDEX, f"{INDEX}-wal", "history", "daemon.lock", WAKE, HTTP_SOCKET)

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def look(directory: Path) -> Iterator[Finding]:
    """All that is to be said of the directory."""
    yield place(directory)
    yield room(directory)
    if is_open(directory):
        yield from rights(directory)


def is_open(directory: Path) -> bool:
    """Whether what is in it, if anything, can be looked at."""
    if os.path.exists(directory):
        return may(directory, os.R_OK | os.X_OK)
    return may(_nearest(directory), os.X_OK)


def place(directory: Path, access: Callable[[Path, int], bool] = may) -> Finding:
    """Whether the directory is there, or can be made, and can be written."""
    if os.path.lexists(directory) and not os.path.isdir(directory):
        return wrong("data directory", f"{directory} is not a directory", "name another with --data-dir")
    if not os.path.exists(directory):
        above = _nearest(directory)
        if os.path.isdir(above) and access(above, os.W_OK | os.X_OK):
            return ok("data directory", f"{directory} is not there yet; it is made when it is needed")
        return wrong(
            "data directory",
            f"{directory} cannot be made: {above} cannot be written",
            "name another with --data-dir",
        )
    other = next((directory / name for name in _DIRECTORIES if _is_other(directory / name)), None)
    if other is not None:
        return wrong("data directory", f"{other} is not a directory", "move it away")
    closed = [path for path in (directory, *_inner(directory)) if not access(path, os.R_OK | os.W_OK | os.X_OK)]
    if closed:
        return wrong(
            "data directory",
            f"{closed[0]} cannot be written",
            f"chown -R {_user()} {directory}; chmod -R u+rwX {directory}",
        )
    return ok("data directory", str(directory))


def room(directory: Path, statvfs: Callable[[Path], os.statvfs_result] = os.statvfs) -> Finding:
    """How much space is left where the directory is, or will be."""
    there = _nearest(directory)
    try:
        found = statvfs(there)
    except OSError as error:
        return warning("disk", f"its space cannot be told: {error.strerror}")
    free = found.f_bavail * found.f_frsize
    words = f"{_size(free)} free at {there}"
    if found.f_flag & os.ST_RDONLY:
        return wrong("disk", f"the file system of {there} is read-only", "mount it for writing, or use --data-dir")
    if found.f_files and not found.f_favail:
        return wrong("disk", f"no more files can be made at {there}", "remove files that are not needed")
    if free < SCARCE_BYTES:
        return wrong("disk", words, "make room: nothing can be recorded without")
    if free < LITTLE_BYTES:
        return warning("disk", words, "make room")
    return ok("disk", words)


def rights(directory: Path) -> Iterator[Finding]:
    """Whether others can read what was said, and whether all of it is ours."""
    if not os.path.isdir(directory):
        return
    exposed, foreign = [], []
    is_closed = not _mode(directory) & _OTHERS
    for path in _private(directory):
        try:
            status = path.lstat()
        except OSError:
            continue  # it is gone, or `place` tells of it
        if stat.S_ISLNK(status.st_mode):
            continue
        if status.st_uid != os.geteuid():
            foreign.append(path)
        if not is_closed and status.st_mode & _OTHERS and not _is_behind_a_door(directory, path):
            exposed.append(path)
    if foreign and os.geteuid():
        yield wrong(
            "rights",
            f"{_some(foreign)} {_belongs(foreign)} to another user, who ran nanochat here (sudo?)",
            f"sudo chown -R {_user()} {directory}",
        )
    if exposed:
        yield warning(
            "rights", f"other users of this machine can get at {_some(exposed)}", f"chmod -R go-rwx {directory}"
        )
    if not exposed and not (foreign and os.geteuid()):
        yield ok("rights", "nobody else can read what is kept")


def _nearest(directory: Path) -> Path:
    """The directory, or what there is of the way to it."""
    return next(path for path in (directory, *directory.parents) if os.path.exists(path))


def _private(directory: Path) -> Iterator[Path]:
    for name in _FILES:
        if os.path.lexists(directory / name):
            yield directory / name
    for inner in _inner(directory):
        yield inner
        try:
            with os.scandir(inner) as entries:
                yield from (Path(entry.path) for entry in entries)
        except OSError:
            continue  # `place` tells of it


def _inner(directory: Path) -> list[Path]:
    return [directory / name for name in _DIRECTORIES if os.path.isdir(directory / name)]


def _is_other(path: Path) -> bool:
    return os.path.lexists(path) and not os.path.isdir(path)


def _is_behind_a_door(directory: Path, path: Path) -> bool:
    """Whether it lies in a directory that nobody else can enter."""
    return path.parent != directory and not _mode(path.parent) & _OTHERS


def _mode(path: Path) -> int:
    return path.stat().st_mode


def _some(paths: list[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _belongs(paths: list[Path]) -> str:
    return "belongs" if len(paths) == 1 else "belong"


def _user() -> str:
    return os.environ.get("USER", "") or str(os.geteuid())


def _size(count: int) -> str:
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count // 1000} kB"
