"""The description at /openapi.json is true: a machine that knows nothing else asks what it allows, and what it does not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydantic import BaseModel
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from nanochat.channels.http import shapes
from tests.fakes.scripted_model import ScriptedModel, call, say
from tests.http.conftest import Open
from tests.http.premises import Premises, events_of

# Follows a session until its reader leaves, which no machine knows when to do; its own tests are in test_sessions.
ENDLESS = "/sessions/{session_id}/live"

# For each operation and mode; the same ones each time.
EXAMPLES = 30


@pytest.mark.timeout(60)
async def test_what_is_allowed_is_answered_as_described(premises: Premises) -> None:
    """Its status, its media type and its fields; and without the token, not at all."""
    described = await asyncio.to_thread(_described, premises)
    # What may stand in a key, no schema can say: test_sessions tries what may not.
    given = {"path_parameters": {"session_id": "new"}}
    assert await asyncio.to_thread(_ask_everything, premises, described, GenerationMode.POSITIVE, given) == 7


@pytest.mark.timeout(60)
async def test_what_is_not_allowed_is_refused_as_described(premises: Premises) -> None:
    """Wherever a description says what a body or a parameter is."""
    described = await asyncio.to_thread(_described, premises)
    for path in described["paths"].values():
        for operation in path.values():
            del operation["security"]  # every request shows the token: what else is wrong with it is to be found out
    assert await asyncio.to_thread(_ask_everything, premises, described, GenerationMode.NEGATIVE, {}) == 5


EVENTS: Mapping[str, type[BaseModel]] = {
    "session": shapes.SessionEvent,
    "restart": shapes.RestartEvent,
    "delta": shapes.DeltaEvent,
    "tool": shapes.ToolEvent,
    "done": shapes.DoneEvent,
    "error": shapes.ProblemShape,
}


async def test_events_are_what_the_description_says(opened: Open) -> None:
    """Each kind that a stream can have, with no field more and none less."""
    failing = ScriptedModel([call("sessions", {"list": {}}), say("done")])
    premises = await opened(model=failing)
    async with premises.client() as client:
        told = [event for _ in range(2) for event in await events_of(client, "a", "what do we have?", "one")]
        told += await events_of(client, "a", "and now?")  # the script is at its end
        described = (await client.get("/openapi.json")).json()
    assert {event.name for event in told} == set(EVENTS)
    for event in told:
        EVENTS[event.name].model_validate(event.data)
    stream = described["paths"]["/chat/stream/{session_id}"]["post"]["responses"]["200"]
    named = {
        one["properties"]["event"]["const"]: one["properties"]["data"]["contentSchema"]["$ref"].rpartition("/")[2]
        for one in stream["content"]["text/event-stream"]["schema"]["oneOf"]
    }
    assert named == {name: shape.__name__ for name, shape in EVENTS.items()}
    assert set(named.values()) <= set(described["components"]["schemas"])


async def test_every_reference_leads_somewhere_and_every_header_is_told(client: httpx.AsyncClient) -> None:
    """What an answer carries that a client needs, it can read of before."""
    text = (await client.get("/openapi.json")).text
    described = json.loads(text)
    assert {ref.rpartition("/")[2] for ref in re.findall(r'"#/([^"]+)"', text)} <= set(
        described["components"]["schemas"]
    )
    for path, item in described["paths"].items():
        for operation in item.values():
            answers = operation["responses"]
            assert "WWW-Authenticate" in answers["401"]["headers"], path
            assert "Retry-After" in answers.get("429", answers["503"])["headers"], path
            assert "Successful Response" not in answers["200"]["description"], path
    for path in ("/chat/{session_id}", "/chat/stream/{session_id}"):
        assert "X-Session-Id" in described["paths"][path]["post"]["responses"]["200"]["headers"]


def _described(premises: Premises) -> dict[str, Any]:  # Any: OpenAPI
    found: dict[str, Any] = httpx.get(f"{premises.http.url}openapi.json").json()
    return found


def _ask_everything(
    premises: Premises, described: dict[str, Any], mode: GenerationMode, given: dict[str, Any]
) -> int:  # Any: OpenAPI, and what schemathesis takes
    url = premises.http.url.rstrip("/")
    headers = {"Authorization": f"Bearer {premises.settings.token}"}
    count = 0
    for found in schemathesis.openapi.from_dict(described).get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        can_be_wrong = bool(list(operation.body) or list(operation.query))
        if operation.path == ENDLESS or (mode is GenerationMode.NEGATIVE and not can_be_wrong):
            continue

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(operation.as_strategy(mode, **given))
        def ask(case: Any) -> None:  # Any: schemathesis types it by what it was read from
            response = case.call(base_url=url, headers=headers, timeout=10)
            # A key that was used before is refused for what was sent with it then, which no schema knows of either.
            if not (response.status_code == 422 and response.json()["kind"] == "idempotency"):
                case.validate_response(response, headers=headers)

        ask()
        count += 1
    return count
