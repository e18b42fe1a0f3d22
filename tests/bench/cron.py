"""What ten thousand jobs cost, and how late a thousand are that fall due at the same moment."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import resource
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nanochat.channels.cron import Clock
from nanochat.jobs import Job, decide
from nanochat.ledger import Ledger
from nanochat.liveness import Presence
from nanochat.ports import Envelope
from tests.bench.report import Figure, show

__all__ = ["run"]

JOBS = 10_000
AT_ONCE = 1_000


def run(directory: Path) -> list[Figure]:
    """Measure in a process of its own, so that its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        figures = pool.apply(_measured, (directory / "cron",))
    show(f"{JOBS:,} jobs", figures)
    return figures


def _measured(directory: Path) -> list[Figure]:
    return asyncio.run(_measure(directory))


async def _measure(directory: Path) -> list[Figure]:
    presence = Presence(directory / "leases")
    ledger = Ledger(directory / "ledger.db", presence)
    rising = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=25)
    made = rising - timedelta(days=1)
    jobs = [
        Job(f"job-{number}", "text", "Europe/Berlin", cron=_fields(number), text="x", created_at=made)
        for number in range(JOBS - AT_ONCE)
    ]
    jobs += [Job(f"rush-{number}", "text", "UTC", at=rising, text="x", created_at=made) for number in range(AT_ONCE)]
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(ledger.jobs.add(job))
    jobs.clear()
    gc.collect()
    before_mb = _resident_mb()
    late_s: list[float] = []
    all_there = asyncio.Event()

    async def accept(envelope: Envelope) -> bool:
        is_new = await ledger.inbox.accept(envelope, datetime.now(UTC))
        if envelope.key.chat_id.startswith("rush-"):
            late_s.append((datetime.now(UTC) - rising).total_seconds())
            if len(late_s) == AT_ONCE:
                all_there.set()
        return is_new

    clock = Clock(ledger.jobs, ())
    began = time.perf_counter()
    task = asyncio.create_task(clock.run(accept))
    await clock.rest()
    start_s = time.perf_counter() - began
    memory_mb = _resident_mb() - before_mb
    await all_there.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await ledger.close()
    presence.leave()
    late_s.sort()
    return [
        Figure(f"start-up with {JOBS:,} jobs of the ledger", start_s, "s", 5),
        Figure(f"memory for {JOBS:,} jobs", memory_mb, "MB", 100),
        Figure(f"lateness of {AT_ONCE:,} fires at once, median", late_s[len(late_s) // 2] * 1000, "ms"),
        Figure(f"lateness of {AT_ONCE:,} fires at once, last", late_s[-1] * 1000, "ms", 2000),
        Figure("a year of missed minutes, decided", _year_s() * 1000, "ms", 100),
    ]


def _fields(number: int) -> str:
    # Once a year, so that none is in the way of the rush.
    return f"{number % 60} {number % 24} * feb {('*', 'mon-fri', 'sat,sun')[number % 3]}"


def _year_s() -> float:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    job = Job("minutes", "text", "Europe/Berlin", cron="* * * * *", text="x")
    began = time.perf_counter()
    decide(job, now - timedelta(days=365), now)
    return time.perf_counter() - began


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20
