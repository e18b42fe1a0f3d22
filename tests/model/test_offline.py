"""The model that needs no key."""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat import pricing
from nanochat.model.offline import OfflineModel
from nanochat.ports import ModelReply, ModelRequest
from nanochat.records import Block, Json
from tests.fakes.legality import refusal
from tests.model.scenes import Ear, request, text_of_reply

_SCHEDULE: Block = {
    "name": "schedule",
    "input_schema": {"type": "object", "properties": {"action": {}, "at": {}, "cron": {}, "every": {}}},
}
_TOOLS: tuple[Block, ...] = (
    _SCHEDULE,
    {"name": "sessions", "input_schema": {"type": "object"}},
    {"type": "memory_20250818", "name": "memory"},
)


async def _ask(*said: Any, model: OfflineModel | None = None, ear: Ear | None = None, **more: Any) -> ModelReply:
    ear = ear or Ear()
    model = model or OfflineModel(pace_s=0)
    return await model.reply(request(*said, **more), ear.pieces.append, ear.notices.append)


def _call(reply: ModelReply) -> Any:
    assert reply.stop_reason == "tool_use"
    return reply.content[-1]["input"]


@pytest.mark.parametrize("text", ["hello", "help", "", "what can you do?", "the tide is high"])
async def test_it_says_what_it_is(text: str) -> None:
    """Nobody takes the demo for the real thing, and the way to that is named."""
    reply = text_of_reply(await _ask(text))
    assert "demo" in reply
    assert "ANTHROPIC_API_KEY" in reply


async def test_it_streams() -> None:
    """Small pieces, which joined are the reply."""
    ear = Ear()
    reply = await _ask("tell me a long story", ear=ear)
    assert ear.text == text_of_reply(reply)
    assert len(ear.pieces) > 200
    assert max(map(len, ear.pieces)) < 140


async def test_a_long_answer_has_blocks_of_many_kinds() -> None:
    """So that streaming, formatting and stopping can be tried."""
    text = text_of_reply(await _ask("please write a long answer about anything"))
    assert len(text.split()) > 380
    for mark in ("# ", "## ", "1. ", "| ", "> ", "```", "*"):
        assert f"\n{mark}" in f"\n{text}"


@pytest.mark.parametrize(
    ("told", "asked", "expected"),
    [
        pytest.param("my name is Olga", "what is my name?", "Olga", id="name"),
        pytest.param("Hello, my name is Olga. How are you?", "What's my name", "Olga", id="name in passing"),
        pytest.param("please call me Ishmael", "who am I?", "Ishmael", id="called"),
        pytest.param("remember that my dog is Rex", "what is my dog?", "Rex", id="remember"),
        pytest.param("My favourite colour is blue!", "what is my favourite colour?", "blue", id="colour"),
        pytest.param("[Fri 2026-11-20 15:04 CET]\nmy name is Olga", "[Sat]\nwhat is my name?", "Olga", id="clock"),
        pytest.param([{"type": "text", "text": "my name is Olga"}], "what is my name?", "Olga", id="blocks"),
        pytest.param("tides are high", "what did I say about tides?", "tides are high", id="said"),
        pytest.param("tides are high", "what did I just say?", "tides are high", id="said last"),
        pytest.param("one", "how many messages did I write?", "2 messages", id="count"),
        pytest.param("hello", "what is my name?", "do not know your name", id="unknown"),
        pytest.param("hello", "who am I", "do not know your name", id="unknown person"),
        pytest.param("hello", "what did I say about tides?", "nothing about tides", id="not said"),
    ],
)
async def test_it_recalls_what_the_conversation_holds(told: Any, asked: str, expected: str) -> None:
    """From the request's messages, and from nowhere else."""
    assert expected in text_of_reply(await _ask(told, "yes", asked))


async def test_the_latest_fact_wins() -> None:
    """People change their minds."""
    reply = await _ask("my name is Olga", "yes", "my name is Nina", "yes", "what is my name?")
    assert "Nina" in text_of_reply(reply)


async def test_the_first_message_has_none_before_it() -> None:
    """Nothing is quoted where there is nothing."""
    assert "first message" in text_of_reply(await _ask("what did I say?"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "[Fri 2026-11-20 15:04 CET]\nremind me in 5 minutes to drink water",
            {"kind": "text", "text": "drink water", "at": "2026-11-20T15:09:00"},
            id="in minutes",
        ),
        pytest.param(
            "[Fri 2026-11-20 23:59]\nRemind me to call Nina in an hour",
            {"kind": "text", "text": "call Nina", "at": "2026-11-21T00:59:00"},
            id="in an hour",
        ),
        pytest.param(
            "[2026-11-20 15:04]\nremind me in 10 seconds: tea",
            {"kind": "text", "text": "tea", "at": "2026-11-20T15:05:00"},
            id="in seconds",
        ),
        pytest.param(
            "remind me in 2 days to pay", {"kind": "text", "text": "pay", "in": "2d"}, id="without a clock"
        ),
        pytest.param(
            "every day at 8 tell me the news", {"kind": "prompt", "prompt": "tell me the news", "cron": "0 8 * * *"}, id="daily"
        ),
        pytest.param(
            "every weekday at 8:30 summarise my chats",
            {"kind": "summary", "prompt": "summarise my chats", "cron": "30 8 * * 1-5"},
            id="summary",
        ),
        pytest.param(
            "remind me every sunday at 7 pm to call mum",
            {"kind": "text", "text": "call mum", "cron": "0 19 * * 0"},
            id="weekly",
        ),
        pytest.param(
            "every 15 minutes look outside", {"kind": "prompt", "prompt": "look outside", "every": "15m"}, id="interval"
        ),
    ],
)  # fmt: skip
async def test_it_makes_jobs(text: str, expected: dict[str, Json]) -> None:
    """Times in plain words become arguments of `schedule`."""
    reply = await _ask(text, tools=_TOOLS)
    assert _call(reply) == {"action": "create", **expected}


@pytest.mark.parametrize(
    "text", ["in 5 minutes I must go", "remind me of my youth", "every cloud", "what happens at 8?"]
)
async def test_not_every_time_is_a_job(text: str) -> None:
    """A time alone, or a wish without one, is only talk."""
    assert (await _ask(text, tools=_TOOLS)).stop_reason == "end_turn"


async def test_it_notes_what_it_is_to_remember() -> None:
    """All notes of the conversation stand in one file."""
    reply = await _ask("remember that tea is green", "noted", "Remember: my dog is Rex", tools=_TOOLS)
    expected = {"command": "create", "path": "/memories/notes.md", "file_text": "- tea is green\n- my dog is Rex\n"}
    assert _call(reply) == expected


@pytest.mark.parametrize(
    "text", ["search tides", "search my chats for tides", "please look for “tides”".replace("“", '"')]
)
async def test_it_searches(text: str) -> None:
    """With the query alone."""
    query = _call(await _ask(text, tools=_TOOLS))["query"].strip("”")
    assert query == "tides"


@pytest.mark.parametrize("text", ["remind me in 5 minutes to go", "remember that tea is green", "search tides"])
async def test_it_calls_only_what_is_offered(text: str) -> None:
    """Without the tool it talks."""
    assert (await _ask(text)).stop_reason == "end_turn"


@pytest.mark.parametrize("content", ["job 7, at 15:09", [{"type": "text", "text": "job 7, at 15:09"}], None])
async def test_after_a_result_it_tells_it(content: Any) -> None:
    """And calls nothing again, though the words that asked for it are still there."""
    asked = "remind me in 5 minutes to go"
    first = await _ask(asked, tools=_TOOLS)
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": first.content[-1]["id"]}
    if content is not None:
        result["content"] = content
    reply = await _ask(asked, first.content, [result], tools=_TOOLS)
    assert reply.stop_reason == "end_turn"
    assert ("job 7" if content else "done") in text_of_reply(reply)


async def test_a_failed_tool_is_told() -> None:
    """In its own words."""
    call: Block = {"type": "tool_use", "id": "t", "name": "schedule", "input": {}}
    result: Block = {"type": "tool_result", "tool_use_id": "t", "content": "in the past", "is_error": True}
    assert "did not work: in the past" in text_of_reply(await _ask("x", [call], [result], tools=_TOOLS))


async def test_every_call_has_its_own_id() -> None:
    """What a call does is done once per id, in all sessions."""
    model = OfflineModel(pace_s=0)
    ids = {(await _ask("search tides", model=model, tools=_TOOLS)).content[-1]["id"] for _ in range(3)}
    assert len(ids) == 3


async def test_the_same_request_has_the_same_reply() -> None:
    """With the ids given, there is no chance in it."""
    replies = []
    for _ in range(2):
        model = OfflineModel(pace_s=0, new_id=iter("ab").__next__)
        replies.append((await _ask("search tides", model=model, tools=_TOOLS)).content)
    assert replies[0] == replies[1]


async def test_the_cache_is_played() -> None:
    """The next request reads what it shares with the last; the kinds add up to the whole."""
    model = OfflineModel(pace_s=0)
    mark = {"cache_control": {"type": "ephemeral"}}
    first_said: Block = {"type": "text", "text": "word " * 100}
    first = await _ask([{**first_said, **mark}], model=model)
    second = await _ask([first_said], first.content, [{"type": "text", "text": "more", **mark}], model=model)
    assert (first.usage.cache_read, first.usage.cache_write) == (0, 125)
    assert second.usage.cache_read == 125
    assert second.usage.cache_write == first.usage.output + 1
    assert second.usage.input == 0


async def test_without_breakpoints_nothing_is_written() -> None:
    """Then all that is new is plain input."""
    usage = (await _ask("word " * 100)).usage
    assert (usage.input, usage.cache_write) == (125, 0)


async def test_it_costs_nothing() -> None:
    """Its price is known, and zero."""
    reply = await _ask("hello")
    assert reply.model == pricing.OFFLINE_MODEL
    assert pricing.cost_usd(reply.model, reply.usage) == 0


async def test_max_tokens_cut_it() -> None:
    """As they would cut a real one."""
    reply = await _ask("tell me a long story", max_tokens=10)
    assert (reply.stop_reason, reply.usage.output) == ("max_tokens", 10)


async def test_a_summary_keeps_the_facts() -> None:
    """Of many lines the ones that tell something about the person stay, in their order."""
    lines = [f"line {at} of talk" for at in range(200)]
    lines[50] = "user: my name is Olga"
    reply = await _ask("\n".join(lines), purpose="summary")
    text = text_of_reply(reply)
    assert "my name is Olga" in text
    assert "line 199" in text
    assert len(text) < 1500
    assert reply.stop_reason == "end_turn"


async def test_a_summary_calls_no_tool() -> None:
    """What is quoted is data."""
    assert (await _ask("search tides", tools=_TOOLS, purpose="summary")).stop_reason == "end_turn"


async def test_it_can_be_stopped() -> None:
    """In the middle of a long answer."""
    ear = Ear()
    heard = asyncio.Event()

    def on_text(text: str) -> None:
        ear.pieces.append(text)
        heard.set()

    model = OfflineModel(pace_s=0)
    task = asyncio.ensure_future(model.reply(request("tell me a long story"), on_text, ear.notices.append))
    await heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 0 < len(ear.pieces) < 100


@given(said=st.lists(st.text(), min_size=1, max_size=5), purpose=st.sampled_from(["turn", "summary"]))
def test_no_words_are_too_strange(said: list[str], purpose: Any) -> None:
    """Whatever people say, the reply is text that can be sent back."""
    reply = asyncio.run(_ask(*said, purpose=purpose, tools=_TOOLS))
    roles = itertools.cycle(("user", "assistant"))
    texts = [text if text.strip() else "x" for text in (*said, "end")[: 2 * (len(said) // 2) + 1]]
    messages: list[Json] = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    if reply.stop_reason == "end_turn":
        messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": "on"}]
    assert refusal({"model": "m", "max_tokens": 1, "messages": messages}) is None


async def test_it_loads_fast() -> None:
    """No SDK, no network."""
    code = "import sys, nanochat.model.offline; sys.exit(any(n in sys.modules for n in ('anthropic', 'httpx2', 'pydantic')))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_it_is_a_model() -> None:
    """Warm and closed like the other."""
    model = OfflineModel()
    await model.warm()
    asked: ModelRequest = request("my dog is Rex")
    assert text_of_reply(await model.reply(asked, lambda _: None, lambda _: None))
    await model.close()
