"""Every file that holds a session: those in use, those that nanobot left, and those that were put away.

    sessions/telegram+12345.jsonl   archive/telegram+12345.20261120T175800Z.jsonl

Knows names, and headers where a name does not tell its key. Does not know what else is in a file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nanochat.errors import StoreError
from nanochat.keys import SessionKey
from nanochat.store.disk import Disk, Identity, dir_error, file_error, identity_of, opened
from nanochat.store.headers import header_key
from nanochat.store.names import SUFFIX, key_of, nanobot_key_of, stem_of
from nanochat.store.places import directories

__all__ = ["ARCHIVE", "Inventory", "Kept", "inventory"]

ARCHIVE = "archive"
"""The directory beside the session files that sessions are put away in."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of a session; `key` may have several."""

    path: Path
    key: SessionKey
    size_bytes: int
    is_archived: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """The files, and why others could not be told."""

    files: tuple[Kept, ...]
    faults: tuple[StoreError, ...] = ()


def inventory(disk: Disk, sessions_dir: Path, key: SessionKey | None = None) -> Inventory:
    """Every file, or those of one session. A name that tells no key, in a file that tells none, is not a session's.

    Raises:
        StoreError: a directory of those in use cannot be read.
    """
    walk = _Walk(disk, key)
    for directory in directories(sessions_dir):
        walk.enter(directory, is_archive=False)
    try:
        walk.enter(sessions_dir.parent / ARCHIVE, is_archive=True)
    except StoreError as error:
        walk.faults.append(error)  # those in use can be told without it
    return Inventory(tuple(walk.files), tuple(walk.faults))


class _Walk:
    def __init__(self, disk: Disk, wanted: SessionKey | None) -> None:
        self._disk = disk
        self._wanted = wanted
        self._wanted_stem = stem_of(wanted) if wanted else None
        self._seen: set[Identity] = set()
        self.files: list[Kept] = []
        self.faults: list[StoreError] = []

    def enter(self, directory: Path, *, is_archive: bool) -> None:
        for path, status in _entries(directory):
            stem = path.name.removesuffix(SUFFIX)
            stem = stem.rpartition(".")[0] or stem if is_archive else stem
            # While a file is put away it stands in both directories, and after a crash for good.
            if identity_of(status) in self._seen or (stat.S_ISREG(status.st_mode) and not status.st_size):
                continue
            key = self._key(path, stem)
            if key is not None and self._wanted in (None, key):
                self._seen.add(identity_of(status))
                self.files.append(Kept(path, key, status.st_size, is_archive))

    def _key(self, path: Path, stem: str) -> SessionKey | None:
        if stem == self._wanted_stem:
            return self._wanted
        key = key_of(stem)
        if key is not None:
            return key
        try:
            return self._header_key(path) or nanobot_key_of(stem)
        except StoreError as error:
            if self._wanted is None:
                self.faults.append(error)
            return nanobot_key_of(stem)

    def _header_key(self, path: Path) -> SessionKey | None:
        try:
            with opened(self._disk, path) as fd:
                return header_key(self._disk, fd)
        except OSError as error:
            raise file_error(error, path) from error


def _entries(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files that may be sessions, in the order of their names."""
    try:
        with os.scandir(directory) as entries:
            named = [
                (entry.name, entry.stat(follow_symlinks=False)) for entry in entries if _may_be_session(entry.name)
            ]
    except FileNotFoundError:
        return
    except OSError as error:
        raise dir_error(error, directory) from error
    yield from ((directory / name, status) for name, status in sorted(named))


def _may_be_session(name: str) -> bool:
    return name.endswith(SUFFIX) and name[0] != "."
