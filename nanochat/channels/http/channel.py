"""HTTP: requests come in, answers and streams go out.

Puts the rooms of this package together behind `ports.Channel`. Does not know what a turn is, nor where anything is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import ASGIApp

from nanochat.channels.http.connections import most_connections
from nanochat.channels.http.desk import Desk
from nanochat.channels.http.feeds import Feed, Feeds
from nanochat.channels.http.gate import Gate, loopback_names
from nanochat.channels.http.routes import OPEN_PATHS, Doors, build
from nanochat.channels.http.serving import serve
from nanochat.channels.http.sockets import Listening, on_path, on_port
from nanochat.doors import Follow, Health, LiveTurns, Sessions
from nanochat.errors import ChannelError
from nanochat.events import Inbound, ReplyEvent
from nanochat.keys import SessionKey
from nanochat.ports import Accept, Envelope, Receipt, Reply, ReplyMemory

__all__ = ["Http", "HttpSettings"]

_log = logging.getLogger(__name__)

_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """What the channel is told. Without a `token` it is reached by the socket file only, which one user can open.

    `limit_bytes` is the longest body, which no line of a session may exceed either; `keep_alive_s` how long a stream is silent;
    `head_s` how long a client may take to ask, once it is connected; without `most_connections` it is what descriptors allow.
    """

    host: str
    port: int
    token: str = field(repr=False)
    socket_path: Path
    limit_bytes: int = 8 * 1024 * 1024
    keep_alive_s: float = 15.0
    head_s: float = 20.0
    most_connections: int | None = None


class Http:
    """See `ports.Channel`. `url` is where it listens, once `listening` is set."""

    name = "http"

    def __init__(
        self,
        settings: HttpSettings,
        turns: LiveTurns,
        sessions: Sessions,
        follow: Follow,
        health: Health,
        *,
        version: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.url = ""
        self.listening = asyncio.Event()
        self._settings = settings
        self._sessions = sessions
        self._follow = follow
        self._health = health
        self._version = version
        self._clock = clock
        self._since = clock()
        self._feeds = Feeds()
        self._desk = Desk(turns, self._feeds, clock)

    async def run(self, accept: Accept) -> None:
        """See `ports.Channel.run`. Streams under way are told when it ends.

        Raises:
            ChannelError: the port, or the socket, cannot be had.
        """
        listening = await self._listen()
        ending = asyncio.Event()
        try:
            await serve(
                self._app(ending),
                listening.sockets,
                ending,
                self._feeds.hang_up,
                lambda: self._up(listening),
                head_s=self._settings.head_s,
                most_connections=self._settings.most_connections or most_connections(),
            )
        finally:
            self.listening.clear()
            listening.close()

    async def parse(self, envelopes: Sequence[Envelope]) -> Inbound:
        """Nothing of HTTP waits in the inbox to be read.

        Raises:
            ChannelError: always.
        """
        raise ChannelError(f"{envelopes[0].source_id}: a message of http has been read when it comes in")

    def reply_to(self, inbound: Inbound, memory: ReplyMemory) -> Reply:
        """Whoever posts the message again is told."""
        feed = self._feeds.open(inbound.key, inbound.source_id)
        feed.is_fed = True
        feed.begin_anew()
        return _FeedReply(feed)

    async def deliver(self, key: SessionKey, text: str, memory: ReplyMemory) -> Receipt:
        """It stands in the session already, where those who follow it have seen it come."""
        return Receipt((f"recorded:{key}",))

    async def close(self) -> None:
        """See `ports.Channel.close`; `run` has let go of everything."""

    async def _listen(self) -> Listening:
        if not self._settings.token:
            return on_path(self._settings.socket_path)
        return await on_port(self._settings.host, self._settings.port)

    def _up(self, listening: Listening) -> None:
        self.url = listening.url
        self.listening.set()
        _log.info("http: listening on %s", listening.url)

    def _app(self, ending: asyncio.Event) -> ASGIApp:
        settings = self._settings
        doors = Doors(
            self._desk,
            self._sessions,
            self._follow,
            self._health,
            self._clock,
            ending,
            settings.keep_alive_s,
            self._version,
            self._since,
        )
        is_guarded = bool(settings.token) and settings.host.lower() in _LOOPBACK
        return Gate(
            build(doors),
            token=settings.token,
            hosts=loopback_names(settings.host) if is_guarded else (),
            open_paths=OPEN_PATHS,
            limit_bytes=settings.limit_bytes,
        )


class _FeedReply:
    """See `ports.Reply`."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __call__(self, event: ReplyEvent) -> None:
        self._feed(event)

    async def settle(self) -> Receipt:
        """What is kept to be told needs nobody who listens."""
        return Receipt(())
