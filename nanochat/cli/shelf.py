"""The catalog of conversations for one command.

Knows how it is opened and closed. Does not know any command.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nanochat.catalog import Catalog
from nanochat.cli.missing import unknown
from nanochat.cli.places import open_store
from nanochat.config import Config
from nanochat.errors import UnknownSession
from nanochat.keys import SessionKey
from nanochat.sessions import SessionManager

__all__ = ["opened", "unknown"]


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Catalog]:
    """The catalog, for the length of a block.

    Raises:
        UnknownSession: the block asked for one that is not there; the words name what may have been meant.
    """
    store = open_store(config)
    manager = SessionManager(store)
    try:
        yield Catalog(manager, store, budget_tokens=config.context.budget_tokens)
    except UnknownSession as error:
        raise await unknown(config, store, SessionKey.parse(error.key)) from error
    finally:
        await manager.close()
