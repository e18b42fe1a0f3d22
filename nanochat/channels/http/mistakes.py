"""Whatever goes wrong with a request, as a problem document.

Knows what FastAPI and Starlette raise. Does not know routes.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from nanochat.channels.http.problems import Problem, Refused, of_error
from nanochat.channels.http.shapes import FORMS
from nanochat.errors import NanochatError

__all__ = ["answer", "handle", "in_words"]

_log = logging.getLogger(__name__)

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_type": "must be text",
    "string_unicode": "holds half of a character",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters long",
    "model_attributes_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "int_parsing": "must be a whole number",
    "bool_parsing": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}

_STATUS_WORDS = {
    400: ("request", "the body cannot be read: send one JSON object"),
    404: ("route", "there is no such route: /docs names them all"),
    405: ("method", "this route does not take that method: /docs names those that it takes"),
}


def answer(problem: Problem) -> Response:
    """A problem as a response."""
    return Response(problem.body(), problem.status, headers=problem.all_headers())


def handle(app: FastAPI) -> None:
    """Have an app answer everything that goes wrong with a problem."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return answer(error.problem)

    @app.exception_handler(NanochatError)
    async def ours(_: Request, error: NanochatError) -> Response:
        problem = of_error(error)
        if problem.status >= 500:
            _log.error("%s", error)
        return answer(problem)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = error.errors()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not (kind == "application/json" or kind.endswith("+json")) and _is_of_body(errors):
            words = f"the body is {kind[:80]!r}: send it as JSON, with Content-Type: application/json"
            return answer(Problem(415, "media_type", words))
        return answer(Problem(422, "invalid", in_words(errors)))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        kind, words = _STATUS_WORDS.get(error.status_code, ("request", error.detail.lower()))
        headers = {
            name.lower(): value.replace("GET", "GET, HEAD") if name.lower() == "allow" else value
            for name, value in (error.headers or {}).items()
        }
        return answer(Problem(error.status_code, kind, words, headers=headers))

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> Response:
        # It is raised again behind this, and the server logs where it came from.
        error_id = secrets.token_hex(4)
        _log.error("a request failed, id %s", error_id)
        words = f"something went wrong inside nanochat; the log tells more under id {error_id}"
        return answer(Problem(500, "internal", words, error_id=error_id))


def in_words(errors: Sequence[Any]) -> str:  # Any: pydantic's own rows
    """What is wrong with a request, on one line; nothing that was sent is repeated but names."""
    return "; ".join(dict.fromkeys(map(_one, errors)))


def _one(error: Any) -> str:  # Any: as above
    place = [str(part) for part in error["loc"][1:]]  # the first is where it stands: body, query, path, header
    if error["type"] == "json_invalid":
        return "the body is not JSON"
    name = ".".join(place)[:80] or "the body"
    context = error.get("ctx", {})
    words = FORMS.get(context["pattern"]) if error["type"] == "string_pattern_mismatch" else _WORDS.get(error["type"])
    return f"{name}: {words.format(**context) if words else str(error['msg'])[:1].lower() + str(error['msg'])[1:]}"


def _is_of_body(errors: Sequence[Any]) -> bool:  # Any: as above
    return any(error["loc"][:1] == ("body",) for error in errors)
