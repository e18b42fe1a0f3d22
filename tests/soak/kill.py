"""kill -9 in the middle of turns, over and over, and then the question whether anything was lost or done twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nanochat.records import Json
from tests.fakes.messages_api import FakeMessagesAPI, Recorded, Reply, ToolCall

__all__ = ["Outcome", "kill_rounds"]


@dataclass
class Outcome:
    """What the rounds came to; `faults` is empty if every promise was kept."""

    kills: int = 0
    messages: int = 0
    unknown_tools: int = 0
    given_up: int = 0
    faults: list[str] = field(default_factory=list)


async def kill_rounds(directory: Path, *, kills: int, seed: int, progress: bool = False) -> Outcome:
    """Let children talk and die `kills` times, then let one finish, then read the file.

    Each message makes the model call the memory tool once and answer once, so a second run of a tool, a second answer, a lost
    line or a changed order all show.
    """
    chance = random.Random(seed)
    outcome = Outcome(messages=3 * kills)
    async with FakeMessagesAPI(responder=_answer, keys=None) as api:
        nest = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.soak.victim", stdin=PIPE, stdout=PIPE)
        assert nest.stdin is not None
        assert nest.stdout is not None
        done: set[int] = set()
        try:
            while True:
                doomed = outcome.kills < kills
                # A turn of two requests and a tool takes 30 to 100 ms, more on a busy machine: a life ends in its first turn, or
                # in one of the next.
                life_s = chance.uniform(0.0, 0.35) if doomed else None
                nest.stdin.write(f"{directory} {api.url} {outcome.messages}\n".encode())
                finished = await _one_life(nest.stdout, life_s, done, outcome)
                if progress:
                    print(
                        f"\r{outcome.kills} kills, {len(done)} turns acknowledged", end="", file=sys.stderr, flush=True
                    )
                if finished:
                    break
        finally:
            nest.stdin.close()
            await nest.wait()
        if progress:
            print(file=sys.stderr)
    _judge(directory, done, outcome)
    return outcome


async def _one_life(lines: asyncio.StreamReader, life_s: float | None, done: set[int], outcome: Outcome) -> bool:
    """Read one child's words and kill it in time; True if it came to its end."""
    born = (await lines.readline()).decode().split()
    assert born[0] == "born", born
    killer: asyncio.TimerHandle | None = None
    while True:
        word, *rest = (await lines.readline()).decode().split(maxsplit=2)
        if word == "awake" and life_s is not None:
            killer = asyncio.get_running_loop().call_later(life_s, _kill, int(born[1]))
        elif word == "done":
            done.add(int(rest[0]))
        elif word == "failed":
            outcome.faults.append(f"turn {rest} failed")
        elif word == "dead":
            if killer is not None:
                killer.cancel()
            if int(rest[0]) == signal.SIGKILL:
                outcome.kills += 1
                return False
            if int(rest[0]):
                outcome.faults.append(f"a child ended with status {rest[0]}")
            return True


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def _answer(request: Recorded) -> Reply:
    """Ask for the tool at a user's message, answer at its result; a summary is any text."""
    body = request.body
    messages = body["messages"]
    assert isinstance(messages, Sequence)
    if not body.get("tools"):
        return Reply(text="They exchanged numbers.")
    blocks = _blocks(messages[-1])
    if any(block.get("type") == "tool_result" for block in blocks):
        number = _last_number(messages)
        return Reply(text=f"answer {number}", piece=3, delay_s=0.002)
    number = _last_number(messages)
    call = ToolCall(
        "memory",
        {"command": "create", "path": f"/memories/effect-{number}-{os.urandom(4).hex()}", "file_text": "done"},
    )
    return Reply(text=f"working on {number}", tool_calls=(call,), piece=4, delay_s=0.002)


def _blocks(message: Json) -> list[Mapping[str, Json]]:
    assert isinstance(message, Mapping)
    content = message["content"]
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    assert isinstance(content, Sequence)
    return [block for block in content if isinstance(block, Mapping)]


def _last_number(messages: Sequence[Json]) -> int:
    for message in reversed(messages):
        for block in reversed(_blocks(message)):
            text = str(block.get("text", ""))
            if isinstance(message, Mapping) and message["role"] == "user" and "message " in text:
                return int(text.rsplit("message ", 1)[1].split()[0])
    return -1


def _judge(directory: Path, done: set[int], outcome: Outcome) -> None:
    """Read the file as it lies there, every line of it."""
    [path] = (directory / "sessions").glob("*.jsonl")
    records = []
    for line in path.read_bytes().split(b"\n"):
        if line.strip():
            try:
                records.append(json.loads(line))
            except ValueError:
                outcome.faults.append(f"an unreadable line: {line[:60]!r}")
    asked = [r["content"] for r in records if r.get("role") == "user" and isinstance(r["content"], str)]
    if asked != [f"message {i}" for i in range(outcome.messages)]:
        outcome.faults.append(f"user lines are not each once and in order: {asked}")
    answered = Counter(
        block["text"]
        for r in records
        if r.get("role") == "assistant" and isinstance(r["content"], list)
        for block in r["content"]
        if block.get("type") == "text" and block["text"].startswith("answer ")
    )
    source_of = {
        r["content"]: r["source_id"] for r in records if r.get("role") == "user" and isinstance(r["content"], str)
    }
    given_up = {r["source_id"] for r in records if r.get("op") == "turn" and r["outcome"] == "interrupted"}
    outcome.given_up = len(given_up)
    for i in range(outcome.messages):
        # The third death of one message ends it, visibly; it is then not answered, and never acknowledged either.
        wanted = 0 if source_of.get(f"message {i}") in given_up else 1
        if answered[f"answer {i}"] != wanted or (i in done and not wanted):
            outcome.faults.append(f"message {i} has {answered[f'answer {i}']} answers")
    if not done <= set(range(outcome.messages)):
        outcome.faults.append("something was acknowledged that was never said")
    ends = Counter(r["source_id"] for r in records if r.get("op") == "turn")
    outcome.faults += [f"turn {source} ended {count} times" for source, count in ends.items() if count != 1]
    ordinals = [r["_n"] for r in records if "role" in r]
    if ordinals != sorted(set(ordinals)):
        outcome.faults.append("ordinals are not unique and rising")
    memory = directory / "memory"
    effects = Counter(file.name.split("-")[1] for file in memory.iterdir() if not file.name.startswith("."))
    outcome.faults += [f"the tool of message {i} ran {count} times" for i, count in effects.items() if count > 1]
    results = [
        block
        for r in records
        if r.get("role") == "user" and isinstance(r["content"], list)
        for block in r["content"]
        if block.get("type") == "tool_result"
    ]
    outcome.unknown_tools = sum("interrupted" in str(block["content"]) for block in results)
