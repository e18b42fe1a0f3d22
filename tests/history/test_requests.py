"""What is sent is legal whatever the records are, and is never rewritten without need."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.history import INTERRUPTED, prefix_hash, render, system_blocks, tail, with_breakpoints
from nanochat.history.exchanges import begins_exchange, pins_needed
from nanochat.records import (
    Block,
    Compact,
    Content,
    Event,
    Json,
    Message,
    Record,
    Reset,
    SetValue,
    Snapshot,
    State,
    TurnEnd,
)
from tests.fakes.legality import breakpoints, refusal
from tests.fakes.talk import TOOLS, Talk, flat, view_of

AT = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)
PREFIX = "0123456789ab"


def lines(*records: Message | Event) -> list[Record]:
    """The records as they would stand in a file."""
    placed: list[Record] = []
    n = 0
    for i, record in enumerate(records):
        if isinstance(record, Message):
            placed.append(replace(record, n=n, start=100 * i, end=100 * i + 100))
            n += 1
        else:
            placed.append(Snapshot(State("cli:default", AT, AT, n=n), record, 100 * i, 100 * i + 100))
    return placed


def user(content: Content, **fields: object) -> Message:
    return replace(Message("user", content, AT), **fields)  # type: ignore[arg-type]  # fields of a message by name


def assistant(content: Content, **fields: object) -> Message:
    return replace(Message("assistant", content, AT), **fields)  # type: ignore[arg-type]  # fields of a message by name


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def call(name: str) -> Block:
    return {"type": "tool_use", "id": name, "name": "look", "input": {}}


def result(name: str, words: str = "seen") -> Block:
    return {"type": "tool_result", "tool_use_id": name, "content": words}


def body(messages: Sequence[Block]) -> dict[str, Json]:
    """The request that these messages are sent in, pictures put in their places."""
    marked = with_breakpoints(messages, ttl="1h")
    sent = json.loads(
        json.dumps(marked).replace('{"type": "blob"}', '{"type": "url", "url": "https://example.org/a.png"}')
    )
    return {
        "model": "m-1",
        "max_tokens": 10,
        "system": list(system_blocks("Be kind.", "1h")),
        "tools": list(TOOLS),
        "messages": sent,
    }


# --- legal, whatever the records are ---------------------------------------------------------------------------------

words = st.sampled_from(
    ["", " \n", "hello", "\ud800 alone", "</pinned> & <summary_of_earlier_conversation>", "ěšč 你好 🙂"]
)
ids = st.sampled_from(["t1", "t2", "t3", "t3|fc.9", "", "s1"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.just(float("nan")) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
blocks = st.one_of(
    st.builds(lambda value: {"type": "text", "text": value}, words),
    st.builds(
        lambda value: {"type": "text", "text": value, "citations": None, "cache_control": {"type": "ephemeral"}}, words
    ),
    st.builds(
        lambda name, value: {"type": "tool_use", "id": name, "name": "look", "input": {"a": value}}, ids, json_values
    ),
    st.builds(lambda name, value: {"type": "tool_result", "tool_use_id": name, "content": value}, ids, words),
    st.builds(
        lambda name, inner: {"type": "tool_result", "tool_use_id": name, "content": inner, "is_error": True},
        ids,
        st.lists(st.builds(text, words) | st.just({"type": "tool_use", "id": "x"}), max_size=2),
    ),
    st.builds(
        lambda name: {"type": "server_tool_use", "id": name, "name": "web_search", "input": {}}, st.sampled_from("sr")
    ),
    st.builds(
        lambda name: {"type": "web_search_tool_result", "tool_use_id": name, "content": []}, st.sampled_from("srq")
    ),
    st.just({"type": "hologram", "cube": 3}),
    st.just({"type": "image", "source": {"type": "blob"}}),
    st.just({"type": "image", "source": {"type": "nowhere"}}),
    st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
    st.just({"type": "redacted_thinking", "data": "other"}),
    st.just({"type": "thinking", "thinking": "hm", "signature": "other"}),
    st.just({"type": "thinking"}),
    st.dictionaries(st.sampled_from(["type", "text", "id", "source"]), json_values, max_size=3),
)
extras = st.one_of(
    st.just({}),
    st.just({"_command": True}),
    st.just({"_hidden_history": True}),
    st.builds(lambda name: {"tool_call_id": name}, ids),
    st.builds(
        lambda name, value: {
            "tool_calls": [{"id": name, "type": "function", "function": {"name": "look", "arguments": value}}]
        },
        ids,
        st.sampled_from(["{}", "[1]", "{broken", '{"a": NaN}', ""]),
    ),
    st.builds(lambda value: {"tool_calls": value}, json_values),
)
any_message = st.builds(
    lambda role, content, prefix, mark, clock, delivered, extra: Message(
        role, content, AT, prefix=prefix, mark=mark, clock=clock, delivered=delivered, extra=extra
    ),
    st.sampled_from(["user", "assistant", "user", "assistant", "tool", "system", "developer"]),
    words | st.lists(blocks, max_size=4),
    # Nobody has signed what stands under another prefix than the request's own.
    st.sampled_from(["", "ffffffffffff"]),
    st.sampled_from(["", "", "stopped", "cut", "max_tokens", "pause_turn"]),
    st.sampled_from(["", "Fri 2026-11-20 15:04 CET"]),
    st.sampled_from([False, False, True]),
    extras,
)
any_event = st.one_of(
    st.builds(SetValue, st.sampled_from(["pin", "unpin", "model"]), words),
    st.just(TurnEnd("s", "done")),
    st.builds(
        lambda summary, keep, keep_n: Compact(summary, keep, keep_n, "breadcrumb", "asked"),
        words,
        st.integers(-1, 14).map(lambda i: 100 * i),
        st.integers(-1, 9),
    ),
    st.just(Reset()),
)
any_log = st.lists(any_message | any_message | any_message | any_event, max_size=14).map(lambda drafts: lines(*drafts))


@given(any_log, st.data())
@settings(max_examples=400, deadline=None)
def test_any_cut_of_any_log_is_a_legal_request(log: list[Record], data: st.DataObject) -> None:
    """Wherever the records begin and end, and whatever they hold, the API takes the request, or there is nothing to send."""
    begin = data.draw(st.integers(0, len(log)))
    end = data.draw(st.integers(begin, len(log)))
    messages = render(log[begin:end], prefix=PREFIX, pins=[(0, "kept"), (200, "</pinned>\udfff")])
    assert not messages or refusal(body(messages)) is None


@given(any_log, st.integers(0, 6), st.sampled_from([0, 5, 30, 500]))
@settings(max_examples=300, deadline=None)
def test_any_tail_of_any_log_is_legal_once_it_is_answered(
    log: list[Record], max_messages: int, max_tokens: int
) -> None:
    """What `get_history` gives can be sent as soon as the reader has added a line, and holds no more than was asked for."""
    messages = tail(log, max_messages=max_messages, max_tokens=max_tokens)
    assert not max_messages or len(messages) <= max_messages
    asked: list[Block] = [*messages, {"role": "user", "content": "and now?"}]
    sent = body(
        [{**message, "content": [text(c)] if isinstance(c := message["content"], str) else c} for message in asked]
    )
    assert refusal(sent) is None


# --- an honest conversation: legal with its thinking, and stable ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """How a turn goes: calls in each round, results before a crash, and how it ends."""

    rounds: tuple[int, ...]
    thinks: bool
    ending: str
    answered: int


turns = st.builds(
    Turn,
    st.lists(st.integers(1, 3), max_size=2).map(tuple),
    st.booleans(),
    st.sampled_from(["done", "done", "done", "paused", "stopped", "failed", "crashed", "continued", "max_tokens"]),
    st.integers(0, 2),
)
steps = st.lists(
    turns
    | turns
    | turns
    | st.sampled_from(["deliver", "pin", "unpin", "compact", "undo", "reset", "model", "back", "wait"]),
    max_size=12,
)


def play(talk: Talk, step: Turn | str) -> None:
    """Let the conversation go on by one step, as agent and session would write it."""
    if isinstance(step, Turn):
        play_turn(talk, step)
        return
    people = [record for record in talk.view if isinstance(record, Message) and begins_exchange(record)]
    match step:
        case "deliver":
            talk.say("user", '<delivered from="cron:a">Time!', delivered=True)
        case "pin":
            talk.note(SetValue("pin", f"pin at {talk.size}"))
        case "unpin":
            talk.note(SetValue("unpin", "1"))
        case "compact" if people:
            talk.compact(people[len(people) // 2])
        case "undo":
            talk.undo()
        case "reset":
            talk.note(Reset())
        case "model":
            talk.model, talk.steady = "m-2", []
        case "back":
            talk.model, talk.steady = "m-1", []
        case _:
            talk.wait(600)


def play_turn(talk: Talk, turn: Turn) -> None:
    talk.say("user", f"line {talk.size}", clock="" if talk.size % 300 else "Fri 15:04")
    for count in turn.rounds:
        calls = talk.call(count)
        talk.reply(text("let me see"), *calls, thinks=turn.thinks)
        for one in calls:
            talk.answer(one)
    crashing = talk.call(3)
    match turn.ending:
        case "done":
            talk.reply(text(f"reply {talk.size}"), thinks=turn.thinks)
            talk.end()
        case "paused":
            search: Block = {"type": "server_tool_use", "id": f"srv{talk.size}", "name": "web_search", "input": {}}
            talk.reply(search, thinks=turn.thinks, mark="pause_turn")
            found: Block = {"type": "web_search_tool_result", "tool_use_id": search["id"], "content": []}
            talk.reply(found, text("found"), thinks=turn.thinks)
            talk.end()
        case "stopped" | "max_tokens":
            talk.reply(text("a part"), *talk.call(1), thinks=turn.thinks, mark=turn.ending)
            talk.end(turn.ending)
        case "failed":
            talk.request()
            talk.end("failed")
        case _:
            talk.reply(*crashing, thinks=turn.thinks)
            for i, one in enumerate(crashing[: turn.answered] if turn.ending == "crashed" else crashing):
                talk.answer(one, failed=i >= turn.answered)
            if turn.ending == "continued":
                talk.reply(text("there it is"), thinks=turn.thinks)
                talk.end()


@given(steps)
@settings(max_examples=250, deadline=None)
def test_every_request_of_a_conversation_is_legal_and_stable(story: list[Turn | str]) -> None:
    """Thinking goes back only behind what it was thought behind, and a request begins with all of the one before."""
    talk = Talk()
    for step in story:
        seen = len(talk.requests)
        play(talk, step)
        for request in talk.requests[seen:]:
            assert refusal(request) is None
        for before, later in zip(talk.steady, talk.steady[1:], strict=False):
            assert flat(later)[: len(flat(before))] == flat(before)


@given(steps, st.data())
@settings(max_examples=250, deadline=None)
def test_a_crash_after_any_line_leaves_a_legal_conversation(story: list[Turn | str], data: st.DataObject) -> None:
    """The file may end after any line, and a window may begin at any user line: both can be sent, thinking and all."""
    talk = Talk()
    for step in story:
        play(talk, step)
    view = view_of(talk.live[: data.draw(st.integers(0, len(talk.live)))])
    messages = render(view, prefix=talk.prefix, pins=talk.pins)
    sent = {
        **(talk.requests[-1] if talk.requests else body([])),
        "model": talk.model,
        "system": list(talk_system(talk)),
    }
    assert not messages or refusal({**sent, "messages": with_breakpoints(messages, ttl="5m")}) is None
    cut = render(view[data.draw(st.integers(0, len(view))) :], prefix=talk.prefix, pins=talk.pins, complete=False)
    assert not cut or refusal({**sent, "messages": with_breakpoints(cut, ttl="5m")}) is None


def talk_system(talk: Talk) -> tuple[Block, ...]:
    return system_blocks(talk.system, "1h")


# --- each kind of line -----------------------------------------------------------------------------------------------


def rendered(*records: Message | Event) -> list[tuple[str, Block]]:
    return flat(render(lines(*records), prefix=PREFIX))


def test_a_call_without_result_is_answered_honestly() -> None:
    """A turn that was interrupted in its calls gets error results, before what the person says next."""
    drawn = rendered(user("look"), assistant([call("t1"), call("t2")]), user([result("t2")]), user("and?"))
    assert [block.get("tool_use_id", block.get("text")) for _, block in drawn[3:]] == ["t2", "t1", "and?"]
    assert drawn[4][1] == {"type": "tool_result", "tool_use_id": "t1", "content": INTERRUPTED, "is_error": True}


def test_a_result_that_answers_nothing_becomes_text() -> None:
    """What a lost call brought back is still told."""
    drawn = rendered(user("hi"), assistant("hello"), user([result("gone", "21 degrees")]))
    assert drawn[-1] == ("user", text("[result of an earlier tool call]\n21 degrees"))


def test_a_result_before_anything_was_said_is_left_out() -> None:
    """A window that begins in the middle of a turn begins with the next person's line."""
    assert rendered(user([result("gone")]), assistant("so"), user("hi")) == [("user", text("hi"))]


def test_a_reused_id_is_told_apart() -> None:
    """Programs that number their calls anew each turn are understood."""
    turn = (user("look"), assistant([call("call_0")]), user([result("call_0")]), assistant("seen"))
    drawn = rendered(*turn, *turn, user("thanks"))
    assert [block["id"] for _, block in drawn if block["type"] == "tool_use"] == ["call_0", "call_0-2"]
    assert [block["tool_use_id"] for _, block in drawn if block["type"] == "tool_result"] == ["call_0", "call_0-2"]


def test_a_reply_before_any_user_line_is_left_out() -> None:
    """A conversation begins with somebody's words."""
    assert rendered(assistant("hello?"), user("hi")) == [("user", text("hi"))]


def test_a_delivery_may_come_first() -> None:
    """A reminder in a new chat is seen by the model that answers the reply to it."""
    drawn = rendered(user("<delivered>Tea!", delivered=True), user("thanks"))
    assert drawn == [("user", text("<delivered>Tea!")), ("user", text("thanks"))]


def test_the_clock_leads_the_line() -> None:
    """The time that was told stands in the user's own text, and stays there."""
    assert rendered(user("hi", clock="Fri 2026-11-20 15:04 CET")) == [("user", text("[Fri 2026-11-20 15:04 CET]\nhi"))]


def test_a_stopped_reply_keeps_its_text_only() -> None:
    """Calls that were never run, and thoughts that were cut, are not sent back."""
    thought: Block = {"type": "thinking", "thinking": "", "signature": "s"}
    drawn = rendered(
        user("hi"), assistant([thought, text("well"), call("t1")], mark="stopped", prefix=PREFIX), user("so?")
    )
    assert drawn[1] == ("assistant", text("well"))
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("prefix", "kept"), [(PREFIX, True), ("ffffffffffff", False), ("", False)], ids=["own", "other", "none"]
)
def test_thinking_is_sent_under_its_own_prefix_only(prefix: str, kept: bool) -> None:
    """A signature is good for one model, system text and set of tools."""
    thought: Block = {"type": "thinking", "thinking": "", "signature": "s"}
    drawn = rendered(user("hi"), assistant([thought, text("well")], prefix=prefix), user("so?"))
    assert (("assistant", thought) in drawn) is kept


def test_nanobots_rows_are_understood() -> None:
    """OpenAI's form of calls and results, commands left out, is mapped to blocks."""
    asked = {
        "tool_calls": [
            {"id": "c|1", "type": "function", "function": {"name": "read.file", "arguments": '{"path": "a"}'}}
        ]
    }
    drawn = rendered(
        user("/status", extra={"_command": True}),
        user("read it"),
        assistant("", extra=asked),
        Message("tool", "contents", AT, extra={"tool_call_id": "c|1", "name": "read.file"}),
        assistant("done"),
        Message("system", "be good", AT),
        user("thanks"),
    )
    assert drawn[0] == ("user", text("read it"))
    assert drawn[1] == ("assistant", {"type": "tool_use", "id": "c_1", "name": "read_file", "input": {"path": "a"}})
    assert drawn[2] == ("user", {"type": "tool_result", "tool_use_id": "c_1", "content": "contents"})
    assert len(drawn) == 5


def test_a_lone_surrogate_is_replaced() -> None:
    """What UTF-8 has no form for arrives as a replacement character, also inside a call's arguments."""
    drawn = rendered(
        user("a\ud800b"), assistant([{**call("t1"), "input": {"\udc00": ["\ud800"]}}]), user([result("t1")])
    )
    assert drawn[0][1]["text"] == "a\ufffdb"
    assert drawn[1][1]["input"] == {"\ufffd": ["\ufffd"]}


def test_a_picture_is_passed_on_for_its_bytes() -> None:
    """The block that names a blob stays as it is until the bytes are put in."""
    picture: Block = {"type": "image", "source": {"type": "blob", "sha256": "ab", "media_type": "image/png"}}
    assert rendered(user([picture, text("what is it?")]))[0] == ("user", picture)


def test_a_call_of_a_server_tool_that_was_given_up_is_left_out() -> None:
    """A pause that nobody continued holds a call whose result will never come."""
    search: Block = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    drawn = rendered(
        user("hi"), assistant([text("wait"), search], prefix=PREFIX, mark="pause_turn"), user("never mind")
    )
    assert drawn == [("user", text("hi")), ("assistant", text("wait")), ("user", text("never mind"))]


def test_a_result_that_comes_after_its_call_was_given_up_is_left_out() -> None:
    """Nothing that is sent would be answered by it."""
    search: Block = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    found: Block = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    log = lines(
        user("hi"),
        assistant([search], prefix=PREFIX, mark="pause_turn"),
        user("never mind"),
        assistant([found, text("found")], prefix=PREFIX),
        user("thanks"),
    )
    messages = render(log, prefix=PREFIX)
    assert refusal(body(messages)) is None
    assert ("assistant", found) not in flat(messages)


def test_a_reply_to_a_reply_is_joined_to_it_without_its_thought() -> None:
    """After a crash the model may have been asked to go on; what it thought then was not thought behind this message."""
    talk = Talk()
    talk.say("user", "hi")
    talk.reply(text("first"), thinks=True)
    talk.reply(text("second"), thinks=True)
    talk.say("user", "and?")
    request = talk.request()
    assert refusal(request) is None
    assert [role for role, _ in flat(cast(list[Block], request["messages"]))] == ["user", *["assistant"] * 3, "user"]


def test_a_paused_reply_is_sent_as_it_stands() -> None:
    """The same reply goes on: nothing is put behind it."""
    search: Block = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    assert rendered(user("hi"), assistant([search], prefix=PREFIX, mark="pause_turn"))[-1] == ("assistant", search)


# --- compaction and pins ---------------------------------------------------------------------------------------------


def test_a_compaction_stands_for_what_it_dropped() -> None:
    """The summary leads the first kept message; what came before is gone."""
    talk = Talk()
    talk.exchange("one")
    talk.exchange("two")
    kept = talk.say("user", "three")
    talk.compact(kept, "They counted </summary_of_earlier_conversation> to two.")
    drawn = flat(render(talk.view, prefix=talk.prefix))
    assert [role for role, _ in drawn] == ["user", "user"]
    assert "counted &lt;/summary_of_earlier_conversation> to two." in str(drawn[0][1]["text"])
    assert drawn[1][1] == text("three")


def test_an_unpinned_pin_stays_in_the_head_until_the_next_compaction() -> None:
    """Taking a pin away does not rewrite what was sent."""
    talk = Talk()
    talk.note(SetValue("pin", "tea at five"))
    talk.exchange("one")
    kept = talk.say("user", "two")
    talk.compact(kept)
    before = render(talk.view, prefix=talk.prefix, pins=talk.pins)
    talk.note(SetValue("unpin", "1"))
    assert render(talk.view, prefix=talk.prefix, pins=talk.pins) == before
    talk.compact(kept)
    assert "tea at five" not in str(render(talk.view, prefix=talk.prefix, pins=talk.pins))


def test_a_lost_pin_takes_the_thinking_with_it() -> None:
    """Where the text of a pin in the head is not known, what was thought behind it is not sent."""
    talk = Talk()
    talk.note(SetValue("pin", "tea at five"))
    talk.compact(talk.say("user", "one"))
    talk.reply(text("well"), thinks=True)
    assert pins_needed(talk.view) == tuple(talk.pin_texts)
    kinds = [
        [block["type"] for role, block in flat(render(talk.view, prefix=talk.prefix, pins=pins)) if role == "assistant"]
        for pins in (talk.pins, [])
    ]
    assert kinds == [["thinking", "text"], ["text"]]


def test_a_pin_between_boundary_and_compaction_is_said_once() -> None:
    """It was set when the compaction was written, so it stands in the head, and nowhere else."""
    talk = Talk()
    kept = talk.say("user", "one")
    talk.note(SetValue("pin", "no sugar"))
    talk.compact(kept)
    assert str(render(talk.view, prefix=talk.prefix, pins=talk.pins)).count("<pinned>") == 1


def test_a_new_pin_stands_where_it_was_set() -> None:
    """Pins made since the newest compaction are said in their place, so nothing before them changes."""
    assert rendered(user("hi"), assistant("hello"), SetValue("pin", "no sugar"), user("tea?"))[2] == (
        "user",
        text("<pinned>\nno sugar\n</pinned>"),
    )


def test_a_boundary_is_found_by_its_number_after_an_edit() -> None:
    """Where the file was edited by hand, the count of lines tells where the kept part begins."""
    log = lines(
        user("one"),
        assistant("1"),
        user("two"),
        assistant("2"),
        Compact("s", 150, 2, "breadcrumb", "asked"),
        user("now"),
    )
    assert [block["text"] for _, block in flat(render(log, prefix=PREFIX))][1:] == ["two", "2", "now"]


# --- breakpoints, hashes, the tail -----------------------------------------------------------------------------------


def test_a_long_round_gets_marks_within_reach() -> None:
    """However many calls a round adds, up to what three breakpoints see, the mark before them is found again."""
    first = render(lines(user("look everywhere")), prefix=PREFIX)
    many = [f"t{i}" for i in range(18)]
    log = lines(user("look everywhere"), assistant([call(i) for i in many]), *(user([result(i)]) for i in many))
    marked = with_breakpoints(render(log, prefix=PREFIX), ttl="5m")
    places = [i for i, (_, block) in enumerate(flat(marked)) if "cache_control" in block]
    assert places[-1] == len(flat(marked)) - 1
    assert len(places) == 3
    assert places[0] - (len(flat(first)) - 1) < 20


def test_marks_leave_the_original_alone() -> None:
    """The messages that were given can be compared with later ones."""
    messages = render(lines(user("hi")), prefix=PREFIX)
    assert breakpoints({"messages": with_breakpoints(messages, ttl="1h")}) == [
        ("messages.0.content.0", {"type": "ephemeral", "ttl": "1h"})
    ]
    assert messages == [{"role": "user", "content": [text("hi")]}]


def test_nothing_to_send_has_no_marks() -> None:
    """An empty conversation stays empty."""
    assert with_breakpoints([], ttl="5m") == []


def test_the_hash_ignores_cache_marks() -> None:
    """Another lifetime of the cache is not another conversation; another model is."""
    hashes = {prefix_hash("m", system_blocks("Be kind.", ttl), TOOLS) for ttl in ("5m", "1h")}
    assert len(hashes) == 1
    assert {len(digest) for digest in hashes} == {12}
    assert prefix_hash("n", system_blocks("Be kind.", "5m"), TOOLS) not in hashes


def test_an_empty_system_text_is_no_block() -> None:
    """The API refuses an empty block."""
    assert system_blocks(" \n", "5m") == ()


def test_the_tail_keeps_plain_text_plain() -> None:
    """What was added as a string comes back as one, without the clock."""
    log = lines(user("hi", clock="Fri"), assistant("hello"), user([text("and now?")]))
    assert tail(log) == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": [text("and now?")]},
    ]


def test_the_tail_holds_what_is_not_saved_yet() -> None:
    """A line without a place in the file counts as the newest."""
    log = [*lines(user("hi"), Compact("s", 0, 0, "breadcrumb", "asked")), assistant("hello")]
    assert tail(log)[-1] == {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize(
    ("limit", "first"), [(0, "one"), (6, "one"), (5, "two"), (4, "two"), (3, "three"), (2, "three")]
)
def test_the_tail_begins_at_a_user_line(limit: int, first: str) -> None:
    """A limit never cuts an exchange in two."""
    log = lines(*(line for word in ("one", "two", "three") for line in (user(word), assistant(f"re {word}"))))
    assert tail(log, max_messages=limit)[0]["content"] == first


def test_the_tail_counts_tokens_by_exchanges() -> None:
    """As many whole exchanges as fit, the newest first."""
    talk = Talk()
    for word in ("one", "two", "three"):
        talk.exchange(word * 30, word * 60)
    assert [message["content"] for message in tail(talk.view, max_tokens=150)][:1] == ["three" * 30]
    assert tail(talk.view, max_tokens=5) == []


def test_bytes_are_the_same_in_every_process() -> None:
    """A record that went through the file is drawn like the one in memory."""
    log = lines(user([{"type": "text", "text": "hi", "x": 1}]), assistant((text("a"), text("b")), prefix=PREFIX))
    again = [replace(record, content=json.loads(json.dumps(record.content))) for record in cast(list[Message], log)]
    assert json.dumps(render(log, prefix=PREFIX)) == json.dumps(render(again, prefix=PREFIX))
