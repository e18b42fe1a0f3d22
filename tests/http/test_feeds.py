"""Feeds: whoever reads, and whenever, hears all of it and one end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.channels.http.feeds import MAX_TAKEN_CHARS, Feed, Feeds, Reader, Restarted, Told
from nanochat.events import Notice, ReplyEvent, TextDelta, ToolFinished, ToolStarted, TurnDone, TurnFailed
from nanochat.keys import SessionKey

KEY = SessionKey("http", "a")

BETWEEN = st.one_of(
    st.text(max_size=5).map(TextDelta),
    st.just(TextDelta("long " * (MAX_TAKEN_CHARS // 4))),
    st.just(ToolStarted("1", "memory", "remembering")),
    st.just(ToolFinished("1", "memory", ok=True, seconds=0.1)),
    st.just(Notice("waiting")),
)
ENDS = st.sampled_from([TurnDone("said"), TurnDone(""), TurnFailed("no")])


@dataclass
class Hearer:
    """A reader, and what it has heard since the answer was last begun."""

    reader: Reader
    heard: list[Told] = field(default_factory=list)
    most_chars: int = 0

    def listen(self) -> None:
        taken = self.reader.take()
        chars = sum(len(one.text) for one in taken if isinstance(one, TextDelta))
        self.most_chars = max(self.most_chars, chars)
        for one in taken:
            if isinstance(one, Restarted):
                self.heard.clear()
            else:
                self.heard.append(one)

    def listen_to_the_end(self) -> None:
        for _ in range(1000):
            self.listen()
            if self.heard and isinstance(self.heard[-1], TurnDone | TurnFailed):
                self.listen()
                return
        raise AssertionError("there is no end")


def joined(events: Sequence[Told]) -> list[Told]:
    """The same, with neighbouring texts joined."""
    found: list[Told] = []
    for event in events:
        if isinstance(event, TextDelta) and found and isinstance(found[-1], TextDelta):
            found[-1] = TextDelta(found[-1].text + event.text)
        elif event != TextDelta(""):
            found.append(event)
    return found


@given(
    script=st.lists(BETWEEN, max_size=12),
    end=ENDS,
    steps=st.lists(st.sampled_from(["emit", "read 0", "read 1", "join", "anew"]), max_size=60),
    after=st.lists(BETWEEN, max_size=2),
)
def test_every_reader_hears_all_of_it(
    script: list[ReplyEvent], end: ReplyEvent, steps: list[str], after: list[ReplyEvent]
) -> None:
    """Whatever the order of telling and reading, of joining late and of a telling that is begun anew: the same, and one end."""
    feed = Feed(KEY, "http:1")
    hearers = [Hearer(feed.reader()), Hearer(feed.reader())]
    told = list(script)
    for step in steps:
        match step:
            case "emit" if told:
                feed(told.pop(0))
            case "join":
                hearers.append(Hearer(feed.reader()))
            case "anew":
                feed.begin_anew()
                told = list(script)
            case "read 0" | "read 1":
                hearers[int(step[-1])].listen()
            case _:
                pass
    for event in (*told, end, *after, TurnFailed("a second end")):
        feed(event)
    hearers.append(Hearer(feed.reader()))
    for hearer in hearers:
        hearer.listen_to_the_end()
        heard = joined(hearer.heard)
        whole = joined([*script, end])
        has_text = any(isinstance(event, TextDelta) for event in whole)
        if isinstance(end, TurnDone) and end.text and not has_text:
            whole.insert(-1, TextDelta(end.text))
        assert heard == whole
        assert hearer.most_chars <= MAX_TAKEN_CHARS


async def test_a_reader_waits_until_there_is_something() -> None:
    """And is woken by what is told."""
    feed = Feed(KEY, "http:1")
    reader = feed.reader()
    feed(TextDelta("a"))
    await reader.wait()
    assert reader.take() == [TextDelta("a")]
    feed(TurnDone("a"))
    await reader.wait()
    assert reader.take() == [TurnDone("a")]


async def test_a_reader_who_is_hung_up_on_knows() -> None:
    """It is not kept waiting for the rest."""
    feeds = Feeds()
    reader = feeds.open(KEY, "http:1").reader()
    feeds.hang_up()
    await reader.wait()
    assert (reader.take(), reader.is_cut) == ([], True)


def test_a_slow_reader_costs_no_more_than_the_reply() -> None:
    """What nobody has taken yet is kept once, however many pieces it came in."""
    feed = Feed(KEY, "http:1")
    readers = [feed.reader() for _ in range(10)]
    for _ in range(10_000):
        feed(TextDelta("word "))
    feed(TurnDone("word " * 10_000))
    assert feed.chars < 60_000
    assert all(len(reader.take()) == 1 for reader in readers)


def test_what_has_ended_is_kept_for_a_while() -> None:
    """The newest, and those that were asked for of late."""
    feeds = Feeds(most=2)
    for name in ("1", "2"):
        feeds.open(KEY, name)(TurnDone(name))
    assert feeds.find("1") is not None
    feeds.open(KEY, "3")(TurnDone("3"))
    assert [feeds.find(name) is not None for name in ("1", "2", "3")] == [True, False, True]


def test_long_answers_push_out_others() -> None:
    """What is kept is bounded in size too, but for the newest."""
    feeds = Feeds(most_chars=1000)
    for name in ("1", "2"):
        feeds.open(KEY, name)(TurnDone("x" * 900))
    assert [feeds.find(name) is not None for name in ("1", "2")] == [False, True]


@pytest.mark.parametrize("kind", ["busy", "pace", "limit", "ending"])
def test_a_refusal_is_forgotten(kind: str) -> None:
    """The same message may come again, and is begun then."""
    feeds = Feeds()
    feeds.open(KEY, "1")(TurnFailed("no", kind=kind))
    assert feeds.find("1") is None


def test_a_failure_is_kept() -> None:
    """Who asks again hears the same."""
    feeds = Feeds()
    feeds.open(KEY, "1")(TurnFailed("no", kind="network"))
    assert feeds.find("1") is not None


def test_a_feed_that_goes_on_is_found_and_not_replaced() -> None:
    """However many have ended since."""
    feeds = Feeds(most=1)
    going = feeds.open(KEY, "1")
    for name in ("2", "3"):
        feeds.open(KEY, name)(TurnDone(""))
    assert feeds.open(KEY, "1") is going


def test_a_feed_that_nobody_tells_ends_with_its_last_reader() -> None:
    """What is only waited for is not kept when nobody waits."""
    feeds = Feeds()
    feed = feeds.open(KEY, "1")
    first, second = feed.reader(), feed.reader()
    first.close()
    assert feeds.find("1") is feed
    second.close()
    assert feeds.find("1") is None
