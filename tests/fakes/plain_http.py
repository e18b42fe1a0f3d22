"""A web server on loopback that answers as it is told, for whoever asks once and not in an event loop.

Knows HTTP as the standard library does. Does not know what is asked of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["PlainAnswer", "PlainHTTP", "plain_http"]


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """A response; `date` takes the place of the server's own, and an answer that `hangs` never comes."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    hangs: bool = False


@dataclass(slots=True)
class PlainHTTP:
    """The server: what it was asked, as `GET /path`, and with which headers."""

    url: str
    port: int
    asked: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)


@contextmanager
def plain_http(answer: Callable[[str], PlainAnswer]) -> Iterator[PlainHTTP]:
    """Serve; `answer` is given `GET /path`."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            asked = f"{self.command} {self.path}"
            self.rfile.read(int(self.headers.get("content-length", "0")))
            seen.asked.append(asked)
            seen.headers.append({name.lower(): value for name, value in self.headers.items()})
            given = answer(asked)
            if given.hangs:
                over.wait()
                return
            self.send_response_only(given.status)
            headers = {"content-length": str(len(given.body)), "date": given.date or self.date_time_string()}
            for name, value in {**headers, **given.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(given.body)

        # The names that the standard library looks for.
        do_GET = _serve
        do_POST = _serve

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = server.server_address[1]
    seen = PlainHTTP(f"http://127.0.0.1:{port}", port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
