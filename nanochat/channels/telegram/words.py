"""What a reply says so far: its text, and the one plain line below it.

Pure. Knows events. Does not know messages, formatting or time.
"""

from __future__ import annotations

from nanochat.events import Notice, ReplyEvent, TextDelta, ToolFinished, ToolStarted, TurnDone, TurnFailed

__all__ = ["Words"]

_MARKS = {
    "stopped": "stopped",
    "undone": "taken back",
    "deadline": "cut short: it took longer than limits.turn_timeout_s",
    "max_tokens": "cut short: the reply reached model.max_tokens",
    "refusal": "the model declined to go on",
    "rounds": "cut short: it took more than limits.max_rounds requests",
    "context": "cut short: the model's context window is full",
}
# A status line is one line on a telephone's screen.
_LINE_CHARS = 160


class Words:
    """Gathers events. `text` is Markdown and exact; `line` is plain, changes as it likes, and is empty where all is said.

    A notice stands until text comes, or an ending that has words of its own; one after which neither came stays for good.
    """

    def __init__(self) -> None:
        self.is_final = False
        self._pieces: list[str] = []
        self._tools: dict[str, str] = {}
        self._notice = ""
        self._ending = ""
        self._interrupted = False

    def add(self, event: ReplyEvent) -> None:
        """Take an event in; what comes after the last one does not count."""
        if self.is_final:
            return
        match event:
            case TextDelta(text=text):
                if self._interrupted and self._pieces and not self._pieces[-1].endswith("\n"):
                    self._pieces.append("\n\n")
                self._interrupted = False
                self._notice = ""
                self._pieces.append(text)
            case ToolStarted():
                self._tools[event.call_id] = _line(event.title or event.name)
                self._interrupted = True
            case ToolFinished():
                self._tools.pop(event.call_id, None)
            case Notice():
                self._notice = _line(event.text)
            case TurnDone():
                self._end(event.text, _mark(event.mark))
            case TurnFailed():
                self._end("", f"⚠️ {_failure(event)}")

    def _end(self, text: str, ending: str) -> None:
        self.is_final = True
        if not self._pieces:
            self._pieces.append(text)
        if not self.text.strip() and not ending:
            ending = "(no text)"
        self._ending = ending

    @property
    def text(self) -> str:
        """The reply's own words, as Markdown."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def line(self) -> str:
        """What stands below the text: what is going on, or how it ended."""
        if self.is_final:
            return self._ending or self._notice
        if self._tools:
            latest = list(self._tools.values())[-1]
            others = f" (and {len(self._tools) - 1} more)" if len(self._tools) > 1 else ""
            return f"⏳ {latest}{others}"
        return f"⏳ {self._notice}" if self._notice else ""


def _mark(mark: str) -> str:
    return f"({_MARKS.get(mark, f'cut short: {mark}')})" if mark else ""


def _failure(event: TurnFailed) -> str:
    words = " ".join(event.message.split())
    return f"{words} (error {event.error_id})" if event.error_id else words


def _line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _LINE_CHARS else f"{words[: _LINE_CHARS - 1]}…"
