"""`nanochat usage`: what conversations took, in rows, as JSON and drawn."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nanochat.keys import SessionKey
from nanochat.ledger import Ledger
from nanochat.process.liveness import Presence
from nanochat.records import Compact, Event, Message, Rewind, TurnEnd, Usage
from nanochat.store import FileStore
from tests.cli.conftest import Nanochat
from tests.terminal.pty_driver import driven

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MODEL = "claude-sonnet-5-5"

Put = Callable[..., None]


def turn(n: int = 1, usd: float | None = 0.5, **changed: str) -> TurnEnd:
    """The record of a turn that read 100 tokens, 60 of them from the cache."""
    named = {"model": MODEL, "origin": "owner"} | changed
    return TurnEnd(
        f"test:{n}", "done", named["model"], usage=Usage(10, 60, 20, 10, 5), cost_usd=usd, origin=named["origin"]
    )


SUMMARY = Compact("old news", 0, 0, "claude-haiku-5-5", "budget", 7, Usage(1000, 0, 0, 0, 50), 0.125)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_TIMEZONE", "Europe/Prague")
    return tmp_path / "data"


@pytest.fixture
def put(data: Path) -> Put:
    """Appends records to a session, each at `at`."""

    def append(key: str, *drafts: Message | Event, at: datetime = NOON) -> None:
        async def write() -> None:
            store = FileStore(data / "sessions")
            await store.append(SessionKey.parse(key), drafts, known=0, durable=False, now=at)
            await store.close()

        asyncio.run(write())

    return append


def archive(data: Path, name: str) -> None:
    """Put a session's file away, as `sessions archive` does."""
    (data / "archive").mkdir(exist_ok=True)
    (data / "sessions" / f"{name}.jsonl").rename(data / "archive" / f"{name}.20261120T175800Z.jsonl")


# --- rows --------------------------------------------------------------------------------------------------------------


def test_all_sessions(nanochat: Nanochat, put: Put) -> None:
    """A row each, the dearest first, and their sum; what was undone counts."""
    put("cli:default", Message("user", "hi", NOON), turn(), Rewind(0, 0, "undo"))
    put("telegram:77", turn(1, 1.25), turn(2, 1234.5), SUMMARY)
    ran = nanochat("usage")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "session      turns  input  cache read  cache write  output  cached         cost",
        "telegram:77      2  1,020         120           60      60   10.0%  $1,235.8750",
        "cli:default      1     10          60           30       5   60.0%      $0.5000",
        "-------------------------------------------------------------------------------",
        "total            3  1,030         180           90      65   13.8%  $1,236.3750",
        "summaries of older messages included: 1",
    ]


def test_a_wide_table_that_is_piped(nanochat: Nanochat, put: Put) -> None:
    """Every digit and every name is there, however long the lines are."""
    key = "telegram:" + "1234567890" * 6
    put(key, replace(turn(), usage=Usage(10**9, 10**10, 10**9, 0, 10**9)))
    row = nanochat("usage").out.splitlines()[1]
    assert row.split() == [key, "1", f"{10**9:,}", f"{10**10:,}", f"{10**9:,}", f"{10**9:,}", "83.3%", "$0.5000"]


def test_one_session(nanochat: Nanochat, put: Put) -> None:
    """Its days, as the settings' zone has them; a single row needs no sum."""
    put("cli:default", turn(), at=NOON)
    put("cli:default", turn(), at=datetime(2026, 11, 20, 23, 30, tzinfo=UTC))
    put("telegram:77", turn())
    rows = nanochat("usage", "cli:default").out.splitlines()
    assert [row.split()[0] for row in rows[1:3]] == ["2026-11-20", "2026-11-21"]
    assert rows[-1].split()[:2] == ["total", "2"]
    assert len(nanochat("usage", "telegram:77").out.splitlines()) == 2


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        pytest.param("session", ["cron:morning", "cli:default"], id="session"),
        pytest.param("day", ["2026-11-20"], id="day"),
        pytest.param("model", [MODEL, "claude-haiku-5-5"], id="model"),
        pytest.param("origin", ["cron:morning", "owner", "(unknown)", "summary"], id="origin"),
    ],
)
def test_by(nanochat: Nanochat, put: Put, by: str, expected: list[str]) -> None:
    """Rows stand for what is asked; a job spends in its own name."""
    fire = TurnEnd("cron:morning:2026-11-20T07:00:00Z", "done", MODEL, usage=Usage(1), cost_usd=2.0, origin="owner")
    put("cli:default", turn(), SUMMARY, turn(2, 0.25, origin=""))
    put("cron:morning", fire)
    rows = [json.loads(line) for line in nanochat("usage", "--by", by, "--json").out.splitlines()]
    names = [row["key" if by == "session" else by] or "(unknown)" for row in rows]
    assert names == expected
    table = nanochat("usage", "--by", by).out.splitlines()
    assert [line.split()[0] for line in table[1 : len(names) + 1]] == expected


def test_as_json(nanochat: Nanochat, put: Put) -> None:
    """An object each, with numbers as they are; of one session with its key."""
    put("cli:default", turn(), turn(2, None), SUMMARY)
    (row,) = [json.loads(line) for line in nanochat("usage", "--json").out.splitlines()]
    assert row == {
        "key": "cli:default",
        "archived": False,
        "turns": 2,
        "summaries": 1,
        "input": 1020,
        "cache_read": 120,
        "cache_write": 60,
        "output": 60,
        "cost_usd": 0.625,
        "cache_share": 0.1,
        "unpriced": 1,
    }
    (row,) = [json.loads(line) for line in nanochat("usage", "cli:default", "--json").out.splitlines()]
    assert (row["key"], row["day"]) == ("cli:default", "2026-11-20")


def test_a_price_that_is_not_known(nanochat: Nanochat, put: Put) -> None:
    """It is told, and not taken for nothing."""
    put("cli:default", turn(1, None, model="other"), turn(2, None), turn(3))
    rows = nanochat("usage", "--by", "model").out.splitlines()
    assert rows[1].endswith(" >$0.5000")
    assert rows[2].endswith(" unknown")
    assert rows[-1] == "2 turns of unknown price not in the cost"
    (known, unknown) = [json.loads(line) for line in nanochat("usage", "--by", "model", "--json").out.splitlines()]
    assert (known["cost_usd"], unknown["cost_usd"]) == (0.5, None)


def test_what_was_put_away(nanochat: Nanochat, put: Put, data: Path) -> None:
    """It was paid for: a row beside that of the session which goes on under the key, and part of everything else."""
    put("cli:default", turn(1, 2.0))
    archive(data, "cli+default")
    put("cli:default", turn())
    put("telegram:77", turn(1, 0.1))
    archive(data, "telegram+77")
    rows = nanochat("usage").out.splitlines()
    names = ["cli:default (archived)", "cli:default", "telegram:77 (archived)"]
    assert [re.split("  +", row)[0] for row in rows[1:4]] == names
    assert nanochat("usage", "cli:default").out.splitlines()[-1].split()[:2] == ["2026-11-20", "2"]
    assert nanochat("usage", "telegram:77").code == 0


@pytest.mark.parametrize(
    ("options", "turns"),
    [
        pytest.param(["--since", "2026-11-20"], 2, id="since"),
        pytest.param(["--until", "2026-11-19"], 1, id="until, with it"),
        pytest.param(["--since", "2026-11-19", "--until", "2026-11-20"], 2, id="both"),
    ],
)
def test_a_period(nanochat: Nanochat, put: Put, options: list[str], turns: int) -> None:
    """Only what lies in it counts."""
    put("cli:default", turn(), at=NOON - timedelta(days=1))
    put("cli:default", turn(), at=NOON)
    put("cli:default", turn(), at=NOON + timedelta(days=1))
    ran = nanochat("usage", "--by", "origin", *options, "--json")
    assert json.loads(ran.out)["turns"] == turns


@pytest.mark.parametrize(
    ("options", "turns"),
    [
        pytest.param(["--since", "today"], 1, id="today"),
        pytest.param(["--since", "yesterday"], 1, id="yesterday"),
        pytest.param(["--since", "7d"], 2, id="seven days ago"),
        pytest.param(["--since", "9999d"], 2, id="many days ago"),
        pytest.param(["--until", "yesterday"], 1, id="until yesterday"),
    ],
)
def test_a_period_up_to_now(nanochat: Nanochat, put: Put, options: list[str], turns: int) -> None:
    """Days are counted back from today."""
    put("cli:default", turn(), at=datetime.now(UTC) - timedelta(days=5))
    put("cli:default", turn(), at=datetime.now(UTC))
    ran = nanochat("usage", "--by", "origin", *options, "--json")
    assert json.loads(ran.out)["turns"] == turns


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        pytest.param(["--since", "last week"], 2, "--since: 'last week' is not a day; it takes", id="no day"),
        pytest.param(["--until", "2026-13-01"], 2, "--until: '2026-13-01' is not a day", id="no month"),
        pytest.param(
            ["--since", "2026-11-20", "--until", "2026-11-19"], 2, "is after --until", id="the wrong way round"
        ),
        pytest.param(["--plot", "--json"], 2, "--plot is for people", id="two ways at once"),
        pytest.param(["--by", "hour"], 2, "'hour' is not one of", id="no such row"),
        pytest.param(["default"], 2, "did you mean cli:default?", id="no key"),
        pytest.param(["cli:other"], 1, "there is no session cli:other", id="no such session"),
        pytest.param(["cli:other", "--plot"], 1, "there is no session cli:other", id="no such session to draw"),
        pytest.param(
            ["--plot"], 2, "--plot takes the KEY of a session, since there is none called cli:default", id="which?"
        ),
    ],
)
def test_wrong_use(nanochat: Nanochat, put: Put, args: list[str], code: int, says: str) -> None:
    """One line that says what it takes, and nothing else."""
    put("telegram:77", turn())
    ran = nanochat("usage", *args)
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("args", [[], ["--json"], ["--plot"], ["--by", "day"]], ids=" ".join)
def test_nothing_yet(nanochat: Nanochat, data: Path, args: list[str]) -> None:
    """It says so, is no failure, and makes nothing."""
    ran = nanochat("usage", *args)
    assert (ran.code, ran.out, ran.err) == (0, "", "nanochat: there are no turns yet\n")
    assert not data.exists()


def test_nothing_in_a_session(nanochat: Nanochat, put: Put) -> None:
    """The same of one, and of a time."""
    put("cli:default", Message("user", "hi", NOON))
    put("telegram:77", turn())
    assert nanochat("usage", "cli:default").err == "nanochat: session cli:default has no turns yet\n"
    assert nanochat("usage", "--until", "2020-01-01").err == "nanochat: there are no turns in that time\n"


def test_a_file_that_cannot_be_read(nanochat: Nanochat, put: Put, data: Path) -> None:
    """It is named, the others are counted, and the exit code tells."""
    put("cli:default", turn())
    (data / "sessions" / "telegram+7.jsonl").symlink_to("elsewhere")
    ran = nanochat("usage", "--json")
    assert ran.code == 1
    assert [json.loads(line)["key"] for line in ran.out.splitlines()] == ["cli:default"]
    assert "session telegram:7: " in ran.err
    assert ran.err.endswith("is not a regular file; move it away; it is left out\n")


def test_it_changes_nothing(nanochat: Nanochat, put: Put, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a file, not an mtime."""
    put("cli:default", turn())
    spend(data, 0.5)
    monkeypatch.setenv("NANOCHAT_LIMITS__USD_PER_DAY", "5")
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    for args in ([], ["--plot"], ["--by", "day"], ["cli:default", "--json"]):
        assert nanochat("usage", *args).code == 0
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_names_do_not_steer_the_terminal(nanochat: Nanochat, put: Put) -> None:
    """What a record says is shown, not obeyed."""
    put("cli:default", turn(origin="\x1b[2Jx", model="\x1b]0;y"))
    for by in ("origin", "model"):
        for drawn in ((), ("--plot",)):
            assert "\x1b" not in nanochat("usage", "--by", by, *drawn).out


# --- caps --------------------------------------------------------------------------------------------------------------


def spend(data: Path, usd: float) -> None:
    """Write down what today has cost."""

    async def write() -> None:
        presence = Presence(data / "leases")
        ledger = Ledger(data / "ledger.db", presence)
        await ledger.spend(datetime.now(ZoneInfo("Europe/Prague")).date(), SessionKey("cli", "gone"), usd)
        await ledger.close()
        presence.leave()

    asyncio.run(write())


@pytest.fixture
def capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_LIMITS__USD_PER_DAY", "5")
    monkeypatch.setenv("NANOCHAT_LIMITS__USD_PER_SESSION", "10")


@pytest.mark.usefixtures("capped")
def test_caps(nanochat: Nanochat, put: Put, data: Path) -> None:
    """What is used of them: of the day's by all, of the session's by what is in use under its key."""
    spend(data, 0.25)
    put("cli:default", turn(1, 9.0))
    archive(data, "cli+default")
    put("cli:default", turn(1, 0.5), turn(2, 1.0))
    put("telegram:77", turn(1, 2.0))
    assert nanochat("usage").out.splitlines()[-2:] == [
        "today, all sessions: $0.2500 of $5.00 (5.0%), limits.usd_per_day",
        "the dearest session in use, telegram:77: $2.0000 of $10.00 (20.0%), limits.usd_per_session",
    ]
    whole = "this session: $1.5000 of $10.00 (15.0%), limits.usd_per_session"
    assert nanochat("usage", "cli:default").out.splitlines()[-1] == whole
    assert nanochat("usage", "cli:default", "--since", "2026-11-20").out.splitlines()[-1] == whole
    assert "limits" not in nanochat("usage", "--json").out


@pytest.mark.usefixtures("capped")
def test_a_ledger_that_cannot_be_read(nanochat: Nanochat, put: Put, data: Path) -> None:
    """The rows are there, and one line says why the cap is not."""
    put("cli:default", turn())
    (data / "ledger.db").write_bytes(b"no database" * 100)
    ran = nanochat("usage")
    assert ran.code == 1
    assert ran.out.splitlines()[1].startswith("cli:default")
    assert ran.err.startswith(f"nanochat: ledger {data / 'ledger.db'}: file is not a database")


# --- drawings ----------------------------------------------------------------------------------------------------------


def test_the_growth_of_a_conversation(nanochat: Nanochat, put: Put) -> None:
    """What each turn read, and what all have cost; of the default session where none is named. Plain, and 80 by 24 at most."""
    put("telegram:77", turn())
    for day in range(10):
        put("cli:default", turn(), SUMMARY, at=NOON + timedelta(days=day))
    ran = nanochat("usage", "--plot")
    lines = ran.out.splitlines()
    assert lines[0] == "cli:default: 10 turns, 2026-11-20 to 2026-11-29"
    assert lines[1] == "tokens read per turn:  █ new  ░ from cache (60.0%)"
    assert "cost so far, by turn: $6.2500" in lines
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in ran.out
    tallest = [line for line in lines if "░" in line and "┤" not in line]
    assert tallest
    assert sum(line.count("░") for line in lines) / sum(line.count("█") for line in lines) == pytest.approx(
        1.5, rel=0.4
    )


def test_more_turns_than_columns(nanochat: Nanochat, put: Put) -> None:
    """Several share one, which is said, and the axis tells their numbers."""
    put("cli:default", *(turn(n, 0.001) for n in range(1000)))
    lines = nanochat("usage", "cli:default", "--plot").out.splitlines()
    assert lines[0].startswith("cli:default: 1,000 turns, 2026-11-20")
    assert ", mean of 14:" in lines[1]
    assert re.search(r"^ +1 +200 +400 +600 +800 +1,000$", "\n".join(lines), re.MULTILINE)
    assert max(map(len, lines)) <= 80


def test_free_turns(nanochat: Nanochat, put: Put) -> None:
    """Without money there is one panel, and days are drawn by their tokens."""
    put("cli:default", turn(1, 0.0))
    assert nanochat("usage", "--plot").out.splitlines()[-1] == "cost so far, by turn: $0.0000"
    assert nanochat("usage", "--plot", "--by", "day").out.startswith("tokens per day: 105 in all, 2026-11-20\n")
    assert nanochat("usage", "--plot", "--by", "session").out.splitlines() == [
        "tokens: 105 in all",
        f"cli:default  {'█' * 62}  105",
    ]


def test_days_drawn(nanochat: Nanochat, put: Put) -> None:
    """Those without a turn have their place too."""
    put("cli:default", turn(1, 1.0), at=NOON)
    put("telegram:77", turn(1, 3.0), at=NOON + timedelta(days=2))
    lines = nanochat("usage", "--plot", "--by", "day").out.splitlines()
    assert lines[0] == "cost per day: $4.0000 in all, 2026-11-20 to 2026-11-22"
    assert lines[-1].split() == ["11-20", "11-21", "11-22"]
    assert lines[-3] == "$0.00┤███████         ███████"
    assert len(lines) <= 24


def test_years_drawn(nanochat: Nanochat, put: Put) -> None:
    """Days share columns where there are more of them."""
    put("cli:default", turn(1, 0.5), at=NOON - timedelta(days=730))
    put("cli:default", turn(1, 0.001), at=NOON)
    lines = nanochat("usage", "--plot", "--by", "day").out.splitlines()
    assert lines[0].startswith("cost per 10 days: $0.5010 in all, 2024-11-20 to 2026-11-20")
    assert max(map(len, lines)) <= 80


def test_rows_drawn(nanochat: Nanochat, put: Put) -> None:
    """As long as they are dear; what cost next to nothing is still seen."""
    put("cli:default", turn(1, 0.0001))
    put("telegram:77", turn(1, 3.0))
    put("telegram:78", turn(1, 1.5))
    dear, half, least = nanochat("usage", "--plot", "--by", "session").out.splitlines()[1:]
    assert dear.count("█") == 2 * half.count("█")
    assert "▏" in least
    assert {len(line) for line in (dear, half, least)} == {80}


def test_on_a_terminal(put: Put, data: Path) -> None:
    """A narrow one: numbers in thousands, names cut in their middle, nothing wrapped; and drawings have colours."""
    key = "telegram:" + "1234567890" * 6
    put(key, *(turn(n, 1.0) for n in range(3000)))
    put("cli:default", turn())
    environ = {"NANOCHAT_DATA_DIR": str(data), "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "nanochat", "usage"]
    with driven(command, environ=environ, columns=80) as program:
        assert program.exit_code() == 0
        head, long, *_ = program.screen.lines
        assert len(program.screen.lines) == 5
        assert len(head) == len(long) == 80
        assert long.startswith("telegram:123…901234567890 ")
        assert " 180,000 " in long
    with driven(command, environ=environ, columns=66) as program:
        assert program.exit_code() == 0
        head, long, *_ = program.screen.lines
        assert len(program.screen.lines) == 5
        assert len(head) == len(long) <= 66
        assert " 180k " in long
    with driven([*command, "--plot", "--by", "session"], environ=environ | {"NO_COLOR": ""}, columns=60) as program:
        assert program.exit_code() == 0
        assert program.graphics & {2, 32, 38}
        assert all(len(line) <= 60 for line in program.screen.lines)
