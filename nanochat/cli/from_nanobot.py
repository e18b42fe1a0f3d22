"""nanobot's data as ours: where its sessions lie, whose they are, and each row as a line of format 1.

A row stays one line, so its cursors keep their meaning; tool calls in OpenAI's form become content blocks. Knows nanobot's
files, as its versions from 0.1 to 0.3 write them. Does not know where ours go.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from nanochat.errors import KeyFormError
from nanochat.history.blocks import reply_blocks, user_blocks
from nanochat.keys import SessionKey
from nanochat.lines import decode, encode
from nanochat.records import (
    MAX_LINE_BYTES,
    Block,
    Compact,
    Event,
    Json,
    Message,
    Opened,
    Snapshot,
    State,
    UnknownLine,
    Unreadable,
    after,
)
from nanochat.store import Damage, Disk
from nanochat.store.disk import modified_at, opened
from nanochat.store.names import SUFFIX, nanobot_key_of
from nanochat.store.places import workspaces
from nanochat.store.scan import Line as Piece
from nanochat.store.scan import Source, forwards

__all__ = ["IMPORTED", "Conversion", "Theirs", "memory_files", "opened_file", "session_files"]

IMPORTED = "imported"
"""The name in a header's `metadata` under which an import leaves its mark."""

# Where a workspace, or the directory of all that nanobot keeps, has its sessions and its memory.
_SESSIONS = ("sessions", "workspace/sessions")
_MEMORIES = ("memory", "workspace/memory", "../memory")
_MEMORY_FILES = ("MEMORY.md", "HISTORY.md")

# How nanobot names a topic of a Telegram group; for us the thread stands behind the chat.
_TOPIC = re.compile(r"(-?\d+):topic:(\d+)\Z")

# Any key will do to read a header with: it is asked for its own.
_ANY = SessionKey("cli", "default")


def session_files(directory: Path) -> list[Path]:
    """nanobot's session files in its data directory, a workspace, or a directory of sessions; newest first.

    Raises:
        OSError: a directory cannot be read.
    """
    roots = [root for name in _SESSIONS if (root := directory / name).is_dir()] or [directory]
    directories = [inner for root in roots for inner in (root, *workspaces(root))]
    paths = [path for inner in directories for path in inner.iterdir() if path.name.endswith(SUFFIX)]
    return sorted((path for path in paths if path.name[0] != "."), key=_age)


def _age(path: Path) -> tuple[int, str]:
    try:
        return -path.stat().st_mtime_ns, str(path)
    except OSError:
        return 0, str(path)


def memory_files(directory: Path) -> list[Path]:
    """What nanobot remembers across conversations, as far as it is text."""
    names = _MEMORIES if directory.name == "sessions" else _MEMORIES[:2]
    paths = [Path(os.path.normpath(directory / name)) / file for name in names for file in _MEMORY_FILES]
    return [path for path in paths if path.is_file()]


@contextmanager
def opened_file(path: Path) -> Iterator[Theirs]:
    """A session file of nanobot's, for the length of a block.

    Raises:
        OSError: it cannot be read.
        WrongFile: it is no file.
    """
    with opened(Disk(), path.resolve()) as fd:
        status = os.fstat(fd)
        yield Theirs(path, Source(Disk(), fd, _ANY, modified_at(status)), status.st_size)


@dataclass(slots=True)
class Theirs:
    """One session file of nanobot's, open."""

    path: Path
    source: Source
    size: int

    def header(self) -> State | None:
        """What the first line tells, if it is a header; of a file of ours its `version` is not 0."""
        for piece in self.pieces():
            record = decode(piece.data, piece.start, known_at=self.source.known_at) if piece.data else None
            return record.state if isinstance(record, Snapshot) else None
        return None

    def key(self, header: State | None) -> SessionKey:
        """Whose it is, as we name it.

        Raises:
            KeyFormError: no key of ours can be made of its own.
        """
        text = header.key if header is not None else ""
        stem = self.path.name.removesuffix(SUFFIX)
        named = nanobot_key_of(stem)
        return _key(text or (str(named) if named is not None else stem.replace("_", ":", 1)))

    def pieces(self) -> Iterator[Piece]:
        """Every line, the last one also where it lacks its newline."""
        end = 0
        for piece in forwards(self.source, 0, self.size):
            yield piece
            end = piece.end
        rest = self.size - end
        if rest > 0:
            is_line = rest <= MAX_LINE_BYTES
            yield Piece(end, self.size, self.source.disk.pread(self.source.fd, rest, end) if is_line else None)


def _key(text: str) -> SessionKey:
    try:
        key = SessionKey.parse(text)
    except KeyFormError:
        return SessionKey("nanobot", text)  # such as `heartbeat`, which names no channel
    topic = _TOPIC.match(key.chat_id) if key.channel == "telegram" else None
    return SessionKey("telegram", f"{topic[1]}:{topic[2]}") if topic else key


@dataclass(slots=True)
class Conversion:
    """A session of nanobot's on its way to us: `lines` gives it as bytes, and then the rest tells what came of it.

    `messages` are brought over, the newest thing of it happened at `modified_at`; `damage` says what is not brought over.
    """

    theirs: Theirs
    key: SessionKey
    messages: int = 0
    modified_at: datetime = datetime.min
    damage: list[Damage] = field(default_factory=list)

    def lines(self) -> Iterator[bytes]:
        """The file of ours, line by line: a header, the messages, and a closing snapshot."""
        header = newest = self.theirs.header()
        last = header.created_at if header is not None else self.theirs.source.known_at
        line = encode(Snapshot(self._opening(header), Opened()))
        yield line
        at = len(line)
        boundaries = [(at, 0)]  # after each row of theirs: the byte, and how many messages there are
        for number, piece in enumerate(self.theirs.pieces(), 1):
            record = _record(piece, last)
            if record is None:
                continue
            if isinstance(record, Snapshot):
                newest = record.state
                continue
            row = record if isinstance(record, str) else _encoded(replace(_ours(record), n=self.messages))
            if isinstance(row, str):
                self.damage.append(Damage(number, piece.start, row))
            else:
                yield row
                at += len(row)
                self.messages += 1
            last = record.timestamp if isinstance(record, Message) else last
            boundaries.append((at, self.messages))
        yield self._closing(newest, boundaries, last)

    def _opening(self, header: State | None) -> State:
        """Everything that nanobot kept of the session, and a mark. Its model is left behind: it names another provider's."""
        since = self.theirs.source.known_at
        created_at, updated_at = (header.created_at, header.updated_at) if header is not None else (since, since)
        mark: Json = {"from": "nanobot", "bytes": self.theirs.size}
        return State(str(self.key), created_at, updated_at, other={**(header.other if header else {}), IMPORTED: mark})

    def _closing(self, newest: State | None, boundaries: Sequence[tuple[int, int]], last: datetime) -> bytes:
        """nanobot's cursor as a compaction, or nothing but the state. The mark is left in the header."""
        opening = self._opening(newest)
        state = replace(
            opening,
            n=self.messages,
            updated_at=max(opening.updated_at, last),
            other={name: value for name, value in opening.other.items() if name != IMPORTED},
        )
        self.modified_at = state.updated_at
        at, _ = boundaries[-1]
        event = _cursor(newest, boundaries)
        return encode(Snapshot(after(state, event, at, state.updated_at), event))


def _cursor(newest: State | None, boundaries: Sequence[tuple[int, int]]) -> Event:
    count = newest.last_consolidated if newest is not None else 0
    if newest is None or not 0 < count < len(boundaries):
        return Opened()  # one that is beyond what there is hides nothing
    keep, keep_n = boundaries[count]
    summary = newest.other.get("_last_summary")
    summary = summary.get("text") if isinstance(summary, Mapping) else summary
    if isinstance(summary, str) and summary.strip():
        return Compact(summary, keep, keep_n, by="nanobot", reason=IMPORTED, messages=keep_n)
    words = f"({keep_n} earlier messages were taken into nanobot's memory and are not shown here; they are in the transcript)"
    return Compact(words, keep, keep_n, by="breadcrumb", reason=IMPORTED, messages=keep_n)


def _record(piece: Piece, known_at: datetime) -> Message | Snapshot | str | None:
    """A row, a header, or why it is neither; None for a blank line, and for what is no part of the conversation."""
    if piece.data is None:
        return "is longer than a line may be"
    record = decode(piece.data, piece.start, known_at=known_at)
    if isinstance(record, Unreadable):
        return record.why
    if not isinstance(record, UnknownLine):
        return record
    fields: Json = json.loads(piece.data.decode("utf-8-sig"))
    if isinstance(fields, Mapping) and fields.get("_type") is not None:
        return None  # the state of a provider, which no other can use
    if not isinstance(fields, Mapping) or not isinstance(fields.get("role"), str):
        return "is no message"
    mended = decode(json.dumps({**fields, "content": _content(fields)}).encode(), piece.start, known_at=known_at)
    return mended if isinstance(mended, Message) else "has no content"


def _content(fields: Mapping[str, Json]) -> Json:
    """Content in a form that it can have: none beside calls is empty, texts in a list are text blocks."""
    content = fields.get("content")
    if content is None and fields.get("tool_calls"):
        return ""
    if isinstance(content, list):
        return [{"type": "text", "text": block} if isinstance(block, str) else block for block in content]
    return content


_CALL_FIELDS = ("tool_calls", "tool_call_id")


def _ours(message: Message) -> Message:
    """The same row with its calls and results as content blocks; plain text stays as it is."""
    blocks: list[Block] = []
    if message.role == "tool":
        blocks, _ = user_blocks(message)
    elif message.role == "assistant" and (message.extra.get("tool_calls") or not isinstance(message.content, str)):
        blocks = reply_blocks(message, thinks=False)
    elif message.role == "user" and not isinstance(message.content, str):
        results, others = user_blocks(message)
        blocks = [*results, *others]
    if not blocks:
        return message
    extra = {name: value for name, value in message.extra.items() if name not in _CALL_FIELDS}
    return replace(message, role="user" if message.role == "tool" else message.role, content=blocks, extra=extra)


def _encoded(message: Message) -> bytes | str:
    try:
        line = encode(message)
    except ValueError as error:
        return f"cannot be written: {error}"
    return line if len(line) <= MAX_LINE_BYTES else "is longer than a line may be"
