"""`nanochat sessions`: what conversations there are, and whether their files are sound.

Knows how a session, or a fault, is shown in one row. Does not know how it is kept.
"""

from __future__ import annotations

import json
import sys

from nanochat.channels.terminal.words import clean, counted
from nanochat.cli.wiring import open_store
from nanochat.config import Config
from nanochat.errors import StoreError
from nanochat.keys import SessionKey
from nanochat.ports import Brief
from nanochat.store import check

__all__ = ["check_sessions", "list_sessions"]

_PREVIEW_CHARS = 60


async def list_sessions(config: Config, *, as_json: bool) -> int:
    """Print every session, newest first; changes nothing. Returns the exit code."""
    store = open_store(config)
    try:
        briefs = await store.list()
    finally:
        await store.close()
    if as_json:
        for brief in briefs:
            print(json.dumps(_fields(brief)))
        return 0
    if not briefs:
        print("nanochat: there are no sessions yet", file=sys.stderr)
        return 0
    width = max(len(clean(str(brief.key))) for brief in briefs)
    for brief in briefs:
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
        keys = [brief.key for brief in await store.list()] if key is None else [key]
    finally:
        await store.close()
    faults = 0
    for each in keys:
        path = store.path_of(each)
        if not path.exists():
            raise StoreError(f"there is no session {each}; nanochat sessions lists them", key=str(each), path=str(path))
        for damage in check(path, each):
            faults += 1
            if as_json:
                fields = {
                    "key": str(each),
                    "path": str(path),
                    "line": damage.line,
                    "byte": damage.start,
                    "why": damage.why,
                }
                print(json.dumps(fields))
            else:
                print(f"{clean(str(each))}: line {damage.line} {damage.why}; {path}")
    if not as_json:
        sound = "" if faults else ", all sound"
        print(f"nanochat: {counted(len(keys), 'session')} checked{sound}", file=sys.stderr)
    return 1 if faults else 0


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
