"""The interactive conversation: a prompt at the bottom, replies growing above it.

Every line that is typed goes to the handler at once, also while a turn runs; the handler keeps the order. On the screen a
reply that has to wait stands below the one that is being written, and takes its place above only when it is its turn. Knows
lines and events. Does not know commands, except those that are about the terminal itself.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from prompt_toolkit.application import create_app_session
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.patch_stdout import patch_stdout

from nanochat.channels.terminal import words
from nanochat.channels.terminal.frames import inbound, paced
from nanochat.channels.terminal.prompt import CommandCompleter, Prompt, open_history
from nanochat.channels.terminal.view import ReplyView
from nanochat.errors import KeyFormError, NanochatError
from nanochat.events import ReplyEvent, Seen, Sender, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.ports import Emit, Handler, Watch

if TYPE_CHECKING:  # rich is loaded behind the prompt
    from nanochat.channels.terminal.markdown import Page

__all__ = ["Chat", "Doors", "OpenDoors", "Setting", "converse"]

# How long leaving waits for a turn to stop; what is not ended then, the next opening of the session finishes.
_LEAVE_S = 5.0


@dataclass(frozen=True, slots=True)
class Doors:
    """What the terminal may call. `recall` gives the newest exchange, `resume` finishes what a crash cut short (true if
    there was something), `warm` loads what is slow to load, `keys` names the sessions there are. `commands` are the chat
    commands with their meanings."""

    handler: Handler
    watch: Watch
    recall: Callable[[SessionKey], Awaitable[Sequence[Seen]]]
    resume: Callable[[SessionKey, Emit], Awaitable[bool]]
    warm: Callable[[], Awaitable[None]]
    keys: Callable[[], Awaitable[Sequence[str]]]
    commands: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and as whom the conversation is held."""

    key: SessionKey
    sender: Sender
    model_name: str
    offline: bool
    history_path: Path


OpenDoors: TypeAlias = Callable[[], AbstractAsyncContextManager[Doors]]
"""Builds what is behind the doors, and takes it down again; called once the prompt can be typed at."""


async def converse(open_doors: OpenDoors, setting: Setting) -> None:
    """Hold a conversation on this process's terminal, until the person leaves.

    Raises:
        NanochatError: the doors could not be opened.
    """
    # The terminal need not be asked where the cursor is: one that never answers would cost a wait and a warning.
    output = Vt100_Output.from_pty(sys.stdout, os.environ.get("TERM"), ColorDepth.from_env())
    output.enable_cpr = False
    with create_app_session(output=output), patch_stdout(raw=True):
        await Chat(open_doors, setting).run()


class Chat:
    """One person at one screen. Takes its input and output from prompt_toolkit's app session."""

    def __init__(self, open_doors: OpenDoors, setting: Setting) -> None:
        self._open_doors = open_doors
        self._doors: asyncio.Future[Doors] = asyncio.get_running_loop().create_future()
        self._setting = setting
        self._session_keys: Sequence[str] = ()
        history, complaint = open_history(setting.history_path)
        completer = CommandCompleter(self._commands, lambda: self._session_keys)
        self._prompt = Prompt(self._on_line, self._on_interrupt, completer=completer, history=history)
        self._lines: list[str] = [words.dim(complaint)] if complaint else []
        self._views: list[ReplyView] = []
        self._work: dict[asyncio.Task[None], ReplyView | None] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._dirty = asyncio.Event()
        self._page: Page | None = None
        self._may_leave = False
        self._group = asyncio.TaskGroup()

    async def run(self) -> None:
        """Talk until the person leaves; a running turn is stopped then, and waited for a little."""
        try:
            await self._run()
        except* NanochatError as errors:
            raise _first(errors) from None
        self._frame()

    async def _run(self) -> None:
        async with self._group as group:
            self._say(self._banner())
            self._frame()
            serving = group.create_task(self._serve())
            background = [group.create_task(work) for work in (self._load(), paced(self._dirty, self._frame))]
            self._start(self._open())
            try:
                await self._prompt.run()
                await self._wind_down()
            finally:
                tasks = [*background, *self._work, *filter(None, [self._watcher])]
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                serving.cancel()

    # --- what is typed ---

    def _on_line(self, text: str) -> None:
        self._may_leave = False
        text = text.strip()
        command, _, argument = text.partition(" ")
        if not text:
            return
        if command in {"/exit", "/quit"}:
            self._prompt.leave()
        elif command == "/switch":
            self._say(_echo(text))
            self._switch(argument.strip())
        else:
            view = ReplyView(_echo(text), title=text.split("\n")[0])
            self._views.append(view)
            self._dirty.set()
            self._start(self._handle(text, self._emit_to(view)), view)

    def _on_interrupt(self, typed: str) -> bool:
        if self._views:  # what was typed ahead is for the next turn, and stays
            self._stop()
            return False
        if typed:
            self._may_leave = False
        elif self._may_leave:
            self._prompt.leave()
        else:
            self._may_leave = True
            self._say([words.dim("Ctrl-C once more leaves, and so does Ctrl-D")])
        return True

    def _switch(self, argument: str) -> None:
        if not argument:
            self._say([words.dim(f"this is {self._setting.key}; /switch KEY goes to another conversation"), ""])
            return
        if self._views:
            self._say([words.red("a turn is running: stop it with Ctrl-C, then switch"), ""])
            return
        try:
            key = SessionKey.parse(argument)
        except KeyFormError as error:
            self._complain(error)
            return
        self._setting = replace(self._setting, key=key)
        self._say(self._banner())
        self._start(self._open())

    # --- what runs beside the prompt ---

    def _start(self, work: Awaitable[None], view: ReplyView | None = None) -> None:
        async def run() -> None:
            await work

        task = self._group.create_task(run())
        self._work[task] = view
        task.add_done_callback(self._work.pop)

    async def _handle(self, text: str, emit: Emit) -> None:
        message = inbound(self._setting.key, self._setting.sender, text)
        doors = await self._doors
        await doors.handler(message, emit)

    def _emit_to(self, view: ReplyView) -> Emit:
        def emit(event: ReplyEvent) -> None:
            view.emit(event)
            self._dirty.set()

        return emit

    def _stop(self) -> None:
        """What Ctrl-C stands for. That it worked, the stopped reply shows."""

        def emit(event: ReplyEvent) -> None:
            if isinstance(event, TurnFailed):
                self._say([words.red(words.failure(event)), ""])

        self._start(self._handle("/stop", emit))

    async def _open(self) -> None:
        """Show where the conversation stands, follow what others add to it, and finish what a crash cut short."""
        key = self._setting.key
        doors = await self._doors
        if self._watcher is not None:
            self._watcher.cancel()
        self._watcher = self._group.create_task(self._follow(doors, key))
        view = ReplyView([words.dim("going on with what was interrupted")])

        def emit(event: ReplyEvent) -> None:
            if view not in self._views and not view.done:
                self._views.insert(0, view)
            view.emit(event)
            self._dirty.set()

        try:
            self._say(words.memory_lines(await doors.recall(key)))
            self._session_keys = await doors.keys()
            await doors.resume(key, emit)
        except NanochatError as error:
            self._complain(error)

    async def _follow(self, doors: Doors, key: SessionKey) -> None:
        try:
            await doors.watch(key, self._on_seen)
        except NanochatError as error:
            self._complain(error)

    def _on_seen(self, seen: Seen) -> None:
        head = words.seen_head(seen)
        if seen.kind in {"assistant", "delivered"}:
            view = ReplyView([words.dim(head)])
            view.emit(TurnDone(seen.text))
            self._views.append(view)
            self._dirty.set()
        else:
            self._say([words.dim(f"{head}: {words.clean(seen.text).strip()}"), ""])

    async def _serve(self) -> None:
        """Keep the doors open until cancelled."""
        await self._prompt.shown.wait()
        async with self._open_doors() as doors:
            self._doors.set_result(doors)
            await asyncio.Event().wait()

    async def _load(self) -> None:
        """Load what replies need, once the prompt can be typed at."""
        await self._prompt.shown.wait()
        module = await asyncio.to_thread(importlib.import_module, "nanochat.channels.terminal.markdown")
        self._page = cast("Page", module.Page())
        self._dirty.set()
        doors = await self._doors
        await doors.warm()

    async def _wind_down(self) -> None:
        """Stop what runs, so that its text is kept as of now; what still waits is left for the next opening."""
        for task, view in self._work.items():
            if view in self._views[1:]:
                task.cancel()
        if self._views:
            self._stop()
            await asyncio.wait(self._work, timeout=_LEAVE_S)

    # --- what is shown ---

    def _commands(self) -> Mapping[str, str]:
        return self._doors.result().commands if self._doors.done() else {}

    def _say(self, lines: Sequence[str]) -> None:
        self._lines += lines
        self._dirty.set()

    def _complain(self, error: NanochatError) -> None:
        self._say([words.red(words.clean(str(error))), ""])

    def _frame(self) -> None:
        """One picture: what stands for good goes up, the rest is drawn above the prompt."""
        lines, self._lines = self._lines, []
        live: list[str] = []
        if self._page is not None:
            live = self._advance(self._page, lines)
        self._prompt.show(lines, live)

    def _advance(self, page: Page, lines: list[str]) -> list[str]:
        """Add to `lines` what stands for good of the replies, and return what may still change.

        Only the oldest reply adds lines as they come; one that overtakes it (`/usage`) does so whole.
        """
        width, rows = self._prompt.columns, self._prompt.live_rows
        waiting: list[ReplyView] = []
        for view in self._views:
            if not waiting or view.is_ended:
                lines += view.take(page, width)
            if not view.done:
                waiting.append(view)
        self._views = waiting
        if not waiting:
            return []
        queued = [words.dim(page.crop(f"queued: {words.clean(view.title)}", width)) for view in waiting[1:]]
        return [*waiting[0].live(page, width, max(1, rows - len(queued))), *queued][-rows:]

    def _banner(self) -> list[str]:
        key, model = self._setting.key, self._setting.model_name
        lines = [words.dim(f"nanochat · {key} · {model} · /help")]
        if self._setting.offline:
            lines.append("the offline demo model answers; to talk to Claude, set ANTHROPIC_API_KEY")
        if key.channel != "cli":
            lines.append(f"you speak in {key} from here: {key.channel} is not shown what you say, nor the answers")
        return [*lines, ""]


def _first(errors: BaseExceptionGroup[NanochatError]) -> NanochatError:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _echo(text: str) -> list[str]:
    first, *more = words.clean(text).split("\n")
    return [f"you> {first}", *(f"     {line}" for line in more)]
