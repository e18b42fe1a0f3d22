"""The desk beside doors that do as a test says: what is waited for, what was over unheard, and what cannot be told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from nanochat.catalog import Catalog
from nanochat.channels.http import Http, HttpSettings
from nanochat.channels.http.desk import HOLDER, Desk, Post
from nanochat.channels.http.feeds import Feeds, Restarted
from nanochat.channels.http.problems import Refused, of_error, of_failure
from nanochat.doors import Known
from nanochat.errors import (
    Busy,
    ChannelError,
    CommandError,
    KeyFormError,
    LeaseHeld,
    LedgerError,
    LimitReached,
    ModelError,
    NanochatError,
    StoreError,
    UnknownSession,
)
from nanochat.events import Inbound, Text, TextDelta, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.ports import Emit, Envelope
from nanochat.sessions import SessionManager
from nanochat.store import FileStore
from tests.fakes.memory_channel import ForgetfulMemory
from tests.http.premises import TOKEN, asked, events_of, read_events

KEY = SessionKey("http", "a")
POST = Post(KEY, "hi", None, "key-1")
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@dataclass
class Doors:
    """See `doors.LiveTurns`: `row` is what is known of every message, `fault` is raised by whoever is asked next."""

    row: Known | None = None
    fault: Exception | None = None
    can_set: bool = True
    begun: list[tuple[Inbound, Emit]] = field(default_factory=list)
    retold: list[Inbound] = field(default_factory=list)
    tells: TurnDone | TurnFailed = field(default_factory=lambda: TurnDone("as it was"))
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, inbound: Inbound, emit: Emit, digest: str = "") -> None:
        assert digest
        self.begun.append((inbound, emit))

    async def known(self, source_id: str) -> Known | None:
        self.asked.set()
        self._fail()
        return self.row

    async def retell(self, inbound: Inbound, emit: Emit) -> None:
        self.retold.append(inbound)
        emit(self.tells)

    async def set_system(self, key: SessionKey, text: str) -> bool:
        self._fail()
        return self.can_set

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def doors() -> Doors:
    return Doors()


@pytest.fixture
def feeds() -> Feeds:
    return Feeds()


@pytest.fixture
def desk(doors: Doors, feeds: Feeds) -> Desk:
    return Desk(doors, feeds, lambda: NOW)


async def test_a_message_is_handed_on_as_it_was_posted(doors: Doors, desk: Desk) -> None:
    """By the person whose daemon this is."""
    feed, restarted = await desk.take(POST)
    [(inbound, emit)] = doors.begun
    assert (inbound.key, inbound.text, inbound.sender, inbound.at) == (KEY, "hi", HOLDER, NOW)
    assert inbound.source_id.startswith("http:")
    assert (emit, restarted) == (feed, None)


async def test_messages_without_a_key_are_never_the_same(doors: Doors, desk: Desk) -> None:
    """However alike they are."""
    for _ in range(2):
        await desk.take(Post(KEY, "hi"))
    assert len({inbound.source_id for inbound, _ in doors.begun}) == 2


async def test_what_somebody_goes_on_with_is_waited_for(doors: Doors, desk: Desk, feeds: Feeds) -> None:
    """The feed that is read is the one that is told."""
    doors.row = Known(KEY, is_open=True, digest=POST.digest)
    feed, restarted = await desk.take(POST)
    assert (restarted, doors.begun) == (Restarted("resume"), [])
    assert feeds.open(KEY, feed.source_id) is feed


async def test_what_is_over_is_told_again_once(doors: Doors, desk: Desk) -> None:
    """The next who asks hears it from memory."""
    doors.row = Known(KEY, is_open=False, digest=POST.digest)
    for _ in range(2):
        feed, restarted = await desk.take(POST)
        assert (feed.end, restarted) == (TurnDone("as it was"), Restarted("replay"))
    assert len(doors.retold) == 1


async def test_what_failed_says_why(doors: Doors, desk: Desk) -> None:
    """The session only tells that it did."""
    doors.row = Known(KEY, is_open=False, digest=POST.digest, note="the model is out of money")
    doors.tells = TurnFailed("cut short", kind="cut")
    feed, _ = await desk.take(POST)
    assert feed.end == TurnFailed("the model is out of money", kind="cut")


async def test_what_came_to_its_end_unheard_is_found_out(doors: Doors, desk: Desk) -> None:
    """Whoever was to go on with it may have ended it without a word."""
    doors.row = Known(KEY, is_open=True, digest=POST.digest)
    feed, _ = await desk.take(POST)
    await desk.look_again(feed)
    assert feed.end is None
    doors.row = Known(KEY, is_open=False, digest=POST.digest)
    await desk.look_again(feed)
    assert feed.end == TurnDone("as it was")


async def test_what_cannot_be_told_leaves_nothing(doors: Doors, desk: Desk, feeds: Feeds) -> None:
    """The next post asks anew."""
    doors.fault = LedgerError("the ledger is locked")
    with pytest.raises(LedgerError):
        await desk.take(POST)
    assert len(feeds) == 0
    doors.fault = None
    await desk.take(POST)
    assert len(doors.begun) == 1


@pytest.mark.parametrize(
    ("row", "begun"), [(None, 2), (Known(KEY, is_open=True, digest=POST.digest), 1)], ids=["not written", "written"]
)
async def test_what_a_disk_refused_is_begun_again(doors: Doors, desk: Desk, row: Known | None, begun: int) -> None:
    """Unless it had been written down: then it failed, and whoever asks again hears so."""
    feed, _ = await desk.take(POST)
    feed(TurnFailed("no space left", kind="store"))
    doors.row = row
    again, restarted = await desk.take(POST)
    assert len(doors.begun) == begun
    assert (again is feed, restarted is not None) == (begun == 1, begun == 1)


async def test_another_message_of_before_leaves_nothing(doors: Doors, desk: Desk, feeds: Feeds) -> None:
    """It is refused, and what is told of the first is still told."""
    doors.row = Known(KEY, is_open=True, digest="another")
    with pytest.raises(Refused):
        await desk.take(POST)
    assert len(feeds) == 0
    feeds.open(KEY, POST.source_id()).is_fed = True
    with pytest.raises(Refused):
        await desk.take(POST)
    assert len(feeds) == 1


@pytest.mark.parametrize("fault", [None, StoreError("no space left")], ids=["another text", "not written"])
async def test_a_system_prompt_that_cannot_be_set_begins_nothing(
    doors: Doors, desk: Desk, feeds: Feeds, fault: Exception | None
) -> None:
    """The message may be posted again."""
    doors.can_set, doors.fault = False, fault
    with pytest.raises((Refused, StoreError)):
        await desk.take(Post(KEY, "hi", "Answer in Latin."))
    assert (doors.begun, len(feeds)) == ([], 0)


# --- over the wire ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def served(
    doors: Doors, directory: Path, keep_alive_s: float = 15.0
) -> AsyncIterator[tuple[Http, httpx.AsyncClient]]:
    """The channel, and somebody who has the token."""
    store = FileStore(directory / "sessions")
    catalog = Catalog(SessionManager(store), store, budget_tokens=16000)
    settings = HttpSettings("127.0.0.1", 0, TOKEN, directory / "http.sock", keep_alive_s=keep_alive_s)
    http = Http(settings, doors, catalog, store.follow, list)
    running = asyncio.create_task(http.run(_accept_nothing))
    await http.listening.wait()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=http.url, headers=headers, timeout=10) as client:
        yield http, client
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def _accept_nothing(_: Envelope) -> bool:
    return False


@pytest.mark.parametrize("path", ["/chat/a", "/chat/stream/a"])
async def test_a_ledger_that_cannot_be_used_is_said(doors: Doors, tmp_path: Path, path: str) -> None:
    """Where it would have to be asked."""
    doors.fault = LedgerError("the ledger is locked")
    async with served(doors, tmp_path) as (_, client):
        answer = await client.post(path, json={"message": "hi"}, headers={"Idempotency-Key": "key-1"})
    assert (answer.status_code, answer.json()["detail"]) == (503, "the ledger is locked")


async def test_what_nobody_foresaw_has_an_id(doors: Doors, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By which the log tells more, and the client nothing."""
    doors.fault = ZeroDivisionError("a secret")
    async with served(doors, tmp_path) as (_, client):
        answer = await client.post("/chat/a", json={"message": "hi"}, headers={"Idempotency-Key": "key-1"})
    assert (answer.status_code, answer.json()["kind"]) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "a secret" not in answer.text
    assert answer.json()["error_id"] in caplog.text
    assert "a secret" in caplog.text


async def test_a_turn_that_is_gone_on_with_is_told(doors: Doors, tmp_path: Path) -> None:
    """To the client that asked again, as soon as the worker begins."""
    doors.row = Known(KEY, is_open=True, digest=POST.digest)
    async with served(doors, tmp_path) as (http, client):
        asking = asyncio.create_task(events_of(client, "a", "hi", "key-1"))
        await doors.asked.wait()
        reply = http.reply_to(Inbound(KEY, POST.source_id(), HOLDER, (Text("hi"),), NOW), ForgetfulMemory())
        reply(TextDelta("and so"))
        reply(TurnDone("and so"))
        events = await asking
    assert [event.name for event in events] == ["session", "restart", "delta", "done"]


async def test_a_turn_that_ended_unheard_is_told(doors: Doors, tmp_path: Path) -> None:
    """After a while of silence it is looked for."""
    doors.row = Known(KEY, is_open=True, digest=POST.digest)
    async with served(doors, tmp_path, keep_alive_s=0.02) as (_, client), asked(client, "a", "hi", "key-1") as response:
        doors.row = Known(KEY, is_open=False, digest=POST.digest)
        events = [event async for event in read_events(response)]
    assert [event.name for event in events if event.name != ":"] == ["session", "restart", "delta", "done"]


async def test_a_ledger_that_fails_later_ends_the_stream(doors: Doors, tmp_path: Path) -> None:
    """With the error as its last event; and an answer that is told whole, with its status."""
    doors.row = Known(KEY, is_open=True, digest=POST.digest)
    async with served(doors, tmp_path, keep_alive_s=0.02) as (_, client), asked(client, "a", "hi", "key-1") as response:
        whole = asyncio.create_task(
            client.post("/chat/a", json={"message": "hi"}, headers={"Idempotency-Key": "key-1"})
        )
        doors.asked.clear()
        await doors.asked.wait()
        doors.fault = LedgerError("the ledger is locked")
        events = [event async for event in read_events(response)]
        assert (await whole).status_code == 503
    assert (events[-1].name, events[-1].data["status"]) == ("error", 503)


# --- what an error means ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownSession("http:a"), 404),
        (LeaseHeld("busy", holder="pid 7"), 409),
        (Busy("busy"), 409),
        (KeyFormError("no key"), 422),
        (CommandError("no command"), 422),
        (LimitReached("no", setting="limits.usd_per_day", retry_after_s=0.2), 429),
        (ModelError("no", kind="overloaded", retryable=True), 502),
        (StoreError("no"), 503),
        (LedgerError("no"), 503),
        (ChannelError("no"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_has_a_status(error: NanochatError, status: int) -> None:
    """And its own words."""
    problem = of_error(error)
    assert (problem.status, problem.detail) == (status, str(error))
    if isinstance(error, LimitReached):
        assert problem.all_headers()["retry-after"] == "1"
    if isinstance(error, LeaseHeld):
        assert problem.fields()["holder"] == "pid 7"


@pytest.mark.parametrize(
    ("kind", "status"),
    {
        **dict.fromkeys(("network", "overloaded", "key"), 502),
        **{"busy": 409, "pace": 429, "limit": 429, "command": 422, "store": 503, "ending": 503},
        **dict.fromkeys(("crashed", "internal"), 500),
    }.items(),
)
def test_a_failure_has_a_status(kind: str, status: int) -> None:
    """Whatever is not ours is the model's."""
    problem = of_failure(TurnFailed("no", "id-1", kind))
    assert (problem.status, problem.fields()["error_id"], problem.fields()["kept"]) == (status, "id-1", False)
