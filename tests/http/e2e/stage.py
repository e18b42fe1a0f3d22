"""The page's whole house: the real rooms, the real HTTP channel, and a network that a test can cut.

browser -> Wire -> Http -> Worker, Assistant, Agent, session files
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from nanochat.catalog import Catalog
from tests.fakes.office import Office
from tests.http.e2e.parrot import Parrot
from tests.http.premises import Premises

__all__ = ["Stage", "Wire", "staged"]


@dataclass
class Wire:
    """Forwards connections, until it is cut: then those there are break, and new ones are refused."""

    target: tuple[str, int]
    port: int = 0
    _server: asyncio.Server | None = None
    _links: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def mend(self) -> None:
        """Let connections through, always at the same port."""
        self._server = await asyncio.start_server(self._link, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break everything."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._links):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def close(self) -> None:
        """Leave nothing open."""
        if self._server is not None:
            await self.cut()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        links = {writer}
        try:
            there, back = await asyncio.open_connection(*self.target)
            links.add(back)
            self._links |= links
            async with asyncio.TaskGroup() as group:
                group.create_task(_pour(reader, back))
                group.create_task(_pour(there, writer))
        except (OSError, asyncio.CancelledError):
            pass  # one of the two ends is gone, or the wire is cut
        finally:
            for link in links:
                link.transport.abort()
            self._links -= links
            self._tasks.discard(task)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except ConnectionError:
        writer.transport.abort()


@dataclass
class Stage:
    """What a test plays with. `url` is the page's."""

    url: str
    office: Office
    catalog: Catalog
    parrot: Parrot
    wire: Wire
    directory: Path

    async def say(self, text: str, key: str) -> None:
        """A message from elsewhere, answered: another channel of the same house."""
        await self.office.house.say(text, key, f"elsewhere:{uuid4().hex}")

    def written(self, key: str) -> list[dict[str, Any]]:  # Any: a line's JSON
        """The message lines of a session's file."""
        path = self.directory / "sessions" / f"{key.replace(':', '+')}.jsonl"
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if "role" in line]


@asynccontextmanager
async def staged(directory: Path) -> AsyncIterator[Stage]:
    """A house on its own data directory, served."""
    parrot = Parrot()
    parrot.gate.set()
    premises = Premises(directory, model=parrot, keep_alive_s=0.5)
    await premises.open()
    place = urlsplit(premises.http.url)
    wire = Wire((place.hostname or "", place.port or 0))
    try:
        await wire.mend()
        yield Stage(f"http://127.0.0.1:{wire.port}/", premises.office, premises.catalog, parrot, wire, directory)
    finally:
        await wire.close()
        await premises.close()
