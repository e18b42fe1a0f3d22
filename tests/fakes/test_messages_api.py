"""The fake Messages API, asked by the real SDK."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import pytest

from nanochat.records import Block
from tests.fakes.messages_api import FakeMessagesAPI, Gate, Raw, Recorded, Refusal, Reply, ToolCall

_HELLO: Any = [{"role": "user", "content": "hello"}]  # Any: the SDK's own message types are narrower than the wire
_MODEL = "claude-sonnet-5-5"


@pytest.fixture
async def api() -> AsyncIterator[FakeMessagesAPI]:
    async with FakeMessagesAPI() as api:
        yield api


@pytest.fixture
async def client(api: FakeMessagesAPI) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(api_key="test-key", base_url=api.url, max_retries=0) as client:
        yield client


async def _final(client: anthropic.AsyncAnthropic, messages: Any = _HELLO, **more: Any) -> Any:
    async with client.messages.stream(model=_MODEL, max_tokens=100, messages=messages, **more) as stream:
        return await stream.get_final_message()


async def test_an_unscripted_request_is_echoed(client: anthropic.AsyncAnthropic) -> None:
    """A try by hand gets a sensible answer."""
    message = await _final(client)
    assert (message.content[0].text, message.stop_reason) == ("echo: hello", "end_turn")


async def test_the_script_is_followed_in_order(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """Each request takes the next answer; a function is asked with the request."""
    api.script(Reply(text="one"), lambda request: Reply(text=f"two, {request.said}"))
    texts = [(await _final(client)).content[0].text for _ in range(2)]
    assert texts == ["one", "two, hello"]


async def test_blocks_arrive_as_they_were_scripted(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """Whatever is taken apart for the wire is whole again at the other end."""
    blocks: list[Block] = [
        {"type": "thinking", "thinking": "let me see " * 9, "signature": "sig"},
        {"type": "text", "text": "čtyři 🦉 " * 9, "citations": [{"type": "char_location", "cited_text": "x"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": [1, 2], "b": {"c": "d" * 40}}},
    ]
    api.script(Reply(blocks=blocks, stop_reason="tool_use", piece=5))
    message = await _final(client)
    assert [block.to_dict(mode="json") for block in message.content] == blocks


async def test_tool_calls_make_the_stop_reason(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """A reply that calls tools ends with `tool_use`."""
    api.script(Reply(text="wait", tool_calls=[ToolCall("add", {"a": 1}), ToolCall("add", {})]))
    message = await _final(client)
    assert message.stop_reason == "tool_use"
    assert [block.input for block in message.content[1:]] == [{"a": 1}, {}]
    assert message.content[1].id != message.content[2].id


async def test_thinking_is_signed_for_its_place(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """Sent back behind another history, the signature is refused."""
    api.script(Reply(thinking="hm", text="yes"))
    said = [block.to_dict(mode="json") for block in (await _final(client)).content]
    back = [*_HELLO, {"role": "assistant", "content": said}, {"role": "user", "content": "on"}]
    await _final(client, back)
    back[0] = {"role": "user", "content": "changed"}
    with pytest.raises(anthropic.BadRequestError, match="signature"):
        await _final(client, back)


async def test_the_cache_is_charged(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """The second request reads what the first has written, until its life is over."""
    text = {"type": "text", "text": "x" * 4000, "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "user", "content": [text]}]
    first = (await _final(client, messages)).usage
    second = (await _final(client, messages)).usage
    api.clock.advance(301)
    third = (await _final(client, messages)).usage
    assert first.cache_creation_input_tokens > 1000
    assert second.cache_read_input_tokens == third.cache_creation_input_tokens == first.cache_creation_input_tokens


async def test_a_refused_request_is_not_cached(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """Only what was answered is kept."""
    text = {"type": "text", "text": "x" * 4000, "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "user", "content": [text]}]
    api.script(Refusal(529, "overloaded_error", "Overloaded"))
    with pytest.raises(anthropic.APIStatusError):
        await _final(client, messages)
    assert (await _final(client, messages)).usage.cache_read_input_tokens == 0


async def test_an_illegal_body_is_refused(client: anthropic.AsyncAnthropic) -> None:
    """The laws of the wire hold."""
    with pytest.raises(anthropic.BadRequestError, match="first message must use"):
        await _final(client, [{"role": "assistant", "content": "hello"}])


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        pytest.param({"authorization": "Bearer wrong"}, 401, "Invalid bearer token", id="wrong token"),
        pytest.param({"x-api-key": "wrong"}, 401, "invalid x-api-key", id="wrong key"),
        pytest.param({}, 401, "header is required", id="no key"),
        pytest.param({"x-api-key": "test-key"}, 400, "anthropic-version", id="no version"),
        pytest.param({"x-api-key": "test-key", "anthropic-version": "1999-01-01"}, 400, "1999-01-01", id="old version"),
    ],
)
async def test_headers_are_checked(api: FakeMessagesAPI, headers: dict[str, str], status: int, words: str) -> None:
    """Key and version come before the body."""
    async with httpx2.AsyncClient() as client:
        response = await client.post(f"{api.url}/v1/messages", headers=headers, json={})
    assert response.status_code == status
    assert words in response.json()["error"]["message"]
    assert response.headers["request-id"] == response.json()["request_id"]


async def test_another_place_is_not_found(api: FakeMessagesAPI) -> None:
    """There is one route."""
    async with httpx2.AsyncClient() as client:
        response = await client.get(f"{api.url}/v1/models")
    assert response.status_code == 404


async def test_an_unknown_model_is_not_found(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """A test names the models that are not to exist."""
    api.unknown_models.add(_MODEL)
    with pytest.raises(anthropic.NotFoundError, match=f"model: {_MODEL}"):
        await _final(client)


async def test_a_refusal_carries_headers_and_code(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """Errors look as the real ones."""
    api.script(Refusal(429, "rate_limit_error", "slow down", {"retry-after": "7"}, code="enforced_spend_limit_reached"))
    with pytest.raises(anthropic.RateLimitError) as caught:
        await _final(client)
    assert caught.value.response.headers["retry-after"] == "7"
    assert (caught.value.type, caught.value.error_code) == ("rate_limit_error", "enforced_spend_limit_reached")


async def test_an_error_in_the_middle(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """After some deltas, an `error` event."""
    api.script(Reply(text="abcdef", piece=1, end="overloaded_error", after=3))
    async with client.messages.stream(model=_MODEL, max_tokens=9, messages=_HELLO) as stream:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await stream.until_done()
        assert stream.current_message_snapshot.content[0].to_dict()["text"] == "abc"
    assert caught.value.type == "overloaded_error"


async def test_a_cut_socket(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """The connection ends within the chunked body."""
    api.script(Reply(text="abcdef", piece=1, end="cut", after=3))
    with pytest.raises(httpx2.RemoteProtocolError):
        await _final(client)


async def test_a_stream_without_its_end(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """The body ends well, the message does not."""
    api.script(Reply(text="abc", end="no_stop"))
    message = await _final(client)
    assert (message.content[0].text, message.stop_reason) == ("abc", None)


async def test_a_gate_holds_a_reply_back(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """A delta goes out when the test says so."""
    gate = Gate()
    api.script(Reply(text="abc", piece=1, gate=gate))
    async with client.messages.stream(model=_MODEL, max_tokens=9, messages=_HELLO) as stream:
        texts = stream.text_stream
        gate.let()
        assert await anext(texts) == "a"
        await gate.reached(2)
        gate.let_all()
        assert [text async for text in texts] == ["b", "c"]


async def test_a_hanging_reply_notices_that_the_client_left(
    client: anthropic.AsyncAnthropic, api: FakeMessagesAPI
) -> None:
    """`gone` is set when the socket closes before the end."""
    api.script(Reply(text="abc", piece=1, end="hang", after=1))
    async with client.messages.stream(model=_MODEL, max_tokens=9, messages=_HELLO) as stream:
        assert await anext(aiter(stream.text_stream)) == "a"
    await (await api.arrived()).gone.wait()


async def test_a_raw_answer(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """Anything else that a network can say."""
    api.script(Raw(502, {"content-type": "text/html"}, b"<h1>Bad Gateway</h1>"))
    with pytest.raises(anthropic.InternalServerError):
        await _final(client)


async def test_connections_are_kept(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """Requests in turn share one connection, requests at once do not."""
    for _ in range(3):
        await _final(client)
    assert api.connections == 1
    gate = Gate()
    api.script(Reply(text="x", gate=gate), Reply(text="y", gate=gate))
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(_final(client))
        await gate.reached(2)
        gate.let_all()
        gate.let_all()
    assert api.connections == 2


async def test_the_server_ends_while_somebody_waits() -> None:
    """Leaving the context closes every connection and leaves no task behind."""
    async with FakeMessagesAPI() as api:
        api.script(Reply(text="abc", end="hang", after=0))
        async with anthropic.AsyncAnthropic(api_key="test-key", base_url=api.url, max_retries=0) as client:
            task = asyncio.ensure_future(_final(client))
            await api.arrived()
            await api.__aexit__()
            with pytest.raises((httpx2.HTTPError, anthropic.APIConnectionError)):
                await task


async def test_an_awaited_answer(client: anthropic.AsyncAnthropic, api: FakeMessagesAPI) -> None:
    """A responder may take its time."""

    async def answer(request: Recorded) -> Reply:
        await asyncio.sleep(0)
        return Reply(text=request.headers["anthropic-version"])

    api.responder = answer
    assert (await _final(client)).content[0].text.startswith("20")


async def test_by_hand() -> None:
    """`python -m` prints the address and answers as the offline model does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.messages_api", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with anthropic.AsyncAnthropic(api_key="any", base_url=url, max_retries=0) as client:
            messages = [
                {"role": "user", "content": "my name is Olga"},
                {"role": "assistant", "content": "hi"},
                {"role": "user", "content": "what is my name?"},
            ]
            assert "Olga" in (await _final(client, messages)).content[0].text
    finally:
        process.terminate()
        await process.wait()
