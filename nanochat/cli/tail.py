"""`nanochat tail`: the newest lines of conversations, and those to come.

Knows which sessions are meant, and the order of their lines. Does not know how a line looks, nor how files are followed.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from nanochat.channels.terminal.words import clean
from nanochat.cli.missing import unknown
from nanochat.cli.places import open_store
from nanochat.cli.rows import Json, Log, manner, time_of
from nanochat.config import Config
from nanochat.doors import Line
from nanochat.errors import StoreError
from nanochat.keys import SessionKey, is_glob
from nanochat.store import FileStore, LastLines

__all__ = ["Wish", "tail"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    keys: Sequence[str]
    count: int
    follows: bool
    as_json: bool


async def tail(config: Config, wish: Wish) -> int:
    """Print the newest lines, and with `follows` those to come until interrupted; changes nothing. Returns the exit code."""
    choice = _Choice.of(wish.keys)
    zone = ZoneInfo(config.timezone)
    log = Json() if wish.as_json else Log(manner(datetime.now(zone).date()), zone)
    store = open_store(config)
    try:
        found = await choice.sessions(store)
        ends, code = await _print_newest(store, found, wish.count, log)
        for missing in choice.missing(ends):
            code = 1
            if wish.follows:
                _say(f"{missing} has not begun; waiting for it")
            elif missing in choice.globs:
                _say(f"no session matches {missing}; nanochat sessions lists them")
            else:
                _say(str(await unknown(config, store, SessionKey.parse(missing))))
        if not wish.keys and not ends and not code:
            _say("there are no sessions yet" + ("; waiting for the first" if wish.follows else ""))
        sys.stdout.flush()
        return await _follow(store, choice, ends, log) if wish.follows else code
    finally:
        await store.close()


def _say(words: str) -> None:
    print(f"nanochat: {clean(words)}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class _Choice:
    """The sessions that are asked for; without any word, all."""

    keys: tuple[SessionKey, ...]
    globs: tuple[str, ...]

    @classmethod
    def of(cls, words: Sequence[str]) -> _Choice:
        globs = tuple(filter(is_glob, words))
        return cls(tuple(SessionKey.parse(word) for word in words if word not in globs), globs)

    def wants(self, key: SessionKey) -> bool:
        return not (self.keys or self.globs) or key in self.keys or self._matches(key)

    async def sessions(self, store: FileStore) -> list[SessionKey]:
        """Those that there are, as far as that is known before their files are opened."""
        if self.keys and not self.globs:
            return list(dict.fromkeys(self.keys))
        listed = [brief.key for brief in await store.list() if self.wants(brief.key)]
        return list(dict.fromkeys([*listed, *self.keys]))

    def missing(self, found: dict[SessionKey, int]) -> list[str]:
        """The words for which there is no session."""
        globs = [glob for glob in self.globs if not any(key.matches(glob) for key in found)]
        return [*(str(key) for key in dict.fromkeys(self.keys) if key not in found), *globs]

    def _matches(self, key: SessionKey) -> bool:
        return any(map(key.matches, self.globs))


async def _print_newest(
    store: FileStore, keys: Sequence[SessionKey], count: int, log: Log | Json
) -> tuple[dict[SessionKey, int], int]:
    """Print the newest lines of all by their time; says where each file is to be followed from, and 1 if one cannot be read."""
    ends: dict[SessionKey, int] = {}
    streams: list[list[tuple[datetime, _Row]]] = []
    code = 0
    for key in keys:
        try:
            last = await store.last_lines(key, count, log.counts)
        except StoreError as error:
            _say(str(error))
            ends[key], code = 0, 1
            continue
        if last is not None:
            ends[key] = last.end
            streams.append(list(_ranked(last)))
    log.make_room(ends)
    for _, row in heapq.merge(*streams, key=lambda ranked: ranked[0]):
        log.put(row.line, row.at, is_undone=row.is_undone)
    return ends, code


@dataclass(frozen=True, slots=True)
class _Row:
    line: Line
    at: datetime
    is_undone: bool


def _ranked(last: LastLines) -> Iterator[tuple[datetime, _Row]]:
    """Each line, behind a time that never goes back: should a clock have done so, a session's own order is kept."""
    at = rank = next((at for line in last.lines if (at := time_of(line.record))), datetime.now(UTC))
    for line in last.lines:
        at = time_of(line.record) or at
        rank = max(at, rank)
        yield rank, _Row(line, at, line.start in last.undone)


async def _follow(store: FileStore, choice: _Choice, ends: dict[SessionKey, int], log: Log | Json) -> int:
    async def follow() -> None:
        lines = store.follow_all(choice.wants, ends, lambda error: _say(str(error)))
        async with aclosing(lines):
            async for line in lines:
                log.put(line, time_of(line.record) or datetime.now(UTC), is_undone=False)
                sys.stdout.flush()

    try:
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follow())
            _on_hangup(following.cancel)
    except* BrokenPipeError:
        pass
    return 0


def _on_hangup(leave: Callable[[], object]) -> None:
    """Call back when nobody reads the pipe any more: who waits for a line would learn it only with the next one."""
    try:
        fd = sys.stdout.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
    except (OSError, ValueError):
        return
    if not is_pipe:
        return
    pipe = select.poll()
    pipe.register(fd, 0)
    loop = asyncio.get_running_loop()

    def look() -> None:
        loop.remove_reader(fd)
        if pipe.poll(0):
            leave()

    loop.add_reader(fd, look)
