"""`nanochat sessions search`: where words were said, in every conversation.

Knows how a message that was found is shown. Does not know how it is found.
"""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

from nanochat.channels.terminal.words import clean, dim
from nanochat.cli.dates import moment_of
from nanochat.cli.missing import unknown_among
from nanochat.cli.places import INDEX, data_dir, open_store
from nanochat.cli.progress import Bar
from nanochat.config import Config
from nanochat.doors import Found, Query
from nanochat.errors import SettingError
from nanochat.keys import SessionKey, is_glob
from nanochat.search import Marker, Progress, SearchIndex

__all__ = ["Wish", "search"]


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
    query = _query(wish, datetime.now(zone))
    with Bar() as bar:
        index = SearchIndex(data_dir(config) / "sessions", data_dir(config) / INDEX, progress=_shown_by(bar))
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


def _query(wish: Wish, now: datetime) -> Query:
    for key in wish.keys:
        if not is_glob(key):
            SessionKey.parse(key)  # what can be no key is a slip of the keyboard, not a session without hits
    since = moment_of("--since", wish.since, now, days=0)
    until = moment_of("--until", wish.until, now, days=1)
    if since and until and since >= until:
        raise SettingError(f"--since {clean(wish.since)} is after --until {clean(wish.until)}")
    # One that looks like a glob may be a key all the same.
    keys = dict.fromkeys(form for key in wish.keys for form in (key, glob.escape(key)))
    return Query(wish.words, tuple(keys), tuple(wish.roles), since, until, wish.limit)


def _shown_by(bar: Bar) -> Progress:
    def show(done: int, total: int) -> None:
        bar.show("reading conversations" if total else "waiting for another process that reads them", done, total)

    return show


async def _nothing(config: Config, wish: Wish) -> str:
    """That nothing was found; and where a key that was asked for is nobody's, that."""
    store = open_store(config)
    try:
        keys = [brief.key for brief in await store.list()] if wish.keys else []
    finally:
        await store.close()
    stranger = next((wanted for wanted in wish.keys if not any(key.matches(wanted) for key in keys)), None)
    if stranger is None:
        return f"nothing found for {wish.words}"
    if is_glob(stranger):
        return f"no session matches {stranger}; nanochat sessions lists them"
    return str(unknown_among(config, keys, SessionKey.parse(stranger)))


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
