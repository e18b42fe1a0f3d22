"""Taking a whole session file away, under its lock.

Whoever waits for the lock meanwhile finds that the name stands for another file, or for none, and writes there. Knows files as
wholes. Does not know leases: the caller holds the session's.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanochat.errors import NotWritten
from nanochat.keys import SessionKey
from nanochat.store.disk import Disk, identity_of, make_dir, opened, refusal, sync_dir
from nanochat.store.repair import TORN_SUFFIX

__all__ = ["move", "remove"]

# An append holds the lock for microseconds; one that is held longer is held by a process that was stopped.
PATIENCE_S = 5.0
RETRY_S = 0.05


def move(disk: Disk, path: Path, to: Path, key: SessionKey) -> None:
    """Move a session's file, and what could not be read of its end, to a place that is free."""
    with _locked(disk, path, key):
        make_dir(disk, to.parent)
        os.link(path, to)  # unlike a rename it never replaces anything
        path.unlink()
        torn = path.with_suffix(TORN_SUFFIX)
        if torn.exists():
            torn.rename(to.with_suffix(TORN_SUFFIX))
        sync_dir(disk, to.parent)
        sync_dir(disk, path.parent)


def remove(disk: Disk, path: Path, key: SessionKey) -> None:
    """Remove a session's file, and what could not be read of its end."""
    with _locked(disk, path, key):
        path.unlink()
        path.with_suffix(TORN_SUFFIX).unlink(missing_ok=True)
        sync_dir(disk, path.parent)


@contextmanager
def _locked(disk: Disk, path: Path, key: SessionKey) -> Iterator[None]:
    deadline = time.monotonic() + PATIENCE_S
    try:
        with opened(disk, path, os.O_RDWR, key) as fd:
            while True:
                try:
                    disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise NotWritten(
                            f"session {key}: another process holds {path}", key=str(key), path=str(path)
                        ) from None
                    time.sleep(RETRY_S)
            if identity_of(os.stat(path, follow_symlinks=False)) != identity_of(os.fstat(fd)):
                raise NotWritten(f"session {key}: {path} was replaced meanwhile", key=str(key), path=str(path))
            yield
    except OSError as error:
        raise refusal(error, path, key) from error
