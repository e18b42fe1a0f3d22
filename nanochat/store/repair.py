"""Mending the end of a session file in place, under its lock.

Nothing is ever cut off: a follower such as `tail -f` takes a shorter file for a new one and shows all of it again. So what must
not be read is overwritten with spaces, which every reader of lines skips. Knows bytes. Does not know records beyond "is it one".
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from nanochat.records import MAX_LINE_BYTES, Unreadable
from nanochat.store.disk import Disk, identity_of, opened
from nanochat.store.scan import Line, Source

__all__ = ["TORN_SUFFIX", "blank", "mend"]

TORN_SUFFIX = ".torn"

_CHUNK_BYTES = 1024 * 1024


def mend(source: Source, path: Path, start: int, size: int) -> int:
    """Give the last bytes of the file, from `start` to `size`, the newline that they lack; returns the size it has then.

    What is a whole object only lacked that. A torn one is kept beside the file and blanked.
    """
    if not _is_object(source, start, size) and _keep_fragment(source, path, start, size):
        blank(source.disk, source.fd, path, start, size)
    # The newline comes last: a repair that is cut short is found by the next one, with blanks or the fragment before it.
    source.disk.write(source.fd, b"\n")
    return size + 1


def blank(disk: Disk, fd: int, path: Path, start: int, end: int, *, closing: bytes = b"") -> None:
    """Overwrite bytes of the file with spaces, the last ones with `closing`.

    On Linux a positioned write to a descriptor opened for appending appends, so this takes one of its own.
    """
    with opened(disk, path, os.O_WRONLY) as own:
        if identity_of(os.fstat(own)) != identity_of(os.fstat(fd)):
            raise FileNotFoundError(errno.ENOENT, "replaced meanwhile", str(path))
        end -= len(closing)
        while start < end:
            start += disk.pwrite(own, b" " * min(_CHUNK_BYTES, end - start), start)
        if closing:
            disk.pwrite(own, closing, end)


def _is_object(source: Source, start: int, end: int) -> bool:
    """Whether the bytes are a whole JSON object; no beginning of one is."""
    if end - start >= MAX_LINE_BYTES:
        return False
    data = source.disk.pread(source.fd, end - start, start)
    is_object = data.lstrip(b"\xef\xbb\xbf \t\r")[:1] == b"{"
    return is_object and not isinstance(source.record(Line(start, end, data)), Unreadable)


def _keep_fragment(source: Source, path: Path, start: int, end: int) -> bool:
    """Copy the fragment into the file for such; says whether it was more than the blanks of a repair that was cut short."""
    if not any(chunk.strip(b" ") for chunk in _chunks(source, start, end)):
        return False
    torn, _ = source.disk.open_or_make(path.with_suffix(TORN_SUFFIX), os.O_WRONLY | os.O_APPEND, source.key)
    try:
        for chunk in chain(_chunks(source, start, end), (b"\n",)):
            rest = memoryview(chunk)
            while rest:
                rest = rest[source.disk.write(torn, rest) :]
        source.disk.fsync(torn)
    finally:
        os.close(torn)
    return True


def _chunks(source: Source, start: int, end: int) -> Iterator[bytes]:
    while start < end and (chunk := source.disk.pread(source.fd, min(_CHUNK_BYTES, end - start), start)):
        start += len(chunk)
        yield chunk
