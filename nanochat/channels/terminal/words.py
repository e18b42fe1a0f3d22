"""The terminal's wording: what stands in a status line.

Knows events and values. Does not know how a line gets on the screen, only that text from elsewhere must not steer it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable

from nanochat.events import Seen, ToolFinished, TurnFailed, TurnStats

__all__ = [
    "EMPTY_REPLY",
    "clean",
    "counted",
    "dim",
    "echo",
    "failure",
    "mark_words",
    "memory_lines",
    "red",
    "seen_head",
    "tool_line",
    "usage_line",
]

EMPTY_REPLY = "the reply is empty"

# Everything that a terminal obeys instead of showing, and halves of characters, which cannot be encoded.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# Of each remembered message: enough to know where one was, and little enough that the prompt stays in sight.
_MEMORY_LINES = 8

# What is longer is repeated above by its beginning only: it was seen when it was pasted.
_ECHO_LINES, _ECHO_CHARS = 20, 4096
_ECHO_HEAD_LINES, _ECHO_HEAD_CHARS = 8, 1024

_MARKS = {
    "stopped": "stopped",
    "deadline": "cut short: the turn took longer than limits.turn_timeout_s",
    "max_tokens": "cut short: the reply reached model.max_tokens",
    "refusal": "the model declined to go on",
    "rounds": "cut short: the turn took more than limits.max_rounds requests",
    "context": "cut short: the model's context window is full",
}


def clean(text: str) -> str:
    """The text without what would steer the terminal: an escape sequence of a stranger must not rename the window."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r", ""))


def dim(text: str) -> str:
    """The text as a terminal shows what is beside the point."""
    return f"\x1b[2m{text}\x1b[0m"


def red(text: str) -> str:
    """The text as a terminal shows what went wrong; bold where colours are unwanted (https://no-color.org)."""
    return f"\x1b[{1 if os.environ.get('NO_COLOR') else 31}m{text}\x1b[0m"


def usage_line(stats: TurnStats) -> str:
    """What the turn took, in one line."""
    usage = stats.usage
    words = [f"{usage.prompt:,} in", f"{usage.output:,} out"]
    if usage.prompt:
        words.append(f"{usage.cache_read / usage.prompt:.0%} from cache")
    words.append("price unknown" if stats.cost_usd is None else f"${stats.cost_usd:.4f}")
    if stats.budget_tokens:
        words.append(f"context {stats.context_tokens:,} of {stats.budget_tokens:,}")
    elif stats.window_tokens:
        words.append(f"context {stats.context_tokens / stats.window_tokens:.0%} of {stats.window_tokens:,}")
    words.append(f"{stats.seconds:.1f} s")
    return " · ".join(words)


def mark_words(mark: str) -> str:
    """Why a reply is short, in words."""
    return _MARKS.get(mark, f"cut short: {mark}")


def counted(count: int, noun: str) -> str:
    """`1 session`, `2 sessions`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def echo(text: str) -> list[str]:
    """What was typed, as it stands above its reply; of something long, the beginning."""
    lines = text.split("\n")
    if len(lines) > _ECHO_LINES or len(text) > _ECHO_CHARS:
        head = text[:_ECHO_HEAD_CHARS].split("\n")[:_ECHO_HEAD_LINES]
        more, unseen = len(lines) - len(head), len(text) - _ECHO_HEAD_CHARS
        lines = [*head, f"… ({counted(more, 'more line')})" if more else f"… ({counted(unseen, 'more character')})"]
    first, *others = clean("\n".join(lines)).split("\n")
    return [f"you> {first}", *(f"     {line}" for line in others)]


def failure(event: TurnFailed) -> str:
    """What went wrong, in one line, and when to try again. (A limit's own words say when it ends.)"""
    words = " ".join(clean(event.message).split())
    if event.retryable and event.retry_after_s and event.kind not in ("limit", "pace"):
        words += f"; try again in {_duration(event.retry_after_s)}"
    return f"{words} (error {event.error_id})" if event.error_id else words


def _duration(seconds: float) -> str:
    """Rounded up: who comes too early is refused again."""
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds > 1.5 * unit_s:
            return f"{math.ceil(seconds / unit_s)} {unit}"
    return f"{math.ceil(seconds)} s"


def tool_line(event: ToolFinished, title: str) -> str:
    """How a tool call went."""
    return f"{'✓' if event.ok else '✗'} {clean(title)} · {event.seconds:.1f} s"


def seen_head(seen: Seen) -> str:
    """Whose line it is that somebody else wrote into this conversation."""
    return f"↳ {seen.key} · {seen.kind}"


def memory_lines(memory: Iterable[Seen]) -> list[str]:
    """The last exchange, for somebody who comes back."""
    lines: list[str] = []
    for seen in memory:
        text = clean(seen.text).strip().split("\n")
        shown = text
        if len(text) > _MEMORY_LINES + 1:  # a line that says "one more line" would take its place
            shown = [*text[:_MEMORY_LINES], f"… {len(text) - _MEMORY_LINES} more lines: /history shows them"]
        if seen.kind == "user":
            shown = [("you> " if place == 0 else "     ") + line for place, line in enumerate(shown)]
        elif seen.kind != "assistant":
            shown = [f"↳ {seen.kind}: {shown[0]}", *shown[1:]]
        lines += [*map(dim, shown), ""]
    return lines
