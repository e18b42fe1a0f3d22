"""The ledger and the mark of living processes."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from nanochat.errors import LedgerError
from nanochat.keys import SessionKey
from nanochat.ledger import Ledger
from nanochat.ports import Envelope
from nanochat.process.liveness import Presence

KEY = SessionKey("cli", "a")
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def envelope(source_id: str) -> Envelope:
    return Envelope(source_id, KEY, "{}")


async def test_a_source_id_is_accepted_once(tmp_path: Path) -> None:
    """The same message twice is one row, for every process."""
    ledger = Ledger(tmp_path / "ledger.db", Presence(tmp_path / "leases"))
    assert await ledger.accept_claimed(envelope("cli:1"), NOW)
    assert not await ledger.accept_claimed(envelope("cli:1"), NOW)
    await ledger.close()


async def test_rows_of_the_living_are_left_alone(tmp_path: Path) -> None:
    """Only what a dead process held is taken over, and by one taker only."""
    dead, living = Presence(tmp_path / "leases"), Presence(tmp_path / "leases")
    first, second = Ledger(tmp_path / "ledger.db", dead), Ledger(tmp_path / "ledger.db", living)
    await first.accept_claimed(envelope("cli:1"), NOW)
    await first.accept_claimed(envelope("cli:2"), NOW)
    await first.finish("cli:2", "done", NOW)
    assert await second.claim_orphans(KEY, "cli:") == []
    dead.leave()
    [row] = await second.claim_orphans(KEY, "cli:")
    assert (row.envelope.source_id, row.attempts) == ("cli:1", 1)
    assert await second.claim_orphans(KEY, "cli:") == []
    await first.close()
    await second.close()
    living.leave()


async def test_only_the_sources_asked_for_are_taken(tmp_path: Path) -> None:
    """A terminal does not take over what a phone said."""
    dead, living = Presence(tmp_path / "leases"), Presence(tmp_path / "leases")
    first, second = Ledger(tmp_path / "ledger.db", dead), Ledger(tmp_path / "ledger.db", living)
    await first.accept_claimed(envelope("telegram:1"), NOW)
    dead.leave()
    assert await second.claim_orphans(KEY, "cli:") == []
    assert len(await second.claim_orphans(KEY, "telegram:")) == 1
    await first.close()
    await second.close()
    living.leave()


async def test_money_adds_up_by_day(tmp_path: Path) -> None:
    """All sessions of one day together."""
    ledger = Ledger(tmp_path / "ledger.db", Presence(tmp_path / "leases"))
    await ledger.spend(date(2026, 11, 20), KEY, 0.25)
    await ledger.spend(date(2026, 11, 20), KEY, 0.5)
    await ledger.spend(date(2026, 11, 21), KEY, 8)
    assert await ledger.spent(date(2026, 11, 20)) == pytest.approx(0.75)
    await ledger.close()


async def test_old_money_is_forgotten(tmp_path: Path) -> None:
    """The caps ask for today only; what a session has cost stands in its file."""
    ledger = Ledger(tmp_path / "ledger.db", Presence(tmp_path / "leases"))
    for day in (NOW.date() - timedelta(days=8), NOW.date() - timedelta(days=6), NOW.date()):
        await ledger.spend(day, KEY, 1.0)
    await ledger.accept_claimed(envelope("cli:1"), NOW)
    assert [await ledger.spent(NOW.date() - timedelta(days=days)) for days in (8, 6, 0)] == [0, 1, 1]
    await ledger.close()


async def test_what_cannot_be_stored_costs_itself_only(tmp_path: Path) -> None:
    """Whoever asked at the same moment gets what they asked for."""
    ledger = Ledger(tmp_path / "ledger.db", Presence(tmp_path / "leases"))
    await ledger.spent(NOW.date())
    good, bad, also = await asyncio.gather(
        ledger.accept_claimed(envelope("cli:1"), NOW),
        ledger.pairings.revoke(10**30),
        ledger.accept_claimed(envelope("cli:2"), NOW),
        return_exceptions=True,
    )
    assert (good, also) == (True, True)
    assert isinstance(bad, OverflowError)
    await ledger.close()


async def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    """The line says which file, and that no conversation is in it."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is no database" * 100)
    ledger = Ledger(path, Presence(tmp_path / "leases"))
    with pytest.raises(LedgerError, match=r"ledger\.db.*no conversation"):
        await ledger.spent(date(2026, 11, 20))
    await ledger.close()


async def test_the_ledger_is_its_owners_only(tmp_path: Path) -> None:
    """Whatever the umask, nobody else reads what people wrote."""
    ledger = Ledger(tmp_path / "data" / "ledger.db", Presence(tmp_path / "data" / "leases"))
    await ledger.spent(date(2026, 11, 20))
    await ledger.close()
    assert (tmp_path / "data" / "ledger.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_marks_of_the_dead_are_cleared_away(tmp_path: Path) -> None:
    """A crashed process leaves nothing for ever."""
    (tmp_path / "process-of-long-ago").touch()
    presence = Presence(tmp_path)
    presence.announce()
    assert [path.name for path in tmp_path.iterdir()] == [presence.name]
    assert presence.is_alive(presence.name)
    presence.leave()
    assert list(tmp_path.iterdir()) == []
    assert not presence.is_alive(presence.name)


async def test_a_ledger_deleted_while_it_is_open_is_written_anew(tmp_path: Path) -> None:
    """What was acknowledged does not go with the file's name."""
    dead, living = Presence(tmp_path / "leases"), Presence(tmp_path / "leases")
    first = Ledger(tmp_path / "ledger.db", dead)
    await first.accept_claimed(envelope("cli:1"), NOW)
    for name in os.listdir(tmp_path):
        if name.startswith("ledger.db"):
            os.unlink(tmp_path / name)
    await first.accept_claimed(envelope("cli:2"), NOW)
    await first.close()
    dead.leave()
    second = Ledger(tmp_path / "ledger.db", living)
    assert [row.envelope.source_id for row in await second.claim_orphans(KEY, "cli:")] == ["cli:1", "cli:2"]
    assert (tmp_path / "ledger.db").stat().st_mode & 0o777 == 0o600
    await second.close()
    living.leave()


async def test_two_processes_agree_on_the_ledger_written_anew(tmp_path: Path) -> None:
    """The first puts it back, the second goes on with that."""
    one, two = (Ledger(tmp_path / "ledger.db", Presence(tmp_path / "leases")) for _ in range(2))
    await one.accept_claimed(envelope("cli:1"), NOW)
    await two.accept_claimed(envelope("cli:2"), NOW)
    for name in os.listdir(tmp_path):
        if name.startswith("ledger.db"):
            os.unlink(tmp_path / name)
    await one.accept_claimed(envelope("cli:3"), NOW)
    assert not await two.accept_claimed(envelope("cli:3"), NOW)
    assert not await one.accept_claimed(envelope("cli:2"), NOW)
    await one.close()
    await two.close()
