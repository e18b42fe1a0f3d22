"""`nanochat telegram`: who may talk to the bot.

Knows how people are shown and let in. Does not know Telegram.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from nanochat.channels.terminal.words import clean
from nanochat.cli.ledgers import ledger_of
from nanochat.cli.places import LEDGER, data_dir
from nanochat.config import Config
from nanochat.ledger import Pairing, people

__all__ = ["pair", "pairings", "revoke"]


async def pair(config: Config, code: str) -> int:
    """Let in whoever was given this code. Returns the exit code.

    Raises:
        CommandError: no such code is out.
    """
    async with ledger_of(config) as ledger:
        person = await ledger.pairings.pair(code)
    print(f"{clean(person.name)} ({person.user_id}) may talk to the bot now")
    return 0


def pairings(config: Config, *, as_json: bool) -> int:
    """Print everybody who was let in or holds a code; changes nothing. Returns the exit code."""
    now, zone = datetime.now(UTC), ZoneInfo(config.timezone)
    known = [p for p in people(data_dir(config) / LEDGER) if p.paired_at is not None or p.is_pending(now)]
    if as_json:
        for person in known:
            print(json.dumps(_fields(person)))
        return 0
    if not known:
        print("nanochat: nobody is paired; whoever writes to the bot is given a code", file=sys.stderr)
    for person in known:
        if person.paired_at is not None:
            how = f"paired {person.paired_at.astimezone(zone):%Y-%m-%d %H:%M}"
        else:
            how = f"waits; to let in: nanochat telegram pair {person.code}"
        print(f"{person.user_id:>12}  {clean(person.name)}  {how}")
    return 0


async def revoke(config: Config, user_id: int) -> int:
    """Let a person in no longer. Returns the exit code."""
    async with ledger_of(config) as ledger:
        was_known = await ledger.pairings.revoke(user_id)
    listed = [
        name for name, ids in (("telegram.allow", config.telegram.allow), ("owner", config.owner)) if user_id in ids
    ]
    if was_known:
        print(f"{user_id} is no longer paired")
    if listed:
        print(f"nanochat: {user_id} still stands in {' and '.join(listed)} of the settings", file=sys.stderr)
    elif not was_known:
        print(f"nanochat: {user_id} is not paired; nanochat telegram pairings lists who is", file=sys.stderr)
    return 0 if was_known and not listed else 1


def _fields(person: Pairing) -> dict[str, object]:
    return {
        "id": person.user_id,
        "name": person.name,
        "code": None if person.paired_at else person.code,
        "offered_at": person.offered_at.isoformat(),
        "paired_at": person.paired_at.isoformat() if person.paired_at else None,
    }
