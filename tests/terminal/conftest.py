"""A chat on a screen in memory, with keys that a test presses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from nanochat.channels.terminal.chat import Chat, Doors, Setting
from nanochat.events import Seen, Sender
from nanochat.keys import SessionKey
from nanochat.ports import Emit, Handler
from tests.fakes.screen import Screen
from tests.fakes.scripted_handler import ScriptedHandler

KEY = SessionKey("cli", "default")
OWNER = Sender("cli", "olga", owner=True)

COMMANDS = {"/help": "this list", "/history": "the last exchanges", "/switch": "another", "/exit": "leave"}

# Nothing in these tests takes a second; a loaded machine may.
PATIENCE_S = 20


@pytest.fixture(autouse=True)
def _real_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The screen in memory understands colours and cursors, whatever the terminal that the tests run in."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


class Terminal:
    """A screen that tells when it changed; stands where standard output does."""

    encoding = "utf-8"

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.screen = Screen(columns, rows)
        self.raw: list[str] = []
        self._changed = asyncio.Event()

    def write(self, data: str) -> int:
        self.raw.append(data)
        self.screen.feed(data)
        self._changed.set()
        return len(data)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True

    async def until(self, condition: Callable[[str], bool]) -> None:
        """Wait until the screen's text satisfies the condition; show the screen if it never does."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition(self.screen.text):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pytest.fail(f"the screen never got there:\n{self.screen.text}")

    async def shows(self, *texts: str) -> None:
        """Wait until all texts are on the screen."""
        await self.until(lambda screen: all(text in screen for text in texts))

    async def hides(self, text: str) -> None:
        """Wait until the text is nowhere on the screen."""
        await self.until(lambda screen: text not in screen)


@dataclass
class Neighbours:
    """What the chat is told about its session by others, as a test wishes."""

    memory: Sequence[Seen] = ()
    keys: Sequence[str] = ("cli:default", "telegram:42")
    watched: list[SessionKey] = field(default_factory=list)
    show: Callable[[Seen], None] | None = None
    watching: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self, key: SessionKey, show: Callable[[Seen], None]) -> None:
        self.watched.append(key)
        self.show = show
        self.watching.set()
        await asyncio.Event().wait()

    async def recall(self, key: SessionKey) -> Sequence[Seen]:
        return self.memory

    async def resume(self, key: SessionKey, emit: Emit) -> bool:
        return False

    async def warm(self) -> None: ...

    async def list_keys(self) -> Sequence[str]:
        return self.keys


@dataclass
class Talk:
    """A running chat: its terminal, its keys, and the task that ends when the person has left."""

    terminal: Terminal
    keys: PipeInput
    task: asyncio.Task[int]

    def press(self, text: str) -> None:
        self.keys.send_text(text)

    async def left(self) -> None:
        """Wait until the chat has ended by itself."""
        async with asyncio.timeout(PATIENCE_S):
            await self.task


class TalkMaker(Protocol):
    def __call__(
        self,
        handler: Handler | None = None,
        neighbours: Neighbours | None = None,
        *,
        key: SessionKey = ...,
        offline: bool = ...,
        terminal: Terminal | None = ...,
    ) -> AbstractAsyncContextManager[Talk]: ...


@pytest.fixture
def talk(tmp_path: Path) -> TalkMaker:
    """Opens chats; each is left with Ctrl-D at the end, if it still runs."""

    @asynccontextmanager
    async def opened(
        handler: Handler | None = None,
        neighbours: Neighbours | None = None,
        *,
        key: SessionKey = KEY,
        offline: bool = False,
        terminal: Terminal | None = None,
    ) -> AsyncIterator[Talk]:
        around = neighbours or Neighbours()
        screen = terminal or Terminal()

        @asynccontextmanager
        async def open_doors() -> AsyncIterator[Doors]:
            yield Doors(
                handler or ScriptedHandler(),
                around.watch,
                around.recall,
                around.resume,
                around.warm,
                around.list_keys,
                commands=COMMANDS,
            )

        setting = Setting(
            key=key,
            sender=OWNER,
            model_name="test-1",
            offline=offline,
            history_path=tmp_path / "data" / "history",
        )
        size = Size(rows=screen.screen.rows, columns=screen.screen.columns)
        output = Vt100_Output(screen, lambda: size, term="xterm-256color", enable_cpr=False)  # type: ignore[arg-type]  # it needs write, flush and isatty only
        with create_pipe_input() as keys, create_app_session(input=keys, output=output):
            task = asyncio.create_task(Chat(open_doors, setting).run())
            running = Talk(screen, keys, task)
            try:
                await screen.shows("you>")
                yield running
                if not task.done():
                    running.press("\x03\x04")
                    await running.left()
            finally:
                task.cancel()
                await asyncio.wait([task])

    return opened
