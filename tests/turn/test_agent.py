"""The agent turn: its order of writing, its outcomes, and what a crash leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import pytest

from nanochat.errors import ModelError, ToolError
from nanochat.events import Notice, ReplyEvent, TextDelta, ToolFinished, ToolStarted, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.ports import ModelReply, ModelRequest, ToolContext
from nanochat.records import Block, Json, Message, Snapshot, TurnEnd, Usage, text_of
from nanochat.sessions import Session
from nanochat.turn.agent import AgentSettings
from nanochat.turn.toolbox import Toolbox
from tests.conftest import Build
from tests.fakes.house import House
from tests.fakes.scripted_model import Step, call, say

KEY = SessionKey("cli", "test")


@dataclass
class Bell:
    """A tool that counts its calls and can be held."""

    name: str = "bell"
    spec: Block = field(
        default_factory=lambda: {"name": "bell", "description": "rings", "input_schema": {"type": "object"}}
    )
    rung: list[str] = field(default_factory=list)
    error: Exception | None = None
    hold: asyncio.Event | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    def title(self, args: Mapping[str, Json]) -> str:
        return "ringing"

    async def run(self, args: Mapping[str, Json], context: ToolContext) -> str:
        self.rung.append(context.call_id)
        self.entered.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        return "ding"


def settings(**changes: Json) -> AgentSettings:
    base = {"model": "scripted-1", "system_prompt": "Be brief.", "timezone": ZoneInfo("UTC")}
    return AgentSettings(**{**base, **changes})  # type: ignore[arg-type]  # fields by name


async def lines(house: House) -> list[Message]:
    return (await house.manager.get_or_create(KEY)).messages


async def ends(session: Session) -> list[TurnEnd]:
    return [r.event for r in session.records if isinstance(r, Snapshot) and isinstance(r.event, TurnEnd)]


async def test_a_turn_writes_question_answer_and_record(build: Build) -> None:
    """After a turn the file holds the user line, the reply and one turn record with the same source."""
    house = build(say("good morning"))
    events = await house.say("hello", source_id="cli:a")
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["good", " morning"]
    assert isinstance(events[-1], TurnDone)
    assert events[-1].text == "good morning"
    session = await house.manager.get_or_create(KEY)
    assert [(m.role, text_of(m.content), m.source_id) for m in session.messages] == [
        ("user", "hello", "cli:a"),
        ("assistant", "good morning", "cli:a"),
    ]
    [end] = await ends(session)
    assert (end.source_id, end.outcome, end.origin) == ("cli:a", "done", "owner")
    assert events[-1].message_ids == (0, 1)


async def test_the_time_is_told_once_in_five_minutes(build: Build) -> None:
    """The clock stands in the user line, and again only after it has moved."""
    house = build(say("a"), say("b"), say("c"))
    await house.say("one")
    house.clock.advance(minutes=1)
    await house.say("two")
    house.clock.advance(minutes=10)
    await house.say("three")
    told = [m.clock for m in await lines(house) if m.role == "user"]
    assert told == ["Fri 2026-11-20 13:00 CET", "", "Fri 2026-11-20 13:11 CET"]


async def test_tools_run_between_their_call_and_their_result(build: Build) -> None:
    """Call line, result line, final line: each in the file, and told as events."""
    bell = Bell()
    house = build(call("bell", {}, text="let me ring"), say("it rang"), tools=(bell,))
    events = await house.say("ring it")
    assert [type(e).__name__ for e in events if isinstance(e, ToolStarted | ToolFinished)] == [
        "ToolStarted",
        "ToolFinished",
    ]
    assert isinstance(events[-1], TurnDone)
    assert events[-1].text == "let me ring\n\nit rang"
    roles = [m.role for m in await lines(house)]
    assert roles == ["user", "assistant", "user", "assistant"]
    result = (await lines(house))[2].content[0]
    assert isinstance(result, Mapping)
    assert result == {"type": "tool_result", "tool_use_id": "toolu_1", "content": "ding"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(ToolError("no rope"), "no rope", id="tool error"),
        pytest.param(None, "no result within 0.01 s", id="timeout"),
    ],
)
async def test_a_failed_tool_is_a_result(build: Build, error: Exception | None, told: str) -> None:
    """The model reads what went wrong and goes on."""
    bell = Bell(error=error, hold=None if error else asyncio.Event())
    house = build(call("bell", {}), say("sorry"), tools=Toolbox((bell,), (), 0.01))
    events = await house.say("ring")
    assert isinstance(events[-1], TurnDone)
    block = (await lines(house))[2].content[0]
    assert isinstance(block, Mapping)
    assert (block["content"], block["is_error"]) == (told, True)


async def test_an_unknown_tool_is_a_result(build: Build) -> None:
    """A tool that the model invents does not end the turn."""
    house = build(call("gong", {}), say("never mind"), tools=())
    events = await house.say("ring")
    assert isinstance(events[-1], TurnDone)
    assert [e.ok for e in events if isinstance(e, ToolFinished)] == [False]


async def test_stop_keeps_what_was_said(build: Build) -> None:
    """A stopped reply is in the file, marked, and the turn ends at once."""
    begun = asyncio.Event()

    async def endless(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        on_text("once upon")
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    house = build(endless, say("again"))
    turn = asyncio.create_task(house.say("a story"))
    await begun.wait()
    assert (await house.say("/stop"))[-1] == TurnDone("stopping")
    done = (await turn)[-1]
    assert isinstance(done, TurnDone)
    assert (done.text, done.mark) == ("once upon", "stopped")
    assert done.stats is not None
    assert done.stats.usage == Usage(input=100, output=4), "what was read and said is paid for, stopped or not"
    assert (await lines(house))[-1].mark == "stopped"
    assert (await house.say("/stop"))[-1] == TurnDone("nothing is running here")
    assert isinstance((await house.say("go on"))[-1], TurnDone)


async def test_the_deadline_is_the_same_mechanism(build: Build) -> None:
    """A turn over its time keeps its text, and says why it ended."""

    async def endless(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        on_text("well")
        await asyncio.Event().wait()
        raise AssertionError

    house = build(endless, settings=settings(turn_timeout_s=0.05))
    events = await house.say("think")
    assert isinstance(events[-1], TurnDone)
    assert (events[-1].text, events[-1].mark) == ("well", "deadline")
    assert any(isinstance(e, Notice) for e in events)


async def test_stop_during_a_tool_closes_its_call(build: Build) -> None:
    """The next request is legal: the stopped call has a result that says so."""
    bell = Bell(hold=asyncio.Event())
    house = build(call("bell", {}), say("fine"), tools=(bell,))
    turn = asyncio.create_task(house.say("ring"))
    await bell.entered.wait()
    await house.say("/stop")
    assert isinstance((await turn)[-1], TurnDone)
    assert isinstance((await house.say("hello"))[-1], TurnDone)
    assert "stopped by the user" in str(house.model.requests[-1].messages)


async def test_a_cut_reply_is_kept_and_reported(build: Build) -> None:
    """Text that came before the line went dead stays, marked; the turn has failed."""

    async def cut(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        on_text("the answer is")
        raise ModelError("the connection broke", kind="cut", retryable=True, partial="the answer is")

    house = build(cut, say("42"))
    failed = (await house.say("what is it?"))[-1]
    assert isinstance(failed, TurnFailed)
    assert (failed.kind, failed.kept, failed.retryable) == ("cut", True, True)
    assert (await lines(house))[-1].mark == "cut"
    again = (await house.say("/retry"))[-1]
    assert isinstance(again, TurnDone)
    assert again.text == "42"
    assert [text_of(m.content) for m in await lines(house)] == ["what is it?", "42"]


@pytest.mark.parametrize(
    ("stop_reason", "mark"),
    [
        pytest.param("end_turn", "", id="end"),
        pytest.param("max_tokens", "max_tokens", id="max tokens"),
        pytest.param("refusal", "refusal", id="refusal"),
        pytest.param("model_context_window_exceeded", "context", id="window"),
        pytest.param("something_new", "", id="unknown"),
    ],
)
async def test_every_stop_reason_has_an_outcome(build: Build, stop_reason: str, mark: str) -> None:
    """Whatever ends a reply, the turn ends with it and says so."""
    house = build(say("so far", stop_reason=stop_reason))
    done = (await house.say("go"))[-1]
    assert isinstance(done, TurnDone)
    assert (done.text, done.mark) == ("so far", mark)


async def test_pause_turn_is_asked_on(build: Build) -> None:
    """A server tool that pauses the turn is resent unchanged, and the turn goes on."""
    searching: Block = {
        "type": "server_tool_use",
        "id": "srvtoolu_1",
        "name": "web_search",
        "input": {"query": "tides"},
    }

    async def pause(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        return ModelReply((searching,), "pause_turn", Usage(input=5, output=5), request.model)

    house = build(pause, say("high tide at six"))
    done = (await house.say("tides?"))[-1]
    assert isinstance(done, TurnDone)
    assert done.text == "high tide at six"
    resent = house.model.requests[1].messages[-1]
    assert resent["role"] == "assistant"
    assert "srvtoolu_1" in str(resent["content"])


async def test_rounds_have_an_end(build: Build) -> None:
    """A model that never stops calling is stopped, and the file stays legal."""
    steps: list[Step] = [call("bell", {}, call_id=f"toolu_{i}") for i in range(3)]
    house = build(*steps, say("enough"), tools=(Bell(),), settings=settings(max_rounds=3))
    done = (await house.say("ring"))[-1]
    assert isinstance(done, TurnDone)
    assert done.mark == "rounds"
    assert isinstance((await house.say("and now?"))[-1], TurnDone)


async def test_a_crash_after_the_user_line_continues_without_repeating_it(build: Build) -> None:
    """A second claim of the same message finds the line and only asks the model."""

    async def die(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        raise asyncio.CancelledError

    house = build(die, say("here I am"))
    with pytest.raises(asyncio.CancelledError):
        await house.say("are you there?", source_id="cli:x")
    done = (await house.say("are you there?", source_id="cli:x"))[-1]
    assert isinstance(done, TurnDone)
    assert [text_of(m.content) for m in await lines(house)] == ["are you there?", "here I am"]


async def test_a_crash_in_a_tool_never_runs_it_again(build: Build) -> None:
    """An open call gets an honest result; one that was answered keeps its answer."""
    bell = Bell(hold=asyncio.Event())
    house = build(call("bell", {}), say("I do not know whether it rang"), tools=(bell,))
    turn = asyncio.create_task(house.say("ring", source_id="cli:x"))
    await bell.entered.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    done = (await house.say("ring", source_id="cli:x"))[-1]
    assert isinstance(done, TurnDone)
    assert bell.rung == ["toolu_1"]
    assert "interrupted, outcome unknown" in str(house.model.requests[-1].messages)


async def test_a_finished_turn_is_told_again_without_a_request(build: Build) -> None:
    """A crash between the turn record and its delivery costs nothing but the telling."""
    house = build(say("four"))
    await house.say("2+2?", source_id="cli:x")
    done = (await house.say("2+2?", source_id="cli:x"))[-1]
    assert isinstance(done, TurnDone)
    assert done.text == "four"
    assert len(house.model.requests) == 1


async def test_a_fallback_is_recorded_and_priced_as_itself(build: Build) -> None:
    """The turn record names the model that answered."""
    house = build(say("hi", model="claude-haiku-5-5", usage=Usage(input=1_000_000, output=0)))
    await house.say("hello")
    [end] = await ends(await house.manager.get_or_create(KEY))
    assert end.model == "claude-haiku-5-5"
    assert end.cost_usd is not None
    assert end.cost_usd > 0


async def test_an_over_long_result_names_what_is_left_out(build: Build) -> None:
    """A tool cannot fill the conversation."""

    class Flood(Bell):
        async def run(self, args: Mapping[str, Json], context: ToolContext) -> str:
            return "x" * 50_000

    house = build(call("bell", {}), say("much"), tools=(Flood(),))
    await house.say("ring")
    assert "30000 more characters left out" in str((await lines(house))[2].content)


async def test_a_bug_in_a_tool_ends_the_turn_in_the_file_too(build: Build) -> None:
    """What nobody foresaw is a failed turn with its record: its cost is counted, and nobody continues it."""
    house = build(call("bell", {}), tools=(Bell(error=KeyError("oops")),))
    failed = (await house.say("ring"))[-1]
    assert isinstance(failed, TurnFailed)
    assert failed.error_id
    [end] = await ends(await house.manager.get_or_create(KEY))
    assert (end.outcome, end.usage) == ("failed", Usage(input=100, output=10))


async def test_an_interrupted_turn_is_paid_for(build: Build) -> None:
    """A turn that is closed instead of continued still counts what it had used."""
    bell = Bell(hold=asyncio.Event())
    house = build(call("bell", {}), tools=(bell,))
    turn = asyncio.create_task(house.say("ring", source_id="cli:x"))
    await bell.entered.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    await house.assistant.interrupt(KEY, "cli:x")
    session = await house.manager.get_or_create(KEY)
    [end] = await ends(session)
    assert (end.outcome, end.usage) == ("interrupted", Usage(input=100, output=10))
    assert session.state.totals.usage == Usage(input=100, output=10)


async def test_a_lost_turn_record_tells_how_the_reply_ended(build: Build) -> None:
    """A stopped reply whose record was torn off is told as stopped, not as done."""
    house = build()
    async with house.manager.turn(KEY) as session:
        now = house.clock.now
        question = Message("user", "a story", now, source_id="cli:x")
        await house.manager.append(
            session, question, Message("assistant", "once", now, "cli:x", mark="stopped"), durable=True
        )
    events: list[ReplyEvent] = []
    await house.assistant.again(house.inbound("a story", source_id="cli:x"), events.append)
    assert isinstance(events[-1], TurnDone)
    assert (events[-1].text, events[-1].mark) == ("once", "stopped")


async def test_a_summary_can_be_stopped(build: Build) -> None:
    """A person does not wait for room to be made; what was asked is in the file all the same."""
    begun = asyncio.Event()

    async def endless(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    house = build(*(say("word " * 200) for _ in range(8)), settings=settings(budget_tokens=100_000), summary_model="s")
    for i in range(8):
        await house.say(f"question {i}")
    house = build(endless, settings=settings(budget_tokens=30), summary_model="s")
    turn = asyncio.create_task(house.say("one more", source_id="cli:more"))
    await begun.wait()
    await house.say("/stop")
    done = (await turn)[-1]
    assert isinstance(done, TurnDone)
    assert done.mark == "stopped"
    assert (await lines(house))[-1].role == "user"
