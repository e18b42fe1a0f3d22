"""`nanochat import nanobot`: sessions of nanobot's as sessions of ours.

Knows what is brought over, what is here already, and how that is told. Does not know nanobot's rows (`nanobot` does).
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nanochat.channels.terminal.words import clean, counted
from nanochat.cli.from_nanobot import IMPORTED, Conversion, Theirs, memory_files, opened_file, session_files
from nanochat.cli.places import data_dir
from nanochat.cli.progress import measured
from nanochat.config import Config
from nanochat.errors import KeyFormError, StoreError
from nanochat.keys import SessionKey
from nanochat.records import FORMAT, Snapshot
from nanochat.store import Damage, Disk
from nanochat.store.disk import modified_at, opened
from nanochat.store.places import find_path, own_path
from nanochat.store.placing import place, sweep
from nanochat.store.scan import Source, forwards
from nanochat.tools.memory import MAX_FILE_BYTES

__all__ = ["Wish", "from_nanobot"]

# So many lines that could not be read are named on a terminal; --json names all.
_MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    directory: Path
    dry_run: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one file: `state` is imported, skipped or failed, and `why` says so in words.

    `name` is the session's key, or that of the memory file.
    """

    path: Path
    state: str
    why: str = ""
    name: str = ""
    messages: int = 0
    damage: Sequence[Damage] = field(default_factory=tuple)
    is_session: bool = True


def from_nanobot(config: Config, wish: Wish) -> int:
    """Bring over what is not here yet. Returns the exit code: 1 where a file could not be brought over."""
    try:
        paths = session_files(wish.directory)
    except OSError as error:
        raise StoreError(_unreadable(error, wish.directory)) from error
    memories = memory_files(wish.directory)
    if not paths and not memories:
        print(
            f"nanochat: nanobot has left no sessions in {clean(str(wish.directory))}; it keeps them in ~/.nanobot",
            file=sys.stderr,
        )
        return 1
    states: Counter[str] = Counter()
    messages = 0
    for outcome in _outcomes(config, wish, paths, memories):
        messages += outcome.messages
        states[outcome.state] += outcome.is_session or outcome.state == "failed"
        print(json.dumps(_fields(outcome, wish)) if wish.as_json else _words(outcome, wish))
    if not wish.as_json:
        done = "would be imported" if wish.dry_run else "imported"
        total = f"{counted(states['imported'], 'session')} {done} ({counted(messages, 'message')})"
        print(f"nanochat: {total}, {states['skipped']} skipped, {states['failed']} failed", file=sys.stderr)
    return 1 if states["failed"] else 0


def _outcomes(config: Config, wish: Wish, paths: Sequence[Path], memories: Sequence[Path]) -> Iterator[_Outcome]:
    sessions = data_dir(config) / "sessions"
    taken: dict[SessionKey, Path] = {}
    if not wish.dry_run:
        sweep(Disk(), sessions)
    sizes = {path: _size(path) for path in paths}
    for path in measured(paths, "importing", sum(sizes.values()), sizes.__getitem__):
        try:
            with opened_file(path) as theirs:
                yield _bring(sessions, theirs, taken, wish)
        except (StoreError, KeyFormError) as error:
            yield _Outcome(path, "failed", str(error))
        except OSError as error:
            yield _Outcome(path, "failed", _unreadable(error, path))
    for path in memories:
        try:
            yield _remember(path, data_dir(config) / "memory" / f"nanobot-{path.name}", wish)
        except StoreError as error:
            yield _Outcome(path, "failed", str(error), is_session=False)
        except OSError as error:
            yield _Outcome(path, "failed", _unreadable(error, path), is_session=False)


def _unreadable(error: OSError, path: Path) -> str:
    return f"{path}: cannot be read: {(error.strerror or str(error)).lower()}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _bring(sessions: Path, theirs: Theirs, taken: dict[SessionKey, Path], wish: Wish) -> _Outcome:
    path, header = theirs.path, theirs.header()
    if header is not None and header.version >= FORMAT:
        return _Outcome(path, "skipped", "it is a file of nanochat's own", header.key)
    key = theirs.key(header)
    conversion = Conversion(theirs, key)
    if header is None and _count(conversion) == 0:
        return _Outcome(path, "skipped", "it is no session of nanobot's")
    if key in taken:
        return _Outcome(path, "skipped", f"{taken[key]} is of the same session, and newer", str(key))
    here = find_path(Disk(), sessions, key)
    if os.path.lexists(here):
        return _Outcome(path, "skipped", _why_here(here, theirs, key), str(key))
    conversion = Conversion(theirs, key)
    if wish.dry_run:
        _count(conversion)
    elif not place(Disk(), own_path(sessions, key), conversion.lines(), key, lambda: conversion.modified_at):
        return _Outcome(path, "skipped", "it has begun here just now", str(key))
    taken[key] = path
    return _Outcome(path, "imported", "", str(key), conversion.messages, tuple(conversion.damage))


def _count(conversion: Conversion) -> int:
    for _ in conversion.lines():
        pass
    return conversion.messages


def _why_here(here: Path, theirs: Theirs, key: SessionKey) -> str:
    if here.resolve() == theirs.path.resolve():
        return "it is here already, and read as it is"
    with opened(Disk(), here, key=key) as fd:
        status = os.fstat(fd)
        mark = _mark(Source(Disk(), fd, key, modified_at(status)), status.st_size)
    if mark is None:
        return "this session is here already; nothing is overwritten"
    size, messages = mark
    more = 0 if size == theirs.size else _count(Conversion(theirs, key)) - messages
    if more <= 0:
        return "it was imported before"
    return (
        f"it was imported before and has {counted(more, 'more message')} now, which are not brought over;"
        f" nanochat sessions archive {key} first to have it imported anew"
    )


def _mark(source: Source, size: int) -> tuple[int, int] | None:
    """What an import has noted in a file of ours: the size of nanobot's, and how many messages it had."""
    snapshots = (record for piece in forwards(source, 0, size) if isinstance(record := source.record(piece), Snapshot))
    header = next(snapshots, None)
    mark = header.state.other.get(IMPORTED) if header is not None else None
    bytes_then = mark.get("bytes") if isinstance(mark, Mapping) else None
    closing = next(snapshots, None)
    return (bytes_then, closing.state.n) if isinstance(bytes_then, int) and closing is not None else None


def _remember(path: Path, here: Path, wish: Wish) -> _Outcome:
    """Bring over a text that nanobot remembers, as a note of the memory tool's."""
    data = path.read_bytes()
    why = ""
    if len(data) > MAX_FILE_BYTES:
        why = f"{len(data):,} bytes are more than a note may have ({MAX_FILE_BYTES:,}); {path} stays where it is"
    elif not data.strip():
        why = "it is empty"
    elif b"\0" in data or not _is_text(data):
        why = "it is not UTF-8 text"
    elif os.path.lexists(here):
        is_same = here.is_file() and here.read_bytes() == data
        why = "it was imported before" if is_same else f"another {here.name} is here; nothing is overwritten"
    elif not wish.dry_run and not place(Disk(), here, [data]):
        why = "it has been written here just now"
    return _Outcome(path, "skipped" if why else "imported", why, f"memory/{here.name}", is_session=False)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- how it is told -------------------------------------------------------------------------------------------------------


def _words(outcome: _Outcome, wish: Wish) -> str:
    name = clean(outcome.name or str(outcome.path))
    if outcome.state != "imported":
        return f"{name}  {outcome.state}: {clean(outcome.why)}"
    done = "would be imported" if wish.dry_run else "imported"
    lines = [f"{name}  {done}, {counted(outcome.messages, 'message')}" if outcome.is_session else f"{name}  {done}"]
    if outcome.damage:
        lines[0] += f"; {counted(len(outcome.damage), 'line')} of {clean(str(outcome.path))} left out:"
        lines += [f"    line {damage.line} {clean(damage.why)}" for damage in outcome.damage[:_MAX_NAMED]]
        if len(outcome.damage) > _MAX_NAMED:
            lines.append(f"    … {len(outcome.damage) - _MAX_NAMED} more: --json names them")
    return "\n".join(lines)


def _fields(outcome: _Outcome, wish: Wish) -> dict[str, object]:
    fields: dict[str, object] = {"path": str(outcome.path), "state": outcome.state, "why": outcome.why}
    if not outcome.is_session:
        return {"memory": outcome.name, **fields, "dry_run": wish.dry_run}
    damage = [{"line": each.line, "byte": each.start, "why": each.why} for each in outcome.damage]
    more = {"messages": outcome.messages, "damage": damage, "dry_run": wish.dry_run}
    return {"key": outcome.name or None, **fields, **more}
