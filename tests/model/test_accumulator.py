"""Events in, blocks out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.errors import ModelError
from nanochat.model.accumulator import Accumulator
from nanochat.records import Block, Json, Usage

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _fed(*events: Mapping[str, Json], stop_reason: str = "end_turn") -> tuple[Accumulator, list[str]]:
    heard: list[str] = []
    reply = Accumulator(heard.append)
    reply.feed({"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}})
    for event in events:
        reply.feed(event)
    reply.feed({"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 9}})
    reply.feed({"type": "message_stop"})
    return reply, heard


def _block(start: Block, *deltas: Block, index: int = 0) -> list[Block]:
    grown: list[Block] = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *grown,
        {"type": "content_block_stop", "index": index},
    ]


def _call(*pieces: str, index: int = 0) -> list[Block]:
    start: Block = {"type": "tool_use", "id": "t", "name": "add", "input": {}}
    return _block(start, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces), index=index)


def _cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(at % (len(text) + 1) for at in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@given(text=st.text(min_size=1), places=st.lists(st.integers(0, 200), max_size=6))
def test_text_is_whole_however_it_is_cut(text: str, places: list[int]) -> None:
    """The pieces told are the text kept."""
    deltas: list[Block] = [{"type": "text_delta", "text": piece} for piece in _cut(text, places)]
    reply, heard = _fed(*_block({"type": "text", "text": ""}, *deltas))
    assert reply.content() == ({"type": "text", "text": text},)
    assert "".join(heard) == reply.text == text


@given(text=st.text(min_size=1), places=st.lists(st.integers(0, 200), max_size=6))
def test_a_character_cut_in_two_is_one_again(text: str, places: list[int]) -> None:
    """Endpoints that cut between two UTF-16 escapes lose no character, and no half is ever told."""
    units = text.encode("utf-16-be")
    halves = "".join(chr(int.from_bytes(units[at : at + 2])) for at in range(0, len(units), 2))
    deltas: list[Block] = [{"type": "text_delta", "text": piece} for piece in _cut(halves, places)]
    _, heard = _fed(*_block({"type": "text", "text": ""}, *deltas))
    assert "".join(heard) == text
    for piece in heard:
        piece.encode()


def test_half_a_character_alone_is_replaced() -> None:
    """A lone surrogate has no form in UTF-8."""
    _, heard = _fed(*_block({"type": "text", "text": ""}, {"type": "text_delta", "text": "a\udc00b\ud800"}))
    assert heard == ["a\ufffdb"]


@given(arguments=st.dictionaries(st.text(), _json), places=st.lists(st.integers(0, 400), max_size=6))
def test_arguments_are_whole_however_they_are_cut(arguments: dict[str, Any], places: list[int]) -> None:
    """A call's JSON is parsed once, at the end."""
    reply, _ = _fed(*_call(*_cut(json.dumps(arguments), places)), stop_reason="tool_use")
    assert reply.content()[0]["input"] == arguments


def test_a_call_without_arguments() -> None:
    """No JSON at all is no argument at all."""
    reply, _ = _fed(*_call(""), stop_reason="tool_use")
    assert reply.content()[0]["input"] == {}


@pytest.mark.parametrize("stop_reason", ["max_tokens", "model_context_window_exceeded", "refusal"])
@pytest.mark.parametrize("piece", ['{"path": "a.t', ""], ids=["in the middle", "before its beginning"])
def test_a_cut_call_is_left_out(stop_reason: str, piece: str) -> None:
    """Half a path would be another file's."""
    text = _block({"type": "text", "text": ""}, {"type": "text_delta", "text": "wait"})
    reply, _ = _fed(*text, *_call(piece, index=1), stop_reason=stop_reason)
    assert reply.content() == ({"type": "text", "text": "wait"},)


@pytest.mark.parametrize("piece", ['{"a": ', "[1]", "nonsense"])
def test_a_call_that_is_no_object_is_an_error(piece: str) -> None:
    """A call that is to be carried out must be understood."""
    reply, _ = _fed(*_call(piece), stop_reason="tool_use")
    with pytest.raises(ModelError, match="add") as caught:
        reply.content()
    assert caught.value.kind == "protocol"


@pytest.mark.parametrize(
    "block",
    [
        pytest.param({"type": "redacted_thinking", "data": "x"}, id="redacted thinking"),
        pytest.param(
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result"}]},
            id="server tool's result",
        ),
        pytest.param({"type": "hologram", "rays": [1, 2, {"deep": None}]}, id="unknown"),
    ],
)
def test_other_blocks_stay_as_they_came(block: Block) -> None:
    """What is not understood is kept as it stood on the wire."""
    reply, heard = _fed(*_block(block))
    assert (reply.content(), heard) == ((block,), [])


def test_thinking_needs_its_signature() -> None:
    """Signed thinking can be sent back, cut thinking cannot."""
    think: Block = {"type": "thinking", "thinking": "", "signature": ""}
    signed = _block(
        think, {"type": "thinking_delta", "thinking": "h"}, {"type": "thinking_delta", "thinking": "m"},
        {"type": "signature_delta", "signature": "s"},
    )  # fmt: skip
    cut = _block(think, {"type": "thinking_delta", "thinking": "and"}, index=1)
    reply, heard = _fed(*signed, *cut)
    assert reply.content() == ({"type": "thinking", "thinking": "hm", "signature": "s"},)
    assert heard == []


def test_citations_are_gathered() -> None:
    """They stand with their text."""
    start: Block = {"type": "text", "text": "", "citations": []}
    deltas: list[Block] = [{"type": "citations_delta", "citation": {"n": 1}}, {"type": "text_delta", "text": "so"}]
    reply, _ = _fed(*_block(start, *deltas, {"type": "citations_delta", "citation": {"n": 2}}))
    assert reply.content() == ({"type": "text", "text": "so", "citations": [{"n": 1}, {"n": 2}]},)


def test_a_later_delta_grows_what_it_names() -> None:
    """Text is appended, anything else replaced."""
    deltas: list[Block] = [{"type": "rune_delta", "runes": "ab", "n": 1}, {"type": "rune_delta", "runes": "c", "n": 2}]
    reply, _ = _fed(*_block({"type": "rune", "runes": ""}, *deltas))
    assert reply.content() == ({"type": "rune", "runes": "abc", "n": 2},)


def test_empty_text_is_left_out() -> None:
    """Sent back, it would be refused, and the session with it."""
    reply, _ = _fed(*_block({"type": "text", "text": ""}))
    assert reply.content() == ()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param({}, Usage(), id="nothing"),
        pytest.param({"input_tokens": 5, "output_tokens": 2}, Usage(input=5, output=2), id="plain"),
        pytest.param(
            {"cache_read_input_tokens": 7, "cache_creation_input_tokens": 9},
            Usage(cache_read=7, cache_write=9),
            id="no split",
        ),
        pytest.param(
            {"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 4}},
            Usage(cache_write=5, cache_write_1h=4),
            id="split",
        ),
        pytest.param({"input_tokens": None, "cache_creation": None}, Usage(), id="nulls"),
        pytest.param({"input_tokens": "many"}, Usage(), id="nonsense"),
    ],
)
def test_usage(told: dict[str, Json], expected: Usage) -> None:
    """Four disjoint kinds of input; what is not said is zero."""
    reply = Accumulator(lambda _: None)
    reply.feed({"type": "message_start", "message": {"usage": told}})
    assert reply.usage() == expected


def test_later_usage_is_the_total() -> None:
    """The counts of `message_delta` replace, they do not add."""
    reply, _ = _fed()
    assert reply.usage() == Usage(input=3, output=9)


@given(event=st.dictionaries(st.sampled_from(["type", "index", "delta", "message", "content_block", "usage"]), _json))
def test_no_event_is_too_strange(event: dict[str, Any]) -> None:
    """Nonsense on the wire changes nothing, and breaks nothing."""
    for kind in ("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"):
        reply, _ = _fed({**event, "type": kind})
        reply.content()
        reply.usage()
