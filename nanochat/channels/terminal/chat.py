"""The interactive conversation: a prompt at the bottom, replies growing above it.

Every line that is typed goes to the handler at once, also while a turn runs, once what a crash cut short is finished; the
handler keeps the order. On the screen a reply takes its place above only when its turn has begun, so that all lines, our own
and others', stand there in the order of the file; until then it is told of above the prompt. Knows lines and events. Does not
know commands, except those that are about the terminal itself.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
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
from nanochat.records import MAX_LINE_BYTES

if TYPE_CHECKING:  # rich is loaded behind the prompt
    from nanochat.channels.terminal.markdown import Page

__all__ = ["Chat", "Doors", "OpenDoors", "Setting", "converse"]

# What ends the program from outside: a service manager or `kill`, and the window that is closed.
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)

# Of a message that waits; it is cut to the window's width anyway.
_TITLE_CHARS = 200

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


async def converse(open_doors: OpenDoors, setting: Setting) -> int:
    """Hold a conversation on this process's terminal, until the person leaves or the process is told to end.

    Returns:
        The exit code: 0, or 128 and the number of the signal.

    Raises:
        NanochatError: the doors could not be opened.
    """
    # The terminal need not be asked where the cursor is: one that never answers would cost a wait and a warning.
    output = _Window.from_pty(sys.stdout, os.environ.get("TERM"), ColorDepth.from_env())
    output.enable_cpr = False
    with create_app_session(output=output), patch_stdout(raw=True):
        return await Chat(open_doors, setting).run()


class _Window(Vt100_Output):
    """A window that may be closed: what is then written goes nowhere, and the turn is still ended as it should be."""

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            # What is still buffered would raise again when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


class Chat:
    """One person at one screen. Takes its input and output from prompt_toolkit's app session."""

    def __init__(self, open_doors: OpenDoors, setting: Setting) -> None:
        self._open_doors = open_doors
        self._doors: asyncio.Future[Doors] = asyncio.get_running_loop().create_future()
        self._setting = setting
        self._session_keys: Sequence[str] = ()
        self._lines: list[str] = []
        self._dirty = asyncio.Event()
        self._views: list[ReplyView] = []
        self._waiting: list[ReplyView] = []
        self._work: dict[asyncio.Task[None], ReplyView | None] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._is_caught_up = asyncio.Event()
        self._exit_code = 0
        history = open_history(setting.history_path, lambda words_: self._say([words.dim(words_)]))
        completer = CommandCompleter(self._commands, lambda: self._session_keys)
        self._prompt = Prompt(
            self._on_line, self._on_interrupt, self._on_refused_paste, completer=completer, history=history
        )
        self._page: Page | None = None
        self._may_leave = False
        self._group = asyncio.TaskGroup()

    async def run(self) -> int:
        """Talk until the person leaves; a running turn is stopped then, and waited for a little. Returns the exit code."""
        loop = asyncio.get_running_loop()
        # Who asked for silence, as nohup does, gets it.
        endings = [number for number in _ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in endings:
            loop.add_signal_handler(number, self._on_ending, number)
        try:
            await self._run()
        except* NanochatError as errors:
            raise _first(errors) from None
        finally:
            for number in endings:
                loop.remove_signal_handler(number)
        self._frame()
        return self._exit_code

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
            self._say(words.echo(text))
            self._switch(argument.strip())
        else:
            view = ReplyView(words.echo(text), title=text.split("\n")[0][:_TITLE_CHARS])
            self._waiting.append(view)
            self._dirty.set()
            self._start(self._handle(text, self._emit_to(view), self._is_caught_up), view)

    def _on_refused_paste(self, size_bytes: int) -> None:
        limit = MAX_LINE_BYTES // 1024**2
        self._complain(f"a paste of {size_bytes / 1e6:.1f} MB is more than a message may be ({limit} MiB)")

    def _on_ending(self, number: int) -> None:
        self._exit_code = 128 + number
        self._prompt.leave()

    def _on_interrupt(self, typed: str) -> bool:
        if self._is_busy:  # what was typed ahead is for the next turn, and stays
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
        if self._is_busy:
            self._complain("a turn is running: stop it with Ctrl-C, then switch")
            return
        first, *others = argument.split()
        if others:
            self._complain(f"/switch takes one session key, and got {len(others) + 1} words: {argument}")
            return
        try:
            key = SessionKey.parse(first)
        except KeyFormError as error:
            self._complain(str(error))
            return
        self._setting = replace(self._setting, key=key)
        self._is_caught_up = asyncio.Event()
        self._say(self._banner())
        self._start(self._open())

    # --- what runs beside the prompt ---

    def _start(self, work: Awaitable[None], view: ReplyView | None = None) -> None:
        async def run() -> None:
            await work

        task = self._group.create_task(run())
        self._work[task] = view
        task.add_done_callback(self._work.pop)

    async def _handle(self, text: str, emit: Emit, opened: asyncio.Event | None = None) -> None:
        """Give a message to the handler; one that must not overtake what is being finished waits until that is `opened`."""
        message = inbound(self._setting.key, self._setting.sender, text)
        doors = await self._doors
        if opened is not None and text != "/stop":
            await opened.wait()
        await doors.handler(message, emit)

    def _emit_to(self, view: ReplyView) -> Emit:
        def emit(event: ReplyEvent) -> None:
            view.emit(event)
            if view.has_begun and view in self._waiting:
                self._waiting.remove(view)
                self._views.append(view)
            self._dirty.set()

        return emit

    @property
    def _is_busy(self) -> bool:
        return bool(self._waiting) or any(not view.is_ended for view in self._views)

    def _stop(self) -> None:
        """What Ctrl-C stands for. That it worked, the stopped reply shows."""

        def emit(event: ReplyEvent) -> None:
            if isinstance(event, TurnFailed):
                self._complain(words.failure(event))

        self._start(self._handle("/stop", emit))

    async def _open(self) -> None:
        """Show where the conversation stands, follow what others add to it, and finish what a crash cut short."""
        key = self._setting.key
        is_caught_up = self._is_caught_up
        doors = await self._doors
        if self._watcher is not None:
            self._watcher.cancel()
        self._watcher = self._group.create_task(self._follow(doors, key))
        tellers: list[tuple[ReplyView, Emit]] = []

        def emit(event: ReplyEvent) -> None:
            if not tellers or tellers[-1][0].is_ended:
                view = ReplyView()
                self._waiting.insert(0, view)
                tellers.append((view, self._emit_to(view)))
            tellers[-1][1](event)

        try:
            self._say(words.memory_lines(await doors.recall(key)))
            await doors.resume(key, emit)
        except NanochatError as error:
            self._complain(str(error))
        finally:
            is_caught_up.set()
        await self._list_keys(doors)

    async def _list_keys(self, doors: Doors) -> None:
        try:
            self._session_keys = await doors.keys()
        except NanochatError as error:
            self._complain(str(error))

    async def _follow(self, doors: Doors, key: SessionKey) -> None:
        try:
            await doors.watch(key, self._on_seen)
        except NanochatError as error:
            self._complain(str(error))

    def _on_seen(self, seen: Seen) -> None:
        """Show what another wrote: at once, or below the reply that is being written."""
        head = words.seen_head(seen)
        if seen.kind in {"assistant", "delivered"}:
            self._add(ReplyView([words.dim(head)], overtakes=False), TurnDone(seen.text))
        else:
            line = words.dim(f"{head}: {words.clean(seen.text).strip()}")
            self._add(ReplyView([line], overtakes=False), TurnDone(""))

    def _add(self, view: ReplyView, event: ReplyEvent) -> None:
        view.emit(event)
        self._views.append(view)
        self._dirty.set()

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
        unsent = [] if self._is_caught_up.is_set() else self._waiting_lines()
        begun = [view for view in self._views if not view.is_ended]
        later = unsent or self._waiting_lines()[0 if begun else 1 :]
        for task, view in self._work.items():
            if view in later:
                task.cancel()
        self._waiting = [view for view in self._waiting if view not in later]
        self._say([words.dim(words.clean(f"not sent: {view.title}")) for view in unsent])
        if self._is_busy:
            self._stop()
            await asyncio.wait(self._work, timeout=_LEAVE_S)

    def _waiting_lines(self) -> list[ReplyView]:
        """What was typed and has not begun; a turn that is finished after a crash has no task of its own."""
        typed = [*self._work.values()]
        return [view for view in self._waiting if view in typed]

    # --- what is shown ---

    def _commands(self) -> Mapping[str, str]:
        return self._doors.result().commands if self._doors.done() else {}

    def _say(self, lines: Sequence[str]) -> None:
        self._lines += lines
        self._dirty.set()

    def _complain(self, error: str) -> None:
        self._add(ReplyView(), TurnFailed(error))

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
        unfinished: list[ReplyView] = []
        for view in self._views:
            if not unfinished or (view.is_ended and view.overtakes):
                lines += view.take(page, width)
            if not view.done:
                unfinished.append(view)
        self._views = unfinished
        queued = self._waiting if unfinished else self._waiting[1:]
        below = [words.dim(page.crop(f"queued: {words.clean(view.title)}", width)) for view in queued]
        room = max(1, rows - len(below))
        if unfinished:
            return [*unfinished[0].live(page, width, room), *below][-rows:]
        if self._waiting:
            return [*self._waiting[0].waiting(page, width, room), *below][-rows:]
        return []

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
