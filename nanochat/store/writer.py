"""Carries out appends off the event loop: one session's in the order asked, several sessions' at a time.

A session is served by one thread at a time, which writes all that waits for it and then syncs once. (With one thread for all
writes and others for the syncs, two syncs of one file could be under way at once, and the kernel tells only one of them that the
device failed.) Knows threads, and how many descriptors there may be. Does not know what is in a file.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from nanochat.errors import NotWritten, StoreError
from nanochat.keys import SessionKey
from nanochat.store.disk import refusal
from nanochat.store.file import Request, SessionFile, Written

__all__ = ["Writer"]

# Syncs under way at once. Measured against one at a time, with 64 sessions waiting: 2.4 times the appends on a fast device and
# 4.1 times on one of 10 ms; more bring little.
MAX_PARALLEL = 8

_Outcome: TypeAlias = Written | BaseException


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    request: Request
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Written]


@dataclass(slots=True, eq=False)
class _Slot:
    """A session's file, and what waits for it. `is_busy`: a thread serves it, or will."""

    file: SessionFile
    waiting: deque[_Job] = field(default_factory=deque)
    is_busy: bool = False


class Writer:
    """Appends through at most `max_open` open files; `close_s` is how long a stuck one can hold up the closing of all."""

    def __init__(self, make_file: Callable[[SessionKey], SessionFile], max_open: int, close_s: float) -> None:
        self._make_file = make_file
        self._close_s = close_s
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_open = max_open if soft == resource.RLIM_INFINITY else max(1, min(max_open, soft // 4))
        self._slots: OrderedDict[SessionKey, _Slot] = OrderedDict()
        self._changed = threading.Condition()  # guards the slots, and tells when one is idle
        self._pool = ThreadPoolExecutor(MAX_PARALLEL, thread_name_prefix="nanochat-store")
        self._is_closed = False

    async def append(self, key: SessionKey, request: Request) -> Written:
        """Carry out one append. A caller that is cancelled does not take it back: it is written all the same."""
        loop = asyncio.get_running_loop()
        job = _Job(request, loop, loop.create_future())
        with self._changed:
            if self._is_closed:
                raise NotWritten(f"session {key}: the store is closed", key=str(key))
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = _Slot(self._make_file(key))
            self._slots.move_to_end(key)
            slot.waiting.append(job)
            if not slot.is_busy:
                slot.is_busy = True
                self._start(slot, is_locked=False)
        return await job.future

    async def close(self) -> None:
        """Wait for what is under way, then let the files go."""
        with self._changed:
            self._is_closed = True
        await asyncio.to_thread(self._wait_until_idle)
        with self._changed:
            for key, slot in self._slots.items():
                error = NotWritten(
                    f"session {key}: another process holds the file, and the store was closed", key=str(key)
                )
                _post([(job, error) for job in slot.waiting])
                slot.waiting.clear()
                if not slot.is_busy:
                    slot.file.close()
            self._pool.shutdown(wait=False)

    def _wait_until_idle(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not any(slot.is_busy for slot in self._slots.values()), self._close_s)

    # --- in the threads of the pool ----------------------------------------------------------------------------------

    def _start(self, slot: _Slot, *, is_locked: bool) -> None:
        taken: list[_Job] = []
        self._pool.submit(self._serve, slot, taken, is_locked).add_done_callback(partial(self._served, slot, taken))

    def _serve(self, slot: _Slot, taken: list[_Job], is_locked: bool) -> bool:
        """Write what waits and sync it; False where another process holds the file's lock, so that nobody waits here for it."""
        file = slot.file
        try:
            if not is_locked and not self._lock(file):
                threading.Thread(target=self._wait_for_lock, args=(slot,), daemon=True).start()
                return False
        except StoreError as error:
            self._take(slot, taken)
            _post([(job, error) for job in taken])
            return True
        self._take(slot, taken)
        outcomes: list[tuple[_Job, _Outcome]] = []
        try:
            for job in taken:
                try:
                    outcomes.append((job, file.append(job.request)))
                except StoreError as error:
                    outcomes.append((job, error))
        finally:
            file.unlock()
        if any(job.request.durable and isinstance(outcome, Written) for job, outcome in outcomes):
            try:
                file.sync()
            except StoreError as error:
                outcomes = [
                    (job, error if job.request.durable and isinstance(outcome, Written) else outcome)
                    for job, outcome in outcomes
                ]
        _post(outcomes)
        return True

    def _take(self, slot: _Slot, taken: list[_Job]) -> None:
        with self._changed:
            taken.extend(slot.waiting)
            slot.waiting.clear()

    def _served(self, slot: _Slot, taken: Sequence[_Job], done: Future[bool]) -> None:
        error = done.exception()
        if error is not None:  # a fault of ours: it belongs to those who wait, not to a thread that nobody looks at
            _post([(job, error) for job in taken])
            slot.file.close()
        elif not done.result():
            return
        with self._changed:
            if slot.waiting:
                self._start(slot, is_locked=False)
                return
            slot.is_busy = False
            self._close_idle(self._max_open)
            self._changed.notify_all()

    # --- locks and descriptors ---------------------------------------------------------------------------------------

    def _lock(self, file: SessionFile) -> bool:
        try:
            try:
                return file.lock(wait=False)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                with self._changed:
                    self._close_idle(sum(slot.file.is_open for slot in self._slots.values()) // 2)
                return file.lock(wait=False)
        except OSError as error:
            raise refusal(error, file.path) from error

    def _wait_for_lock(self, slot: _Slot) -> None:
        """Runs in a thread of its own: the holder may be stopped for hours, and the other sessions go on."""
        try:
            slot.file.lock(wait=True)
        except (OSError, StoreError):
            slot.file.close()  # it will be opened anew, and fail again where somebody is told
        with self._changed:
            if self._is_closed and not slot.waiting:
                slot.file.close()
            else:
                self._start(slot, is_locked=slot.file.is_open)

    def _close_idle(self, keep: int) -> None:
        """Close the files longest unused, those first that nothing would be lost with. Needs the lock of the slots."""
        if len(self._slots) <= keep:
            return
        excess = sum(slot.file.is_open for slot in self._slots.values()) - keep
        idle = [(key, slot) for key, slot in self._slots.items() if not slot.is_busy]
        for key, slot in sorted(idle, key=lambda item: item[1].file.is_doubtful):
            if excess <= 0 and slot.file.is_open:
                continue
            excess -= slot.file.is_open
            slot.file.close()
            del self._slots[key]


def _post(outcomes: Sequence[tuple[_Job, _Outcome]]) -> None:
    for loop in {job.loop for job, _ in outcomes}:
        own = [(job.future, outcome) for job, outcome in outcomes if job.loop is loop]
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_deliver, own)


def _deliver(outcomes: Sequence[tuple[asyncio.Future[Written], _Outcome]]) -> None:
    for future, outcome in outcomes:
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
