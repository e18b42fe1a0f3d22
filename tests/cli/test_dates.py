"""Days and times as they are typed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from nanochat.cli.dates import day_of, moment_of
from nanochat.errors import SettingError

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 30, 1, 30, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param("2026-11-20", date(2026, 11, 20), id="a day"),
        pytest.param("today", date(2026, 3, 30), id="today"),
        pytest.param("yesterday", date(2026, 3, 29), id="yesterday"),
        pytest.param("0d", date(2026, 3, 30), id="no days ago"),
        pytest.param("7d", date(2026, 3, 23), id="a week ago"),
        pytest.param("9999d", date(1998, 11, 13), id="many days ago"),
    ],
)
def test_days(text: str, day: date | None) -> None:
    """A day has its date, a word, or a distance from today."""
    assert day_of("--since", text, NOW.date()) == day


@pytest.mark.parametrize(
    ("text", "days", "at"),
    [
        pytest.param("", 0, None, id="nothing"),
        pytest.param("today", 0, datetime(2026, 3, 29, 22, 0, tzinfo=UTC), id="its beginning"),
        pytest.param("today", 1, datetime(2026, 3, 30, 22, 0, tzinfo=UTC), id="its end"),
        pytest.param("yesterday", 0, datetime(2026, 3, 28, 23, 0, tzinfo=UTC), id="a day of 23 hours"),
        pytest.param("yesterday", 1, datetime(2026, 3, 29, 22, 0, tzinfo=UTC), id="the end of that"),
        pytest.param("2026-03-30T18:00", 1, datetime(2026, 3, 30, 16, 0, tzinfo=UTC), id="a time of the zone"),
        pytest.param("2026-03-30 18:00", 0, datetime(2026, 3, 30, 16, 0, tzinfo=UTC), id="with a blank"),
        pytest.param(
            "2026-03-30T18:00+05:30", 0, datetime(2026, 3, 30, 12, 30, tzinfo=UTC), id="a time with its offset"
        ),
    ],
)
def test_moments(text: str, days: int, at: datetime | None) -> None:
    """A whole day begins and ends at its own midnights; a time stands for itself."""
    assert moment_of("--since", text, NOW, days=days) == at


@pytest.mark.parametrize("text", ["noon", "d", "-7d", "99999d", "2026-02-30", "2026-13-01", "2026-11-20T", "\x1b[2J"])
def test_what_is_neither(text: str) -> None:
    """It is named, with its option, and never as it would steer a terminal."""
    neither = r"^--until: '[^\x1b]*' is not a day; it takes 2026-11-20, .*today, yesterday or 7d$"
    with pytest.raises(SettingError, match=neither):
        day_of("--until", text, NOW.date())
    with pytest.raises(SettingError, match=neither):
        moment_of("--until", text, NOW, days=1)


def test_the_end_of_time() -> None:
    """The calendar's last day has no end."""
    assert moment_of("--since", "9999-12-31", NOW, days=0) is not None
    with pytest.raises(SettingError, match="is not a day"):
        moment_of("--until", "9999-12-31", NOW, days=1)
