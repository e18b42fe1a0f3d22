"""What a reply says, event by event."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nanochat.channels.telegram.words import Words
from nanochat.events import Notice, ReplyEvent, TextDelta, ToolFinished, ToolStarted, TurnDone, TurnFailed


def words(*events: ReplyEvent) -> Words:
    said = Words()
    for event in events:
        said.add(event)
    return said


@given(st.lists(st.text()))
def test_the_text_is_exact(pieces: list[str]) -> None:
    """All pieces, nothing else."""
    assert words(*map(TextDelta, pieces), TurnDone("".join(pieces))).text == "".join(pieces)


def test_what_comes_after_a_tool_is_a_new_paragraph() -> None:
    """Two rounds of a turn do not run into each other."""
    tool = (ToolStarted("1", "x", "x"), ToolFinished("1", "x", ok=True, seconds=1))
    assert words(TextDelta("One."), *tool, TextDelta("Two.")).text == "One.\n\nTwo."
    assert words(TextDelta("One.\n"), *tool, TextDelta("Two.")).text == "One.\nTwo."
    assert words(*tool, TextDelta("Two.")).text == "Two."


def test_several_tools_are_one_line() -> None:
    """The latest, and how many more."""
    said = words(ToolStarted("1", "a", "first"), ToolStarted("2", "b", "second\nline " + "x" * 300))
    assert said.line.startswith("⏳ second line xxx")
    assert said.line.endswith("… (and 1 more)")
    said.add(ToolFinished("2", "b", ok=True, seconds=1))
    assert said.line == "⏳ first"


def test_nothing_counts_after_the_end() -> None:
    """There is exactly one."""
    said = words(TurnDone("a"), TextDelta("b"), TurnFailed("c"), Notice("d"))
    assert (said.text, said.line) == ("a", "")


def test_an_ending_takes_the_place_of_a_notice() -> None:
    """What was waited for is over; without an ending of its own, a remark stays."""
    assert words(Notice("trying again in 4 s"), TurnFailed("overloaded")).line == "⚠️ overloaded"
    assert words(Notice("waiting for a turn"), TurnDone("", mark="stopped")).line == "(stopped)"
    assert words(TextDelta("a"), Notice("90% in use"), TurnDone("a")).line == "90% in use"


def test_what_is_kept_is_said_once() -> None:
    """The message says so itself."""
    assert words(TurnFailed("cut; what was said is kept", kept=True)).line == "⚠️ cut; what was said is kept"


def test_unknown_marks_are_told_as_they_are() -> None:
    """A mark that comes later is still a reason."""
    assert words(TurnDone("a", mark="tired")).line == "(cut short: tired)"
