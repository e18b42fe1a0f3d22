"""Talk to a bot as its user, line by line, on standard input and output.

Knows a few words that begin with a colon; every other line is sent as it is, `/commands` too. What the bot writes, edits
and deletes is printed as it changes. Does not know how the bot is reached.

    :press LABEL   :edit TEXT   :reply ID TEXT   :photo PATH [CAPTION]   :file PATH [CAPTION]   :paste N   :topic NAME
    :block   :unblock   :fail METHOD STATUS [TIMES]   :down   :up   :conflict   :quit
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Protocol

from tests.fakes.bot_chat import Chat, Said, User
from tests.fakes.bot_faults import Fault
from tests.fakes.bot_world import Message, World

__all__ = ["Console", "Server"]


class Server(Protocol):
    """What of the server a user at the keyboard may play with."""

    world: World

    def fail(self, method: str, status: int = 500, description: str = "", *, times: int = 1) -> Fault: ...

    def conflict(self, times: int = 1) -> None: ...

    async def go_down(self) -> None: ...

    async def come_up(self) -> None: ...


class Console:
    """One person, one chat or topic at a time."""

    def __init__(self, server: Server, user: User) -> None:
        self._server = server
        self._user = user
        self._chat: Chat = user.private()
        self._shown: dict[int, str] = {}
        self._mine: Said | None = None
        self._typing = False

    async def run(self) -> None:
        """Until the input ends."""
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch())
                while line := (await lines.readline()).decode(errors="replace"):
                    if line.strip() == ":quit":
                        break
                    await self._take(line.rstrip("\n"))
                watching.cancel()
        finally:
            transport.close()

    async def _take(self, line: str) -> None:
        if not line.strip():
            return
        if not line.startswith(":"):
            self._mine = await self._chat.say(line)
            return
        try:
            await self._command(*line[1:].split(maxsplit=1))
        except (AssertionError, KeyError, OSError, TypeError, ValueError) as error:
            print(f"? {type(error).__name__}: {error}", flush=True)

    async def _command(self, word: str, rest: str = "") -> None:
        match word:
            case "press":
                press = await self._chat.press(rest)
                print(f"pressed {rest!r}: {press.data}", flush=True)
            case "edit":
                assert self._mine is not None, "nothing to edit yet"
                await self._chat.edit(self._mine, rest)
            case "reply":
                number, _, text = rest.partition(" ")
                self._mine = await self._chat.reply(int(number), text)
            case "photo" | "file":
                await self._upload(word, *shlex.split(rest))
            case "paste":
                await self._chat.paste("lorem ipsum " * (int(rest) // 12 + 1))
            case "topic":
                self._chat = self._user.private().topic(rest)
            case _:
                await self._play(word, *rest.split())

    async def _upload(self, kind: str, path: str, *caption: str) -> None:
        data = await asyncio.to_thread(Path(path).read_bytes)
        if kind == "photo":
            await self._chat.photo(data, " ".join(caption))
        else:
            await self._chat.document(Path(path).name, data, " ".join(caption))

    async def _play(self, word: str, *rest: str) -> None:
        """What is not a person's to do."""
        match word, *rest:
            case ["block"]:
                self._user.block()
            case ["unblock"]:
                self._user.unblock()
            case ["fail", method, status]:
                self._server.fail(method, int(status))
            case ["fail", method, status, times]:
                self._server.fail(method, int(status), times=int(times))
            case ["conflict"]:
                self._server.conflict()
            case ["down"]:
                await self._server.go_down()
            case ["up"]:
                await self._server.come_up()
            case _:
                print((__doc__ or "").partition("\n\n    ")[2], flush=True)

    async def _watch(self) -> None:
        while True:
            self._print_changes()
            await self._server.world.bell.rung()

    def _print_changes(self) -> None:
        chat = self._user.private()
        standing = {message.id: _shown(message) for message in chat.messages}
        for number in self._shown.keys() - standing.keys():
            print(f"bot deleted #{number}", flush=True)
        for number, text in standing.items():
            if self._shown.get(number) != text:
                print(f"bot {'edited ' if number in self._shown else ''}#{number}: {text}", flush=True)
        self._shown = standing
        if chat.is_typing and not self._typing:
            print("bot is typing", flush=True)
        self._typing = chat.is_typing


def _shown(message: Message) -> str:
    topic = f"(topic {message.thread_id}) " if message.thread_id is not None else ""
    file = f" <{message.document.name}, {message.document.size_bytes} bytes>" if message.document else ""
    buttons = "".join(f" [{label}]" for label in message.buttons)
    styles = " ".join(sorted({str(entity["type"]) for entity in message.entities}))
    return f"{topic}{message.text}{file}{buttons}{f' {{{styles}}}' if styles else ''}"
