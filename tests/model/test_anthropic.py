"""The real SDK, over loopback, against the fake Messages API."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable
from types import MappingProxyType
from typing import Any

import anthropic
import pytest

from nanochat.errors import ModelError, SettingError
from nanochat.model.anthropic import AnthropicModel
from nanochat.ports import ModelReply, ModelRequest
from nanochat.records import Block, Usage
from tests.fakes.messages_api import FakeMessagesAPI, Gate, Raw, Recorded, Refusal, Reply, ToolCall
from tests.model.scenes import Ear, Time, request, text_of_reply

Make = Callable[..., AnthropicModel]
_SONNET, _HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"


@pytest.fixture
async def api() -> AsyncIterator[FakeMessagesAPI]:
    async with FakeMessagesAPI() as api:
        yield api


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def make(api: FakeMessagesAPI, time: Time) -> AsyncIterator[Make]:
    """Builds models for the fake, and closes them."""
    models: list[AnthropicModel] = []

    def build(**settings: Any) -> AnthropicModel:  # Any: AnthropicModel's own parameters
        fields = {"name": _SONNET, "api_key": "test-key", "base_url": api.url, "waits": time.waits(), **settings}
        models.append(AnthropicModel(**fields))
        return models[-1]

    yield build
    for model in models:
        await model.close()


async def _ask(model: AnthropicModel, asked: ModelRequest | None = None, ear: Ear | None = None) -> ModelReply:
    ear = ear or Ear()
    return await model.reply(asked or request("hello"), ear.pieces.append, ear.notices.append)


async def _fails(model: AnthropicModel, asked: ModelRequest | None = None, ear: Ear | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await _ask(model, asked, ear)
    return caught.value


# --- a reply ---------------------------------------------------------------------------------------------------------


async def test_a_reply_is_streamed_and_complete(make: Make, api: FakeMessagesAPI) -> None:
    """Pieces come as they come, and the whole is there at the end."""
    api.script(Reply(text="once upon a time", piece=5))
    ear = Ear()
    reply = await _ask(make(), ear=ear)
    assert ear.pieces == ["once ", "upon ", "a tim", "e"]
    assert reply.content == ({"type": "text", "text": "once upon a time"},)
    assert (reply.stop_reason, reply.model, reply.request_id) == ("end_turn", _SONNET, "req_000001")
    assert reply.ttft_s is not None
    assert reply.usage.input > 0
    assert reply.usage.output > 0


async def test_the_request_on_the_wire(make: Make, api: FakeMessagesAPI) -> None:
    """The body holds what was asked, and nothing that was not."""
    system: Block = {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}
    tool: Block = MappingProxyType({"name": "add", "description": "adds", "input_schema": {"type": "object"}})
    await _ask(make(), request("čau 🦉", system=(system,), tools=(tool,), effort="low", max_tokens=7))
    assert api.bodies == [
        {
            "model": _SONNET,
            "max_tokens": 7,
            "system": [system],
            "tools": [dict(tool)],
            "messages": [{"role": "user", "content": "čau 🦉"}],
            "output_config": {"effort": "low"},
            "stream": True,
        }
    ]


async def test_what_is_not_set_is_not_sent(make: Make, api: FakeMessagesAPI) -> None:
    """Empty lists and an empty effort stay at home; the model decides how to think."""
    await _ask(make())
    assert set(api.bodies[0]) == {"model", "max_tokens", "messages", "stream"}


async def test_the_request_names_the_model(make: Make, api: FakeMessagesAPI) -> None:
    """The model's own name is only the default, and no model is asked for more than it can say."""
    await _ask(make(), request("hello", model="claude-haiku-4-5", max_tokens=200_000))
    assert (api.bodies[0]["model"], api.bodies[0]["max_tokens"]) == ("claude-haiku-4-5", 64_000)


async def test_a_lone_surrogate_does_not_end_a_conversation(make: Make, api: FakeMessagesAPI) -> None:
    """It is sent as a question mark, because it has no form in UTF-8."""
    await _ask(make(), request("a\ud800b"))
    assert api.requests[0].said == "a?b"


_SCENES: list[Any] = [
    pytest.param([{"type": "text", "text": "plain " * 20}], "end_turn", id="text"),
    pytest.param(
        [{"type": "text", "text": "cited", "citations": [{"type": "char_location", "cited_text": "x"}]}],
        "end_turn",
        id="citations",
    ),
    pytest.param(
        [
            {"type": "thinking", "thinking": "", "signature": "c2ln"},
            {"type": "thinking", "thinking": "hm " * 9, "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "so"},
        ],
        "end_turn",
        id="thinking",
    ),
    pytest.param(
        [
            {"type": "text", "text": "both at once"},
            {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": [1, {"b": None}], "c": "é" * 40}},
            {"type": "tool_use", "id": "t2", "name": "now", "input": {}},
        ],
        "tool_use",
        id="tools",
    ),
    pytest.param(
        [
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "tides"}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "s1",
                "content": [{"type": "web_search_result", "url": "https://x", "title": "t", "encrypted_content": "e"}],
            },
            {"type": "text", "text": "high at noon"},
        ],
        "pause_turn",
        id="server tools",
    ),
    pytest.param([{"type": "hologram", "rays": [1, None]}, {"type": "text", "text": "?"}], "new_reason", id="unknown"),
]


@pytest.mark.parametrize(("blocks", "stop_reason"), _SCENES)
async def test_blocks_are_the_sdks_own(make: Make, api: FakeMessagesAPI, blocks: list[Block], stop_reason: str) -> None:
    """Our accumulator and the SDK's make the same of the same stream, and it is what was on the wire."""
    scene = Reply(blocks=blocks, stop_reason=stop_reason, piece=7)
    api.script(scene, scene)
    ours = await _ask(make())
    async with (
        anthropic.AsyncAnthropic(api_key="test-key", base_url=api.url, max_retries=0) as client,
        client.messages.stream(
            model=_SONNET, max_tokens=1000, messages=[{"role": "user", "content": "hello"}]
        ) as stream,
    ):
        theirs = await stream.get_final_message()
    assert list(ours.content) == [block.to_dict(mode="json") for block in theirs.content] == blocks
    assert ours.stop_reason == theirs.stop_reason == stop_reason
    assert (ours.usage.input, ours.usage.output) == (theirs.usage.input_tokens, theirs.usage.output_tokens)


async def test_what_came_can_be_sent_back(make: Make, api: FakeMessagesAPI) -> None:
    """A round of tools, with thinking, is legal on its way back."""
    api.script(Reply(thinking="hm", text="wait", tool_calls=[ToolCall("add", {"a": 1})]))
    model = make()
    first = await _ask(model)
    call = first.content[-1]["id"]
    result: Block = {"type": "tool_result", "tool_use_id": call, "content": "2"}
    again = await _ask(model, request("hello", first.content, [result]))
    assert text_of_reply(again).startswith("echo")


async def test_a_cut_tool_call_is_left_out(make: Make, api: FakeMessagesAPI) -> None:
    """Cut by `max_tokens` in the middle of its arguments, a call is no call."""
    half: Block = {"type": "tool_use", "id": "t1", "name": "write", "input": '{"path": "a.t'}
    api.script(Reply(blocks=[{"type": "text", "text": "now"}, half], stop_reason="max_tokens"))
    reply = await _ask(make())
    assert (reply.content, reply.stop_reason) == (({"type": "text", "text": "now"},), "max_tokens")


async def test_a_call_that_is_no_json_is_an_error(make: Make, api: FakeMessagesAPI) -> None:
    """It is tried again where nothing was said yet, and told where something was."""
    broken: Block = {"type": "tool_use", "id": "t1", "name": "write", "input": '{"path": '}
    api.script(Reply(blocks=[broken], stop_reason="tool_use"))
    assert text_of_reply(await _ask(make())) == "echo: hello"
    api.script(Reply(blocks=[{"type": "text", "text": "now"}, broken], stop_reason="tool_use"))
    error = await _fails(make())
    assert (error.kind, error.partial, error.request_id) == ("protocol", "now", "req_000003")


async def test_the_cache_is_counted(make: Make, api: FakeMessagesAPI) -> None:
    """Reads, and writes by their life, arrive as they were charged."""
    hour: Block = {"type": "text", "text": "s" * 4000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    text: Block = {"type": "text", "text": "t" * 4000, "cache_control": {"type": "ephemeral"}}
    asked = request([text], system=(hour,))
    model = make()
    first, second = (await _ask(model, asked)).usage, (await _ask(model, asked)).usage
    assert min(first.cache_write, first.cache_write_1h) > 1000
    assert second.cache_read == first.cache_write + first.cache_write_1h
    assert second.cache_write == second.cache_write_1h == 0


async def test_no_usage_is_zero(make: Make, api: FakeMessagesAPI) -> None:
    """Some endpoints do not count."""
    api.script(Reply(text="hi", no_usage=True))
    assert (await _ask(make())).usage == Usage()


async def test_a_stream_without_event_names(make: Make, api: FakeMessagesAPI) -> None:
    """Some endpoints send `data:` lines alone, and an end mark of another API."""
    events: list[Block] = [
        {"type": "message_start", "message": {"model": "llama"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    api.script(Raw(200, {"content-type": "text/event-stream"}, body.encode()))
    assert text_of_reply(await _ask(make())) == "hi"


async def test_replies_run_at_the_same_time(make: Make, api: FakeMessagesAPI) -> None:
    """Ten at once, each with its own answer; the SDK is loaded once."""
    gates = [Gate() for _ in range(10)]
    api.responder = lambda asked: Reply(text=f"to {asked.said}", gate=gates[int(asked.said)])
    model = make()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(model, request(str(at)))) for at in range(10)]
        for gate in reversed(gates):
            await gate.reached()
            gate.let_all()
    assert [text_of_reply(task.result()) for task in tasks] == [f"to {at}" for at in range(10)]


async def test_a_connection_is_kept(make: Make, api: FakeMessagesAPI) -> None:
    """The second request saves the handshake."""
    model = make()
    for _ in range(3):
        await _ask(model)
    assert api.connections == 1


async def test_a_stream_that_is_not_closed_costs_nothing_but_its_connection(make: Make, api: FakeMessagesAPI) -> None:
    """The reply is complete with its last event; the rest is waited for only briefly."""
    whole: list[Block] = [
        {"type": "message_start", "message": {"model": "m"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    api.script(Reply(events=whole, end="hang"))
    reply = await _ask(make())
    assert reply.stop_reason == "end_turn"
    await api.requests[0].gone.wait()


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "tries", "words"),
    [
        pytest.param(Refusal(400, "invalid_request_error", "bad x"), "bad_request", 1, "bad x", id="400"),
        pytest.param(Refusal(401, "authentication_error"), "key", 1, "(401): set", id="401"),
        pytest.param(Refusal(402, "billing_error"), "money", 1, "(402)", id="402"),
        pytest.param(Refusal(403, "permission_error"), "permission", 1, "(403)", id="403"),
        pytest.param(Refusal(404, "not_found_error", "model: x"), "not_found", 1, "knows no model", id="404"),
        pytest.param(Refusal(413, "request_too_large"), "too_large", 1, "too large", id="413"),
        pytest.param(Refusal(429, "rate_limit_error", "", {"retry-after": "2"}), "rate", 4, "rate limited", id="429"),
        pytest.param(Refusal(429, "rate_limit_error", ""), "rate", 2, "rate limited", id="429 without an end"),
        pytest.param(
            Refusal(429, "rate_limit_error", "", {}, "enforced_spend_limit_reached"),
            "money",
            1,
            "money",
            id="429 spent",
        ),
        pytest.param(Refusal(500, "api_error"), "server", 4, "(500)", id="500"),
        pytest.param(Refusal(503, "api_error"), "server", 4, "(503)", id="503"),
        pytest.param(Refusal(504, "timeout_error"), "server", 4, "(504)", id="504"),
        pytest.param(Refusal(529, "overloaded_error"), "overloaded", 4, "overloaded (529)", id="529"),
        pytest.param(Raw(502, {"content-type": "text/html"}, b"<h1>no</h1>"), "server", 4, "(502)", id="html 502"),
        pytest.param(
            Raw(404, {"content-type": "text/html"}, b"<h1>no</h1>"), "not_found", 1, "base_url", id="html 404"
        ),
        pytest.param(
            Raw(200, {"content-type": "text/html"}, b"<h1>hi</h1>"), "protocol", 1, "a web page", id="html 200"
        ),
        pytest.param(Raw(200, {"content-type": "application/json"}, b"{}"), "protocol", 1, "plain JSON", id="json"),
        pytest.param(
            Raw(200, {"content-type": "application/json"}, b'{"error": {"type": "overloaded_error"}}'),
            "overloaded",
            4,
            "overloaded",
            id="json error",
        ),
        pytest.param(
            Raw(200, {"content-type": "text/event-stream"}, b'data: {"object": "chat.completion.chunk"}\n\n'),
            "protocol",
            1,
            "another kind of stream",
            id="other stream",
        ),
        pytest.param(
            Raw(200, {"content-type": "text/event-stream"}, b"data: \xff\xfe\n\n"), "protocol", 1, "another", id="bytes"
        ),
        pytest.param(Raw(200, {"content-type": "text/event-stream"}, b""), "cut", 4, "broke off", id="empty stream"),
        pytest.param(
            Raw(500, {"content-type": "application/json"}, b'{"error": "hm"}'), "server", 4, "hm", id="500 text"
        ),
        pytest.param(Raw(0, {}, b""), "network", 4, "no connection", id="closed without an answer"),
        pytest.param(Reply(text="x", end="cut", after=0), "cut", 4, "broke off", id="cut before the first delta"),
        pytest.param(Reply(text="x", end="overloaded_error", after=0), "overloaded", 4, "(529)", id="error event"),
        pytest.param(Reply(text="x", end="invalid_request_error", after=0), "bad_request", 1, "(400)", id="our fault"),
    ],
)
async def test_each_failure_is_one_error(
    make: Make, api: FakeMessagesAPI, answer: Reply | Refusal | Raw, kind: str, tries: int, words: str
) -> None:
    """Whatever happens is a `ModelError` in plain words, tried as often as makes sense."""
    api.responder = lambda _: answer
    error = await _fails(make())
    assert (error.kind, len(api.requests)) == (kind, tries)
    assert words in str(error)
    assert "<h1>" not in str(error)
    assert "\n" not in str(error)
    if isinstance(answer, Refusal):
        assert error.request_id == f"req_{tries:06d}"


@pytest.mark.parametrize(
    ("end", "kind"),
    [("cut", "cut"), ("no_stop", "cut"), ("overloaded_error", "overloaded"), ("api_error", "server")],
)
async def test_after_the_first_text_nothing_is_tried_again(
    make: Make, api: FakeMessagesAPI, end: str, kind: str
) -> None:
    """The error holds what had come, and neither retry nor fallback begins the text anew."""
    api.script(Reply(text="abcdef", piece=1, end=end, after=3))
    ear = Ear()
    error = await _fails(make(fallback=[_HAIKU]), ear=ear)
    assert (error.kind, error.partial, ear.text) == (kind, "abc", "abc")
    assert (len(api.requests), ear.notices, error.request_id) == (1, [], "req_000001")


async def test_silence_has_an_end(make: Make, api: FakeMessagesAPI) -> None:
    """A stream that says nothing for too long is given up, with what had come."""
    api.script(Reply(text="abc", piece=1, end="hang", after=2))
    error = await _fails(make(timeout_s=0.05))
    assert (error.kind, error.partial) == ("timeout", "ab")


async def test_silence_before_the_answer(make: Make, api: FakeMessagesAPI) -> None:
    """The same before any byte has come."""

    async def never(_: Recorded) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    api.responder = never
    error = await _fails(make(timeout_s=0.05, retries=0))
    assert (error.kind, error.partial) == ("timeout", "")
    assert "0.05 s" in str(error)


async def test_nobody_listens(make: Make) -> None:
    """A refused connection names the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = await _fails(make(base_url=f"http://127.0.0.1:{port}", retries=0))
    assert error.kind == "network"
    assert f"no connection to 127.0.0.1:{port}" in str(error)


async def test_a_redirect_is_not_followed(make: Make, api: FakeMessagesAPI) -> None:
    """A key goes to the address that it was given for; the new one is shown without its query."""
    async with FakeMessagesAPI(keys=None) as elsewhere:
        api.script(Raw(307, {"location": f"{elsewhere.url}/v1/messages?secret=1"}, b""))
        error = await _fails(make(auth="x-api-key"))
        assert elsewhere.requests == []
    assert error.kind == "protocol"
    assert elsewhere.url in str(error)
    assert "secret" not in str(error)


async def test_the_key_is_never_shown(make: Make, api: FakeMessagesAPI) -> None:
    """Not even when the server quotes it."""
    api.script(Refusal(400, "invalid_request_error", "header Bearer test-key, and sk-ant-other"))
    error = await _fails(make())
    assert "test-key" not in str(error)
    assert "sk-ant-other" not in str(error)


@pytest.mark.parametrize("key", ["sk-ant-a\n", "sk ant", "klíč"])
def test_a_key_with_strange_characters_is_refused(make: Make, key: str) -> None:
    """A line break copied with the key would only fail later, in stranger words, and is not shown either."""
    with pytest.raises(SettingError, match="copy it again") as caught:
        make(api_key=key)
    assert key.strip() not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:1",
        "ftp://host",
        "https://",
        "https://me:pw@host",
        "https://host/v1/",
        "http://[::1",
        "http://host:port",
        "http://a b",
    ],
)
def test_an_address_that_cannot_work_is_refused(make: Make, url: str) -> None:
    """The setting is named."""
    with pytest.raises(SettingError, match=r"model\.base_url"):
        make(base_url=url)


@pytest.mark.parametrize("path", ["", "/", "/api"])
async def test_an_address_may_have_a_path(make: Make, api: FakeMessagesAPI, path: str) -> None:
    """The API's path is appended to it."""
    model = make(base_url=api.url + path, retries=0)
    if path == "/api":
        await _fails(model)
    else:
        await _ask(model)
    assert api.requests[0].path == f"{path.rstrip('/')}/v1/messages"


# --- retries and fallbacks -------------------------------------------------------------------------------------------


async def test_a_retry_succeeds(make: Make, api: FakeMessagesAPI, time: Time) -> None:
    """The person sees one reply, and a notice for the wait."""
    api.script(Refusal(429, "rate_limit_error", "", {"retry-after": "20"}), Reply(text="hi"))
    ear = Ear()
    reply = await _ask(make(), ear=ear)
    assert (text_of_reply(reply), ear.text, time.slept_s) == ("hi", "hi", [20.0])
    assert ear.notices == ["rate limited; trying again in 20 s"]
    assert reply.ttft_s == 20.0


async def test_an_endless_retry_after_is_not_waited_for(make: Make, api: FakeMessagesAPI, time: Time) -> None:
    """It is told instead."""
    api.script(Refusal(429, "rate_limit_error", "", {"retry-after": "4000"}))
    error = await _fails(make())
    assert (error.retry_after_s, time.slept_s) == (4000.0, [])


async def test_retries_can_be_off(make: Make, api: FakeMessagesAPI) -> None:
    """`retries = 0` is one attempt."""
    api.responder = lambda _: Refusal(500, "api_error")
    await _fails(make(retries=0))
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(Refusal(404, "not_found_error", "model: x"), "not known there", id="not found"),
        pytest.param(Refusal(529, "overloaded_error"), "overloaded", id="overloaded"),
        pytest.param(Refusal(500, "api_error"), "failed", id="server"),
        pytest.param(Refusal(429, "rate_limit_error", "", {"retry-after": "99"}), "rate limited", id="rate"),
    ],
)
async def test_the_fallback_is_asked(make: Make, api: FakeMessagesAPI, answer: Refusal, words: str) -> None:
    """The reply says who gave it."""
    api.responder = lambda asked: answer if asked.body["model"] == _SONNET else Reply(text="hi")
    ear = Ear()
    reply = await _ask(make(fallback=[_HAIKU]), ear=ear)
    assert (reply.model, text_of_reply(reply)) == (_HAIKU, "hi")
    assert words in ear.notices[-1]
    assert f"({_SONNET}); asking {_HAIKU} instead" in ear.notices[-1]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 413])
async def test_no_other_model_would_help(make: Make, api: FakeMessagesAPI, status: int) -> None:
    """A refused key or request is refused for all."""
    api.responder = lambda _: Refusal(status, "error")
    await _fails(make(fallback=[_HAIKU]))
    assert len(api.requests) == 1


async def test_the_last_fallbacks_error_is_told(make: Make, api: FakeMessagesAPI) -> None:
    """All are asked in their order, each once, and none twice."""
    api.unknown_models = {_SONNET, _HAIKU, "other"}
    error = await _fails(make(fallback=[_SONNET, _HAIKU, "other"]))
    assert [body["model"] for body in api.bodies] == [_SONNET, _HAIKU, "other"]
    assert "no model other" in str(error)


async def test_a_fallback_is_not_sent_anothers_thoughts(make: Make, api: FakeMessagesAPI) -> None:
    """Thinking is signed for the model that thought."""
    api.script(Reply(thinking="hm", text="yes"))
    model = make(fallback=[_HAIKU])
    first = await _ask(model)
    api.unknown_models = {_SONNET}
    reply = await _ask(model, request("hello", first.content, "more"))
    assert reply.model == _HAIKU
    told: Any = [body["messages"] for body in api.bodies[1:]]  # Any: JSON of our own making
    assert [block["type"] for block in told[0][1]["content"]] == ["thinking", "text"]
    assert [block["type"] for block in told[1][1]["content"]] == ["text"]


# --- keys and the environment ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "present", "absent"),
    [("bearer", "authorization", "x-api-key"), ("x-api-key", "x-api-key", "authorization")],
)
async def test_a_key_is_sent_in_one_way(make: Make, api: FakeMessagesAPI, auth: str, present: str, absent: str) -> None:
    """As configured, and only so."""
    await _ask(make(auth=auth))
    headers = api.requests[0].headers
    assert headers[present] in ("Bearer test-key", "test-key")
    assert absent not in headers


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the SDK would read by itself."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-env")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "env-token")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Env: secret\nx-api-key: sk-ant-env\nAuthorization: Bearer env")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("auth", ["bearer", "x-api-key"])
async def test_without_a_key_none_is_sent(time: Time, auth: Any) -> None:
    """Least of all the one of the environment, which belongs to another address."""
    async with FakeMessagesAPI(keys=None) as foreign:
        model = AnthropicModel(name="llama", base_url=foreign.url, auth=auth, waits=time.waits())
        await _ask(model)
        await model.close()
        headers = foreign.requests[0].headers
    assert not {"authorization", "x-api-key", "x-env"} & set(headers)
    assert "env" not in str(headers).replace("content-encoding", "").replace("accept-encoding", "")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("auth", ["bearer", "x-api-key"])
async def test_the_given_key_goes_before_the_environments(make: Make, api: FakeMessagesAPI, auth: str) -> None:
    """Address and key are the ones that were given."""
    await _ask(make(auth=auth))
    assert "env" not in {api.requests[0].headers.get(name) for name in ("authorization", "x-api-key", "x-env")}
    assert len(api.requests) == 1


async def test_bodies_are_never_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Also where somebody asked the libraries for everything."""
    for name in ("anthropic", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, name)
    caplog.set_level(logging.DEBUG)
    await _ask(make(), request("a secret of mine"))
    assert "secret" not in caplog.text
    assert "test-key" not in caplog.text


# --- life ------------------------------------------------------------------------------------------------------------


async def test_cancelling_hangs_up(make: Make, api: FakeMessagesAPI) -> None:
    """In the middle of a stream the socket is closed at once, and the text so far was told."""
    api.script(Reply(text="abc", piece=1, end="hang", after=2))
    heard = asyncio.Event()
    ear = Ear()

    def on_text(text: str) -> None:
        ear.pieces.append(text)
        if len(ear.pieces) == 2:
            heard.set()

    task = asyncio.ensure_future(make().reply(request("hello"), on_text, ear.notices.append))
    await heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(api.requests[0].gone.wait(), 5)
    assert ear.text == "ab"


async def test_cancelling_before_the_answer_hangs_up(make: Make, api: FakeMessagesAPI) -> None:
    """The same while the server still thinks."""
    gate = asyncio.Event()

    async def never(_: Recorded) -> Reply:
        await gate.wait()
        raise AssertionError

    api.responder = never
    task = asyncio.ensure_future(_ask(make()))
    seen = await api.arrived()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(seen.gone.wait(), 5)


async def test_a_cancelled_reply_spoils_no_other(make: Make, api: FakeMessagesAPI) -> None:
    """The next request has a connection of its own."""
    gate = Gate()
    api.script(Reply(text="abc", gate=gate))
    model = make()
    task = asyncio.ensure_future(_ask(model))
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert text_of_reply(await _ask(model)) == "echo: hello"


async def test_warming_asks_nobody(make: Make, api: FakeMessagesAPI) -> None:
    """No request, no connection; and it may be done twice, or at once."""
    model = make()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(model.warm())
    assert (api.requests, api.connections) == ([], 0)


@pytest.mark.parametrize("proxy", ["nonsense://proxy", "http://[::1"])
async def test_warming_never_raises(make: Make, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A broken environment is told by the first reply, in plain words."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    model = make()
    await model.warm()
    error = await _fails(model)
    assert error.kind == "protocol"
    assert "cannot be reached from here" in str(error)


async def test_a_closed_model_can_be_closed_again(make: Make) -> None:
    """Closing is idempotent, and legal before anything was loaded."""
    model = make()
    await model.close()
    await _ask(model)
    await model.close()
    await model.close()


async def test_the_sdk_is_not_loaded_with_the_room() -> None:
    """Importing takes a second; the room itself must not."""
    code = "import sys, nanochat.model.anthropic; sys.exit('anthropic' in sys.modules or 'httpx2' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
