"""What every request passes first: which host it names, whose it is, and how long it may be; and what every answer carries.

Knows the token. Does not know routes, but for those that are open.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Collection
from email.utils import formatdate
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nanochat.channels.http.problems import Problem

__all__ = ["SLASH", "TRUSTED", "Gate", "loopback_names"]

TRUSTED = "nanochat.trusted"
"""In the scope of a request: whether it showed the token, or came by the socket of the one user."""

SLASH = "\ue000"
"""Stands in a path for a slash inside a segment, which was written as %2F. No key holds it: it is of private use."""

# Another of private use, for what no key may hold and what is no UTF-8.
_WRONG = "\ue001"

# What every answer says, unless it says otherwise itself.
_DEFAULTS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}

# A client that has begun to send, and does not go on.
_BODY_S = 60.0


def loopback_names(host: str) -> frozenset[str]:
    """The names that a page of somebody else cannot have, whatever its DNS says."""
    return frozenset((host.lower().strip("[]"), "localhost", "127.0.0.1", "::1"))


class Gate:
    """Stands before an app. Without a `token` everybody is trusted; without `hosts` every host is.

    `open_paths` are told to whoever asks with GET. HEAD is GET without what it tells: no route has to know of it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        hosts: Collection[str],
        open_paths: Collection[str],
        limit_bytes: int,
    ) -> None:
        self._app = app
        self._token = _digest(token.encode()) if token else b""
        self._hosts = hosts
        self._open_paths = open_paths
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        is_head = scope["method"] == "HEAD"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = {name for name, _ in message["headers"]}
                defaults = [(name, value) for name, value in _DEFAULTS.items() if name not in said]
                date = (b"date", formatdate(usegmt=True).encode())
                message["headers"] = [*message["headers"], *defaults, date]
                await send(message)
                if is_head:  # a stream learns by this that nobody listens
                    await send({"type": "http.response.body", "body": b""})
            elif not is_head:
                await send(message)

        host, raw_path = _target(scope["raw_path"])
        scope = {**scope, "method": "GET" if is_head else scope["method"], "path": _path(raw_path)}
        problem = self._misdirected(scope, host) or self._untrusted(scope) or self._too_long(scope)
        body = b""
        if problem is None:
            taken = await self._read(receive)
            if taken is None:
                return
            problem, body = (taken, b"") if isinstance(taken, Problem) else (None, taken)
        if problem is not None:
            await _refuse(problem, send_with_headers)
            return
        await self._app(scope, _replayed(body, receive), send_with_headers)

    def _misdirected(self, scope: Scope, host: bytes | None) -> Problem | None:
        """A page elsewhere may have its name resolve to this machine; its browser still says the name."""
        if not self._hosts:
            return None
        named = _header(scope, b"host") if host is None else [host]
        if not named and scope["http_version"] == "1.0":
            return None  # no browser speaks it
        if len(named) == 1 and _without_port(named[0].decode("latin-1")).lower() in self._hosts:
            return None
        return Problem(421, "host", "this host is not served here: ask for localhost, or set http.host")

    def _untrusted(self, scope: Scope) -> Problem | None:
        shown = _header(scope, b"authorization")
        scope[TRUSTED] = not self._token or (len(shown) == 1 and self._is_token(shown[0]))
        if scope[TRUSTED] or (not shown and scope["method"] == "GET" and scope["path"] in self._open_paths):
            return None
        words = "that is not the bearer token" if shown else "a bearer token is needed"
        challenge = 'Bearer realm="nanochat"' + (', error="invalid_token"' if shown else "")
        detail = f"{words}: send Authorization: Bearer with what NANOCHAT_HTTP_TOKEN is for the daemon"
        return Problem(401, "token", detail, headers={"www-authenticate": challenge})

    def _is_token(self, shown: bytes) -> bool:
        scheme, _, token = shown.partition(b" ")
        is_same = hmac.compare_digest(
            _digest(token.strip()), self._token
        )  # digests are of one length, whatever was sent
        return scheme.lower() == b"bearer" and is_same

    def _too_long(self, scope: Scope) -> Problem | None:
        told = _header(scope, b"content-length")
        return self._long() if told and int(told[0]) > self._limit_bytes else None

    def _long(self) -> Problem:
        most = f"{self._limit_bytes / (1 << 20):g} MiB"
        return Problem(413, "too_large", f"the body is longer than a message may be ({most}): send less")

    async def _read(self, receive: Receive) -> bytes | Problem | None:
        """The whole body; None where the client went away in the middle of it."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(_BODY_S):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._limit_bytes:
                        return self._long()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return Problem(408, "slow", f"the body did not come within {_BODY_S:.0f} s: send it again")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Says the body once more, and then what comes after it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


async def _refuse(problem: Problem, send: Send) -> None:
    body = problem.body()
    headers = {**problem.all_headers(), "content-length": str(len(body))}
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _target(raw: bytes) -> tuple[bytes | None, bytes]:
    """The host that a target names, if it does, and its path: RFC 9112 §3.2.2 has a client say all of an address to a proxy."""
    if not raw.lower().startswith(b"http://"):
        return None, raw
    host, slash, path = raw[len(b"http://") :].partition(b"/")
    return host, slash + path or b"/"


def _path(raw: bytes) -> str:
    """The path with its segments as they were meant: a %2F is part of its segment."""
    return "/".join(map(_segment, raw.split(b"/")))


def _segment(raw: bytes) -> str:
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return _WRONG
    return text.replace(SLASH, _WRONG).replace("/", SLASH)


def _header(scope: Scope, name: bytes) -> list[bytes]:
    return [value for found, value in scope["headers"] if found == name]


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
