"""`nanochat init`: a settings file that explains itself, whole or not at all, and never in the place of another."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.cli import init as room
from nanochat.config import Config, new_config, parse
from nanochat.config.annotated import Value, annotated, fill
from nanochat.errors import NotWritten, SettingError
from nanochat.store import Disk
from tests.cli.conftest import Nanochat
from tests.fakes.disk import FaultyDisk
from tests.terminal.pty_driver import Driven, driven

ROOT = Path(__file__).parents[2]
SHIPPED = (ROOT / "config" / "nanochat.toml").read_text(encoding="utf-8")


# --- the text ---


def keys(text: str) -> list[tuple[str, str]]:
    """Each section and key with the value that is shown, in their order."""
    section, found = "", []
    for line in text.splitlines():
        if table := re.fullmatch(r"#?(\[.*\])", line):
            section = table[1]
        elif key := re.fullmatch(r"#?(\w+) = (.*)", line):
            found.append((f"{section}{key[1]}", key[2]))
    return found


def test_it_is_the_file_of_the_repository() -> None:
    """The same sections, keys and defaults in the same order, and the same example of a job."""
    assert keys(annotated()) == keys(SHIPPED)


def test_every_default_is_the_default() -> None:
    """With every # taken away before the example, nothing has changed; and the example is a job."""
    text = annotated()
    before, example = text.split("## What happens by the clock", 1)
    uncommented = re.sub(r"^#(?=\w+ = )", "", before, flags=re.MULTILINE)
    assert uncommented != before
    assert parse(uncommented, None, {}) == Config()
    [job] = parse(re.sub(r"^#(?=\w+ = |\[)", "", example.partition("\n")[2], flags=re.MULTILINE), None, {}).cron.jobs
    assert job.id == "morning"
    assert parse(text, None, {}) == Config()


def test_every_key_has_a_meaning() -> None:
    """A line above it, which names the values of a key that takes few."""
    lines = annotated().splitlines()
    for place, line in enumerate(lines):
        if re.match(r"#\w+ = ", line):
            assert lines[place - 1].startswith("## ")
    assert any(line.endswith('It takes "mention", "all" or "off".') for line in lines)


def test_answers_stand_in_their_own_lines() -> None:
    """Nothing else differs."""
    text = annotated({"timezone": "Europe/Berlin", "owner": (7,), "http.enabled": True, "limits.usd_per_day": 2.5})
    changed = [line for line in text.splitlines() if line not in annotated().splitlines()]
    assert changed == ['timezone = "Europe/Berlin"', "owner = [7]", "usd_per_day = 2.5", "enabled = true"]
    config = parse(text, None, {})
    assert (config.http.enabled, config.telegram.enabled) == (True, False)


TEXTS = st.text(st.characters(codec="utf-8"))
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "model.system_prompt": TEXTS,
        "data_dir": TEXTS,
        "owner": st.lists(st.integers(-(2**62), 2**62)).map(tuple),
        "model.fallback": st.lists(TEXTS).map(tuple),
        "limits.usd_per_day": st.floats(0, 1e9),
        "telegram.stream": st.booleans(),
        "http.port": st.integers(0, 65535),
    },
)


@given(ANSWERS, st.sampled_from(["", annotated(), SHIPPED, "# mine\n\n[http]\n"]))
def test_whatever_is_filled_in_is_read_again(answers: Mapping[str, Value], text: str) -> None:
    """In a file of ours, in an empty one, and in one that lacks the lines for it."""
    config = parse(fill(text, answers), None, {})
    for key, value in answers.items():
        section, _, name = key.rpartition(".")
        part = msgspec.structs.asdict(config)[section] if section else config
        assert msgspec.structs.asdict(part)[name] == value


# --- writing ---


def test_with_every_default(nanochat: Nanochat, tmp_path: Path) -> None:
    """The file, for us only, in directories that are made for it; and what to type next."""
    path = tmp_path / "a" / "b" / "n.toml"
    ran = nanochat("--config", str(path), "init", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert path.read_text(encoding="utf-8") == annotated()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["n.toml"]
    assert ran.out.startswith(f"wrote {path}")
    assert "→ export ANTHROPIC_API_KEY=…" in ran.out
    assert f"next:  nanochat --config {path}\n" in ran.out
    assert nanochat("--config", str(path), "doctor").code == 0


def test_where_the_environment_says(nanochat: Nanochat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable names the place, and then need not be named again."""
    monkeypatch.setenv("NANOCHAT_CONFIG", str(tmp_path / "n.toml"))
    ran = nanochat("init", "--yes")
    assert ran.code == 0
    assert (tmp_path / "n.toml").exists()
    assert "next:  nanochat\n" in ran.out


def test_nobody_to_ask(nanochat: Nanochat, tmp_path: Path) -> None:
    """A pipe is no terminal: one line, 2, and nothing is made."""
    ran = nanochat("--config", str(tmp_path / "a" / "n.toml"), "init", stdin=b"Europe/Berlin\n")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith("nanochat init --yes takes all defaults\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["[limits]\nwaiting = 3\n", "no toml", "[[cron.jobs]]\n"], ids=["set", "torn", "job"])
def test_a_file_that_says_something(nanochat: Nanochat, tmp_path: Path, text: str) -> None:
    """It is left as it is, to the byte."""
    path = tmp_path / "n.toml"
    path.write_text(text)
    ran = nanochat("--config", str(path), "init", "--yes")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"nanochat: {path} is there already and is left as it is")
    assert path.read_text() == text


def test_what_is_no_file(nanochat: Nanochat, tmp_path: Path) -> None:
    """A directory, or a link to nowhere, is not written through."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("directory", "link"):
        assert nanochat("--config", str(tmp_path / name), "init", "--yes").code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "link"]


def test_a_file_that_sets_nothing(nanochat: Nanochat, tmp_path: Path) -> None:
    """With every default there is nothing to fill in."""
    path = tmp_path / "n.toml"
    path.write_text("# mine\n[http]\n")
    ran = nanochat("--config", str(path), "init", "--yes")
    assert ran.code == 0
    assert "it is left as it is" in ran.out
    assert path.read_text() == "# mine\n[http]\n"


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, call: str) -> None:
    """Neither a half file nor the directories that were made for it."""
    faulty = FaultyDisk()
    faulty.fail(call, errno.ENOSPC)
    with pytest.raises(NotWritten, match="nothing was written: No space left on device"):
        room.write_new(tmp_path / "a" / "b" / "n.toml", annotated(), faulty.disk)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_half(tmp_path: Path) -> None:
    """The rest is written after it, or nothing stays."""
    faulty = FaultyDisk()
    faulty.fill(100, errno.ENOSPC)
    with pytest.raises(NotWritten):
        room.write_new(tmp_path / "n.toml", annotated(), faulty.disk)
    assert list(tmp_path.iterdir()) == []


def test_two_at_once(tmp_path: Path) -> None:
    """Whoever comes second leaves the other's file alone."""
    path, real = tmp_path / "n.toml", Disk()

    def fsync(descriptor: int) -> None:
        path.write_text("the other's")
        real.fsync(descriptor)

    with pytest.raises(NotWritten, match="is there already"):
        room.write_new(path, annotated(), replace(real, fsync=fsync))
    assert path.read_text() == "the other's"
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.toml"]


def test_no_place_for_it(nanochat: Nanochat, tmp_path: Path) -> None:
    """A file is where its directory should be."""
    (tmp_path / "file").touch()
    ran = nanochat("--config", str(tmp_path / "file" / "n.toml"), "init", "--yes")
    assert ran.code == 1
    assert "nothing was written: Not a directory" in ran.err


def test_no_secret_is_shown(nanochat: Nanochat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It only says that they are set."""
    for name in ("ANTHROPIC_API_KEY", "NANOCHAT_HTTP_TOKEN", "NANOCHAT_MODEL_KEY"):
        monkeypatch.setenv(name, "hush-hush-hush")
    ran = nanochat("--config", str(tmp_path / "n.toml"), "init", "--yes")
    assert "ANTHROPIC_API_KEY is set" in ran.out
    assert "hush" not in ran.out + ran.err + (tmp_path / "n.toml").read_text()


def test_where_a_file_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one counts now; else in the checkout; else in the user's directory, in which it is then found."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    package = tmp_path / "site" / "nanochat"
    users = tmp_path / "xdg" / "nanochat" / "nanochat.toml"
    assert new_config(None, {}, package_dir=package) == users
    assert new_config(Path("x.toml"), {"NANOCHAT_CONFIG": "y.toml"}, package_dir=package) == Path("x.toml")
    assert new_config(None, {"NANOCHAT_CONFIG": "y.toml"}, package_dir=package) == Path("y.toml")
    (tmp_path / "site" / "config").mkdir(parents=True)
    (tmp_path / "site" / "pyproject.toml").write_text('name = "nanochat"\n')
    ours = tmp_path / "site" / "config" / "nanochat.toml"
    assert new_config(None, {}, package_dir=package) == ours
    users.parent.mkdir(parents=True)
    users.touch()
    assert new_config(None, {}, package_dir=package) == users
    ours.touch()
    assert new_config(None, {}, package_dir=package) == ours


# --- the questions ---


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["", "", "", "", ""], {}),
        (["Asia/Tokyo", "Anthropic", "2,50", "yes", "y"],
         {"timezone": "Asia/Tokyo", "limits.usd_per_day": 2.5, "telegram.enabled": True, "http.enabled": True}),
        (["", "http://h:1", "qwen3:14b", "12345", "no"],
         {"model.base_url": "http://h:1", "model.name": "qwen3:14b", "telegram.enabled": True, "owner": (12345,)}),
    ],
    ids=["enter", "anthropic", "own endpoint"],
)  # fmt: skip
def test_five_questions_at_most(typed: list[str], expected: Mapping[str, Value]) -> None:
    """And every set of answers is a settings file."""
    answers: dict[str, Value] = {}
    asked = room.questions("UTC", answers)
    for text, question in zip(typed, asked, strict=True):
        answers.update(question.read(text))
    assert answers == expected
    assert parse(annotated(answers), None, {}) != Config() or not expected


@pytest.mark.parametrize(
    ("place", "typed", "words"),
    [
        (0, "Mars", "it takes the name of a time zone"),
        (1, "localhost:11434", "it takes an address that begins with http"),
        (2, "much", "'much' is no amount of money"),
        (2, "-1", "'-1' is no amount of money"),
        (2, "nan", "'nan' is no amount of money"),
        (2, "1,000.50", "is no amount of money"),
        (3, "olga", "'olga' is no id"),
        (3, "-100123", "'-100123' is no id"),
        (4, "maybe", "'maybe' is neither yes nor no"),
    ],
)
def test_an_answer_that_cannot_be_one(place: int, typed: str, words: str) -> None:
    """It is refused in one line, and can be typed again."""
    question = list(room.questions("UTC", {}))[place]
    with pytest.raises(SettingError, match=re.escape(words)):
        question.read(typed)


def asking(path: Path) -> list[str]:
    return [sys.executable, "-m", "nanochat", "--config", str(path), "init"]


@pytest.fixture(autouse=True)
def _from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is importable by a new process."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def answer(program: Driven, *typed: str) -> None:
    for text, question in zip(typed, ("time zone", "Who answers", "cost, in USD", "Telegram", "HTTP"), strict=False):
        program.shows(question)
        program.press(f"{text}\r")


def test_a_dialogue(tmp_path: Path) -> None:
    """A wrong answer is asked for again; Enter takes the default; and the file says what was answered."""
    path = tmp_path / "n.toml"
    with driven(asking(path), columns=120, rows=50) as program:
        program.shows("Your time zone")
        program.press("Mars\r")
        program.shows("it takes the name of a time zone")
        program.press("Asia/Tokyo\r")
        program.shows("Who answers")
        program.press("\r")
        program.shows("cost, in USD")
        program.press("2\r")
        program.shows("Telegram")
        program.press("12345\r")
        program.shows("HTTP")
        program.press("\r")
        program.shows("wrote ", "next:")
        assert program.exit_code() == 0
    config = tomllib.loads(path.read_text(encoding="utf-8"))
    assert (config["timezone"], config["owner"]) == ("Asia/Tokyo", [12345])
    assert (config["telegram"], config["limits"]) == ({"enabled": True}, {"usd_per_day": 2.0})


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_leaving_in_the_middle(tmp_path: Path, key: str) -> None:
    """Nothing was written, and that is said."""
    with driven(asking(tmp_path / "a" / "n.toml"), columns=120) as program:
        answer(program, "Asia/Tokyo", "")
        program.shows("cost, in USD")
        program.press(key)
        program.shows("nanochat: nothing was written")
        assert program.exit_code() == 130
    assert list(tmp_path.iterdir()) == []


def test_answers_go_into_a_file_that_sets_nothing(tmp_path: Path) -> None:
    """As the file of a clone is: its comments stay, a link to it stays one, and so does its mode."""
    real, path = tmp_path / "real.toml", tmp_path / "n.toml"
    real.write_text(SHIPPED)
    real.chmod(0o640)
    path.symlink_to(real)
    with driven(asking(path), columns=120, rows=50) as program:
        program.shows("is there and sets nothing yet")
        answer(program, "Asia/Tokyo", "", "", "", "")
        program.shows("filled in ", "next:")
        assert program.exit_code() == 0
    assert real.read_text() == SHIPPED.replace('#timezone = ""', 'timezone = "Asia/Tokyo"', 1)
    assert (path.is_symlink(), stat.S_IMODE(real.stat().st_mode)) == (True, 0o640)
    assert sorted(os.listdir(tmp_path)) == ["n.toml", "real.toml"]
