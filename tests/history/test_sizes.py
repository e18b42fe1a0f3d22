"""Sizes are the model's own counts; only what it has not read is estimated."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.history import render
from nanochat.history.exchanges import begins_exchange
from nanochat.history.sizes import measure, weigh
from nanochat.records import Block, Content, SetValue, Usage
from tests.fakes.legality import plain
from tests.fakes.prompt_cache import tokens
from tests.fakes.talk import Talk, flat

exchanges = st.lists(
    st.tuples(st.integers(1, 400), st.lists(st.integers(1, 3), max_size=2), st.booleans(), st.integers(1, 900)),
    min_size=2,
    max_size=8,
)


@given(exchanges)
@settings(max_examples=100, deadline=None)
def test_every_exchange_weighs_what_the_model_counted(story: list[tuple[int, list[int], bool, int]]) -> None:
    """All but the first user line, behind which the fixed prefix cannot be told apart, are exact to the token."""
    talk = Talk()
    for asked, rounds, thinks, answered in story:
        talk.say("user", "x" * asked)
        for count in rounds:
            calls = talk.call(count)
            talk.reply(*calls, thinks=thinks)
            for one in calls:
                talk.answer(one)
        talk.reply({"type": "text", "text": "y" * answered}, thinks=thinks)
        talk.end()
    begins = [i for i, record in enumerate(talk.live) if begins_exchange(record)]
    edges = [*begins[1:], len(talk.live)]
    expected = [later - before for before, later in pairwise(read_tokens(talk, edge) for edge in edges)]
    assert [exchange.tokens for exchange in measure(talk.view).exchanges][1:] == expected


def read_tokens(talk: Talk, edge: int) -> int:
    """What a request after so many records would count for its messages; the line that asks to go on is in each."""
    return sum(tokens(plain(block)) for _, block in flat(render(talk.live[:edge], prefix=talk.prefix)))


def test_lines_between_two_replies_share_what_they_are_known_to_be() -> None:
    """Where nobody counted the lines one by one, their sum is exact."""
    talk = Talk()
    talk.exchange("a" * 70, "b" * 70)
    talk.say("user", "c" * 350)
    talk.end("failed")
    talk.say("user", '<delivered from="cron:a">' + "d" * 35, delivered=True)
    talk.exchange("e" * 700, "f" * 70)
    sizes = measure(talk.view).exchanges
    drawn = [block for _, block in flat(render(talk.view, prefix=talk.prefix))]
    assert sum(exchange.tokens for exchange in sizes[1:]) == sum(tokens(block) for block in drawn[2:-1])
    assert [exchange.messages for exchange in sizes] == [2, 2, 2]


def test_the_ratio_is_learned() -> None:
    """After a few replies, a new text in the same script is estimated within some percent."""
    talk = Talk()
    for _ in range(12):
        talk.exchange("Kolik je hodin? " * 30, "Je pět hodin odpoledne. " * 30)
    text = "Kdy odjíždí vlak do Brna? " * 30
    assert measure(talk.view).estimate(text) == pytest.approx(tokens({"type": "text", "text": text}), rel=0.06)


def test_nothing_counted_yet_is_estimated() -> None:
    """A file of another program has no counts: two and a half bytes are a token."""
    talk = Talk()
    talk.say("user", "x" * 250)
    talk.say("assistant", "y" * 500)
    assert measure(talk.view).total_tokens == 300
    assert measure(talk.view).estimate("z" * 25) == 10


def test_counts_under_two_prefixes_are_not_subtracted() -> None:
    """After the model changed, the next user line is estimated, and never negative."""
    talk = Talk()
    talk.exchange("x" * 1000, "y" * 1000)
    talk.model = "m-2"
    line = talk.say("user", "z" * 100)
    talk.live.append(
        replace(
            line,
            role="assistant",
            content="ok",
            prefix=talk.prefix,
            usage=Usage(input=5, output=1),
            n=9,
            start=line.end,
        )
    )
    assert 0 < measure(talk.view).exchanges[1].tokens < 60


def test_a_stopped_reply_counts_as_what_is_sent_of_it() -> None:
    """Its calls and thoughts are paid for once and not sent again; the next reply tells what the rest weighs."""
    talk = Talk()
    talk.exchange()
    talk.say("user", "go")
    talk.reply({"type": "text", "text": "a" * 70}, *talk.call(3), thinks=True, mark="stopped")
    talk.exchange("b" * 70, "c" * 70)
    drawn = [block for _, block in flat(render(talk.view, prefix=talk.prefix))]
    assert sum(exchange.tokens for exchange in measure(talk.view).exchanges[1:]) == sum(tokens(b) for b in drawn[2:-1])


def test_thoughts_before_a_compaction_weigh_nothing_after_it() -> None:
    """They were paid for and are not sent again; what was said stays."""
    talk = Talk()
    talk.exchange()
    kept = talk.say("user", "go on")
    line = talk.reply({"type": "text", "text": "y" * 350}, thinks=True)
    talk.live[-1] = replace(line, usage=Usage(input=50, output=5000))
    assert measure(talk.view).total_tokens > 5000
    talk.compact(kept)
    assert measure(talk.view).total_tokens < 200


def test_pins_and_the_summary_are_weighed_in_the_head() -> None:
    """What stands before the first kept exchange counts, too."""
    talk = Talk()
    talk.note(SetValue("pin", "p" * 250))
    talk.exchange("x" * 1000, "y" * 1000)
    kept = talk.say("user", "go on")
    talk.compact(kept, "s" * 250)
    head = measure(talk.view, talk.pins).head_tokens
    assert head > measure(talk.view).head_tokens > 50
    assert measure(talk.view).exchanges[0].n == kept.n


def test_a_line_of_server_tools_is_no_measure() -> None:
    """Its count is a sum over several readings: what follows is estimated until the next plain reply."""
    talk = Talk()
    talk.exchange()
    talk.say("user", "search")
    found: Block = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    asked: Block = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    line = talk.reply(asked, found, {"type": "text", "text": "found"})
    talk.live[-1] = replace(line, usage=Usage(input=90_000, output=200))
    talk.exchange("x" * 350, "y" * 350)
    assert measure(talk.view).total_tokens < 1000


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("x" * 25, 10),
        ([{"type": "text", "text": "x" * 25}], 10),
        ([{"type": "image", "source": {"type": "blob"}}], 1600),
        ([{"type": "document", "source": {"type": "blob"}}], 5000),
        ([{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "x" * 25}]}], 10),
    ],
    ids=["plain", "text", "image", "document", "result"],
)
def test_what_no_model_has_read_is_estimated(content: Content, expected: int) -> None:
    """Text by its bytes, pictures and documents by what they usually are."""
    assert weigh(content, 2.5) == expected
