"""Session files, and an index over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanochat.doors import Query
from nanochat.keys import SessionKey
from nanochat.records import Event, Message, Rewind
from nanochat.search import SearchIndex
from nanochat.store import FileStore

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@dataclass
class Shelf:
    """A data directory whose conversations go on, minute by minute, and one index over it."""

    directory: Path
    store: FileStore
    index: SearchIndex
    now: datetime = NOON
    ends: dict[str, int] = field(default_factory=dict)

    @property
    def sessions(self) -> Path:
        return self.directory / "sessions"

    @property
    def index_path(self) -> Path:
        return self.directory / "index.db"

    def path(self, key: str) -> Path:
        return self.store.path_of(SessionKey.parse(key))

    async def append(self, key: str, *drafts: Message | Event) -> int:
        """Append lines; returns where the first of them begins."""
        known = self.ends.get(key, 0)
        appended = await self.store.append(SessionKey.parse(key), drafts, known=known, durable=False, now=self.now)
        self.ends[key] = appended.end
        return appended.records[0].start

    async def say(self, key: str, *texts: str, role: str = "user") -> int:
        """Say something, a minute after what was said before."""
        start = -1
        for text in texts:
            self.now += timedelta(minutes=1)
            begun = await self.append(key, Message(role, text, self.now))
            start = begun if start < 0 else start
        return start

    async def take_back(self, key: str, start: int, n: int) -> int:
        return await self.append(key, Rewind(start, n, "undo"))

    async def find(self, words: str, *keys: str, **asked: object) -> list[str]:
        """The texts that are found, newest first."""
        query = Query(words, keys, **asked)  # type: ignore[arg-type]  # each test names what it asks for
        return [found.text for found in await self.index.search(query)]


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    directory = tmp_path / "data"
    store = FileStore(directory / "sessions", durability="off")
    index = SearchIndex(directory / "sessions", directory / "index.db", patience_s=0.3)
    yield Shelf(directory, store, index)
    await index.close()
    await store.close()
