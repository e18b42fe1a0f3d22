"""Long texts become several messages: within the limits, without a loss, and for a text that grows without a change."""

# ruff: noqa: RUF001 - Chinese has its own comma

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import iter_graphemes

from nanochat.channels.telegram.split import LIMIT_UNITS, MAX_ENTITIES, MAX_PARTS, SOFT_UNITS, overflow, split
from nanochat.channels.telegram.text import Block, Entity, Formatted, render, units
from tests.telegram.samples import ANSWERS, covered, noise, problem, solid, told

# The law holds at every size; a small one makes many messages of little text.
SOFT, LIMIT = 380, 420


def small(markdown: str) -> list[Formatted]:
    """Messages of a size that makes many of them."""
    return split(render(markdown), soft_units=SOFT, limit_units=LIMIT)


def texts(parts: Sequence[Formatted]) -> list[str]:
    return [part.text for part in parts]


def test_a_short_text_is_one_message() -> None:
    """Nothing is changed where nothing has to be."""
    formatted = render(ANSWERS["recipe"])
    assert split(formatted) == [formatted]


@pytest.mark.parametrize("markdown", ["", "\n", "```\n```"])
def test_nothing_gives_no_message(markdown: str) -> None:
    """There is no message without a text."""
    assert split(render(markdown)) == []


def test_cuts_between_blocks() -> None:
    """A paragraph that does not fit begins a message."""
    assert texts(small("a" * 200 + "\n\n" + "b" * 200 + "\n\n" + "c" * 100)) == [
        "a" * 200,
        "b" * 200 + "\n\n" + "c" * 100,
    ]


def test_cuts_between_items() -> None:
    """A list is cut between its outermost items, never between an item and what belongs to it."""
    items = [f"{number}. {'x' * 80}\n   - {'y' * 80}\n" for number in range(1, 6)]
    assert [text[:2] for text in texts(small("".join(items)))] == ["1.", "3.", "5."]


def test_a_heading_stays_with_what_follows() -> None:
    """No message ends in a heading."""
    parts = small("a" * 300 + "\n\n# H\n\n## I\n\n" + "b" * 100)
    assert texts(parts) == ["a" * 300, "H\n\nI\n\n" + "b" * 100]


def test_addresses_take_no_room() -> None:
    """What is not seen of a link does not fill a message."""
    assert len(small("\n\n".join(f"[word](http://example.org/{'x' * 90})" for _ in range(10)))) == 1


def test_code_is_closed_and_opened_again() -> None:
    """Code that fills more than a message is code in all of them, in its language, cut at a line, with its indentation."""
    lines = [f"    line {number}" for number in range(100)]
    parts = small("before\n\n```py\n" + "\n".join(lines) + "\n```\n\nafter")
    assert parts[0].text == "before"
    assert parts[-1].text.endswith("\n\nafter")
    for part in parts[1:]:
        assert [(entity.type, entity.language, entity.offset) for entity in part.entities] == [("pre", "py", 0)]
        assert part.text.startswith("    line ")
    assert "\n".join(covered(part, part.entities[0]) for part in parts[1:]) == "\n".join(lines)


def test_a_quote_goes_on() -> None:
    """So does every other entity that covers both sides of a cut."""
    parts = small("> **word" + " word" * 200 + "**")
    assert len(parts) > 1
    assert all(told(part) == [("blockquote", part.text), ("bold", part.text)] for part in parts)


def test_one_paragraph_is_cut_after_sentences() -> None:
    """Inside a block lines are best, then sentences, then words."""
    parts = small("Nine words make a sentence that ends in one. " * 20)
    assert all(part.text.endswith("one.") for part in parts)


def test_chinese_has_no_blanks() -> None:
    """Its own stops serve as well."""
    parts = small("这是一句话，很长。" * 100)
    assert all(part.text.endswith("。") for part in parts)


@pytest.mark.parametrize("character", ["😀", "👩‍👧", "é", "🇨🇭", "x"], ids=ascii)
def test_no_character_is_torn(character: str) -> None:
    """Where there is nothing but characters the cut is between those that a reader sees."""
    parts = small(character * 500)
    assert "".join(texts(parts)) == character * 500
    assert {grapheme for part in parts for grapheme in iter_graphemes(part.text)} == {character}


def test_few_entities_in_a_message() -> None:
    """The server would drop all beyond the hundredth."""
    for markdown in ("`a` " * 450, "- **a** *b*\n" * 200, "> " + "||a|| " * 300):
        parts = split(render(markdown))
        assert max(len(part.entities) for part in parts) == MAX_ENTITIES == 100
        assert solid("".join(texts(parts))) == solid(render(markdown).text)
        assert len(parts) <= 5


def test_a_table_wider_than_its_source() -> None:
    """What fills the columns counts."""
    parts = split(render("|a|b|\n|-|-|\n" + "|x|y|\n" * 300 + f"|{'w' * 36}|z|\n"))
    assert len(parts) > 2
    assert all(problem(part) is None and part.entities[0].type == "pre" for part in parts)


def test_text_that_was_not_rendered() -> None:
    """A text without blocks is one block."""
    parts = split(Formatted("word " * 1000, (Entity("bold", 0, 4999),)))
    assert len(parts) == 2
    assert all(told(part) == [("bold", part.text)] for part in parts)


@pytest.mark.parametrize(
    ("marker", "settled"),
    [("# b", False), ("- b", False), ("# b\n", True), ("\n# b", True), ("> b\nc", True)],
    ids=ascii,
)
def test_a_block_that_may_yet_join(marker: str, settled: bool) -> None:
    """Right below another block a line has to end before it is certain that it begins one."""
    blocks = render("a\n" + marker).blocks
    assert [block.settled for block in blocks] == [True, settled]
    assert blocks[0] == Block(0, 1)


def test_what_is_too_long_to_read() -> None:
    """More than four messages are a document."""
    one = Formatted("x")
    assert not overflow([one] * MAX_PARTS)
    assert overflow([one] * (MAX_PARTS + 1))


def test_limits() -> None:
    """Ours leave room for the end of a text, and are not above Telegram's."""
    assert SOFT_UNITS < LIMIT_UNITS == 4096


def check(formatted: Formatted, parts: Sequence[Formatted], limit: int) -> None:
    """Every message is accepted, and nothing but blanks is lost; neither is an entity of what is there."""
    assert [why for part in parts if (why := problem(part, limit)) is not None] == []
    assert solid("".join(texts(parts))) == solid(formatted.text)
    for kind in ("pre", "code", "bold", "blockquote", "text_link"):
        whole = "".join(text for type_, text in told(formatted) if type_ == kind)
        assert solid("".join(text for part in parts for type_, text in told(part) if type_ == kind)) == solid(whole)


def test_noise() -> None:
    """Whatever it is, its messages are accepted, and hold it all."""
    random_ = random.Random(7)
    for _ in range(1500):
        markdown = noise(random_, 120)
        limit = random_.choice([24, 60, 200])
        formatted = render(markdown)
        check(formatted, split(formatted, soft_units=limit - limit // 12, limit_units=limit), limit)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_answers(answer: str) -> None:
    """Realistic text at every beginning, in small messages and in real ones."""
    for end in range(0, len(answer) + 1, 3):
        formatted = render(answer[:end])
        check(formatted, split(formatted, soft_units=SOFT, limit_units=LIMIT), LIMIT)
    long = render("\n\n".join([answer] * 20))
    check(long, split(long), LIMIT_UNITS)
    assert all(units(part.text) <= SOFT_UNITS for part in split(long))


def broken_law(text: str, first: int = 0) -> str | None:
    """The first beginning of a text that lacks a full message which a shorter one had shown."""
    full: list[Formatted] = []
    for end in range(first, len(text) + 1):
        parts = small(text[:end])
        if parts[: len(full)] != full:
            return text[:end]
        full = max(full, parts[:-1], key=len)
    return None


WORDS = (
    "alpha", "beta gamma", "`code x`", "**bold it**", "*it*", "~~no~~", "||hide||", "[link](http://ex.org/a)", "end.",
    "**重点：**后", "😀😀", "a_b", "_x_", "***both***", "`` ` ``", "<b>", "&amp;", "\\*", "1.", "-", "#", "10",
)  # fmt: skip

lines = st.lists(st.sampled_from(WORDS), min_size=1, max_size=7).map(" ".join)
plain_lines = st.lists(st.sampled_from(WORDS[:15]), min_size=1, max_size=7).map(" ".join)


@st.composite
def blocks(draw: st.DrawFn) -> str:
    """One block, with the line end or the empty lines behind it."""
    end = draw(st.sampled_from(["\n\n", "\n\n", "\n", "\n\n\n"]))
    match draw(st.sampled_from(["paragraph", "bullets", "numbers", "heading", "code", "quote", "rule", "table"])):
        case "paragraph":
            text = "\n".join(draw(st.lists(lines, min_size=1, max_size=3)))
        case "bullets":
            inner = st.sampled_from(["", "\n", "\n  - sub\n  - **sub**", "\n\n  para"])
            text = "\n".join(f"- {draw(lines)}{draw(inner)}" for _ in range(draw(st.integers(1, 5))))
        case "numbers":
            text = "\n".join(
                f"{n + 1}. {draw(lines)}{draw(st.sampled_from(['', chr(10)]))}" for n in range(draw(st.integers(1, 5)))
            )
        case "heading":
            text = f"{'#' * draw(st.integers(1, 3))} {draw(plain_lines)}"
        case "code":
            count = draw(st.one_of(st.integers(0, 6), st.integers(30, 80)))
            text = "```py\n" + "\n".join(f"  x = {n}" + "\n" * (n % 7 == 3) for n in range(count)) + "\n```"
        case "quote":
            text = "\n".join(f"> {line}" for line in draw(st.lists(plain_lines, min_size=1, max_size=3)))
        case "rule":
            text = "---"
        case _:
            end = "\n\n"  # a line right below a table is one of its rows
            rows = draw(st.lists(st.sampled_from(WORDS[:8]), max_size=3))
            text = "| a | b |\n|---|--:|\n" + "\n".join(f"| {row} | x |" for row in rows)
    return text + end


@settings(max_examples=30, deadline=None)
@given(st.lists(blocks(), min_size=2, max_size=9).map("".join))
def test_full_messages_stay(text: str) -> None:
    """The law: at every character of a text that grows, the messages before the last one stay what they were."""
    assert broken_law(text) is None


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_full_messages_of_an_answer_stay(answer: str) -> None:
    """It holds for answers as they are."""
    assert broken_law(answer + "\n\n" + answer) is None


@pytest.mark.parametrize(
    "end",
    [
        "para\n#tag",
        "para\n1. item",
        "para\n- item\n-b",
        "para\n***bold***",
        "para\n```x``` y",
        "- a\n\n-b\n",
        "1. a\n\n2 b\n\n2. b",
        "```\nx\n``\n```\n# &\n",
        "a [b](http://c.d) **e** `f`",
        "a\n| b | c |\n|---|---|\n\nd",
        "|a|\n|-|\n|`b`|\n\nc",
    ],
    ids=ascii,
)
def test_full_messages_stay_at_their_very_edge(end: str) -> None:
    """The law holds also where the last thing that fits may still become another one."""
    for room in range(60):
        filling = "x" * (SOFT - room) + "\n\n"
        assert broken_law(filling + end + "\n\nmore", len(filling)) is None


def test_long_code_that_grows() -> None:
    """Code of any length keeps its full messages, also where a line of it looks like its end."""
    code = "".join(f"    value_{number} = ``{number}``\n" + "``\n" * (number % 5 == 0) for number in range(60))
    assert broken_law(f"Here it is:\n\n```py\n{code}```\n\nThat was it.\n") is None


def test_code_that_ends_at_the_edge() -> None:
    """The line that closes it looked like code until it was complete."""
    for room in range(30):
        code = "x" * 250 + "\n\n" + "y" * (SOFT - room - 252)
        assert broken_law(f"```\n{code}\n```\nend\n", len(code)) is None


def test_a_long_answer_is_fast() -> None:
    """Splitting costs less than rendering."""
    formatted = render("\n\n".join(ANSWERS.values()) * 20)
    times = []
    for _ in range(5):
        begin = time.process_time()
        split(formatted)
        times.append(time.process_time() - begin)
    assert min(times) < 1.0  # only a change of kind should fail here, not a slow day
