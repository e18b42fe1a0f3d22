"""One message, one answer: for scripts, pipes, and people in a hurry.

Knows standard output and error. Does not know where the message came from.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol, TextIO, assert_never, cast

from nanochat.channels.terminal import words
from nanochat.channels.terminal.frames import inbound, paced
from nanochat.channels.terminal.view import ReplyView
from nanochat.events import Inbound, Notice, ReplyEvent, TextDelta, ToolFinished, ToolStarted, TurnDone, TurnFailed
from nanochat.ports import Emit, Handler

if TYPE_CHECKING:  # rich is loaded only where a screen is written to
    from nanochat.channels.terminal.markdown import Page

__all__ = ["once"]

# Ctrl-C, and what ends a program from outside: a service manager or `kill`, and the window that is closed.
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Between what was said before a tool call and after it, as in `TurnDone.text`.
_BETWEEN_ROUNDS = "\n\n"

_INTERRUPTED = TurnFailed("interrupted", kind="interrupted", kept=True)


class _Sink(Protocol):
    """Where a reply goes. `run` draws until cancelled; `end` is called once, after the last event, whatever it was."""

    def emit(self, event: ReplyEvent) -> None: ...
    async def run(self) -> None: ...
    def end(self, outcome: TurnDone | TurnFailed) -> None: ...


async def once(handler: Handler, message: Inbound, *, as_json: bool, stream: bool) -> int:
    """Have one turn done, and print it.

    The first Ctrl-C, SIGTERM or SIGHUP stops the turn, so that its text is kept; a second one gives it up.

    Returns:
        The exit code: 0, 1 for a turn that failed or a reply that is cut short, 128 and the number of a signal: 130 after
        Ctrl-C.
    """
    sink = _sink(message, as_json=as_json, stream=stream)
    outcomes: list[TurnDone | TurnFailed] = []
    has_spoken = is_new_round = False

    def emit(event: ReplyEvent) -> None:
        nonlocal has_spoken, is_new_round
        match event:
            case TurnDone() | TurnFailed():
                outcomes.append(event)
            case TextDelta():
                sink.emit(TextDelta(_BETWEEN_ROUNDS + event.text) if is_new_round else event)
                has_spoken, is_new_round = True, False
            case ToolStarted() | ToolFinished():
                is_new_round = has_spoken
                sink.emit(event)
            case _:
                sink.emit(event)

    async with asyncio.TaskGroup() as group:
        drawing = group.create_task(sink.run())
        turn = group.create_task(_awaited(handler, message, emit))
        stops: list[asyncio.Task[None]] = []
        signals: list[int] = []

        def interrupt(number: int) -> None:
            if signals:
                turn.cancel()
            signals.append(number)
            stop = inbound(message.key, message.sender, "/stop")
            stops.append(group.create_task(_awaited(handler, stop, lambda event: None)))

        loop = asyncio.get_running_loop()
        # Who asked for silence, as nohup does, gets it.
        endings = [number for number in _ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in endings:
            loop.add_signal_handler(number, interrupt, number)
        try:
            await asyncio.wait([turn])
        finally:
            for number in endings:
                loop.remove_signal_handler(number)
            drawing.cancel()
            for stop in stops:
                stop.cancel()
    outcome = outcomes[0] if outcomes else _INTERRUPTED
    sink.end(outcome)
    if signals:
        return 128 + signals[0]
    return 0 if isinstance(outcome, TurnDone) and not outcome.mark else 1


async def _awaited(handler: Handler, message: Inbound, emit: Emit) -> None:
    await handler(message, emit)


def _sink(message: Inbound, *, as_json: bool, stream: bool) -> _Sink:
    if as_json:
        return _Json(message, stream=stream)
    return _Screen(stream=stream) if sys.stdout.isatty() else _Plain(stream=stream)


class _Output:
    """Standard output that may go away: `| head` is no error, nor is a window that was closed."""

    def __init__(self) -> None:
        self._stream: TextIO | None = sys.stdout

    def write(self, text: str) -> None:
        """Write and flush; nothing once nobody reads any more."""
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            # What is still buffered would raise again when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream = None


class _Json:
    """One JSON object per event."""

    def __init__(self, message: Inbound, *, stream: bool) -> None:
        self._key = str(message.key)
        self._stream = stream
        self._text: list[str] = []
        self._output = _Output()

    async def run(self) -> None:
        """Nothing waits to be drawn."""

    def emit(self, event: ReplyEvent) -> None:
        match event:
            case TextDelta():
                self._text.append(event.text)
                self._write({"type": "delta", "text": event.text})
            case ToolStarted():
                self._write({"type": "tool", "status": "started", **asdict(event)})
            case ToolFinished():
                self._write({"type": "tool", "status": "finished", **asdict(event)})
            case Notice():
                self._write({"type": "notice", "text": event.text})
                if not self._stream:
                    _notice(event)
            case TurnDone() | TurnFailed():
                pass
            case _:
                assert_never(event)

    def end(self, outcome: TurnDone | TurnFailed) -> None:
        said = "".join(self._text)
        if isinstance(outcome, TurnFailed):
            self._write({"type": "error", "key": self._key, **asdict(outcome), "text": said}, last=True)
            return
        stats = asdict(outcome.stats) if outcome.stats else {"usage": None, "cost_usd": None}
        done = {"type": "done", "key": self._key, "text": outcome.text or said, "mark": outcome.mark}
        self._write({**done, "message_ids": outcome.message_ids, **stats}, last=True)

    def _write(self, fields: dict[str, object], *, last: bool = False) -> None:
        if last or self._stream:
            # Escaped, half a character is valid JSON still; and a locale that is not UTF-8 does no harm.
            self._output.write(json.dumps(fields) + "\n")


class _Plain:
    """The reply's text as it is, for a pipe or a file."""

    def __init__(self, *, stream: bool) -> None:
        self._stream = stream
        self._text: list[str] = []
        self._output = _Output()

    async def run(self) -> None:
        """Nothing waits to be drawn."""

    def emit(self, event: ReplyEvent) -> None:
        match event:
            case TextDelta():
                self._text.append(event.text)
                if self._stream:
                    self._output.write(event.text)
            case ToolFinished():
                _aside(words.tool_line(event, event.name))
            case Notice():
                _notice(event)
            case ToolStarted() | TurnDone() | TurnFailed():
                pass
            case _:
                assert_never(event)

    def end(self, outcome: TurnDone | TurnFailed) -> None:
        said = "".join(self._text)
        text = said or (outcome.text if isinstance(outcome, TurnDone) else "")
        shown = said if self._stream else ""
        self._output.write(text[len(shown) :] + ("" if not text or text.endswith("\n") else "\n"))
        _tell(outcome)


class _Screen:
    """The reply as a person reads it: Markdown that grows."""

    def __init__(self, *, stream: bool) -> None:
        self._stream = stream
        self._view = ReplyView()
        self._output = _Output()
        self._dirty = asyncio.Event()
        self._page: Page | None = None
        self._drawn: list[str] = []

    async def run(self) -> None:
        """Draw what may still change, and what stands for good above it."""
        module = await asyncio.to_thread(importlib.import_module, "nanochat.channels.terminal.markdown")
        self._page = cast("Page", module.Page())
        await paced(self._dirty, self._draw)

    def emit(self, event: ReplyEvent) -> None:
        self._view.emit(event)
        if self._stream:
            self._dirty.set()
        if isinstance(event, Notice) and not sys.stderr.isatty():
            _notice(event)  # a log gets it, too

    def end(self, outcome: TurnDone | TurnFailed) -> None:
        self._view.emit(TurnDone(outcome.text if isinstance(outcome, TurnDone) else ""))
        if self._page is None:
            module = importlib.import_module("nanochat.channels.terminal.markdown")
            self._page = cast("Page", module.Page())
        self._draw()
        _tell(outcome)

    def _draw(self) -> None:
        if self._page is None:
            return
        size = shutil.get_terminal_size()
        lines = self._view.take(self._page, size.columns - 1)
        live = self._view.live(self._page, size.columns - 1, size.lines - 2)
        if self._view.done:
            while lines and not lines[-1]:
                lines.pop()
        # In a window that became narrower, what was drawn takes more rows than it did.
        rows = sum(max(1, -(-self._page.cells(line) // size.columns)) for line in self._drawn)
        up = f"\x1b[{rows - 1}A" if rows > 1 else ""
        erase = f"\r{up}\x1b[J" if rows else ""
        # One write, so that no terminal ever shows half a frame.
        self._output.write(erase + "".join(line + "\n" for line in lines) + "\n".join(live))
        self._drawn = live


def _tell(outcome: TurnDone | TurnFailed) -> None:
    """What the turn took or why it failed, beside the reply."""
    match outcome:
        case TurnFailed():
            _error(words.failure(outcome))
        case TurnDone():
            if outcome.mark:
                _error(words.mark_words(outcome.mark))
            elif outcome.stats and not outcome.text.strip():
                _notice(Notice(words.EMPTY_REPLY))
            if outcome.stats:
                _aside(words.usage_line(outcome.stats))


def _notice(notice: Notice) -> None:
    """What nanochat itself has to say, for a person and for a log."""
    if sys.stderr.isatty():
        _aside(words.clean(notice.text))
    else:
        _error(" ".join(words.clean(notice.text).split()))


def _aside(line: str) -> None:
    """A line for a person; a script that keeps standard error does not want it."""
    if sys.stderr.isatty():
        with suppress(OSError):
            print(words.dim(line), file=sys.stderr)


def _error(line: str) -> None:
    with suppress(OSError):  # nobody is there to be told
        print(f"nanochat: {line}", file=sys.stderr)
