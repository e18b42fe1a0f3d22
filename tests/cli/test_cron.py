"""`nanochat cron`: jobs are listed, made and looked after, and reading moves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Nanochat

SETTINGS = """
timezone = "Europe/Berlin"
[model]
provider = "offline"
[[cron.jobs]]
id = "morning"
cron = "30 2 * * *"
kind = "summary"
sources = ["telegram:*"]
deliver_to = "telegram:77"
[[cron.jobs]]
id = "feast"
at = 2126-12-24T18:00:00
kind = "text"
text = "come in"
enabled = false
"""


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs in the settings, one of them disabled."""
    (tmp_path / "nanochat.toml").write_text(SETTINGS, encoding="utf-8")
    monkeypatch.setenv("NANOCHAT_CONFIG", str(tmp_path / "nanochat.toml"))


def rows(text: str) -> Iterator[dict[str, object]]:
    for line in text.splitlines():
        yield json.loads(line)


def test_the_settings_jobs_are_listed(nanochat: Nanochat, tmp_path: Path) -> None:
    """In words and as JSON; nothing is made by looking."""
    told = nanochat("cron")
    assert told.code == 0
    assert "morning  next" in told.out
    assert "at 02:30 every day (Europe/Berlin): a summary of telegram:*, to telegram:77; from settings" in told.out
    assert "feast  disabled" in told.out
    first, second = rows(nanochat("cron", "list", "--json").out)
    assert (first["id"], first["state"], first["deliver_to"]) == ("morning", "active", ["telegram:77"])
    assert (second["id"], second["state"], second["next"]) == ("feast", "disabled", None)
    assert nanochat("cron", "history").code == 0
    assert not (tmp_path / "data").exists()


def test_what_is_next(nanochat: Nanochat) -> None:
    """As many as asked for, in local time, with the offset of each day."""
    told = list(rows(nanochat("cron", "next", "-n", "366", "--json").out))
    assert len(told) == 366
    assert {str(row["at"])[-6:] for row in told} == {"+01:00", "+02:00"}
    assert nanochat("cron", "next", "morning", "-n", "2").out.count("morning") == 2
    assert nanochat("cron", "next", "nobody").code == 1


def test_a_job_is_made_and_read_back(nanochat: Nanochat) -> None:
    """In words, with its next fires; and without a daemon it says that none is running."""
    made = nanochat("cron", "add", "--every", "2h", "--text", "Drink some water", "--deliver-to", "cli:default")
    assert made.code == 0
    assert "added drink-some-water: every 2 hours: the text “Drink some water”, to cli:default" in made.out
    assert made.out.count("+0") == 3
    assert "no daemon is running" in made.err
    again = nanochat("cron", "add", "--every", "1d", "--text", "Drink some water")
    assert "added drink-some-water-2" in again.out
    summary = nanochat("cron", "add", "--cron", "@daily", "--summary", "cli:*,telegram:*", "--id", "evening")
    assert "a summary of cli:* and telegram:*, only recorded" in summary.out
    listed = {row["id"]: row for row in rows(nanochat("cron", "list", "--json").out)}
    assert set(listed) == {"morning", "feast", "drink-some-water", "drink-some-water-2", "evening"}
    assert listed["evening"]["timezone"] == "Europe/Berlin"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--at", "2020-01-01T08:00", "--text", "x"], "job 'x': at: '2020-01-01T08:00' has passed"),
        (["--cron", "0 8 * *", "--text", "x"], "job 'x': cron: '0 8 * *' has 4 fields"),
        (["--cron", "0 0 31 2 *", "--text", "x"], "never comes"),
        (["--every", "soon", "--text", "x"], "job 'x': every: 'soon' is no distance"),
        (["--every", "2h"], "--text: is missing"),
        (["--every", "2h", "--text", "x", "--prompt", "y"], "--text: stands alone"),
        (["--text", "x"], "exactly one of cron, every and at"),
        (["--every", "2h", "--text", "x", "--timezone", "Mars"], "timezone: 'Mars'"),
        (["--every", "2h", "--text", "x", "--deliver-to", "fax:1"], "deliver_to: nothing can be brought to 'fax:1'"),
        (["--every", "2h", "--text", "x", "--id", "morning"], "job 'morning': id: another job has this id"),
        (["--every", "2h", "--text", "x", "--missed", "never"], "missed: 'never'"),
    ],
)
def test_what_cannot_be_kept_is_refused(nanochat: Nanochat, options: list[str], words: str) -> None:
    """One line with the job and the key, and nothing is made."""
    refused = nanochat("cron", "add", *options)
    assert refused.code == 2
    assert refused.out == ""
    assert words in refused.err
    assert refused.err.count("\n") == 1
    assert len(list(rows(nanochat("cron", "list", "--json").out))) == 2


def test_a_job_rests_and_goes(nanochat: Nanochat) -> None:
    """Paused it has no next fire; a made one can be removed, one of the settings cannot."""
    nanochat("cron", "add", "--every", "2h", "--text", "water")
    assert nanochat("cron", "pause", "water").code == 0
    assert nanochat("cron", "pause", "morning").code == 0
    assert nanochat("cron", "next").out == ""
    assert "morning  paused" in nanochat("cron").out
    assert "next: " in nanochat("cron", "resume", "morning").out
    assert nanochat("cron", "remove", "water").code == 0
    assert nanochat("cron", "remove", "morning").code == 2
    refused = nanochat("cron", "remove", "water")
    assert (refused.code, refused.out) == (1, "")
    assert "there is no job 'water'" in refused.err
    assert nanochat("cron", "resume", "feast").code == 2


def test_a_job_is_run_by_hand(nanochat: Nanochat) -> None:
    """Its fire waits for the daemon, and stands in the history."""
    told = nanochat("cron", "run", "morning")
    assert "runs as soon as a daemon does" in told.out
    [row] = rows(nanochat("cron", "history", "morning", "--json").out)
    assert (row["id"], row["outcome"], row["deliveries"]) == ("morning", "fired", [])
    assert "morning  fired" in nanochat("cron", "history").out
    [waiting] = rows(nanochat("why", "--json").out)
    assert (waiting["key"], waiting["state"]) == ("cron:morning", "waiting")
    assert nanochat("cron", "run", "nobody").code == 1


def test_a_bad_job_of_the_settings_is_named(nanochat: Nanochat, tmp_path: Path) -> None:
    """With its key and the reason, on whatever command."""
    text = SETTINGS.replace('cron = "30 2 * * *"', 'cron = "30 25 * * *"')
    (tmp_path / "nanochat.toml").write_text(text, encoding="utf-8")
    refused = nanochat("cron")
    assert refused.code == 2
    assert "job 'morning': cron: '25' in '30 25 * * *' is no hour: it takes 0-23" in refused.err
