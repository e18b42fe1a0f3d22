"""Text with entities: the values, and the sheet that they are written on.

Knows how Telegram counts, and which entities may lie where. Does not know Markdown.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

__all__ = ["Block", "Entity", "EntityType", "Formatted", "Sheet", "Style", "clean", "units"]

Style: TypeAlias = Literal["bold", "italic", "strikethrough", "spoiler"]
EntityType: TypeAlias = Style | Literal["code", "pre", "text_link", "blockquote"]

# The server makes blanks of these and drops those (tdlib's clean_input_string); done here, no entity is left that covers
# nothing. A tab is one of the former.
_CONTROLS = re.compile("[\x00-\x1f\x7f]")
_CONTROLS_IN_LINES = re.compile("[\x00-\x09\x0b-\x1f\x7f]")
_DIRECTIONS = re.compile("[\u2028-\u202e]")

# Of entities at one and the same place, what lies around what.
_AROUND: tuple[EntityType, ...] = (
    "blockquote", "text_link", "bold", "italic", "strikethrough", "spoiler", "code", "pre",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entity:
    """What a stretch of text is; `offset` and `length` in UTF-16 units. `url` is a text_link's, `language` a pre's."""

    type: EntityType
    offset: int
    length: int
    url: str = ""
    language: str = ""

    @property
    def end(self) -> int:
        return self.offset + self.length

    def as_dict(self) -> dict[str, str | int]:
        """The entity as it goes over the wire."""
        wire: dict[str, str | int] = {"type": self.type, "offset": self.offset, "length": self.length}
        if self.url:
            wire["url"] = self.url
        if self.language:
            wire["language"] = self.language
        return wire


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of text that is best kept in one message: a paragraph, an item of a list, a heading with what follows it.

    `offset` is where it begins, in units. `size` is how many units to count for it: those of its Markdown without the
    addresses of links, which never become fewer while it is written, or those of its text where these are more. `settled`
    is False where the text to come may still join it to the block before: it has begun right below that one, on a line
    that has not ended.
    """

    offset: int
    size: int
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Formatted:
    """Text with entities, in order. `blocks` tells where it is best split; what is equal without them is equal."""

    text: str
    entities: tuple[Entity, ...] = ()
    blocks: tuple[Block, ...] = field(default=(), compare=False, repr=False)


def units(text: str) -> int:
    """The length as Telegram counts it: in UTF-16 units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def clean(text: str, *, keep_lines: bool = False) -> str:
    """Text without the characters that Telegram does not keep, in one line or in several."""
    controls = _CONTROLS_IN_LINES if keep_lines else _CONTROLS
    text = controls.sub(" ", text)
    return text if text.isascii() else _DIRECTIONS.sub("", text)


@dataclass(frozen=True, slots=True)
class _Span:
    """An entity that is still counted in characters."""

    type: EntityType
    start: int
    end: int
    url: str = ""
    language: str = ""


class Sheet:
    """Text that is only added to, and what was marked in it. Places are counted in characters."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[str] = []
        self._spans: list[_Span] = []
        self._depths: dict[Style, int] = {}
        self._since: dict[Style, int] = {}

    def put(self, text: str) -> None:
        """Add text as it is."""
        if text:
            self._pieces.append(text)
            self.size += len(text)

    def tail(self, start: int) -> str:
        """What was put since a place where something ended."""
        index, place = len(self._pieces), self.size
        while place > start:
            index -= 1
            place -= len(self._pieces[index])
        return "".join(self._pieces[index:])

    def mark(self, kind: EntityType, start: int, *, url: str = "", language: str = "") -> None:
        """Make an entity of everything since `start`."""
        if start < self.size:
            self._spans.append(_Span(kind, start, self.size, url, language))

    def style(self, kind: Style, step: int) -> None:
        """Begin (1) or end (-1) a style; one that has begun twice is the same until both have ended."""
        depth = self._depths[kind] = self._depths.get(kind, 0) + step
        if step > 0 and depth == 1:
            self._since[kind] = self.size
        elif depth == 0:
            self.mark(kind, self._since.pop(kind))

    def code(self, text: str) -> None:
        """Add text as code. Styles must not lie over it: they end before it and go on after it."""
        for kind, start in self._since.items():
            self.mark(kind, start)
        start = self.size
        self.put(text)
        self.mark("code", start)
        self._since = dict.fromkeys(self._since, self.size)

    def finish(self) -> tuple[str, tuple[Entity, ...], Callable[[int], int]]:
        """The text, its entities, and the function that counts a place of it in units."""
        text = "".join(self._pieces).rstrip()
        count = _counter(text)
        spans = _merged([trimmed for span in self._spans if (trimmed := _trimmed(span, text)) is not None])
        entities = tuple(
            Entity(span.type, count(span.start), count(span.end) - count(span.start), span.url, span.language)
            for span in spans
        )
        return text, entities, count


def _counter(text: str) -> Callable[[int], int]:
    if text.isascii():
        return lambda place: place
    wide = [place for place, character in enumerate(text) if character > "\uffff"]
    return lambda place: place + bisect_left(wide, place)


def _trimmed(span: _Span, text: str) -> _Span | None:
    """The span without blanks at its ends, or nothing. The indentation of code belongs to it, and to a quote that holds it."""
    covered = text[span.start : span.end]
    ahead = covered.lstrip("\n") if span.type in ("pre", "blockquote") else covered.lstrip()
    start = span.start + len(covered) - len(ahead)
    kept = ahead.rstrip()
    return replace(span, start=start, end=start + len(kept)) if kept.strip() else None


def _merged(spans: Sequence[_Span]) -> list[_Span]:
    """The spans in order, those joined that touch and say the same, unless they would cross another one then."""
    ordered = sorted(spans, key=lambda span: (span.start, -span.end, _AROUND.index(span.type)))
    ends: dict[tuple[EntityType, str, int], int] = {}
    merged: list[_Span] = []
    for span in ordered:
        before = ends.pop((span.type, span.url, span.start), None)
        if before is not None and span.type not in ("code", "pre"):
            joined = replace(merged[before], end=span.end)
            if not any(_cross(joined, other) for other in ordered):
                merged[before] = joined
                ends[span.type, span.url, span.end] = before
                continue
        ends[span.type, span.url, span.end] = len(merged)
        merged.append(span)
    return merged


def _cross(one: _Span, other: _Span) -> bool:
    return one.start < other.start < one.end < other.end or other.start < one.start < other.end < one.end
