"""The catalog: conversations looked at and put away, on real files."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.catalog import Catalog
from nanochat.doors import Sessions
from nanochat.errors import LeaseHeld, UnknownSession, WrongFile
from nanochat.keys import SessionKey
from nanochat.records import Message, Record, SetValue, TurnEnd, Usage, text_of
from nanochat.sessions import SessionManager, Undone
from nanochat.store import FileStore
from nanochat.store.names import nanobot_stems
from tests.fakes.house import FakeClock
from tests.fakes.pastime import ACTS, Act, live_through

KEY = SessionKey("telegram", "12345")
OTHER = SessionKey("cli", "other")


class Shelf:
    """A catalog over a directory of its own, with the manager that it shares."""

    def __init__(self, directory: Path, *, patience_s: float = 0.1, step_bytes: int = 256 * 1024) -> None:
        self.clock = FakeClock(datetime.now(UTC))
        self.store = FileStore(directory / "sessions", durability="off")
        self.manager = SessionManager(self.store, clock=self.clock)
        self.catalog = Catalog(
            self.manager, self.store, budget_tokens=1000, patience_s=patience_s, step_bytes=step_bytes, clock=self.clock
        )

    async def say(self, *questions: str, key: SessionKey = KEY) -> None:
        """An exchange for each question."""
        for question in questions:
            async with self.manager.turn(key) as session:
                asked = Message("user", question, self.clock())
                answer = Message("assistant", f"re: {question}", self.clock(), usage=Usage(input=50, output=5))
                turn = TurnEnd(question, "done", "m", usage=Usage(input=50, output=5), cost_usd=0.5)
                await self.manager.append(session, asked, answer, turn, durable=True)

    async def said(self, key: SessionKey = KEY) -> list[str]:
        return said((await self.catalog.whole(key)).records)


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def said(records: Sequence[Record]) -> list[str]:
    return [text_of(record.content) for record in records if isinstance(record, Message)]


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    """A catalog over an empty data directory."""
    shelf = Shelf(tmp_path)
    yield shelf
    await shelf.manager.close()


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Shelf]:
    """Another process's, over the same directory."""
    shelf = Shelf(tmp_path)
    yield shelf
    await shelf.manager.close()


def test_it_is_what_channels_are_handed(shelf: Shelf) -> None:
    """The protocol is kept, as the type checker sees it."""
    sessions: Sessions = shelf.catalog
    assert sessions is shelf.catalog


# --- looking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda catalog: catalog.history(KEY), id="history"),
        pytest.param(lambda catalog: catalog.whole(KEY), id="whole"),
        pytest.param(lambda catalog: catalog.everything(KEY), id="everything"),
        pytest.param(lambda catalog: catalog.stats(KEY), id="stats"),
        pytest.param(lambda catalog: catalog.reset(KEY, "test"), id="reset"),
        pytest.param(lambda catalog: catalog.undo(KEY), id="undo"),
        pytest.param(lambda catalog: catalog.archive(KEY), id="archive"),
        pytest.param(lambda catalog: catalog.delete(KEY), id="delete"),
    ],
)
async def test_a_session_that_is_not_there(shelf: Shelf, tmp_path: Path, ask: object) -> None:
    """It is said so, and asking leaves nothing behind."""
    assert callable(ask)
    with pytest.raises(UnknownSession, match="there is no session telegram:12345"):
        await ask(shelf.catalog)
    assert os.listdir(tmp_path) == []


async def test_pages_of_history(shelf: Shelf) -> None:
    """Each page ends where the newer one began; the last one says that there is no older."""
    await shelf.say("before")
    await shelf.catalog.reset(KEY, "test")
    await shelf.say(*"abcde")
    first = await shelf.catalog.history(KEY, limit=4)
    assert said(first.messages) == ["d", "re: d", "e", "re: e"]
    second = await shelf.catalog.history(KEY, before=first.before, limit=4)
    assert said(second.messages) == ["b", "re: b", "c", "re: c"]
    third = await shelf.catalog.history(KEY, before=second.before, limit=4)
    assert said(third.messages) == ["a", "re: a"]
    assert third.before is None
    assert (await shelf.catalog.history(KEY, limit=10)).before is None


@settings(max_examples=60, deadline=None)
@given(ACTS, st.integers(1, 7))
def test_any_conversation(acts: list[Act], limit: int) -> None:
    """Read back in the smallest steps, in one, from the beginning, or page by page: the same is live."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_compare(acts, limit, Path(directory)))


async def _compare(acts: list[Act], limit: int, directory: Path) -> None:
    shelf, small = Shelf(directory), Shelf(directory, step_bytes=1)
    await shelf.say("first")
    await live_through(shelf.manager, KEY, acts)
    whole = (await shelf.catalog.whole(KEY)).records
    assert list(whole) == await shelf.manager.whole(await shelf.manager.get_or_create(KEY))
    assert (await small.catalog.whole(KEY)).records == whole
    messages = [record for record in whole if isinstance(record, Message)]
    everything = await shelf.catalog.everything(KEY)
    assert [record for record, fate in everything if isinstance(record, Message) and fate == "live"] == messages
    assert [record.start for record, _ in everything] == sorted({record.start for record, _ in everything})
    pages: list[Message] = []
    before: int | None = None
    while True:
        page = await small.catalog.history(KEY, before=before, limit=limit)
        assert len(page.messages) <= limit
        pages[:0] = page.messages
        if (before := page.before) is None:
            break
    assert pages == messages
    await shelf.manager.close()
    await small.manager.close()


async def test_what_became_of_each_line(shelf: Shelf) -> None:
    """Everything is there, what was taken back and what a reset left behind as well, and is told apart."""
    await shelf.say("a", "b")
    await shelf.catalog.undo(KEY)
    await shelf.catalog.reset(KEY, "test")
    await shelf.say("c")
    told = [
        (said([record])[0], fate) for record, fate in await shelf.catalog.everything(KEY) if isinstance(record, Message)
    ]
    assert told == [
        ("a", "reset"),
        ("re: a", "reset"),
        ("b", "undone"),
        ("re: b", "undone"),
        ("c", "live"),
        ("re: c", "live"),
    ]


async def test_the_last_exchanges(shelf: Shelf) -> None:
    """From the question on; asked for more than there are, all come."""
    await shelf.say(*"abc")
    assert said((await shelf.catalog.newest(KEY, 2)).records) == ["b", "re: b", "c", "re: c"]
    assert len(said((await shelf.catalog.newest(KEY, 9)).records)) == 6


async def test_damage_is_noticed(shelf: Shelf) -> None:
    """A line that cannot be read is said to be missing; the others are there."""
    await shelf.say("a")
    with shelf.store.path_of(KEY).open("ab") as file:
        file.write(b"{no json\n")
    await shelf.say("b")
    told = await shelf.catalog.whole(KEY)
    assert told.is_damaged
    assert said(told.records) == ["a", "re: a", "b", "re: b"]
    assert await shelf.catalog.faults(KEY) == 1


async def test_large_content_in_place(shelf: Shelf) -> None:
    """A reader without our blobs gets the bytes, and a word where they are lost."""
    name = await shelf.store.put_blob(b"picture")
    async with shelf.manager.turn(KEY) as session:
        for sha256 in (name, "0" * 64):
            source = {"type": "blob", "media_type": "image/png", "sha256": sha256}
            await shelf.manager.append(
                session, Message("user", [{"type": "image", "source": source}], shelf.clock()), durable=True
            )
    records = await shelf.catalog.with_bytes((await shelf.catalog.whole(KEY)).records)
    first, second = [next(iter(record.content)) for record in records if isinstance(record, Message)]
    assert isinstance(first, dict)
    assert first["source"] == {"type": "base64", "media_type": "image/png", "data": "cGljdHVyZQ=="}
    assert isinstance(second, dict)
    assert second["text"] == "[a image that is no longer stored]"


async def test_stats(shelf: Shelf) -> None:
    """Totals since it began, also of what was taken back; the curve newest last; the context of what is live."""
    await shelf.say("a", "b")
    await shelf.catalog.undo(KEY)
    stats = await shelf.catalog.stats(KEY)
    assert (stats.brief.key, stats.brief.state.totals.turns) == (KEY, 2)
    assert stats.brief.state.totals.cost_usd == 1.0
    assert [point.usage.input for point in stats.curve] == [50, 50]
    assert stats.budget_tokens == 1000
    assert stats.context_tokens == 55  # what the model said of the request and the reply that are left
    await shelf.catalog.reset(KEY, "asked")
    assert (await shelf.catalog.stats(KEY)).context_tokens == 0


# --- changing ----------------------------------------------------------------------------------------------------------


async def test_undo_goes_back_step_by_step(shelf: Shelf) -> None:
    """Exchange by exchange, a reset counts as one, and at last nothing is left."""
    await shelf.say("a")
    await shelf.catalog.reset(KEY, "test")
    await shelf.say("b", "c")
    undone = [await shelf.catalog.undo(KEY) for _ in range(5)]
    assert undone == [Undone("c"), Undone("b"), Undone(None), Undone("a"), None]
    assert await shelf.said() == []


async def test_others_see_a_reset_and_an_undo(shelf: Shelf, elsewhere: Shelf) -> None:
    """A daemon that has the session in memory goes on from what is live."""
    await shelf.say("a")
    session = await elsewhere.manager.get_or_create(KEY)
    await shelf.catalog.reset(KEY, "test")
    await elsewhere.manager.get_or_create(KEY)
    assert session.messages == []
    await shelf.catalog.undo(KEY)
    await elsewhere.manager.get_or_create(KEY)
    assert said(session.messages) == ["a", "re: a"]


@pytest.mark.parametrize("change", ["reset", "undo", "archive", "delete"])
async def test_a_session_in_a_turn_is_left_alone(shelf: Shelf, elsewhere: Shelf, change: str) -> None:
    """After a while its holder is named, and nothing has changed."""
    await shelf.say("a")
    changes = {
        "reset": lambda: shelf.catalog.reset(KEY, "test"),
        "undo": lambda: shelf.catalog.undo(KEY),
        "archive": lambda: shelf.catalog.archive(KEY),
        "delete": lambda: shelf.catalog.delete(KEY),
    }
    data = shelf.store.path_of(KEY).read_bytes()
    async with elsewhere.manager.turn(KEY):
        with pytest.raises(LeaseHeld) as caught:
            await changes[change]()  # type: ignore[no-untyped-call]  # four calls of four shapes
    assert str(os.getpid()) in caught.value.holder
    assert shelf.store.path_of(KEY).read_bytes() == data


async def test_talking_on_after_archiving(shelf: Shelf, elsewhere: Shelf, tmp_path: Path) -> None:
    """In this process and in one that had the session in memory: a new file, begun from nothing."""
    await shelf.say("a", "b")
    await elsewhere.manager.get_or_create(KEY)
    place = await shelf.catalog.archive(KEY)
    assert Path(place).parent == tmp_path / "archive"
    session = await shelf.manager.get_or_create(KEY)
    assert (session.messages, session.state.n, session.end) == ([], 0, 0)
    await elsewhere.say("c")
    await shelf.say("d")
    assert said((await elsewhere.manager.get_or_create(KEY)).messages) == ["c", "re: c", "d", "re: d"]
    assert said(session.messages) == ["c", "re: c", "d", "re: d"]
    assert await shelf.said() == ["c", "re: c", "d", "re: d"]
    assert session.state.totals.turns == 2
    assert [line["content"] for line in rows(Path(place)) if "role" in line] == ["a", "re: a", "b", "re: b"]


async def test_settings_do_not_outlive_an_archived_session(shelf: Shelf) -> None:
    """A model that was set goes with the conversation."""
    await shelf.say("a")
    async with shelf.manager.turn(KEY) as session:
        await shelf.manager.append(session, SetValue("model", "m-2"), durable=True)
    await shelf.catalog.archive(KEY)
    assert (await shelf.manager.get_or_create(KEY)).state.model == ""


@pytest.mark.parametrize("change", ["archive", "delete"])
async def test_a_file_of_nanobots(shelf: Shelf, elsewhere: Shelf, tmp_path: Path, change: str) -> None:
    """It goes, and does not come back behind ours; another process finds the file that begins under our name."""
    theirs = tmp_path / "sessions" / f"{nanobot_stems(KEY)[0]}.jsonl"
    theirs.parent.mkdir()
    header = {"_type": "metadata", "key": str(KEY), "created_at": "2026-01-02T03:04:05", "metadata": {}}
    theirs.write_text(f'{json.dumps(header)}\n{{"role":"user","content":"old"}}\n')
    assert said((await elsewhere.manager.get_or_create(KEY)).messages) == ["old"]
    if change == "archive":
        assert Path(await shelf.catalog.archive(KEY)).name.startswith("telegram+12345.")
    else:
        await shelf.catalog.delete(KEY)
    assert (await elsewhere.manager.get_or_create(KEY)).messages == []
    await shelf.say("new")
    assert said((await elsewhere.manager.get_or_create(KEY)).messages) == ["new", "re: new"]
    theirs.write_text(f'{json.dumps(header)}\n{{"role":"user","content":"hidden"}}\n')
    await (shelf.catalog.archive(KEY) if change == "archive" else shelf.catalog.delete(KEY))
    assert os.listdir(tmp_path / "sessions") == []
    receipts = tmp_path / "archive" / "receipts.jsonl"
    assert not receipts.exists() if change == "delete" else len(receipts.read_text().splitlines()) == 3


async def test_deleting(shelf: Shelf, tmp_path: Path) -> None:
    """Nothing of it is left but its blobs, and it can begin anew."""
    name = await shelf.store.put_blob(b"picture")
    await shelf.say("a")
    await shelf.catalog.delete(KEY)
    assert os.listdir(tmp_path / "sessions") == []
    assert os.listdir(tmp_path / "blobs") == [name]
    await shelf.say("b")
    assert await shelf.said() == ["b", "re: b"]


async def test_what_is_no_file_is_not_deleted(shelf: Shelf, tmp_path: Path) -> None:
    """A link under the session's name is refused, and so is what it points to."""
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / "telegram+12345.jsonl").symlink_to(target)
    for change in (shelf.catalog.delete, shelf.catalog.archive):
        with pytest.raises(WrongFile, match="not a regular file"):
            await change(KEY)
    assert target.read_text() == "precious"


# --- putting away what is silent ---------------------------------------------------------------------------------------


def nobody(key: SessionKey) -> bool:
    return False


def age(shelf: Shelf, key: SessionKey, days: int) -> None:
    """Make a file as old as it would be."""
    then = (shelf.clock() - timedelta(days=days)).timestamp()
    os.utime(shelf.store.path_of(key), (then, then))


async def test_what_is_silent_is_put_away(shelf: Shelf, tmp_path: Path) -> None:
    """Only what is; the receipt says why."""
    await shelf.say("a")
    age(shelf, KEY, 0)
    shelf.clock.advance(days=31)
    await shelf.say("b", key=OTHER)
    swept = await shelf.catalog.archive_silent(timedelta(days=30), nobody)
    assert [archived.key for archived in swept.archived] == [KEY]
    assert swept.faults == ()
    assert [brief.key for brief in await shelf.catalog.list()] == [OTHER]
    (receipt,) = rows(tmp_path / "archive" / "receipts.jsonl")
    assert receipt["reason"] == "silent for 30 days"


async def test_a_file_that_was_just_copied_is_not_silent(shelf: Shelf) -> None:
    """Its lines are old, and somebody brought it here today."""
    await shelf.say("a")
    shelf.clock.advance(days=31)
    age(shelf, KEY, 1)
    assert (await shelf.catalog.archive_silent(timedelta(days=30), nobody)).archived == ()


@pytest.mark.parametrize("days", [-31, 999_999], ids=["the clock was set back", "longer than time has been"])
async def test_what_cannot_be_silent_yet(shelf: Shelf, days: int) -> None:
    """Neither a clock that jumped back nor a term beyond all dates puts anything away, or fails."""
    await shelf.say("a")
    shelf.clock.advance(days=min(days, 31))
    swept = await shelf.catalog.archive_silent(timedelta(days=abs(days)), nobody)
    assert (swept.archived, swept.faults) == ((), ())


async def test_a_file_that_was_touched_meanwhile_stays(shelf: Shelf, elsewhere: Shelf) -> None:
    """It was silent when it was listed; before its turn came somebody spoke, and left again."""
    await shelf.say("a")
    await shelf.say("b", key=OTHER)
    shelf.clock.advance(days=31)
    elsewhere.clock.advance(days=31)

    def speak(key: SessionKey) -> bool:
        if key == KEY:
            now = elsewhere.clock().timestamp()
            os.utime(elsewhere.store.path_of(key), (now, now))
        return False

    swept = await shelf.catalog.archive_silent(timedelta(days=30), speak)
    assert [archived.key for archived in swept.archived] == [OTHER]


async def test_nanobots_own_files_are_put_away_too(shelf: Shelf, tmp_path: Path) -> None:
    """Under the key's name, and by their own time, which has no offset."""
    path = tmp_path / "sessions" / f"{nanobot_stems(KEY)[0]}.jsonl"
    path.parent.mkdir()
    header = {"_type": "metadata", "key": str(KEY), "updated_at": "2020-01-01T10:00:00"}
    path.write_text(f'{json.dumps(header)}\n{{"role":"user","content":"old"}}\n')
    age(shelf, KEY, 20)
    assert (await shelf.catalog.archive_silent(timedelta(days=30), nobody)).archived == ()
    age(shelf, KEY, 31)
    (archived,) = (await shelf.catalog.archive_silent(timedelta(days=30), nobody)).archived
    assert (archived.key, archived.moved_from) == (KEY, path)
    assert archived.moved_to.name.startswith("telegram+12345.")
    assert archived.messages == 1


async def test_what_is_wanted_stays(shelf: Shelf) -> None:
    """Also where that is known only once the lease is held."""
    await shelf.say("a")
    shelf.clock.advance(days=31)
    answers = [False, True]
    assert (await shelf.catalog.archive_silent(timedelta(days=30), lambda key: answers.pop(0))).archived == ()
    assert answers == []
    assert await shelf.said() == ["a", "re: a"]


async def test_a_turn_is_not_silence(shelf: Shelf, elsewhere: Shelf) -> None:
    """Whoever is in a turn is not waited for, and is no fault."""
    await shelf.say("a")
    await shelf.say("b", key=OTHER)
    shelf.clock.advance(days=31)
    async with elsewhere.manager.turn(KEY):
        swept = await shelf.catalog.archive_silent(timedelta(days=30), nobody)
    assert ([archived.key for archived in swept.archived], swept.faults) == ([OTHER], ())


async def test_one_that_cannot_be_put_away_does_not_hold_up_the_others(shelf: Shelf, tmp_path: Path) -> None:
    """It is named, and the rest is done."""
    await shelf.say("a")
    await shelf.say("b", key=OTHER)
    shelf.clock.advance(days=31)
    (tmp_path / "leases").rename(tmp_path / "was leases")
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases" / "telegram+12345").symlink_to("/dev/null")
    swept = await shelf.catalog.archive_silent(timedelta(days=30), nobody)
    assert [archived.key for archived in swept.archived] == [OTHER]
    (fault,) = swept.faults
    assert "telegram:12345" in fault
