"""Turns for clients who leave before their answer: each is done once, and told to whoever asks again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nanochat.errors import ModelError
from nanochat.events import Inbound, ReplyEvent, Sender, Text, TextDelta, TurnDone, TurnFailed
from nanochat.inbox.live import Live
from nanochat.keys import SessionKey
from nanochat.ports import ModelReply, ModelRequest
from nanochat.records import text_of
from nanochat.turn.limits import Limits
from tests.fakes.memory_channel import MemoryChannel
from tests.fakes.office import Office
from tests.fakes.scripted_model import ScriptedModel
from tests.inbox.conftest import Open

KEY = SessionKey("memory", "1")
ID = "memory:client-1"


class Listener:
    """An Emit that can be waited for."""

    def __init__(self) -> None:
        self.events: list[ReplyEvent] = []
        self.done = asyncio.Event()

    def __call__(self, event: ReplyEvent) -> None:
        self.events.append(event)
        if isinstance(event, TurnDone | TurnFailed):
            self.done.set()

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


def live(office: Office) -> Live:
    house = office.house
    return Live(office.worker.begin, house.ledger, house.assistant, house.manager)


def inbound(office: Office, text: str, source_id: str = ID) -> Inbound:
    return Inbound(KEY, source_id, Sender("memory", "olga", owner=True), (Text(text),), office.clock.now)


async def ask(office: Office, text: str, source_id: str = ID, digest: str = "") -> Sequence[ReplyEvent]:
    listener = Listener()
    live(office).begin(inbound(office, text, source_id), listener, digest)
    await listener.done.wait()
    await office.worker.rest()
    return listener.events


async def retold(office: Office, text: str) -> ReplyEvent:
    listener = Listener()
    await live(office).retell(inbound(office, text), listener)
    return listener.events[-1]


async def test_a_turn_is_done_and_known(office: Open) -> None:
    """Its answer comes up the same call; what it was begun with is kept."""
    one = office()
    await one.open()
    assert await live(one).known(ID) is None
    events = await ask(one, "hi", digest="abc")
    assert isinstance(events[-1], TurnDone)
    known = await live(one).known(ID)
    assert known is not None
    assert (known.key, known.is_open, known.digest, known.note) == (KEY, False, "abc", "")


async def test_an_orderly_end_waits_for_it(office: Open) -> None:
    """What was begun is finished, and what comes later is told to come back."""
    one = office()
    await one.open()
    one.echo.gate.clear()
    listener = Listener()
    live(one).begin(inbound(one, "hi"), listener)
    await one.until_asked(1)
    ending = asyncio.create_task(one.worker.drain())
    await asyncio.sleep(0)
    late = Listener()
    live(one).begin(inbound(one, "late", "memory:client-2"), late)
    [refused] = late.events
    assert isinstance(refused, TurnFailed)
    assert refused.kind == "ending"
    assert not ending.done()
    one.echo.gate.set()
    await ending
    assert listener.text == "echo: hi"
    assert await live(one).known("memory:client-2") is None


async def test_what_a_crash_cut_short_is_told_to_whoever_asks_again(office: Open) -> None:
    """The next process goes on with it, and gives it to the channel that had brought it."""
    one = office()
    await one.open()
    one.echo.gate.clear()
    live(one).begin(inbound(one, "hi"), Listener())
    await one.until_asked(1)
    await one.die()
    two = office()
    channel: MemoryChannel = two.channel
    known = await live(two).known(ID)
    assert known is not None
    assert known.is_open
    await two.open()
    await two.worker.rest()
    assert {inbound.source_id for inbound, _ in channel.heard} == {ID}
    assert isinstance(channel.heard[-1][1], TurnDone)
    assert two.board.texts(KEY) == []  # nobody has asked yet, and nothing is sent to anybody
    done = await retold(two, "hi")
    assert isinstance(done, TurnDone)
    assert (done.text, done.stats is not None) == ("echo: hi", True)


async def test_what_brings_processes_down_is_told_as_given_up(office: Open) -> None:
    """Who waits for its answer is not left waiting."""
    for _ in range(3):
        one = office()
        one.echo.gate.clear()
        await one.open()
        if await live(one).known(ID) is None:
            live(one).begin(inbound(one, "hi"), Listener())
        await one.until_asked(1)
        await one.die()
    last = office()
    await last.open()
    await last.worker.rest()
    [final] = [event for _, event in last.channel.heard if isinstance(event, TurnFailed)]
    assert "3 attempts" in final.message


async def test_a_refusal_can_be_asked_again(office: Open) -> None:
    """It is in the ledger, and is no message that was answered."""
    one = office(limits=Limits(turns_per_minute=1))
    await one.open()
    await ask(one, "first", "memory:client-0")
    refused = (await ask(one, "second", digest="a"))[-1]
    assert isinstance(refused, TurnFailed)
    assert refused.kind == "pace"
    assert await live(one).known(ID) is None
    assert "refused" in [row.state for row in one.rows(ID)]
    one.pauses.advance(61)
    assert isinstance((await ask(one, "second", digest="b"))[-1], TurnDone)
    known = await live(one).known(ID)
    assert known is not None
    assert known.digest == "b"


async def test_the_same_source_twice_is_one_turn(office: Open) -> None:
    """The second is failed as a command is, without a request."""
    one = office()
    await one.open()
    await ask(one, "hi")
    again = (await ask(one, "hi"))[-1]
    assert isinstance(again, TurnFailed)
    assert again.kind == "command"
    assert one.echo.asked == ["hi"]


async def test_retelling_changes_nothing(office: Open, tmp_path: Path) -> None:
    """The model is not asked, the file is not touched; also what is behind a /new is found."""
    one = office()
    await one.open()
    first = (await ask(one, "hi"))[-1]
    await ask(one, "/new", "memory:client-2")
    path = tmp_path / "sessions" / "memory+1.jsonl"
    before = path.read_bytes()
    done = await retold(one, "hi")
    assert isinstance(done, TurnDone)
    assert isinstance(first, TurnDone)
    assert (done.text, done.message_ids) == ("echo: hi", first.message_ids)
    assert (done.stats and done.stats.usage) == (first.stats and first.stats.usage)
    assert path.read_bytes() == before
    assert one.echo.asked == ["hi"]


@pytest.mark.parametrize(
    ("said", "then", "words"),
    [("/help", "", "carried out before"), ("hi", "/undo", "undone"), ("never", "", "no longer at hand")],
    ids=["command", "undone", "gone"],
)
async def test_retelling_what_has_no_answer(office: Open, said: str, then: str, words: str) -> None:
    """It says what became of it."""
    one = office()
    await one.open()
    if said != "never":
        await ask(one, said)
    if then:
        await ask(one, then, "memory:client-2")
    told = await retold(one, said)
    assert isinstance(told, TurnFailed | TurnDone)
    assert words in (told.message if isinstance(told, TurnFailed) else told.mark)


async def test_a_failure_is_retold_as_one(office: Open) -> None:
    """With why, in the ledger's words."""

    async def broken(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        on_text("half an ans")
        raise ModelError("the server is out of order", kind="server", retryable=True)

    one = office(model=ScriptedModel([broken]))
    await one.open()
    failed = (await ask(one, "hi"))[-1]
    assert isinstance(failed, TurnFailed)
    known = await live(one).known(ID)
    assert known is not None
    assert "out of order" in known.note
    told = await retold(one, "hi")
    assert isinstance(told, TurnFailed)
    assert told.kept


async def test_the_system_text_comes_before_the_first_message(office: Open) -> None:
    """It can be given, and given again; once the conversation has begun, only the same."""
    one = office()
    await one.open()
    door = live(one)
    assert await door.set_system(KEY, "be brief")
    assert await door.set_system(KEY, "be very brief")
    await ask(one, "hi")
    assert await door.set_system(KEY, "be very brief")
    assert not await door.set_system(KEY, "be long")
    session = await one.house.manager.get_or_create(KEY)
    assert session.system == "be very brief"
    assert [text_of(message.content) for message in session.messages] == ["hi", "echo: hi"]
