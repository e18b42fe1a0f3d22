"""How soon a line is seen by `nanochat tail -f`, and what it costs to wait for one."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from nanochat.keys import SessionKey
from nanochat.lines import encode
from nanochat.records import Message, Opened, Snapshot, State
from nanochat.store import FileStore
from tests.bench.report import Figure, median, show

__all__ = ["run"]

KEY = SessionKey("cli", "bench")
LINES = 80
SESSIONS = 10_000
IDLE_S = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")


def run(directory: Path) -> list[Figure]:
    """Measure below `directory`: latency beside GNU `tail -f`, and the processor time of waiting."""
    one, many = directory / "tail-one", directory / "tail-many"
    figures = _latency(one)
    figures.append(_idle("waiting for one session", one, 0.5))
    _fill(many)
    figures.append(_idle(f"waiting for {SESSIONS:,} sessions", many, 3.0))
    figures += _resting(many)
    show("Following files: `nanochat tail -f`", figures)
    return figures


def _latency(directory: Path) -> list[Figure]:
    asyncio.run(_append(directory, 0))
    file = directory / "sessions" / "cli+bench.jsonl"
    with _reading(_command(directory)) as ours, _reading(["tail", "-f", "-n", "0", str(file)]) as theirs:
        begun = asyncio.run(_append_all(directory))
        for seen in (ours, theirs):
            seen.wait_for(LINES - 1)
    figures = []
    for name, seen, goal in (("nanochat tail -f", ours, 0.15), ("GNU tail -f", theirs, None)):
        late = sorted(seen.at[i] - begun[i] for i in range(1, LINES))
        p95 = late[int(len(late) * 0.95)]
        note = "from the begin of a durable append in another process to the line in the pipe"
        figures.append(Figure(f"{name}: median", median(late) * 1000, "ms", note=note))
        figures.append(Figure(f"{name}: 95 of 100", p95 * 1000, "ms", goal and goal * 1000))
    return figures


async def _append(directory: Path, number: int) -> None:
    store = FileStore(directory / "sessions")
    await _add(store, number)
    await store.close()


async def _append_all(directory: Path) -> dict[int, float]:
    store, begun, chance = FileStore(directory / "sessions"), {}, random.Random(1)
    for number in range(1, LINES):
        await asyncio.sleep(chance.uniform(0.1, 0.4))  # at no fixed place between two looks
        begun[number] = time.perf_counter()
        await _add(store, number)
    await store.close()
    return begun


async def _add(store: FileStore, number: int, key: SessionKey = KEY) -> None:
    now = datetime.now(UTC)
    await store.append(key, [Message("user", f"line {number}.", now)], known=0, durable=True, now=now)


def _resting(directory: Path) -> list[Figure]:
    """How late the first line of a session is that rested, among thousands."""
    keys = [SessionKey("cli", f"s{number}") for number in random.Random(2).sample(range(SESSIONS), 30)]

    async def append() -> dict[int, float]:
        store, begun = FileStore(directory / "sessions"), {}
        for number, key in enumerate(keys):
            await asyncio.sleep(0.3)
            begun[number] = time.perf_counter()
            await _add(store, number, key)
        await store.close()
        return begun

    with _reading(_command(directory)) as seen:
        begun = asyncio.run(append())
        seen.wait_for(len(keys) - 1)
    late = [seen.at[number] - begun[number] for number in begun]
    return [
        Figure(f"a session that rested, among {SESSIONS:,}: median", median(late) * 1000, "ms"),
        Figure("the latest of 30", max(late) * 1000, "ms", 2500),
    ]


def _fill(directory: Path) -> None:
    sessions = directory / "sessions"
    sessions.mkdir(parents=True)
    now = datetime.now(UTC)
    for number in range(SESSIONS):
        key = SessionKey("cli", f"s{number}")
        header = encode(Snapshot(State(str(key), now, now), Opened()))
        message = encode(Message("user", "hello", now, n=0))
        (sessions / f"cli+s{number}.jsonl").write_bytes(header + message)


def _command(directory: Path) -> list[str]:
    return [sys.executable, "-m", "nanochat", "--data-dir", str(directory), "tail", "-f", "-n", "0"]


class _Seen:
    """Reads a process's lines in a thread, and notes when each came."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.at: dict[int, float] = {}
        self.pid = process.pid
        self._process = process
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for(self, number: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: number in self.at, 30):
                raise TimeoutError(f"line {number} never came")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            now = time.perf_counter()
            if found := re.search(rb"line (\d+)\.", line):
                with self._changed:
                    self.at[int(found[1])] = now
                    self._changed.notify_all()


@contextmanager
def _reading(command: list[str]) -> Iterator[_Seen]:
    """A follower, once it waits."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        _settle(process.pid)
        yield _Seen(process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _settle(pid: int) -> None:
    """Wait until the process has started and does little."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        before = _cpu_s(pid)
        time.sleep(1.0)
        if _cpu_s(pid) - before < 0.05:
            return
    raise TimeoutError("it never came to rest")


def _idle(name: str, directory: Path, goal: float) -> Figure:
    with _reading(_command(directory)) as seen:
        before = _cpu_s(seen.pid)
        time.sleep(IDLE_S)
        used = _cpu_s(seen.pid) - before
    return Figure(name, used / IDLE_S * 100, "% of a core", goal)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
