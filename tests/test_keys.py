"""Session keys: what may be one, and what is said of what may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.errors import KeyFormError
from nanochat.keys import MAX_KEY_BYTES, SessionKey


@pytest.mark.parametrize(
    ("text", "channel", "chat_id"),
    [
        ("telegram:12345", "telegram", "12345"),
        ("telegram:-100:7", "telegram", "-100:7"),
        ("cli:Übung 1", "cli", "Übung 1"),
        ("a-b_1:x", "a-b_1", "x"),
    ],
)
def test_parse(text: str, channel: str, chat_id: str) -> None:
    """A key splits at its first colon, and is written as it was read."""
    key = SessionKey.parse(text)
    assert (key.channel, key.chat_id, str(key)) == (channel, chat_id, text)


@pytest.mark.parametrize(
    "text",
    ["", "x", ":x", "cli:", "CLI:x", "1cli:x", "c li:x", "cli: x", "cli:x ", "cli:a\nb", "cli:\ud800", "a" * 33 + ":x"],
    ids=repr,
)
def test_what_is_no_key(text: str) -> None:
    """It is refused with the form that a key has."""
    with pytest.raises(KeyFormError, match=r"cli:default|printable text"):
        SessionKey.parse(text)


def test_a_forgotten_channel() -> None:
    """The key that was probably meant is named."""
    with pytest.raises(KeyFormError, match="did you mean cli:default"):
        SessionKey.parse("default")


def test_the_longest_key() -> None:
    """The limit counts bytes, not letters."""
    assert SessionKey("cli", "x" * (MAX_KEY_BYTES - 4))
    for chat_id in ("x" * (MAX_KEY_BYTES - 3), "é" * (MAX_KEY_BYTES // 2 - 1)):
        with pytest.raises(KeyFormError, match="longer than 400 bytes"):
            SessionKey("cli", chat_id)


@given(st.text(max_size=40))
def test_any_text_is_a_key_or_is_refused(text: str) -> None:
    """Nothing else happens, and a key reads back as itself."""
    try:
        key = SessionKey.parse(text)
    except KeyFormError:
        return
    assert SessionKey.parse(str(key)) == key


def test_keys_are_values() -> None:
    """They are equal, hashed and ordered by what they name."""
    one, other = SessionKey("cli", "a"), SessionKey("telegram", "1")
    assert {one: 1}[SessionKey.parse("cli:a")] == 1
    assert sorted([other, one]) == [one, other]
