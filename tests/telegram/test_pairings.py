"""Codes are given until they are known, and forgotten when they are over."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanochat.ledger import Ledger
from nanochat.ledger.pairings import MAX_PENDING
from nanochat.ledger.story import people
from nanochat.process.liveness import Presence
from tests.fakes.house import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 11, 20, tzinfo=UTC))


@pytest.fixture
async def ledger(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Ledger]:
    presence = Presence(tmp_path / "leases")
    ledger = Ledger(tmp_path / "ledger.db", presence, clock=clock)
    yield ledger
    await ledger.close()
    presence.leave()


async def test_a_code_is_the_same_until_it_was_told(ledger: Ledger, clock: FakeClock) -> None:
    """And lives an hour from the last offer."""
    book = ledger.pairings
    code = await book.offer(7, "Olga")
    assert code is not None
    clock.advance(minutes=40)
    assert await book.offer(7, "Olga") == code
    await book.told(7)
    clock.advance(minutes=40)
    assert await book.offer(7, "Olga") is None
    assert (await book.pair(code)).user_id == 7
    assert await book.offer(7, "Olga") is None


async def test_a_ledger_of_an_earlier_version_is_taken_over(ledger: Ledger, clock: FakeClock, tmp_path: Path) -> None:
    """It does not know who was told; whom it let in stays."""
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as old:
        old.execute(
            "CREATE TABLE pairings (user_id INTEGER PRIMARY KEY, name TEXT NOT NULL, code TEXT NOT NULL,"
            " offered_at TEXT NOT NULL, paired_at TEXT)"
        )
        now = clock().isoformat()
        old.execute(
            "INSERT INTO pairings VALUES (1, 'Olga', 'ABCD3467', ?, ?), (2, 'Max', 'ACDE3467', ?, NULL)", [now] * 3
        )
        old.commit()
    assert [person.user_id for person in people(tmp_path / "ledger.db")] == [1, 2]
    book = ledger.pairings
    assert await book.is_paired(1)
    assert await book.offer(2, "Max") == "ACDE3467"


async def test_what_nobody_entered_is_forgotten(ledger: Ledger, clock: FakeClock, tmp_path: Path) -> None:
    """Strangers leave no trace; who was let in stays."""
    book = ledger.pairings
    code = await book.offer(1, "Olga")
    assert code is not None
    await book.pair(code)
    for user_id in range(2, MAX_PENDING + 2):
        await book.offer(user_id, "Mallory")
    assert await book.offer(9, "Max") is None
    clock.advance(hours=1)
    assert await book.offer(9, "Max") is not None
    assert [person.user_id for person in people(tmp_path / "ledger.db")] == [1, 9]
