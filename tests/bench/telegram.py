"""The daemon with Telegram, against a loop of the two SDKs alone.

Each in a process of its own; the fakes of both APIs, which take the times, in this one.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.report import Figure, median, show
from tests.fakes.bot_api import Chat, FakeBotAPI, RunningClock
from tests.fakes.messages_api import FakeMessagesAPI, Recorded, Reply
from tests.soak.telegram import resident_mb

__all__ = ["run"]

ROUNDS = 60
WARMING = 8
CHATS = 20
IDLE_S = 20.0
PATIENCE_S = 60.0
CROWD = 200
CROWD_SAYS = 5
# An answer that takes so long is seen to grow.
LONG_S = 3.0

_FIRST_ID = 9000


class Side:
    """One bot with its people, and what serves it. `requests` are the times at which the model was asked."""

    def __init__(self, api: FakeBotAPI, count: int) -> None:
        self.api = api
        self.chats = [api.user(_FIRST_ID + i, f"U{i}").private() for i in range(count)]
        self.requests: list[float] = []
        self.pid = 0

    async def listens(self) -> None:
        """Wait until a poll is held: whatever was said is kept, and the next thing said arrives at once."""
        await self.api.until(lambda api: api.updates.is_polled, patience_s=PATIENCE_S)

    async def asks(self, chat: Chat, text: str = "what does the tide do at the full moon?") -> float:
        """Say something when the bot listens; returns the seconds until the model was asked, once the answer stands."""
        await self.listens()
        count, began = len(chat.messages), time.monotonic()
        await chat.say(text)
        await chat.until(lambda chat: len(chat.messages) > count and not chat.last.buttons, patience_s=PATIENCE_S)
        await self.listens()
        return self.requests[-1] - began

    def cpu_s(self) -> float:
        """What its threads have used so far; the clock of `stat` ticks too coarsely for a process that is idle."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    async def settled_mb(self) -> float:
        """What it holds in memory once that no longer grows: the SDK is loaded in the background."""
        before, now = 0.0, resident_mb(self.pid)
        while now > before + 0.2:
            await asyncio.sleep(2)
            before, now = now, resident_mb(self.pid)
        return now


def run(directory: Path) -> list[Figure]:
    """Measure a daemon that has its data below `directory`."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", "nanochat"], check=True)
    figures = asyncio.run(_compared(directory / "telegram"))
    figures += asyncio.run(_crowd(directory / "crowd"))
    show("The daemon with Telegram, and what the two SDKs take by themselves", figures)
    return figures


async def _compared(directory: Path) -> list[Figure]:
    async with _fakes() as (ours, bare, messages):
        environ = {**_environ(directory, ours), "ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": messages.url}
        async with _process(("nanochat", "run"), environ, ours):
            first_s = await ours.asks(ours.chats[0])
            asked = {"token": bare.api.token, "telegram": bare.api.url, "messages": messages.url}
            line = json.dumps({**asked, "request": messages.bodies[0]}) + "\n"
            async with _process(("tests.bench.bare",), {}, bare, line):
                bare_first_s = await bare.asks(bare.chats[0])
                note = f"the SDK is being loaded; bare, with it loaded, {bare_first_s * 1000:.0f} ms"
                figures = [
                    *await _answering(ours, bare),
                    Figure("the first turn, at once after a start", first_s * 1000, "ms", None, note),
                    Figure("Bot API calls of a minimal turn", await _calls(ours, 1), "calls", 4, "polling included"),
                ]
                messages.responder = _Clocked(ours, bare, LONG_S)
                figures.append(Figure(f"Bot API calls of an answer of {LONG_S:g} s", await _calls(ours, 2), "calls"))
                figures += _memory(ours, bare, f"after {WARMING + ROUNDS} turns")
                figures += await _idle(ours, bare)
        async with _process(("nanochat", "run"), environ, ours):
            await ours.listens()
            figures.append(Figure("resident memory, idle, no turn yet", await ours.settled_mb(), "MB", 120))
            first_s = await ours.asks(ours.chats[3])
            figures.append(Figure("the first turn after a start, once the SDK is loaded", first_s * 1000, "ms"))
    return figures


async def _answering(ours: Side, bare: Side) -> list[Figure]:
    taken: list[tuple[float, float]] = []
    for i in range(WARMING + ROUNDS):
        chat = i % CHATS
        taken.append((await ours.asks(ours.chats[chat]), await bare.asks(bare.chats[chat])))
    mine, theirs = ([side * 1000 for side in sides] for sides in zip(*taken[WARMING:], strict=True))
    note = f"{median(mine):.1f} ms, bare {median(theirs):.1f} ms"
    worst = f"{_high(mine):.1f} ms, bare {_high(theirs):.1f} ms"
    return [
        Figure("update arrival to model request, added", median(mine) - median(theirs), "ms", 15, note),
        Figure("the same, nine of ten", _high(mine) - _high(theirs), "ms", None, worst),
    ]


def _high(values: Sequence[float]) -> float:
    return sorted(values)[len(values) * 9 // 10]


async def _calls(side: Side, chat: int) -> int:
    before = len(side.api.calls)
    await side.asks(side.chats[chat])
    return len(side.api.calls) - before


def _memory(ours: Side, bare: Side, when: str) -> list[Figure]:
    mine, theirs = resident_mb(ours.pid), resident_mb(bare.pid)
    return [
        Figure(f"resident memory, idle, {when}", mine, "MB", 120),
        Figure("of it ours", mine - theirs, "MB", None, f"bare {theirs:.0f} MB"),
    ]


async def _idle(ours: Side, bare: Side) -> list[Figure]:
    before = ours.cpu_s(), bare.cpu_s()
    await asyncio.sleep(IDLE_S)
    mine, theirs = ((side.cpu_s() - was) / IDLE_S * 100 for side, was in zip((ours, bare), before, strict=True))
    return [Figure(f"CPU while idle, over {IDLE_S:g} s", mine, "%", None, f"bare {theirs:.2g} %")]


async def _crowd(directory: Path) -> list[Figure]:
    """Everybody says a few things at once; each is kept, answered by the demo model and shown, over HTTP, by the real SDK."""
    async with FakeBotAPI(clock=RunningClock(), log_limit=100) as api:
        side = Side(api, CROWD)
        environ = {**_environ(directory, side), "NANOCHAT_MODEL__PROVIDER": "offline"}
        async with _process(("tests.bench.unpaced",), environ, side):
            await side.listens()
            before, began = side.cpu_s(), time.monotonic()
            for i in range(CROWD_SAYS):
                for chat in side.chats:
                    await chat.say(f"my number is {i}")
            await api.until(lambda api: not api.updates.pending, patience_s=PATIENCE_S)
            kept_s = time.monotonic() - began
            for chat in side.chats:
                await chat.until(lambda chat: len(chat.messages) == CROWD_SAYS, patience_s=PATIENCE_S)
            done_s = time.monotonic() - began
            cpu_ms = (side.cpu_s() - before) * 1000
    count = CROWD * CROWD_SAYS
    return [
        Figure(f"updates per second of {CROWD} chats, kept", count / kept_s, "/s"),
        Figure(f"updates per second of {CROWD} chats, answered by the demo model", count / done_s, "/s"),
        Figure("CPU of each", cpu_ms / count, "ms"),
    ]


# --- who takes part --------------------------------------------------------------------------------------------------


class _Clocked:
    """Answers, and notes when it was asked; one side asks at a time, so that both may have the note."""

    def __init__(self, ours: Side, bare: Side, lasts_s: float = 0.0) -> None:
        self._sides = ours, bare
        self._lasts_s = lasts_s

    def __call__(self, request: Recorded) -> Reply:
        now = time.monotonic()
        for side in self._sides:
            side.requests.append(now)
        text = "It rises and falls more than at other times, since moon and sun pull together. " * 3
        piece = len(text) // 24
        return Reply(text=text, piece=piece, delay_s=self._lasts_s / 24)


@asynccontextmanager
async def _fakes() -> AsyncIterator[tuple[Side, Side, FakeMessagesAPI]]:
    async with (
        FakeBotAPI(clock=RunningClock()) as mine,
        FakeBotAPI(clock=RunningClock()) as theirs,
        FakeMessagesAPI(keys=None) as messages,
    ):
        ours, bare = Side(mine, CHATS), Side(theirs, CHATS)
        messages.responder = _Clocked(ours, bare)
        yield ours, bare, messages


def _environ(directory: Path, side: Side) -> dict[str, str]:
    return {
        "NANOCHAT_DATA_DIR": str(directory),
        "TELEGRAM_BOT_TOKEN": side.api.token,
        "NANOCHAT_TELEGRAM__ENABLED": "true",
        "NANOCHAT_TELEGRAM__BASE_URL": side.api.url,
        "NANOCHAT_TELEGRAM__ALLOW": ",".join(str(chat.id) for chat in side.chats),
        "NANOCHAT_LIMITS__TURNS_PER_MINUTE": "0",
    }


@asynccontextmanager
async def _process(
    command: Sequence[str], environ: Mapping[str, str], side: Side, line: str = ""
) -> AsyncIterator[None]:
    """Have a module serve `side`, and end it."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, stdin=PIPE, stderr=DEVNULL, env={**inherited, **environ}
    )
    assert process.stdin is not None
    process.stdin.write(line.encode())
    side.pid = process.pid
    try:
        yield
    finally:
        process.terminate()
        await process.wait()
