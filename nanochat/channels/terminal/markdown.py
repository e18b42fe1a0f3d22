"""Markdown that grows: finished blocks are rendered once, only the last one is rendered again.

A top-level block is finished when the next one has begun on a line that is complete; nothing that follows can change it any
more. (One exception of Markdown's: a link whose definition comes later stays as it was typed.) So a reply costs its length,
and not its square.

Knows Markdown and escape sequences. Does not know where on the screen a line goes. Importing this loads rich.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markdown import Markdown
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text
from rich.theme import Theme

__all__ = ["MarkdownStream", "Page"]

# 16 colours of the terminal's own palette and no background: readable on light and on dark.
_CODE_THEME = "ansi_dark"
_THEME = Theme({"markdown.code": "bold cyan", "markdown.h1": "bold underline", "markdown.item.number": "bold"})

_SEQUENCE = re.compile(r"\x1b\[[\d;]*m")


class MarkdownStream:
    """Text that comes in pieces, as top-level blocks of tokens."""

    def __init__(self) -> None:
        # HTML is shown as it was typed: a terminal has no other way to show it, and rich would drop it.
        self._parser = MarkdownIt(options_update={"html": False}).enable("strikethrough").enable("table")
        self._tail = ""
        self._looked_at = 0
        self._links: dict[str, object] = {}

    def feed(self, text: str) -> None:
        """Add text at the end."""
        self._tail += text

    def take(self) -> list[list[Token]]:
        """The blocks that were finished since the last call."""
        end = self._tail.rfind("\n") + 1
        if end == self._looked_at:
            return []
        self._looked_at = end
        whole = self._tail[:end]
        blocks = self._parse(whole, keep_links=True)
        if len(blocks) < 2:
            return []
        first_line = _first_line(blocks[-1])
        cut = sum(map(len, whole.splitlines(keepends=True)[:first_line]))
        self._tail = self._tail[cut:]
        self._looked_at -= cut
        return blocks[:-1]

    def rest(self) -> list[list[Token]]:
        """The blocks that are not finished, as they would be if the text ended here."""
        return self._parse(self._tail)

    def finish(self) -> list[list[Token]]:
        """The remaining blocks, once the text has ended."""
        blocks, self._tail, self._looked_at = self.rest(), "", 0
        return blocks

    def _parse(self, text: str, *, keep_links: bool = False) -> list[list[Token]]:
        """Top-level blocks. Link definitions on incomplete lines are not kept: their address may still grow."""
        env: dict[str, object] = {"references": dict(self._links)}
        tokens = self._parser.parse(text, env)
        references = env["references"]
        if keep_links and isinstance(references, dict):
            self._links = references
        blocks: list[list[Token]] = []
        block: list[Token] = []
        for token in tokens:
            _keep_line_ends(token)
            block.append(token)
            if token.level == 0 and token.nesting <= 0:
                blocks.append(block)
                block = []
        return blocks


def _keep_line_ends(token: Token) -> None:
    """Who writes in a chat means the line ends: a verse, an address. Markdown would join the lines."""
    for child in token.children or ():
        if child.type == "softbreak":
            child.type = "hardbreak"


def _first_line(block: Sequence[Token]) -> int:
    place = block[0].map
    assert place is not None, "markdown-it gives every top-level block its lines"
    return place[0]


class Page:
    """Renders blocks as lines of text with escape sequences, at the width of the moment."""

    def __init__(self) -> None:
        # Rich looks at TERM, COLORTERM and NO_COLOR by itself; that there is a terminal, its caller knows better.
        self._console = Console(file=StringIO(), force_terminal=True, highlight=False, theme=_THEME)

    def stream(self) -> MarkdownStream:
        """An empty stream whose blocks this page can render."""
        return MarkdownStream()

    def lines(self, blocks: Sequence[Sequence[Token]], width: int, *, below: bool = False) -> list[str]:
        """The blocks' lines, with a blank line between blocks, and before the first if it stands `below` another."""
        lines: list[str] = []
        for block in blocks:
            if lines or below:
                lines.append("")
            lines += self._render(block, width)
        return lines

    def tail(self, blocks: Sequence[Sequence[Token]], width: int, rows: int) -> list[str]:
        """The last `rows` lines, at a cost that does not grow with a long block of code."""
        shortened = [_shorten(block, rows) for block in blocks]
        return self.lines(shortened, width)[-rows:] if rows > 0 else []

    def crop(self, text: str, width: int) -> str:
        """The text cut to `width` cells, with an ellipsis where it was cut; for text without escape sequences."""
        return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"

    def wrap(self, text: str, width: int) -> list[str]:
        """The text in lines of at most `width` cells, broken at blanks; for text without escape sequences."""
        return [line.plain.rstrip() for line in Text(text).wrap(self._console, width)] if text else []

    def cells(self, line: str) -> int:
        """How many cells a line of ours takes."""
        return cell_len(_SEQUENCE.sub("", line))

    def _render(self, block: Sequence[Token], width: int) -> list[str]:
        # Addresses are written out: not every terminal has links, and what is not seen cannot be checked before a click.
        markdown = Markdown("", code_theme=_CODE_THEME, hyperlinks=False)
        markdown.parsed = list(block)
        options = self._console.options.update(width=width)
        rows = [_without_padding(row) for row in Segment.split_lines(self._console.render(markdown, options))]
        while rows and not rows[0]:
            rows.pop(0)
        while rows and not rows[-1]:
            rows.pop()
        with self._console.capture() as captured:
            for row in rows:
                self._console.print(Segments([*row, Segment.line()]), end="", crop=False, no_wrap=True)
        return captured.get().split("\n")[:-1]


def _shorten(block: Sequence[Token], rows: int) -> Sequence[Token]:
    """A fence with no more code than fits; its colours may be off by what was cut, until it is finished."""
    fence = block[0]
    if fence.type != "fence" or fence.content.count("\n") <= rows:
        return block
    return [fence.copy(content="\n".join(fence.content.split("\n")[-rows - 1 :]))]


def _without_padding(row: Sequence[Segment]) -> list[Segment]:
    """A row without the blanks that fill it up: they would wrap in a narrower window, and stick to what is copied."""
    kept = list(row)
    while kept and not kept[-1].text.strip(" ") and _is_invisible(kept[-1].style):
        kept.pop()
    if kept and _is_invisible(kept[-1].style):
        kept[-1] = Segment(kept[-1].text.rstrip(" "), kept[-1].style)
    return kept


def _is_invisible(style: Style | None) -> bool:
    return style is None or not (style.bgcolor or style.underline or style.reverse or style.strike)
