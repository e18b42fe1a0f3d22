"""`nanochat sessions search`."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanochat.keys import SessionKey
from nanochat.records import Message
from nanochat.store import FileStore
from tests.cli.conftest import Nanochat
from tests.terminal.pty_driver import driven

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two conversations about the tide, a day apart, told in a zone of five hours and a half."""
    monkeypatch.setenv("NANOCHAT_TIMEZONE", "Asia/Kolkata")
    directory = tmp_path / "data"

    async def write() -> None:
        store = FileStore(directory / "sessions")
        for key, role, text, at in (
            ("cli:work", "user", "when is high tide?", NOON - timedelta(days=1)),
            ("cli:work", "assistant", "High tide is at six.", NOON - timedelta(days=1, seconds=-5)),
            ("http:[1]", "user", "low water", NOON),
            ("telegram:1", "user", "a naïve \x1b[2J question\nabout the tide", NOON),
        ):
            known = await store.catch_up(SessionKey.parse(key), 0)
            await store.append(SessionKey.parse(key), [Message(role, text, at)], known=known.end, durable=False, now=at)
        await store.close()

    asyncio.run(write())
    return directory


def test_newest_first(nanochat: Nanochat) -> None:
    """A line each: where, when, who, and the words around; nothing that steers a terminal."""
    ran = nanochat("sessions", "search", "tide")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "telegram:1  2026-11-20 17:30  user  a naïve [2J question about the tide",
        "cli:work  2026-11-19 17:30  assistant  High tide is at six.",
        "cli:work  2026-11-19 17:30  user  when is high tide?",
    ]


@pytest.mark.parametrize(
    ("args", "count"),
    [
        pytest.param(("high", "tide"), 2, id="two words"),
        pytest.param(('"tide is"',), 1, id="a phrase"),
        pytest.param(("NAIVE",), 1, id="accents"),
        pytest.param(("que*",), 1, id="a beginning"),
        pytest.param(("tide", "--key", "cli:work"), 2, id="a key"),
        pytest.param(("tide", "--key", "cli:*", "--key", "telegram:*"), 3, id="globs"),
        pytest.param(("water", "--key", "http:[1]"), 1, id="a key that looks like a glob"),
        pytest.param(("tide", "--role", "assistant"), 1, id="a role"),
        pytest.param(("tide", "--role", "user", "--role", "assistant"), 3, id="roles"),
        pytest.param(("tide", "-n", "1"), 1, id="a limit"),
        pytest.param(("tide", "--since", "2026-11-20"), 1, id="since a day"),
        pytest.param(("tide", "--until", "2026-11-19"), 2, id="until a day, with it"),
        pytest.param(("tide", "--since", "2026-11-20T17:30"), 1, id="since a time"),
        pytest.param(("tide", "--until", "2026-11-20T17:30"), 2, id="until a time, without it"),
        pytest.param(("tide", "--until", "2026-11-20T12:00:00.000001+00:00"), 3, id="a time with its offset"),
    ],
)
def test_what_is_asked_for(nanochat: Nanochat, args: tuple[str, ...], count: int) -> None:
    """Words, where, who and when."""
    ran = nanochat("sessions", "search", *args)
    assert (ran.code, len(ran.out.splitlines())) == (0, count)


def test_days_ago(nanochat: Nanochat) -> None:
    """Counted from today's midnight, wherever the clock stands."""
    assert nanochat("sessions", "search", "tide", "--since", "9999d").code == 0
    assert nanochat("sessions", "search", "tide", "--until", "9999d").code == 1


def test_as_json(nanochat: Nanochat) -> None:
    """An object each, with `key`, a time with its offset, and the whole text."""
    ran = nanochat("sessions", "search", "naive", "--json")
    [row] = [json.loads(line) for line in ran.out.splitlines()]
    assert list(row) == ["key", "n", "role", "at", "text", "excerpt"]
    assert (row["key"], row["n"], row["role"]) == ("telegram:1", 0, "user")
    assert datetime.fromisoformat(row["at"]) == NOON
    assert row["text"] == "a naïve \x1b[2J question\nabout the tide"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        pytest.param(("whale",), 1, "nothing found for whale", id="nothing"),
        pytest.param(("tide", "--key", "slack:*"), 1, "no session matches slack:*", id="no such sessions"),
        pytest.param(
            ("tide", "--key", "cli:wrok"), 1, "no session cli:wrok; did you mean cli:work?", id="no such session"
        ),
        pytest.param(("tide", "--key", "work"), 2, "did you mean cli:work?", id="no key"),
        pytest.param(("!!",), 1, "there is no word in '!!'", id="no word"),
        pytest.param((), 2, "missing argument", id="no argument"),
        pytest.param(("tide", "--role", "tool"), 2, "is not one of", id="no role"),
        pytest.param(("tide", "--since", "noon"), 2, "--since: 'noon' is not a day; it takes 2026-11-20", id="no day"),
        pytest.param(("tide", "--since", "2026-02-30"), 2, "is not a day", id="no such day"),
        pytest.param(("tide", "--since", "today", "--until", "7d"), 2, "is after --until", id="backwards"),
        pytest.param(("tide", "--until", "9999-12-31"), 2, "is not a day", id="the end of time"),
        pytest.param(("tide", "-n", "0"), 2, "0 is not in the range", id="no limit"),
    ],
)
def test_what_cannot_be_found(nanochat: Nanochat, args: tuple[str, ...], code: int, words: str) -> None:
    """One line, with the way on."""
    ran = nanochat("sessions", "search", *args)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("nanochat: ")
    assert words in ran.err
    assert ran.err.count("\n") == 1


def test_a_file_that_cannot_be_read(nanochat: Nanochat, data: Path) -> None:
    """It is named, and the rest is searched."""
    (data / "sessions" / "cli+dir.jsonl").mkdir()
    ran = nanochat("sessions", "search", "tide")
    assert (ran.code, len(ran.out.splitlines())) == (0, 3)
    assert "session cli:dir" in ran.err
    assert ran.err.endswith("is not a regular file; move it away; it is left out\n")


def test_without_conversations(nanochat: Nanochat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found, and nothing made."""
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "none"))
    assert nanochat("sessions", "search", "tide").code == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("environ", "mark"),
    [pytest.param({}, "\x1b[1;33m", id="colour"), pytest.param({"NO_COLOR": "1"}, "\x1b[1m", id="no colour")],
)
def test_on_a_terminal(environ: dict[str, str], mark: str) -> None:
    """The words stand out, and where and when is beside the point."""
    command = [sys.executable, "-m", "nanochat", "sessions", "search", "naive", "tide"]
    with driven(command, environ=environ) as terminal:
        assert terminal.exit_code() == 0
    head, text = terminal.raw.splitlines()
    assert head == "\x1b[2mtelegram:1  2026-11-20 17:30  user\x1b[0m"
    assert text == f"  a {mark}naïve\x1b[0m [2J question about the {mark}tide\x1b[0m"
