"""The description at /openapi.json is true: a machine that knows nothing else asks what it allows, and what it does not."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from tests.http.premises import Premises

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
