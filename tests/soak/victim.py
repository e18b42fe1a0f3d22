"""Processes to be killed: a nest that has loaded everything once, and forks one nanochat for each line on its standard input.

    in:  <data directory> <url of the fake API> <how many messages there are>
    out: born <pid> · awake · sent <i> · done <i> · dead <exit status>

A child opens the session as the terminal does: it first goes on with what a former one left unfinished, then says what was
not said yet, message by message. The nest has no thread and no loop, so that forking it is safe.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import anthropic  # noqa: F401 - loaded before the fork, once for all children

from nanochat.cli.wiring import assemble
from nanochat.config import load
from nanochat.config.secrets import Secrets
from nanochat.events import Inbound, ReplyEvent, Sender, Text, TurnDone
from nanochat.keys import SessionKey
from nanochat.model import wire  # noqa: F401 - the same
from nanochat.records import text_of
from nanochat.sessions import SessionManager

KEY = SessionKey("cli", "kill")


def tell(line: str) -> None:
    """One write, so that lines of parent and child never mix."""
    os.write(1, line.encode() + b"\n")


async def live(data_dir: Path, url: str, count: int) -> None:
    """Say all messages, from the first that is not in the file."""
    environment = {"NANOCHAT_LIMITS__TURNS_PER_MINUTE": "0", "NANOCHAT_CONTEXT__BUDGET_TOKENS": "4000"}
    config = load(None, data_dir, environment)
    secrets = Secrets(anthropic_key="sk-test", anthropic_base_url=url)
    async with assemble(config, secrets, interactive=False) as house:
        events: list[ReplyEvent] = []
        await house.warm()
        tell("awake")
        await house.resume(KEY, events.append)
        for i in range(await next_message(data_dir), count):
            tell(f"sent {i}")
            inbound = Inbound(
                KEY, f"cli:{uuid.uuid4()}", Sender("cli", "t", owner=True), (Text(f"message {i}"),), datetime.now(UTC)
            )
            await house.handler(inbound, events.append)
            if isinstance(events[-1], TurnDone):
                tell(f"done {i}")
            else:
                tell(f"failed {i} {events[-1]}")


async def next_message(data_dir: Path) -> int:
    """The number after the last one that the file has."""
    manager = SessionManager(data_dir / "sessions")
    session = await manager.get_or_create(KEY)
    said = [text_of(m.content) for m in session.messages if m.role == "user"]
    await manager.close()
    numbers = [int(text.split()[-1]) for text in said if text.startswith("message ")]
    return max(numbers, default=-1) + 1


def main() -> None:
    """Fork a child for each line, until the input ends."""
    for line in sys.stdin:
        data_dir, url, count = line.split()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio.run(live(Path(data_dir), url, int(count)))
                code = 0
            finally:
                os._exit(code)
        tell(f"born {pid}")
        _, status = os.waitpid(pid, 0)
        tell(f"dead {status}")


if __name__ == "__main__":
    main()
