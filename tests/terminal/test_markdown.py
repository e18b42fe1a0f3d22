"""Markdown that grows: whatever the pieces, the finished blocks are those of the whole."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.channels.terminal.markdown import MarkdownStream, Page
from tests.terminal.scripted_chat import MARKDOWN

PAGE = Page()

# Where Markdown is ambiguous until the next line has come, and what stands between.
FRAGMENTS = [
    "word",
    "two words",
    " ",
    "\n",
    "\n\n",
    "\n    ",
    "# Head",
    "#tag",
    "- item",
    "* item",
    "1. one",
    "12) twelve",
    "> quote",
    "```\n",
    "```python\nx = 1\n```",
    "~~~",
    "---",
    "===",
    "a | b",
    "|---|---|",
    "| 1 | 2 |",
    "**bold**",
    "`code`",
    "<b>html</b>",
    "<div>",
    "    indented",
    "\\",
    "[a](http://b)",
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join) | st.text(alphabet="ab#-*>`|=1. \n", max_size=60)


def in_pieces(text: str, cuts: list[int], width: int) -> list[str]:
    """The lines of all finished blocks, with the text coming in pieces."""
    stream, lines = MarkdownStream(), list[str]()
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        stream.feed(text[begin:end])
        lines += PAGE.lines(stream.take(), width, below=bool(lines))
        stream.rest()
    return lines + PAGE.lines(stream.finish(), width, below=bool(lines))


def at_once(text: str, width: int) -> list[str]:
    stream = MarkdownStream()
    stream.feed(text)
    return PAGE.lines(stream.finish(), width)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=12))
def test_pieces_do_not_matter(text: str, cuts: list[int]) -> None:
    """What stands for good is the whole text, rendered once."""
    assert in_pieces(text, cuts, 40) == at_once(text, 40)


def test_every_character_alone() -> None:
    """The finest pieces give the same lines as the whole."""
    assert in_pieces(MARKDOWN, list(range(len(MARKDOWN))), 60) == at_once(MARKDOWN, 60)


def test_a_block_is_finished_when_the_next_has_begun() -> None:
    """Not earlier: another line could still belong to it; and not later, or the reply would stay small."""
    stream = MarkdownStream()
    stream.feed("one\nmore\n\ntw")
    assert stream.take() == []
    stream.feed("o\n")
    assert len(stream.take()) == 1
    assert len(stream.rest()) == 1


def test_an_earlier_link_definition_is_kept() -> None:
    """A definition that has scrolled off still holds."""
    text = "[a]: http://example.org\n\nfirst\n\nsecond\n\nsee [this][a]\n"
    assert "http://example.org" in "\n".join(in_pieces(text, list(range(len(text))), 60))


@pytest.mark.parametrize(
    "html", ["<b>x</b>", "<details>\nx\n</details>", "List<T> x"], ids=["inline", "block", "generic"]
)
def test_html_is_shown_as_typed(html: str) -> None:
    """Nothing that the model wrote disappears."""
    shown = "\n".join(at_once(html, 60))
    assert all(part in shown for part in html.split("\n"))


def test_line_ends_are_kept() -> None:
    """A verse stays a verse."""
    assert at_once("one\ntwo", 60) == ["one", "two"]


def test_rows_have_no_trailing_blanks() -> None:
    """They would wrap in a narrower window."""
    assert all(line == line.rstrip(" ") for line in at_once(MARKDOWN, 60))


@pytest.mark.parametrize("width", [1, 7, 20, 300])
def test_any_width(width: int) -> None:
    """A window may be as narrow as it likes."""
    assert at_once(MARKDOWN, width)


def test_a_tail_is_the_end_of_the_whole() -> None:
    """The live region shows the newest rows."""
    stream = MarkdownStream()
    stream.feed("- a\n- b\n- c\n- d")
    assert [line[-1] for line in PAGE.tail(stream.rest(), 40, 2)] == ["c", "d"]


def test_a_tail_of_a_long_code_block_costs_little() -> None:
    """Of an unfinished block only the rows that fit are coloured."""
    stream = MarkdownStream()
    stream.feed("```python\n" + "value = compute(1, 'two')  # three\n" * 2000)
    blocks = stream.rest()
    PAGE.tail(blocks, 80, 20)
    started_s = time.process_time()
    assert len(PAGE.tail(blocks, 80, 20)) == 20
    assert time.process_time() - started_s < 2.0  # only a change of kind should fail here, not a slow day


def test_the_cost_is_linear() -> None:
    """A reply of 38 kB takes about twice as long as one of 19 kB, and not four times."""

    def cost_s(text: str) -> float:
        started_s = time.process_time()
        stream, lines = MarkdownStream(), list[str]()
        for at in range(0, len(text), 60):
            stream.feed(text[at : at + 60])
            lines += PAGE.lines(stream.take(), 80, below=bool(lines))
            PAGE.tail(stream.rest(), 80, 20)
        return time.process_time() - started_s

    half = (MARKDOWN * 60)[:19_000]
    cost_s(half[:2000])
    assert cost_s(half + half) < 3 * cost_s(half) + 0.05
