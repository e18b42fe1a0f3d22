"""`nanochat sessions`: what conversations there are, and whether their files are sound.

Knows how a session, or a fault, is shown in one row. Does not know how it is kept.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from nanochat.channels.terminal.words import clean, counted
from nanochat.cli.missing import unknown_among
from nanochat.cli.places import data_dir, open_store
from nanochat.cli.progress import measured
from nanochat.config import Config
from nanochat.errors import StoreError
from nanochat.keys import SessionKey
from nanochat.ports import Brief
from nanochat.store import Disk, check
from nanochat.store.disk import file_error
from nanochat.store.inventory import inventory

__all__ = ["check_sessions", "list_sessions"]

_PREVIEW_CHARS = 60


async def list_sessions(config: Config, globs: Sequence[str], limit: int | None, *, as_json: bool) -> int:
    """Print the sessions whose keys match one of `globs`, or every one, newest first; changes nothing. Returns the exit code."""
    store = open_store(config)
    try:
        briefs = await store.list()
    finally:
        await store.close()
    shown = [brief for brief in briefs if not globs or any(brief.key.matches(glob) for glob in globs)][:limit]
    if as_json:
        for brief in shown:
            print(json.dumps(_fields(brief)))
        return 0
    if not shown:
        like = " ".join(clean(" or ".join(globs)).split())
        there = f"there is none like {like} among {counted(len(briefs), 'session')}"
        print(f"nanochat: {there if briefs else 'there are no sessions yet'}", file=sys.stderr)
        return 0
    width = max(len(clean(str(brief.key))) for brief in shown)
    zone = ZoneInfo(config.timezone)
    # A row is cut at the terminal's edge, as far as cells can be told without counting them; a file gets it as it is.
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for brief in shown:
        totals = brief.state.totals
        when = brief.state.updated_at.astimezone(zone).strftime("%Y-%m-%d %H:%M")
        turns = counted(totals.turns, "turn")
        head = f"{clean(str(brief.key)):{width}}  {when}  {turns:>11}  ${totals.cost_usd:8.4f}  "
        preview = " ".join(clean(brief.preview).split())[:_PREVIEW_CHARS]
        print(head + (preview[: max(0, columns - len(head))] if columns else preview))
    return 0


def check_sessions(config: Config, key: SessionKey | None, *, as_json: bool) -> int:
    """Print what is wrong with one session's file, or with all, line by line; changes nothing. 1 if anything is.

    Also with those that a list has to leave out, since they cannot be read: here is where one learns of them.
    """
    found = inventory(Disk(), data_dir(config) / "sessions")
    used = [kept for kept in found.files if not kept.is_archived]
    files = [kept for kept in used if key in (None, kept.key)]
    strangers = found.faults if key is None else ()
    if key is not None and not files:
        raise unknown_among(config, {kept.key for kept in used}, key)
    faults = 0
    # Not in an event loop, where Ctrl-C would wait for the end of it.
    for kept in measured(
        files, "checking sessions", sum(kept.size_bytes for kept in files), lambda kept: kept.size_bytes
    ):
        faults += _check(kept.path, kept.key, as_json=as_json)
    for error in strangers:
        _print_closed(error, as_json=as_json)
    if not as_json:
        sound = "" if faults or strangers else ", all sound"
        checked = counted(len({kept.key for kept in files}), "session")
        print(f"nanochat: {checked} checked{sound}", file=sys.stderr)
    return 1 if faults or strangers else 0


def _check(path: Path, key: SessionKey, *, as_json: bool) -> int:
    """Print what is wrong with one file; returns how much that is."""
    faults = 0
    try:
        for damage in check(path, key):
            faults += 1
            if as_json:
                print(json.dumps(_fault(key, path, damage.why, damage.line, damage.start)))
            else:
                print(f"{clean(str(key))}: line {damage.line} {damage.why}; {clean(str(path))}")
    except FileNotFoundError:
        return faults  # it was put away meanwhile
    except OSError as error:
        _print_closed(file_error(error, path, key), as_json=as_json)
        return faults + 1
    except StoreError as error:
        _print_closed(error, as_json=as_json)
        return faults + 1
    return faults


def _print_closed(error: StoreError, *, as_json: bool) -> None:
    """A file of which no line can be looked at."""
    print(json.dumps(_fault(error.key, error.path, str(error))) if as_json else clean(str(error)))


def _fault(
    key: SessionKey | str, path: Path | str, why: str, line: int | None = None, byte: int | None = None
) -> dict[str, object]:
    return {"key": str(key), "path": str(path), "line": line, "byte": byte, "why": why}


def _fields(brief: Brief) -> dict[str, object]:
    state = brief.state
    return {
        "key": str(brief.key),
        "created_at": state.created_at.isoformat(),
        "updated_at": state.updated_at.isoformat(),
        "messages": state.n,
        "turns": state.totals.turns,
        "cost_usd": state.totals.cost_usd,
        "model": state.model,
        "size_bytes": brief.size_bytes,
        "preview": brief.preview,
    }
