"""Markdown becomes text and entities: nothing is lost, nothing is refused, whatever it is and wherever it breaks off."""

# ruff: noqa: RUF001 - Chinese has its own colon

from __future__ import annotations

import html
import random
import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nanochat.channels.telegram.links import is_linkable
from nanochat.channels.telegram.text import Formatted, render
from tests.fakes.telegram_rules import refusal
from tests.telegram.samples import ANSWERS, letters, noise, problem, problems, solid, told

every_answer = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())

# What is written, what is read, and what of it is marked as what.
TORTURE: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "bold": ("**a** b", "a b", [("bold", "a")]),
    "nested styles": ("***a* b**", "a b", [("bold", "a b"), ("italic", "a")]),
    "twice bold": ("# a **b** c", "a b c", [("bold", "a b c")]),
    "heading underlined": ("a\n===", "a", [("bold", "a")]),
    "dashes are a rule": ("a\n---\nb", "a\n────────────\nb", []),
    "bold before Chinese": ("**重点：**后", "重点：后", [("bold", "重点：")]),
    "quoted Chinese": ("看**“引”**后", "看“引”后", [("bold", "“引”")]),
    "bold before Korean": ("**'강'**는", "'강'는", [("bold", "'강'")]),
    "snake case": ("a_b_c 2 * 3 * 4", "a_b_c 2 * 3 * 4", []),
    "struck": ("~~a~~ ~5 to ~6", "a ~5 to ~6", [("strikethrough", "a")]),
    "spoiler": ("||a **b**|| x || y", "a b x || y", [("spoiler", "a b"), ("bold", "b")]),
    "code in bold": ("**a `b` c**", "a b c", [("bold", "a"), ("code", "b"), ("bold", "c")]),
    "code in code": ("`` a`b ``", "a`b", [("code", "a`b")]),
    "link": ("[a](http://b.c/d)", "a", [("text_link", "a")]),
    "code in a link": ("[`a`](http://b.c)", "a", [("text_link", "a")]),
    "bold link": ("**[a](http://b.c)**", "a", [("text_link", "a"), ("bold", "a")]),
    "link without words": ("[](http://b.c)", "http://b.c", [("text_link", "http://b.c")]),
    "relative link": ("[a](./b.md)", "a (./b.md)", []),
    "link to localhost": ("[a](http://localhost:1/)", "a (http://localhost:1/)", []),
    "script": ("[a](javascript:b)", "[a](javascript:b)", []),
    "mail": ("[a](mailto:b@c.d) <e@f.g>", "a (b@c.d) e@f.g", []),
    "autolink": ("<http://a.b>", "http://a.b", [("text_link", "http://a.b")]),
    "picture": ("![a](http://b.c/d.png)", "a", [("text_link", "a")]),
    "picture in a link": ("[![a](http://b.c)](http://d.e)", "a", [("text_link", "a")]),
    "definition": ("[a]\n\n[a]: http://b.c", "[a]\n\n[a]: http://b.c", []),
    "html": ("List<T> <details>\n<b>x</b>\n<!-- y -->", "List<T> <details>\n<b>x</b>\n<!-- y -->", []),
    "html entity": ("&lt;b&gt; &amp;", "<b> &", []),
    "fence": ("```py\n\tx\n\n y\n```", "    x\n\n y", [("pre", "    x\n\n y")]),
    "fence with a title": ("```py a.py\nx\n```", "a.py\nx", [("pre", "x")]),
    "fence that is open": ("a\n```py\nx", "a\nx", [("pre", "x")]),
    "fence that is empty": ("a\n```py\n", "a", []),
    "indented code": ("a\n\n    b\n     c", "a\n\nb\n c", [("pre", "b\n c")]),
    "code in an item": ("1. ```\n   x\n   ```\n   y", "1. \nx\n   y", [("pre", "x")]),
    "breaks": ("a\nb  \nc\\\nd", "a\nb\nc\nd", []),
    "nested lists": ("- a\n  - b\n    1. c\n- d", "• a\n  ◦ b\n    1. c\n• d", []),
    "numbers": ("7) a\n8) b\n\n\n9) c", "7) a\n8) b\n\n9) c", []),
    "tasks": ("- [ ] a\n- [x] b\n1. [x] c", "☐ a\n☑ b\n1. ☑ c", []),
    "bold item": ("- **a**\n  b", "• a\n  b", [("bold", "a")]),
    "empty item": ("-\n- a", "• \n• a", []),
    "quote": ("> a\n> **b**\n\nc", "a\nb\n\nc", [("blockquote", "a\nb"), ("bold", "b")]),
    "quote in a quote": ("> a\n> > b\n> > c", "a\n> b\n> c", [("blockquote", "a\n> b\n> c")]),
    "code in a quote": ("> `a`\n> ```\n>  b\n> ```", "a\n b", [("blockquote", "a\n b"), ("code", "a"), ("pre", " b")]),
    "table": (
        "|a|bb|c|\n|:-|-:|:-:|\n|1|2|333|\n|`x`",
        "a | bb |  c\n--+----+----\n1 |  2 | 333\nx |    |",
        [("pre", "a | bb |  c\n--+----+----\n1 |  2 | 333\nx |    |")],
    ),
    "wide table": ("|a|b|\n|-|-|\n|重|x|\n|y|z|", "a  | b\n---+--\n重 | x\ny  | z", [("pre", "a  | b\n---+--\n重 | x\ny  | z")]),
    "row beyond the header": ("|a|\n|-|\n|b|c|", "a\n--+--\nb | c", [("pre", "a\n--+--\nb | c")]),
    "links in a table": (
        "|a|\n|-|\n|[b](http://c.d)|\n|[e](f)|",
        "a\n-----\nb\ne (f)\nb",
        [("pre", "a\n-----\nb\ne (f)"), ("text_link", "b")],
    ),
    "two links in a table": (
        "|[a](http://b.c)|\n|-|\n|![d](http://e.f)|",
        "a\n-\nd\na · d",
        [("pre", "a\n-\nd"), ("text_link", "a"), ("text_link", "d")],
    ),
    "emoji count twice": ("😀**a**", "😀a", [("bold", "a")]),
    "blanks are not bold": ("a ** ** ` ` ||  ||", "a ** **   ||  ||", []),
    "half a character": ("a\ud83d **b**", "a\ufffd b", [("bold", "b")]),
}  # fmt: skip


@pytest.mark.parametrize(("markdown", "text", "entities"), TORTURE.values(), ids=TORTURE.keys())
def test_torture(markdown: str, text: str, entities: list[tuple[str, str]]) -> None:
    """Each construct reads as a person would expect."""
    formatted = render(markdown)
    assert (formatted.text, told(formatted)) == (text, entities)
    assert problem(formatted) is None


def test_an_entity_on_the_wire() -> None:
    """Only the fields that a type has."""
    formatted = render("```py\nx\n```\n[a](http://b.c)\n*i*")
    assert [entity.as_dict() for entity in formatted.entities] == [
        {"type": "pre", "offset": 0, "length": 1, "language": "py"},
        {"type": "text_link", "offset": 2, "length": 1, "url": "http://b.c"},
        {"type": "italic", "offset": 4, "length": 1},
    ]


def test_touching_entities_are_one() -> None:
    """Two entities that say the same of neighbours are one entity, unless it would cross another one."""
    assert told(render("[a](http://b.c)[d](http://b.c)")) == [("text_link", "ad")]
    assert problem(render("**||**||***_a***_||`c`~~~~")) is None


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        ("http://a.b", True),
        ("HTTPS://a.b:80/c?d#e", True),
        ("http://me@a.b/", True),
        ("tg://user?id=1", True),
        ("http://a.b:0", False),
        ("http://a.b:99999", False),
        ("http://[::1", False),
        ("http://a..b", False),
        ("http://a.b c", False),
        ("//a.b", False),
        ("ftp://a.b", False),
    ],
)
def test_addresses(url: str, linked: bool) -> None:
    """What Telegram would not take for an address is none of ours; it would cost the message."""
    assert is_linkable(url) is linked
    entity = {"type": "text_link", "offset": 0, "length": 1, "url": url}
    assert not linked or refusal("a", [entity]) is None


@pytest.mark.parametrize("markdown", ["", " \n\t", "```\n```", "&#10;", "\u202e"])
def test_nothing_to_show(markdown: str) -> None:
    """What shows nothing is an empty text."""
    assert render(markdown) == Formatted("")


@pytest.mark.parametrize("mark", ["> ", "- ", "1. ", "![", "[", "**", "*_", "||"])
def test_too_deep(mark: str) -> None:
    """Nesting without end costs neither the words nor the program."""
    formatted = render(mark * 800 + "words\nmore" + "](http://a.b)" * 800)
    assert "words" in formatted.text
    assert "more" in formatted.text
    assert problems(mark * 800 + "words\nmore") == []


@every_answer
def test_every_beginning_is_accepted(answer: str) -> None:
    """While an answer is being written it can be shown at every character."""
    assert [why for end in range(len(answer) + 1) for why in problems(answer[:end])] == []


def test_every_beginning_of_the_torture_is_accepted() -> None:
    """All constructs in one text, broken off anywhere."""
    whole = "\n\n".join(markdown for markdown, _, _ in TORTURE.values())
    ends = range(0, len(whole) + 1)
    assert [why for end in ends for why in problems(whole[max(0, end - 400) : end])] == []


def test_noise_is_accepted_and_kept() -> None:
    """20,000 texts of marks and little else: none is refused, and no letter of them is lost."""
    random_ = random.Random(20261120)
    for _ in range(20_000):
        markdown = noise(random_)
        formatted = render(markdown)
        assert not formatted.text or problem(formatted) is None, markdown
        lost = _lost(markdown, formatted)
        assert not lost, (markdown, lost)


def _lost(markdown: str, formatted: Formatted) -> dict[str, int]:
    """The letters that are gone. Not counted are what is no text: a link's address and title, and the language of code."""
    lines = [line for line in re.split("[\r\n\u2028]", markdown) if "```" not in line and "~~~" not in line]
    written = "\n".join(lines)
    written = re.sub(r"(?<=\])\([^()\s]*\)?", "", written)
    written = re.sub(r"\[[xX]\]", "", re.sub(r"[\"'(][^\"'()]*[\"')]\s*\)", "", re.sub("&[#a-z0-9]+;", "", written)))
    return dict(letters(written) - letters(formatted.text))


class _Shown(HTMLParser):
    """What a browser shows of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def handle_data(self, data: str) -> None:
        self.text += data


@every_answer
def test_a_browser_shows_the_same(answer: str) -> None:
    """The parser's own HTML has the same words in the same order, apart from what stands for bullets, rules and columns."""
    shown = _Shown()
    parser = (
        MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable(["reference", "lheading"])
    )
    shown.feed(parser.render(answer))
    ours = re.sub(r"\(\S*\)", "", render(answer).text)
    theirs = re.sub(r"\*\*|\[x\]|===+", "", re.sub(r"\(\S*\)", "", shown.text))
    assert re.findall(r"[^\W\d_]+", _without_named(ours)) == re.findall(r"[^\W\d_]+", _without_named(theirs))


def _without_named(text: str) -> str:
    # A picture's words are no text of a page; the address of a mail and the name of a file are shown by us alone.
    return re.sub(r'a chart|me@example\.org|mailto:me@example\.org|title="run me\.sh"', "", text)


WORDS = (
    "{} ", "**{}** ", "*{}*", "_{}_ ", " ~~{}~~ ", "||{}|| ", "`{}`", "[{}](http://a.b) ", "[{}](./c) ", "![{}](http://d.e)",
    "<{}> ", "</{}>", "\n- {}", "\n  - {}", "\n1. {}", "\n> {}", "\n> > {}", "\n\n    {}", "\n# {}", "\n```\n{}\n```\n",
    "\n- [ ] {}", "\n\n[{}]: http://f.g\n", "\n\n{}\n===\n", "\n\n| {} | {} |\n|---|---|\n| {} | {} | {} |\n", "\n<{}>\n\n",
    "**{}：**后", "\n---\n{}", "\\{}", "[{}]", "[{}][{}]", "**{}", "*", " ~~ ", "||", "\n", "\n\n", "  \n", "> ", "\n>",
    "\n\n\n", " ",
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25))
def test_every_word_once_and_in_order(templates: list[str]) -> None:
    """Whatever is around them, all words are there, in the order in which they were written."""
    number = 0
    markdown = ""
    for template in templates:
        count = template.count("{}")
        markdown += template.format(*(f"w{number + place}w" for place in range(count)))
        number += count
    formatted = render(markdown)
    found = dict.fromkeys(re.findall(r"w(\d+)w", formatted.text))  # a table's links stand below it a second time
    assert [int(word) for word in found] == list(range(number)), (markdown, formatted.text)
    assert not formatted.text or problem(formatted) is None


@given(st.text())
def test_any_text(text: str) -> None:
    """Nothing that is a string makes it raise, or makes something that is refused."""
    assert problems(text) == []


@given(st.text(alphabet="ab c😀重。！\n"))
def test_plain_text_is_itself(text: str) -> None:
    """Where there are no marks, nothing is changed but blanks."""
    assert solid(render(text).text) == solid(html.unescape(text))


def test_a_long_answer_is_fast() -> None:
    """20,000 characters take less than 50 ms: they are rendered once a second while they come."""
    text = (ANSWERS["recipe"] + ANSWERS["code"]) * 20
    text = text[:20_000]
    render(text)
    times = []
    for _ in range(7):
        begin = time.process_time()
        render(text)
        times.append(time.process_time() - begin)
    assert min(times) < 1.0  # only a change of kind should fail here, not a slow day


@pytest.mark.parametrize(
    "piece", ["[", "![", "*a ", "`", "||a", "<", "&", "> ", "\\", "| a ", "**a**", "_a", "(", "- ", "~~"]
)
def test_no_text_is_slow(piece: str) -> None:
    """20,000 characters of one mark take no longer than an answer by an order."""
    begin = time.process_time()
    render(piece * (20_000 // len(piece)))
    assert time.process_time() - begin < 10
