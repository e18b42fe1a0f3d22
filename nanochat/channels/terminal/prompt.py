"""The line at the bottom: it edits, completes, remembers, and keeps its place while text appears above it.

The editor runs once for the whole conversation and owns the live region, so that typing goes on during a reply and only cells
that changed are drawn. Knows keys and the screen. Does not know what a message is for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, get_common_complete_suffix
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText, to_formatted_text
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import ConditionalContainer, FormattedTextControl, HSplit, Layout, Window

__all__ = ["CommandCompleter", "Prompt", "open_history"]

_PROMPT = "you> "

# Rows kept for the line itself and its menu of completions.
_OWN_ROWS = 10


class Prompt:
    """A prompt that stays.

    `on_line` gets each submitted text, `on_interrupt` each Ctrl-C with the text that stands in the line, and says whether the
    line is to be emptied; neither may wait.
    """

    def __init__(
        self,
        on_line: Callable[[str], None],
        on_interrupt: Callable[[str], bool],
        *,
        completer: Completer,
        history: History,
    ) -> None:
        self._on_line = on_line
        self._on_interrupt = on_interrupt
        self._live: AnyFormattedText = []
        self._is_live = False
        self.shown = asyncio.Event()
        self._session: PromptSession[str] = PromptSession(
            _PROMPT,
            multiline=True,
            prompt_continuation=" " * len(_PROMPT),
            history=history,
            completer=completer,
            complete_while_typing=Condition(self._is_command),
            key_bindings=self._keys(completer),
            include_default_pygments_style=False,
            enable_suspend=True,
            erase_when_done=True,
        )
        app = self._session.app
        live = Window(FormattedTextControl(lambda: self._live), dont_extend_height=True, wrap_lines=False)
        app.layout = Layout(
            HSplit([ConditionalContainer(live, Condition(lambda: self._is_live)), self._session.layout.container]),
            focused_element=self._session.default_buffer,
        )
        app.ttimeoutlen = 0.05  # Escape alone is rarely meant, and half a second of waiting for more is felt
        app.after_render += lambda _: self.shown.set()

    async def run(self) -> None:
        """Edit until Ctrl-D, `leave`, or the end of the terminal."""
        try:
            # The exception handler would stop at "press ENTER to continue"; errors of tasks are told by their TaskGroup.
            await self._session.prompt_async(set_exception_handler=False)
        except EOFError:
            return

    def leave(self) -> None:
        """End `run`."""
        if self._session.app.is_running and not self._session.app.is_done:
            self._session.app.exit(exception=EOFError)

    def show(self, lines: Sequence[str], live: Sequence[str] = ()) -> None:
        """Put `lines` above for good, and `live` between them and the prompt until the next call."""
        app, output = self._session.app, self._session.app.output
        fragments = to_formatted_text(ANSI("\n".join(live)))
        if lines:
            app.renderer.erase()
            output.write_raw("".join(line + "\r\n" for line in lines))
            output.flush()
        elif fragments == self._live:
            return
        self._live, self._is_live = fragments, bool(live)
        app.invalidate()

    @property
    def columns(self) -> int:
        """How wide a line may be. A full row would leave the cursor where terminals disagree: one less."""
        return max(20, self._session.app.output.get_size().columns - 1)

    @property
    def live_rows(self) -> int:
        """How many rows the live region may take without pushing the prompt out of sight."""
        typed = self._session.default_buffer.document.line_count
        return max(1, self._session.app.output.get_size().rows - _OWN_ROWS - typed)

    def _is_command(self) -> bool:
        return self._session.default_buffer.text.startswith("/")

    def _keys(self, completer: Completer) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _submit(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            text = buffer.text
            if text.strip():
                buffer.append_to_history()
            buffer.reset()
            self._on_line(text)

        @keys.add("escape", "enter")
        def _new_line(event: KeyPressEvent) -> None:
            event.current_buffer.newline(copy_margin=False)

        @keys.add("tab")
        def _complete(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.complete_state:
                buffer.complete_next()
                return
            # Asked here and now: the menu comes from a task, and whoever types fast would be ahead of it.
            found = list(completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
            common = get_common_complete_suffix(buffer.document, found)
            if common:
                buffer.insert_text(common)
            elif found:
                buffer.start_completion()

        @keys.add("c-c")
        @keys.add("<sigint>")
        def _interrupt(event: KeyPressEvent) -> None:
            if self._on_interrupt(event.current_buffer.text):
                event.current_buffer.reset()

        return keys


class CommandCompleter(Completer):
    """Completes the first word of a command, and the key after `/switch`."""

    def __init__(self, commands: Callable[[], Mapping[str, str]], keys: Callable[[], Iterable[str]]) -> None:
        self._commands = commands
        self._session_keys = keys

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What could stand at the cursor, in a fixed order."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        command, space, rest = text.partition(" ")
        if space and command == "/switch":
            yield from (Completion(key, -len(rest)) for key in self._session_keys() if key.startswith(rest))
        elif not space:
            for name, meaning in self._commands().items():
                if name.startswith(command):
                    yield Completion(name, -len(command), display_meta=meaning)


def open_history(path: Path) -> tuple[History, str]:
    """What was typed before, from a file that only its owner can read; and why it is not kept, or an empty text."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return InMemoryHistory(), f"what you type is not remembered: {path}: {error.strerror}"
    return FileHistory(path), ""
