"""The inbox: each source once, groups together, in order, whoever dies."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.errors import CommandError, LedgerError
from nanochat.keys import SessionKey
from nanochat.ledger import Claim, Lane, Ledger, people, stories
from nanochat.ledger.pairings import MAX_PENDING
from nanochat.ports import Envelope, SentPart
from nanochat.process.liveness import Presence
from tests.fakes.house import FakeClock
from tests.fakes.office import KEY, Office, envelope, once

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
Open = Callable[[], Ledger]


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Open]:
    """Ledgers on one file, each with a presence of its own."""
    made: list[tuple[Ledger, Presence]] = []

    def build() -> Ledger:
        presence = Presence(tmp_path / "leases")
        made.append((Ledger(tmp_path / "ledger.db", presence, clock=CLOCK), presence))
        return made[-1][0]

    yield build
    for ledger, presence in made:
        await ledger.close()
        presence.leave()


CLOCK = FakeClock(NOW)


async def claim(ledger: Ledger, lane: Lane = "line", busy: tuple[str, ...] = ()) -> Claim:
    found = await ledger.inbox.claim(KEY, lane, NOW, busy=busy)
    assert isinstance(found, Claim)
    return found


async def test_two_processes_never_claim_the_same(process: Open) -> None:
    """Nor does one claim what it works on already."""
    first, second = process(), process()
    await first.inbox.accept(envelope("hi", "memory:1"), NOW)
    assert (await claim(first)).source_id == "memory:1"
    assert await second.inbox.claim(KEY, "line", NOW) is None
    assert await first.inbox.claim(KEY, "line", NOW, busy=["memory:1"]) is None


async def test_the_envelope_comes_back_as_it_was(process: Open) -> None:
    """With its body, group and manner."""
    ledger = process()
    given = envelope("hi", "memory:1", group="g", manner="stop")
    await ledger.inbox.accept(given, NOW)
    assert (await claim(ledger)).envelopes == (given,)


async def test_a_late_member_of_a_group_is_a_group_of_its_own(process: Open) -> None:
    """And after a crash each is claimed as it was."""
    ledger = process()
    await ledger.inbox.accept(envelope("a", "memory:1", group="g"), NOW)
    first = await claim(ledger)
    await ledger.inbox.accept(envelope("b", "memory:2", group="g"), NOW)
    again = await claim(ledger)
    assert [e.source_id for e in again.envelopes] == [e.source_id for e in first.envelopes] == ["memory:1"]
    assert again.begun
    await ledger.inbox.close("memory:1", "delivered", NOW)
    assert (await claim(ledger)).source_id == "memory:2"


async def test_the_order_is_that_of_coming(process: Open) -> None:
    """Also where the clock stands still, or goes back."""
    ledger = process()
    for i in range(12):
        await ledger.inbox.accept(envelope(str(i), f"memory:{i}"), NOW - timedelta(seconds=i))
    for i in range(12):
        assert (await claim(ledger)).source_id == f"memory:{i}"
        await ledger.inbox.close(f"memory:{i}", "delivered", NOW)


async def test_what_was_said_is_not_kept(process: Open, tmp_path: Path) -> None:
    """After the answer only the fact remains; what cannot be read is kept to be looked at."""
    ledger = process()
    for i, outcome in enumerate(["delivered", "quarantined"]):
        await ledger.inbox.accept(envelope("my secret", f"memory:{i}"), NOW)
        await claim(ledger)
        await ledger.inbox.close(f"memory:{i}", outcome, NOW)
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        bodies = [body for (body,) in database.execute("SELECT body FROM inbox ORDER BY seq")]
    database.close()
    assert bodies[0] == ""
    assert "my secret" in bodies[1]


async def test_rows_are_forgotten_after_a_week(process: Open, tmp_path: Path) -> None:
    """With what was sent for them; what is not answered is never forgotten."""
    ledger = process()
    for i in range(2):
        await ledger.inbox.accept(envelope("hi", f"memory:{i}"), NOW)
        await ledger.memory_of(f"memory:{i}").sent(0, "1")
    await claim(ledger)
    await ledger.inbox.close("memory:0", "delivered", NOW)
    await ledger.inbox.accept(envelope("later", "memory:9"), NOW + timedelta(days=8))
    assert [row.source_id for row in stories(tmp_path / "ledger.db", "", 10)] == ["memory:1", "memory:9"]
    assert await ledger.memory_of("memory:0").parts() == ()
    assert await ledger.memory_of("memory:1").parts() == (SentPart(0, "1"),)


async def test_many_at_once(process: Open) -> None:
    """Each of a hundred concurrent writes is done, and one that fails costs itself only."""
    ledger = process()
    bad = ledger.pairings.pair("nonsense")
    results = await asyncio.gather(
        *(ledger.inbox.accept(envelope("x", f"memory:{i % 50}"), NOW) for i in range(100)), bad, return_exceptions=True
    )
    assert sum(result is True for result in results) == 50
    assert isinstance(results[-1], CommandError)


async def test_an_earlier_ledger_is_brought_up(process: Open, tmp_path: Path) -> None:
    """Its rows are a terminal's, and still taken over by it."""
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute(
            "CREATE TABLE inbox (source_id TEXT PRIMARY KEY, key TEXT NOT NULL, body TEXT NOT NULL,"
            " accepted_at TEXT NOT NULL, owner TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 1, outcome TEXT,"
            " finished_at TEXT) WITHOUT ROWID"
        )
        database.execute(
            "INSERT INTO inbox VALUES ('cli:1', 'memory:1', '{}', ?, 'process-gone', 1, NULL, NULL)", (NOW.isoformat(),)
        )
    database.close()
    assert stories(tmp_path / "ledger.db", "", 10) == []
    ledger = process()
    assert [row.attempts for row in await ledger.claim_orphans(KEY, "cli:")] == [1]
    assert [row.state for row in stories(tmp_path / "ledger.db", "", 10)] == ["claimed"]


async def test_a_replys_parts(process: Open) -> None:
    """They are known to the next process, and a sending without an id is told apart."""
    memory = process().memory_of("memory:1")
    await memory.sending(0)
    await memory.sent(0, "17", "digest")
    await memory.sending(1)
    assert await process().memory_of("memory:1").parts() == (SentPart(0, "17", "digest"), SentPart(1, ""))
    await memory.dropped(1)
    assert await memory.parts() == (SentPart(0, "17", "digest"),)


def test_reading_changes_nothing(tmp_path: Path) -> None:
    """No ledger is made, and one that is there keeps its time."""
    path = tmp_path / "ledger.db"
    assert stories(path, "", 10) == []
    assert list(tmp_path.iterdir()) == []

    async def fill() -> None:
        office = Office(tmp_path)
        await office.put("hi", "memory:1")
        await office.close()

    asyncio.run(fill())
    before = {found: found.stat().st_mtime_ns for found in tmp_path.rglob("*")}
    assert len(stories(path, "", 10)) == 1
    assert {found: found.stat().st_mtime_ns for found in tmp_path.rglob("*")} == before


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    """The line says which file, and that no conversation is in it."""
    (tmp_path / "ledger.db").write_bytes(b"noise" * 500)
    with pytest.raises(LedgerError, match="no conversation"):
        stories(tmp_path / "ledger.db", "", 10)


# --- pairings --------------------------------------------------------------------------------------------------------


async def test_a_code_lets_in(process: Open, tmp_path: Path) -> None:
    """Once entered, in whatever writing, and until it is revoked."""
    book = process().pairings
    code = await book.offer(7, "Olga")
    assert code is not None
    assert len(code) == 8
    assert not await book.is_paired(7)
    assert (await book.pair(f" {code[:4].lower()}-{code[4:]} ")).user_id == 7
    assert await book.is_paired(7)
    assert await book.offer(7, "Olga") is None
    assert [person.name for person in people(tmp_path / "ledger.db")] == ["Olga"]
    assert await book.revoke(7)
    assert not await book.is_paired(7)
    assert not await book.revoke(7)


async def test_a_code_is_offered_once_an_hour(tmp_path: Path) -> None:
    """It works for that hour, and the next one is another."""
    clock = FakeClock(NOW)
    presence = Presence(tmp_path / "leases")
    ledger = Ledger(tmp_path / "ledger.db", presence, clock=clock)
    book = ledger.pairings
    code = await book.offer(7, "Olga")
    assert code is not None
    await book.told(7)
    clock.advance(minutes=59)
    assert await book.offer(7, "Olga") is None
    clock.advance(minutes=1)
    with pytest.raises(CommandError, match="no pairing code"):
        await book.pair(code)
    other = await book.offer(7, "Olga")
    assert other is not None
    assert other != code
    await ledger.close()
    presence.leave()


async def test_strangers_are_few(process: Open) -> None:
    """So many codes at a time, and no more."""
    book = process().pairings
    codes = [await book.offer(user_id, "x" * 500) for user_id in range(MAX_PENDING + 2)]
    assert [code is not None for code in codes] == [True] * MAX_PENDING + [False] * 2


# --- any order of events ---------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 2), st.integers(0, 11)),
        st.tuples(st.sampled_from(["crash", "leave", "rest", "flood", "yield"]), st.integers(0, 7), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_each_source_is_answered_once_and_in_order(steps: list[tuple[str, int, int]]) -> None:
    """Whatever comes when, again or not, and whoever dies in between: one answer each, in the order of the first coming."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_live_through(steps, Path(directory)))


async def _live_through(steps: list[tuple[str, int, int]], directory: Path) -> None:
    office = Office(directory)
    board, pauses = office.board, office.pauses
    offices = [office]
    came: dict[SessionKey, list[str]] = {}
    crashes = 0
    await office.open()
    for what, number, name in steps:
        if what == "say":
            key = SessionKey("memory", str(number))
            if await office.put(f"m{name}", f"memory:{number}:{name}", key):
                came.setdefault(key, []).append(f"m{name}")
        elif what == "rest":
            await office.worker.rest()
        elif what == "flood":
            pauses.advance(300)
        elif what == "yield":
            for _ in range(number * 5):
                await asyncio.sleep(0.0005)
        elif crashes < 2 or what == "leave":
            crashes += what == "crash"
            await (office.die() if what == "crash" else office.leave())
            office = Office(directory, board=board, pauses=pauses)
            offices.append(office)
            await office.open()
    await office.worker.rest()
    for key, texts in came.items():
        assert once(board.texts(key)) == [f"echo: {text}" for text in texts]
        session = await office.house.manager.get_or_create(key)
        said = [str(m.content) if isinstance(m.content, str) else m.content[0]["text"] for m in session.messages]
        assert said == [line for text in texts for line in (text, f"echo: {text}")]
    assert set(office.states().values()) <= {"delivered"}
    for one in offices:
        await one.close()


@pytest.mark.parametrize("seed", range(4))
async def test_death_at_any_await(tmp_path: Path, seed: int) -> None:
    """A process cancelled after any number of steps leaves what the next one finishes."""
    for steps in range(seed, 80, 4):
        directory = tmp_path / str(steps)
        office = Office(directory)
        await office.open()
        await office.channel.say("hi", source_id="memory:1")
        for _ in range(steps):
            await asyncio.to_thread(lambda: None)  # about as long as a step of the ledger or the store takes
        await office.die()
        second = Office(directory, board=office.board)
        await second.open()
        await second.worker.rest()
        assert once(second.board.texts(KEY)) == ["echo: hi"], steps
        assert second.states() == {"memory:1": "delivered"}
        await office.close()
        await second.close()


def test_a_body_may_hold_anything(tmp_path: Path) -> None:
    """Text of every language, and what looks like SQL."""
    texts = ["'; DROP TABLE inbox; --", "\u0000", "💬 日本語", ""]

    async def keep() -> list[str]:
        presence = Presence(tmp_path / "leases")
        ledger = Ledger(tmp_path / "ledger.db", presence)
        found = []
        for i, text in enumerate(texts):
            await ledger.inbox.accept(Envelope(f"memory:{i}", KEY, text), NOW)
            found.append((await claim(ledger)).envelopes[0].body)
            await ledger.inbox.close(f"memory:{i}", "delivered", NOW)
        await ledger.close()
        presence.leave()
        return found

    assert asyncio.run(keep()) == texts
