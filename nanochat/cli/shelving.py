"""`nanochat sessions reset, undo, archive, delete`: what changes a conversation from outside.

Knows how each is told to have been done. Does not know how it is done.
"""

from __future__ import annotations

import json
import sys

from nanochat.channels.terminal.words import clean, counted
from nanochat.cli.shelf import opened
from nanochat.config import Config
from nanochat.errors import SettingError
from nanochat.keys import SessionKey
from nanochat.records import text_of

__all__ = ["archive", "delete", "reset", "undo"]

_SHOWN_CHARS = 60


async def reset(config: Config, key: SessionKey, *, as_json: bool) -> int:
    """Begin a new conversation in a session."""
    async with opened(config) as catalog:
        await catalog.reset(key, "cli")
    if as_json:
        print(json.dumps({"key": str(key), "reset": True}))
    else:
        print(f"a new conversation begins in {clean(str(key))}; nanochat sessions undo {clean(str(key))} goes back")
    return 0


async def undo(config: Config, key: SessionKey, *, as_json: bool) -> int:
    """Take back the last exchange of a session, or its last reset; 1 where there is nothing to take back."""
    async with opened(config) as catalog:
        undone = await catalog.undo(key)
    if undone is None:
        print(f"nanochat: there is nothing to take back in {clean(str(key))}", file=sys.stderr)
        return 1
    what = "reset" if undone.content is None else "exchange"
    text = "" if undone.content is None else text_of(undone.content)
    if as_json:
        print(json.dumps({"key": str(key), "undone": what, "text": text}))
    else:
        print(f"took back {'the /new' if undone.content is None else f'“{_short(text)}”'}")
    return 0


async def archive(config: Config, key: SessionKey, *, as_json: bool) -> int:
    """Put a session's file away, and say where it is and what of it was written down."""
    async with opened(config) as catalog:
        put_away = await catalog.put_away(key, "asked")
    for one in put_away:
        if as_json:
            print(json.dumps({**one.fields(), "receipt": str(one.receipts)}))
        else:
            print(
                f"{clean(str(key))} ({counted(one.messages, 'message')}) is now {one.moved_to}; receipt in {one.receipts}"
            )
    return 0


async def delete(config: Config, key: SessionKey, *, is_sure: bool, as_json: bool) -> int:
    """Remove a session's file for good."""
    async with opened(config) as catalog:
        brief = await catalog.brief(key)
        what = f"{counted(brief.state.n, 'message')} in {brief.size_bytes:,} bytes"
        if not is_sure:
            raise SettingError(
                f"this would destroy {key} for good: {what}; --yes does it, nanochat sessions archive {key} puts it away"
            )
        await catalog.delete(key)
    if as_json:
        fields = {"key": str(key), "deleted": True, "messages": brief.state.n, "size_bytes": brief.size_bytes}
        print(json.dumps(fields))
    else:
        print(f"deleted {clean(str(key))}: {what}")
    return 0


def _short(text: str) -> str:
    line = " ".join(clean(text).split())
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…"
