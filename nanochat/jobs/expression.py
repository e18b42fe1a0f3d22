"""Cron expressions as people write them: five fields, `@daily` and its like, names, ranges over the end of a week or a year.

Knows what the parser behind it does not: nicknames, `fri-mon`, `friL`, and which field is wrong. Does not know times.
"""

from __future__ import annotations

import re
from datetime import datetime

from cronsim import CronSim, CronSimError

__all__ = ["fields_of"]

# man 5 crontab (Debian's cron 3.0), read 2026-11-20. @reboot is no time.
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_TAKES = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31 or L"),
    ("month", "1-12 or jan-dec"),
    ("day of the week", "0-7 or sun-sat, friL for the last and fri#2 for the second of a month"),
)
_RANGE = re.compile(r"(\w+)-(\w+)(?:/([1-9]\d*))?\Z")
_LAST = re.compile(r"([A-Z]{3})L\Z")
_EXAMPLE = "0 8 * * mon-fri"


def fields_of(expression: str) -> str:
    """The expression as five fields that the parser takes.

    Raises:
        ValueError: with the reason, and an example.
    """
    words = expression.upper().split()
    if len(words) == 1 and words[0].startswith("@"):
        nickname = _NICKNAMES.get(words[0].lower())
        if nickname is None:
            raise ValueError(f"{expression!r} is none of {', '.join(_NICKNAMES)}")
        return nickname
    if len(words) != 5:
        how_many = "1 field" if len(words) == 1 else f"{len(words)} fields"
        raise ValueError(f"{expression!r} has {how_many}, it takes five, as in {_EXAMPLE!r}")
    words[3] = ",".join(_around(term, _MONTHS, 1, 12) for term in words[3].split(","))
    words[4] = ",".join(_weekday(term) for term in words[4].split(","))
    for place, (name, takes) in enumerate(_TAKES):
        alone = ["*"] * 5
        alone[place] = words[place]
        if not _is_readable(alone):
            meant = expression.split()[place]
            raise ValueError(f"{meant!r} in {expression!r} is no {name}: it takes {takes}, as in {_EXAMPLE!r}")
    if not _comes(words):
        raise ValueError(f"{expression!r} never comes: no month has that day")
    return " ".join(words)


def _weekday(term: str) -> str:
    if (found := _LAST.match(term)) and found.group(1) in _DAYS:
        return f"{_DAYS.index(found.group(1))}L"
    return _around(term, _DAYS, 0, 6)


def _around(term: str, names: tuple[str, ...], first: int, last: int) -> str:
    """A range that goes over the end, as single values; anything else as it stands."""
    found = _RANGE.match(term)
    if found is None:
        return term
    begin, end = (_number(word, names, first) for word in found.groups()[:2])
    if begin is None or end is None or begin <= end or not (first <= end and begin <= last):
        return term
    values = [*range(begin, last + 1), *range(first, end + 1)][:: int(found.group(3) or 1)]
    return ",".join(map(str, values))


def _number(word: str, names: tuple[str, ...], first: int) -> int | None:
    if word in names:
        return names.index(word) + first
    return int(word) if word.isascii() and word.isdigit() else None


def _is_readable(fields: list[str]) -> bool:
    # 31 alone may be read as a day that never comes: beside a month of 31 days it is only a day.
    fields = [*fields[:3], "1" if fields[3] == "*" else fields[3], fields[4]]
    if fields[3] != "1":
        fields[2] = "1"
    try:
        CronSim(" ".join(fields), datetime(2000, 1, 1))
    except CronSimError:
        return False
    return True


def _comes(fields: list[str]) -> bool:
    try:
        next(CronSim(" ".join(fields), datetime(2000, 1, 1)))
    except (CronSimError, StopIteration):
        return False
    return True
