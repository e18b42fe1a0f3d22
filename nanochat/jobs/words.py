"""A job in words, for whoever made it to see that it was understood.

Knows sentences. Does not know who reads them.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import assert_never
from zoneinfo import ZoneInfo

from cronsim import CronSim

from nanochat.jobs.expression import fields_of
from nanochat.jobs.job import Job

__all__ = ["at_words", "describe", "when_words"]

_MAX_TEXT_CHARS = 60
_ORDINAL = re.compile(r"\b([02-9]?)([1-3])th\b")
_ENDINGS = {"1": "1st", "2": "2nd", "3": "3rd"}
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def describe(job: Job) -> str:
    """`at 08:00 on Monday through Friday (Europe/Prague): a summary of telegram:* and cli:*, to telegram:77`."""
    match job.kind:
        case "summary":
            what = f"a summary of {_list(job.sources)}"
            if job.text.strip():
                what += f", looking for “{_short(job.text)}”"
        case "prompt":
            what = f"the assistant is asked “{_short(job.text)}”"
        case "text":
            what = f"the text “{_short(job.text)}”"
        case _:
            assert_never(job.kind)
    where = f", to {_list(tuple(map(str, job.recipients)))}" if job.recipients else ", only recorded"
    return f"{when_words(job)}: {what}{where}"


def when_words(job: Job) -> str:
    """`every 2 hours`; `at 08:00 every day (Europe/Prague)`."""
    if job.at is not None:
        return f"once, on {at_words(job.at, job.zone)}"
    if job.every_s:
        size, unit = next((size, unit) for size, unit in _UNITS if job.every_s % size == 0)
        number = job.every_s // size
        return f"every {unit}" if number == 1 else f"every {number} {unit}s"
    # The date is of no account: only the fields are put into words.
    words = CronSim(fields_of(job.cron), datetime(2000, 1, 1)).explain()
    words = _ORDINAL.sub(lambda found: found.group(1) + _ENDINGS[found.group(2)], words)  # it says 31th
    return f"{words[0].lower()}{words[1:]} ({job.zone})"


def at_words(moment: datetime, zone: str) -> str:
    """A moment in local time, with its offset: `Mon 2026-11-23 08:00 +0100`; with seconds where there are any."""
    local = moment.astimezone(ZoneInfo(zone))
    shown = local - timedelta(microseconds=local.microsecond)
    return f"{shown:%a %Y-%m-%d %H:%M:%S %z}" if shown.second else f"{shown:%a %Y-%m-%d %H:%M %z}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT_CHARS else f"{line[:_MAX_TEXT_CHARS]}…"


def _list(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
