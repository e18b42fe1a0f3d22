"""`nanochat sessions`: what conversations there are, and whether their files are sound.

Knows how a session, or a fault, is shown in one row. Does not know how it is kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

from nanochat.channels.terminal.words import clean, counted
from nanochat.cli.shelf import unknown
from nanochat.cli.wiring import open_store
from nanochat.config import Config
from nanochat.keys import SessionKey
from nanochat.ports import Brief
from nanochat.store import FileStore, check

__all__ = ["check_sessions", "list_sessions"]

_PREVIEW_CHARS = 60


async def list_sessions(config: Config, globs: Sequence[str], limit: int | None, *, as_json: bool) -> int:
    """Print the sessions whose keys match one of `globs`, or every one, newest first; changes nothing. Returns the exit code."""
    store = open_store(config)
    try:
        briefs = await store.list()
    finally:
        await store.close()
    shown = [brief for brief in briefs if not globs or any(fnmatchcase(str(brief.key), glob) for glob in globs)][:limit]
    if as_json:
        for brief in shown:
            print(json.dumps(_fields(brief)))
        return 0
    if not shown:
        there = f"there is none like {clean(' or '.join(globs))} among {counted(len(briefs), 'session')}"
        print(f"nanochat: {there if briefs else 'there are no sessions yet'}", file=sys.stderr)
        return 0
    width = max(len(clean(str(brief.key))) for brief in shown)
    for brief in shown:
        totals = brief.state.totals
        when = brief.state.updated_at.astimezone().strftime("%Y-%m-%d %H:%M")
        preview = " ".join(clean(brief.preview).split())[:_PREVIEW_CHARS]
        turns = counted(totals.turns, "turn")
        print(f"{clean(str(brief.key)):{width}}  {when}  {turns:>11}  ${totals.cost_usd:8.4f}  {preview}")
    return 0


async def check_sessions(config: Config, key: SessionKey | None, *, as_json: bool) -> int:
    """Print what is wrong with one session's file, or with all, line by line; changes nothing. 1 if anything is."""
    store = open_store(config)
    try:
        if key is not None and not await store.exists(key):
            raise await unknown(config, store, key)
        keys = [brief.key for brief in await store.list()] if key is None else [key]
    finally:
        await store.close()
    faults = sum(_check(store, each, as_json=as_json) for each in keys)
    if not as_json:
        sound = "" if faults else ", all sound"
        print(f"nanochat: {counted(len(keys), 'session')} checked{sound}", file=sys.stderr)
    return 1 if faults else 0


def _check(store: FileStore, key: SessionKey, *, as_json: bool) -> int:
    """Print what is wrong with one file; returns how much that is."""
    path = store.path_of(key)
    faults = 0
    for damage in check(path, key):
        faults += 1
        if as_json:
            fields = {"key": str(key), "path": str(path), "line": damage.line, "byte": damage.start, "why": damage.why}
            print(json.dumps(fields))
        else:
            print(f"{clean(str(key))}: line {damage.line} {damage.why}; {path}")
    return faults


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
