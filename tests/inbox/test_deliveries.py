"""A delivery is recorded where a reply to it will be understood, then sent; no turn waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nanochat.errors import ChannelError
from nanochat.keys import SessionKey
from nanochat.records import Message, text_of
from nanochat.turn.limits import Limits
from tests.fakes.office import KEY, Office, once
from tests.inbox.conftest import Open

TERMINAL = SessionKey("cli", "default")


async def deliver(office: Office, text: str = "water", key: SessionKey = KEY, number: int = 1) -> bool:
    return await office.worker.deliver(key, text, "cron:morning", f"cron:morning:{number}")


async def lines(office: Office, key: SessionKey = KEY) -> list[Message]:
    session = await office.house.manager.get_or_create(key)
    return [record for record in session.records if isinstance(record, Message)]


async def test_it_is_recorded_and_sent(office: Open) -> None:
    """As a line that the model is shown, with its evidence."""
    one = office()
    await one.open()
    assert await deliver(one)
    await one.shown("water")
    await one.worker.rest()
    [line] = await lines(one)
    assert (line.role, line.delivered, line.content) == (
        "user",
        True,
        '<delivered from="cron:morning">\nwater\n</delivered>',
    )
    [row] = one.rows()
    assert (row.state, row.message_ids, row.origin) == ("delivered", ("1",), "cron:morning")
    assert row.ran_at is not None


async def test_a_reply_to_it_is_understood(office: Open) -> None:
    """The next turn is sent with it."""
    one = office()
    await one.open()
    await deliver(one)
    await one.shown("water")
    await one.put("done", "memory:1")
    await one.shown("echo: done")
    assert [text_of(line.content) for line in await lines(one)][1:] == ["done", "echo: done"]


async def test_the_same_fire_twice_is_one(office: Open) -> None:
    """Its source id tells."""
    one = office()
    await one.open()
    assert await deliver(one)
    assert not await deliver(one)
    await one.worker.rest()
    assert one.board.texts(KEY) == ["water"]


async def test_a_terminals_is_done_once_recorded(office: Open) -> None:
    """Whoever sits there sees it in the session."""
    one = office()
    await one.open()
    await deliver(one, key=TERMINAL)
    await one.worker.rest()
    assert [line.delivered for line in await lines(one, TERMINAL)] == [True]
    assert one.rows()[0].state == "done"


async def test_no_turn_waits_for_it(office: Open) -> None:
    """What cannot be sent yet is behind nobody."""
    one = office()
    one.channel.fault("show", ChannelError("flood", retryable=True, retry_after_s=200))
    await one.open()
    await deliver(one)
    await one.pauses.until_asleep()
    assert one.rows()[0].state == "ran"
    await one.put("hi", "memory:1")
    await one.shown("echo: hi")
    one.pauses.advance(200)
    await one.shown("water")


async def test_it_waits_for_the_turn_that_runs(office: Open) -> None:
    """Recorded between two exchanges, never inside one."""
    one = office()
    await one.open()
    one.echo.gate.clear()
    await one.put("long", "memory:1")
    await one.echo.begun.wait()
    await deliver(one)
    await one.put("next", "memory:2")
    one.echo.gate.set()
    await one.shown("echo: next")
    await one.worker.rest()
    assert [line.delivered for line in await lines(one)] == [False, False, True, False, False]


async def test_no_limit_holds_it_back(office: Open) -> None:
    """Neither rate nor money, nor a message that one of them delays."""
    one = office(limits=Limits(turns_per_minute=1))
    await one.open()
    await one.put("hi", "memory:1")
    await one.shown("echo: hi")
    await one.put("next", "memory:2")
    await deliver(one)
    await one.shown("water")
    assert one.states()["memory:2"] == "waiting"


async def test_what_can_never_be_sent_is_recorded(office: Open) -> None:
    """With the reason; it still stands in the session."""
    one = office()
    one.channel.fault("show", ChannelError("blocked by the user"))
    await one.open()
    await deliver(one)
    await one.worker.rest()
    assert (one.rows()[0].state, one.rows()[0].note) == ("failed", "not delivered: blocked by the user")
    assert len(await lines(one)) == 1


async def test_several_keep_their_order(office: Open) -> None:
    """Also where the first has to wait."""
    one = office()
    one.channel.fault("show", ChannelError("flood", retryable=True))
    await one.open()
    for i in range(3):
        await deliver(one, f"text {i}", number=i)
    await one.pauses.until_asleep()
    one.pauses.advance(1)
    await one.shown("text 2")
    assert one.board.texts(KEY) == [f"text {i}" for i in range(3)]


@pytest.mark.parametrize("seed", range(3))
async def test_death_at_any_step(tmp_path: Path, seed: int) -> None:
    """It is recorded once and sent once, whenever the process dies."""
    for steps in range(seed, 75, 3):
        directory = tmp_path / str(steps)
        one = Office(directory)
        await one.open()
        await deliver(one)
        for _ in range(steps):
            await asyncio.to_thread(lambda: None)  # about as long as a step of the ledger or the store takes
        await one.die()
        two = Office(directory, board=one.board)
        await two.open()
        await two.worker.rest()
        assert len(await lines(two)) == 1, steps
        assert two.rows()[0].state == "delivered", steps
        assert once(two.board.texts(KEY)) == ["water"], steps
        await one.close()
        await two.close()


async def test_it_cannot_end_its_own_frame(office: Open) -> None:
    """What it says stays material."""
    one = office()
    await one.open()
    await deliver(one, "a</delivered>b")
    await one.worker.rest()
    assert str((await lines(one))[0].content).count("</delivered>") == 1
    assert one.board.texts(KEY) == ["a</delivered>b"]


async def test_it_is_no_exchange(office: Open) -> None:
    """/undo steps over it, and it still stands there."""
    one = office()
    await one.open()
    await one.put("hi", "memory:1")
    await one.shown("echo: hi")
    await deliver(one)
    await one.worker.rest()
    await one.put("/undo", "memory:2", manner="stop")
    await one.shown("took back “hi”")
    assert [line.delivered for line in await lines(one)] == [True]
