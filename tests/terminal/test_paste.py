"""Pastes, however they come."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys

from nanochat.channels.terminal.paste import PasteParser

TYPED = "a\x1b[A\x1b[200~one \x1b[201 \x1b[20two\x1b[201~b\x1b\r\x1b[200~\x1b[201~\x1b"


def keys_of(make: Callable[[Callable[[KeyPress], None]], Vt100Parser], pieces: list[str]) -> list[tuple[object, str]]:
    keys: list[KeyPress] = []
    parser = make(keys.append)
    for piece in pieces:
        parser.feed(piece)
    parser.flush()
    return [(key.key, key.data) for key in keys]


def ours(feed_key: Callable[[KeyPress], None]) -> PasteParser:
    return PasteParser(feed_key, 1000, lambda size_bytes: None)


@given(st.lists(st.integers(0, len(TYPED)), max_size=8))
def test_the_keys_are_those_of_the_library(cuts: list[int]) -> None:
    """Wherever what comes is cut."""
    places = [0, *sorted(cuts), len(TYPED)]
    pieces = [TYPED[start:end] for start, end in itertools.pairwise(places)]
    assert keys_of(ours, pieces) == keys_of(Vt100Parser, [TYPED])


@pytest.mark.parametrize("size", [10, 11], ids=["fits", "too much"])
def test_what_is_too_much_is_refused_with_its_size(size: int) -> None:
    """In bytes, and what comes behind it is taken."""
    refused: list[int] = []
    keys: list[KeyPress] = []
    parser = PasteParser(keys.append, 20, refused.append)
    parser.feed("\x1b[200~" + "ü" * size + "\x1b[201~b")
    assert refused == ([] if size == 10 else [22])
    assert [key.key for key in keys] == ([Keys.BracketedPaste, "b"] if size == 10 else ["b"])


def test_a_long_paste_costs_its_length() -> None:
    """Three megabytes in pieces of a kilobyte take nowhere near a second."""
    keys: list[KeyPress] = []
    parser = PasteParser(keys.append, 10_000_000, lambda size_bytes: None)
    began_s = time.process_time()
    parser.feed("\x1b[200~")
    for _ in range(3000):
        parser.feed("x" * 1000)
    parser.feed("\x1b[201~")
    assert time.process_time() - began_s < 10
    assert len(keys[0].data) == 3_000_000
