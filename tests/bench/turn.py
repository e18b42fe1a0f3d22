"""A whole turn against the bare SDK call that it makes, both through HTTP to the same fake in another process."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from nanochat import pricing
from nanochat.events import ReplyEvent, TextDelta, TurnDone
from nanochat.inbox.dispatcher import Dispatcher
from nanochat.keys import SessionKey
from nanochat.model.anthropic import AnthropicModel
from nanochat.ports import Model, ModelReply, ModelRequest
from nanochat.records import Event, Message, TurnEnd, Usage
from nanochat.search import SearchIndex
from nanochat.store import FileStore
from nanochat.tools import MemoryTool, SessionsTool
from nanochat.tools.memory import API_SPEC
from nanochat.turn.agent import AgentSettings
from nanochat.turn.limits import Limits
from tests.bench.report import Figure, median, show
from tests.fakes.house import House

__all__ = ["run"]

KEY = SessionKey("cli", "test")
SIZES = (10, 100, 1_000, 10_000)
ROUNDS = 60
WARMING = 8
QUESTION = "what does the tide do at the full moon, and why is it so? " * 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call took: seconds of this process's CPU, and seconds until the first text."""

    cpu_s: float
    first_s: float


@dataclass
class Recording:
    """The real model, with a note of each turn's request."""

    model: Model
    name: str = "recording"
    requests: list[ModelRequest] = field(default_factory=list)

    async def reply(
        self,
        request: ModelRequest,
        on_text: Callable[[str], None],
        on_notice: Callable[[str], None],
        on_start: Callable[[str, Usage], None] | None = None,
    ) -> ModelReply:
        if request.purpose == "turn":
            self.requests.append(request)
        return await self.model.reply(request, on_text, on_notice, on_start)

    async def warm(self) -> None:
        await self.model.warm()

    async def close(self) -> None:
        await self.model.close()


def run(directory: Path) -> list[Figure]:
    """Measure turns in sessions of several lengths below `directory`."""
    figures = asyncio.run(_turns(directory))
    show("A turn, above the bare SDK's create(stream=True) of the same request", figures)
    return figures


async def _turns(directory: Path) -> list[Figure]:
    figures = []
    async with _fake() as url:
        for size in SIZES:
            ours, bare = await _compare(directory / f"turn-{size}", size, url)
            cpu, first = [c.cpu_s for c in bare], [c.first_s for c in bare]
            added_ms = (median([c.cpu_s for c in ours]) - median(cpu)) * 1000
            note = f"bare {median(cpu) * 1000:.1f} ms"
            figures.append(Figure(f"CPU added, {size:,} messages in the file", added_ms, "ms", 3, note))
            added_ms = (median([c.first_s for c in ours]) - median(first)) * 1000
            note = f"bare {median(first) * 1000:.1f} ms"
            figures.append(Figure(f"time to first token added, {size:,} messages", added_ms, "ms", 3, note))
    return figures


async def _compare(directory: Path, size: int, url: str) -> tuple[list[Cost], list[Cost]]:
    import anthropic  # noqa: PLC0415 - a second that the other figures need not wait for

    await _fill(directory / "sessions", size)
    model = Recording(AnthropicModel(name=pricing.DEFAULT_MODEL, api_key="sk-test", base_url=url))
    store = FileStore(directory / "sessions")
    house = House(
        directory,
        settings=AgentSettings(pricing.DEFAULT_MODEL, "You are a personal assistant. " * 20, ZoneInfo("UTC")),
        limits=Limits(turns_per_minute=0),
        tools=(
            SessionsTool(store, SearchIndex(directory / "sessions", directory / "index.db")),
            MemoryTool(directory / "memory", API_SPEC),
        ),
        summary_model=pricing.DEFAULT_SUMMARY_MODEL,
        model=model,
    )
    door = Dispatcher(
        house.assistant,
        house.ledger,
        again=house.assistant.again,
        passes=lambda _: False,
        interrupt=house.assistant.interrupt,
        clock=house.clock,
    )
    client = anthropic.AsyncAnthropic(api_key="sk-test", base_url=url, max_retries=0)
    await model.warm()
    ours, bare = [], []
    for i in range(WARMING + ROUNDS):
        house.clock.advance(seconds=30)
        ours.append(await _our_turn(door, house, i))
        bare.append(await _bare_call(client, model.requests[-1]))
    await client.close()
    await house.close()
    await store.close()
    return ours[WARMING:], bare[WARMING:]


async def _our_turn(door: Dispatcher, house: House, number: int) -> Cost:
    first_at = 0.0
    last: ReplyEvent | None = None

    def emit(event: ReplyEvent) -> None:
        nonlocal first_at, last
        if not first_at and isinstance(event, TextDelta):
            first_at = time.perf_counter()
        last = event

    inbound = house.inbound(f"{number}: {QUESTION}")
    cpu, began = time.process_time(), time.perf_counter()
    await door.live(inbound, emit)
    used = time.process_time() - cpu
    assert isinstance(last, TurnDone), last
    return Cost(used, first_at - began)


async def _bare_call(client: Any, request: ModelRequest) -> Cost:  # Any: the SDK is loaded late
    first_at = 0.0
    cpu, began = time.process_time(), time.perf_counter()
    stream = await client.messages.create(
        model=request.model,
        max_tokens=request.max_tokens,
        system=list(request.system),
        messages=list(request.messages),
        tools=list(request.tools),
        stream=True,
    )
    text = []
    async for event in stream:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            first_at = first_at or time.perf_counter()
            text.append(event.delta.text)
    return Cost(time.process_time() - cpu, first_at - began)


async def _fill(sessions: Path, count: int) -> None:
    """Exchanges of about 300 tokens, as a chat has them."""
    store = FileStore(sessions, durability="off")
    known, now = 0, datetime(2026, 11, 20, 11, 0, tzinfo=UTC)
    for begin in range(0, count, 500):
        batch: list[Message | Event] = []
        for i in range(begin, min(begin + 500, count)):
            text = f"{i}: " + ("why is that so? " * 12 if i % 2 == 0 else "It is so because of the moon. " * 24)
            batch.append(Message("user" if i % 2 == 0 else "assistant", text, now, source_id=f"fill:{i // 2}"))
            if i % 2:
                batch.append(TurnEnd(f"fill:{i // 2}", "done"))
        known = (await store.append(KEY, batch, known=known, durable=False, now=now)).end
    await store.close()


@asynccontextmanager
async def _fake() -> AsyncIterator[str]:
    """The fake Messages API in a process of its own, so that its work is nobody's CPU here."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.messages_api", "--port", "0", stdout=PIPE
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().split()[-1]
    finally:
        process.terminate()
        await process.wait()
