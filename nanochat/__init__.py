"""nanochat: a personal-assistant daemon whose every conversation is one plain JSONL file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanochat.keys import SessionKey
    from nanochat.sessions import Session, SessionManager

__all__ = ["Session", "SessionKey", "SessionManager", "__version__"]

__version__ = "0.1.0"

_HOMES = {"Session": "nanochat.sessions", "SessionManager": "nanochat.sessions", "SessionKey": "nanochat.keys"}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for (PEP 562): `nanochat --help` must not pay for asyncio."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - the same reason

    return getattr(import_module(_HOMES[name]), name)
