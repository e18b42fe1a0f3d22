"""The catalog of conversations for one command, and a word for who asks it for one that is not there.

Knows how a key that was mistyped, or whose session was put away, is told. Does not know any command.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nanochat.catalog import Catalog
from nanochat.cli.wiring import data_dir, open_store
from nanochat.config import Config
from nanochat.errors import UnknownSession
from nanochat.keys import SessionKey
from nanochat.sessions import SessionManager
from nanochat.store import FileStore
from nanochat.store.names import SUFFIX, stem_of

__all__ = ["opened", "unknown"]

# Of two keys that differ in one digit of ten, and not of two that have only their channel in common.
_NEAR = 0.75


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


async def unknown(config: Config, store: FileStore, key: SessionKey) -> UnknownSession:
    """The error for a session that is not there."""
    put_away = _archived(data_dir(config) / "archive", key)
    if put_away:
        return UnknownSession(str(key), hint=f"it was put away as {put_away[-1]}")
    keys = [str(brief.key) for brief in await store.list()]
    near = difflib.get_close_matches(str(key), keys, n=1, cutoff=_NEAR)
    return UnknownSession(str(key), hint=f"did you mean {near[0]}?" if near else "")


def _archived(directory: Path, key: SessionKey) -> list[Path]:
    """What was put away of a session, oldest first."""
    return sorted(directory.glob(f"{stem_of(key)}.{'[0-9]' * 8}T{'[0-9]' * 6}Z*{SUFFIX}"))
