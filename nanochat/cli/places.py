"""Where things are in the data directory.

Knows names of files. Does not know what is in them.
"""

from __future__ import annotations

from pathlib import Path

from nanochat.config import Config
from nanochat.store import FileStore

__all__ = ["ARCHIVE", "HTTP_SOCKET", "INDEX", "LEDGER", "WAKE", "archive_dir", "data_dir", "open_store"]

LEDGER = "ledger.db"
INDEX = "index.db"
WAKE = "wake"
HTTP_SOCKET = "http.sock"
ARCHIVE = "archive"


def data_dir(config: Config) -> Path:
    """The data directory, absolute."""
    return Path(config.data_dir)


def archive_dir(config: Config) -> Path:
    """Where sessions lie that were put away."""
    return data_dir(config) / ARCHIVE


def open_store(config: Config) -> FileStore:
    """The session files; nothing is touched until something is read or written."""
    return FileStore(data_dir(config) / "sessions", durability=config.sessions.durability)
