"""The session store against the cheapest thing that could do its work."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from nanochat.keys import SessionKey
from nanochat.records import Event, Message, TurnEnd, Usage
from nanochat.store import FileStore
from tests.bench.report import Figure, median, show

__all__ = ["run"]

KEY = SessionKey("cli", "bench")
SIZES = (10, 1_000, 10_000, 100_000)
ROUNDS = 400
TEXT = "The quick brown fox jumps over the lazy dog, and the tide comes in at six. " * 6


def run(directory: Path) -> list[Figure]:
    """Measure appends, resuming and listing below `directory`."""
    figures = asyncio.run(_appends(directory))
    show("Durable append, against a bare write + fdatasync in a thread", figures)
    resume = _resume(directory)
    show("Opening a 1 GB session", resume)
    listing = _listing(directory)
    show("Listing 5,000 sessions", listing)
    return [*figures, *resume, *listing]


async def _appends(directory: Path) -> list[Figure]:
    figures = []
    ratios = []
    for size in SIZES:
        sessions = directory / f"append-{size}"
        await _fill(sessions, size)
        store = FileStore(sessions)
        view = await store.read(KEY, exchanges=1, limit_bytes=0)
        assert view is not None
        known = view.end
        line = json.dumps({"role": "user", "content": TEXT, "timestamp": "2026-11-20T12:00:00+00:00"}).encode() + b"\n"
        bare = os.open(directory / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            appended = await store.append(
                KEY, [Message("user", TEXT, datetime.now(UTC))], known=known, durable=True, now=datetime.now(UTC)
            )
            ours.append(time.perf_counter() - began)
            known = appended.end
            began = time.perf_counter()
            await asyncio.to_thread(_write_durably, bare, line)
            theirs.append(time.perf_counter() - began)
        os.close(bare)
        await store.close()
        ratio = median(ours) / median(theirs)
        ratios.append(ratio)
        note = f"{median(ours) * 1e6:.0f} µs to {median(theirs) * 1e6:.0f} µs"
        figures.append(Figure(f"append at {size:,} messages", ratio, "x", 1.3, note))
    figures.append(
        Figure("append at 100,000 against append at 10", ratios[-1] / ratios[0], "x", 1.15, "ratio of the ratios")
    )
    return figures


def _write_durably(descriptor: int, line: bytes) -> None:
    os.write(descriptor, line)
    os.fdatasync(descriptor)


async def _fill(sessions: Path, count: int) -> None:
    """A session of `count` messages, written by the store itself."""
    store = FileStore(sessions, durability="off")
    known, now = 0, datetime.now(UTC)
    for begin in range(0, count, 500):
        batch: list[Message | Event] = []
        for i in range(begin, min(begin + 500, count)):
            batch.append(Message("user" if i % 2 == 0 else "assistant", TEXT, now))
            if i % 2:
                batch.append(TurnEnd(f"cli:{i}", "done", "a-model", usage=Usage(input=400, output=120), seconds=1.5))
        appended = await store.append(KEY, batch, known=known, durable=False, now=now)
        known = appended.end
    await store.close()


_RESUME = """
import asyncio, sys, time
from pathlib import Path
from nanochat.keys import SessionKey
from nanochat.sessions import SessionManager

async def main():
    manager = SessionManager(Path(sys.argv[1]))
    await asyncio.to_thread(lambda: None)  # the pool's first thread is nobody's cost
    before = int(open("/proc/self/io").readline().split()[1])
    began = time.perf_counter()
    session = await manager.get_or_create(SessionKey("cli", "bench"))
    seconds = time.perf_counter() - began
    read = int(open("/proc/self/io").readline().split()[1]) - before
    print(seconds, read, len(session.records))
    await manager.close()

asyncio.run(main())
"""


def _resume(directory: Path) -> list[Figure]:
    sessions = directory / "resume"
    asyncio.run(_fill(sessions, 2_000))
    [path] = sessions.glob("*.jsonl")
    whole = path.read_bytes()
    head, body = whole.split(b"\n", 1)
    records = [json.loads(line) for line in body.splitlines()]
    with path.open("wb") as file:
        file.write(head + b"\n")
        n = 0
        while file.tell() < 1_000_000_000:  # the same turns over and over, never compacted: the worst that can be met
            for record in records:
                record["n" if "_type" in record else "_n"] = n
                n += "_type" not in record
            lines = (json.dumps(record, separators=(",", ":")) for record in records)
            file.write(("\n".join(lines) + "\n").encode())
    seconds, read = [], []
    for _ in range(9):
        answer = subprocess.run(
            [sys.executable, "-c", _RESUME, str(sessions)], capture_output=True, text=True, check=True
        ).stdout.split()
        seconds.append(float(answer[0]))
        read.append(float(answer[1]))
    path.unlink()
    return [
        Figure("resume", median(seconds) * 1000, "ms", 10, "in a fresh process"),
        Figure("read from the file", median(read) / 1e6, "MB", 3),
    ]


_LIST = """
import sys
from pathlib import Path
if len(sys.argv) > 1:
    import asyncio
    from nanochat.store import FileStore
    found = asyncio.run(FileStore(Path(sys.argv[1])).list())
    assert len(found) == 5000
"""


def _listing(directory: Path) -> list[Figure]:
    sessions = directory / "listing"
    asyncio.run(_many(sessions, 5_000))
    ours, bare, command = [], [], []
    for _ in range(9):
        ours.append(_seconds([sys.executable, "-c", _LIST, str(sessions)]))
        bare.append(_seconds([sys.executable, "-c", _LIST]))
        command.append(_seconds([sys.executable, "-m", "nanochat", "--data-dir", str(directory), "sessions", "--json"]))
    added = (median(ours) - median(bare)) * 1000
    return [
        Figure("store.list() in a fresh process, above the interpreter's start", added, "ms", 120),
        Figure("an empty interpreter", median(bare) * 1000, "ms"),
    ]


async def _many(sessions: Path, count: int) -> None:
    store = FileStore(sessions, durability="off")
    now = datetime.now(UTC)
    lines = [Message("user" if i % 2 == 0 else "assistant", TEXT, now) for i in range(20)]
    for i in range(count):
        await store.append(SessionKey("cli", f"s{i}"), lines, known=0, durable=False, now=now)
    await store.close()


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        run(Path(scratch))
