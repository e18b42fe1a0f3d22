"""Who may ask, how long a request may be, and what every answer carries; on every route."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from nanochat.channels.http.gate import loopback_names
from tests.http.premises import TOKEN, Premises

ROUTES = [
    ("POST", "/chat/stream/a"),
    ("POST", "/chat/a"),
    ("GET", "/sessions"),
    ("GET", "/sessions/a/history"),
    ("GET", "/sessions/a/stats"),
    ("GET", "/sessions/a/live"),
    ("DELETE", "/sessions/a"),
]
OPEN = [("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/health")]

every_route = pytest.mark.parametrize(("method", "path"), ROUTES, ids=[" ".join(route) for route in ROUTES])
open_route = pytest.mark.parametrize(("method", "path"), OPEN, ids=[" ".join(route) for route in OPEN])
every_wrong_token = pytest.mark.parametrize(
    "shown",
    ["Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer"],
    ids=["wrong", "longer", "shorter", "another scheme", "no scheme", "nothing"],
)


@pytest.fixture
async def stranger(premises: Premises) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who has no token."""
    async with premises.client(headers={}) as client:
        yield client


@every_route
async def test_no_token_is_refused(stranger: httpx.AsyncClient, method: str, path: str) -> None:
    """Whatever was asked, and with the challenge that says how to ask."""
    answer = await stranger.request(method, path, json={"message": "hi"} if method == "POST" else None)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="nanochat"'
    assert answer.headers["content-type"] == "application/problem+json"
    assert "NANOCHAT_HTTP_TOKEN" in answer.json()["detail"]


@every_route
async def test_a_wrong_token_is_refused(stranger: httpx.AsyncClient, method: str, path: str) -> None:
    """And nothing of it is repeated."""
    answer = await stranger.request(method, path, headers={"Authorization": "Bearer wrong-one"})
    assert answer.status_code == 401
    assert "wrong-one" not in answer.text + str(answer.headers)


@every_wrong_token
async def test_a_token_is_the_whole_of_it(stranger: httpx.AsyncClient, shown: str) -> None:
    """No part of it, nor more, nor another scheme."""
    answer = await stranger.get("/sessions", headers={"Authorization": shown})
    assert answer.status_code == 401


async def test_the_scheme_is_read_as_http_says(stranger: httpx.AsyncClient) -> None:
    """In whatever case."""
    answer = await stranger.get("/sessions", headers={"Authorization": f"bearer {TOKEN}"})
    assert answer.status_code == 200


@open_route
async def test_some_things_are_told_to_everybody(stranger: httpx.AsyncClient, method: str, path: str) -> None:
    """The page, the description and whether the daemon lives."""
    assert (await stranger.request(method, path)).status_code == 200


@open_route
async def test_a_wrong_token_is_wrong_everywhere(stranger: httpx.AsyncClient, method: str, path: str) -> None:
    """So that a client learns of it at its first request."""
    answer = await stranger.request(method, path, headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401


@pytest.mark.parametrize(("method", "path"), [*ROUTES[:3], *OPEN], ids=[" ".join(r) for r in [*ROUTES[:3], *OPEN]])
async def test_every_answer_is_safe_in_a_browser(client: httpx.AsyncClient, method: str, path: str) -> None:
    """It is not framed, not sniffed, and tells nobody where its reader came from."""
    answer = await client.request(method, path, json={"message": "hi"} if method == "POST" else None)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers
    assert "date" in answer.headers


# --- hosts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "localhost.evil.example", "127.0.0.1.evil.example", ""]
)
async def test_a_page_elsewhere_cannot_ask(client: httpx.AsyncClient, host: str) -> None:
    """Its name may resolve to this machine, and is still its own; not even the page is told."""
    answer = await client.get("/", headers={"Host": host})
    assert (answer.status_code, answer.json()["kind"]) == (421, "host")


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:8765", "LOCALHOST", "localhost."])
async def test_this_machine_may_be_called_by_its_names(client: httpx.AsyncClient, host: str) -> None:
    """Whatever port stands with it: it may be forwarded."""
    assert (await client.get("/health", headers={"Host": host})).status_code == 200


def test_the_configured_host_is_one_of_them() -> None:
    """Also as an address in brackets."""
    assert "127.0.0.5" in loopback_names("127.0.0.5")
    assert "::1" in loopback_names("[::1]")


@pytest.mark.parametrize(
    ("target", "status"),
    [("http://localhost:1/health", 200), ("HTTP://127.0.0.1/health", 200), ("http://evil.example/health", 421)],
)
async def test_a_whole_address_is_a_target_too(client: httpx.AsyncClient, target: str, status: int) -> None:
    """And the host that it names is the one that counts."""
    request = f"GET {target} HTTP/1.1\r\nHost: {'localhost' if status == 421 else 'evil.example'}\r\n\r\n"
    assert (await _begin_of(client, request)).startswith(f"HTTP/1.1 {status}".encode())


async def test_who_speaks_an_older_http_need_not_name_a_host(client: httpx.AsyncClient) -> None:
    """No browser does, whose pages the names keep out."""
    assert (await _begin_of(client, "GET /health HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_refused_host_is_told_a_name_that_works(client: httpx.AsyncClient) -> None:
    """Which everybody knows."""
    answer = await client.get("/health", headers={"Host": "evil.example"})
    assert "ask for localhost" in answer.json()["detail"]


async def _begin_of(client: httpx.AsyncClient, request: str) -> bytes:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(request.encode())
    begin = await reader.readuntil(b"\r\n")
    writer.close()
    return begin


# --- HEAD ---------------------------------------------------------------------------------------------------------------


@open_route
async def test_head_is_get_without_what_it_tells(stranger: httpx.AsyncClient, method: str, path: str) -> None:
    """With the same headers, to the same people."""
    told, head = await stranger.request(method, path), await stranger.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert _kept(head) == _kept(told)


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[" ".join(route) for route in ROUTES])
async def test_head_is_for_who_may_get(
    stranger: httpx.AsyncClient, client: httpx.AsyncClient, method: str, path: str
) -> None:
    """It tells a stranger nothing, waits for nothing, and is not taken where GET is not."""
    assert (await stranger.head(path)).status_code == 401
    answer = await client.head(path)
    assert answer.status_code == (405 if method != "GET" else 404 if path.endswith(("history", "stats")) else 200)
    assert answer.headers.get("allow") in (None, "POST", "DELETE")


async def test_head_of_a_stream_is_over_at_once(client: httpx.AsyncClient) -> None:
    """The connection is free for what is asked next."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    head = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    writer.write(f"HEAD /sessions/a/live HTTP/1.1\r\n{head}\r\n".encode())
    assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
    writer.write(f"GET /health HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_what_may_be_got_says_so(client: httpx.AsyncClient) -> None:
    """To who asks otherwise."""
    answer = await client.post("/sessions", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def _kept(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "date"}


# --- bodies -------------------------------------------------------------------------------------------------------------


async def test_a_body_that_says_it_is_too_long_is_not_read(client: httpx.AsyncClient) -> None:
    """It is refused by what it says."""
    answer = await client.post(
        "/chat/a", content=b"x" * (8 * 1024 * 1024 + 1), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["kind"]) == (413, "too_large")


async def test_a_body_that_does_not_say_how_long_it_is_is_counted(client: httpx.AsyncClient) -> None:
    """And refused when it is too long."""

    async def much() -> AsyncIterator[bytes]:
        for _ in range(129):
            yield b"x" * 65536

    answer = await client.post("/chat/a", content=much(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["kind"]) == (413, "too_large")


@pytest.mark.parametrize("path", ["/chat/a", "/chat/stream/a"])
async def test_a_message_that_is_too_long_for_its_line_is_refused_too(client: httpx.AsyncClient, path: str) -> None:
    """Where the body is just short enough; nothing is begun."""
    body = b'{"message": "' + b"x" * (8 * 1024 * 1024 - 100) + b'"}'
    answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["kind"]) == (413, "too_large")
    assert (await client.get("/sessions")).json()["total"] == 0


async def test_a_client_that_leaves_within_its_body_leaves_nothing(
    premises: Premises, client: httpx.AsyncClient
) -> None:
    """The next is answered."""
    host, port = client.base_url.host, client.base_url.port
    _, writer = await asyncio.open_connection(host, port)
    head = f"POST /chat/a HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b'{"mess')
    await writer.drain()
    writer.transport.abort()
    assert (await client.get("/sessions")).json()["total"] == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: x\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /chat/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "no version", "no such version", "twice", "long", "chunks"],
)
async def test_what_is_no_http_is_turned_away(client: httpx.AsyncClient, sent: bytes) -> None:
    """Its connection is closed, and the next client is answered."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(sent)
    writer.write_eof()
    answer = await reader.read()
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 421")
    writer.close()
    assert (await client.get("/health")).status_code == 200
