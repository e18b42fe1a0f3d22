"""The wording of status lines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.channels.terminal import words
from nanochat.events import TurnFailed, TurnStats
from tests.fakes.scripted_handler import STATS


@given(st.text())
def test_clean_text_holds_nothing_that_steers(text: str) -> None:
    """Only line feeds and tabs are left of the control characters, and the text can be encoded."""
    cleaned = words.clean(text)
    assert all(char in "\n\t" or not (ord(char) < 32 or 127 <= ord(char) < 160) for char in cleaned)
    cleaned.encode()


@given(st.text(), st.text())
def test_pieces_are_cleaned_like_the_whole(one: str, two: str) -> None:
    """A sequence that comes in two pieces has no more power, and a line end cut in two is one."""
    assert words.clean(one) + words.clean(two) == words.clean(one + two)


@pytest.mark.parametrize(
    ("stats", "line"),
    [
        (STATS, "1,000 in · 20 out · 90% from cache · $0.0123 · context 1,020 of 16,000 · 1.2 s"),
        (
            replace(STATS, cost_usd=None),
            "1,000 in · 20 out · 90% from cache · price unknown · context 1,020 of 16,000 · 1.2 s",
        ),
        (
            replace(STATS, budget_tokens=0),
            "1,000 in · 20 out · 90% from cache · $0.0123 · context 1% of 200,000 · 1.2 s",
        ),
    ],
    ids=["all", "no price", "no budget"],
)
def test_usage_line(stats: TurnStats, line: str) -> None:
    """Tokens, cache, money, context and time."""
    assert words.usage_line(stats) == line


def test_a_failure_is_one_line() -> None:
    """Whatever the error's text looks like."""
    assert words.failure(TurnFailed("a\nb\x1b[2J", "e1")) == "a b\ufffd[2J (error e1)"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is bold then, and not red."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert words.red("x") == "\x1b[1mx\x1b[0m"


@pytest.mark.parametrize(
    ("failed", "line"),
    [
        (TurnFailed("busy", retryable=True, retry_after_s=12.2), "busy; try again in 13 s"),
        (TurnFailed("busy", retryable=True, retry_after_s=170), "busy; try again in 3 min"),
        (TurnFailed("busy", retryable=True, retry_after_s=7201), "busy; try again in 3 h"),
        (TurnFailed("busy", retry_after_s=12), "busy"),
        (TurnFailed("wait 12 s", kind="limit", retryable=True, retry_after_s=12), "wait 12 s"),
        (TurnFailed("cut; what came so far is kept", kept=True), "cut; what came so far is kept"),
    ],
    ids=["seconds", "minutes", "hours", "not retryable", "a limit", "kept"],
)
def test_a_failure_says_when_to_try_again(failed: TurnFailed, line: str) -> None:
    """Where somebody said so, and its own words do not; and nothing twice."""
    assert words.failure(failed) == line


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("a\nb", "     b"),
        ("\n".join(map(str, range(20))), "     19"),
        ("\n".join(map(str, range(21))), "     … (13 more lines)"),
        ("x" * 4096, "you> " + "x" * 4096),
        ("x" * 4097, "     … (3,073 more characters)"),
        ("y\n" + "x" * 5000, "     … (3,978 more characters)"),
    ],
    ids=["short", "20 lines", "21 lines", "4 KB", "more", "a long last line"],
)
def test_a_long_message_is_repeated_in_short(text: str, last: str) -> None:
    """It was seen when it was pasted."""
    assert words.echo(text)[-1] == last


def test_one_is_no_plural() -> None:
    """Nor is none one."""
    assert [words.counted(n, "turn") for n in (0, 1, 2000)] == ["0 turns", "1 turn", "2,000 turns"]
