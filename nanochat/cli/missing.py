"""A word for who asks for a session that is not there.

Knows how a key that was mistyped, or whose session was put away, is told. Does not know any command.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from nanochat.cli.places import archive_dir
from nanochat.config import Config
from nanochat.errors import UnknownSession
from nanochat.keys import SessionKey
from nanochat.store import FileStore
from nanochat.store.names import SUFFIX, stem_of

__all__ = ["unknown", "unknown_among"]

# Of two keys that differ in one digit of ten, and not of two that have only their channel in common.
_NEAR = 0.75


async def unknown(config: Config, store: FileStore, key: SessionKey) -> UnknownSession:
    """The error for a session that is not there."""
    return unknown_among(config, [brief.key for brief in await store.list()], key)


def unknown_among(config: Config, keys: Iterable[SessionKey], key: SessionKey) -> UnknownSession:
    """The error for a session that is none of `keys`, which are all there are."""
    put_away = _archived(archive_dir(config), key)
    if put_away:
        return UnknownSession(str(key), hint=f"it was put away as {put_away[-1]}")
    near = difflib.get_close_matches(str(key), map(str, keys), n=1, cutoff=_NEAR)
    return UnknownSession(str(key), hint=f"did you mean {near[0]}?" if near else "")


def _archived(directory: Path, key: SessionKey) -> list[Path]:
    """What was put away of a session, oldest first."""
    return sorted(directory.glob(f"{stem_of(key)}.{'[0-9]' * 8}T{'[0-9]' * 6}Z*{SUFFIX}"))
