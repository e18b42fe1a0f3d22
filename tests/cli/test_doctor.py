"""`nanochat doctor`: each thing that can be wrong is named, with what mends it, and nothing is changed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanochat.cli.checks import reach, serving, storage
from nanochat.cli.checks.finding import Finding
from nanochat.config import Config, Endpoint, Http, Secrets
from nanochat.daemon import lock
from nanochat.keys import SessionKey
from nanochat.ledger import Ledger
from nanochat.ports import Envelope
from nanochat.process.liveness import Presence
from nanochat.store import FileStore
from tests.cli.conftest import Nanochat, Ran
from tests.fakes.bot_api import FakeBotAPI
from tests.fakes.messages_api import FakeMessagesAPI
from tests.fakes.plain_http import PlainAnswer, plain_http
from tests.fakes.rights import ordinary_rights
from tests.terminal.pty_driver import driven

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOKEN = "123456:AAE-a-token-that-nobody-must-see-anywhere"
KEY = "sk-ant-a-key-that-nobody-must-see-anywhere"


@pytest.fixture
def data(nanochat: Nanochat, tmp_path: Path) -> Path:
    """A data directory in which somebody has talked."""
    assert nanochat("-m", "hello").code == 0
    return tmp_path / "data"


@dataclass(frozen=True, slots=True)
class Report:
    """What the doctor said."""

    code: int
    rows: list[dict[str, str]]

    def of(self, check: str) -> list[dict[str, str]]:
        return [row for row in self.rows if row["check"] == check]

    def bad(self) -> list[str]:
        return [f"{row['state']} {row['check']}: {row['found']}" for row in self.rows if row["state"] != "ok"]


@pytest.fixture
def examined(nanochat: Nanochat, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """Asks the doctor, with settings from the environment; without the network unless it is asked for."""

    def examine(*args: str, **environ: str) -> Report:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        ran = nanochat("doctor", "--json", *args)
        assert ran.err == ""
        return Report(ran.code, [json.loads(line) for line in ran.out.splitlines()])

    return examine


Examined = Callable[..., Report]


# --- as it is told ---


def test_nothing_is_there_yet(nanochat: Nanochat, tmp_path: Path) -> None:
    """Only that there is no key is worth a look; one line per check, no colour, and nothing is made."""
    ran = nanochat("doctor")
    assert ran.code == 0
    states = [line.split()[0] for line in ran.out.splitlines()]
    assert (states.count("wrong"), states.count("warning")) == (0, 1)
    assert "→ export ANTHROPIC_API_KEY=…" in ran.out
    assert "\x1b" not in ran.out
    assert ran.err == f"nanochat: 0 wrong, 1 to look at, {states.count('ok')} ok\n"
    assert not (tmp_path / "data").exists()


def test_a_row_for_programs(data: Path, examined: Examined) -> None:
    """The four fields, and nothing else on standard output."""
    report = examined()
    assert {tuple(row) for row in report.rows} == {("check", "state", "found", "mend")}
    assert {row["state"] for row in report.rows} == {"ok", "warning"}
    assert report.of("sessions")[0]["found"] == "1 sound"
    assert report.of("ledger")[0]["state"] == "ok"


def test_it_changes_nothing(nanochat: Nanochat, data: Path) -> None:
    """Not a file, not an mtime."""
    before = {path: path.stat().st_mtime_ns for path in [data, *data.rglob("*")]}
    nanochat("doctor")
    assert {path: path.stat().st_mtime_ns for path in [data, *data.rglob("*")]} == before


def test_on_a_terminal() -> None:
    """The states have colours, and long lines are folded under their beginning."""
    with driven([sys.executable, "-m", "nanochat", "doctor"], environ={"PYTHONPATH": str(ROOT)}) as program:
        program.shows("to look at")
        assert program.exit_code() == 0
    assert {32, 33} <= program.graphics
    assert any(line.startswith(" " * 25 + "→ export ANTHROPIC_API_KEY=…") for line in program.screen.text.splitlines())


def test_without_colours() -> None:
    """Who does not want any gets none."""
    environ = {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    with driven([sys.executable, "-m", "nanochat", "doctor"], environ=environ) as program:
        program.shows("to look at")
        assert program.exit_code() == 0
    assert program.graphics == set()


# --- settings ---


def test_every_fault_of_the_settings(nanochat: Nanochat, data: Path, examined: Examined, tmp_path: Path) -> None:
    """Each is a row, and what does not depend on them is looked at all the same."""
    path = tmp_path / "n.toml"
    path.write_text('timezone = "Mars"\n[limits]\nwaitin = 3\nusd_per_day = "much"\n')
    report = examined("--config", str(path), NANOCHAT_HTP__PORT="1")
    assert report.code == 1
    assert [row["found"].removeprefix(f"{path}: ") for row in report.of("settings")] == [
        "environment: NANOCHAT_HTP__PORT is not a setting; did you mean NANOCHAT_HTTP__PORT?",
        "limits.waitin is not a setting; did you mean waiting?",
        "limits.usd_per_day is 'much': it takes a number from 0",
        "timezone is 'Mars': it takes the name of a time zone, as in 'Europe/Berlin'",
    ]
    assert report.of("settings")[0]["mend"] == "unset or correct it in the environment"
    assert report.of("settings")[1]["mend"] == f"correct it in {path}"
    assert report.of("sessions")[0]["found"] == "1 sound"
    assert report.of("network")


def test_a_file_that_is_not_there(examined: Examined, tmp_path: Path) -> None:
    """It tells how to have one made."""
    report = examined("--config", str(tmp_path / "no.toml"))
    assert report.code == 1
    assert report.of("settings")[0]["mend"] == "nanochat init makes one there"


def test_overrides_are_named(examined: Examined) -> None:
    """With the key that each stands for."""
    report = examined(NANOCHAT_LIMITS__WAITING="3")
    assert report.of("environment")[0]["found"] == "overrides: NANOCHAT_LIMITS__WAITING (limits.waiting)"


def test_a_credential_that_cannot_be_read(examined: Examined, tmp_path: Path) -> None:
    """It is a row like another."""
    (tmp_path / "anthropic_api_key").mkdir()
    report = examined(CREDENTIALS_DIRECTORY=str(tmp_path))
    assert report.code == 1
    assert "this credential cannot be read" in report.of("secrets")[0]["found"]


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"NANOCHAT_MODEL__PROVIDER": "anthropic"}, "wrong model key: model.provider is 'anthropic', but there is no"),
        ({"NANOCHAT_MODEL__BASE_URL": "http://localhost:1/v1"}, "wrong model key: model.base_url must not end in /v1"),
        ({"ANTHROPIC_API_KEY": "two\nlines"}, "wrong model key: the API key holds characters that no key has"),
        (
            {
                "NANOCHAT_MODEL__BASE_URL": "http://h:1",
                "NANOCHAT_MODEL__NAME": "m",
                "NANOCHAT_LIMITS__USD_PER_DAY": "1",
            },
            "wrong settings: limits.usd_per_day is set, but the price of model.name = 'm' is not known",
        ),
        ({"NANOCHAT_TELEGRAM__ENABLED": "1"}, "wrong telegram: telegram.enabled is true, and there is no token"),
        ({"TELEGRAM_BOT_TOKEN": "nonsense"}, "wrong telegram: TELEGRAM_BOT_TOKEN is not a bot token"),
        ({"TELEGRAM_BOT_TOKEN": TOKEN}, "warning telegram: TELEGRAM_BOT_TOKEN is set, and telegram.enabled is false"),
    ],
)
def test_what_is_missing_or_does_not_go_together(examined: Examined, environ: dict[str, str], told: str) -> None:
    """It says which key, and what to do."""
    report = examined("--offline", **environ)
    [line] = [line for line in report.bad() if line.startswith(told)]
    assert report.code == int(line.startswith("wrong"))
    assert all(row["mend"] for row in report.rows if row["state"] != "ok")


def test_jobs(examined: Examined, tmp_path: Path) -> None:
    """One that cannot be kept is named beside those that can; and a recipient that nothing is brought to."""
    path = tmp_path / "n.toml"
    path.write_text(
        '[[cron.jobs]]\nid = "bad"\ncron = "99 * * * *"\nkind = "text"\ntext = "x"\n'
        '[[cron.jobs]]\nid = "good"\ncron = "@daily"\nkind = "text"\ntext = "x"\ndeliver_to = "telegram:1"\n'
    )
    report = examined("--config", str(path), "--offline")
    wrong, warned, right = report.of("jobs")
    assert wrong["found"].startswith("job 'bad': cron: ")
    assert warned["found"] == "job 'good' delivers to telegram, which is not enabled"
    assert right["found"].startswith("1; next: good, ")
    assert report.of("daemon")[0]["found"] == "does not run; the jobs need it"
    assert [row["state"] for row in report.of("settings")] == ["ok"]


# --- the network ---


def ran_beside(nanochat: Nanochat, *args: str) -> asyncio.Future[Ran]:
    return asyncio.get_running_loop().run_in_executor(None, lambda: nanochat(*args))


async def test_everybody_answers(nanochat: Nanochat, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint takes the key, Telegram knows the bot, and no model was asked anything."""
    async with FakeMessagesAPI() as api, FakeBotAPI() as bot:
        for name, value in {
            "NANOCHAT_MODEL__BASE_URL": api.url,
            "NANOCHAT_MODEL_KEY": "test-key",
            "NANOCHAT_TELEGRAM__ENABLED": "true",
            "NANOCHAT_TELEGRAM__BASE_URL": bot.url,
            "TELEGRAM_BOT_TOKEN": bot.token,
        }.items():
            monkeypatch.setenv(name, value)
        ran = await ran_beside(nanochat, "doctor")
    assert ran.code == 0
    assert "and does not tell whether it knows claude-" in ran.out
    assert "and knows the bot as @nano_test_bot" in ran.out
    assert [call.method for call in bot.calls] == ["getMe"]
    assert all("messages" not in request.body for request in api.requests)


async def test_nobody_takes_what_is_sent(nanochat: Nanochat, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key and a wrong token are told from each other, and neither is shown, not even with --debug."""
    async with FakeMessagesAPI() as api, FakeBotAPI() as bot:
        for name, value in {
            "ANTHROPIC_BASE_URL": api.url,
            "ANTHROPIC_API_KEY": KEY,
            "NANOCHAT_MODEL_KEY": "another-secret",
            "NANOCHAT_HTTP_TOKEN": "a-third-secret",
            "NANOCHAT_TELEGRAM__ENABLED": "true",
            "NANOCHAT_TELEGRAM__BASE_URL": bot.url,
            "TELEGRAM_BOT_TOKEN": TOKEN,
        }.items():
            monkeypatch.setenv(name, value)
        ran = await ran_beside(nanochat, "doctor", "--debug", "--json")
    assert ran.code == 1
    rows = {row["check"]: row for row in map(json.loads, ran.out.splitlines())}
    assert rows["model"]["found"].endswith("the key is refused (401)")
    assert rows["model"]["mend"] == "set ANTHROPIC_API_KEY to a valid one"
    assert rows["telegram"]["found"].endswith("the token is refused (401)")
    for secret in (KEY, TOKEN, TOKEN.partition(":")[2], "another-secret", "a-third-secret"):
        assert secret not in ran.out + ran.err


async def test_offline_asks_nobody(nanochat: Nanochat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even who is near."""
    async with FakeMessagesAPI() as api:
        monkeypatch.setenv("NANOCHAT_MODEL__BASE_URL", api.url)
        ran = await ran_beside(nanochat, "doctor", "--offline")
    assert ran.code == 0
    assert api.connections == 0


def error(kind: str, message: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


OFFICIAL = {
    "knows the model": (PlainAnswer(body=b'{"id": "m-1"}'), "ok", "takes the key, and knows m-1"),
    "no such model": (PlainAnswer(404, error("not_found_error", "model: m-1")), "wrong", "knows no model m-1"),
    "wrong key": (PlainAnswer(401, error("authentication_error", "no")), "wrong", "the key is refused (401)"),
    "no right": (PlainAnswer(403, error("permission_error", "no")), "wrong", "may not do this (403): no"),
    "no money": (PlainAnswer(402, error("billing_error", "empty")), "wrong", "no money is left (402): empty"),
    "too fast": (PlainAnswer(429), "warning", "limits the rate (429)"),
    "down": (PlainAnswer(529, error("overloaded_error", "busy")), "warning", "fails (529, overloaded_error): busy"),
    "a page": (PlainAnswer(502, b"<html>"), "warning", "fails (502, no reason)"),
    "elsewhere": (PlainAnswer(301, headers={"location": "https://x/"}), "wrong", "sends us on to https://x/ (301)"),
}


@pytest.mark.parametrize(("answer", "state", "words"), OFFICIAL.values(), ids=OFFICIAL.keys())
def test_what_anthropic_says(answer: PlainAnswer, state: str, words: str) -> None:
    """A request that costs nothing tells whether the key and the model are right."""
    with plain_http(lambda _: answer) as server:
        found = reach.ask_model(Endpoint("", "bearer", KEY), "m-1", "ANTHROPIC_API_KEY", 5.0, official=server.url)
    [finding] = found.findings
    assert finding.state == state
    assert words in finding.found
    assert server.asked == ["GET /v1/models/m-1"]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(found)


OTHERS = {
    "lists its models": ({"GET": PlainAnswer(), "POST": PlainAnswer(400)}, "ok", "and knows m-1"),
    "lists none": ({"GET": PlainAnswer(404), "POST": PlainAnswer(422)}, "ok", "does not tell whether it knows m-1"),
    "tells everybody": ({"GET": PlainAnswer(), "POST": PlainAnswer(401)}, "wrong", "the key is refused (401)"),
    "speaks another tongue": ({"GET": PlainAnswer(), "POST": PlainAnswer(404)}, "wrong", "but nothing is at http"),
    "is a page": ({"GET": PlainAnswer(200, b"<html>"), "POST": PlainAnswer(405)}, "wrong", "but nothing is at http"),
}


@pytest.mark.parametrize(("answers", "state", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_what_another_endpoint_says(answers: dict[str, PlainAnswer], state: str, words: str) -> None:
    """It is asked with an empty request as well, because it may tell its models to anybody, or to nobody."""
    with plain_http(lambda asked: answers[asked.split()[0]]) as server:
        found = reach.ask_model(Endpoint(server.url, "x-api-key", KEY), "m-1", "NANOCHAT_MODEL_KEY", 5.0)
    [finding] = found.findings
    assert finding.state == state
    assert words in finding.found
    assert server.headers[0]["x-api-key"] == KEY
    assert "authorization" not in server.headers[0]


def test_an_endpoint_without_a_key() -> None:
    """Nothing is sent, and what it wants is told."""
    with plain_http(lambda _: PlainAnswer(401)) as server:
        [finding] = reach.ask_model(Endpoint(server.url, "bearer", ""), "m-1", "NANOCHAT_MODEL_KEY", 5.0).findings
    assert "it wants a key (401)" in finding.found
    assert "authorization" not in server.headers[0]


def test_who_never_answers() -> None:
    """A side that is silent is told of when the patience ends, and holds up nobody else."""
    endpoint = "NANOCHAT_MODEL_KEY"
    with plain_http(lambda asked: PlainAnswer(hangs="/bot" in asked)) as server:
        asking = reach.Asking(
            {
                "telegram": lambda: reach.ask_telegram(TOKEN, server.url, 60.0),
                "model": lambda: reach.ask_model(Endpoint(server.url, "bearer", KEY), "m-1", endpoint),
            },
            patience_s=0.5,
        )
        telegram, model = asking.answers()
    assert telegram.findings[0].found == "there was no answer within 0.5 s"
    assert model.findings[0].state == "ok"


def test_a_read_that_takes_too_long() -> None:
    """The connection's own patience says the same."""
    with plain_http(lambda _: PlainAnswer(hangs=True)) as server:
        [finding] = reach.ask_telegram(TOKEN, server.url, 0.05).findings
    assert finding.found.endswith("did not answer in time")
    assert finding.state == "wrong"


def test_nobody_is_there() -> None:
    """The system's words, without its numbers, and without the token."""
    with plain_http(lambda _: PlainAnswer()) as server:
        pass
    [finding] = reach.ask_telegram(TOKEN, server.url, 5.0).findings
    assert finding.found.endswith("Connection refused")
    assert "Errno" not in finding.found
    assert TOKEN not in repr(finding)


def test_a_proxy_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of proxies can be wrong as well."""
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    [finding] = reach.ask_telegram(TOKEN, "http://h", 5.0).findings
    assert finding.mend == "check the proxy variables"


@pytest.mark.parametrize(
    ("answer", "state"),
    [(PlainAnswer(body=b'{"ok": true, "result": {"username": "b"}}'), "ok"), (PlainAnswer(), "warning"),
     (PlainAnswer(502, b"<html>"), "warning"), (PlainAnswer(404), "wrong")],
    ids=["known", "no bot", "down", "no address"],
)  # fmt: skip
def test_what_telegram_says(answer: PlainAnswer, state: str) -> None:
    """A token that is refused is wrong; anything else may pass."""
    with plain_http(lambda _: answer) as server:
        assert reach.ask_telegram(TOKEN, server.url, 5.0).findings[0].state == state


@pytest.mark.parametrize(
    ("date", "ahead_s"),
    [
        ("Fri, 20 Nov 2026 12:00:30 GMT", -30),
        ("Fri, 20 Nov 2026 11:00:00 -0000", 3600),
        ("yesterday", None),
        ("", None),
    ],
)
def test_how_far_the_clocks_are_apart(date: str, ahead_s: float | None) -> None:
    """By the other side's `Date`, if it has one."""
    assert reach.skew(date, NOW) == ahead_s


def test_a_clock_that_is_wrong() -> None:
    """It is told by how much, and how it is set."""
    with plain_http(lambda _: PlainAnswer(date="Mon, 01 Jan 2024 00:00:00 GMT")) as server:
        answered = reach.ask_telegram(TOKEN, server.url, 5.0)
    [finding] = reach.clock([answered])
    assert (finding.state, finding.mend) == ("warning", "timedatectl set-ntp true")
    assert "s ahead" in finding.found
    assert [one.state for one in reach.clock([answered, reach.Answered((), 2.0)])] == ["ok"]
    assert list(reach.clock([reach.Answered(())])) == []


# --- the data directory ---


def test_a_damaged_session(data: Path, examined: Examined) -> None:
    """Its key, its first fault, and the command that tells of each."""
    path = data / "sessions" / "cli+default.jsonl"
    path.write_bytes(path.read_bytes() + b"{not json}\n{nor this}\n")
    report = examined()
    assert report.code == 1
    [row] = report.of("sessions")
    assert row["found"] == "cli:default: line 5 is not JSON, and 1 more"
    assert row["key"] == "cli:default"
    assert row["mend"].startswith("nanochat sessions check cli:default")


def test_a_line_that_a_crash_cut_off(data: Path, examined: Examined) -> None:
    """It mends itself: worth a look, and no more."""
    path = data / "sessions" / "cli+default.jsonl"
    path.write_bytes(path.read_bytes() + b'{"role": "us')
    report = examined()
    assert report.code == 0
    assert report.of("sessions")[0]["state"] == "warning"


@pytest.mark.parametrize("name", ["no session.jsonl", "cli+x.jsonl"])
def test_a_file_that_is_no_session(data: Path, examined: Examined, name: str) -> None:
    """A stranger among the sessions, or a directory of a session's name."""
    if name.startswith("cli"):
        (data / "sessions" / name).mkdir()
    else:
        (data / "sessions" / name).write_text("hello\n")
    (data / "sessions" / "empty one.jsonl").touch()
    report = examined()
    assert report.code == 1
    assert [row["state"] for row in report.of("sessions")] == ["wrong", "ok"]


def test_a_damaged_ledger_and_index(data: Path, examined: Examined) -> None:
    """The one holds work, the other can be made anew at any time."""
    for name in ("ledger.db", "index.db"):
        (data / name).write_bytes(b"SQLite format 3\x00" + b"nonsense" * 200)
    report = examined()
    assert report.code == 1
    assert [row["state"] for row in report.of("ledger")] == ["wrong"]
    assert [row["state"] for row in report.of("search index")] == ["warning"]


def test_what_others_can_read(data: Path, examined: Examined) -> None:
    """Nothing at first; nor behind a directory that they cannot enter; a file in an open one is told of."""
    assert examined().of("rights")[0]["state"] == "ok"
    data.chmod(0o755)
    assert examined().of("rights")[0]["state"] == "ok"
    (data / "sessions" / "cli+default.jsonl").chmod(0o644)
    assert examined().of("rights")[0]["state"] == "ok"
    (data / "sessions").chmod(0o755)
    report = examined()
    assert (report.code, report.of("rights")[0]["state"]) == (0, "warning")
    assert report.of("rights")[0]["mend"] == f"chmod -R go-rwx {data}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_left_behind(data: Path) -> None:
    """Files of another user are no trouble to root, who runs these tests, and told of by nobody."""
    os.chown(data / "ledger.db", 12345, 12345)
    assert [finding.state for finding in storage.rights(data)] == ["ok"]


@pytest.mark.parametrize("name", [".", "sessions", "sessions/cli+default.jsonl", "ledger.db"])
def test_what_is_not_ours(data: Path, examined: Examined, name: str) -> None:
    """What cannot be read is told of, and everything else is looked at."""
    mode = (data / name).stat().st_mode
    (data / name).chmod(0)
    with ordinary_rights():
        report = examined()
    (data / name).chmod(mode)
    assert report.code == 1
    assert any(str(data / name) in line for line in report.bad())


def test_a_place_that_cannot_be_one(tmp_path: Path) -> None:
    """A file in the way, above or at the place itself; a directory that may not be written."""
    (tmp_path / "file").touch()
    assert storage.place(tmp_path / "file").found.endswith("is not a directory")
    assert storage.place(tmp_path / "file" / "data").state == "wrong"
    assert storage.place(tmp_path, lambda path, mode: False).mend.startswith("chown -R ")
    assert storage.place(tmp_path / "new", lambda path, mode: False).state == "wrong"
    assert storage.place(tmp_path / "new").state == "ok"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("free_bytes", "files", "flags", "state", "words"),
    [
        (10**12, 9, 0, "ok", "1.0 TB free"),
        (100 * 10**6, 9, 0, "warning", "100.0 MB free"),
        (10**6, 9, 0, "wrong", "1.0 MB free"),
        (0, 9, 0, "wrong", "0 kB free"),
        (10**12, 0, 0, "wrong", "no more files can be made"),
        (10**12, 9, os.ST_RDONLY, "wrong", "is read-only"),
    ],
    ids=["plenty", "little", "scarce", "full", "no inodes", "read-only"],
)
def test_how_much_room_there_is(
    tmp_path: Path, free_bytes: int, files: int, flags: int, state: str, words: str
) -> None:
    """In words, and with what to do when it is little; a directory that is still to come counts as its parent."""

    def statvfs(_: Path) -> os.statvfs_result:
        return os.statvfs_result((512, 1, 10**12, free_bytes, free_bytes, 100, files, files, flags, 255))

    finding = storage.room(tmp_path / "data", statvfs)
    assert finding.state == state
    assert words in finding.found


# --- the daemon ---


def test_the_daemon(data: Path, examined: Examined) -> None:
    """It runs, and whose it is; it does not, and who would need it."""
    with lock(data):
        assert f", pid {os.getpid()}" in examined().of("daemon")[0]["found"]
    report = examined("--offline", NANOCHAT_TELEGRAM__ENABLED="1", TELEGRAM_BOT_TOKEN=TOKEN)
    assert report.of("daemon")[0]["found"] == "does not run; Telegram needs it"
    assert report.code == 0


async def test_a_session_in_a_turn(tmp_path: Path) -> None:
    """Whose it is."""
    store = FileStore(tmp_path / "sessions", process="nanochat chat")
    async with store.lease(SessionKey("cli", "work")):
        assert serving.leases(tmp_path).found == f"in a turn: cli:work by pid {os.getpid()} (nanochat chat)"
    assert serving.leases(tmp_path).found == "no session is in a turn"
    await store.close()


async def left_undone(directory: Path) -> list[Finding]:
    presence = Presence(directory / "leases")
    ledger = Ledger(directory / "ledger.db", presence)
    await ledger.inbox.accept(Envelope("telegram:1:1", SessionKey("telegram", "1"), "{}"), NOW)
    await ledger.accept_claimed(Envelope("cli:1", SessionKey("cli", "work"), "{}"), NOW)
    alive = list(serving.inbox(directory / "ledger.db", directory, is_served=True))
    assert [finding.state for finding in alive] == ["ok"]
    await ledger.close()
    presence.leave()
    return list(serving.inbox(directory / "ledger.db", directory, is_served=False))


async def test_what_is_left_undone(tmp_path: Path) -> None:
    """What waits for a daemon, and what a crash cut short; what a living process does is nobody's business."""
    orphaned, waiting = await left_undone(tmp_path)
    assert orphaned.found == "1 message was cut short by a crash: cli:work"
    assert waiting.found == "1 message waits for the daemon"
    assert waiting.mend.startswith("nanochat run")


def http_at(port: int, host: str = "127.0.0.1") -> Config:
    return Config(http=Http(enabled=True, host=host, port=port))


def ports(config: Config, *, is_served: bool) -> list[str]:
    found = serving.port(config, Secrets(http_token="t"), is_served=is_served)
    return [f"{finding.state}: {finding.found}" for finding in found]


def test_a_port_that_is_taken() -> None:
    """By a stranger, or by our own daemon, which says so itself."""
    with plain_http(lambda _: PlainAnswer(body=b"[]")) as stranger:
        taken = f"wrong: port {stranger.port} is taken by another program"
        assert ports(http_at(stranger.port), is_served=False) == [taken]
        assert ports(http_at(stranger.port), is_served=True) == [taken]
    assert ports(http_at(stranger.port), is_served=False) == [f"ok: port {stranger.port} is free"]
    assert ports(http_at(stranger.port), is_served=True)[0].startswith("warning: the daemon runs and does not listen")
    with plain_http(lambda _: PlainAnswer(body=b'{"status": "ok"}')) as ours:
        assert ports(http_at(ours.port), is_served=True) == [f"ok: port {ours.port} is the daemon's, and it answers"]


def test_an_address_that_is_not_ours() -> None:
    """It cannot be listened on, and other machines would read along."""
    # TEST-NET-1 belongs to nobody: RFC 5737.
    warned, wrong = ports(http_at(9, "192.0.2.1"), is_served=False)
    assert warned.startswith("warning: 192.0.2.1 is reached from other machines")
    assert wrong.startswith("wrong: 192.0.2.1:9 cannot be listened on: ")


@pytest.mark.parametrize("length", [60, 200])
def test_the_path_of_a_socket(length: int) -> None:
    """It holds about a hundred bytes."""
    config = Config(data_dir="/" + "x" * length, http=Http(enabled=True))
    found = list(serving.sockets(config, Secrets()))
    assert [finding.state for finding in found] == ([] if length < 100 else ["wrong"])
    assert list(serving.sockets(config, Secrets(http_token="t"))) == []


@contextmanager
def unit(tmp_path: Path, command: str) -> Iterator[Path]:
    path = tmp_path / "xdg" / "systemd" / "user" / "nanochat.service"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[Service]\n{command}\n")
    yield path
    path.unlink()


def test_the_service(examined: Examined, tmp_path: Path) -> None:
    """It starts this installation on these settings and this data, or it is told what else."""
    ours = f"{sys.executable} -m nanochat run --config {ROOT}/config/nanochat.toml --data-dir"
    cases = {
        f"ExecStart={ours} {tmp_path}/data": ("ok", "starts this installation"),
        f"ExecStart={ours} /elsewhere": ("warning", "has --data-dir /elsewhere, and here it is "),
        "ExecStart=/bin/sh -m nanochat run": ("warning", "starts /bin/sh, and this is "),
        "ExecStart=/no/such/python -m nanochat run": ("wrong", "starts /no/such/python, which is not there"),
        "ExecStop=/bin/true": ("wrong", "starts nothing"),
    }
    for command, (state, words) in cases.items():
        with unit(tmp_path, command):
            [row] = examined("--offline").of("service")
        assert row["state"] == state
        assert words in row["found"]
    assert examined("--offline").of("service") == []
