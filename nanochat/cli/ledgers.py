"""The ledger, for a command that writes it.

Knows where it is, and that this process is one of several. Does not know what is written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nanochat.cli.places import LEDGER, data_dir
from nanochat.config import Config
from nanochat.ledger import Ledger
from nanochat.process.liveness import Presence

__all__ = ["ledger_of"]


@asynccontextmanager
async def ledger_of(config: Config) -> AsyncIterator[Ledger]:
    """Open for as long as the command needs it."""
    presence = Presence(data_dir(config) / "leases")
    ledger = Ledger(data_dir(config) / LEDGER, presence)
    try:
        yield ledger
    finally:
        await ledger.close()
        presence.leave()
