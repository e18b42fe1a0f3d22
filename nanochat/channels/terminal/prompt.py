"""The line at the bottom: it edits, completes, remembers, and keeps its place while text appears above it.

The editor runs once for the whole conversation and owns the live region, so that typing goes on during a reply and only cells
that changed are drawn. Knows keys and the screen. Does not know what a message is for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, get_common_complete_suffix
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText, to_formatted_text
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import ConditionalContainer, FormattedTextControl, HSplit, Layout, Window

from nanochat.channels.terminal import words
from nanochat.channels.terminal.paste import PasteParser
from nanochat.records import MAX_LINE_BYTES

__all__ = ["CommandCompleter", "Prompt", "open_history"]

_PROMPT = "you> "

# Rows kept for the line itself and its menu of completions.
_OWN_ROWS = 10

# A longer paste stands in the line as a few words, since an editor draws its whole text with every key; and a longer message
# is not remembered between sessions, since the file of what was typed is read whole at every start.
_LONG_CHARS = 64 * 1024


class Prompt:
    """A prompt that stays.

    `on_line` gets each submitted text, `on_interrupt` each Ctrl-C with the text that stands in the line, and says whether the
    line is to be emptied; `on_refused` gets the size in bytes of a paste that is more than a message may be. None may wait.
    """

    def __init__(
        self,
        on_line: Callable[[str], None],
        on_interrupt: Callable[[str], bool],
        on_refused: Callable[[int], None],
        *,
        completer: Completer,
        history: History,
    ) -> None:
        self._on_line = on_line
        self._on_interrupt = on_interrupt
        self._live: AnyFormattedText = []
        self._is_live = False
        self._is_left = False
        self._pastes: dict[str, str] = {}
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
        if isinstance(app.input, Vt100Input):
            feed_key = app.input.vt100_parser.feed_key_callback
            app.input.vt100_parser = PasteParser(feed_key, MAX_LINE_BYTES, on_refused)

    async def run(self) -> None:
        """Edit until Ctrl-D, `leave`, or the end of the terminal."""
        try:
            # The exception handler would stop at "press ENTER to continue"; errors of tasks are told by their TaskGroup.
            await self._session.prompt_async(set_exception_handler=False, pre_run=self._leave_if_left)
        except EOFError:
            return

    def leave(self) -> None:
        """End `run`, also one that has still to begin."""
        self._is_left = True
        self._leave_if_left()

    def _leave_if_left(self) -> None:
        app = self._session.app
        if self._is_left and app.is_running and not app.is_done:
            app.exit(exception=EOFError)

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
            text = self._with_pastes(buffer.text)
            if text.strip() and len(text) <= _LONG_CHARS:
                buffer.append_to_history()
            buffer.reset()
            self._pastes.clear()
            self._on_line(text)

        @keys.add(Keys.BracketedPaste)
        def _paste(event: KeyPressEvent) -> None:
            text = event.data.replace("\r\n", "\n").replace("\r", "\n")
            if len(text) > _LONG_CHARS:
                size = f"{len(text.encode(errors='replace')) / 1e6:.1f} MB"
                title = f"[paste {len(self._pastes) + 1}: {size}, {words.counted(len(text.splitlines()), 'line')}]"
                self._pastes[title] = text
                text = title
            event.current_buffer.insert_text(text)

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
                self._pastes.clear()

        return keys

    def _with_pastes(self, text: str) -> str:
        """What was typed, with the long pastes where their titles stand."""
        for title, paste in self._pastes.items():
            text = text.replace(title, paste, 1)
        return text


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


def open_history(path: Path, complain: Callable[[str], None]) -> History:
    """What was typed before, from a file that only its owner can read; `complain` is told once if it cannot be kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        complain(_not_kept(path, error))
        return InMemoryHistory()
    return _Remembered(path, complain)


class _Remembered(FileHistory):
    """A file of what was typed, in prompt_toolkit's form. That it cannot be written is no reason not to send a message."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        super().__init__(path)
        self._path = path
        self._complain: Callable[[str], None] | None = complain

    def load_history_strings(self) -> Iterable[str]:
        try:
            return super().load_history_strings()
        except OSError as error:
            self._give_up(error)
            return ()

    def store_string(self, string: str) -> None:
        lines = "".join(f"+{line}\n" for line in string.split("\n"))
        entry = f"\n# {datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}\n{lines}".encode(errors="replace")
        if self._complain is None:
            return
        try:
            file = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, entry)
            finally:
                os.close(file)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self._complain is not None:
            self._complain(_not_kept(self._path, error))
            self._complain = None


def _not_kept(path: Path, error: OSError) -> str:
    return f"what you type is not remembered: {path}: {error.strerror}"
