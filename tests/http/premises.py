"""The HTTP channel with the real rooms behind it and a model that echoes, on a real port; and a client that reads its streams.

Knows how the parts are put together, as the roof does it. Does not know what is tested.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from nanochat.catalog import Catalog
from nanochat.channels.http import Http, HttpSettings
from nanochat.doors import ChannelHealth, Known
from nanochat.events import Inbound
from nanochat.inbox.live import Live
from nanochat.keys import SessionKey
from nanochat.ports import Emit, Model
from nanochat.sessions import SessionManager
from nanochat.store import FileStore
from nanochat.turn.limits import Limits
from tests.fakes.house import FakeClock
from tests.fakes.office import Office
from tests.fakes.patience import Pauses

__all__ = ["TOKEN", "Event", "Premises", "asked", "events_of", "read_events"]

TOKEN = "a-token-for-tests"


class _Entrance:
    """See `doors.LiveTurns`; who does the turns is known only when the channel is there."""

    def __init__(self) -> None:
        self.live: Live | None = None
        self.begun: list[str] = []

    def begin(self, inbound: Inbound, emit: Emit, digest: str = "") -> None:
        self.begun.append(inbound.source_id)
        self._there.begin(inbound, emit, digest)

    async def known(self, source_id: str) -> Known | None:
        return await self._there.known(source_id)

    async def retell(self, inbound: Inbound, emit: Emit) -> None:
        await self._there.retell(inbound, emit)

    async def set_system(self, key: SessionKey, text: str) -> bool:
        return await self._there.set_system(key, text)

    @property
    def _there(self) -> Live:
        assert self.live is not None
        return self.live


@dataclass(frozen=True)
class Event:
    """One server-sent event; a comment has the name `:`."""

    name: str
    data: Any = None  # Any: JSON of every shape
    id: str = ""
    raw: str = ""


class Premises:
    """One daemon's HTTP. Several on one directory are a process and its successors."""

    def __init__(
        self,
        directory: Path,
        *,
        settings: HttpSettings | None = None,
        limits: Limits | None = None,
        model: Model | None = None,
        **http: Any,  # Any: fields of `HttpSettings`
    ) -> None:
        self.settings = settings or HttpSettings("127.0.0.1", 0, TOKEN, directory / "http.sock")
        self.settings = replace(self.settings, **http)
        self.entrance = _Entrance()
        self.store = FileStore(directory / "sessions")
        self.catalog = Catalog(SessionManager(self.store), self.store, budget_tokens=16000)
        self.states: list[ChannelHealth] = []
        self.http = Http(
            self.settings,
            self.entrance,
            self.catalog,
            self.store.follow,
            lambda: self.states,
            version="0.0.1",
        )
        clock = FakeClock(datetime.now(UTC))
        self.office = Office(
            directory,
            channels=[self.http],
            model=model,
            limits=limits or Limits(turns_per_minute=0),
            pauses=Pauses(clock),
        )
        house = self.office.house
        self.entrance.live = Live(self.office.worker.begin, house.ledger, house.assistant, house.manager)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closed = False

    async def open(self) -> None:
        """Begin to answer requests."""
        self._tasks = [asyncio.create_task(self.office.worker.run())]
        await self.office.worker.opened.wait()
        self._tasks.append(asyncio.create_task(self.http.run(self.office.worker.accept)))
        await self.http.listening.wait()

    async def end(self) -> None:
        """What a daemon does at its end: finish what runs, then let the channel go."""
        await self.office.worker.drain()
        await self.hang_up()

    async def hang_up(self) -> None:
        """Have the channel end, and not the worker."""
        serving = self._tasks.pop()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    async def close(self) -> None:
        """Leave nothing open."""
        if self._is_closed:
            return
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.office.close()
        await self.store.close()

    def client(self, **settings: Any) -> httpx.AsyncClient:  # Any: httpx's own
        """Somebody who has the token."""
        settings = {"headers": {"Authorization": f"Bearer {self.settings.token}"}, "timeout": 20.0, **settings}
        if not self.settings.token:
            transport = httpx.AsyncHTTPTransport(uds=str(self.settings.socket_path))
            return httpx.AsyncClient(base_url="http://localhost", transport=transport, timeout=20.0)
        return httpx.AsyncClient(base_url=self.http.url, **settings)


@dataclass
class _Lines:
    fields: dict[str, str] = field(default_factory=dict)
    raw: list[str] = field(default_factory=list)


async def read_events(response: httpx.Response) -> AsyncIterator[Event]:
    """The events of a stream as they come, comments too."""
    found = _Lines()
    async for line in response.aiter_lines():
        if line.startswith(":"):
            yield Event(":", line[1:].strip())
        elif line:
            name, _, value = line.partition(": ")
            if name == "data":
                found.raw.append(value)
            else:
                found.fields[name] = value
        elif found.fields or found.raw:
            raw = "\n".join(found.raw)
            yield Event(found.fields.get("event", ""), json.loads(raw), found.fields.get("id", ""), raw)
            found = _Lines()


@asynccontextmanager
async def asked(
    client: httpx.AsyncClient, session_id: str, message: str, key: str | None = None, **body: object
) -> AsyncIterator[httpx.Response]:
    """The stream that a message is answered by."""
    headers = {} if key is None else {"Idempotency-Key": key}
    content = {"message": message, **body}
    async with client.stream("POST", f"/chat/stream/{session_id}", json=content, headers=headers) as response:
        yield response


async def events_of(
    client: httpx.AsyncClient, session_id: str, message: str, key: str | None = None, **body: object
) -> Sequence[Event]:
    """All events of an answer."""
    async with asked(client, session_id, message, key, **body) as response:
        assert response.status_code == 200, (await response.aread()).decode()
        return [event async for event in read_events(response)]
