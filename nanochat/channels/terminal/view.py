"""One reply on the screen: which lines stand for good, and which may still change.

Knows the events of a turn. Does not know where lines go, nor when a frame is due.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, assert_never

from nanochat.channels.terminal import words
from nanochat.events import Notice, ReplyEvent, TextDelta, ToolFinished, ToolStarted, TurnDone, TurnFailed

if TYPE_CHECKING:  # rich is loaded behind the prompt
    from markdown_it.token import Token

    from nanochat.channels.terminal.markdown import MarkdownStream, Page

__all__ = ["ReplyView"]


class ReplyView:
    """Collects a turn's events as they come, and makes lines of them when a frame is drawn.

    `opening` are the lines above the reply, `title` stands for it while it waits. A reply that `overtakes` is shown as soon as
    it is complete, also while another is being written. `done` is true once the last event has been taken into a frame.
    """

    def __init__(self, opening: Sequence[str] = (), title: str = "", *, overtakes: bool = True) -> None:
        self.title = title
        self.overtakes = overtakes
        self.done = False
        self.has_begun = False
        self._events: list[ReplyEvent] = []
        self._lines = list(opening)
        self._tools: dict[str, str] = {}
        self._stream: MarkdownStream | None = None
        self._is_below_text = False
        self._last: Literal["", "text", "status"] = "status" if opening else ""
        self._has_spoken = False
        self._is_empty = True

    @property
    def is_ended(self) -> bool:
        """Whether the last event has come, be it drawn or not."""
        return self.done or (bool(self._events) and isinstance(self._events[-1], TurnDone | TurnFailed))

    def emit(self, event: ReplyEvent) -> None:
        """Take an event; what it looks like is found out with the next frame."""
        self._events.append(event)
        # A notice may tell of a wait for one's turn.
        self.has_begun = self.has_begun or not isinstance(event, Notice)

    def take(self, page: Page, width: int) -> list[str]:
        """The lines that stand for good since the last call."""
        events, self._events = self._events, []
        for event in events:
            self._advance(event, page, width)
        if self._stream is not None:
            self._add_text(self._stream.take(), page, width)
        lines, self._lines = self._lines, []
        return lines

    def live(self, page: Page, width: int, rows: int) -> list[str]:
        """The lines that may still change, at most `rows` of them: the newest."""
        if self.done:
            return []
        status = [words.dim(page.crop(f"… {title}", width)) for title in self._tools.values()]
        text = page.tail(self._stream.rest(), width, rows - len(status)) if self._stream is not None else []
        if text and self._last:
            text = ["", *text]
        if not text and not status:
            status = [words.dim("…")]
        return [*text, *status][-rows:]

    def waiting(self, page: Page, width: int, rows: int) -> list[str]:
        """What stands for a reply that has not begun, at most `rows` lines: none of it stands for good yet."""
        opening = [page.crop(line, width) for line in self._lines]
        notices = [event.text for event in self._events if isinstance(event, Notice)]
        status = [words.dim(page.crop(words.clean(text), width)) for text in notices or ["…"]]
        return [*opening, *status][-rows:]

    def _advance(self, event: ReplyEvent, page: Page, width: int) -> None:
        match event:
            case TextDelta():
                self._feed(event.text, page)
            case ToolStarted():
                self._end_text(page, width)
                self._tools[event.call_id] = words.clean(event.title or event.name)
            case ToolFinished():
                title = self._tools.pop(event.call_id, event.name)
                self._add_status([words.dim(words.tool_line(event, title))])
            case Notice():
                self._add_status(map(words.dim, page.wrap(words.clean(event.text), width)))
            case TurnDone():
                if not self._has_spoken and event.text:
                    self._feed(event.text, page)
                self._end_text(page, width)
                mark = [words.dim(f"({words.mark_words(event.mark)})")] if event.mark else []
                usage = [words.dim(words.usage_line(event.stats))] if event.stats else []
                # A command may have nothing to say; whoever asked the model waits for something.
                empty = [words.dim(words.EMPTY_REPLY)] if event.stats and self._is_empty and not mark else []
                self._add_status([*empty, *mark, *usage])
                self._close()
            case TurnFailed():
                self._end_text(page, width)
                self._add_status(map(words.red, page.wrap(words.failure(event), width)))
                self._close()
            case _:
                assert_never(event)

    def _feed(self, text: str, page: Page) -> None:
        if self._stream is None:
            self._stream = page.stream()
            self._is_below_text = False
        self._stream.feed(words.clean(text))
        self._has_spoken = True
        self._is_empty = self._is_empty and not text.strip()

    def _add_text(self, blocks: Sequence[Sequence[Token]], page: Page, width: int) -> None:
        if not blocks:
            return
        if self._last == "status":
            self._lines.append("")
        self._lines += page.lines(blocks, width, below=self._is_below_text)
        self._is_below_text = True
        self._last = "text"

    def _end_text(self, page: Page, width: int) -> None:
        if self._stream is not None:
            self._add_text(self._stream.take(), page, width)
            self._add_text(self._stream.finish(), page, width)
            self._stream = None

    def _add_status(self, lines: Iterable[str]) -> None:
        shown = list(lines)
        if not shown:
            return
        if self._last == "text":
            self._lines.append("")
        self._lines += shown
        self._last = "status"

    def _close(self) -> None:
        self._tools.clear()
        self._lines.append("")
        self.done = True
