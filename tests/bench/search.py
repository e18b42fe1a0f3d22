"""Full-text search over a million messages in ten thousand conversations.

`python -m tests.bench.search MESSAGES SESSIONS` measures another size.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from nanochat.doors import Query
from nanochat.keys import SessionKey
from nanochat.lines import encode
from nanochat.records import Message, Opened, Record, Snapshot, State, TurnEnd, Usage, after
from nanochat.search import SearchIndex
from nanochat.store import FileStore
from tests.bench.report import Figure, median, show

__all__ = ["run"]

ROUNDS = 15
GOAL_MS = 50.0
VOCABULARY = 50_000
BEGIN = datetime(2025, 11, 1, tzinfo=UTC)
YEAR_S = 365 * 86400

Work: TypeAlias = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Written:
    """What is in the files: words by how common they are, and how much text."""

    words: list[str]
    text_bytes: int
    file_bytes: int


def run(directory: Path, messages: int = 1_000_000, sessions: int = 10_000) -> list[Figure]:
    """Measure building, asking and keeping up below `directory`."""
    data = directory / "search"
    written = _write(data / "sessions", messages, sessions)
    figures = asyncio.run(_measure(data, written, messages))
    show(f"Searching {messages:,} messages in {sessions:,} sessions, {written.file_bytes / 1e6:,.0f} MB", figures)
    return figures


async def _measure(data: Path, written: Written, messages: int) -> list[Figure]:
    index = SearchIndex(data / "sessions", data / "index.db")
    reference_s = await _seconds(lambda: asyncio.to_thread(_load_all, data / "sessions"))
    build_s = await _seconds(index.sync)
    size = (data / "index.db").stat().st_size
    note = f"{messages / build_s:,.0f} messages/s; {build_s:.1f} s to {reference_s:.1f} s"
    figures = [
        Figure("building the index, against json.loads of every line", build_s / reference_s, "x", 5, note),
        Figure("the index, against the text in it", size / written.text_bytes, "x", 1, f"{size / 1e6:,.0f} MB"),
    ]
    for name, query in _queries(written.words):
        found = await index.search(query)
        taken = [await _seconds(lambda query=query: index.search(query)) for _ in range(ROUNDS)]  # type: ignore[misc]  # the default binds it
        figures.append(Figure(name, median(taken) * 1000, "ms", GOAL_MS, f"{len(found)} found"))
    store = FileStore(data / "sessions", durability="off")
    figures += [await _after_an_append(index, store), await _in_a_fresh_process(data)]
    listed = [await _seconds(store.list) for _ in range(5)]
    figures.append(Figure("store.list(), for comparison", median(listed) * 1000, "ms"))
    await store.close()
    await index.close()
    return figures


def _queries(words: list[str]) -> Iterator[tuple[str, Query]]:
    common, second, rare = words[0], words[1], words[20_000]
    since, until = BEGIN + timedelta(days=200), BEGIN + timedelta(days=230)
    yield "a word that no message has", Query("xylophonist")
    yield "a rare word", Query(rare)
    yield "the most common word", Query(common)
    yield "both of two common words", Query(f"{common} {second}")
    yield "a phrase of two common words", Query(f'"{second} {common}"')
    yield "a common word and a rare one", Query(f"{common} {rare}")
    yield "a beginning of three letters", Query(f"{rare[:3]}*")
    yield "a common word in one session", Query(common, ("cli:s7",))
    yield (
        "a common word in a tenth of the sessions, of one month",
        Query(common, ("cli:s1*",), since=since, until=until),
    )
    yield "a common word, said by the model, before a day", Query(common, roles=("assistant",), until=since)


async def _after_an_append(index: SearchIndex, store: FileStore) -> Figure:
    key, taken = SessionKey("cli", "s3"), []
    known = (await store.catch_up(key, 0)).end
    for number in range(ROUNDS):
        now = datetime.now(UTC)
        message = Message("user", f"needle{number}", now)
        appended = await store.append(key, [message], known=known, durable=False, now=now)
        known = appended.end
        begun = time.perf_counter()
        [found] = await index.search(Query(f"needle{number}"))
        taken.append(time.perf_counter() - begun)
        assert found.text == message.content
    return Figure("finding what was appended just now", median(taken) * 1000, "ms", GOAL_MS)


async def _in_a_fresh_process(data: Path) -> Figure:
    """The command as a person types it."""

    async def run(*args: str) -> None:
        command = [sys.executable, "-m", "nanochat", "--data-dir", str(data), *args]
        await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)

    taken = [await _seconds(lambda: run("sessions", "search", "needle1")) for _ in range(5)]
    empty = [await _seconds(lambda: run("--version")) for _ in range(5)]
    note = f"the program alone takes {median(empty) * 1000:.0f} ms"
    return Figure("nanochat sessions search, in a fresh process", median(taken) * 1000, "ms", None, note)


async def _seconds(work: Work) -> float:
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


def _load_all(directory: Path) -> None:
    for path in directory.iterdir():
        with path.open("rb") as file:
            for line in file:
                json.loads(line)


# --- the files -------------------------------------------------------------------------------------------------------


def _write(directory: Path, messages: int, sessions: int) -> Written:
    """Conversations of a year, their words as common as words are, about 190 characters to a message."""
    directory.mkdir(parents=True)
    chance = random.Random(7)
    words = list(_words(chance))
    weights = list(itertools.accumulate(1 / (rank + 2) for rank in range(VOCABULARY)))
    spoken = chance.choices(words, cum_weights=weights, k=300_000)
    text_bytes = file_bytes = 0
    for number in range(sessions):
        texts = [_text(spoken, chance) for _ in range(messages // sessions)]
        data = b"".join(map(encode, _records(f"cli:s{number}", texts, chance)))
        (directory / f"cli+s{number}.jsonl").write_bytes(data)
        text_bytes += sum(map(len, texts))
        file_bytes += len(data)
    return Written(words, text_bytes, file_bytes)


def _words(chance: random.Random) -> Iterator[str]:
    seen: set[str] = set()
    while len(seen) < VOCABULARY:
        word = "".join(chance.choice("aaeeeiioonnrrsstttlldhmcupg") for _ in range(chance.randint(2, 9)))
        if word not in seen:
            seen.add(word)
            yield word


def _text(spoken: list[str], chance: random.Random) -> str:
    begin = chance.randrange(len(spoken) - 60)
    return " ".join(spoken[begin : begin + chance.randrange(8, 60)])


def _records(key: str, texts: list[str], chance: random.Random) -> Iterator[Record]:
    at = BEGIN + timedelta(seconds=chance.randrange(YEAR_S))
    state = State(key, at, at)
    yield Snapshot(state, Opened())
    for n, text in enumerate(texts):
        at += timedelta(seconds=chance.uniform(5, 2000))
        source_id = f"{key}-{n // 2}"
        if n % 2 == 0:
            yield Message("user", text, at, source_id=source_id, n=n)
            continue
        usage = Usage(input=400, cache_read=5000, output=120)
        blocks = [{"type": "text", "text": text}]
        yield Message("assistant", blocks, at, source_id=source_id, model="a-model", usage=usage, n=n)
        end = TurnEnd(source_id, "done", "a-model", usage=usage, cost_usd=0.002, seconds=1.5, origin="owner")
        state = after(State(key, state.created_at, at, n=n + 1, totals=state.totals), end, 0, at)
        yield Snapshot(state, end)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        run(Path(scratch), *map(int, sys.argv[1:]))
