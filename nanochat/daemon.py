"""The daemon: channels, the worker behind them, and how they begin and end together.

    the lock -> the bell -> the worker, with what a former process left -> the channels -> READY
    a signal -> what runs is finished within the grace -> the channels close

A channel that fails is started anew while the others go on. Knows signals, the lock and the service manager. Does not know what a
channel brings, nor where settings come from.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from nanochat.errors import ChannelError, LeaseHeld, NanochatError, SettingError
from nanochat.inbox.worker import Worker
from nanochat.ports import Channel
from nanochat.process import wake
from nanochat.process.patience import Patience
from nanochat.process.systemd import Systemd
from nanochat.turn.assistant import contained

__all__ = ["ChannelState", "Daemon", "Reload", "Reloaded", "lock"]

_log = logging.getLogger(__name__)

# A channel that ran for so long is well: its next failure is a first one again.
WELL_AFTER = timedelta(minutes=1)

# How long a channel may take to say goodbye to its other side.
CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of reading the settings anew: the keys that wait for a restart, and the grace from now on."""

    waiting: tuple[str, ...]
    grace_s: float


Reload: TypeAlias = Callable[[], Reloaded]
"""Read the settings anew and go by them; or raise SettingError, and nothing has changed."""


@dataclass(frozen=True, slots=True)
class ChannelState:
    """Whether a channel is up, since when, why not, and how often it was started anew."""

    is_up: bool
    since: datetime
    error: str = ""
    restarts: int = 0


class Daemon:
    """One per data directory, which its `bell` lies in; `heard` is called when it rings, by default the worker looks around.
    `states` tells of each channel by its name.
    """

    def __init__(  # noqa: PLR0913 - what a daemon hears and tells is all of it, and named at the only call
        self,
        channels: Sequence[Channel],
        worker: Worker,
        patience: Patience,
        *,
        bell: Path,
        grace_s: float,
        reload: Reload,
        warm: Callable[[], Awaitable[None]],
        systemd: Systemd,
        heard: Callable[[], None] | None = None,
    ) -> None:
        self.states: dict[str, ChannelState] = {}
        self._channels = tuple(channels)
        self._worker = worker
        self._patience = patience
        self._bell = bell
        self._grace_s = grace_s
        self._reload = reload
        self._warm = warm
        self._systemd = systemd
        self._heard = heard or worker.look_around
        self._asked_to_end = asyncio.Event()
        self._is_urgent = False
        self._grace: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Serve until a signal, then finish what runs.

        Raises:
            LeaseHeld: another daemon has this data directory.
            LedgerError: the ledger is damaged.
        """
        with lock(self._bell.parent), wake.listen(self._bell, self._heard), self._signals():
            try:
                await self._worker.check()
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._worker.run())]
                    if await self._has_opened():
                        tasks += [group.create_task(self._keep(channel)) for channel in self._channels]
                        tasks += [group.create_task(self._warm_up()), group.create_task(self._show_life())]
                        _log.info("up, pid %d: %s", os.getpid(), self._names())
                        self._systemd.ready(self._names())
                        await self._asked_to_end.wait()
                    self._systemd.stopping()
                    await self._finish()
                    for task in tasks:
                        task.cancel()
            finally:
                await self._close()
        _log.info("down")

    def end(self) -> None:
        """Finish what runs, and end; asked twice, end now."""
        self._is_urgent = self._asked_to_end.is_set()
        if self._is_urgent and self._grace is not None and not self._grace.expired():
            self._grace.reschedule(asyncio.get_running_loop().time())
        self._asked_to_end.set()
        self._patience.end()

    def reload(self) -> None:
        """Read the settings anew; invalid ones change nothing."""
        self._systemd.reloading()
        try:
            reloaded = self._reload()
        except SettingError as error:
            _log.error("the settings are not taken over: %s", error)
        else:
            self._grace_s = reloaded.grace_s
            _log.info("the settings are taken over")
            if reloaded.waiting:
                _log.warning("waiting for a restart: %s", ", ".join(reloaded.waiting))
        self._systemd.ready(self._names())

    def _names(self) -> str:
        return ", ".join(channel.name for channel in self._channels)

    async def _has_opened(self) -> bool:
        """Wait until the worker knows what there is; False where the end was asked for meanwhile."""
        events = [self._worker.opened, self._asked_to_end]
        waits = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return not self._asked_to_end.is_set()

    async def _keep(self, channel: Channel) -> None:
        tries = restarts = 0
        while True:
            began = datetime.now(UTC)
            self.states[channel.name] = ChannelState(True, began, restarts=restarts)
            faults: list[Exception] = []
            with contained(faults.append):
                await channel.run(self._worker.accept)
            error = faults[0] if faults else ChannelError("it ended by itself")
            now = datetime.now(UTC)
            restarts += 1
            self.states[channel.name] = ChannelState(False, now, str(error), restarts)
            known = isinstance(error, NanochatError | OSError)
            _log.error("%s is down: %s", channel.name, error, exc_info=None if known else error)
            tries = 0 if now - began >= WELL_AFTER else tries
            at_least_s = error.retry_after_s if isinstance(error, ChannelError) else None
            if not await self._patience.back_off(tries, at_least_s):
                return
            tries += 1

    async def _warm_up(self) -> None:
        await self._warm()

    async def _show_life(self) -> None:
        while self._systemd.watchdog_s:
            self._systemd.alive()
            await asyncio.sleep(self._systemd.watchdog_s)

    async def _finish(self) -> None:
        _log.info("ending: what runs may take %g s", self._grace_s)
        try:
            async with asyncio.timeout(0.0 if self._is_urgent else self._grace_s) as self._grace:
                await self._worker.drain()
        except TimeoutError:
            _log.warning("what was not finished goes on with the next start")
        finally:
            self._grace = None

    async def _close(self) -> None:
        """In the order that leaves least behind, each within bounds: the next process can do without any of it."""
        with contained(lambda error: _log.error("%s", error)):
            await self._worker.spare()
        for channel in self._channels:
            with contained(lambda error: _log.error("closing: %s", error)), suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await channel.close()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self.end, signal.SIGINT: self.end, signal.SIGHUP: self.reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Be the only daemon of a data directory; the kernel gives the lock back, whatever we die of.

    Raises:
        LeaseHeld: with the pid of the other one.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / "daemon.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise LeaseHeld(
                f"a daemon runs on {directory} already: pid {holder}", path=str(path), holder=f"pid {holder}"
            ) from error
        os.ftruncate(descriptor, os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0))
        yield
    finally:
        os.close(descriptor)
