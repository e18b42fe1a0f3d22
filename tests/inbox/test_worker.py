"""Messages are worked off in order, side by side, once; by limits they are delayed and never refused."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from nanochat.errors import ChannelError, LedgerError, NotWritten
from nanochat.events import Inbound, Sender, Text, TurnFailed
from nanochat.inbox.dispatcher import packed
from nanochat.keys import SessionKey
from nanochat.ports import Emit, Envelope
from nanochat.records import text_of
from nanochat.turn.limits import Limits
from tests.fakes.memory_channel import REPEATED
from tests.fakes.office import KEY, Office, envelope
from tests.inbox.conftest import Open

OTHER = SessionKey("memory", "2")


async def said(office: Office, key: SessionKey = KEY) -> list[str]:
    session = await office.house.manager.get_or_create(key)
    return [text_of(message.content) for message in session.messages]


# --- the way of a message --------------------------------------------------------------------------------------------


async def test_a_message_is_answered(office: Open) -> None:
    """From the channel to the board, with its evidence in the ledger."""
    one = office()
    await one.open()
    await one.channel.say("hi")
    await one.shown("echo: hi")
    await one.worker.rest()
    [row] = one.rows()
    assert (row.state, row.message_ids, row.attempts) == ("delivered", ("1",), 1)
    assert await said(one) == ["hi", "echo: hi"]


async def test_the_same_update_twice_is_one_message(office: Open) -> None:
    """Also when it comes again after the answer."""
    one = office()
    await one.open()
    assert await one.put("hi", "memory:1")
    assert not await one.put("hi", "memory:1")
    await one.shown("echo: hi")
    await one.worker.rest()
    assert not await one.put("hi", "memory:1")
    await one.worker.rest()
    assert one.echo.asked == ["hi"]


async def test_one_after_the_other_in_a_session(office: Open) -> None:
    """The answer stands before the next message is begun."""
    one = office()
    await one.open()
    for i in range(4):
        await one.put(str(i), f"memory:{i}")
    await one.shown("echo: 3")
    assert one.board.texts(KEY) == [f"echo: {i}" for i in range(4)]


async def test_side_by_side_over_sessions(office: Open) -> None:
    """A long turn of one session holds nobody else up."""
    one = office()
    await one.open()
    one.echo.gate.clear()
    await one.put("long", "memory:1")
    await one.echo.begun.wait()
    await one.put("/status", "memory:2", OTHER)
    await one.board.until(lambda: bool(one.board.texts(OTHER)))
    one.echo.gate.set()
    await one.shown("echo: long")


async def test_no_more_turns_at_once_than_may(office: Open) -> None:
    """What is over waits unclaimed."""
    one = office(limits=Limits(concurrent_turns=1))
    await one.open()
    one.echo.gate.clear()
    await one.put("a", "memory:1")
    await one.echo.begun.wait()
    await one.put("b", "memory:2", OTHER)
    assert one.states() == {"memory:1": "claimed", "memory:2": "waiting"}
    one.echo.gate.set()
    await one.shown("echo: b", OTHER)


async def test_what_passes_goes_by_the_line(office: Open) -> None:
    """/stop reaches the running turn, and what it had said is kept."""
    one = office()
    await one.open()
    one.echo.gate.clear()
    await one.put("long", "memory:1")
    await one.put("next", "memory:2")
    await one.echo.begun.wait()
    await one.put("/stop", "memory:3", manner="pass")
    await one.shown("stopping")
    await one.shown("echo:")
    one.echo.gate.set()
    await one.shown("echo: next")
    await one.worker.rest()
    assert {row.source_id: row.note for row in one.rows()}["memory:1"] == "stopped"


async def test_what_stops_ends_the_running_turn(office: Open) -> None:
    """/new goes before those who wait: they ask the new conversation."""
    one = office()
    await one.open()
    one.echo.gate.clear()
    await one.put("long", "memory:1")
    await one.echo.begun.wait()
    await one.put("next", "memory:2")
    await one.put("/new", "memory:3", manner="stop")
    one.echo.gate.set()
    await one.shown("echo: next")
    await one.worker.rest()
    assert [text.split(";")[0] for text in one.board.texts(KEY)] == [
        "echo:",
        "a new conversation begins",
        "echo: next",
    ]
    assert await said(one) == ["next", "echo: next"]


async def test_albums_are_one_message(office: Open) -> None:
    """Claimed together once the last one's time has come, and closed together."""
    one = office()
    await one.open()
    now = one.clock.now
    for i in range(3):
        await one.put(f"p{i}", f"memory:{i}", group="album", ready_at=now + timedelta(seconds=1 + i / 10))
    await one.pauses.until_asleep()
    one.pauses.advance(1.15)
    await one.pauses.until_asleep()
    assert one.channel.parsed == []
    one.pauses.advance(0.1)
    await one.board.until(lambda: bool(one.board.texts(KEY)))
    await one.worker.rest()
    assert one.channel.parsed == [("memory:0", "memory:1", "memory:2")]
    assert set(one.states().values()) == {"delivered"}
    assert {row.head for row in one.rows()} == {"memory:0"}


async def test_an_edit_replaces_what_waits(office: Open) -> None:
    """And comes too late once it is being answered."""
    one = office()
    await one.put("teh", "memory:1", place="memory:1/17")
    await one.put("other", "memory:o", OTHER, place="memory:1/17")
    assert await one.put("the", "memory:2", replaces="memory:1/17")
    assert not await one.put("the", "memory:2", replaces="memory:1/17")
    await one.open()
    await one.shown("echo: the")
    await one.worker.rest()
    await one.put("thee", "memory:3", replaces="memory:1/17")
    await one.put("never heard", "memory:4", replaces="memory:1/18")
    await one.worker.rest()
    states = one.states()
    assert [states[f"memory:{i}"] for i in range(1, 5)] == ["delivered", "replaced", "dropped", "dropped"]
    assert sorted(one.echo.asked) == ["other", "the"]


async def test_another_process_wakes_it(office: Open, tmp_path: Path) -> None:
    """What others wrote into the ledger is found when they say so."""
    one, other = office(), office()
    await one.open()
    await one.worker.rest()
    await other.put("hi", "memory:1")
    one.worker.look_around()
    await one.shown("echo: hi")


async def test_the_terminals_rows_are_left_alone(office: Open) -> None:
    """Even those that a dead terminal left."""
    dead, one = office(), office()
    await dead.house.ledger.accept_claimed(Envelope("cli:1", KEY, "{}"), one.clock.now)
    await dead.die()
    await one.open()
    await one.worker.rest()
    assert one.states() == {"cli:1": "claimed"}


async def test_rows_of_a_channel_that_is_off_wait(office: Open) -> None:
    """They are answered when it is on again."""
    off = office(channels=())
    await off.put("hi", "memory:1")
    await off.open()
    await off.worker.rest()
    assert off.states() == {"memory:1": "waiting"}
    await off.leave()
    one = office()
    await one.open()
    await one.shown("echo: hi")


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_a_rate_limit_delays(office: Open) -> None:
    """The message waits unclaimed until it may pass, and nobody is refused."""
    one = office(limits=Limits(turns_per_minute=1))
    await one.open()
    await one.put("a", "memory:1")
    await one.put("b", "memory:2")
    await one.pauses.until_asleep()
    await one.worker.rest()
    assert one.states() == {"memory:1": "delivered", "memory:2": "waiting"}
    one.pauses.advance(60)
    await one.shown("echo: b")
    assert one.board.texts(KEY) == ["echo: a", "echo: b"]


async def test_a_full_line_delays(office: Open) -> None:
    """Busy is for live channels; a durable message tries again."""
    one = office(limits=Limits(waiting=0))
    await one.open()
    one.echo.gate.clear()
    live = asyncio.create_task(one.house.assistant(one.house.inbound("live", str(KEY)), lambda _: None))
    await one.echo.begun.wait()
    await one.put("hi", "memory:1")
    await one.pauses.until_asleep()
    one.echo.gate.set()
    await live
    one.pauses.advance(1)
    await one.shown("echo: hi")
    assert one.board.texts(KEY) == ["echo: hi"]


async def test_a_money_cap_is_told_once(office: Open) -> None:
    """The row is closed as refused, with the reason."""
    one = office(limits=Limits(usd_per_day=1.0))
    await one.house.ledger.spend(one.clock.now.date(), KEY, 2.0)
    await one.open()
    await one.put("hi", "memory:1")
    await one.board.until(lambda: bool(one.board.texts(KEY)))
    await one.worker.rest()
    [row] = one.rows()
    assert row.state == "refused"
    assert len(one.board.texts(KEY)) == 1
    assert one.echo.asked == []


# --- what cannot be read, and what cannot be shown -------------------------------------------------------------------


async def test_a_message_that_cannot_be_read_gets_a_line(office: Open) -> None:
    """And the next one works."""
    one = office()
    await one.open()
    await one.put("unreadable", "memory:1")
    await one.put("hi", "memory:2")
    await one.shown("echo: hi")
    await one.worker.rest()
    assert one.board.texts(KEY)[0] == "this kind of message cannot be read here"
    assert one.rows()[0].state == "failed"
    assert one.rows()[0].note == "this kind of message cannot be read here"


async def test_a_download_is_tried_again(office: Open) -> None:
    """A network that blinks costs a second, and no word."""
    one = office()
    one.channel.fault("parse", ChannelError("away", retryable=True, retry_after_s=3))
    await one.open()
    await one.put("hi", "memory:1")
    await one.pauses.until_asleep()
    one.pauses.advance(3)
    await one.shown("echo: hi")
    assert one.pauses.waits == [3]


async def test_poison_is_put_aside(office: Open) -> None:
    """`why` tells of it, its body is kept, and the next message works."""
    one = office()
    await one.open()
    await one.worker.accept(Envelope("memory:1", KEY, "{no json"))
    await one.put("hi", "memory:2")
    await one.shown("echo: hi")
    await one.worker.rest()
    assert one.rows()[0].state == "quarantined"
    assert "JSONDecodeError" in one.rows()[0].note
    assert one.board.texts(KEY) == [
        "this message cannot be read, and is put aside; nanochat why tells more",
        "echo: hi",
    ]


async def test_poison_of_nobody_is_put_aside(office: Open) -> None:
    """There is nobody to be told, and that it was put aside stays the outcome."""
    one = office()
    one.channel.fault("show", ChannelError("this key names no chat"))
    await one.open()
    await one.worker.accept(Envelope("memory:1", KEY, "{no json"))
    await one.worker.rest()
    assert one.rows()[0].state == "quarantined"
    assert "JSONDecodeError" in one.rows()[0].note


async def test_a_bug_in_reading_gets_a_line(office: Open) -> None:
    """With an id, as every other bug does."""
    one = office()
    one.channel.fault("parse", RuntimeError("no file_path"))
    await one.open()
    await one.put("hi", "memory:1")
    await one.board.until(lambda: bool(one.board.texts(KEY)))
    await one.worker.rest()
    assert "the log tells more under id" in one.board.texts(KEY)[0]
    assert one.states() == {"memory:1": "failed"}


async def test_an_answer_that_cannot_be_shown_is_told_again(office: Open) -> None:
    """Without another turn."""
    one = office()
    one.channel.fault("show", ChannelError("flood", retryable=True, retry_after_s=200))
    await one.open()
    await one.put("hi", "memory:1")
    await one.pauses.until_asleep()
    one.pauses.advance(200)
    await one.shown("echo: hi")
    assert one.echo.asked == ["hi"]


async def test_an_answer_that_can_never_be_shown_is_recorded(office: Open) -> None:
    """With the reason, and the next message works."""
    one = office()
    one.channel.fault("show", ChannelError("blocked by the user"))
    await one.open()
    await one.put("hi", "memory:1")
    await one.put("you", "memory:2")
    await one.shown("echo: you")
    await one.worker.rest()
    assert (one.rows()[0].state, one.rows()[0].note) == ("failed", "not delivered: blocked by the user")
    assert await said(one) == ["hi", "echo: hi", "you", "echo: you"]


async def test_a_day_of_trying_is_enough(office: Open) -> None:
    """Then it is recorded as not delivered."""
    one = office()
    for _ in range(3):
        one.channel.fault("show", ChannelError("away", retryable=True))
    await one.open()
    await one.put("hi", "memory:1")
    for _ in range(2):
        await one.pauses.until_asleep()
        one.pauses.advance(12 * 3600)
    await one.worker.rest()
    assert one.rows()[0].note == "not delivered: away"


async def test_a_bug_costs_its_message_only(office: Open) -> None:
    """The person gets a line with an id, and the others go on."""

    async def broken(inbound: Inbound, emit: Emit) -> None:
        raise KeyError(inbound.text)

    one = office(handler=broken)
    await one.open()
    await one.put("hi", "memory:1")
    await one.board.until(lambda: bool(one.board.texts(KEY)))
    await one.worker.rest()
    assert "the log tells more under id" in one.board.texts(KEY)[0]
    assert one.states() == {"memory:1": "failed"}


async def test_a_full_disk_is_waited_for(office: Open) -> None:
    """Nothing is lost by it, and nothing told."""
    faults: list[Exception] = [LedgerError("disk full"), NotWritten("disk full")]

    async def full(inbound: Inbound, emit: Emit) -> None:
        raise faults.pop(0)

    one = office(handler=full)
    await one.open()
    await one.put("hi", "memory:1")
    await one.pauses.until_asleep()
    one.pauses.advance(1)
    await one.shown("echo: hi")
    await one.worker.rest()
    assert one.board.texts(KEY) == ["echo: hi"]
    assert one.states() == {"memory:1": "delivered"}


# --- after a crash ---------------------------------------------------------------------------------------------------


async def test_a_turn_cut_short_is_continued(office: Open) -> None:
    """The user's line is there once, and the answer too."""
    one = office()
    await one.open()
    one.echo.gate.clear()
    await one.put("hi", "memory:1")
    await one.echo.begun.wait()
    await one.die()
    two = office()
    await two.open()
    await two.shown("echo: hi")
    await two.worker.rest()
    assert await said(two) == ["hi", "echo: hi"]
    assert two.rows()[0].attempts == 2


async def test_an_answer_not_shown_is_retold(office: Open) -> None:
    """From the session file, without another request."""
    one = office()
    one.channel.fault("show", ChannelError("flood", retryable=True))
    await one.open()
    await one.put("hi", "memory:1")
    await one.pauses.until_asleep()
    await one.die()
    two = office()
    await two.open()
    await two.shown("echo: hi")
    assert two.echo.asked == []


async def test_an_answer_is_retold_though_the_conversation_went_on(office: Open) -> None:
    """Somebody spoke in the session from elsewhere before the answer could be shown."""
    one = office()
    one.channel.fault("show", ChannelError("flood", retryable=True))
    await one.open()
    await one.put("hi", "memory:1")
    await one.pauses.until_asleep()
    await one.die()
    two = office()
    await two.house.say("meanwhile", str(KEY))
    await two.open()
    await two.shown("echo: hi")
    assert two.echo.asked == ["meanwhile"]


@pytest.mark.parametrize("text", ["/undo", "/nonsense"])
async def test_a_commands_answer_is_retold(office: Open, text: str) -> None:
    """From the ledger: the command is not carried out again."""
    one = office()
    await one.open()
    for i, words in enumerate(["first", "second"]):
        await one.put(words, f"memory:{i}")
    await one.shown("echo: second")
    one.channel.fault("show", ChannelError("flood", retryable=True))
    await one.put(text, "memory:3")
    await one.pauses.until_asleep()
    await one.die()
    two = office()
    await two.open()
    await two.board.until(lambda: len(two.board.texts(KEY)) == 3)
    await two.worker.rest()
    assert two.board.texts(KEY)[2] in ("took back “second”", "error: there is no command /nonsense; /help lists them")
    assert (await said(two))[:2] == ["first", "echo: first"]
    assert len(await said(two)) == (2 if text == "/undo" else 4)


async def test_a_command_cut_short_is_not_repeated(office: Open) -> None:
    """Whether it was carried out, a person can see; one that changes nothing is."""
    begun = asyncio.Event()

    async def hang(inbound: Inbound, emit: Emit) -> None:
        begun.set()
        await asyncio.Event().wait()

    one = office(handler=hang)
    await one.open()
    await one.put("/undo", "memory:1")
    await begun.wait()
    await one.put("/usage", "memory:2", manner="pass")
    await one.die()
    two = office()
    await two.open()
    await two.board.until(lambda: len(two.board.texts(KEY)) == 2)
    await two.worker.rest()
    assert two.states() == {"memory:1": "failed", "memory:2": "delivered"}
    assert any("look whether it was carried out" in text for text in two.board.texts(KEY))


async def test_the_third_crash_ends_it(office: Open) -> None:
    """One plain line, and the next message works."""
    for _ in range(3):
        one = office()
        one.echo.gate.clear()
        await one.open()
        await one.put("poison", "memory:1")
        await one.echo.begun.wait()
        await one.die()
    last = office()
    await last.open()
    await last.put("hi", "memory:2")
    await last.shown("echo: hi")
    await last.worker.rest()
    assert last.echo.asked == ["hi"]
    assert "3 attempts to answer your message were cut short" in last.board.texts(KEY)[0]
    assert last.rows()[0].state == "failed"


async def test_an_orderly_end_is_no_crash(office: Open) -> None:
    """However often the daemon is restarted: what it left unfinished does not count against it."""
    for _ in range(5):
        one = office()
        one.channel.fault("show", ChannelError("away", retryable=True))
        await one.open()
        await one.put("hi", "memory:1")
        await one.pauses.until_asleep()
        await one.leave()
    last = office()
    await last.open()
    await last.shown("echo: hi")
    await last.worker.rest()
    assert last.states() == {"memory:1": "delivered"}


async def test_an_unknown_sending_is_repeated_once(office: Open) -> None:
    """The one instant that cannot be closed shows its sign."""
    one = office()
    await one.put("hi", "memory:1")
    await one.house.ledger.memory_of("memory:1").sending(0)
    await one.open()
    await one.shown(f"{REPEATED}echo: hi")


async def test_a_live_channels_orphan_is_finished(office: Open) -> None:
    """Nobody listens any more, but the session has its answer."""
    dead, one = office(), office()
    inbound = Inbound(KEY, "http:1", Sender("http", "o", owner=True), (Text("hi"),), one.clock.now)
    await dead.house.ledger.accept_claimed(packed(inbound), one.clock.now)
    await one.open()
    await one.worker.rest()
    assert one.states() == {"http:1": "claimed"}
    await dead.die()
    one.worker.look_around()
    await one.worker.rest()
    assert one.states() == {"http:1": "done"}
    assert await said(one) == ["hi", "echo: hi"]


async def test_what_was_undone_is_not_answered(office: Open) -> None:
    """Its author took it back after the crash, elsewhere."""
    one = office()
    await one.open()
    one.echo.gate.clear()
    await one.put("hi", "memory:1")
    await one.echo.begun.wait()
    await one.die()
    two = office()
    await two.house.say("/undo", str(KEY))
    await two.open()
    await two.board.until(lambda: bool(two.board.texts(KEY)))
    await two.worker.rest()
    assert two.echo.asked == []


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_draining_finishes_what_runs(office: Open) -> None:
    """And begins nothing more; what waits is kept."""
    one = office()
    await one.open()
    one.echo.gate.clear()
    await one.put("a", "memory:1")
    await one.put("b", "memory:2")
    await one.echo.begun.wait()
    leaving = asyncio.create_task(one.leave())
    await asyncio.sleep(0)
    one.echo.gate.set()
    await leaving
    assert one.states() == {"memory:1": "delivered", "memory:2": "waiting"}


async def test_accepting_goes_on_while_it_ends(office: Open) -> None:
    """What comes last is kept for the next process."""
    one = office()
    await one.open()
    await one.worker.drain()
    assert await one.worker.accept(envelope("late", "memory:9"))
    assert one.states() == {"memory:9": "waiting"}


# --- waiting holds nobody else up ------------------------------------------------------------------------------------


async def test_who_waits_for_a_place_in_the_line_holds_no_turn(office: Open) -> None:
    """Another session is answered meanwhile, though only one turn may run at once."""
    one = office(limits=Limits(waiting=0, concurrent_turns=1))
    await one.open()
    one.echo.gate.clear()
    live = asyncio.create_task(one.house.assistant(one.house.inbound("live", str(KEY)), lambda _: None))
    await one.echo.begun.wait()
    await one.put("hi", "memory:1")
    await one.pauses.until_asleep()
    await one.put("/new", "memory:2", OTHER, manner="stop")
    await one.board.until(lambda: bool(one.board.texts(OTHER)))
    one.echo.gate.set()
    await live
    one.pauses.advance(1)
    await one.shown("echo: hi")


async def test_a_line_that_cannot_be_sent_holds_no_turn(office: Open) -> None:
    """Nor does a download that is tried again."""
    one = office(limits=Limits(concurrent_turns=1))
    one.channel.fault("show", ChannelError("away", retryable=True, retry_after_s=3600))
    await one.open()
    await one.put("unreadable", "memory:1")
    await one.pauses.until_asleep()
    one.channel.fault("parse", ChannelError("away", retryable=True))
    await one.put("download", "memory:2", SessionKey("memory", "3"))
    await one.pauses.until_asleep(2)
    await one.put("hi", "memory:3", OTHER)
    await one.shown("echo: hi", OTHER)
    one.pauses.advance(3600)
    await one.shown("this kind of message cannot be read here")


async def test_a_money_cap_is_told_though_the_rate_is_at_its_end(office: Open) -> None:
    """What refused decides, not what else would have."""
    one = office(limits=Limits(turns_per_minute=1, usd_per_day=1.0))
    await one.open()
    await one.put("hi", "memory:1")
    await one.board.until(lambda: bool(one.board.texts(KEY)))
    await one.worker.rest()
    assert one.states() == {"memory:1": "refused"}
    assert one.pauses.waits == []


# --- a ledger that does not take it ----------------------------------------------------------------------------------


def refuse(office: Office, state: str) -> None:
    """Let the ledger refuse to note a state, as a full disk would."""
    with sqlite3.connect(office.path) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON inbox WHEN "
            + ("NEW.outcome IS NOT NULL" if state == "closed" else f"NEW.state = '{state}'")
            + " BEGIN SELECT RAISE(FAIL, 'disk full'); END"
        )
    database.close()


@pytest.mark.parametrize("state", ["ran", "closed"])
@pytest.mark.parametrize("text", ["hi", "/undo"])
async def test_an_answer_that_cannot_be_noted_is_not_begun_again(office: Open, state: str, text: str) -> None:
    """Its reply may be on its way; only the note is tried again."""
    one = office()
    await one.put(text, "memory:1")
    refuse(one, state)
    await one.open()
    await one.pauses.until_asleep()
    one.pauses.advance(1)
    await one.pauses.until_asleep()
    with sqlite3.connect(one.path) as database:
        database.execute("DROP TRIGGER full")
    database.close()
    one.pauses.advance(2)
    await one.worker.rest()
    assert one.channel.parsed == [("memory:1",)]
    assert len(one.board.log) == 1
    assert one.rows()[0].finished_at is not None


# --- while it is being downloaded ------------------------------------------------------------------------------------


async def test_stop_reaches_what_is_being_downloaded(office: Open) -> None:
    """It stands in no line yet, and is not begun when it gets there."""
    one = office()
    one.channel.gate.clear()
    await one.open()
    await one.put("pdf", "memory:1")
    await one.channel.downloading.wait()
    await one.put("/stop", "memory:2", manner="pass")
    await one.shown("stopping")
    one.channel.gate.set()
    await one.worker.rest()
    assert one.echo.asked == []
    assert {row.source_id: row.note for row in one.rows()}["memory:1"] == "stopped"
    await one.put("/stop", "memory:3", manner="pass")
    await one.shown("nothing is running here")


async def test_new_reaches_what_is_being_downloaded(office: Open) -> None:
    """As it would a turn that runs."""
    one = office()
    one.channel.gate.clear()
    await one.open()
    await one.put("pdf", "memory:1")
    await one.channel.downloading.wait()
    await one.put("/new", "memory:2", manner="stop")
    one.channel.gate.set()
    await one.worker.rest()
    assert one.echo.asked == []
    assert one.board.texts(KEY)[1].startswith("a new conversation begins")


async def test_two_undos_are_both_done(office: Open) -> None:
    """The second one stops a turn, not the first one."""
    one = office()
    await one.open()
    for i in range(3):
        await one.put(str(i), f"memory:{i}")
    await one.shown("echo: 2")
    await one.worker.rest()
    async with office().house.manager.turn(KEY):  # somebody else speaks, and the first one waits
        await one.put("/undo", "memory:u1", manner="stop")
        await one.channel.until_parsed("memory:u1")
        await one.put("/undo", "memory:u2", manner="stop")
    await one.worker.rest()
    assert await said(one) == ["0", "echo: 0"]


async def test_what_may_not_pass_stands_in_line(office: Open) -> None:
    """Whatever the channel took it for: nothing that asks the model overtakes."""
    one = office()
    await one.open()
    one.echo.gate.clear()
    await one.put("long", "memory:1")
    await one.echo.begun.wait()
    await one.put("next", "memory:2")
    await one.put("overtaking", "memory:3", manner="pass")
    await one.channel.until_parsed("memory:3")
    one.echo.gate.set()
    await one.shown("echo: overtaking")
    await one.worker.rest()
    assert one.board.texts(KEY) == ["echo: long", "echo: next", "echo: overtaking"]


# --- kills -----------------------------------------------------------------------------------------------------------


async def test_a_ready_answer_is_not_given_up(office: Open) -> None:
    """However often the daemon dies before it can be brought: the attempts that count are those of the turn."""
    for i in range(5):
        one = office()
        one.channel.fault("show", ChannelError("away", retryable=True, retry_after_s=300))
        await one.open()
        if i == 0:
            await one.put("hi", "memory:1")
        await one.pauses.until_asleep()
        await one.die()
    last = office()
    await last.open()
    await last.shown("echo: hi")
    await last.worker.rest()
    assert last.board.texts(KEY) == ["echo: hi"]


async def test_an_answer_that_kills_whoever_shows_it_is_given_up(office: Open) -> None:
    """In the end: it stands in the session, and the daemon lives."""
    one = office()
    await one.put("hi", "memory:1")
    await one.put("you", "memory:2")
    with sqlite3.connect(one.path) as database:
        database.execute(
            "UPDATE inbox SET state = 'ran', attempts = 10, head = source_id, owner = 'gone' WHERE source_id = 'memory:1'"
        )
    database.close()
    await one.open()
    await one.shown("echo: you")
    await one.worker.rest()
    assert one.states() == {"memory:1": "failed", "memory:2": "delivered"}


async def test_an_innocent_is_not_given_up_with_the_guilty(office: Open) -> None:
    """What saw two processes die is gone on with alone: it is seen which one kills."""
    for i in range(3):
        one = office()
        one.echo.gate.clear()
        await one.open()
        if i == 0:
            await one.put("poison", "memory:1")
            await one.put("innocent", "memory:2", OTHER)
        await one.until_asked(2 if i < 2 else 1)
        await one.die()
    last = office()
    await last.open()
    await last.shown("echo: innocent", OTHER)
    await last.worker.rest()
    assert last.states() == {"memory:1": "failed", "memory:2": "delivered"}
    assert "3 attempts to answer your message were cut short" in last.board.texts(KEY)[0]


async def test_two_innocents_are_gone_on_with_one_after_the_other(office: Open) -> None:
    """Also in different sessions, and what is new does not wait for them."""
    for i in range(2):
        one = office()
        one.echo.gate.clear()
        await one.open()
        if i == 0:
            await one.put("a", "memory:1")
            await one.put("b", "memory:2", OTHER)
        await one.until_asked(2)
        await one.die()
    last = office()
    last.echo.gate.clear()
    await last.open()
    await last.put("new", "memory:3", SessionKey("memory", "3"))
    await last.until_asked(2)
    assert sorted(last.echo.asked) == ["a", "new"]
    last.echo.gate.set()
    await last.worker.rest()
    assert set(last.states().values()) == {"delivered"}


async def test_an_answer_outlives_a_new_conversation(office: Open) -> None:
    """Somebody began one in the terminal before the answer could be shown: that takes nothing back."""
    one = office()
    one.channel.fault("show", ChannelError("away", retryable=True))
    await one.open()
    await one.put("hi", "memory:1")
    await one.pauses.until_asleep()
    await one.die()
    two = office()
    await two.house.say("/new", str(KEY))
    await two.open()
    await two.shown("echo: hi")
    assert two.echo.asked == []


async def test_an_answer_that_was_undone_before_a_new_conversation(office: Open) -> None:
    """What was taken back stays taken back."""
    one = office()
    one.channel.fault("show", ChannelError("away", retryable=True))
    await one.open()
    await one.put("hi", "memory:1")
    await one.pauses.until_asleep()
    await one.die()
    two = office()
    await two.house.say("/undo", str(KEY))
    await two.house.say("/new", str(KEY))
    await two.open()
    await two.board.until(lambda: bool(two.board.texts(KEY)))
    assert two.board.texts(KEY) == ["(nothing)"]


# --- what people say -------------------------------------------------------------------------------------------------


async def test_what_people_say_stays_out_of_log_and_notes(office: Open, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever a message fails: a command that is none, one that was cut short, a turn that others overtook."""
    caplog.set_level(logging.INFO)
    one = office()
    await one.open()
    await one.put("/sekrit", "memory:1")
    await one.board.until(lambda: bool(one.board.texts(KEY)))
    one.echo.gate.clear()
    await one.put("my sekrit", "memory:2")
    await one.echo.begun.wait()
    await one.put("/system sekrit", "memory:3", OTHER)
    await one.die()
    with sqlite3.connect(one.path) as database:  # begun, too, when the process died
        database.execute(
            "UPDATE inbox SET state = 'claimed', attempts = 1, head = source_id, owner = 'gone' WHERE outcome IS NULL"
        )
    database.close()
    two = office()
    await two.house.say("meanwhile", str(KEY))
    await two.open()
    await two.board.until(lambda: len(two.board.texts(KEY)) == 2 and bool(two.board.texts(OTHER)))
    await two.worker.rest()
    assert "look whether it was carried out" in two.board.texts(OTHER)[0]
    assert "the conversation has gone on since" in two.board.texts(KEY)[1]
    assert not [text for text in [*two.board.texts(OTHER), two.board.texts(KEY)[1]] if "sekrit" in text]
    assert not [row.note for row in two.rows() if "sekrit" in row.note]
    assert "sekrit" not in caplog.text


async def test_a_failure_of_ours_is_a_warning(office: Open, caplog: pytest.LogCaptureFixture) -> None:
    """A refused key leaves a line at `log.level = "warning"`; a command that somebody may not give leaves none."""

    async def refused(inbound: Inbound, emit: Emit) -> None:
        emit(TurnFailed("the API key was refused", kind="key" if inbound.text == "hi" else "command"))

    one = office(handler=refused)
    await one.open()
    with caplog.at_level(logging.INFO, "nanochat.inbox.answering"):
        for i, text in enumerate(("hi", "/model x")):
            await one.put(text, f"memory:{i}")
        await one.worker.rest()
    told = [(r.levelname, r.getMessage()) for r in caplog.records if r.getMessage().startswith("answered")]
    assert told == [("WARNING", "answered: failed key"), ("INFO", "answered: failed command")]
