"""`nanochat sessions`: what conversations there are.

Knows how a session is shown in one row. Does not know how it is kept.
"""

from __future__ import annotations

import json
import sys

from nanochat.channels.terminal.words import clean
from nanochat.cli.wiring import open_store
from nanochat.config import Config
from nanochat.ports import Brief

__all__ = ["list_sessions"]

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
        print(f"{clean(str(brief.key)):{width}}  {when}  {totals.turns:5} turns  ${totals.cost_usd:8.4f}  {preview}")
    return 0


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
