"""Search over all session files, by an index that keeps up with them by itself.

Before each query one pass over the directory tells what is new, and that is read first; so an answer is never older than the
question, and whoever writes session files need not know that there is an index. It can be deleted at any time. Knows what is done
when the index is damaged or cannot be kept. Does not know tables, nor lines.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from nanochat.doors import Found, Query
from nanochat.errors import SearchError
from nanochat.search.batch import Measures, Stamp
from nanochat.search.database import Database, Unusable, Unwritable
from nanochat.search.lookup import Lookup, check
from nanochat.search.upkeep import Progress, Upkeep, scan
from nanochat.search.words import Marker
from nanochat.store.disk import Disk

__all__ = ["SearchIndex"]

# Where the directory cannot be written, an index is made in memory for this process alone, of a few seconds' reading at most.
MAX_IN_MEMORY_BYTES = 64 * 1024 * 1024

# Each time something was found wrong and mended; more than that is not mended by trying.
_ATTEMPTS = 3

_T = TypeVar("_T")


class SearchIndex:
    """Implements `doors.Search` over the session files of `sessions_dir`. Safe to call concurrently, beside other processes.

    The index is kept at `index_path`, and not made before it is needed. `progress` is told how a long reading gets on. Who waits
    for another process to finish is patient as long as that one gets on, and then for `patience_s`.
    """

    def __init__(
        self,
        sessions_dir: Path,
        index_path: Path,
        *,
        progress: Progress | None = None,
        patience_s: float = 15.0,
        measures: Measures | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._dir = sessions_dir
        self._progress = progress
        self._patience_s = patience_s
        self._disk = disk or Disk()
        self._stopped = threading.Event()
        self._database = Database(index_path, patience_s, self._stopped)
        self._upkeep = Upkeep(self._disk, sessions_dir, progress, self._stopped, measures or Measures())
        # One thread: the file is used by one at a time anyway, and SQLite's connection stays where it was made.
        self._thread = ThreadPoolExecutor(1, "search")
        self._is_used = False

    @property
    def skipped(self) -> tuple[str, ...]:
        """The session files that could not be read when the index was last brought up to date, and why."""
        return tuple(self._upkeep.skipped.values())

    async def search(self, query: Query) -> list[Found]:
        """See `doors.Search.search`."""
        return await self._run(lambda: self._search(query))

    async def sync(self) -> None:
        """Bring the index up to date, so that the next search need not.

        Raises:
            SearchError: it cannot be made or kept.
        """
        await self._run(self._sync)

    async def close(self) -> None:
        """End what is under way, keeping what of it is done, and let the file go."""
        self._stopped.set()
        if self._is_used:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._stopped.is_set():
            raise SearchError("the search was closed")
        self._is_used = True
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _search(self, query: Query) -> list[Found]:
        check(query)
        doubted: set[str] = set()
        with Marker(query.words) as marker:
            return self._until_done(lambda found: self._look_up(query, marker, found, doubted)) or []

    def _sync(self) -> None:
        def sync(found: dict[str, Stamp]) -> bool:
            with self._database.held(self._wait) as connection:
                self._upkeep.sync(self._database, connection, found)
            return True

        self._until_done(sync)

    def _look_up(self, query: Query, marker: Marker, found: dict[str, Stamp], doubted: set[str]) -> list[Found] | None:
        """What is found; None where files turned out to be doubtful, and the question is to be asked again."""
        with self._database.held(self._wait) as connection:
            self._upkeep.sync(self._database, connection, found)
            lookup = Lookup(connection, self._disk, self._dir, query, marker)
            hits = lookup.run()
            doubtful = lookup.doubtful - doubted
            self._upkeep.doubt(connection, doubtful)
            doubted |= doubtful
        return None if doubtful else hits

    def _until_done(self, work: Callable[[dict[str, Stamp]], _T | None]) -> _T | None:
        """Try again once what is wrong was put right; None where there is nothing to search."""
        reasons: list[str] = []
        while len(reasons) < _ATTEMPTS:
            try:
                found = scan(self._dir)
                if not found and not self._is_begun():
                    return None  # and nothing is made
                if (done := work(found)) is not None:
                    return done
                reasons.append("session files change faster than they can be read")
            except Unusable as error:
                reasons.append(str(error))
                self._discard()
            except Unwritable as error:
                reasons.append(str(error))
                self._move_into_memory(error)
        raise SearchError(f"search index {self._database.path}: {reasons[-1]}; delete it, and try again")

    def _is_begun(self) -> bool:
        return self._database.path is None or self._database.path.exists()

    def _discard(self) -> None:
        try:
            self._database.discard(self._wait)
        except Unwritable as error:
            self._move_into_memory(error)

    def _move_into_memory(self, error: Unwritable) -> None:
        path = self._database.path
        size = sum(size for _, size, _ in scan(self._dir).values())
        if size > MAX_IN_MEMORY_BYTES:
            raise SearchError(
                f"search index {path} cannot be written ({error}), and {size / 1e6:,.0f} MB of conversations are too many to"
                " read for one search; make the directory writable"
            ) from error
        self._database.close()
        self._database = Database(None, self._patience_s, self._stopped)

    def _wait(self) -> None:
        if self._progress is not None:
            self._progress(0, 0)
