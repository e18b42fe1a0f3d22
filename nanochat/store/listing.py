"""Every session at a glance, from the last bytes of its file.

Knows names and how little of a file must be read. Does not know what is live: the newest line is shown even if it was undone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nanochat.errors import KeyFormError, StoreError
from nanochat.keys import SessionKey
from nanochat.lines import decode, state_of, text_at_a_glance
from nanochat.ports import Brief
from nanochat.records import Message, Snapshot, State, text_of
from nanochat.store.disk import Disk, modified_at
from nanochat.store.names import SUFFIX, key_of, nanobot_key_of
from nanochat.store.places import own_path, workspaces
from nanochat.store.scan import Backwards, Source, line_at, whole_end
from nanochat.transcript import unframed

__all__ = ["glance", "list_sessions"]

# Holds the newest snapshot and message of most files; the wider part those of nearly all.
TAIL_BYTES = 4096
WIDE_BYTES = 64 * 1024

# Where that much holds no snapshot, the header serves: a list need not be exact about a file that nobody keeps well.
MAX_SEARCH_BYTES = 1024 * 1024

PREVIEW_CHARS = 120

# How `encode` begins a snapshot; one that begins otherwise is found by the search.
_SNAPSHOT = b'{"_type":"metadata"'


def list_sessions(disk: Disk, sessions_dir: Path) -> list[Brief]:
    """All sessions, newest first. A file that cannot be read, or tells no key, is left out: `check` is for those."""
    briefs: dict[SessionKey, Brief] = {}
    for directory in (sessions_dir, *workspaces(sessions_dir)):
        for path in _files(directory):
            try:
                brief = glance(disk, path)
            except (OSError, StoreError):
                continue
            if brief is not None and (brief.key not in briefs or path == str(own_path(sessions_dir, brief.key))):
                briefs[brief.key] = brief
    return sorted(briefs.values(), key=lambda brief: brief.modified_at, reverse=True)


def _files(directory: Path) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            yield from (entry.path for entry in entries if entry.name.endswith(SUFFIX) and entry.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return


def glance(disk: Disk, path: str) -> Brief | None:
    """A session by its file; None where that is empty, or tells no key."""
    fd = disk.open_safely(path, os.O_RDONLY)
    try:
        status = os.fstat(fd)
        key = key_of(stem := os.path.basename(path).removesuffix(SUFFIX))
        key = key or _header_key(disk, fd, status) or nanobot_key_of(stem)
        if key is None or not status.st_size:
            return None
        source = Source(disk, fd, key, modified_at(status))
        size = status.st_size
        state, text = _glance(source, size, TAIL_BYTES) or _glance(source, size, WIDE_BYTES) or _search(source, size)
    finally:
        os.close(fd)
    return Brief(key, state, _preview(text), status.st_size, source.known_at)


def _header_key(disk: Disk, fd: int, status: os.stat_result) -> SessionKey | None:
    known_at = modified_at(status)
    # Any key will do to read with: the header is asked for its own.
    line = line_at(Source(disk, fd, SessionKey("cli", "default"), known_at), 0, status.st_size)
    record = decode(line.data, 0, known_at=known_at) if line and line.data else None
    if not isinstance(record, Snapshot):
        return None
    try:
        return SessionKey.parse(record.state.key)
    except KeyFormError:
        return None


def _glance(source: Source, size: int, reach_bytes: int) -> tuple[State, str] | None:
    """The newest snapshot's state and the newest message's text, if both lie in the last bytes."""
    start = max(0, size - reach_bytes)
    data = source.disk.pread(source.fd, size - start, start)
    at = data.rfind(b"\n" + _SNAPSHOT) + 1
    if at == 0 and (start > 0 or not data.startswith(_SNAPSHOT)):
        return None
    state = state_of(data[at : data.find(b"\n", at) + 1], start + at, known_at=source.known_at)
    if state is None or state.key not in ("", str(source.key)):
        return None
    end = data.rfind(b"\n")
    while end > 0:
        begin = data.rfind(b"\n", 0, end) + 1
        if begin == 0 and start > 0:
            break
        if not data.startswith(_SNAPSHOT, begin):
            line = data[begin : end + 1]
            if (text := text_at_a_glance(line)) is not None:
                return state, text
            record = decode(line, start + begin, known_at=source.known_at)
            if isinstance(record, Message):
                return state, text_of(record.content)
        end = begin - 1
    return None


def _search(source: Source, size: int) -> tuple[State, str]:
    """The newest snapshot's state, and the newest message's text."""
    back = Backwards(source, whole_end(source, size), block_bytes=TAIL_BYTES)
    state: State | None = None
    message: Message | None = None
    while (state is None or message is None) and (line := back.previous()) is not None:
        if size - line.end > MAX_SEARCH_BYTES:
            break
        record = source.record(line)
        if isinstance(record, Message):
            message = message or record
        elif isinstance(record, Snapshot):
            state = state or record.state
    if state is None:
        header = line_at(source, 0, size)
        record = source.record(header) if header else None
        state = (
            record.state if isinstance(record, Snapshot) else State(str(source.key), source.known_at, source.known_at)
        )
    return state, text_of(message.content) if message is not None else ""


def _preview(text: str) -> str:
    line = unframed(text.strip()).partition("\n")[0].rstrip()
    return line if len(line) <= PREVIEW_CHARS else line[: PREVIEW_CHARS - 1] + "…"
