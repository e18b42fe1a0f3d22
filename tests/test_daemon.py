"""Channels and worker begin and end together; what fails is started anew, what runs is finished."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from nanochat.daemon import Daemon, Reloaded, lock
from nanochat.errors import ChannelError, LeaseHeld, LedgerError, SettingError
from nanochat.process import wake
from nanochat.process.patience import Patience
from nanochat.process.systemd import Systemd
from tests.fakes.memory_channel import MemoryChannel
from tests.fakes.office import KEY, Office, envelope
from tests.fakes.patience import Pauses


class Manager:
    """The socket that a service manager listens at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    @property
    def environ(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path)}

    async def hears(self, begin: str) -> str:
        while True:
            words = (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode()
            if words.startswith(begin):
                return words

    def close(self) -> None:
        self._socket.close()


class Stage:
    """A daemon around an office; `reloads` answers to SIGHUP."""

    def __init__(
        self, directory: Path, manager: Manager, *, grace_s: float = 20.0, office: Office | None = None
    ) -> None:
        self.pauses = Pauses()
        self.manager = manager
        self.patience = Patience(self.pauses)
        self.office = office or Office(directory, pauses=self.pauses, patience=self.patience)
        self.other = MemoryChannel("other", self.office.board)
        self.reloads: list[Reloaded | SettingError] = []
        self.warmed = asyncio.Event()
        self.daemon = Daemon(
            [self.office.channel, self.other],
            self.office.worker,
            self.patience,
            bell=directory / "wake",
            grace_s=grace_s,
            reload=self._reload,
            warm=self._warm,
            systemd=Systemd(manager.environ),
        )

    def _reload(self) -> Reloaded:
        answer = self.reloads.pop(0)
        if isinstance(answer, SettingError):
            raise answer
        return answer

    async def _warm(self) -> None:
        self.warmed.set()

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[asyncio.Task[None]]:
        """The daemon's task, once it says that it is ready."""
        task = asyncio.create_task(self.daemon.run())
        await self.manager.hears("READY=1")
        try:
            yield task
        finally:
            self.office.echo.gate.set()
            self.daemon.end()
            await task
            await self.office.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager that hears what it is told."""
    listening = Manager(tmp_path / "notify")
    yield listening
    listening.close()


async def test_it_serves_and_ends(tmp_path: Path, manager: Manager) -> None:
    """From ready to stopping; the model is warmed meanwhile, channels are closed, and no socket is left."""
    stage = Stage(tmp_path, manager)
    async with stage.runs() as task:
        await stage.warmed.wait()
        await stage.office.channel.say("hi")
        await stage.office.shown("echo: hi")
        os.kill(os.getpid(), signal.SIGTERM)
        await manager.hears("STOPPING=1")
        await task
    assert stage.office.channel.closed
    assert not (tmp_path / "wake").exists()


async def test_a_running_turn_is_finished(tmp_path: Path, manager: Manager) -> None:
    """A signal waits for it, and takes up nothing more."""
    stage = Stage(tmp_path, manager)
    async with stage.runs() as task:
        stage.office.echo.gate.clear()
        await stage.office.channel.say("long", source_id="memory:1")
        await stage.office.echo.begun.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await manager.hears("STOPPING=1")
        await stage.office.channel.say("late", source_id="memory:2")
        stage.office.echo.gate.set()
        await task
    assert stage.office.states() == {"memory:1": "delivered", "memory:2": "waiting"}


async def test_a_second_signal_ends_at_once(tmp_path: Path, manager: Manager) -> None:
    """What was cut short goes on with the next start, and has not crashed."""
    stage = Stage(tmp_path, manager)
    async with stage.runs() as task:
        stage.office.echo.gate.clear()
        await stage.office.channel.say("long", source_id="memory:1")
        await stage.office.echo.begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await manager.hears("STOPPING=1")
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    [row] = stage.office.rows()
    assert (row.state, row.attempts) == ("claimed", 0)
    second = Office(tmp_path, board=stage.office.board)
    await second.open()
    await second.shown("echo: long")
    await second.close()


async def test_the_grace_is_an_end(tmp_path: Path, manager: Manager) -> None:
    """A turn that takes longer is cut short."""
    stage = Stage(tmp_path, manager, grace_s=0.01)
    async with stage.runs() as task:
        stage.office.echo.gate.clear()
        await stage.office.channel.say("long", source_id="memory:1")
        await stage.office.echo.begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert stage.office.states() == {"memory:1": "claimed"}


async def test_it_ends_though_its_ledger_cannot_be_used(tmp_path: Path, manager: Manager) -> None:
    """It waits for a disk that is full or away, and a signal ends that; with nothing in the way it would have begun."""
    (tmp_path / "ledger.db").mkdir()
    stage = Stage(tmp_path, manager)
    task = asyncio.create_task(stage.daemon.run())
    await stage.pauses.until_asleep()
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    assert stage.office.channel.opened == 0
    await stage.office.close()


async def test_a_damaged_ledger_is_told_at_once(tmp_path: Path, manager: Manager) -> None:
    """Waiting would not mend it."""
    (tmp_path / "ledger.db").write_bytes(b"noise" * 500)
    stage = Stage(tmp_path, manager)
    with pytest.raises(LedgerError, match="no conversation"):
        await stage.daemon.run()
    assert not (tmp_path / "wake").exists()
    await stage.office.close()


@pytest.mark.parametrize("retry_after_s", [None, 30.0], ids=["soon", "when told"])
async def test_a_failing_channel_is_started_anew(tmp_path: Path, manager: Manager, retry_after_s: float | None) -> None:
    """With a back-off, and the others go on."""
    stage = Stage(tmp_path, manager)
    async with stage.runs():
        stage.other.fault("run", ChannelError("the token was revoked", retry_after_s=retry_after_s))
        await stage.pauses.until_asleep()
        state = stage.daemon.states["other"]
        assert (state.is_up, state.error, state.restarts) == (False, "the token was revoked", 1)
        await stage.office.channel.say("hi")
        await stage.office.shown("echo: hi")
        assert stage.daemon.states["memory"].is_up
        stage.other.fault("run", ChannelError("and again"))
        stage.pauses.advance(retry_after_s or 1)
        await stage.pauses.until_asleep()
        assert stage.pauses.waits == [retry_after_s or 1, 2]
        stage.pauses.advance(2)
        await stage.other.say("back")
        assert stage.daemon.states["other"].restarts == 2


async def test_a_bug_in_a_channel_costs_that_channel(tmp_path: Path, manager: Manager) -> None:
    """Whatever it raises."""
    stage = Stage(tmp_path, manager)
    async with stage.runs():
        stage.other.fault("run", KeyError("x"))
        await stage.pauses.until_asleep()
        await stage.office.channel.say("hi")
        await stage.office.shown("echo: hi")


async def test_settings_are_read_anew(tmp_path: Path, manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    """The manager sees it begin and end; what waits for a restart is named, and an invalid file changes nothing."""
    caplog.set_level("INFO", "nanochat")
    stage = Stage(tmp_path, manager)
    stage.reloads = [Reloaded(("telegram.base_url",), 20.0), SettingError("n.toml: limits.waitin is not a setting")]
    async with stage.runs():
        os.kill(os.getpid(), signal.SIGHUP)
        assert "MONOTONIC_USEC=" in await manager.hears("RELOADING=1")
        await manager.hears("READY=1")
        assert "waiting for a restart: telegram.base_url" in caplog.messages
        os.kill(os.getpid(), signal.SIGHUP)
        await manager.hears("READY=1")
        assert "the settings are not taken over: n.toml: limits.waitin is not a setting" in caplog.messages


async def test_a_sign_of_life(tmp_path: Path) -> None:
    """As often as the manager wants one, and only where it is meant for us."""
    manager = Manager(tmp_path / "notify")
    own = {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid())}
    assert Systemd({**own, "WATCHDOG_PID": "1"}).watchdog_s == 0
    assert Systemd({}).watchdog_s == 0
    office = Office(tmp_path)
    patience = Patience(office.pauses)
    daemon = Daemon(
        [],
        office.worker,
        patience,
        bell=tmp_path / "wake",
        grace_s=1,
        reload=lambda: Reloaded((), 1),
        warm=lambda: asyncio.sleep(0),
        systemd=Systemd({**manager.environ, **own}),
    )
    task = asyncio.create_task(daemon.run())
    await manager.hears("WATCHDOG=1")
    await manager.hears("WATCHDOG=1")
    daemon.end()
    await task
    await office.close()
    manager.close()


def test_a_manager_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    """Nor is none."""
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "none")}).stopping()
    Systemd({}).stopping()


def test_the_second_daemon_is_refused(tmp_path: Path) -> None:
    """With the pid of the first."""
    with (
        lock(tmp_path),
        pytest.raises(LeaseHeld, match=rf"a daemon runs on .* already: pid {os.getpid()}"),
        lock(tmp_path),
    ):
        pass
    with lock(tmp_path):
        pass


# --- the bell --------------------------------------------------------------------------------------------------------


@contextmanager
def listening(path: Path) -> Iterator[Callable[[], int]]:
    rings: list[None] = []
    with wake.listen(path, lambda: rings.append(None)):
        yield lambda: len(rings)


@pytest.mark.parametrize("depth", [0, 30], ids=["short", "longer than an address"])
async def test_the_bell_is_heard(tmp_path: Path, depth: int) -> None:
    """By its owner only, many rings as one, and wherever the data directory lies."""
    directory = tmp_path.joinpath(*["deep"] * depth)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "wake"
    heard = asyncio.Event()
    assert not wake.ring(path)
    with wake.listen(path, heard.set):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for _ in range(1000):
            assert wake.ring(path)
        await heard.wait()
    assert not wake.ring(path)


async def test_a_dead_daemons_bell_is_replaced(tmp_path: Path) -> None:
    """kill -9 leaves its socket behind."""
    path = tmp_path / "wake"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(str(path))
    left.close()
    with listening(path):
        assert wake.ring(path)


async def test_what_another_process_accepts_is_taken_up(tmp_path: Path, manager: Manager) -> None:
    """It rings, and the daemon looks."""
    stage = Stage(tmp_path, manager)
    writer = Office(tmp_path, board=stage.office.board)
    async with stage.runs():
        await writer.worker.accept(envelope("from elsewhere", "memory:9"))
        assert wake.ring(tmp_path / "wake")
        await stage.office.shown("echo: from elsewhere", KEY)
    await writer.close()
