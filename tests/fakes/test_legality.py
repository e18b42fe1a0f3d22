"""The fake refuses what the Messages API refuses."""

from __future__ import annotations

from typing import cast

import pytest

from nanochat.records import Block, Json
from tests.fakes.legality import breakpoints, refusal, sign

HI: Block = {"role": "user", "content": "hi"}
HELLO: Block = {"role": "assistant", "content": "hello"}
CALL: Block = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
RESULT: Block = {"type": "tool_result", "tool_use_id": "t1", "content": "seen"}
SEARCH: Block = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
FOUND: Block = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
MARK: Block = {"type": "ephemeral", "ttl": "5m"}
HOUR: Block = {"type": "ephemeral", "ttl": "1h"}
TOOL: Block = {"name": "look", "input_schema": {"type": "object"}}


def request(*messages: Block, **fields: Json) -> dict[str, Json]:
    return {"model": "m", "max_tokens": 10, "messages": list(messages), **fields}


def user(*blocks: Block) -> Block:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Block) -> Block:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str, **fields: Json) -> Block:
    return {"type": "text", "text": words, **fields}


LEGAL: dict[str, dict[str, Json]] = {
    "one line": request(HI),
    "neighbours of one role": request(HI, HI, HELLO, HELLO, HI),
    "a call and its result": request(HI, assistant(CALL), user(RESULT, text("and?"))),
    "results in two neighbours": request(
        HI, assistant(CALL, {**CALL, "id": "t2"}), user(RESULT), user({**RESULT, "tool_use_id": "t2"})
    ),
    "a server tool": request(HI, assistant(SEARCH, FOUND, text("found")), HI),
    "a paused server tool": request(HI, assistant(SEARCH)),
    "a server's result after a client's": request(
        HI, assistant(SEARCH, CALL), user(RESULT), assistant(FOUND, text("a")), HI
    ),
    "a block yet to come": request(HI, assistant({"type": "hologram"}, text("see")), HI),
    "four breakpoints": request(
        user(text("a", cache_control=MARK), text("b", cache_control=MARK)),
        tools=[{**TOOL, "cache_control": HOUR}],
        system=[text("s", cache_control=HOUR)],
    ),
    "a schema with a field of that name": request(
        HI, tools=[{"name": "look", "input_schema": {"type": "object", "properties": {"cache_control": {}}}}] * 1
    ),
    "a server tool without a schema": request(HI, tools=[{"type": "web_search_20260318", "name": "web_search"}]),
}

ILLEGAL: dict[str, tuple[dict[str, Json], str]] = {
    "no messages": (request(), "at least one message"),
    "assistant first": (request(HELLO, HI), "first message must use"),
    "prefill": (request(HI, HELLO), "prefill"),
    "another role": (request({"role": "system", "content": "x"}), "role"),
    "a field of ours": (request({**HI, "timestamp": "now"}), "Extra inputs"),
    "empty string": (request({"role": "user", "content": ""}), "non-empty content"),
    "empty list": (request(user()), "non-empty content"),
    "empty text": (request(user(text(""))), "must be non-empty"),
    "blank text": (request(user(text(" \n"))), "non-whitespace"),
    "cached empty text": (request(user(text("", cache_control=MARK))), "cache_control cannot be set for empty text"),
    "null in a block": (request(user(text("a", caller=None))), "Extra inputs"),
    "unknown block": (request(user({"type": "hologram"})), "does not match"),
    "our blob": (request(user({"type": "image", "source": {"type": "blob", "sha256": "ab"}})), "source"),
    "five breakpoints": (request(user(*(text("a", cache_control=MARK) for _ in range(5)))), "maximum of 4"),
    "automatic fifth": (
        request(user(*(text("a", cache_control=MARK) for _ in range(4))), cache_control=MARK),
        "maximum of 4",
    ),
    "an hour after five minutes": (
        request(user(text("a", cache_control=HOUR)), system=[text("s", cache_control=MARK)]),
        "must not come after",
    ),
    "another lifetime": (request(user(text("a", cache_control={"type": "ephemeral", "ttl": "1d"}))), "'5m' or '1h'"),
    "call unanswered at the end": (request(HI, assistant(CALL)), "prefill"),
    "call unanswered": (request(HI, assistant(CALL), HI), "without `tool_result` blocks immediately after"),
    "call answered too late": (request(HI, assistant(CALL), HI, HELLO, user(RESULT)), "immediately after"),
    "result of nothing": (request(user(RESULT)), "unexpected `tool_use_id`"),
    "result twice": (request(HI, assistant(CALL), user(RESULT, RESULT)), "single result"),
    "text before the result": (request(HI, assistant(CALL), user(text("so"), RESULT)), "must come before"),
    "an id twice": (request(HI, assistant(CALL), user(RESULT), assistant(CALL), user(RESULT)), "must be unique"),
    "a bad id": (request(HI, assistant({**CALL, "id": "a|b"}), user({**RESULT, "tool_use_id": "a|b"})), "pattern"),
    "arguments as text": (request(HI, assistant({**CALL, "input": "{}"}), user(RESULT)), "object"),
    "empty text in a result": (request(HI, assistant(CALL), user({**RESULT, "content": [text("")]})), "non-empty"),
    "abandoned server tool": (request(HI, assistant(SEARCH, text("a")), HI), "without a corresponding result"),
    "server's result of nothing": (request(HI, assistant(FOUND, text("a")), HI), "unexpected `tool_use_id`"),
    "a reply that ends in thought": (
        request(HI, assistant({"type": "thinking", "thinking": "", "signature": sign(request(HI))}), HI),
        "cannot be `thinking`",
    ),
    "lone surrogate": (request(user(text("a\ud800"))), "surrogate"),
    "not a number": (request(HI, assistant({**CALL, "input": {"a": float("nan")}}), user(RESULT)), "not valid JSON"),
    "no tokens": ({**request(HI), "max_tokens": 0}, "greater than or equal to 1"),
    "temperature": (request(HI, temperature=0.5), "not supported"),
    "unknown field": (request(HI, purpose="turn"), "Extra inputs"),
    "no model": ({"max_tokens": 1, "messages": [HI]}, "model"),
    "nameless tool": (request(HI, tools=[{"input_schema": {"type": "object"}}]), "pattern"),
    "tool without schema": (request(HI, tools=[{"name": "look"}]), "input_schema"),
    "tools of one name": (request(HI, tools=[TOOL, TOOL]), "unique"),
    "empty system": (request(HI, system=[text("")]), "non-empty"),
}


@pytest.mark.parametrize("body", LEGAL.values(), ids=LEGAL.keys())
def test_a_legal_body_is_taken(body: dict[str, Json]) -> None:
    """What the API answers is not refused."""
    assert refusal(body) is None


@pytest.mark.parametrize(("body", "words"), ILLEGAL.values(), ids=ILLEGAL.keys())
def test_an_illegal_body_is_refused(body: dict[str, Json], words: str) -> None:
    """Each refusal tells which law was broken."""
    assert words in (refusal(body) or "")


THINKS = request(HI, system="Be kind.", tools=[TOOL])
THOUGHT: Block = {"type": "thinking", "thinking": "", "signature": sign(THINKS)}


def test_a_thought_is_taken_back_behind_its_own_prefix() -> None:
    """Cache marks, and the way text is written down, are no part of it."""
    later = request(user(text("hi", cache_control=MARK)), assistant(THOUGHT, text("hello")), HI)
    body = {**later, "system": [text("Be kind.", cache_control=HOUR)], "tools": [TOOL]}
    assert refusal(body) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"system": "Be stern."},
        {"tools": []},
        {"messages": [user(text("hey")), assistant(THOUGHT, text("hello")), HI]},
        {"messages": [HI, HI, assistant(THOUGHT, text("hello")), HI]},
    ],
    ids=["system", "tools", "message", "one more"],
)
def test_a_thought_is_refused_behind_another_prefix(changed: dict[str, Json]) -> None:
    """Whatever stood before it is bound to it."""
    body = {**THINKS, "messages": [HI, assistant(THOUGHT, text("hello")), HI], **changed}
    assert "Invalid `signature`" in (refusal(body) or "")


def test_a_continued_reply_is_signed_like_its_beginning() -> None:
    """After a pause the reply goes on in the same message, behind the same prefix."""
    paused = request(HI, assistant(SEARCH))
    thought: Block = {"type": "thinking", "thinking": "", "signature": sign(paused)}
    assert refusal(request(HI, assistant(SEARCH), assistant(FOUND, thought, text("found")), HI)) is None


def test_marks_are_found_in_the_order_of_the_prefix() -> None:
    """Tools, system, messages; a call's own arguments are not looked into."""
    call = {**CALL, "input": {"cache_control": 1}}
    body = request(
        HI,
        assistant(cast(Block, call)),
        user({**RESULT, "cache_control": MARK}),
        system=[text("s", cache_control=HOUR)],
    )
    assert [where for where, _ in breakpoints(body)] == ["system.0", "messages.2.content.0"]
    assert refusal(body) is None
