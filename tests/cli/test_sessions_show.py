"""`nanochat sessions list` with patterns, `show` and `export`: looking at conversations."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.cli.conftest import Nanochat
from tests.terminal.pty_driver import driven

ROOT = Path(__file__).parents[2]
FILE = Path("sessions") / "cli+default.jsonl"


@pytest.fixture
def data(nanochat: Nanochat, tmp_path: Path) -> Path:
    """A data directory with a conversation of two exchanges, one of which was taken back, behind a reset."""
    nanochat("-m", "before")
    nanochat("sessions", "reset", "cli:default")
    nanochat("-m", "my name is Olga")
    nanochat("-m", "remind me in 90 minutes to drink **water**")
    nanochat("-m", "a slip")
    nanochat("sessions", "undo", "cli:default")
    return tmp_path / "data"


# --- list ------------------------------------------------------------------------------------------------------------


def test_listing_by_pattern(nanochat: Nanochat) -> None:
    """Keys and patterns, as many as one likes; the newest so many of them."""
    for key in ("cli:a", "cli:b", "telegram:1"):
        nanochat("-s", key, "-m", "hi")
    assert [json.loads(row)["key"] for row in nanochat("sessions", "list", "cli:*", "--json").out.splitlines()] == [
        "cli:b",
        "cli:a",
    ]
    assert len(nanochat("sessions", "list", "cli:a", "tele*").out.splitlines()) == 2
    assert nanochat("sessions", "list", "-n", "1").out.startswith("telegram:1 ")
    ran = nanochat("sessions", "list", "x*")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "nanochat: there is none like x* among 3 sessions\n"


def test_listing_fits_the_terminal(nanochat: Nanochat) -> None:
    """One line for each session, however long what was said last; a pipe gets all of it."""
    nanochat("-s", "cli:a", "-m", "my name is Bartholomew of the Long Winding Road")
    assert "Winding Road" in nanochat("sessions", "list").out
    with driven([sys.executable, "-m", "nanochat", "sessions", "list"]) as program:
        assert program.exit_code() == 0
    assert len(program.screen.text.rstrip().splitlines()) == 1
    assert "Noted: your name is" in program.screen.text


# --- show ------------------------------------------------------------------------------------------------------------


def test_showing(nanochat: Nanochat, data: Path) -> None:
    """What is live since the last reset, tool calls in a word, nothing that only we need."""
    ran = nanochat("sessions", "show", "cli:default")
    assert (ran.code, ran.err) == (0, "")
    assert "my name is Olga" in ran.out
    assert "→ schedule create text drink **water** 90m" in ran.out
    assert "before" not in ran.out
    assert "slip" not in ran.out
    assert "\x1b" not in ran.out
    first, *_ = ran.out.splitlines()
    assert first == "— a new conversation begins"


def test_showing_the_last_exchanges(nanochat: Nanochat, data: Path) -> None:
    """From the question on."""
    ran = nanochat("sessions", "show", "cli:default", "-n", "1")
    assert "remind me" in ran.out
    assert "Olga" not in ran.out


def test_showing_everything(nanochat: Nanochat, data: Path) -> None:
    """What was left behind and taken back is there, and is called so."""
    shown = nanochat("sessions", "show", "cli:default", "--all").out
    heads = [line for line in shown.splitlines() if line.startswith("you, ")]
    assert [head[head.index(":") + 3 :] for head in heads] == [" (before /new):", ":", ":", " (taken back):"]
    rows = [
        json.loads(line) for line in nanochat("sessions", "show", "cli:default", "--all", "--json").out.splitlines()
    ]
    assert [row["state"] for row in rows if row["role"] == "user" and row["text"]] == [
        "reset",
        "live",
        "live",
        "undone",
    ]


def test_showing_to_a_program(nanochat: Nanochat, data: Path) -> None:
    """An object per message, with `key`, and times with an offset."""
    rows = [json.loads(line) for line in nanochat("sessions", "show", "cli:default", "--json").out.splitlines()]
    question, answer, *_ = rows
    assert (question["key"], question["n"], question["role"], question["text"]) == (
        "cli:default",
        2,
        "user",
        "my name is Olga",
    )
    assert datetime.fromisoformat(question["at"]).tzinfo is not None
    assert answer["content"] == [{"type": "text", "text": answer["text"]}]
    assert answer["usage"]["output"] > 0
    assert [row["n"] for row in rows] == list(range(2, 2 + len(rows)))


def test_showing_changes_nothing(nanochat: Nanochat, data: Path) -> None:
    """Not a file, not an mtime."""
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    for args in (["show", "cli:default"], ["show", "cli:default", "--all"], ["export", "cli:default"], ["list", "x*"]):
        nanochat("sessions", *args)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_showing_on_a_terminal(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the chat shows it: Markdown drawn, asides dim, what steers a terminal made harmless."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with (data / FILE).open("a") as file:
        file.write(json.dumps({"role": "user", "content": "\x1b]0;stolen\x07 title"}) + "\n")
        file.write(json.dumps({"role": "assistant", "content": "**bold**\x1b[2J"}) + "\n")
        file.write(
            json.dumps({"role": "user", "content": '<delivered from="cron:x">\nnews\n</delivered>', "delivered": True})
            + "\n"
        )
    with driven([sys.executable, "-m", "nanochat", "sessions", "show", "cli:default"], rows=60) as program:
        assert program.exit_code() == 0
    assert "you> my name is Olga" in program.screen.text
    assert "you> \ufffd]0;stolen\ufffd title" in program.screen.text
    assert "bold\ufffd[2J" in program.screen.text
    assert "**bold" not in program.screen.text
    assert "↳ cli:default · delivered" in program.screen.text
    assert " in · " in program.screen.text
    assert {1, 2} <= program.graphics


@pytest.mark.parametrize(
    ("key", "code", "words"),
    [
        pytest.param(
            "cli:defualt", 1, "there is no session cli:defualt; did you mean cli:default? nanochat", id="near"
        ),
        pytest.param("telegram:99", 1, "there is no session telegram:99; nanochat sessions lists them", id="far"),
        pytest.param("default", 2, "did you mean cli:default?", id="no key"),
    ],
)
@pytest.mark.parametrize("command", ["show", "export", "reset", "undo", "archive", "delete", "check"])
def test_a_session_that_is_not_there(
    nanochat: Nanochat, data: Path, command: str, key: str, code: int, words: str
) -> None:
    """One line that says what may have been meant; nothing on standard output."""
    ran = nanochat("sessions", command, key)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    "args", [["show", "cli:default"], ["show", "cli:default", "--json"], ["export", "cli:default"]]
)
def test_a_damaged_file(nanochat: Nanochat, data: Path, args: list[str]) -> None:
    """What can be read is shown, and that something is missing is said apart from it."""
    sound = nanochat("sessions", *args).out
    text = (data / FILE).read_text()
    (data / FILE).write_text(text.replace('{"role":"user","content":"my name', '{"role":user,"content":"my name'))
    ran = nanochat("sessions", *args)
    assert ran.code == 0
    assert len(ran.out) < len(sound)
    assert "line" in ran.err
    assert "nanochat sessions check cli:default tells more" in ran.err


def test_all_and_some(nanochat: Nanochat, data: Path) -> None:
    """They exclude each other."""
    ran = nanochat("sessions", "show", "cli:default", "--all", "-n", "1")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "nanochat: --all and -n exclude each other; nanochat sessions show -h tells more\n"


def test_an_empty_conversation(nanochat: Nanochat, data: Path) -> None:
    """After a reset there is that, and no more."""
    nanochat("sessions", "reset", "cli:default")
    assert nanochat("sessions", "show", "cli:default").out == "— a new conversation begins\n"
    assert nanochat("sessions", "show", "cli:default", "--json").out == ""


# --- export ----------------------------------------------------------------------------------------------------------


def test_exporting(nanochat: Nanochat, data: Path, tmp_path: Path) -> None:
    """Each form, to standard output and to a file: the same bytes, and nothing that was taken back."""
    for form in ("md", "json", "nanobot"):
        out = nanochat("sessions", "export", "cli:default", "--format", form).out
        path = tmp_path / f"exported.{form}"
        ran = nanochat("sessions", "export", "cli:default", "--format", form, "-o", str(path))
        assert (ran.code, ran.out, ran.err) == (0, "", "")
        assert path.read_text(encoding="utf-8") == out
        assert "my name is Olga" in out
        assert "slip" not in out
        assert "before" not in out
    assert nanochat("sessions", "export", "cli:default", "-o", "-").out.startswith("# cli:default\n")
    assert json.loads((tmp_path / "exported.json").read_text())[0]["content"] == "my name is Olga"


def test_an_exported_conversation_is_loaded_again(nanochat: Nanochat, data: Path, tmp_path: Path) -> None:
    """By the chat's own command."""
    path = tmp_path / "exported.json"
    nanochat("sessions", "export", "cli:default", "--format", "json", "-o", str(path))
    assert "begins with 4 messages" in nanochat("-s", "cli:again", "-m", f"/load {path}").out
    assert "Olga" in nanochat("-s", "cli:again", "-m", "what is my name?").out


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        pytest.param("there", 2, "exists already; name another file", id="exists"),
        pytest.param("dangling", 2, "exists already; name another file", id="dangling link"),
        pytest.param("nowhere/file", 1, "no such file or directory; nothing was exported", id="no directory"),
        pytest.param("", 2, "exists already; name another file", id="directory"),
    ],
)
def test_where_nothing_is_exported_to(
    nanochat: Nanochat, data: Path, tmp_path: Path, place: str, code: int, words: str
) -> None:
    """Nothing is overwritten, and nothing half-made is left."""
    (tmp_path / "there").write_text("precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "no")
    before = sorted(os.listdir(tmp_path))
    ran = nanochat("sessions", "export", "cli:default", "-o", str(tmp_path / place))
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert (tmp_path / "there").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == before


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["sessions list", "sessions show cli:default", "sessions export cli:default", "tail cli:default"]
)
def test_times_are_of_the_settings_zone(
    nanochat: Nanochat, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    """A row, a conversation and its export tell the same time, wherever the machine thinks it is."""
    nanochat("-m", "hello")
    at = datetime.fromisoformat(json.loads(nanochat("sessions", "--json").out)["updated_at"])
    for zone in ("Pacific/Kiritimati", "America/Adak"):
        monkeypatch.setenv("NANOCHAT_TIMEZONE", zone)
        assert f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}" in nanochat(*command.split()).out
