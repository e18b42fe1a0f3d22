"""The Handler: who may go when, and what people are told when they may not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nanochat.events import Notice, ReplyEvent, TextDelta, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.ports import ModelReply, ModelRequest
from nanochat.records import Usage, text_of
from nanochat.turn.agent import AgentSettings
from nanochat.turn.limits import Limits
from tests.conftest import Build
from tests.fakes.scripted_model import say

KEY = SessionKey("cli", "test")


class Held:
    """A reply that waits until it is let go."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        self.begun.set()
        await self.go.wait()
        return await say(self.text)(request, on_text)


async def test_messages_of_one_session_wait_for_each_other(build: Build) -> None:
    """Two messages at once are two turns, in order."""
    first = Held("one")
    house = build(first, say("two"))
    a = asyncio.create_task(house.say("a"))
    await first.begun.wait()
    b = asyncio.create_task(house.say("b"))
    first.go.set()
    await asyncio.gather(a, b)
    session = await house.manager.get_or_create(KEY)
    assert [text_of(m.content) for m in session.messages] == ["a", "one", "b", "two"]


async def test_messages_of_two_sessions_do_not_wait(build: Build) -> None:
    """A slow turn in one chat delays no other chat."""
    slow = Held("slow")
    house = build(slow, say("quick"))
    waiting = asyncio.create_task(house.say("a", key="cli:one"))
    await slow.begun.wait()
    assert isinstance((await house.say("b", key="cli:two"))[-1], TurnDone)
    slow.go.set()
    await waiting


async def test_too_many_waiting_are_refused(build: Build) -> None:
    """The line has an end, and who is turned away is told."""
    first = Held("one")
    house = build(first, say("two"), limits=Limits(waiting=1))
    a = asyncio.create_task(house.say("a"))
    await first.begun.wait()
    b = asyncio.create_task(house.say("b"))
    await asyncio.sleep(0)
    refused = (await house.say("c"))[-1]
    assert isinstance(refused, TurnFailed)
    assert refused.kind == "busy"
    first.go.set()
    await asyncio.gather(a, b)


async def test_a_minute_takes_so_many_turns(build: Build) -> None:
    """The rate fence says when the next may come, and lets it through then."""
    house = build(say("one"), say("two"), limits=Limits(turns_per_minute=1))
    await house.say("a")
    refused = (await house.say("b"))[-1]
    assert isinstance(refused, TurnFailed)
    assert (refused.kind, refused.retry_after_s) == ("pace", 60.0)
    house.clock.advance(seconds=61)
    assert isinstance((await house.say("b"))[-1], TurnDone)


@pytest.mark.parametrize("cap", ["usd_per_day", "usd_per_session"])
async def test_a_cap_in_money_holds(build: Build, cap: str) -> None:
    """What is spent is counted, and the next turn is refused before it asks the model."""
    dear = say("dear", model="claude-sonnet-5-5", usage=Usage(input=1_000_000))
    settings = AgentSettings("claude-sonnet-5-5", "", ZoneInfo("UTC"))
    house = build(dear, settings=settings, limits=Limits(**{cap: 1.0}))  # type: ignore[arg-type]  # a field by its name
    assert isinstance((await house.say("a"))[-1], TurnDone)
    refused = (await house.say("b"))[-1]
    assert isinstance(refused, TurnFailed)
    assert refused.kind == "limit"
    assert cap in refused.message
    assert len(house.model.requests) == 1


async def test_the_boundary_turns_a_bug_into_a_plain_line(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    """A person reads one line with an id; the log has the traceback under it."""

    async def bug(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        raise ZeroDivisionError("1/0 with a secret")

    house = build(bug)
    with caplog.at_level(logging.ERROR):
        failed = (await house.say("a"))[-1]
    assert isinstance(failed, TurnFailed)
    assert failed.error_id
    assert failed.error_id in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in failed.message


async def test_a_receiver_that_raises_is_left_alone(build: Build) -> None:
    """The turn goes on without it, to its end in the file."""
    house = build(say("all of it"))
    seen: list[ReplyEvent] = []

    def broken(event: ReplyEvent) -> None:
        seen.append(event)
        raise RuntimeError("the screen is gone")

    await house.assistant(house.inbound("hello"), broken)
    assert len(seen) == 1
    session = await house.manager.get_or_create(KEY)
    assert text_of(session.messages[-1].content) == "all of it"


async def test_exactly_one_last_event(build: Build) -> None:
    """TurnDone or TurnFailed comes once, and last."""
    house = build(say("hi"))
    for text in ("hello", "/status", "/nonsense", "hello again"):
        events = await house.say(text)
        assert [isinstance(e, TurnDone | TurnFailed) for e in events] == [False] * (len(events) - 1) + [True]


async def test_stop_ends_a_wait_too(build: Build) -> None:
    """A message that waits for another process's turn can be taken back."""
    house = build(say("never"))
    async with house.manager.store.lease(KEY):
        waiting = asyncio.create_task(house.say("hello"))
        while not house.assistant.stop(KEY):  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0)
        done = (await waiting)[-1]
    assert isinstance(done, TurnDone)
    assert done.mark == "stopped"
    assert (await house.manager.get_or_create(KEY)).messages == []


async def test_new_stops_the_running_turn_first(build: Build) -> None:
    """`/new` does not wait for a long reply."""
    begun = asyncio.Event()

    async def endless(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        on_text("long")
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    house = build(endless, say("fresh"))
    turn = asyncio.create_task(house.say("tell me"))
    await begun.wait()
    assert isinstance((await house.say("/new"))[-1], TurnDone)
    stopped = (await turn)[-1]
    assert isinstance(stopped, TurnDone)
    assert stopped.mark == "stopped"
    events = await house.say("hello")
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["fresh"]
    assert len(house.model.requests[-1].messages) == 1


async def test_lost_lines_are_announced_once(build: Build, tmp_path: Path) -> None:
    """Who opens a damaged session is told, and goes on."""
    house = build(say("one"), say("two"), say("three"))
    await house.say("a")
    with (tmp_path / "sessions" / "cli+test.jsonl").open("ab") as file:
        file.write(b"{this is not json}\n")
    other = build(say("two"), say("three"))
    first = await other.say("b")
    assert any(isinstance(e, Notice) and "cannot be read" in e.text for e in first)
    second = await other.say("c")
    assert not any(isinstance(e, Notice) and "cannot be read" in e.text for e in second)


async def test_a_cap_is_not_walked_around_by_another_model(build: Build) -> None:
    """A model without a price cannot be asked while money is capped."""
    settings = AgentSettings("claude-sonnet-5-5", "", ZoneInfo("UTC"))
    house = build(settings=settings, limits=Limits(usd_per_session=1.0))
    await house.say("/model claude-nonesuch")
    refused = (await house.say("hello"))[-1]
    assert isinstance(refused, TurnFailed)
    assert "claude-nonesuch" in refused.message
    assert house.model.requests == []


async def test_undo_goes_before_those_who_wait(build: Build) -> None:
    """It takes back what runs when it is typed, not what somebody typed ahead."""
    first = Held("one")
    house = build(first, say("two"))
    a = asyncio.create_task(house.say("a"))
    await first.begun.wait()
    b = asyncio.create_task(house.say("b"))
    await asyncio.sleep(0)
    undone = (await house.say("/undo"))[-1]
    assert isinstance(undone, TurnDone)
    assert undone.text == "took back “a”"
    await asyncio.gather(a, b)
    session = await house.manager.get_or_create(KEY)
    assert [text_of(m.content) for m in session.messages] == ["b", "two"]


async def test_a_refused_retry_stops_nothing(build: Build) -> None:
    """What cannot go on does not end what goes on."""
    first = Held("one")
    house = build(first, limits=Limits(turns_per_minute=1))
    a = asyncio.create_task(house.say("a"))
    await first.begun.wait()
    refused = (await house.say("/retry"))[-1]
    assert isinstance(refused, TurnFailed)
    first.go.set()
    done = (await a)[-1]
    assert isinstance(done, TurnDone)
    assert done.mark == ""


async def test_a_question_that_was_overtaken_is_not_asked_again(build: Build) -> None:
    """The model has read it with the next one; the crash is told, and the conversation stays as it is."""

    async def die(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        raise asyncio.CancelledError

    house = build(die, say("both"))
    with pytest.raises(asyncio.CancelledError):
        await house.say("one", source_id="cli:x")
    await house.say("two")
    events: list[ReplyEvent] = []
    await house.assistant.again(house.inbound("one", source_id="cli:x"), events.append)
    assert isinstance(events[-1], TurnFailed)
    assert events[-1].kind == "crashed"
    session = await house.manager.get_or_create(KEY)
    assert [text_of(m.content) for m in session.messages] == ["one", "two", "both"]


async def test_a_retry_that_was_cut_short_is_continued(build: Build) -> None:
    """The question is taken back and asked again in one write, so no crash can lose it."""

    async def die(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        raise asyncio.CancelledError

    house = build(say("heads"), die, say("tails"))
    await house.say("toss")
    with pytest.raises(asyncio.CancelledError):
        await house.say("/retry", source_id="cli:r")
    events: list[ReplyEvent] = []
    await house.assistant.again(house.inbound("/retry", source_id="cli:r"), events.append)
    assert isinstance(events[-1], TurnDone)
    session = await house.manager.get_or_create(KEY)
    assert [text_of(m.content) for m in session.messages] == ["toss", "tails"]
