"""The daemon under kill -9 and under faults, with people who talk over Telegram: is every message answered once, in order?

`nanochat run` as a process, both real SDKs, and around it the fakes of both APIs. What came of it is judged in `hindsight`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.bot_api import Chat, FakeBotAPI, RunningClock
from tests.fakes.messages_api import FakeMessagesAPI, Recorded, Refusal, Reply
from tests.soak.hindsight import Findings, answer_to, judge, settled, tags_in

__all__ = ["MOMENTS_S", "Endurance", "Kills", "endurance", "kills_at_moments", "kills_under_load"]

MOMENTS_S = (0.05, 0.25, 1.0, 2.5)
"""How long after an update arrived the daemon dies: accepted, asking, at the first message, and while it grows."""

# Longer than the last of the moments: what dies then dies in the middle of its answer.
SLOW_S = 3.2
# A chat is sent something once per second, and rests after failures double: what is slow is not lost.
PATIENCE_S = 180.0

_FIRST_ID = 7000


@dataclass
class Kills:
    """What the kills came to. `edited` counts messages that stood half-shown at a death, and were edited to their end."""

    kills: int
    edited: int
    requests: int
    findings: Findings


@dataclass
class Endurance:
    """What a long run came to: what stood in the way of how many calls, and how the daemon's memory and descriptors went."""

    findings: Findings
    faults: Counter[str] = field(default_factory=Counter)
    resident_mb: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)


class Model:
    """Answers as `hindsight` expects it, at a pace of seconds."""

    def __init__(self, chance: random.Random, first_s: tuple[float, float], again_s: tuple[float, float]) -> None:
        self.asked: Counter[str] = Counter()
        self.is_overloaded = False
        self._chance = chance
        self._first_s = first_s
        self._again_s = again_s

    def __call__(self, request: Recorded) -> Reply | Refusal:
        """The answer to a message, or a summary."""
        if not request.body.get("tools"):
            return Reply(text="They exchanged words.")
        tag = tags_in(request.said)[-1]
        self.asked[tag] += 1
        if self.is_overloaded and self.asked[tag] == 1:  # once each, else a message may run out of tries
            self.is_overloaded = False
            return Refusal(529, "overloaded_error", "Overloaded")
        text = answer_to(tag)
        piece = len(text) // 24 + 1
        lasts_s = self._chance.uniform(*(self._first_s if self.asked[tag] == 1 else self._again_s))
        return Reply(text=text, piece=piece, delay_s=lasts_s * piece / len(text))


@dataclass(frozen=True, slots=True)
class Waits:
    """Somebody who said something, and may still wait for the answer."""

    chat: Chat
    tag: str
    message_id: int

    def is_over(self, chat: Chat) -> bool:
        return settled(chat, self.tag, self.message_id)


@dataclass
class Stage:
    """Both APIs, the people, and a nest of daemons."""

    directory: Path
    api: FakeBotAPI
    messages: FakeMessagesAPI
    model: Model
    chance: random.Random
    chats: Sequence[Chat]
    nest: asyncio.subprocess.Process
    said: dict[int, list[str]] = field(default_factory=dict)
    pid: int = 0
    kills: int = 0
    half_shown: set[tuple[int, int]] = field(default_factory=set)
    waiting: list[Waits] = field(default_factory=list)

    async def say(self, chat: Chat) -> Waits:
        """Write the next message."""
        mine = self.said[chat.id]
        tag = f"c{chat.id - _FIRST_ID}m{len(mine)}"
        mine.append(tag)
        message = await chat.say(f"say {tag}")
        said = Waits(chat, tag, message.message_id)
        self.waiting = [*(each for each in self.waiting if not each.is_over(each.chat)), said]
        return said

    async def answer(self, waiting: Sequence[Waits]) -> None:
        """Wait until these were answered."""
        for each in waiting:
            await each.chat.until(each.is_over, patience_s=PATIENCE_S)

    async def start(self) -> None:
        """Let a daemon come up; returns when it listens."""
        assert self.nest.stdin is not None
        assert self.nest.stdout is not None
        environ = {
            "ANTHROPIC_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": self.messages.url,
            "TELEGRAM_BOT_TOKEN": self.api.token,
            "NANOCHAT_TELEGRAM__ENABLED": "true",
            "NANOCHAT_TELEGRAM__BASE_URL": self.api.url,
            "NANOCHAT_TELEGRAM__ALLOW": ",".join(str(chat.id) for chat in self.chats),
            "NANOCHAT_LIMITS__TURNS_PER_MINUTE": "0",
            "NANOCHAT_CONTEXT__BUDGET_TOKENS": "6000",
        }
        log = str(self.directory / "log")
        asked = {"args": ["run", "--data-dir", str(self.directory)], "environ": environ, "log": log}
        self.nest.stdin.write(json.dumps(asked).encode() + b"\n")
        self.pid = int((await self.nest.stdout.readline()).split()[1])

    async def end(self, number: signal.Signals) -> int:
        """Send the daemon a signal; returns its wait status."""
        assert self.nest.stdout is not None
        if number == signal.SIGKILL:
            self.kills += 1
            self.half_shown |= {(c.id, m.id) for c in self.chats for m in c.messages[-2:] if m.buttons}
        os.kill(self.pid, number)
        status = int((await self.nest.stdout.readline()).split()[1])
        self.pid = 0
        return status

    def verdict(self) -> Findings:
        found = judge(self.directory, self.chats, self.said)
        log = (self.directory / "log").read_text(errors="replace")
        if self.api.token in log:
            found.faults.append("the token stands in the log")
        if "Traceback" in log:
            found.faults.append(f"a traceback stands in the log: {log[log.index('Traceback') :][:3000]}")
        return found

    def outcome(self) -> Kills:
        ended = {(c.id, m.id) for c in self.chats for m in c.messages if not m.buttons}
        return Kills(self.kills, len(self.half_shown & ended), sum(self.model.asked.values()), self.verdict())


@asynccontextmanager
async def _stage(directory: Path, chats: int, chance: random.Random, model: Model) -> AsyncIterator[Stage]:
    bot_api = FakeBotAPI(clock=RunningClock(), log_limit=200)
    async with bot_api as api, FakeMessagesAPI(keys=None, responder=model) as messages:
        people = [api.user(_FIRST_ID + i, f"U{i}").private() for i in range(chats)]
        nest = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.soak.daemons", stdin=PIPE, stdout=PIPE)
        stage = Stage(directory, api, messages, model, chance, people, nest, {chat.id: [] for chat in people})
        try:
            await stage.start()
            yield stage
            status = await stage.end(signal.SIGTERM)
            assert not status, f"the daemon ended with status {status}"
        finally:
            if stage.pid:
                os.kill(stage.pid, signal.SIGKILL)
            assert nest.stdin is not None
            nest.stdin.close()
            await nest.wait()


# --- kills -----------------------------------------------------------------------------------------------------------


async def kills_at_moments(directory: Path, *, kills: int, seed: int, progress: Callable[[str], None]) -> Kills:
    """Kill the daemon when an update has been there for so long, in each of a few chats; then let it finish."""
    chance = random.Random(seed)
    model = Model(chance, (SLOW_S, SLOW_S), (0.1, 0.5))
    async with _stage(directory, 4, chance, model) as stage:
        for i in range(kills):
            await stage.api.until(lambda api: api.updates.is_polled, patience_s=PATIENCE_S)
            for chat in stage.chats:
                await stage.say(chat)
            await asyncio.sleep(MOMENTS_S[i % len(MOMENTS_S)])
            await stage.end(signal.SIGKILL)
            await stage.start()
            await stage.answer(stage.waiting)
            progress(f"{stage.kills} kills")
        await stage.api.polled()
    return stage.outcome()


async def kills_under_load(
    directory: Path,
    *,
    kills: int,
    seed: int,
    chats: int = 20,
    longest_s: float = 2.0,
    progress: Callable[[str], None],
) -> Kills:
    """Kill the daemon again and again while everybody talks; then let the last one finish.

    Lives and answers take up to about `longest_s`.
    """
    chance = random.Random(seed)
    model = Model(chance, (0.0, longest_s), (0.0, longest_s / 2))
    async with _stage(directory, chats, chance, model) as stage:
        is_over = asyncio.Event()
        async with asyncio.TaskGroup() as talk:
            for chat in stage.chats:
                talk.create_task(_talk(stage, chat, is_over))
            while stage.kills < kills:
                # Of two lives one lets those come to their end who wait: else most messages would be given up. Most of all
                # lives; so that giving up happens, too.
                if stage.kills % 2 and chance.random() < 0.9:
                    await stage.answer(stage.waiting)
                await asyncio.sleep(chance.uniform(0.0, longest_s))
                await stage.end(signal.SIGKILL)
                await stage.start()
                progress(f"{stage.kills} kills, {sum(map(len, stage.said.values()))} messages")
            is_over.set()
        await stage.api.polled()
    return stage.outcome()


async def _talk(stage: Stage, chat: Chat, is_over: asyncio.Event, times_s: list[float] | None = None) -> None:
    """Say something, at times two things in a row; wait for the answers; think for a while; until it is over."""
    while not is_over.is_set():
        began = time.monotonic()
        await stage.answer([await stage.say(chat) for _ in range(stage.chance.choice((1, 1, 2)))])
        if times_s is not None:
            times_s.append(time.monotonic() - began)
        await _unless(is_over, stage.chance.uniform(0.0, 2.0))


async def _unless(event: asyncio.Event, seconds: float) -> None:
    """Wait for so long, or for the event."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


# --- endurance -------------------------------------------------------------------------------------------------------


async def endurance(
    directory: Path, *, minutes: float, seed: int, chats: int = 20, progress: Callable[[str], None]
) -> Endurance:
    """One daemon for so long, with something in its way twice a second."""
    chance = random.Random(seed)
    model = Model(chance, (0.0, 2.0), (0.0, 1.0))
    outcome = Endurance(Findings())
    async with _stage(directory, chats, chance, model) as stage:
        ends_at = time.monotonic() + 60 * minutes
        is_over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for chat in stage.chats:
                group.create_task(_talk(stage, chat, is_over, outcome.answered_s))
            while time.monotonic() < ends_at:
                outcome.faults[_disturb(stage)] += 1
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                outcome.resident_mb.append(resident_mb(stage.pid))
                outcome.descriptors.append(len(os.listdir(f"/proc/{stage.pid}/fd")))
                stage.messages.requests.clear()
                progress(
                    f"{sum(map(len, stage.said.values()))} messages, {outcome.resident_mb[-1]:.1f} MB,"
                    f" {outcome.descriptors[-1]} descriptors"
                )
            stage.api.mend()
            is_over.set()
        await stage.api.until(lambda api: api.updates.is_polled, patience_s=PATIENCE_S)
    outcome.findings = stage.verdict()
    return outcome


def resident_mb(pid: int) -> float:
    """What a process holds in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def _disturb(stage: Stage) -> str:
    """Put something in the way of the next calls, instead of what was not met; returns what."""
    chance, api = stage.chance, stage.api
    api.mend()
    method = chance.choice(("sendMessage", "editMessageText", "editMessageText", "getUpdates", "sendChatAction"))
    match chance.randrange(8):
        case 0 | 1:
            api.fail(method, 429, parameters={"retry_after": chance.randint(1, 3)})
            return f"{method} 429"
        case 2:
            api.fail(method, chance.choice((500, 502)))
            return f"{method} 5xx"
        case 3:
            api.reset(method, when="before")
            return f"{method} reset before"
        case 4:
            api.reset(method, when="after")
            return f"{method} reset after"
        case 5 | 6:
            gate = api.gate(method, when=chance.choice(("before", "after")))
            asyncio.get_running_loop().call_later(chance.uniform(0.2, 3.0), gate.open)
            return f"{method} late"
        case _:
            stage.model.is_overloaded = True
            return "the model 529"
