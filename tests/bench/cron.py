"""What ten thousand jobs cost, and how late a thousand are that fall due at the same moment."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import resource
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nanochat.channels.cron import Clock
from nanochat.jobs import Job, decide
from nanochat.ledger import Ledger, Run, runs_of
from nanochat.ports import Envelope
from nanochat.process.liveness import Presence
from tests.bench.report import Figure, show
from tests.fakes.bot_api import FakeBotAPI, RunningClock
from tests.fakes.messages_api import FakeMessagesAPI, Recorded, Reply

__all__ = ["run"]

JOBS = 10_000
AT_ONCE = 1_000

# As long as the model takes for the job that the others shall not wait for.
SLOW_S = 3.0

_OLGA = 4242
_PATIENCE_S = 120.0


def run(directory: Path) -> list[Figure]:
    """Measure in a process of its own, so that its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        figures = pool.apply(_measured, (directory / "cron",))
    show(f"{JOBS:,} jobs", figures)
    at_work = asyncio.run(_at_work(directory))
    show("Jobs at work in nanochat run", at_work)
    return figures + at_work


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


# --- the whole daemon ------------------------------------------------------------------------------------------------


async def _at_work(directory: Path) -> list[Figure]:
    async with FakeBotAPI(clock=RunningClock()) as api, FakeMessagesAPI(keys=None, responder=_model) as messages:
        return await _beside_a_slow_one(directory / "slow", api, messages) + await _texts(
            directory / "texts", api, messages
        )


async def _model(request: Recorded) -> Reply:
    if "slowly" in request.said:
        await asyncio.sleep(SLOW_S)
    return Reply(text="Done.")


async def _beside_a_slow_one(directory: Path, api: FakeBotAPI, messages: FakeMessagesAPI) -> list[Figure]:
    """Three jobs that fall due at the same moment, the slow one the first of them."""
    due = _soon(4)
    chat = api.user(_OLGA, "Olga").private()
    jobs = _setting("a-slow", due, "prompt", "think slowly", "cli:slow")
    jobs += _setting("b-text", due, "text", "drink tea", f"telegram:{_OLGA}")
    jobs += _setting("c-asks", due, "prompt", "be quick", "cli:quick")
    async with _daemon(directory, api, messages, jobs):
        await chat.until(lambda chat: bool(chat.texts), patience_s=_PATIENCE_S)
        shown_s = (datetime.now(UTC) - due).total_seconds()
        runs = {run.job_id: run for run in await _ended(directory, 3)}
    slow_s, asks_s = _late_s(runs["a-slow"], due), _late_s(runs["c-asks"], due)
    assert slow_s >= SLOW_S
    beside = f"beside a job of {SLOW_S:g} s"
    return [
        Figure(f"a text due {beside}, until it is in the chat", shown_s * 1000, "ms", 300, "the first after the start"),
        Figure(f"a prompt due {beside}, until it is answered", asks_s * 1000, "ms", 300, "the first after the start"),
    ]


async def _texts(directory: Path, api: FakeBotAPI, messages: FakeMessagesAPI) -> list[Figure]:
    """As many reminders at once, each for a session of its own, until each has run and is handed over."""
    due = _soon(8)
    jobs = "".join(_setting(f"rush-{i}", due, "text", "drink tea", f"cli:rush-{i}") for i in range(AT_ONCE))
    async with _daemon(directory, api, messages, jobs):
        runs = await _ended(directory, AT_ONCE)
    late_s = sorted(_late_s(run, due) for run in runs)
    return [
        Figure(f"{AT_ONCE:,} reminders at once, until they have run, median", late_s[len(late_s) // 2] * 1000, "ms"),
        Figure(f"{AT_ONCE:,} reminders at once, until they have run, last", late_s[-1] * 1000, "ms"),
    ]


def _soon(seconds: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)


def _setting(job_id: str, due: datetime, kind: str, said: str, recipient: str) -> str:
    what = "text" if kind == "text" else "prompt"
    return (
        f'[[cron.jobs]]\nid = "{job_id}"\nat = {due.isoformat()}\nkind = "{kind}"\n{what} = "{said}"\n'
        f'deliver_to = "{recipient}"\n'
    )


@asynccontextmanager
async def _daemon(directory: Path, api: FakeBotAPI, messages: FakeMessagesAPI, jobs: str) -> AsyncIterator[None]:
    config = directory / "nanochat.toml"
    await asyncio.to_thread(directory.mkdir, parents=True)
    await asyncio.to_thread(config.write_text, f"telegram.allow = [{_OLGA}]\nowner = [{_OLGA}]\n{jobs}")
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "ANTHROPIC_API_KEY": "sk-test",
        "ANTHROPIC_BASE_URL": messages.url,
        "TELEGRAM_BOT_TOKEN": api.token,
        "NANOCHAT_TELEGRAM__ENABLED": "true",
        "NANOCHAT_TELEGRAM__BASE_URL": api.url,
    }
    run = ("-m", "nanochat", "run", "--data-dir", str(directory), "--config", str(config))
    process = await asyncio.create_subprocess_exec(sys.executable, *run, stderr=DEVNULL, env=environ)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def _ended(directory: Path, count: int) -> list[Run]:
    """Wait until so many runs are over, and have gone as they should; looked for seldom, so that it costs nothing."""
    runs: list[Run] = []
    async with asyncio.timeout(_PATIENCE_S):
        while sum(run.ended_at is not None for run in runs) < count:
            await asyncio.sleep(1)
            runs = await asyncio.to_thread(runs_of, directory / "ledger.db", "", count)
    assert {run.outcome for run in runs} == {"ran"}
    return runs


def _late_s(run: Run, due: datetime) -> float:
    assert run.ended_at is not None
    return (run.ended_at - due).total_seconds()


# --- figures of their own --------------------------------------------------------------------------------------------


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
