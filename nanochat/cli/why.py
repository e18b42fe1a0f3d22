"""`nanochat why`: what became of a message.

Knows how a row of the inbox is told in words. Does not know how rows come about.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

from nanochat.channels.terminal.words import clean
from nanochat.cli.places import LEDGER, data_dir
from nanochat.config import Config
from nanochat.ledger import KEPT_DAYS, Story, stories

__all__ = ["why"]

_STATES = {
    "waiting": "waiting",
    "claimed": "being answered",
    "ran": "answered, not yet delivered",
    "delivered": "delivered",
    "done": "answered",
    "failed": "failed",
    "refused": "refused",
    "quarantined": "put aside: it cannot be read",
    "replaced": "an edit, taken over",
    "dropped": "an edit that came too late",
    "interrupted": "interrupted",
}


def why(config: Config, subject: str, limit: int, *, as_json: bool) -> int:
    """Print the newest rows of a source or a session, or of all; changes nothing. Returns the exit code."""
    found = stories(data_dir(config) / LEDGER, subject, limit)
    zone = ZoneInfo(config.timezone)
    if not found:
        asked = subject or "any message"
        print(f"nanochat: nothing is known of {clean(asked)}; messages are known for {KEPT_DAYS} days", file=sys.stderr)
        return 1 if subject else 0
    for story in found:
        print(json.dumps(_fields(story)) if as_json else _line(story, zone))
    return 0


def _line(story: Story, zone: ZoneInfo) -> str:
    parts = [
        story.accepted_at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S"),
        clean(story.source_id),
        clean(story.key),
        _STATES.get(story.state, story.state),
    ]
    if story.finished_at is not None:
        parts.append(f"after {(story.finished_at - story.accepted_at).total_seconds():.1f} s")
    if story.attempts > 1:
        parts.append(f"{story.attempts} attempts")
    if story.head not in ("", story.source_id):
        parts.append(f"together with {clean(story.head)}")
    if story.origin:
        parts.append(f"from {clean(story.origin)}")
    if story.message_ids:
        parts.append(f"as {', '.join(map(clean, story.message_ids))}")
    if story.note:
        parts.append(clean(story.note))
    return "  ".join(parts)


def _fields(story: Story) -> dict[str, object]:
    return {
        "key": story.key,
        "source_id": story.source_id,
        "state": story.state,
        "why": story.note,
        "accepted_at": _stamp(story.accepted_at),
        "ran_at": _stamp(story.ran_at),
        "finished_at": _stamp(story.finished_at),
        "attempts": story.attempts,
        "answered_with": story.head or story.source_id,
        "origin": story.origin,
        "message_ids": story.message_ids,
    }


def _stamp(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None
