"""Every session at a glance, from the last bytes of its file.

Knows names and how little of a file must be read. Does not know what is live: the newest line is shown even if it was undone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from nanochat.errors import StoreError
from nanochat.keys import SessionKey
from nanochat.lines import decode, state_of, text_at_a_glance
from nanochat.ports import Brief
from nanochat.records import Message, Snapshot, State, Totals, Usage, text_of
from nanochat.store.disk import Disk, dir_error, modified_at
from nanochat.store.headers import header_key
from nanochat.store.names import SUFFIX, key_of, nanobot_key_of
from nanochat.store.places import directories, own_path
from nanochat.store.scan import Backwards, Source, line_at, whole_end
from nanochat.transcript import unframed

__all__ = ["glance", "list_sessions", "state_at_a_glance"]

# Holds the newest snapshot and message of most files; the wider part those of nearly all.
TAIL_BYTES = 4096
WIDE_BYTES = 64 * 1024

# Where that much holds no snapshot, the header serves: a list need not be exact about a file that nobody keeps well.
MAX_SEARCH_BYTES = 1024 * 1024

PREVIEW_CHARS = 120

# How `encode` begins a snapshot; one that begins otherwise is found by the search.
_SNAPSHOT = b'{"_type":"metadata"'


def list_sessions(disk: Disk, sessions_dir: Path) -> list[Brief]:
    """All sessions, newest first. A file that cannot be read, or tells no key, is left out: `check` is for those.

    Raises:
        StoreError: a directory cannot be read.
    """
    briefs: dict[SessionKey, Brief] = {}
    for directory in directories(sessions_dir):
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
    except FileNotFoundError:
        return
    except OSError as error:
        raise dir_error(error, directory) from error


def glance(disk: Disk, path: str, whose: SessionKey | None = None) -> Brief | None:
    """A session by its file; None where that is empty, or tells no key. `whose` is named where it cannot be opened."""
    fd = disk.open_safely(path, os.O_RDONLY, whose)
    try:
        status = os.fstat(fd)
        key = key_of(stem := os.path.basename(path).removesuffix(SUFFIX))
        key = key or header_key(disk, fd) or nanobot_key_of(stem)
        if key is None or not status.st_size:
            return None
        source = Source(disk, fd, key, modified_at(status))
        size = status.st_size
        state, text = _glance(source, size, TAIL_BYTES) or _glance(source, size, WIDE_BYTES) or _search(source, size)
    finally:
        os.close(fd)
    return Brief(key, state, _preview(text), status.st_size, source.known_at)


def _glance(source: Source, size: int, reach_bytes: int) -> tuple[State, str] | None:
    """The newest snapshot's state and the newest message's text, if both lie in the last bytes."""
    start = max(0, size - reach_bytes)
    data = source.disk.pread(source.fd, size - start, start)
    at = data.rfind(b"\n" + _SNAPSHOT) + 1
    if at == 0 and (start > 0 or not data.startswith(_SNAPSHOT)):
        return None
    line = data[at : data.find(b"\n", at) + 1]
    state = state_at_a_glance(line) or state_of(line, start + at, known_at=source.known_at)
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


class _Totals(msgspec.Struct, gc=False):
    turns: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    cost_usd: float = 0.0


class _Metadata(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """That of most sessions. Whatever else may stand there, such as a system text's place, is left to the patient reader."""

    model: str = ""
    totals: _Totals = msgspec.field(default_factory=_Totals)


class _Snapshot(msgspec.Struct, gc=False):
    """A value of another type is an error, and left to the patient reader as well."""

    kind: str = msgspec.field(name="_type", default="")
    key: str = ""
    created_at: str = ""
    updated_at: str = ""
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    last_consolidated: int = 0
    version: int = msgspec.field(name="v", default=0)
    n: int = 0


_SNAPSHOTS = msgspec.json.Decoder(_Snapshot)


def state_at_a_glance(line: bytes) -> State | None:
    """What `lines.state_of` would say, at a third of its price; None where the line has to be decoded to tell.

    A test holds the two together.
    """
    if not line.isascii():  # what is skipped is not looked at for broken UTF-8
        return None
    try:
        found = _SNAPSHOTS.decode(line)
        created_at = datetime.fromisoformat(found.created_at)
        updated_at = datetime.fromisoformat(found.updated_at)
    except (ValueError, RecursionError):
        return None
    if found.kind != "metadata" or created_at.tzinfo is not UTC or updated_at.tzinfo is not UTC:
        return None
    totals = found.metadata.totals
    usage = Usage(totals.input, totals.cache_read, totals.cache_write, totals.cache_write_1h, totals.output)
    return State(
        found.key,
        created_at,
        updated_at,
        n=max(0, found.n),
        last_consolidated=max(0, found.last_consolidated),
        version=found.version,
        model=found.metadata.model,
        totals=Totals(totals.turns, usage, totals.cost_usd),
    )


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
