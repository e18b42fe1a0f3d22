"""`nanochat why` and `nanochat telegram`: what became of a message, and who may send one."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest

from nanochat.ledger import Ledger
from nanochat.ports import Envelope
from nanochat.process.liveness import Presence
from tests.cli.conftest import Nanochat
from tests.fakes.office import KEY, Office


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory in which one message was answered, one was poison, and one waits."""
    directory = tmp_path / "data"
    directory.mkdir()

    async def live() -> None:
        office = Office(directory)
        await office.open()
        await office.put("hi", "memory:1")
        await office.worker.accept(Envelope("memory:2", KEY, "{no json"))
        await office.shown("echo: hi")
        await office.worker.rest()
        await office.leave()
        await office.put("later", "memory:3")
        await office.close()

    asyncio.run(live())
    return directory


def test_all_of_them(nanochat: Nanochat, data: Path) -> None:
    """The newest last, a line each."""
    ran = nanochat("why")
    assert ran.code == 0
    first, second, third = ran.out.splitlines()
    assert "memory:1  memory:1  delivered" in first
    assert first.endswith("as 1")
    assert "put aside: it cannot be read" in second
    assert "JSONDecodeError" in second
    assert third.endswith("memory:3  memory:1  waiting")
    assert nanochat("why", "-n", "1").out == third + "\n"


def test_of_a_source_or_a_session(nanochat: Nanochat, data: Path) -> None:
    """`memory:1` is both here: a session with three messages, one of which has that name."""
    assert len(nanochat("why", "memory:1").out.splitlines()) == 3
    assert len(nanochat("why", "memory:2").out.splitlines()) == 1


def test_as_json(nanochat: Nanochat, data: Path) -> None:
    """An object each, with `key`, and times with an offset."""
    first, *_ = [json.loads(line) for line in nanochat("why", "--json").out.splitlines()]
    assert (first["key"], first["source_id"], first["state"]) == ("memory:1", "memory:1", "delivered")
    assert first["message_ids"] == ["1"]
    assert datetime.fromisoformat(first["finished_at"]).tzinfo is not None


def test_it_changes_nothing(nanochat: Nanochat, data: Path) -> None:
    """Not a file, not an mtime."""
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    nanochat("why")
    nanochat("telegram", "pairings")
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_an_unknown_one(nanochat: Nanochat, tmp_path: Path) -> None:
    """It says so, and makes nothing."""
    ran = nanochat("why", "telegram:1:2")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "nanochat: nothing is known of telegram:1:2; messages are known for 7 days\n"
    assert nanochat("why").code == 0
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "command",
    [("why",), ("cron", "history"), ("cron", "next"), ("cron", "remove"), ("telegram", "pair")],
    ids=lambda command: " ".join(command),
)
def test_bytes_that_are_no_text(nanochat: Nanochat, command: tuple[str, ...]) -> None:
    """They name nothing that there is, and are told so in one line."""
    ran = nanochat(*command, "tea\udcff")
    assert (ran.code, ran.out) == (1, "")
    assert len(ran.err.splitlines()) == 1
    assert "internal error" not in ran.err


def test_a_ledger_that_nobody_has_written(nanochat: Nanochat, tmp_path: Path) -> None:
    """An empty file is one in which nothing stands."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.db").touch()
    assert nanochat("telegram", "pairings").code == 0
    assert nanochat("why").code == 0


def test_a_terminals_message(nanochat: Nanochat) -> None:
    """It is told of as well."""
    nanochat("-m", "hi")
    assert nanochat("why", "cli:default").out.rstrip().split("  ")[3] == "answered"


def offer(directory: Path, user_id: int, name: str) -> str:
    async def ask() -> str:
        presence = Presence(directory / "leases")
        ledger = Ledger(directory / "ledger.db", presence)
        code = await ledger.pairings.offer(user_id, name)
        await ledger.close()
        presence.leave()
        assert code is not None
        return code

    return asyncio.run(ask())


def test_pairing(nanochat: Nanochat, tmp_path: Path) -> None:
    """A code lets in, once; the list tells; revoking ends it."""
    code = offer(tmp_path / "data", 42, "Olga\x1b[2J")
    assert f"nanochat telegram pair {code}" in nanochat("telegram", "pairings").out
    ran = nanochat("telegram", "pair", code.lower())
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert "(42) may talk to the bot now" in ran.out
    assert nanochat("telegram", "pair", code).code == 1
    (row,) = [json.loads(line) for line in nanochat("telegram", "pairings", "--json").out.splitlines()]
    assert (row["id"], row["code"]) == (42, None)
    assert row["paired_at"]
    assert nanochat("telegram", "revoke", "42").code == 0
    assert nanochat("telegram", "pairings").out == ""


def test_revoking_what_is_no_id(nanochat: Nanochat) -> None:
    """One line, and 2."""
    ran = nanochat("telegram", "revoke", "99999999999999999999")
    assert (ran.code, ran.out) == (2, "")
    assert "99999999999999999999" in ran.err


def test_a_wrong_code(nanochat: Nanochat) -> None:
    """One line, and 1."""
    ran = nanochat("telegram", "pair", "NONSENSE")
    assert (ran.code, ran.out) == (1, "")
    assert "there is no pairing code 'NONSENSE'" in ran.err


def test_revoking_whom_the_settings_allow(nanochat: Nanochat, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where the person still stands."""
    monkeypatch.setenv("NANOCHAT_TELEGRAM__ALLOW", "42")
    ran = nanochat("telegram", "revoke", "42")
    assert ran.code == 1
    assert ran.err == "nanochat: 42 still stands in telegram.allow of the settings\n"
    assert nanochat("telegram", "revoke", "43").err == (
        "nanochat: 43 is not paired; nanochat telegram pairings lists who is\n"
    )
