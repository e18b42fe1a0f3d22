"""`nanochat sessions search`: where words were said, in every conversation.

Knows how a message that was found is shown, and how a time is typed. Does not know how it is found.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from nanochat.channels.terminal.words import clean, dim
from nanochat.cli.places import INDEX, data_dir, open_store
from nanochat.cli.progress import PATIENCE_S
from nanochat.config import Config
from nanochat.doors import Found, Query
from nanochat.errors import SettingError
from nanochat.keys import SessionKey
from nanochat.search import Marker, SearchIndex

if TYPE_CHECKING:  # rich is loaded only where there is something to wait for
    from rich.progress import Progress

__all__ = ["Wish", "search"]

_GLOB = frozenset("*?[")
_DAYS_AGO = {"today": 0, "yesterday": 1}


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    words: str
    keys: Sequence[str]
    roles: Sequence[str]
    since: str
    until: str
    limit: int
    as_json: bool


async def search(config: Config, wish: Wish) -> int:
    """Print what matches, newest first. Returns the exit code: 1 where nothing does."""
    zone = ZoneInfo(config.timezone)
    query = _query(wish, zone, datetime.now(UTC).astimezone(zone))
    with _Bar() as bar:
        index = SearchIndex(data_dir(config) / "sessions", data_dir(config) / INDEX, progress=bar.tell)
        try:
            found = await index.search(query)
        finally:
            await index.close()
    for fault in index.skipped:
        _say(f"{fault}; it is left out")
    if not found:
        _say(await _nothing(config, wish))
        return 1
    if wish.as_json:
        for hit in found:
            print(json.dumps(_fields(hit)))
        return 0
    with Marker(wish.words) as marker:
        show = _on_screen if sys.stdout.isatty() else _in_one_line
        for hit in found:
            print(show(hit, zone, marker))
    return 0


def _query(wish: Wish, zone: tzinfo, now: datetime) -> Query:
    for key in wish.keys:
        if not _GLOB & {*key}:
            SessionKey.parse(key)  # what can be no key is a slip of the keyboard, not a session without hits
    since = _moment("--since", wish.since, zone, now, days=0)
    until = _moment("--until", wish.until, zone, now, days=1)
    if since and until and since >= until:
        raise SettingError(f"--since {clean(wish.since)} is after --until {clean(wish.until)}")
    return Query(wish.words, tuple(wish.keys), tuple(wish.roles), since, until, wish.limit)


def _moment(option: str, text: str, zone: tzinfo, now: datetime, *, days: int) -> datetime | None:
    """The time that is typed; of a whole day, the midnight at its beginning, or `days` after that."""
    if not text:
        return None
    ago = _DAYS_AGO.get(text)
    if ago is None and text[-1] == "d" and text[:-1].isdecimal() and len(text) < 6:
        ago = int(text[:-1])
    try:
        if ago is None:
            at = datetime.fromisoformat(text)
            if len(text) > len("2026-11-20"):
                return at if at.tzinfo else at.replace(tzinfo=zone)
        else:
            at = now - timedelta(days=ago)
        return datetime(at.year, at.month, at.day, tzinfo=zone) + timedelta(days=days)
    except (ValueError, OverflowError):
        raise SettingError(
            f"{option}: {clean(text)!r} is not a day; it takes 2026-11-20, 2026-11-20T18:00, today, yesterday or 7d"
        ) from None


async def _nothing(config: Config, wish: Wish) -> str:
    """That nothing was found; and where a key that was asked for is nobody's, that."""
    store = open_store(config)
    try:
        keys = [str(brief.key) for brief in await store.list()] if wish.keys else []
    finally:
        await store.close()
    for wanted in wish.keys:
        if not any(fnmatchcase(key, wanted) or key == wanted for key in keys):
            return f"no session matches {wanted}; nanochat sessions lists them"
    return f"nothing found for {wish.words}"


# --- what is shown -----------------------------------------------------------------------------------------------------


def _say(words: str) -> None:
    print(f"nanochat: {clean(words)}", file=sys.stderr)


def _fields(hit: Found) -> dict[str, object]:
    return {
        "key": str(hit.key),
        "n": hit.n,
        "role": hit.role,
        "at": hit.at.isoformat(),
        "text": hit.text,
        "excerpt": hit.excerpt,
    }


def _head(hit: Found, zone: tzinfo) -> tuple[str, str, str]:
    return clean(str(hit.key)), hit.at.astimezone(zone).strftime("%Y-%m-%d %H:%M"), hit.role


def _in_one_line(hit: Found, zone: tzinfo, _: Marker) -> str:
    return "  ".join((*_head(hit, zone), clean(hit.excerpt)))


def _on_screen(hit: Found, zone: tzinfo, marker: Marker) -> str:
    """On two lines, the words that were looked for in colour."""
    text = clean(hit.excerpt)
    pieces: list[str] = []
    end = 0
    for start, stop in marker.places(text):
        pieces += text[end:start], _highlighted(text[start:stop])
        end = stop
    return f"{dim('  '.join(_head(hit, zone)))}\n  {''.join(pieces)}{text[end:]}"


def _highlighted(text: str) -> str:
    """Bold where colours are unwanted (https://no-color.org)."""
    return f"\x1b[{'1' if os.environ.get('NO_COLOR') else '1;33'}m{text}\x1b[0m"


class _Bar(AbstractContextManager["_Bar"]):
    """How far the reading is, on a terminal, and not before a second has gone."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()
        self._progress: Progress | None = None

    def tell(self, done: int, total: int) -> None:
        """See `search.Progress`."""
        if not sys.stderr.isatty() or time.monotonic() - self._begun_s < PATIENCE_S:
            return
        if self._progress is None:
            self._progress = _started()
        words = "reading conversations" if total else "waiting for another process that reads them"
        self._progress.update(self._progress.task_ids[0], description=words, completed=done, total=total or None)

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()


def _started() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    progress.add_task("", total=None)
    progress.start()
    return progress
