"""Days and times as they are typed behind `--since` and `--until`.

Knows their forms. Does not know what is looked for in between, nor what day it is.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from nanochat.channels.terminal.words import clean
from nanochat.errors import SettingError

__all__ = ["day_of", "moment_of"]

_DAY = "2026-11-20"
_DAYS_AGO = {"today": 0, "yesterday": 1}

# Of `7d`; more days than four digits are a slip of the keyboard, and soon before the calendar.
_MAX_AGO_CHARS = len("9999d")


def day_of(option: str, text: str, today: date) -> date | None:
    """The day that is typed; None where nothing is.

    Raises:
        SettingError: it is none.
    """
    if not text:
        return None
    day = _day(text, today)
    if day is None:
        raise SettingError(f"{option}: {clean(text)!r} is not a day; it takes {_DAY}, today, yesterday or 7d")
    return day


def moment_of(option: str, text: str, now: datetime, *, days: int) -> datetime | None:
    """The time that is typed, in the zone of `now`; of a whole day, the midnight at its beginning, or `days` after that.

    Raises:
        SettingError: it is neither.
    """
    if not text:
        return None
    try:
        if len(text) > len(_DAY):
            at = datetime.fromisoformat(text)
            return at if at.tzinfo else at.replace(tzinfo=now.tzinfo)
        if (day := _day(text, now.date())) is not None:
            return datetime.combine(day + timedelta(days=days), time(), now.tzinfo)
    except (ValueError, OverflowError):
        pass
    raise SettingError(f"{option}: {clean(text)!r} is not a day; it takes {_DAY}, {_DAY}T18:00, today, yesterday or 7d")


def _day(text: str, today: date) -> date | None:
    ago = _DAYS_AGO.get(text)
    if ago is None and text[-1] == "d" and text[:-1].isdecimal() and len(text) <= _MAX_AGO_CHARS:
        ago = int(text[:-1])
    if ago is not None:
        return today - timedelta(days=ago)
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
