"""All session files of a directory told line by line as they grow, those that begin later too.

What changed of late is held open and looked at ten times a second, what rests in turns. Knows a directory, and the followers of
its files. Does not know how a file is read.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from pathlib import Path

from nanochat.doors import Line
from nanochat.errors import StoreError
from nanochat.keys import SessionKey
from nanochat.store.disk import Disk
from nanochat.store.follow import LOOK_S, Follower
from nanochat.store.listing import glance
from nanochat.store.names import SUFFIX, key_of
from nanochat.store.places import directories

__all__ = ["MAX_HELD", "follow_all"]

# Those that changed last are held open and looked at each time; of the others a slice in turn. Measured with 10,000: a round
# takes a second, and waiting 2 to 3 % of a core.
MAX_HELD = 64
MIN_SLICE, MAX_SLICE, SLICES = 200, 1000, 10

# Two changes within one tick of the file system's clock (at most 10 ms) have the same stamp.
_TICK_NS = 100_000_000
# A new file's header is written at once; one that is empty for longer than this was left by a crash.
_BEGINNING_NS = 2_000_000_000


class _Followers:
    """Those sessions of a directory that are wanted, the ones that begin later too."""

    def __init__(
        self,
        disk: Disk,
        sessions_dir: Path,
        wanted: Callable[[SessionKey], bool],
        starts: Mapping[SessionKey, int],
        on_error: Callable[[StoreError], None],
    ) -> None:
        self._disk = disk
        self._dir = sessions_dir
        self._wanted = wanted
        self._starts = dict(starts)
        self._on_error = on_error
        self._known: dict[SessionKey, Follower] = {}
        self._queue: deque[Follower] = deque()
        self._held: OrderedDict[SessionKey, Follower] = OrderedDict()
        self._names: set[str] = set()
        self._directories: tuple[Path, ...] = (sessions_dir,)
        self._stamps: tuple[int, ...] = ()
        self._complained: set[SessionKey] = set()

    async def discover(self) -> None:
        """Take in the sessions that began since the last call; a `stat` of the directory where none did."""
        if self._stamps and _stamps(self._directories) == self._stamps:
            return
        found = await asyncio.to_thread(self._scan)
        for key, path in found:
            if key not in self._known and self._wanted(key):
                try:
                    follower = Follower(self._disk, self._dir, key, self._starts.pop(key, 0), path)
                except StoreError as error:
                    self._complain(key, error)
                    continue
                self._known[key] = follower
                self._queue.append(follower)

    def _scan(self) -> list[tuple[SessionKey, str]]:
        began_ns = time.time_ns()
        self._directories = directories(self._dir)
        stamps = _stamps(self._directories)
        paths = {path for directory in self._directories for path in _files(directory)}
        new = sorted(paths - self._names)
        self._names = paths
        # A directory that changed just now may change once more under the same stamp.
        self._stamps = stamps if max(stamps) < began_ns - _TICK_NS else ()
        found = []
        for path in new:
            key = _key_at(self._disk, path)
            if key is not None:
                found.append((key, path))
            elif _is_just_begun(path):
                self._names.discard(path)
                self._stamps = ()
        return found

    def due(self) -> list[Follower]:
        """Those that may have news: the ones held, and of the others the next ones in turn."""
        count = max(MIN_SLICE, min(MAX_SLICE, len(self._queue) // SLICES))
        turn = list(self._held.values())
        for _ in range(min(count, len(self._queue))):
            follower = self._queue.popleft()
            self._queue.append(follower)
            if not follower.is_held:
                turn.append(follower)
        return [follower for follower in turn if self._has_changed(follower)]

    def _has_changed(self, follower: Follower) -> bool:
        try:
            return follower.has_changed()
        except StoreError as error:
            self._complain(follower.key, error)
            return False

    async def news(self, follower: Follower) -> list[Line]:
        """What one of them has to tell; one that cannot be read is complained of, once."""
        try:
            lines = await follower.news()
        except StoreError as error:
            self._complain(follower.key, error)
            lines = []
        if follower.is_held:
            self._held[follower.key] = follower
            self._held.move_to_end(follower.key)
            if len(self._held) > MAX_HELD:
                _, oldest = self._held.popitem(last=False)
                oldest.let_go()
        else:
            self._held.pop(follower.key, None)
            if not follower.is_there and not follower.is_behind:
                self._forget(follower)
        return lines

    def close(self) -> None:
        for follower in self._held.values():
            follower.let_go()

    def _forget(self, follower: Follower) -> None:
        """It was put away; should it begin anew, the directory tells."""
        if self._known.pop(follower.key, None) is not None:
            self._queue.remove(follower)
            self._names.discard(follower.path)
            self._stamps = ()

    def _complain(self, key: SessionKey, error: StoreError) -> None:
        if key not in self._complained:
            self._complained.add(key)
            self._on_error(error)


async def follow_all(
    disk: Disk,
    sessions_dir: Path,
    wanted: Callable[[SessionKey], bool],
    starts: Mapping[SessionKey, int],
    on_error: Callable[[StoreError], None],
) -> AsyncGenerator[Line, None]:
    """Every line of the sessions that are wanted: of those in `starts` from that byte on, of others from the first.

    The lines of one session come in order and each once; between sessions there is no order. `on_error` is told once of a file
    that cannot be read. What is appended to a file that rested, in the second before it is put away, may be missed.
    """
    followers = _Followers(disk, sessions_dir, wanted, starts, on_error)
    try:
        while True:
            await followers.discover()
            is_behind = False
            for follower in followers.due():
                for line in await followers.news(follower):
                    yield line
                is_behind = is_behind or follower.is_behind
            if not is_behind:
                await asyncio.sleep(LOOK_S)
    finally:
        followers.close()


def _stamps(directories: tuple[Path, ...]) -> tuple[int, ...]:
    return tuple(_changed_ns(directory) for directory in directories)


def _changed_ns(directory: Path) -> int:
    try:
        return os.stat(directory).st_mtime_ns
    except OSError:
        return 0


def _files(directory: Path) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            yield from (entry.path for entry in entries if entry.name.endswith(SUFFIX) and entry.name[0] != ".")
    except OSError:
        return


def _key_at(disk: Disk, path: str) -> SessionKey | None:
    """Whose file it is: nearly always its name tells; a shortened one's header does, and that of nanobot's older ones."""
    stem = os.path.basename(path).removesuffix(SUFFIX)
    key = key_of(stem)
    if key is not None:
        return key
    try:
        brief = glance(disk, path)
    except (OSError, StoreError):
        return None
    return brief.key if brief is not None else None


def _is_just_begun(path: str) -> bool:
    """Whether it is so new that its header is still to come."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return status.st_size == 0 and status.st_mtime_ns > time.time_ns() - _BEGINNING_NS
