"""What is wrong with a session file, line by line.

Reads the file once, forwards, in bounded memory, and changes nothing. Knows the laws of the format. Does not mend.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nanochat.keys import SessionKey
from nanochat.lines import decode
from nanochat.records import FORMAT, Compact, Message, Rewind, Snapshot, Unreadable
from nanochat.store.disk import Disk, modified_at, opened
from nanochat.store.scan import Line, Source, forwards
from nanochat.store.view import Places

__all__ = ["Damage", "check"]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong: the line's number from 1, its first byte, and why, as in `line 17 is not JSON`."""

    line: int
    start: int
    why: str


def check(path: Path, key: SessionKey, *, disk: Disk | None = None) -> Iterator[Damage]:
    """Every line that cannot be read, or says what does not hold, in the file's order.

    Raises:
        OSError: the file cannot be read.
        WrongFile: it is no file.
    """
    disk = disk or Disk()
    with opened(disk, path, os.O_RDONLY, key) as fd:
        status = os.fstat(fd)
        source = Source(disk, fd, key, modified_at(status))
        yield from _Checker(source).run(status.st_size)


class _Checker:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._places = Places(source)
        self._greatest = -1

    def run(self, size: int) -> Iterator[Damage]:
        number, end = 0, 0
        for number, line in enumerate(forwards(self._source, 0, size), 1):
            end = line.end
            for why in self._faults(line, number):
                yield Damage(number, line.start, why)
        if end < size:
            yield Damage(number + 1, end, f"is not finished ({size - end} bytes); the next append mends it")

    def _faults(self, line: Line, number: int) -> Iterator[str]:
        record = self._source.record(line)
        if isinstance(record, Unreadable):
            yield record.why
        if number == 1 and not isinstance(record, Snapshot):
            foreign = decode(line.data, 0, known_at=self._source.known_at) if line.data else None
            yield f"belongs to session {foreign.state.key}" if isinstance(foreign, Snapshot) else "is not a header"
        if isinstance(record, Message):
            yield from self._message_faults(record)
        elif isinstance(record, Snapshot):
            yield from self._snapshot_faults(record)

    def _message_faults(self, message: Message) -> Iterator[str]:
        if message.n > self._greatest + 1 and self._greatest >= 0:
            yield f"is message {message.n}, after message {self._greatest}"
        self._greatest = max(self._greatest, message.n) if message.n >= 0 else self._greatest + 1

    def _snapshot_faults(self, snapshot: Snapshot) -> Iterator[str]:
        event = snapshot.event
        if snapshot.state.version > FORMAT:
            yield f"is of format {snapshot.state.version}, which is newer than this nanochat"
        if isinstance(event, Rewind) and self._places.find(event.to, event.to_n, snapshot) is None:
            yield f"goes back to byte {event.to}, where no line begins, and no message {event.to_n} is before it"
        if isinstance(event, Compact) and self._places.find(event.keep, event.keep_n, snapshot) is None:
            yield f"keeps from byte {event.keep}, where no line begins, and no message {event.keep_n} is before it"
