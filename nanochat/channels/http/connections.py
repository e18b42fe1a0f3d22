"""Connections: how many there may be, how long a client may take to ask and to read, and what is said to what is no request.

What h11 and uvicorn leave open: a client that connects and says nothing, or reads nothing, would be kept for ever, and without
descriptors left the loop itself comes to a halt. Knows uvicorn's protocol. Does not know what is asked.
"""

from __future__ import annotations

import asyncio
import resource

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from nanochat.channels.http.problems import Problem

__all__ = ["HEAD_BYTES", "Connection", "ServerSettings", "most_connections"]

# More than one person's programs and pages ever have.
MOST = 1000

# What a head may take; h11 counts what has come while its end has not.
HEAD_BYTES = 64 * 1024

CROWDED = Problem(
    503, "crowded", "too many connections are open: close some, or try again later", retryable=True, retry_after_s=5.0
)
UNREADABLE = Problem(400, "request", "this is no HTTP request: it cannot be read")
OVERLONG = Problem(431, "request", "the request line and the headers are longer than they may be (64 KiB): send less")


def most_connections() -> int:
    """A third of the descriptors: a connection that follows a session takes two, and the rest of the daemon some."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft // 3))


class ServerSettings(uvicorn.Config):
    """uvicorn's, and ours: `head_s` is how long a client may take to ask, `stuck_s` how long it may read nothing of what is
    there for it, and `most` how many connections there may be."""

    head_s = 20.0
    stuck_s = 60.0
    most = MOST


class Connection(H11Protocol):
    """See `asyncio.Protocol`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """One more, if there is room."""
        super().connection_made(transport)
        assert isinstance(self.config, ServerSettings)
        self._settings = self.config
        self._waiting: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        if len(self.connections) > self._settings.most:
            self._refuse(CROWDED)
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Some of a request, or of what nobody reads."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side is gone, or was let go."""
        self._wait_no_more()
        self._move_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """What was written piles up. A reader of streams may go on later from the last event that it has."""
        super().pause_writing()
        self._move_on()
        self._stuck = self.loop.call_later(self._settings.stuck_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It was read."""
        self._move_on()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets an answer in HTTP all the same, if none was begun."""
        self._refuse(OVERLONG if len(self.conn.trailing_data[0]) > HEAD_BYTES else UNREADABLE)

    def _unsupported_upgrade_warning(self) -> None:
        """RFC 9110 §7.8: what is not offered may be passed over."""

    def _wait(self) -> None:
        """Until a request is there, or for so long."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()
        elif self._waiting is None and not self.transport.is_closing():
            self._waiting = self.loop.call_later(self._settings.head_s, self._let_go)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _move_on(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _let_go(self) -> None:
        self._waiting = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = problem.body()
            headers = {**problem.all_headers(), "content-length": str(len(body)), "connection": "close"}
            response = h11.Response(status_code=problem.status, headers=list(headers.items()))
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
