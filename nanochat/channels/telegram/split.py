"""A long text as several messages: cut between blocks, and inside one only where it fills a message by itself.

Nothing is lost but blanks at a cut. What an entity covers on both sides of a cut, it covers in both messages: a block of
code is closed and opened again in its language. No message has more units or entities than Telegram takes.

For a text that grows, messages that are full stay as they are:

    Let `s` be the beginning of `t`, and `parts(x) = split(render(x))`. If no block of `t` takes more than `SOFT_UNITS`, then
    all of `parts(s)` but the last stand at the beginning of `parts(t)`. A block is a paragraph, a quote, a table, an item
    of an outermost list, with the headings above it; the addresses of links do not count. A piece of code may be of any
    length.

So a message may be taken as final once another one follows it, and when the text has ended, few if any are found to be
otherwise. Beyond the law: a paragraph, item, quote or table that is longer is cut inside, and a mark that closes far behind
its beginning, or a cell that widens its column, changes what stands before it. A table at the very end of a message, and
marks so many that it is cut for their number, may move the last cut.

Knows the limits of a message. Does not know Markdown, nor who sends what.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace

from wcwidth import grapheme_boundary_before

from nanochat.channels.telegram.formatted import Block, Entity, Formatted, units

__all__ = ["LIMIT_UNITS", "MAX_ENTITIES", "MAX_PARTS", "SOFT_UNITS", "overflow", "split"]

# "1-4096 characters after entities parsing": https://core.telegram.org/bots/api#sendmessage, read 2026-11-20. We count units, of
# which there are at least as many.
LIMIT_UNITS = 4096
# Where a message that is still growing is called full. The room above it is for the end of a text, whose block is not settled.
SOFT_UNITS = 3800
# Of more entities the server keeps the first hundred: telegram.constants.MessageLimit.MESSAGE_ENTITIES.
MAX_ENTITIES = 100
# A longer answer is easier to read as a document: our own choice.
MAX_PARTS = 4

# Inside a block the end of a text is kept off the cut by this share of a message, because marks that close there change it.
_UNSETTLED_SHARE = 12
# An empty line between blocks.
_GAP_UNITS = 2

# More than any letter with its accents takes.
_AHEAD_UNITS = 32

# Where to cut inside a block, best first: paragraphs, lines, sentences, words, with the stops and commas of Chinese.
_ENDS = (
    re.compile(r"\n[ \t]*\n"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?…])\s|(?<=[\u3002\uff01\uff1f])"),
    re.compile(r"\s|(?<=[\uff0c\u3001\uff1b])"),
)


def overflow(parts: Sequence[Formatted]) -> bool:
    """Whether there are more messages than a person wants to get: send a document instead."""
    return len(parts) > MAX_PARTS


def split(formatted: Formatted, *, limit_units: int = LIMIT_UNITS, soft_units: int = SOFT_UNITS) -> list[Formatted]:
    """Cut a text into messages of at most `limit_units`, and at most `soft_units` but for an end that is not settled.

    A text that shows nothing gives no messages.
    """
    return _Cutter(formatted, limit_units, soft_units).parts()


class _Cutter:
    """Takes messages off the beginning of a text, one by one. Where it cuts depends only on what stands before the end of
    the block that does not fit."""

    def __init__(self, formatted: Formatted, limit_units: int, soft_units: int) -> None:
        self._encoded = formatted.text.encode("utf-16-le")
        self._end = len(self._encoded) // 2
        self._entities = formatted.entities
        self._starts = [entity.offset for entity in formatted.entities]
        self._limit = limit_units
        self._soft = min(soft_units, limit_units)
        self._blocks = formatted.blocks or (Block(0, self._end),)  # it may not have been rendered here
        self._ends = [*(block.offset for block in self._blocks[1:]), self._end]

    def parts(self) -> list[Formatted]:
        parts = []
        start = 0
        while start < self._end:
            end = self._cut(start)
            part = self._part(start, end)
            if part.text:
                parts.append(part)
            start = end
        return parts

    def _cut(self, start: int) -> int:
        """Where the message ends that begins at `start`."""
        index = bisect_right(self._ends, start)
        block, end, room = self._blocks[index], self._ends[index], min(self._room(start), start + self._limit)
        used = max(block.size - (start - block.offset), end - start if start > block.offset else 0)
        if used > self._soft or end > room:
            return self._cut_inside(start, min(end, room))
        for block, block_end in zip(self._blocks[index + 1 :], self._ends[index + 1 :], strict=True):
            used += _GAP_UNITS + block.size
            if used > (self._soft if block.settled else self._limit) or block_end > room:
                return end
            end = block_end
        return end

    def _room(self, start: int) -> int:
        """How far a message can reach that begins at `start`, for the number of its entities."""
        first = bisect_left(self._starts, start)
        going_on = sum(entity.end > start for entity in self._entities[:first])
        beyond = first + MAX_ENTITIES - going_on
        return self._starts[beyond] if beyond < len(self._starts) else self._end

    def _cut_inside(self, start: int, end: int) -> int:
        """The best place to cut between `start` and `end`, in the latter half of a message if it can be."""
        end = min(end, start + self._soft - self._soft // _UNSETTLED_SHARE)
        if end in self._ends:
            return end
        end = self._whole(end)
        text = self._text(start, end)
        for pattern in _ENDS:
            if places := [match.end() for match in pattern.finditer(text, len(text) // 2)]:
                return start + units(text[: places[-1]])
        # No blank for half a message: a word at least as a reader sees it, with its accents and joiners.
        ahead = text + self._text(end, self._whole(end + _AHEAD_UNITS))
        place = grapheme_boundary_before(ahead, len(text) + 1) if len(ahead) > len(text) else 0
        return start + units(text[:place]) if place > len(text) // 2 else end

    def _whole(self, place: int) -> int:
        """The place, or the one before it if it lies inside a pair of surrogates."""
        place = min(place, self._end)
        is_inside = place < self._end and 0xDC <= self._encoded[2 * place + 1] <= 0xDF
        return place - 1 if is_inside else place

    def _text(self, start: int, end: int) -> str:
        return self._encoded[2 * start : 2 * end].decode("utf-16-le")

    def _part(self, start: int, end: int) -> Formatted:
        """What stands between two places, without the blanks at its ends; code keeps its indentation."""
        raw = self._text(start, end)
        text = raw.lstrip()
        begin = start + units(raw) - units(text)
        last_line = raw.rfind("\n", 0, len(raw) - len(text)) + 1
        indented = start + units(raw[:last_line])
        if any(entity.type == "pre" and entity.offset <= indented and begin < entity.end for entity in self._entities):
            text, begin = raw[last_line:], indented
        text = text.rstrip()
        end = begin + units(text)
        return Formatted(text, tuple(self._clipped(begin, end)))

    def _clipped(self, begin: int, end: int) -> Iterator[Entity]:
        for entity in self._entities[: bisect_left(self._starts, end)]:
            first, last = max(entity.offset, begin), min(entity.end, end)
            if first < last and self._text(first, last).strip():
                yield replace(entity, offset=first - begin, length=last - first)
