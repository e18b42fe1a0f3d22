"""A chat at this process's terminal whose replies are scripted: what the pty tests run.

The replies are told by the message: `slow` streams until it is stopped, `markdown` shows every kind of block, `tool` calls a
tool, `fail` fails after its first text; anything else is echoed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nanochat.channels.terminal.chat import Doors, Setting, converse
from nanochat.events import (
    Inbound,
    Notice,
    ReplyEvent,
    Seen,
    Sender,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnDone,
    TurnFailed,
)
from nanochat.keys import SessionKey
from nanochat.ports import Emit
from tests.fakes.scripted_handler import STATS, Pause, ScriptedHandler, said

MARKDOWN = """\
# Tides

The *moon* pulls at `the sea`, see [the pages](https://example.org/tides).

- ebb
- flood
  - spring tide

1. one
2. two

```python
def tide(hour: int) -> float:
    return 2.0
```

> what goes out
> comes in

| place | metres |
|-------|--------|
| Brest | 6.1    |

The end.
"""

REPLIES: dict[str, list[ReplyEvent | Pause]] = {
    "slow": [TextDelta("This begins"), Pause(), TurnDone("This begins", STATS)],
    "markdown": [*said(*(MARKDOWN[at : at + 7] for at in range(0, len(MARKDOWN), 7)))],
    "tool": [
        TextDelta("Let me look."),
        ToolStarted("c1", "search", "searching: tides"),
        ToolFinished("c1", "search", ok=True, seconds=0.4),
        Notice("the model is busy: trying again in 2 s"),
        *said("Found."),
    ],
    "fail": [TextDelta("Half a sen"), TurnFailed("the connection was cut", "e1", "cut", kept=True)],
}


class _ByText:
    """Plays the reply that the message names, through one queue as a session has it."""

    def __init__(self) -> None:
        self._handler = ScriptedHandler()

    async def __call__(self, inbound: Inbound, emit: Emit) -> None:
        await self._handler.answer(inbound, emit, REPLIES.get(inbound.text))


async def _main(directory: Path) -> int:
    async def nothing(*_: object) -> None:
        return None

    async def recall(key: SessionKey) -> list[Seen]:
        return []

    async def resume(key: SessionKey, emit: Emit) -> bool:
        return False

    async def keys() -> list[str]:
        return ["cli:default", "telegram:42"]

    @asynccontextmanager
    async def doors() -> AsyncIterator[Doors]:
        yield Doors(_ByText(), nothing, recall, resume, nothing, keys, {"/help": "this list", "/history": "exchanges"})

    return await converse(
        doors,
        Setting(
            key=SessionKey("cli", "default"),
            sender=Sender("cli", "olga", owner=True),
            model_name="test-1",
            offline=False,
            history_path=directory / "history",
        ),
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(Path(sys.argv[1]))))
