"""Messages and files as rows of the index, many at a time: all of them are written, or none.

Knows the index's tables, and what stands for a session and for who speaks among the words. Does not know session files.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from nanochat.search.database import number_of, second_of
from nanochat.search.reading import Back, Said
from nanochat.search.words import spread

__all__ = ["ROLES", "Batch", "File", "Measures", "Stamp", "doubt", "forget", "role_word", "session_word"]

Stamp: TypeAlias = tuple[int, int, int]
"""What a file is known by: inode, size, and when it was changed."""

ROLES = ("user", "assistant", "delivered")
"""Who speaks, as `transcript.to_seen` tells it."""


@dataclass(frozen=True, slots=True)
class Measures:
    """How much is done at a time.

    A batch is of `batch_messages`, or of `batch_chars` of text. When a conversation is deleted, its words should go with it:
    `cheap_messages` are read again in a second, and then they do; beyond that they stay, though never found again, until they
    are `worthless_share` of the index.
    """

    batch_messages: int = 50_000
    batch_chars: int = 8_000_000
    cheap_messages: int = 20_000
    worthless_share: float = 1 / 3


def session_word(session: int) -> str:
    """What stands for a session among the words of its messages."""
    return f"\ue000s{session}"


def role_word(role: str) -> str:
    """What stands for a role there."""
    return f"\ue000{role[0]}"


@dataclass(slots=True)
class File:
    """A row of `session`, as it is written."""

    id: int
    key: str
    stamp: Stamp
    upto: int = 0
    trail: int = 0
    count: int = 0
    backs: list[Back] = field(default_factory=list)


def doubt(connection: sqlite3.Connection, path: str) -> None:
    """Have a file read anew when it is next seen; until then, nothing in it is live."""
    connection.execute("UPDATE session SET upto = -1, size = -1 WHERE path = ? AND upto >= 0", (path,))


def forget(connection: sqlite3.Connection, sessions: Collection[int]) -> int:
    """Have none of the messages of sessions found any more; returns how many they were."""
    if not sessions:
        return 0
    those = json.dumps(list(sessions))
    first, last = connection.execute(
        "SELECT min(first), max(last) FROM session WHERE id IN (SELECT value FROM json_each(?))", (those,)
    ).fetchone()
    gone = connection.execute(
        "UPDATE message SET session = 0 WHERE session IN (SELECT value FROM json_each(?)) AND id BETWEEN ? AND ?",
        (those, first, last),
    ).rowcount
    connection.execute("UPDATE tally SET value = value + ? WHERE name = 'gone'", (gone,))
    connection.execute("UPDATE session SET messages = 0 WHERE id IN (SELECT value FROM json_each(?))", (those,))
    return gone


class Batch:
    """Messages that are written together, and how far the files that they are of are read with them."""

    def __init__(self, connection: sqlite3.Connection, measures: Measures) -> None:
        self.connection = connection
        self._measures = measures
        self.written = 0
        self._rows: list[tuple[int, int, int, int, str]] = []
        self._repeated: dict[int, set[int]] = {}
        self._forgotten: set[int] = set()
        self._chars = 0

    @property
    def is_full(self) -> bool:
        """Whether it should be written."""
        return self._chars >= self._measures.batch_chars or len(self._rows) >= self._measures.batch_messages

    def begin(self) -> None:
        """Whatever is written from here on is written whole, or not at all."""
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")

    def begin_file(self, path: str) -> int:
        """The id of a file's session, made where it has none."""
        self.begin()
        self.connection.execute("INSERT OR IGNORE INTO session (path) VALUES (?)", (path,))
        (session,) = self.connection.execute("SELECT id FROM session WHERE path = ?", (path,)).fetchone()
        return int(session)

    def end_file(self, file: File) -> None:
        """Note how far a file is read."""
        self.begin()
        self.connection.execute(
            "UPDATE session SET key = ?, inode = ?, size = ?, changed = ?, upto = ?, trail = ?, count = ?, backs = ?"
            " WHERE id = ?",
            (file.key, *file.stamp, file.upto, file.trail, file.count, json.dumps(file.backs), file.id),
        )

    def doubt_file(self, path: str) -> None:
        """Have a file read anew next time."""
        self.begin()
        doubt(self.connection, path)

    def forget(self, session: int) -> None:
        """Have none found of a session's messages but those that are taken from now on.

        It is done when the batch is written: to find them takes a pass over the index, and after a copy of the whole directory
        every file is another one.
        """
        self._forgotten.add(session)

    def add(self, session: int, said: Said, *, is_repeated: bool) -> None:
        """Take a message; one that is written once more, after a failed sync, takes the place of the first."""
        if is_repeated:
            self._repeated.setdefault(session, set()).add(said.n)
        text = f"{spread(said.text)}\n{session_word(session)} {role_word(said.kind)}"
        self._rows.append((number_of(said.at.timestamp()), session, said.start, said.n, text))
        self._chars += len(text)

    def write(self) -> None:
        """Write all of it."""
        self.begin()
        forget(self.connection, self._forgotten)
        if self._repeated:
            self._drop_repeated()
        self._rows.sort()  # SQLite writes what it has gathered whenever a number is less than the one before
        numbers, late = self._numbers()
        self.connection.executemany(
            "INSERT INTO said (rowid, text) VALUES (?, ?)",
            ((number, row[4]) for number, row in zip(numbers, self._rows, strict=True)),
        )
        self.connection.executemany(
            "INSERT INTO message VALUES (?, ?, ?, ?)",
            ((number, *row[1:4]) for number, row in zip(numbers, self._rows, strict=True)),
        )
        self._count(numbers)
        if late:
            self.connection.execute("UPDATE tally SET value = max(value, ?) WHERE name = 'late'", (late,))
        self.connection.execute("COMMIT")
        self.written += len(self._rows)
        self._rows, self._repeated, self._forgotten, self._chars = [], {}, set(), 0

    def _numbers(self) -> tuple[list[int], int]:
        """A free number for each row, and by how many seconds one was moved at most."""
        numbers: list[int] = []
        last, taken, late = -1, -1, 0
        for row in self._rows:
            number = max(row[0], last + 1)
            while taken <= number:
                if taken == number:
                    number += 1
                taken = self._next_taken(number)
            numbers.append(number)
            last = number
            late = max(late, second_of(number) - second_of(row[0]))
        return numbers, late

    def _next_taken(self, number: int) -> int:
        row: tuple[int] | None = self.connection.execute(
            "SELECT id FROM message WHERE id >= ? ORDER BY id LIMIT 1", (number,)
        ).fetchone()
        return row[0] if row else 2**63

    def _drop_repeated(self) -> None:
        """Keep the last of those that have the same number in the same session."""
        last = {(row[1], row[3]): place for place, row in enumerate(self._rows)}
        self._rows = [row for place, row in enumerate(self._rows) if last[row[1], row[3]] == place]
        for session, numbers in self._repeated.items():
            dropped = self.connection.execute(
                "UPDATE message SET session = 0 WHERE session = ?1 AND n IN (SELECT value FROM json_each(?2))"
                " AND id BETWEEN (SELECT first FROM session WHERE id = ?1) AND (SELECT last FROM session WHERE id = ?1)",
                (session, json.dumps(sorted(numbers))),
            ).rowcount
            self.connection.execute("UPDATE session SET messages = messages - ? WHERE id = ?", (dropped, session))
            self.connection.execute("UPDATE tally SET value = value + ? WHERE name = 'gone'", (dropped,))

    def _count(self, numbers: list[int]) -> None:
        counts: dict[int, list[int]] = {}
        for number, row in zip(numbers, self._rows, strict=True):
            count = counts.setdefault(row[1], [0, number, number])
            count[0] += 1
            count[2] = number  # they are in order
        self.connection.executemany(
            "UPDATE session SET messages = messages + ?, first = min(first, ?), last = max(last, ?) WHERE id = ?",
            ((*count, session) for session, count in counts.items()),
        )
