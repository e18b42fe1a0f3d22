"""`nanochat usage`: what conversations took, in rows or as a drawing.

Knows how a sum is shown, and which settings bound it. Does not know how it comes about.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

from nanochat.channels.terminal.words import clean, counted, dim
from nanochat.cli.dates import day_of
from nanochat.cli.missing import unknown_among
from nanochat.cli.places import LEDGER, data_dir
from nanochat.cli.progress import measured
from nanochat.config import Config
from nanochat.doors import TurnPoint
from nanochat.errors import SettingError, StoreError
from nanochat.keys import SessionKey
from nanochat.store import Disk
from nanochat.store.ends import points_of
from nanochat.store.inventory import Inventory, Kept, inventory
from nanochat.usage import Account, By, Period, Row, Sum

__all__ = ["Wish", "usage"]

# What `chat` opens when no session is named.
_DEFAULT_KEY = "cli:default"

_UNKNOWN = "(unknown)"

# What a table is held to where no terminal says how wide it is, as long as nothing has to be shortened for it.
_PLAIN_WIDTH = 80

_HEAD = ("turns", "input", "cache read", "cache write", "output", "cached", "cost")
_BRIEF_HEAD = ("turns", "input", "c.read", "c.write", "output", "cached", "cost")

# A name that is cut short to this still tells a chat's number; to the lesser, only where the terminal is very narrow.
_NAME_CHARS = 18
_LEAST_NAME_CHARS = 10


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for, as typed."""

    key: str | None = None
    by: By | None = None
    plot: bool = False
    since: str = ""
    until: str = ""
    as_json: bool = False


@dataclass(slots=True)
class _Read:
    """What came of reading the files: all that lies in the period, and, whole, what each session in use has cost."""

    account: Account
    faults: list[StoreError]
    session_usd: dict[str, float] = field(default_factory=dict)
    points: list[TurnPoint] = field(default_factory=list)


def usage(config: Config, wish: Wish) -> int:
    """Print what turns took; changes nothing. Returns the exit code: 1 if a file could not be read."""
    if wish.plot and wish.as_json:
        raise SettingError("--plot is for people and --json for programs: take one of them away")
    zone = ZoneInfo(config.timezone)
    now = datetime.now(zone)
    period = _period(wish, now.date())
    is_curve = wish.plot and wish.by is None
    key = SessionKey.parse(_DEFAULT_KEY if wish.key is None else wish.key) if is_curve or wish.key is not None else None
    sessions_dir = data_dir(config) / "sessions"
    found = inventory(Disk(), sessions_dir, key)
    if key is not None and not found.files:
        _expect_none(config, key, wish)
    by: By = wish.by or ("day" if key else "session")
    read = _read(found, Account(by, zone, period), keeps_points=is_curve)
    rows = read.account.rows()
    if not rows:
        if not read.faults:
            print(f"nanochat: {_nothing(key if found.files else None, period)}", file=sys.stderr)
    elif wish.as_json:
        for row in rows:
            print(json.dumps(_fields(by, row, key)))
    elif is_curve:
        _draw_curve(read, period, zone, str(key))
    elif wish.plot:
        _draw_rows(by, rows, read.account.total())
    else:
        _print_table(by, rows, read.account.total())
    for fault in read.faults:
        print(f"nanochat: {clean(str(fault))}; it is left out", file=sys.stderr)
    if rows and not wish.as_json:
        _print_notes(read.account.total(), wish.plot)
        _print_caps(config, now.date(), read.session_usd, key)
    return 1 if read.faults else 0


def _expect_none(config: Config, key: SessionKey, wish: Wish) -> None:
    """Say that there is no such session; where none was named, and there are no others either, it is not missed."""
    there = {kept.key for kept in inventory(Disk(), data_dir(config) / "sessions").files}
    if wish.key is not None:
        raise unknown_among(config, there, key)
    if there:
        raise SettingError(
            f"--plot takes the KEY of a session, since there is none called {key}, or --by day for all of them"
        )


def _nothing(key: SessionKey | None, period: Period) -> str:
    whose = f"session {clean(str(key))} has" if key else "there are"
    return f"{whose} no turns in that time" if period != Period() else f"{whose} no turns yet"


# --- days --------------------------------------------------------------------------------------------------------------


def _period(wish: Wish, today: date) -> Period:
    since, until = day_of("--since", wish.since, today), day_of("--until", wish.until, today)
    if since and until and since > until:
        raise SettingError(f"--since {since} is after --until {until}")
    return Period(since, until)


# --- reading -----------------------------------------------------------------------------------------------------------


def _read(found: Inventory, account: Account, *, keeps_points: bool) -> _Read:
    read = _Read(account, list(found.faults))
    total = sum(kept.size_bytes for kept in found.files)
    for kept in measured(found.files, "reading sessions", total, lambda kept: kept.size_bytes):
        points: Iterable[TurnPoint] = _weighed(points_of(kept.path, kept.key), kept, read.session_usd)
        try:
            if keeps_points:
                points = list(points)
                read.points += points
            account.add(str(kept.key), points, is_archived=kept.is_archived)
        except StoreError as error:
            read.faults.append(error)
    return read


def _weighed(points: Iterable[TurnPoint], kept: Kept, session_usd: dict[str, float]) -> Iterator[TurnPoint]:
    """The points, and beside them what the session in use has cost in all: what its cap is held against."""
    usd = 0.0
    for one in points:
        usd += one.cost_usd or 0.0
        yield one
    if not kept.is_archived:
        session_usd[str(kept.key)] = session_usd.get(str(kept.key), 0.0) + usd


def _fields(by: By, row: Row, key: SessionKey | None) -> dict[str, object]:
    took = row.sum
    fields: dict[str, object] = {"key": str(key)} if key else {}
    fields["key" if by == "session" else by] = row.name
    if by == "session":
        fields["archived"] = row.is_archived
    return fields | {
        "turns": took.turns,
        "summaries": took.summaries,
        "input": took.usage.input,
        "cache_read": took.usage.cache_read,
        "cache_write": took.cache_write,
        "output": took.usage.output,
        "cost_usd": None if took.cost_usd is None else round(took.cost_usd, 8),
        "cache_share": None if took.cache_share is None else round(took.cache_share, 4),
        "unpriced": took.unpriced,
    }


# --- the table ---------------------------------------------------------------------------------------------------------


def _print_table(by: By, rows: Sequence[Row], total: Sum) -> None:
    lines = [(_name(row), *_cells(row.sum)) for row in rows]
    sums = [("total", *_cells(total))] if len(rows) > 1 else []
    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else None
    table = _fitting([(by, *_HEAD), *lines, *sums], width)
    first, *others = table
    print(dim(first) if on_terminal else first)
    for line in others[: len(lines)]:
        print(line)
    if sums:
        rule = "-" * max(map(len, table))
        print(dim(rule) if on_terminal else rule)
        print(others[-1])


def _name(row: Row) -> str:
    name = clean(row.name) or _UNKNOWN
    return f"{name} (archived)" if row.is_archived else name


def _cells(took: Sum) -> tuple[str, ...]:
    tokens = (took.usage.input, took.usage.cache_read, took.cache_write, took.usage.output)
    share = "-" if took.cache_share is None else f"{took.cache_share:.1%}"
    return (f"{took.turns:,}" if took.turns else "-", *(f"{count:,}" for count in tokens), share, _money(took))


def _money(took: Sum) -> str:
    if took.cost_usd is None:
        return "unknown"
    return f"{'>' if took.unpriced else ''}${took.cost_usd:,.4f}"


def _fitting(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The table with its headings and names in full, or else as there is room for it.

    With no `width` it is not read on a terminal: nothing but headings is shortened, and it is as wide as it has to be.
    """
    brief = [(rows[0][0], *_BRIEF_HEAD), *rows[1:]]
    for table, gap in ((rows, 2), (brief, 2), (brief, 1)):
        lines = _aligned(table, gap)
        if len(lines[0]) <= (width or _PLAIN_WIDTH):
            return lines
    return _aligned(rows, 2) if width is None else _squeezed(brief, width)


def _squeezed(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The table with its names cut where that is enough, or else with its tokens in thousands as well."""
    short = [[_in_thousands(cell) if 2 <= place <= 5 else cell for place, cell in enumerate(row)] for row in rows]
    longest = max(len(row[0]) for row in rows)
    room = 0
    for table, gap in ((rows, 1), (short, 2), (short, 1)):
        room = width - len(_aligned(table, gap)[0]) + longest
        if room >= min(longest, _NAME_CHARS):
            return _aligned([[_cut(row[0], room), *row[1:]] for row in table], gap)
    return _aligned([[_cut(row[0], max(room, _LEAST_NAME_CHARS)), *row[1:]] for row in short], 1)


def _in_thousands(cell: str) -> str:
    digits = cell.replace(",", "")
    return f"{round(int(digits) / 1000):,}k" if digits.isdecimal() and len(digits) > 4 else cell


def _cut(name: str, most: int) -> str:
    """A name with its middle left out: channels begin alike, and chats tell apart by their ends."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def _aligned(rows: Sequence[Sequence[str]], gap: int) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        (" " * gap).join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


# --- beneath -----------------------------------------------------------------------------------------------------------


def _print_notes(total: Sum, is_plot: bool) -> None:
    notes = []
    if total.summaries and not is_plot:
        notes.append(f"summaries of older messages included: {total.summaries:,}")
    if total.unpriced:
        notes.append(f"{counted(total.unpriced, 'turn')} of unknown price not in the cost")
    if notes:
        _print_beneath("; ".join(notes))


def _print_caps(config: Config, today: date, session_usd: dict[str, float], key: SessionKey | None) -> None:
    per_day, per_session = config.limits.usd_per_day, config.limits.usd_per_session
    if per_day:
        from nanochat.ledger.story import spent_on

        spent = spent_on(data_dir(config) / LEDGER, today)
        _print_beneath(f"today, all sessions: {_of_cap(spent, per_day)}, limits.usd_per_day")
    if per_session and session_usd:
        nearest = max(session_usd, key=lambda each: session_usd[each])
        whose = "this session" if key else f"the dearest session in use, {clean(nearest)}"
        _print_beneath(f"{whose}: {_of_cap(session_usd[nearest], per_session)}, limits.usd_per_session")


def _of_cap(spent: float, cap: float) -> str:
    return f"${spent:,.4f} of ${cap:,.2f} ({spent / cap:.1%})"


def _print_beneath(line: str) -> None:
    print(dim(line) if sys.stdout.isatty() else line)


# --- drawings ----------------------------------------------------------------------------------------------------------


def _draw_curve(read: _Read, period: Period, zone: ZoneInfo, key: str) -> None:
    from nanochat.cli import drawing

    points = [one for one in read.points if _is_in(period, one.at.astimezone(zone).date())]
    points.sort(key=lambda one: one.at)
    print(drawing.growth(points, clean(key), zone, drawing.Canvas.of_stdout()))


def _is_in(period: Period, day: date) -> bool:
    return (period.since is None or day >= period.since) and (period.until is None or day <= period.until)


def _draw_rows(by: By, rows: Sequence[Row], total: Sum) -> None:
    from nanochat.cli import drawing

    canvas = drawing.Canvas.of_stdout()
    named = [(_name(row), row.sum) for row in rows]
    print(drawing.days(named, total, canvas) if by == "day" else drawing.bars(named, total, canvas))
