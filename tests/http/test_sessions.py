"""Sessions over HTTP: listed, read, counted, put away, and followed as they grow."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from nanochat.doors import ChannelHealth
from nanochat.keys import SessionKey
from tests.http.conftest import Open
from tests.http.premises import Premises, events_of, read_events


async def test_sessions_are_listed_newest_first(premises: Premises, client: httpx.AsyncClient) -> None:
    """With what the command line tells of each."""
    for name in ("a", "b"):
        await events_of(client, name, f"hi from {name}")
        premises.office.clock.advance(seconds=10)
    listed = (await client.get("/sessions")).json()
    assert listed["total"] == 2
    newest = listed["sessions"][0]
    assert (newest["session_id"], newest["key"], newest["messages"], newest["turns"]) == ("b", "http:b", 2, 1)
    assert newest["preview"]
    assert datetime.fromisoformat(newest["updated_at"]).utcoffset() is not None


async def test_sessions_are_paged(client: httpx.AsyncClient) -> None:
    """And the whole number is told with each page."""
    for name in ("a", "b", "c"):
        await events_of(client, name, "hi")
    pages = [(await client.get("/sessions", params={"limit": 2, "offset": offset})).json() for offset in (0, 2, 4)]
    assert [len(page["sessions"]) for page in pages] == [2, 1, 0]
    assert {page["total"] for page in pages} == {3}


async def test_history_is_paged_backwards(client: httpx.AsyncClient) -> None:
    """The newest first, each page in the order of speaking."""
    for message in ("one", "two", "three"):
        await events_of(client, "a", message)
    newest = (await client.get("/sessions/a/history", params={"limit": 4})).json()
    older = (await client.get("/sessions/a/history", params={"limit": 4, "before": newest["before"]})).json()
    assert [message["text"] for message in newest["messages"]] == ["two", "echo: two", "three", "echo: three"]
    assert [message["text"] for message in older["messages"]] == ["one", "echo: one"]
    assert older["before"] is None
    first = older["messages"][0]
    assert (first["n"], first["role"], first["delivered"], first["model"]) == (0, "user", False, None)
    assert older["messages"][1]["usage"]["input"] == 9


async def test_history_begins_with_the_last_reset(client: httpx.AsyncClient) -> None:
    """What was said before it is not sent any more."""
    await events_of(client, "a", "one")
    assert (await client.delete("/sessions/a")).json() == {"session_id": "a", "key": "http:a", "reset": True}
    assert (await client.get("/sessions/a/history")).json()["messages"] == []


async def test_stats_tell_what_a_session_has_taken(premises: Premises, client: httpx.AsyncClient) -> None:
    """In sum, and turn by turn."""
    for message in ("one", "two"):
        await events_of(client, "a", message)
    stats = (await client.get("/sessions/a/stats")).json()
    assert (stats["turns"], stats["messages"], stats["usage"]["input"]) == (2, 4, 18)
    assert (stats["cache_share"], stats["budget_tokens"]) == (0.0, 16000)
    assert [point["kind"] for point in stats["curve"]] == ["turn", "turn"]
    assert [point["input"] for point in stats["curve"]] == [9, 9]
    assert stats["context_tokens"] > 0
    assert stats["age_s"] >= 0


async def test_archiving_moves_the_file(client: httpx.AsyncClient) -> None:
    """And says where to; the next message begins a new one."""
    await events_of(client, "a", "one")
    put_away = (await client.delete("/sessions/a", params={"archive": "true"})).json()
    assert (put_away["session_id"], put_away["archived_to"][:8]) == ("a", "archive/")
    assert (await client.get("/sessions/a/history")).status_code == 404
    await events_of(client, "a", "two")
    assert len((await client.get("/sessions/a/history")).json()["messages"]) == 2


async def test_a_session_in_a_turn_is_busy(premises: Premises, client: httpx.AsyncClient) -> None:
    """After some seconds it is told whose turn it is."""
    store = premises.office.house.manager.store
    await events_of(client, "a", "hi")
    async with store.lease(SessionKey("http", "a")):
        answer = await client.delete("/sessions/a")
    assert (answer.status_code, answer.json()["kind"], answer.json()["retryable"]) == (409, "busy", True)
    assert answer.json()["holder"]


UNKNOWN = [("GET", "/sessions/{}/history"), ("GET", "/sessions/{}/stats"), ("DELETE", "/sessions/{}")]


@pytest.mark.parametrize(("method", "path"), UNKNOWN, ids=["history", "stats", "delete"])
@pytest.mark.parametrize("session_id", ["nobody", "..%2F..%2Fetc%2Fpasswd", "telegram%3A1", "%E2%80%AE" + "a" * 100])
async def test_an_unknown_session_is_not_found(
    client: httpx.AsyncClient, premises: Premises, method: str, path: str, session_id: str
) -> None:
    """And nothing is made by asking."""
    answer = await client.request(method, path.format(session_id))
    assert (answer.status_code, answer.json()["kind"]) in ((404, "unknown_session"), (422, "session_id"))
    assert (await client.get("/sessions")).json()["total"] == 0


@pytest.mark.parametrize(
    "session_id",
    ["%00", "a%00b", "%0A", "a%ff", "%EE%80%80", "%20a", "x" * 500, "Telegram%3A1", "cli%3A", "%3Aa"],
    ids=[
        "nul",
        "nul inside",
        "newline",
        "no UTF-8",
        "private use",
        "space",
        "long",
        "channel",
        "empty id",
        "no channel",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [*UNKNOWN, ("GET", "/sessions/{}/live"), ("POST", "/chat/{}"), ("POST", "/chat/stream/{}")],
    ids=["history", "stats", "delete", "live", "chat", "stream"],
)
async def test_an_id_that_cannot_be_one_is_refused(
    client: httpx.AsyncClient, method: str, path: str, session_id: str
) -> None:
    """In the words of the command line."""
    answer = await client.request(method, path.format(session_id), json={"message": "hi"} if method == "POST" else None)
    assert (answer.status_code, answer.json()["kind"]) == (422, "session_id")
    assert "session key" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/sessions?limit=0", "limit: must be at least 1"),
        ("/sessions?limit=x", "limit: must be a whole number"),
        ("/sessions?offset=-1", "offset: must be at least 0"),
        ("/sessions/a/history?before=-1", "before: must be at least 0"),
        ("/sessions/a/live?from=middle", "from: must be end, start, or a byte of the file"),
    ],
)
async def test_a_parameter_that_cannot_be_used_is_named(client: httpx.AsyncClient, path: str, words: str) -> None:
    """With what it takes."""
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["detail"]) == (422, words)


@pytest.mark.parametrize(
    ("content", "kind", "status", "words"),
    [
        (b"{}", "application/json", 422, "message: is missing"),
        (b'{"message": ""}', "application/json", 422, "message: must not be empty"),
        (b'{"message": " \\n"}', "application/json", 422, "message: must not be blank"),
        (b'{"message": 1}', "application/json", 422, "message: must be text"),
        (b'{"message": "\\ud800"}', "application/json", 422, "message: holds half of a character"),
        (b'{"message": "a", "system_prompt": "\\udfff"}', "application/json", 422, "system_prompt: holds half of a ch"),
        (b'{"message": "a", "system_prompt": "  "}', "application/json", 422, "system_prompt: must not be blank"),
        (b'{"message": "a", "model": "b"}', "application/json", 422, "model: is not known here"),
        (b"[]", "application/json", 422, "the body: must be a JSON object"),
        (b"{", "application/json", 422, "the body is not JSON"),
        (b"", "application/json", 422, "the body: is missing"),
        (b"\xff", "application/json", 400, "the body cannot be read"),
        (b"[" * 100_000, "application/json", 400, "the body cannot be read"),
        (b'{"message": "a"}', "text/plain", 415, "the body is 'text/plain': send it as JSON"),
        (b"message=a", "application/x-www-form-urlencoded", 415, "send it as JSON"),
    ],
)
async def test_a_body_that_cannot_be_used_is_explained(
    client: httpx.AsyncClient, content: bytes, kind: str, status: int, words: str
) -> None:
    """In plain words."""
    answer = await client.post("/chat/a", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "idempotency-key: must not be empty"),
        ("x" * 256, "idempotency-key: must be at most 255 characters long"),
        ("é".encode().decode("latin-1"), "idempotency-key: must be printable ASCII"),
    ],
    ids=["empty", "long", "not ASCII"],
)
async def test_an_idempotency_key_that_cannot_be_one_is_refused(
    client: httpx.AsyncClient, key: str, words: str
) -> None:
    """It is named."""
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    answer = await client.post("/chat/a", json={"message": "hi"}, headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (422, words)


async def test_what_is_no_route_is_told(client: httpx.AsyncClient) -> None:
    """As everything else that goes wrong; and what a route does not take, with what it does."""
    answer = await client.get("/nothing")
    assert (answer.status_code, answer.json()["kind"]) == (404, "route")
    answer = await client.get("/chat/a")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# --- live ---------------------------------------------------------------------------------------------------------------


async def test_live_tells_every_line_from_the_start(premises: Premises, client: httpx.AsyncClient) -> None:
    """As it stands in the file, with the byte that it begins at."""
    await events_of(client, "a", "hi")
    lines = premises.store.path_of(SessionKey("http", "a")).read_bytes().splitlines(keepends=True)
    async with client.stream("GET", "/sessions/a/live", params={"from": "start"}) as response:
        stream = read_events(response)
        told = [await anext(stream) for _ in lines]
    assert [event.raw.encode() + b"\n" for event in told] == lines
    assert [int(event.id) for event in told] == [sum(map(len, lines[:i])) for i in range(len(lines))]
    assert {event.name for event in told} == {"line"}


async def test_live_waits_for_a_session_that_begins_later(client: httpx.AsyncClient) -> None:
    """And tells it from its first line."""
    async with client.stream("GET", "/sessions/later/live") as response:
        stream = read_events(response)
        await events_of(client, "later", "hi")
        told = [await anext(stream) for _ in range(3)]
    assert [event.data.get("role", event.data.get("op")) for event in told] == ["open", "user", "assistant"]


async def test_live_goes_on_behind_the_last_line_that_was_seen(client: httpx.AsyncClient) -> None:
    """Nothing is told twice, and nothing is missed."""
    await events_of(client, "a", "hi")
    async with client.stream("GET", "/sessions/a/live?from=start") as response:
        stream = read_events(response)
        seen = [await anext(stream) for _ in range(2)]
    headers = {"Last-Event-ID": seen[-1].id}
    async with client.stream("GET", "/sessions/a/live?from=start", headers=headers) as response:
        third = await anext(read_events(response))
    assert (third.data["role"], int(third.id) > int(seen[-1].id)) == ("assistant", True)


async def test_live_says_when_a_session_was_put_away(client: httpx.AsyncClient) -> None:
    """What follows is another file, from its beginning."""
    await events_of(client, "a", "one")
    async with client.stream("GET", "/sessions/a/live?from=start") as response:
        stream = read_events(response)
        for _ in range(4):
            await anext(stream)
        await client.delete("/sessions/a?archive=true")
        await events_of(client, "a", "two")
        told = [await anext(stream) for _ in range(3)]
    assert [event.name for event in told] == ["replaced", "line", "line"]
    assert told[2].data["role"] == "user"


async def test_live_says_when_the_place_that_was_seen_is_gone(client: httpx.AsyncClient) -> None:
    """The file is a shorter one than it was: all of it is told."""
    await events_of(client, "a", "one")
    async with client.stream("GET", "/sessions/a/live?from=100000") as response:
        stream = read_events(response)
        told = [await anext(stream) for _ in range(2)]
    assert [(event.name, event.id) for event in told] == [("replaced", ""), ("line", "0")]


async def test_live_passes_over_what_is_blank(premises: Premises, client: httpx.AsyncClient) -> None:
    """And tells what cannot be read as it stands, on one event however its lines break."""
    await events_of(client, "a", "one")
    path = premises.store.path_of(SessionKey("http", "a"))
    end = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'   \n\n{"role": \r "user",\xff\n')
    async with client.stream("GET", f"/sessions/a/live?from={end}") as response:
        text = [line async for line in _first_lines(response, 4)]
    assert text == ["event: line", f"id: {end + 5}", 'data: {"role": ', 'data:  "user",\N{REPLACEMENT CHARACTER}']


async def test_live_ends_with_an_error_where_a_file_cannot_be_read(
    premises: Premises, client: httpx.AsyncClient
) -> None:
    """It is the stream's last event."""
    await events_of(client, "b", "hi")
    premises.store.path_of(SessionKey("http", "a")).mkdir()
    async with client.stream("GET", "/sessions/a/live?from=start") as response:
        [event] = [event async for event in read_events(response)]
    assert (event.name, event.data["kind"], event.data["status"]) == ("error", "store", 503)


async def _first_lines(response: httpx.Response, count: int) -> AsyncIterator[str]:
    lines = response.aiter_lines()
    for _ in range(count):
        yield await anext(lines)


async def test_silence_is_filled_with_comments(opened: Open) -> None:
    """On a stream that waits for lines, and on one that waits for an answer."""
    premises = await opened(keep_alive_s=0.01)
    premises.office.echo.gate.clear()
    async with premises.client() as client:
        async with client.stream("GET", "/sessions/a/live") as response:
            assert (await anext(read_events(response))).name == ":"
        async with client.stream("POST", "/chat/stream/a", json={"message": "hi"}) as response:
            stream = read_events(response)
            names = [(await anext(stream)).name for _ in range(3)]
    assert names == ["session", "delta", ":"]


# --- health and pages ---------------------------------------------------------------------------------------------------


async def test_health_tells_strangers_little(premises: Premises) -> None:
    """And the token's holder how each channel does."""
    since = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    premises.states = [ChannelHealth("http", True, since), ChannelHealth("telegram", False, since, "no network", 3)]
    async with premises.client(headers={}) as stranger, premises.client() as client:
        assert (await stranger.get("/health")).json() == {"status": "degraded"}
        told = (await client.get("/health")).json()
    assert (told["status"], told["version"]) == ("degraded", "0.0.1")
    assert told["channels"]["telegram"] == {
        "up": False,
        "since": "2026-11-20T12:00:00Z",
        "error": "no network",
        "restarts": 3,
    }


async def test_the_page_brings_its_own_policy(client: httpx.AsyncClient) -> None:
    """It is HTML, and may run what is in it only."""
    answer = await client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src" in answer.headers["content-security-policy"]


async def test_the_description_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    """Everything that the page at /docs names is served here."""
    page = await client.get("/docs")
    assert "://" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "begin.js"):
        assert f"/docs/{name}" in page.text
        assert (await client.get(f"/docs/{name}")).status_code == 200
    described = (await client.get("/openapi.json")).json()
    assert "ProblemShape" in json.dumps(described["components"]["schemas"])
