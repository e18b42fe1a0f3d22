"""Keys and file names: one to one, in every file system."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.errors import KeyFormError
from nanochat.keys import SessionKey
from nanochat.store.names import MAX_STEM_BYTES, key_of, nanobot_key_of, nanobot_stems, stem_of


def _key(channel: str, chat_id: str) -> SessionKey | None:
    try:
        return SessionKey(channel, chat_id)
    except KeyFormError:
        return None


CHANNELS = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
CHAT_IDS = st.text(min_size=1, max_size=120) | st.text("aA+%~:./\\-_ é", min_size=1, max_size=8)
KEYS = st.builds(_key, CHANNELS, CHAT_IDS).filter(lambda key: key is not None)


@pytest.mark.parametrize(
    ("key", "stem"),
    [
        ("telegram:12345", "telegram+12345"),
        ("telegram:-100:7", "telegram+-100+7"),
        ("cli:default", "cli+default"),
        ("http:A+b", "http+%41%2bb"),
        ("http:../x", "http+..%2fx"),
        ("http:x.", "http+x%2e"),
        ("cli:é", "cli+%c3%a9"),
    ],
)
def test_examples(key: str, stem: str) -> None:
    """A name reads like its key."""
    assert stem_of(SessionKey.parse(key)) == stem
    assert key_of(stem) == SessionKey.parse(key)


@given(KEYS)
def test_a_name_is_safe(key: SessionKey) -> None:
    """Lower case, no separators, not hidden, not too long."""
    stem = stem_of(key)
    assert re.fullmatch(r"[a-z][a-z0-9_.=@,+%~-]*[a-z0-9_=@,+~-]", stem)
    assert len(stem) <= MAX_STEM_BYTES


@given(KEYS)
def test_a_name_tells_its_key(key: SessionKey) -> None:
    """Unless it is shortened, and then it tells none."""
    stem = stem_of(key)
    assert key_of(stem) == (None if "~" in stem else key)


@given(KEYS, KEYS)
def test_names_are_injective(one: SessionKey, other: SessionKey) -> None:
    """Two keys have two names, also where case is folded."""
    assert (stem_of(one).casefold() == stem_of(other).casefold()) == (one == other)


def test_long_keys() -> None:
    """Keys that differ only at their end have names that begin alike and differ."""
    one, other = SessionKey("http", "x" * 380 + "a"), SessionKey("http", "x" * 380 + "b")
    assert stem_of(one)[:80] == stem_of(other)[:80]
    assert stem_of(one) != stem_of(other)
    assert len(stem_of(one)) == MAX_STEM_BYTES


@pytest.mark.parametrize(
    "stem", ["notes", "", "+x", "A+b", "cli+", "cli+%zz", "cli+%ff", "cli+A", "cli+%61", "cli+x~y"], ids=repr
)
def test_what_is_no_name_of_ours(stem: str) -> None:
    """It has no key; another way to write a name is none either."""
    assert key_of(stem) is None


@given(KEYS)
def test_nanobots_present_name(key: SessionKey) -> None:
    """It tells its key, and is never one of ours."""
    present = nanobot_stems(key)[0]
    assert nanobot_key_of(present) == key
    assert key_of(present) is None


def test_nanobots_older_name() -> None:
    """A colon and whatever some file system forbids is an underscore."""
    assert nanobot_stems(SessionKey.parse("http:a/b:c"))[1] == "http_a_b_c"
    assert nanobot_key_of("http_a_b_c") is None
