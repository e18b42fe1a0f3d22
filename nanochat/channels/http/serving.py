"""uvicorn inside the daemon's own loop: the daemon has the signals, the log and the last word on when it ends.

Knows uvicorn's ways to begin and end. Does not know what is served.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from nanochat.channels.http.connections import HEAD_BYTES, Connection, ServerSettings

__all__ = ["Server", "serve"]

# Streams end at once when they are told to; what has not by then is cut off. Whole seconds, as uvicorn takes them.
GRACE_S = 1

# Clients that come at the same instant and need not come again.
BACKLOG = 128

# How long somebody may take to read what is on its way to them.
PATIENCE_S = 0.5

# Until the last connection is let go, for whoever waits for the end.
END_S = GRACE_S + 1.0


class Server(uvicorn.Server):
    """A server that ends when `ending` is set, and calls `on_up` once requests are answered."""

    def __init__(
        self, app: ASGIApp, ending: asyncio.Event, on_up: Callable[[], None], *, head_s: float, most_connections: int
    ) -> None:
        settings = ServerSettings(
            app,
            http=Connection,
            h11_max_incomplete_event_size=HEAD_BYTES,
            # So many the loop takes in before it looks at one: there must be descriptors for them too.
            backlog=max(1, min(BACKLOG, most_connections // 2)),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        settings.head_s, settings.most = head_s, most_connections
        super().__init__(settings)
        self._ending = ending
        self._on_up = on_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._on_up()

    async def main_loop(self) -> None:
        """Until the end is asked for; uvicorn's own looks ten times a second, for signals that are not its business here."""
        await self._ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of all connections, also of those whose other side has stopped reading."""
        cutting = asyncio.get_running_loop().call_later(PATIENCE_S, self._cut, True)
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()
            self._cut(False)

    def _cut(self, only_stuck: bool) -> None:
        """What is written to a reader who does not read would be waited for until the grace is over."""
        for connection in tuple(self.server_state.connections):
            if not only_stuck or (isinstance(connection, Connection) and connection.flow.write_paused):
                connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The signals are the daemon's; caught here, they would be raised a second time at the end."""
        yield


async def serve(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    ending: asyncio.Event,
    on_ending: Callable[[], None],
    on_up: Callable[[], None],
    *,
    head_s: float,
    most_connections: int,
) -> None:
    """Answer requests until cancelled, then end in order: `ending` is set, and what is not over soon after is cut off."""
    server = Server(app, ending, on_up, head_s=head_s, most_connections=most_connections)
    # A task of its own: cancelled, uvicorn would leave its sockets open. It ends by `ending`, and is waited for.
    serving = asyncio.get_running_loop().create_task(server.serve(list(sockets)))
    try:
        await asyncio.wait({serving})
    finally:
        on_ending()
        ending.set()
        if not serving.done():
            await asyncio.wait({serving}, timeout=END_S)
        serving.cancel()
        if serving.done() and not serving.cancelled():
            serving.exception()  # whoever cancels does not ask for it
    serving.result()
