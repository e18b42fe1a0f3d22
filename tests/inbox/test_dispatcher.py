"""A message is answered once, whatever dies."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from nanochat.events import Inbound, Notice, ReplyEvent, TurnDone, TurnFailed
from nanochat.inbox.dispatcher import MAX_ATTEMPTS, Dispatcher
from nanochat.keys import SessionKey
from nanochat.ports import Emit, Envelope, Handler, ModelReply, ModelRequest
from nanochat.records import Snapshot, TurnEnd, text_of
from tests.conftest import Build
from tests.fakes.house import House
from tests.fakes.scripted_model import say

KEY = SessionKey("cli", "test")


def dispatcher(house: House, handler: Handler | None = None) -> Dispatcher:
    return Dispatcher(
        handler or house.assistant,
        house.ledger,
        again=house.assistant.again,
        passes=house.assistant.passes,
        interrupt=house.assistant.interrupt,
        clock=house.clock,
    )


async def die(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
    raise asyncio.CancelledError


async def crash(house: House, text: str, source_id: str = "cli:x") -> None:
    """Let a process die in the middle of a turn."""
    with pytest.raises(asyncio.CancelledError):
        await dispatcher(house).live(house.inbound(text, source_id=source_id), lambda _: None)
    house.presence.leave()


async def resume(house: House) -> list[ReplyEvent]:
    events: list[ReplyEvent] = []
    await dispatcher(house).resume(KEY, "cli:", events.append)
    return events


async def test_the_same_source_is_answered_once(build: Build) -> None:
    """A repeat gets a plain line and costs no request."""
    house = build(say("hi"))
    events: list[ReplyEvent] = []
    door = dispatcher(house)
    inbound = house.inbound("hello", source_id="cli:same")
    await door.live(inbound, events.append)
    await door.live(inbound, events.append)
    assert [type(e) for e in events if isinstance(e, TurnDone | TurnFailed)] == [TurnDone, TurnFailed]
    assert len(house.model.requests) == 1


async def test_the_next_opening_goes_on_visibly(build: Build) -> None:
    """What a dead process began is finished, once, and its reader is told."""
    await crash(build(die), "are you there?")
    second = build(say("yes"))
    events = await resume(second)
    assert isinstance(events[0], Notice)
    assert "are you there?" in events[0].text
    assert isinstance(events[-1], TurnDone)
    session = await second.manager.get_or_create(KEY)
    assert [text_of(m.content) for m in session.messages] == ["are you there?", "yes"]
    assert await resume(second) == []


async def test_a_one_shot_closes_instead(build: Build) -> None:
    """`-m` does not answer old questions: they are recorded as interrupted."""
    await crash(build(die), "are you there?")
    second = build()
    await dispatcher(second).close_orphans(KEY, "cli:")
    session = await second.manager.get_or_create(KEY)
    [end] = [r.event for r in session.records if isinstance(r, Snapshot) and isinstance(r.event, TurnEnd)]
    assert end.outcome == "interrupted"
    assert await resume(second) == []


async def test_a_command_is_not_carried_out_twice(build: Build) -> None:
    """Whether an undo was done, a person can see."""
    first = build()
    begun = asyncio.Event()

    async def hang(inbound: Inbound, emit: Emit) -> None:
        begun.set()
        await asyncio.Event().wait()

    taken = asyncio.create_task(dispatcher(first, hang).live(first.inbound("/undo", source_id="cli:u"), lambda _: None))
    await begun.wait()
    taken.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taken
    first.presence.leave()
    events = await resume(build())
    assert isinstance(events[-1], TurnFailed)
    assert "/undo" in events[-1].message


async def test_the_third_crash_ends_it(build: Build) -> None:
    """A message that kills is given up, and says so."""
    await crash(build(die), "poison")
    for _ in range(MAX_ATTEMPTS - 2):
        again = build(die)
        with pytest.raises(asyncio.CancelledError):
            await resume(again)
        again.presence.leave()
    again = build(die)
    with pytest.raises(asyncio.CancelledError):
        await resume(again)
    again.presence.leave()
    events = await resume(build())
    assert isinstance(events[-1], TurnFailed)
    assert events[-1].kind == "crashed"
    assert await resume(build()) == []


async def test_a_ledger_that_cannot_be_used_is_one_plain_line(build: Build, tmp_path: Path) -> None:
    """Nothing is begun that could not be finished."""
    (tmp_path / "ledger.db").write_bytes(b"noise" * 500)
    house = build()
    events: list[ReplyEvent] = []
    await dispatcher(house).live(house.inbound("hello"), events.append)
    assert isinstance(events[-1], TurnFailed)
    assert events[-1].kind == "store"
    assert house.model.requests == []


async def test_what_was_undone_is_not_run_again(build: Build) -> None:
    """What its author took back, after the crash and from elsewhere, stays taken back."""
    await crash(build(die), "are you there?")
    second = build()
    await second.say("/undo")
    events = await resume(second)
    assert isinstance(events[-1], TurnDone)
    assert events[-1].mark == "undone"
    assert second.model.requests == []


async def test_a_one_shot_leaves_what_was_never_begun(build: Build) -> None:
    """Typed ahead and not yet begun, a message waits for the next opening, however many one-shots come between."""
    first = build()
    begun = asyncio.Event()

    async def hang(inbound: Inbound, emit: Emit) -> None:
        begun.set()
        await asyncio.Event().wait()

    typed = asyncio.create_task(dispatcher(first, hang).live(first.inbound("later", source_id="cli:l"), lambda _: None))
    await begun.wait()
    typed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await typed
    first.presence.leave()
    for _ in range(MAX_ATTEMPTS + 1):
        once = build()
        assert await dispatcher(once).close_orphans(KEY, "cli:") == 1
        once.presence.leave()
    events = await resume(build(say("here")))
    assert isinstance(events[-1], TurnDone)
    assert events[-1].text == "here"


async def test_a_row_that_cannot_be_closed_fails_no_turn(build: Build, tmp_path: Path) -> None:
    """What was answered was answered, whatever becomes of the ledger meanwhile."""

    async def wreck(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        for name in os.listdir(tmp_path):
            if name.startswith("ledger.db"):
                os.unlink(tmp_path / name)
        os.mkdir(tmp_path / "ledger.db")
        return await say("answered")(request, on_text)

    house = build(wreck)
    events: list[ReplyEvent] = []
    await dispatcher(house).live(house.inbound("hello"), events.append)
    assert isinstance(events[-1], TurnDone)
    assert events[-1].text == "answered"


async def test_reading_needs_no_ledger(build: Build, tmp_path: Path) -> None:
    """On a full or read-only disk one can still look, and stop."""
    (tmp_path / "ledger.db").write_bytes(b"noise" * 500)
    house = build()
    events: list[ReplyEvent] = []
    for text in ("/status", "/stop", "/help"):
        await dispatcher(house).live(house.inbound(text), events.append)
    assert [type(event) for event in events] == [TurnDone] * 3


async def test_a_message_larger_than_a_line_is_refused_before_it_is_kept(build: Build) -> None:
    """One plain line, and nothing of it in the ledger."""
    house = build()
    events: list[ReplyEvent] = []
    await dispatcher(house).live(house.inbound("x" * 9_000_000, source_id="cli:big"), events.append)
    assert isinstance(events[-1], TurnFailed)
    assert "9.0 MB" in events[-1].message
    assert await house.ledger.accept_claimed(Envelope("cli:big", KEY, ""), house.clock.now)


async def test_what_is_answered_is_not_kept_in_the_ledger(build: Build, tmp_path: Path) -> None:
    """Conversations are in the session files, and nowhere else."""
    house = build(say("hi"))
    await dispatcher(house).live(house.inbound("a very private matter"), lambda _: None)
    database = sqlite3.connect(tmp_path / "ledger.db")
    assert database.execute("SELECT body FROM inbox").fetchall() == [("",)]
    database.close()
