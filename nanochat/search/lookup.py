"""One query, answered from an index that is up to date.

The index tells where words are; the text comes from the session file, and is asked again. What is not there as the index has it
makes its file doubtful, and is no answer. Knows the index's tables, and how a session file is read at one place. Does not know
how the index keeps up.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import sqlite3
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nanochat.doors import Found, Query
from nanochat.errors import SearchError, StoreError
from nanochat.keys import SessionKey
from nanochat.search.batch import ROLES, role_word, session_word
from nanochat.search.database import Unusable, number_of
from nanochat.search.reading import Back, Said, Span, is_live, live_spans, look_at
from nanochat.search.words import Marker, excerpt
from nanochat.store.disk import Disk, modified_at
from nanochat.store.places import find_path
from nanochat.store.scan import Source, line_at

__all__ = ["Lookup", "check"]

# So many sessions are asked for by name, inside the index; where more match, enough of what is found is in one of them.
_MAX_NAMED = 64

# More than one page of answers has sessions, on most pages.
_MAX_OPEN = 16

_GREATEST = 2**63 - 1

_WILD = frozenset("*?[")


def check(query: Query) -> None:
    """See to what can be wrong in a query beside its words.

    Raises:
        SearchError: something is.
    """
    if query.limit < 1:
        raise SearchError(f"a search finds at least 1 message, not {query.limit}")
    for role in query.roles:
        if role not in ROLES:
            raise SearchError(f"nobody has the role {role!r}; it takes {', '.join(ROLES[:-1])} or {ROLES[-1]}")


@dataclass(frozen=True, slots=True)
class _Session:
    """Where a session's lines are; `source` is its file, open, or None where it cannot be read as the index has it."""

    key: SessionKey
    path: str
    spans: tuple[Span, ...]
    source: Source | None
    size: int = 0


class Lookup:
    """`run` answers; `doubtful` are then the files that are not as the index has them."""

    def __init__(
        self, connection: sqlite3.Connection, disk: Disk, sessions_dir: Path, query: Query, marker: Marker
    ) -> None:
        self._connection = connection
        self._disk = disk
        self._dir = sessions_dir
        self._query = query
        self._marker = marker
        self._sessions: dict[int, _Session] = {}
        self.doubtful: set[str] = set()

    def run(self) -> list[Found]:
        """The newest messages that match."""
        try:
            return self._run()
        finally:
            self._close_files()

    def _run(self) -> list[Found]:
        match, wanted = self._marker.match, None
        low, high = self._numbers()
        if self._query.roles:
            match = f"({match}) AND ({_any_of(map(role_word, self._query.roles))})"
        if self._query.keys:
            sessions = self._wanted()
            if not sessions:
                return []
            wanted = frozenset(session for session, _, _ in sessions)
            if len(sessions) <= _MAX_NAMED:
                match = f"({match}) AND ({_any_of(map(session_word, wanted))})"
            low = max(low, min(first for _, first, _ in sessions))
            high = min(high, max(last for _, _, last in sessions))
        with closing(self._hits(match, low, high, wanted)) as hits:  # an open query would keep others from writing
            found = list(islice(hits, self._query.limit))
        found.sort(key=lambda each: each.at, reverse=True)  # within a second they are as they were read
        return found

    def _numbers(self) -> tuple[int, int]:
        """The least and the greatest number of the time that is asked for."""
        since, until = self._query.since, self._query.until
        low = number_of(since.timestamp()) if since is not None else 0
        if until is None:
            return low, _GREATEST
        (late,) = self._connection.execute("SELECT value FROM tally WHERE name = 'late'").fetchone()
        return low, number_of(until.timestamp() + 1 + late)

    def _wanted(self) -> list[tuple[int, int, int]]:
        """Each session that is asked for, and its least and greatest number."""
        keys = self._query.keys
        matches = re.compile("|".join(map(fnmatch.translate, keys))).match
        is_named = not any(_WILD.intersection(key) for key in keys)
        where = " WHERE key IN (SELECT value FROM json_each(?))" if is_named else ""
        rows = self._connection.execute(
            f"SELECT id, key, first, last FROM session{where}", (json.dumps(keys),) if is_named else ()
        )
        return [(session, first, last) for session, key, first, last in rows if last >= 0 and matches(key)]

    def _hits(self, match: str, low: int, high: int, wanted: Collection[int] | None) -> Generator[Found, None, None]:
        # CROSS: the words first, each message looked up as it is found.
        rows = self._connection.execute(
            "SELECT message.session, message.start, message.n FROM said CROSS JOIN message ON message.id = said.rowid"
            " WHERE said MATCH ? AND said.rowid BETWEEN ? AND ? ORDER BY said.rowid DESC",
            (match, low, high),
        )
        with closing(rows):
            for session, start, n in rows:
                if session and (wanted is None or session in wanted):
                    hit = self._hit(session, start, n)
                    if hit is not None:
                        yield hit

    # --- the session files -------------------------------------------------------------------------------------------

    def _hit(self, number: int, start: int, n: int) -> Found | None:
        session = self._sessions.get(number) or self._open(number)
        if session.source is None or not is_live(session.spans, start, n):
            return None
        said = self._said(session.source, start, session.size)
        if said is None or said.n not in (n, -1) or (marked := self._marker.marked(said.text)) is None:
            self.doubtful.add(session.path)
            return None
        query, at = self._query, said.at
        if (query.since is not None and at < query.since) or (query.until is not None and at >= query.until):
            return None
        return Found(session.key, n, said.kind, at, said.text, excerpt(*marked))

    def _said(self, source: Source, start: int, size: int) -> Said | None:
        try:
            line = line_at(source, start, size) if source.begins_line(start) else None
        except OSError:
            return None
        return look_at(source, line).said if line is not None else None

    def _open(self, number: int) -> _Session:
        if len(self._sessions) >= _MAX_OPEN:
            self._close_files()
        row = self._connection.execute(
            "SELECT path, key, inode, upto, backs FROM session WHERE id = ?", (number,)
        ).fetchone()
        if row is None:
            raise Unusable("it tells of a session that it does not know")
        path, text, inode, upto, backs = row
        key = SessionKey.parse(text)
        spans = live_spans([Back(*back) for back in json.loads(backs)], upto)
        source, size = self._source(self._dir / path, key, inode)
        session = self._sessions[number] = _Session(key, path, spans, source, size)
        return session

    def _source(self, path: Path, key: SessionKey, inode: int) -> tuple[Source | None, int]:
        """The file, if it is the one that the index knows; one that another file of its session hides is nobody's."""
        try:
            if find_path(self._disk, self._dir, key) != path:
                return None, 0
            fd = self._disk.open_safely(path, os.O_RDONLY, key)
        except (OSError, StoreError):
            return None, 0
        status = os.fstat(fd)
        if status.st_ino != inode:
            os.close(fd)
            return None, 0
        return Source(self._disk, fd, key, modified_at(status)), status.st_size

    def _close_files(self) -> None:
        for session in self._sessions.values():
            if session.source is not None:
                os.close(session.source.fd)
        self._sessions.clear()


def _any_of(words: Iterator[str]) -> str:
    return " OR ".join(f'"{word}"' for word in words)
