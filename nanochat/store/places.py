"""Where a session's file is: under our name for its key, or where nanobot left it.

Knows directories and headers. Does not know what is in a file beyond its first line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from nanochat.errors import StoreError
from nanochat.keys import SessionKey
from nanochat.store.disk import Disk, dir_error, modified_at, opened
from nanochat.store.names import SUFFIX, nanobot_stems, stem_of
from nanochat.store.scan import Source
from nanochat.store.view import read_header

__all__ = ["directories", "find_path", "own_path", "workspaces"]

# nanobot's present directories, one for each of its workspaces.
_WORKSPACE = re.compile(r"[0-9a-f]{32}\Z")


def own_path(sessions_dir: Path, key: SessionKey) -> Path:
    """Where nanochat keeps this key."""
    return sessions_dir / f"{stem_of(key)}{SUFFIX}"


def find_path(disk: Disk, sessions_dir: Path, key: SessionKey) -> Path:
    """Our own place if anything lies there, or else nanobot's file of this key, or else our own place.

    Raises:
        OSError: it cannot be told, since the directory cannot be read.
    """
    own = own_path(sessions_dir, key)
    if os.path.lexists(own):
        return own
    present, older = nanobot_stems(key)
    candidates = [(sessions_dir / f"{present}{SUFFIX}", True), (sessions_dir / f"{older}{SUFFIX}", False)]
    candidates += [(directory / f"{present}{SUFFIX}", True) for directory in workspaces(sessions_dir)]
    for path, is_certain in candidates:
        if _belongs(disk, path, key, is_certain):
            return path
    return own


def directories(sessions_dir: Path) -> tuple[Path, ...]:
    """Where session files lie: ours, and nanobot's.

    Raises:
        StoreError: that cannot be told.
    """
    try:
        return (sessions_dir, *workspaces(sessions_dir))
    except OSError as error:
        raise dir_error(error, sessions_dir) from error


def workspaces(sessions_dir: Path) -> Iterator[Path]:
    """nanobot's directories among the session files, in the order of their names."""
    try:
        with os.scandir(sessions_dir) as entries:
            names = sorted(entry.name for entry in entries if _WORKSPACE.match(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (sessions_dir / name for name in names if (sessions_dir / name).is_dir())


def _belongs(disk: Disk, path: Path, key: SessionKey, is_certain: bool) -> bool:
    """Whether nanobot's file at `path` is this key's. An older name can stand for several keys: the header must say which."""
    try:
        with opened(disk, path, os.O_RDONLY, key) as fd:
            status = os.fstat(fd)
            source = Source(disk, fd, key, modified_at(status))
            header = read_header(source, status.st_size, str(path))
    except (OSError, StoreError):
        return False
    return is_certain or (header is not None and header.state.key == str(key))
