"""Messages over HTTP: told as they come, or whole, to whoever listens, and begun once however often they are posted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import httpx
import pytest

from nanochat.errors import ModelError
from nanochat.ports import ModelReply, ModelRequest
from nanochat.turn.limits import Limits
from tests.fakes.scripted_model import ScriptedModel, call, say
from tests.http.conftest import Open
from tests.http.premises import Event, Premises, asked, events_of, read_events


async def test_an_answer_is_told_as_it_comes(premises: Premises, client: httpx.AsyncClient) -> None:
    """The session first, the text in pieces, and at last what it took."""
    premises.office.echo.gate.clear()
    async with asked(client, "olga", "hi") as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-session-id"] == "olga"
        stream = read_events(response)
        first, second = await anext(stream), await anext(stream)
        premises.office.echo.gate.set()
        rest = [event async for event in stream]
    assert (first.name, first.data["session_id"], first.data["key"]) == ("session", "olga", "http:olga")
    assert (second.name, second.data) == ("delta", {"text": "echo:"})
    assert [event.name for event in rest] == ["delta", "done"]
    done = rest[-1].data
    assert (done["text"], done["mark"], done["key"], done["message_ids"]) == ("echo: hi", "", "http:olga", [0, 1])
    assert done["usage"] == {"input": 9, "cache_read": 0, "cache_write": 0, "output": 0}


async def test_an_answer_is_told_whole(client: httpx.AsyncClient) -> None:
    """One object with everything that the stream's last event has."""
    answer = await client.post("/chat/olga", json={"message": "hi"})
    assert answer.status_code == 200
    assert answer.headers["x-session-id"] == "olga"
    told = answer.json()
    assert (told["text"], told["session_id"], told["tools"]) == ("echo: hi", "olga", [])


@pytest.mark.parametrize(
    ("session_id", "key"),
    [
        ("telegram%3A77", "telegram:77"),
        ("cli:default", "cli:default"),
        ("a%2Fb", "http:a/b"),
        ("..%2F..%2Fetc", "http:../../etc"),
        ("%D0%9E%D0%BB%D1%8F", "http:Оля"),
        ("a%20b", "http:a b"),
    ],
)
async def test_an_id_names_a_session(client: httpx.AsyncClient, session_id: str, key: str) -> None:
    """Of HTTP by its own name, of any channel by its whole key; and a path's parts stay apart."""
    answer = await client.post(f"/chat/{session_id}", json={"message": "hi"})
    assert answer.json()["key"] == key
    assert (await client.get(f"/sessions/{session_id}/history")).json()["key"] == key
    assert (await client.get(f"/sessions/{answer.headers['x-session-id']}/stats")).json()["key"] == key


async def test_new_makes_an_id(client: httpx.AsyncClient) -> None:
    """Another one each time, long enough that nobody guesses it."""
    answers = [(await client.post("/chat/new", json={"message": "hi"})).json() for _ in range(2)]
    ids = {answer["session_id"] for answer in answers}
    assert len(ids) == 2
    assert all(len(one) >= 12 and one.isalnum() for one in ids)


async def test_new_posted_again_is_the_same_session(client: httpx.AsyncClient) -> None:
    """Where a key names the message; or a retry would begin a second conversation."""
    events = [await events_of(client, "new", "hi", "key-1") for _ in range(2)]
    assert events[0][0].data["key"] == events[1][0].data["key"]


@pytest.mark.parametrize("name", ["new", ".", ".."])
async def test_an_id_that_means_something_else_is_a_whole_key(client: httpx.AsyncClient, name: str) -> None:
    """What is told as its id names it again."""
    answer = (await client.post(f"/chat/http%3A{name}", json={"message": "hi"})).json()
    assert (answer["session_id"], answer["key"]) == (f"http:{name}", f"http:{name}")
    assert (await client.get(f"/sessions/{answer['session_id']}/history")).json()["key"] == f"http:{name}"


async def test_commands_are_messages(client: httpx.AsyncClient) -> None:
    """Their answer is text as another's, and has no figures."""
    await events_of(client, "a", "hi")
    events = await events_of(client, "a", "/undo")
    assert [event.name for event in events] == ["session", "delta", "done"]
    assert events[1].data["text"] == events[2].data["text"]
    assert events[2].data["usage"] is None
    assert (await client.get("/sessions/a/history")).json()["messages"] == []


async def test_tools_are_told(opened: Open) -> None:
    """When they begin, and how they ended; and in the whole answer too."""
    script = [call("sessions", {"list": {}}), say("done"), call("sessions", {"list": {}}), say("done")]
    premises = await opened(model=ScriptedModel(script))
    async with premises.client() as client:
        events = await events_of(client, "a", "what do we have?")
        answer = (await client.post("/chat/b", json={"message": "and now?"})).json()
    started, finished = [event.data for event in events if event.name == "tool"]
    assert (started["name"], started["state"], finished["state"]) == ("sessions", "started", "finished")
    assert started["call_id"] == finished["call_id"]
    assert started["title"]
    assert [tool["name"] for tool in answer["tools"]] == ["sessions"]


# --- the system prompt --------------------------------------------------------------------------------------------------


async def test_a_system_prompt_is_set_before_the_first_message(opened: Open) -> None:
    """And said again, it changes nothing."""
    model = ScriptedModel([say("salve"), say("vale")])
    premises = await opened(model=model)
    async with premises.client() as client:
        for message in ("hi", "bye"):
            await events_of(client, "a", message, system_prompt="Answer in Latin.")
    assert all("Answer in Latin." in str(request.system) for request in model.requests)


async def test_another_system_prompt_is_refused(client: httpx.AsyncClient) -> None:
    """Once the conversation has begun; nothing is said then."""
    await events_of(client, "a", "hi")
    answer = await client.post("/chat/stream/a", json={"message": "no", "system_prompt": "Answer in Latin."})
    assert (answer.status_code, answer.json()["kind"]) == (422, "system_prompt")
    history = (await client.get("/sessions/a/history")).json()["messages"]
    assert [message["text"] for message in history] == ["hi", "echo: hi"]


# --- failures -----------------------------------------------------------------------------------------------------------


def fail(text: str = "", kind: str = "cut") -> Callable[..., object]:
    """A reply that breaks off after some text."""

    async def step(_: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        if text:
            on_text(text)
        raise ModelError("the model broke off", kind=kind, retryable=True, partial=text)

    return step


async def test_a_failure_in_the_middle_is_one_error_and_last(opened: Open) -> None:
    """What was said before it is kept."""
    premises = await opened(model=ScriptedModel([fail("I think")]))  # type: ignore[list-item]  # it raises, and returns nothing
    async with premises.client() as client:
        events = await events_of(client, "a", "hi")
        history = (await client.get("/sessions/a/history")).json()["messages"]
    assert [event.name for event in events] == ["session", "delta", "error"]
    assert (events[-1].data["status"], events[-1].data["kind"], events[-1].data["kept"]) == (502, "cut", True)
    assert [message["text"] for message in history] == ["hi", "I think"]


async def test_a_model_that_fails_at_once_is_told_on_the_stream(opened: Open) -> None:
    """And as a status where the whole answer was asked for."""
    premises = await opened(model=ScriptedModel([fail(kind="network")] * 2))  # type: ignore[list-item]  # as above
    async with premises.client() as client:
        events = await events_of(client, "a", "hi")
        answer = await client.post("/chat/b", json={"message": "hi"})
    assert [event.name for event in events] == ["session", "error"]
    assert (answer.status_code, answer.headers["content-type"]) == (502, "application/problem+json")
    problem = answer.json()
    assert problem["detail"] == events[-1].data["detail"]
    assert (problem["kind"], problem["retryable"], problem["type"]) == ("network", True, "urn:nanochat:network")


@pytest.mark.parametrize("path", ["/chat/a", "/chat/stream/a"])
async def test_a_pace_that_is_too_fast_says_when_to_come_again(opened: Open, path: str) -> None:
    """As a status, with the seconds, before a stream begins; and the message may come again under its key."""
    premises = await opened(limits=Limits(turns_per_minute=1))
    async with premises.client() as client:
        await client.post("/chat/a", json={"message": "one"})
        headers = {"Idempotency-Key": "two"}
        answer = await client.post(path, json={"message": "two"}, headers=headers)
        assert (answer.status_code, answer.json()["kind"]) == (429, "pace")
        assert answer.headers["retry-after"] == "60"
        premises.office.clock.advance(seconds=61)
        assert (await client.post(path, json={"message": "two"}, headers=headers)).status_code == 200


async def test_a_full_line_is_busy(opened: Open) -> None:
    """As many wait as may."""
    premises = await opened(limits=Limits(turns_per_minute=0, waiting=1))
    premises.office.echo.gate.clear()
    async with premises.client() as client, asked(client, "a", "one") as first, asked(client, "a", "two") as second:
        answer = await client.post("/chat/stream/a", json={"message": "three"})
        assert (answer.status_code, answer.json()["kind"], answer.json()["retryable"]) == (409, "busy", True)
        premises.office.echo.gate.set()
        assert [await last(first), await last(second)] == ["echo: one", "echo: two"]


async def test_an_unknown_command_names_the_nearest(client: httpx.AsyncClient) -> None:
    """A refusal with a status, since it comes at once."""
    answer = await client.post("/chat/stream/a", json={"message": "/undoo"})
    assert (answer.status_code, answer.json()["kind"]) == (422, "command")
    assert "/undo" in answer.json()["detail"]


async def test_two_clients_on_one_session_are_both_answered(premises: Premises, client: httpx.AsyncClient) -> None:
    """One after the other, in the order of their coming."""
    premises.office.echo.gate.clear()
    async with asked(client, "a", "one") as first, asked(client, "a", "two") as second:
        premises.office.echo.gate.set()
        assert [await last(first), await last(second)] == ["echo: one", "echo: two"]
    history = (await client.get("/sessions/a/history")).json()["messages"]
    assert [message["text"] for message in history] == ["one", "echo: one", "two", "echo: two"]


# --- posted again -------------------------------------------------------------------------------------------------------


async def test_the_same_key_replays(premises: Premises, client: httpx.AsyncClient) -> None:
    """From its beginning, and the model is not asked."""
    first = await events_of(client, "a", "hi", "key-1")
    second = await events_of(client, "a", "hi", "key-1")
    assert (second[1].name, second[1].data) == ("restart", {"reason": "replay"})
    assert second[-1] == first[-1]
    assert premises.office.echo.asked == ["hi"]


async def test_the_same_key_with_another_body_is_refused(client: httpx.AsyncClient) -> None:
    """Whether the first is still being answered by memory or by the ledger."""
    await events_of(client, "a", "hi", "key-1")
    for body in ({"message": "bye"}, {"message": "hi", "system_prompt": "Answer in Latin."}):
        answer = await client.post("/chat/stream/a", json=body, headers={"Idempotency-Key": "key-1"})
        assert (answer.status_code, answer.json()["kind"]) == (422, "idempotency")


async def test_the_same_key_in_another_session_is_another_message(client: httpx.AsyncClient) -> None:
    """Keys are the client's own, and its sessions are apart."""
    assert (await events_of(client, "a", "hi", "key-1"))[1].name == "delta"
    assert (await events_of(client, "b", "hi", "key-1"))[1].name == "delta"


async def test_two_posts_of_one_message_begin_one_turn(premises: Premises, client: httpx.AsyncClient) -> None:
    """The second reads what the first has begun, also when both come at once."""
    told = await asyncio.gather(*(events_of(client, "a", "hi", "key-1") for _ in range(5)))
    assert {events[-1].data["text"] for events in told} == {"echo: hi"}
    assert [deltas(events) for events in told] == ["echo: hi"] * 5
    assert len(premises.entrance.begun) == 1


async def test_a_client_that_leaves_does_not_lose_its_answer(premises: Premises, client: httpx.AsyncClient) -> None:
    """The turn goes on; asked again, it is resumed from its beginning, and later replayed."""
    echo = premises.office.echo
    echo.gate.clear()
    async with asked(client, "a", "hi", "key-1") as response:
        stream = read_events(response)
        assert [(await anext(stream)).name for _ in range(2)] == ["session", "delta"]
    async with asked(client, "a", "hi", "key-1") as response:
        stream = read_events(response)
        again = [await anext(stream) for _ in range(3)]
        echo.gate.set()
        again += [event async for event in stream]
    assert [event.name for event in again] == ["session", "restart", "delta", "delta", "done"]
    assert again[1].data == {"reason": "resume"}
    assert echo.asked == ["hi"]


async def test_an_answer_is_recorded_when_nobody_listens(premises: Premises, client: httpx.AsyncClient) -> None:
    """As if somebody had waited for it."""
    echo = premises.office.echo
    echo.gate.clear()
    async with asked(client, "a", "hi") as response:
        await anext(read_events(response))
    echo.gate.set()
    await premises.office.worker.rest()
    history = (await client.get("/sessions/a/history")).json()["messages"]
    assert [message["text"] for message in history] == ["hi", "echo: hi"]


async def test_after_a_restart_an_answer_is_told_from_its_session(opened: Open) -> None:
    """The ledger knows the message, and what its body was."""
    first = await opened()
    async with first.client() as client:
        told = await events_of(client, "a", "hi", "key-1")
    await first.end()
    second = await opened()
    async with second.client() as client:
        again = await events_of(client, "a", "hi", "key-1")
        other = await client.post("/chat/a", json={"message": "bye"}, headers={"Idempotency-Key": "key-1"})
    assert [event.name for event in again] == ["session", "restart", "delta", "done"]
    assert again[1].data == {"reason": "replay"}
    assert (deltas(again), again[-1].data["message_ids"]) == ("echo: hi", told[-1].data["message_ids"])
    assert (other.status_code, other.json()["kind"]) == (422, "idempotency")
    assert second.office.echo.asked == []


async def test_what_a_crash_cut_short_is_resumed(opened: Open) -> None:
    """The next process goes on with it, and tells whoever asks again."""
    first = await opened()
    first.office.echo.gate.clear()
    async with first.client() as client, asked(client, "a", "hi", "key-1") as response:
        stream = read_events(response)
        await anext(stream)
        await first.office.echo.begun.wait()
        await first.office.die()
        await first.close()
    second = await opened()
    async with second.client() as client:
        events = await events_of(client, "a", "hi", "key-1")
        history = (await client.get("/sessions/a/history")).json()["messages"]
    assert events[1].name == "restart"
    assert (events[-1].name, events[-1].data["text"]) == ("done", "echo: hi")
    assert [message["role"] for message in history] == ["user", "assistant"]


def deltas(events: Sequence[Event]) -> str:
    """The text that was told in pieces."""
    return "".join(event.data["text"] for event in events if event.name == "delta")


async def last(response: httpx.Response) -> str:
    """The text of a stream's last event."""
    events = [event async for event in read_events(response)]
    assert events[-1].name == "done"
    return str(events[-1].data["text"])
