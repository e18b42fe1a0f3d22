"""Markdown as Telegram shows it: plain text, and entities that say which of it is bold, a link, code.

    render("**so** it is")    # Formatted("so it is", (Entity("bold", 0, 2),))

Every string renders, also one that breaks off in the middle. Nothing of it is left out but its marks: an address that
Telegram does not link is written out, HTML is shown as it was typed. Bare addresses Telegram finds by itself. The rules
for entities are kept by construction; `split` sees to their number, and to the length.

Knows Markdown's tokens and what Telegram can show. Does not know how a message is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from markdown_it.token import Token

from nanochat.channels.telegram.dialect import parse
from nanochat.channels.telegram.formatted import Block, Entity, Formatted, Sheet, Style, clean, units
from nanochat.channels.telegram.links import is_linkable, shown
from nanochat.channels.telegram.table import Link, read_table

__all__ = ["Block", "Entity", "Formatted", "render", "units"]

_STYLES: dict[str, Style] = {"strong": "bold", "em": "italic", "s": "strikethrough", "spoiler": "spoiler"}

_RULE = "─" * 12
_BULLETS = "•◦▪"
# Telegram has no tabs. Eight would leave little of a telephone's width.
_TAB_CELLS = 4

_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# Where a link leads, and as far as it is there while it is still being written.
_ADDRESS = re.compile(r"(?<=\])\([^\s()]*\)?")
_MARKER = re.compile(r"[ \t>]*(\d{1,9}[.)]?[ \t]*|[-+*_=`~|: \t]{,12})\Z")
_LANGUAGE = re.compile(r"[\w.#+-]{1,32}\Z")


def render(markdown: str) -> Formatted:
    """Format a text, whole or broken off anywhere.

    What stands before the block that `markdown` ends in comes out the same, however it goes on.
    """
    source = _LINE_ENDS.sub("\n", markdown)
    if not source.isascii() and _SURROGATES.search(source):
        source = source.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    lines = source.split("\n")
    page = _Page(lines)
    page.write(parse(source))
    text, entities, count = page.sheet.finish()
    return Formatted(text, entities, tuple(_blocks(page, text, count)))


def _blocks(page: _Page, text: str, count: Callable[[int], int]) -> Iterator[Block]:
    """The blocks of a finished page, of which the last may still grow."""
    lines = page.lines
    # A last line that may yet be a marker is not counted: it may belong to what comes next, not to what is there.
    last = len(lines) - bool(_MARKER.match(lines[-1]))
    begun = page.begun()
    for index, (place, line) in enumerate(begun):
        if place >= len(text):
            return  # nothing of it can be shown yet
        until, until_line = begun[index + 1] if index + 1 < len(begun) else (place, last)
        markdown = _ADDRESS.sub("", "\n".join(lines[line:until_line])).rstrip()
        yield Block(
            count(place),
            # A finished table is counted with what fills its columns.
            max(units(markdown), units(text[place:until].rstrip())),
            settled=line == 0 or line < len(lines) - 1 or page.gap(line) > 1,
        )


@dataclass(slots=True)
class _Margin:
    """What a container puts before its lines: `first` before the first that is written, `rest` before the others."""

    first: str
    rest: str
    is_used: bool = False


class _Page:
    """Writes tokens down, one after the other."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.sheet = Sheet()
        self.lines = lines
        self._begun: list[tuple[int, int]] = []
        self._margins: list[_Margin] = []
        self._lists: list[str] = []
        self._quotes: list[int] = []
        self._link: tuple[str, int] | None = None  # an address, and where it began
        self._coming: int | None = None  # the line of a block that has begun, while nothing is written of it
        self._follows_heading = False

    def write(self, tokens: Sequence[Token]) -> None:
        """Write down whole blocks."""
        index = 0
        while index < len(tokens):
            token = tokens[index]
            self._note_block(token)
            match token.type:
                case "paragraph_open" | "heading_open":
                    self._begin(token)
                    self._paragraph(tokens[index + 1].children or [], is_heading=token.type == "heading_open")
                case "table_open":
                    first = index
                    while tokens[index].type != "table_close":
                        index += 1
                    self._table(tokens[first:index])
                case _:
                    self._block(token)
            index += 1

    # --- where blocks begin ---

    def _note_block(self, token: Token) -> None:
        """Remember the line of a block that may stand at the top of a message: outermost blocks, and items of outermost lists."""
        is_item = token.type == "list_item_open" and token.level == 1
        if token.map is None or token.type == "inline" or not (token.level == 0 or is_item):
            return
        # A table right below a text had been part of that, until its second line came, and stays with it.
        joins = self._follows_heading or (
            token.type == "table_open" and bool(self._begun) and self.gap(token.map[0]) == 1
        )
        if not joins and self._coming is None:
            self._coming = token.map[0]
        if not token.type.endswith("_list_open"):
            self._follows_heading = token.type == "heading_open"

    def gap(self, line: int) -> int:
        """How many line ends part what begins on a line from what is above it: as in the source, up to one empty line."""
        return 2 if line > 0 and not self.lines[line - 1].strip(" \t>") else 1

    def _begin(self, token: Token) -> None:
        """Go to a new line, for what begins with a token."""
        self._new_line(token)
        self._margin()

    def _new_line(self, token: Token) -> None:
        if self.sheet.size:
            self.sheet.put("\n" * self.gap(token.map[0] if token.map is not None else 0))
        if self._coming is not None:
            self._begun.append((self.sheet.size, self._coming))
            self._coming = None

    def _margin(self) -> None:
        for margin in self._margins:
            self.sheet.put(margin.rest if margin.is_used else margin.first)
            margin.is_used = True

    def begun(self) -> list[tuple[int, int]]:
        """The blocks: the place in the sheet where each begins, and the line of the source."""
        coming = [] if self._coming is None else [(self.sheet.size, self._coming)]
        return [*self._begun, *coming]

    # --- blocks ---

    def _block(self, token: Token) -> None:
        match token.type:
            case "fence" | "code_block":
                self._preformatted(token)
            case "hr":
                self._begin(token)
                self.sheet.put(_RULE)
            case "blockquote_open":
                self._quotes.append(self.sheet.size)
                # Telegram has no quotes in quotes.
                self._margins.append(_Margin("> ", "> ") if len(self._quotes) > 1 else _Margin("", "", is_used=True))
            case "blockquote_close":
                self._margins.pop()
                start = self._quotes.pop()
                if not self._quotes:
                    self.sheet.mark("blockquote", start)
            case "bullet_list_open" | "ordered_list_open":
                self._lists.append(token.type)
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
            case "list_item_open":
                marker = self._marker(token)
                self._margins.append(_Margin(marker, " " * len(marker)))
            case "list_item_close":
                if not self._margins[-1].is_used:
                    self._begin(token)  # an item without a word has its number still
                self._margins.pop()
            case _:
                pass  # what closes a paragraph, and the inline tokens that it has written

    def _marker(self, token: Token) -> str:
        checked = token.meta.get("checked")
        box = "" if checked is None else "☑ " if checked else "☐ "
        if self._lists[-1] == "ordered_list_open":
            return f"{token.info}{token.markup} {box}"
        return box or _BULLETS[(len(self._lists) - 1) % len(_BULLETS)] + " "

    def _paragraph(self, tokens: Sequence[Token], *, is_heading: bool) -> None:
        if _is_underlined(tokens):
            tokens, is_heading = tokens[:-2], True
        if is_heading:
            self.sheet.style("bold", 1)
        self._inline(tokens)
        if is_heading:
            self.sheet.style("bold", -1)

    def _preformatted(self, token: Token) -> None:
        content = clean(token.content.strip("\n").expandtabs(_TAB_CELLS), keep_lines=True).rstrip()
        language, _, rest = token.info.strip().partition(" ")
        if not _LANGUAGE.match(language):
            language, rest = "", token.info.strip()
        if rest.strip():
            self._begin(token)
            self._put(rest.strip())
            if content:
                self.sheet.put("\n")
        elif content:
            self._begin_code(token)
        start = self.sheet.size
        self.sheet.put(content)
        self.sheet.mark("pre", start, language=language)

    def _begin_code(self, token: Token) -> None:
        """Code has no margin: who copies it wants it as it is. A marker before it gets a line of its own."""
        if all(margin.is_used for margin in self._margins):
            self._new_line(token)
        else:
            self._begin(token)
            self.sheet.put("\n")

    def _table(self, tokens: Sequence[Token]) -> None:
        lines, links = read_table(tokens)
        self._begin_code(tokens[0])
        start = self.sheet.size
        self.sheet.put("\n".join(lines))
        self.sheet.mark("pre", start)
        # Code holds no links: they stand below it.
        for number, link in enumerate(links):
            if number:
                self.sheet.put(" · ")
            else:
                self.sheet.put("\n")
                self._margin()
            self._linked(link)

    # --- inside a paragraph ---

    def _inline(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            match token.type:
                case "text":
                    self._put(token.content)
                case "softbreak" | "hardbreak":
                    self.sheet.put("\n")
                    self._margin()
                case "code_inline" if self._link is None or not is_linkable(self._link[0]):
                    self.sheet.code(clean(token.content))
                case "link_open":
                    self._link = str(token.attrs.get("href", "")), self.sheet.size
                case "link_close" if self._link is not None:
                    (url, start), self._link = self._link, None
                    self._close_link(url, start)
                case "image" if self._link is None:
                    self._linked(Link.of_image(token))
                case "image":
                    self._put(Link.of_image(token).label)
                case _ if (style := _STYLES.get(token.type.removesuffix("_open").removesuffix("_close"))) is not None:
                    self.sheet.style(style, token.nesting)
                case _:
                    self._put(token.content)  # code in a link: that the link can be followed is worth more

    def _linked(self, link: Link) -> None:
        start = self.sheet.size
        self._put(link.label)
        self._close_link(link.url, start)

    def _close_link(self, url: str, start: int) -> None:
        label = self.sheet.tail(start)
        if is_linkable(url):
            if not label.strip():
                self._put(url)
            self.sheet.mark("text_link", start, url=url)
        elif (address := shown(url)) and address != label:
            self._put(f" ({address})" if label.strip() else address)

    def _put(self, text: str) -> None:
        self.sheet.put(clean(text))


def _is_underlined(tokens: Sequence[Token]) -> bool:
    """Whether a paragraph is a heading that is underlined with `===`."""
    if len(tokens) < 3 or tokens[-2].type not in ("softbreak", "hardbreak") or tokens[-1].type != "text":
        return False
    return not tokens[-1].content.strip("=")
