"""Whose session a file is by its first line, where its name does not tell.

Knows headers. Does not know names, nor what else is in a file.
"""

from __future__ import annotations

import os

from nanochat.errors import KeyFormError
from nanochat.keys import SessionKey
from nanochat.lines import decode
from nanochat.records import Snapshot
from nanochat.store.disk import Disk, modified_at
from nanochat.store.scan import Source, line_at

__all__ = ["header_key"]

# A source needs one to read with, and here it is what is asked for.
_ANY = SessionKey("cli", "default")


def header_key(disk: Disk, fd: int) -> SessionKey | None:
    """The key that an open file's header states; None where it has no header, or that has no key.

    Raises:
        OSError: it cannot be read.
    """
    status = os.fstat(fd)
    source = Source(disk, fd, _ANY, modified_at(status))
    line = line_at(source, 0, status.st_size)
    record = decode(line.data, 0, known_at=source.known_at) if line and line.data else None
    if not isinstance(record, Snapshot):
        return None
    try:
        return SessionKey.parse(record.state.key)
    except KeyFormError:
        return None
