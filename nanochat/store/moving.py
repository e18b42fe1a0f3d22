"""Taking a whole session file away, under its lock: into the archive, with a receipt, or for good.

Whoever waits for the lock meanwhile finds that the name stands for another file, or for none, and writes there. The receipt is on
the device before the file moves, so no moved file is without one; one whose file is not there, or is empty, was written by a
process that died between the two, and the session is where it was. Knows files as wholes. Does not know leases: the caller holds
the session's.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nanochat.errors import NotWritten, StoreError
from nanochat.keys import SessionKey
from nanochat.store.disk import Disk, identity_of, make_dir, modified_at, opened, refusal, sync_dir, unsettled
from nanochat.store.names import SUFFIX, stem_of
from nanochat.store.repair import TORN_SUFFIX
from nanochat.store.scan import Source, whole_end
from nanochat.store.tail import find_tail

__all__ = ["Archived", "archive", "remove"]

RECEIPTS = "receipts.jsonl"

# An append holds the lock for microseconds; one that is held longer is held by a process that was stopped.
PATIENCE_S = 5.0
RETRY_S = 0.05


@dataclass(frozen=True, slots=True)
class Archived:
    """A session file that was put away: from where, to where, and what was in it."""

    key: SessionKey
    moved_from: Path
    moved_to: Path
    at: datetime
    messages: int
    turns: int
    size_bytes: int
    reason: str

    @property
    def receipts(self) -> Path:
        """The file that its receipt stands in."""
        return self.moved_to.parent / RECEIPTS

    def fields(self) -> dict[str, object]:
        """The receipt, as it stands in `receipts.jsonl`."""
        return {
            "key": str(self.key),
            "from": str(self.moved_from),
            "to": str(self.moved_to),
            "at": self.at.isoformat(),
            "messages": self.messages,
            "turns": self.turns,
            "size_bytes": self.size_bytes,
            "reason": self.reason,
        }


def archive(disk: Disk, path: Path, directory: Path, key: SessionKey, at: datetime, reason: str) -> Archived:
    """Move a session's file, and what could not be read of its end, to a free name in `directory`.

    Raises:
        NotWritten: it is where it was.
        WrongFile: so it is, since something else lies in its place, or in that of the receipts.
        DurabilityUnknown: it has moved, and after a loss of power may be where it was.
    """
    with _locked(disk, path, key) as fd:
        make_dir(disk, directory)
        status = os.fstat(fd)
        end = whole_end(source := Source(disk, fd, key, modified_at(status)), status.st_size)
        tail = find_tail(source, end)
        turns = tail.state.totals.turns if tail.state is not None else 0
        to = _reserved(disk, directory, key, at)
        archived = Archived(key, path, to, at, tail.n, turns, status.st_size, reason)
        try:
            _note(disk, directory, archived.fields())
            _move(disk, path, archived)
        except (OSError, StoreError):
            to.unlink(missing_ok=True)
            raise
        try:
            with suppress(FileNotFoundError):
                disk.rename(path.with_suffix(TORN_SUFFIX), to.with_suffix(TORN_SUFFIX))
            sync_dir(disk, directory)
            sync_dir(disk, path.parent)
        except OSError as error:
            raise unsettled(error, f"its file is now {to}", to, key) from error
        return archived


def remove(disk: Disk, path: Path, key: SessionKey) -> None:
    """Remove a session's file, and what could not be read of its end.

    Raises:
        NotWritten: it is still there.
        DurabilityUnknown: it is gone, and after a loss of power may be there again.
    """
    with _locked(disk, path, key):
        disk.unlink(path)
        try:
            with suppress(FileNotFoundError):
                disk.unlink(path.with_suffix(TORN_SUFFIX))
            sync_dir(disk, path.parent)
        except OSError as error:
            raise unsettled(error, f"{path} is deleted", path, key) from error


def _reserved(disk: Disk, directory: Path, key: SessionKey, at: datetime) -> Path:
    """An empty file under a name that nobody had, ours to replace: a rename alone would replace another one's.

    The name is the key's own, not that of the file: nanobot's can be as long as a name may be.
    """
    stem = f"{stem_of(key)}.{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    count = 1
    while True:
        path = directory / (f"{stem}{SUFFIX}" if count == 1 else f"{stem}-{count}{SUFFIX}")
        try:
            os.close(disk.open_safely(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, key))
        except FileExistsError:
            count += 1
        else:
            return path


def _move(disk: Disk, path: Path, archived: Archived) -> None:
    try:
        disk.rename(path, archived.moved_to)
    except OSError as error:
        fields = archived.fields()
        void = {name: fields[name] for name in ("key", "from", "to", "at")}
        _note(disk, archived.moved_to.parent, {**void, "void": error.strerror or "it could not be moved"})
        raise


def _note(disk: Disk, directory: Path, fields: Mapping[str, object]) -> None:
    """Append a receipt, durably. Behind a line that was torn a new one is begun."""
    line = json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    fd, _ = disk.open_or_make(directory / RECEIPTS, os.O_RDWR | os.O_APPEND)
    try:
        disk.flock(fd, fcntl.LOCK_EX)
        size = os.fstat(fd).st_size
        if size and disk.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        rest = memoryview(line)
        while rest:
            rest = rest[disk.write(fd, rest) :]
        disk.fsync(fd)
    finally:
        os.close(fd)
    sync_dir(disk, directory)


@contextmanager
def _locked(disk: Disk, path: Path, key: SessionKey) -> Iterator[int]:
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
            yield fd
    except OSError as error:
        raise refusal(error, path, key) from error
