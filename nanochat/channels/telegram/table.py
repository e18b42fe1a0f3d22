"""A table as lines of equal letters: columns aligned by the cells that a character takes on a screen.

Knows a table's tokens, and widths. Does not know where it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from markdown_it.token import Token
from wcwidth import wcswidth

from nanochat.channels.telegram.formatted import clean
from nanochat.channels.telegram.links import is_linkable, shown

__all__ = ["Link", "read_table"]

# A telephone shows some 35 cells in a row. What is wider sticks out by itself, instead of moving every other row as well.
_MAX_PADDING_CELLS = 36


@dataclass(frozen=True, slots=True)
class Link:
    """Words and the address that they lead to."""

    label: str
    url: str

    @classmethod
    def of_image(cls, token: Token) -> Link:
        """A picture, as a link to it."""
        return cls(_plain(token.children or []), str(token.attrs.get("src", "")))


def read_table(tokens: Sequence[Token]) -> tuple[list[str], list[Link]]:
    """The table's lines, with a rule below the header, and the links that its cells had."""
    rows: list[list[str]] = []
    alignments: list[str] = []
    links: list[Link] = []
    for token in tokens:
        match token.type:
            case "tr_open":
                rows.append([])
            case "th_open":
                alignments.append(str(token.attrs.get("style", "")).removeprefix("text-align:"))
            case "inline":
                rows[-1].append(_cell(token.children or [], links))
            case _:
                pass
    return _lines(rows, alignments), list(dict.fromkeys(links))


def _cell(tokens: Sequence[Token], links: list[Link]) -> str:
    """A cell's words; its links are added to `links`, or written out where Telegram does not link them."""
    words: list[str] = []
    url, begin = "", 0
    for token in tokens:
        match token.type:
            case "link_open":
                url, begin = str(token.attrs.get("href", "")), len(words)
            case "link_close":
                words.append(_told(Link("".join(words[begin:]).strip(), url), links))
            case "image":
                image = Link.of_image(token)
                words += [image.label, _told(image, links)]
            case _:
                words.append(token.content)
    return clean("".join(words)).strip()


def _told(link: Link, links: list[Link]) -> str:
    """What to write after a link's words."""
    if is_linkable(link.url):
        links.append(link if link.label else Link(link.url, link.url))
        return "" if link.label else link.url
    address = shown(link.url)
    if not address or address == link.label:
        return ""
    return f" ({address})" if link.label else address


def _plain(tokens: Iterable[Token]) -> str:
    """The words of inline tokens, in one line."""
    return "".join(
        " " if token.type.endswith("break") else _plain(token.children) if token.children else token.content
        for token in tokens
    )


def _lines(rows: Sequence[Sequence[str]], alignments: Sequence[str]) -> list[str]:
    sizes = [[_cells(cell) for cell in row] for row in rows]
    widths = [max(1, min(_MAX_PADDING_CELLS, max(column))) for column in zip_longest(*sizes, fillvalue=0)]
    # A row may be longer than the header, which has the alignments.
    known = [*alignments, *[""] * (len(widths) - len(alignments))]
    lines = [
        " | ".join(map(_aligned, row, row_sizes, widths, known)).rstrip()
        for row, row_sizes in zip(rows, sizes, strict=True)
    ]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    return lines


def _cells(text: str) -> int:
    # Below zero where a character has no width at all; its length is as good a guess as any then.
    width = wcswidth(text)
    return width if width >= 0 else len(text)


def _aligned(cell: str, size: int, width: int, alignment: str) -> str:
    room = max(0, width - size)
    match alignment:
        case "right":
            before = room
        case "center":
            before = room // 2
        case _:
            before = 0
    return " " * before + cell + " " * (room - before)
