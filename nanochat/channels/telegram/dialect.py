"""Markdown as it is meant in a chat: CommonMark, with what models write besides, and without what would lose a word.

- Tables, task lists, `~~struck~~`, `||hidden||`.
- Emphasis in Chinese, Japanese and Korean, which put no blanks around it, not even beside punctuation.
- HTML is text, so that `List<T>` and `<details>` are read as they were typed.
- `[a]: http://…` is text too. A link resolved by a definition that comes late would change what was sent long ago.
- A line of dashes is a rule, never a heading: who sends `text` and `---` means a line.
- A row of a table may be longer than its header, and what is nested too deep is text: neither is left out.

Knows the parser. Does not know how a token is shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, table
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Delimiter
from markdown_it.token import Token

__all__ = ["parse"]

# As in the parser's own preset for CommonMark: deeper than people nest, and far from Python's limit of recursion.
_MAX_NESTING = 20
# A list takes two levels at once, itself and its item.
_TOO_DEEP = _MAX_NESTING - 2

_CELL_END = re.compile(r"(?<!\\)\|")

# Marks that count in pairs, and what a pair of them makes. `~5 to ~10` is no strike.
_PAIRS = {"~": "s", "|": "spoiler"}


def parse(markdown: str) -> list[Token]:
    """The tokens of a text. Line numbers in them count the text's lines, parted by `\\n` alone."""
    return _parser().parse(markdown)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "tasklists": True, "maxNesting": _MAX_NESTING})
    parser.enable("table").disable(["reference", "lheading", "html_inline", "html_block"])
    parser.block.ruler.at("table", _whole_table, {"alt": ["paragraph"]})
    parser.block.ruler.before("table", "too_deep", _line_as_it_is)
    parser.inline.ruler.at("emphasis", _marks)
    parser.inline.ruler2.before("fragments_join", "pairs", _pairs)
    parser.inline.add_terminator_char("|")
    return parser


def _line_as_it_is(state: StateBlock, line: int, end_line: int, silent: bool) -> bool:
    """Where the parser would skip what is nested too deep, take its lines one by one."""
    if silent or state.level < _TOO_DEEP:
        return False
    state.line = line + 1
    place = [line, line + 1]
    state.push("paragraph_open", "p", 1).map = place
    inline = state.push("inline", "", 0)
    inline.map, inline.children = place, []
    inline.content = state.getLines(line, line + 1, state.blkIndent, False).strip()
    state.push("paragraph_close", "p", -1)
    return True


def _whole_table(state: StateBlock, line: int, end_line: int, silent: bool) -> bool:
    """The parser's table, with the cells that a row has more of than the header."""
    first = len(state.tokens)
    if not table(state, line, end_line, silent):
        return False
    if not silent:
        state.tokens[first:] = _with_all_cells(state, state.tokens[first:])
    return True


def _with_all_cells(state: StateBlock, tokens: Sequence[Token]) -> Iterator[Token]:
    row, count = 0, 0
    for token in tokens:
        match token.type:
            case "tr_open" if token.map is not None:
                row, count = token.map[0], 0
            case "th_open" | "td_open":
                count += 1
            case "tr_close":
                for cell in _cells(state, row)[count:]:
                    yield Token("td_open", "td", 1, level=token.level + 1)
                    yield Token("inline", "", 0, map=[row, row + 1], content=cell, children=[], level=token.level + 2)
                    yield Token("td_close", "td", -1, level=token.level + 1)
            case _:
                pass
        yield token


def _cells(state: StateBlock, line: int) -> list[str]:
    text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].strip()
    cells = [cell.strip().replace("\\|", "|") for cell in _CELL_END.split(text)]
    begin = 0 if cells[0] else 1
    end = len(cells) if cells[-1] else -1
    return cells[begin:end]


def _marks(state: StateInline, silent: bool) -> bool:
    """A run of marks that may open or close something; which of them do is found out when the paragraph has ended."""
    start, marker = state.pos, state.src[state.pos]
    if silent or marker not in "*_~|":
        return False
    end = start
    while end < state.posMax and state.src[end] == marker:
        end += 1
    count = end - start
    before = state.src[start - 1] if start else " "
    after = state.src[end] if end < state.posMax else " "
    opens, closes = _sides(before, after, inside_words=marker != "_")
    if marker in _PAIRS:
        _push_mark(state, marker * count)
        if count == 2:
            # Length 0: the rule that forbids pairs of three does not apply to them.
            state.delimiters.append(Delimiter(ord(marker), 0, len(state.tokens) - 1, -1, opens, closes))
    else:
        for _ in range(count):
            _push_mark(state, marker)
            state.delimiters.append(Delimiter(ord(marker), count, len(state.tokens) - 1, -1, opens, closes))
    state.pos = end
    return True


def _push_mark(state: StateInline, content: str) -> None:
    state.push("text", "", 0).content = content


def _sides(before: str, after: str, *, inside_words: bool) -> tuple[bool, bool]:
    """Whether marks between two characters may open, and may close.

    CommonMark's rule of flanking, with wide characters taken as letters even where they are punctuation, and as a
    blank on the far side of other punctuation; so do cmark's forks for these languages.
    """
    left = not after.isspace() and (not _parts(after) or before.isspace() or _punctuates(before) or _is_wide(before))
    right = not before.isspace() and (not _parts(before) or after.isspace() or _punctuates(after) or _is_wide(after))
    if inside_words:
        return left, right
    return left and (not right or _punctuates(before)), right and (not left or _punctuates(after))


def _parts(character: str) -> bool:
    """Punctuation that stands apart from words; the wide one is as close to them as a letter."""
    return _punctuates(character) and not _is_wide(character)


def _punctuates(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WFH"


def _pairs(state: StateInline) -> None:
    """Make pairs of `~~` and `||` what they stand for; emphasis has a rule of its own."""
    _pair(state, state.delimiters)
    for inner in state.tokens_meta:
        if inner and "delimiters" in inner:
            _pair(state, inner["delimiters"])


def _pair(state: StateInline, delimiters: list[Delimiter]) -> None:
    for delimiter in delimiters:
        kind = _PAIRS.get(chr(delimiter.marker))
        if kind is None or delimiter.end == -1:
            continue
        for place, side, nesting in ((delimiter.token, "open", 1), (delimiters[delimiter.end].token, "close", -1)):
            old = state.tokens[place]
            state.tokens[place] = Token(f"{kind}_{side}", "", 1 if nesting > 0 else -1, markup=old.content)
