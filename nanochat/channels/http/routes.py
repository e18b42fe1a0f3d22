"""The routes, and their description.

Knows what each route asks of the daemon's doors. Does not know who may ask (`gate`), nor how a turn is done.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePath
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Security
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from nanochat.channels.http import docs, shapes
from nanochat.channels.http.answers import channel_shapes, message_shape, row_shape, stats_shape
from nanochat.channels.http.desk import Desk, Post, digest_of
from nanochat.channels.http.frames import EVENT_STREAM, EventStream, Write, frame, gone
from nanochat.channels.http.gate import SLASH, TRUSTED
from nanochat.channels.http.mistakes import answer, handle
from nanochat.channels.http.page import page
from nanochat.channels.http.problems import MEDIA_TYPE, Problem, Refused, of_error, of_failure
from nanochat.channels.http.telling import Telling, id_of
from nanochat.doors import Follow, Health, Line, Sessions
from nanochat.errors import NanochatError
from nanochat.events import TurnFailed
from nanochat.keys import SessionKey
from nanochat.records import MAX_LINE_BYTES

__all__ = ["OPEN_PATHS", "Doors", "build"]

OPEN_PATHS = ("/", "/health", "/openapi.json", *docs.PATHS)

# A refusal comes within a few milliseconds; longer than this nobody should wait for the start of a stream.
FIRST_S = 0.25

# An answer that was being written when the end came is told to its end, if that is there by then.
FAREWELL_S = 0.5

_NEW = "new"
_AT_ONCE = (409, 422, 429, 503)
_MAX_N = 2**53 - 1

# What a line has beside the text.
_FIELDS_BYTES = 1024

# What somebody who has hung up is not told.
_GONE = Problem(503, "gone", "the client has hung up")


@dataclass(frozen=True, slots=True)
class Doors:
    """What the routes need: the doors of the daemon, and what to say of it."""

    desk: Desk
    sessions: Sessions
    follow: Follow
    health: Health
    clock: Callable[[], datetime]
    ending: asyncio.Event
    keep_alive_s: float
    version: str
    since: datetime


# --- what is asked ------------------------------------------------------------------------------------------------------

_ID = Path(
    description="A session of HTTP by its id, or any session by its key: `telegram%3A77`.",
    examples=["default"],
    json_schema_extra={"minLength": 1},
)


# What FastAPI is given without `async`, it has done in a thread, which takes longer than what is done here.


async def _key_of(session_id: Annotated[str, _ID]) -> SessionKey:
    return _parsed(session_id)


def _parsed(session_id: str) -> SessionKey:
    text = session_id.replace(SLASH, "/")
    return SessionKey.parse(text) if ":" in text else SessionKey("http", text)


async def _posted_key(
    session_id: Annotated[
        str,
        Path(
            description="A session of HTTP by its id, or any by its key; `new` begins one with an id of its own.",
            examples=["default", "new"],
        ),
    ],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=shapes.PRINTABLE,
            description="Names this message: posted again under the same key, it is not begun again.",
        ),
    ] = None,
) -> tuple[SessionKey, str | None]:
    if session_id != _NEW:
        return _parsed(session_id), idempotency_key
    # The same message posted again must find the session that it began.
    made = uuid.uuid4().hex if idempotency_key is None else digest_of(_NEW, idempotency_key)
    return SessionKey("http", made), idempotency_key


async def _refuse_unknown(request: Request) -> None:
    """A name that is spelled wrong would have no effect, and nobody would know."""
    route = request.scope["route"]
    if isinstance(route, APIRoute):
        known = {field.alias for field in route.dependant.query_params}
        unknown = [name for name in request.query_params if name not in known]
        if unknown:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise Refused(Problem(422, "invalid", f"{unknown[0][:80]}: is no parameter of this route; {takes}"))


_Key = Annotated[SessionKey, Depends(_key_of)]
_Posted = Annotated[tuple[SessionKey, str | None], Depends(_posted_key)]

# --- what is answered ---------------------------------------------------------------------------------------------------

_PROBLEMS: Mapping[int, str] = {
    400: "The request cannot be read.",
    401: "The token is missing, or wrong.",
    404: "There is no such session.",
    408: "The body did not come.",
    409: "The session is busy.",
    413: "The body is longer than 8 MiB.",
    415: "The body is not JSON.",
    421: "The host is not served here.",
    422: "The request cannot be carried out as it is.",
    429: "A limit is reached; `Retry-After` says for how long, where that is known.",
    500: "Something went wrong inside nanochat; the log tells more.",
    502: "The model could not be reached, or refused.",
    503: "A file cannot be used, too many are connected, or the daemon is ending.",
}
_EVERYWHERE = (401, 421, 500, 503)

# What stands above an answer beside its media type.
_HEADERS: Mapping[int, Mapping[str, str]] = {
    200: {"X-Session-Id": "The session that this belongs to, as it may stand in a path."},
    401: {"WWW-Authenticate": "How to show the token."},
    429: {"Retry-After": "Seconds after which it may work."},
    503: {"Retry-After": "Seconds after which it may work, where that is known."},
}

_EVENTS: Mapping[str, type[BaseModel]] = {
    "session": shapes.SessionEvent,
    "restart": shapes.RestartEvent,
    "delta": shapes.DeltaEvent,
    "tool": shapes.ToolEvent,
    "done": shapes.DoneEvent,
    "error": shapes.ProblemShape,
}


def _headers(status: int) -> dict[str, Any]:  # Any: OpenAPI, as FastAPI takes it
    described = {
        name: {"description": words, "schema": {"type": "string"}} for name, words in _HEADERS.get(status, {}).items()
    }
    return {"headers": described} if described else {}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:  # Any: as above
    content = {MEDIA_TYPE: {"schema": _component(shapes.ProblemShape)}}
    return {
        status: {"description": _PROBLEMS[status], "content": content, **_headers(status)}
        for status in sorted({*statuses, *_EVERYWHERE})
    }


def _stream(description: str, events: Mapping[str, type[BaseModel] | None]) -> dict[int | str, dict[str, Any]]:
    """One event is described, as OpenAPI does for a stream of them; without a shape, its data is any JSON."""
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
    }  # Any: OpenAPI, as FastAPI takes it
    kinds = []
    for name, shape in events.items():
        told = data if shape is None else {**data, "contentSchema": _component(shape)}
        fields = {"event": {"const": name}, "data": told} | ({"id": {"type": "string"}} if name == "line" else {})
        kinds.append({"type": "object", "properties": fields, "required": list(fields)})
    return {
        200: {
            "description": description,
            "content": {EVENT_STREAM: {"schema": {"type": "object", "oneOf": kinds}}},
            **_headers(200),
        }
    }


def _component(shape: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{shape.__name__}"}


_POSTING = (400, 408, 409, 413, 415, 422, 429, 502)
_CHAT_STREAM = _stream(
    "Server-sent events: `session` first; `restart` where the message was posted before; `delta` and `tool` as they come; and,"
    " last, `done` or `error`. What the daemon has to say meanwhile comes as comments, and stands in `done`.",
    _EVENTS,
)
_CHAT: dict[int | str, dict[str, Any]] = {200: {"description": "The whole answer.", **_headers(200)}}  # Any: as above
_LIVE_STREAM = _stream(
    "Server-sent events: a `line` for each line of the session's file, as it stands there; its id is the byte that it begins at."
    " `replaced` says that the file was put away: the session begins anew. After an `error` nothing comes.",
    {"line": None, "replaced": None, "error": shapes.ProblemShape},
)


class _App(FastAPI):
    """FastAPI knows one media type per route; what it is not told of problems is added to its description."""

    def openapi(self) -> dict[str, Any]:  # Any: OpenAPI, as FastAPI gives it
        """The description of the routes."""
        described = super().openapi()
        _, more = models_json_schema(
            [(shape, "serialization") for shape in _EVENTS.values()], ref_template="#/components/schemas/{model}"
        )
        described["components"]["schemas"] |= more["$defs"]
        return described


def build(doors: Doors) -> FastAPI:
    """The app; what every request passes first is not part of it."""
    app = _App(
        title="nanochat",
        version=doors.version or "0",
        description="Conversations with a personal assistant: asked, looked into, and followed as they grow.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
        routes=docs.routes(),
        dependencies=[
            Security(HTTPBearer(auto_error=False, scheme_name="token", description="What NANOCHAT_HTTP_TOKEN is.")),
            Depends(_refuse_unknown),
        ],
        separate_input_output_schemas=False,
    )
    app.include_router(_chat(doors))
    app.include_router(_sessions(doors))
    app.include_router(_rest(doors))
    handle(app)
    return app


def _chat(doors: Doors) -> APIRouter:
    router = APIRouter(tags=["chat"])

    async def taken(posted: tuple[SessionKey, str | None], body: shapes.ChatPost) -> Telling:
        key, idempotency_key = posted
        if _is_too_long(body.message):
            most = f"{MAX_LINE_BYTES / (1 << 20):g} MiB"
            words = f"the message is longer than a line of a session may be ({most} with all that it says): send less"
            raise Refused(Problem(413, "too_large", words, headers=_naming(key)))
        feed, restarted = await doors.desk.take(Post(key, body.message, body.system_prompt, idempotency_key))
        return Telling(feed, feed.reader(), restarted, doors.desk.look_again, doors.keep_alive_s)

    @router.post(
        "/chat/stream/{session_id}",
        response_class=EventStream,
        status_code=200,
        responses={**_CHAT_STREAM, **_problems(*_POSTING)},
        summary="Say something, and be told the answer as it comes",
    )
    async def chat_stream(posted: _Posted, body: shapes.ChatPost) -> Response:
        telling = await taken(posted, body)
        await telling.first(FIRST_S)
        if (refusal := _at_once(telling)) is not None:
            telling.reader.close()
            return answer(replace(refusal, headers=_naming(posted[0])))
        return EventStream(
            telling.stream,
            _naming(posted[0]),
            ending=doors.ending,
            keep_alive_s=doors.keep_alive_s,
            farewell_s=FAREWELL_S,
        )

    @router.post(
        "/chat/{session_id}",
        response_model=shapes.ChatAnswer,
        responses={**_CHAT, **_problems(*_POSTING)},
        summary="Say something, and be told the whole answer",
    )
    async def chat(request: Request, posted: _Posted, body: shapes.ChatPost) -> Response:
        telling = await taken(posted, body)
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(telling.whole())
            leaving = group.create_task(gone(request.receive))
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            told = answering.result() if answering.done() else _GONE
            answering.cancel()
            leaving.cancel()
        headers = _naming(posted[0])
        return (
            answer(replace(told, headers=headers)) if isinstance(told, Problem) else JSONResponse(told, headers=headers)
        )

    return router


def _sessions(doors: Doors) -> APIRouter:
    router = APIRouter(prefix="/sessions", tags=["sessions"])

    @router.get(
        "", responses=_problems(422), summary="All sessions, newest first", response_description="A page of them."
    )
    async def sessions(
        limit: Annotated[int, Query(ge=1, le=1000)] = 200, offset: Annotated[int, Query(ge=0, le=_MAX_N)] = 0
    ) -> shapes.Rows:
        briefs = await doors.sessions.list()
        return shapes.Rows(sessions=[row_shape(brief) for brief in briefs[offset : offset + limit]], total=len(briefs))

    @router.get(
        "/{session_id}/history",
        responses=_problems(404, 422),
        summary="What was said since the last reset",
        response_description="A page of it, oldest first.",
    )
    async def history(
        key: _Key,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: Annotated[int | None, Query(ge=0, le=_MAX_N, description="Only messages before this number.")] = None,
    ) -> shapes.HistoryShape:
        found = await doors.sessions.history(key, before=before, limit=limit)
        messages = [message_shape(key, message) for message in found.messages]
        return shapes.HistoryShape(session_id=id_of(key), key=str(key), messages=messages, before=found.before)

    @router.get(
        "/{session_id}/stats",
        responses=_problems(404, 422),
        summary="What a session has taken",
        response_description="Its figures.",
    )
    async def stats(key: _Key) -> shapes.StatsShape:
        return stats_shape(key, await doors.sessions.stats(key), doors.clock())

    @router.delete(
        "/{session_id}",
        responses=_problems(404, 409, 422),
        response_description="It is done.",
        response_model=shapes.Archived,
        response_model_exclude_none=True,
        summary="Begin a new conversation; with archive=true, put its file away",
    )
    async def put_away(key: _Key, archive: bool = False) -> shapes.Archived:
        if archive:
            place = PurePath(await doors.sessions.archive(key))
            # Where the data directory is does not concern who asks from elsewhere.
            return shapes.Archived(session_id=id_of(key), key=str(key), archived_to="/".join(place.parts[-2:]))
        await doors.sessions.reset(key, "http")
        return shapes.Archived(session_id=id_of(key), key=str(key), reset=True)

    @router.get(
        "/{session_id}/live",
        response_class=EventStream,
        status_code=200,
        responses={**_LIVE_STREAM, **_problems(422)},
        summary="Every line as it is appended, from any channel",
    )
    async def live(
        key: _Key,
        start: Annotated[
            str,
            Query(alias="from", pattern=shapes.START, description="`start`, `end`, or a byte of the file."),
        ] = "end",
        last_event_id: Annotated[
            str | None,
            Header(pattern=shapes.LINE_ID, description="The id of the last line that was seen; wins over `from`."),
        ] = None,
    ) -> Response:
        seen = None if last_event_id is None else int(last_event_id)
        begin = {"end": None, "start": 0}.get(start, int(start) if start.isdigit() else 0) if seen is None else seen

        async def write(put: Write) -> None:
            await _tell_lines(doors.follow(key, begin), begin, seen, put)

        return EventStream(write, _naming(key), ending=doors.ending, keep_alive_s=doors.keep_alive_s)

    return router


def _rest(doors: Doors) -> APIRouter:
    router = APIRouter()

    @router.get(
        "/health",
        responses=_problems(),
        response_model=shapes.HealthShape,
        response_model_exclude_none=True,
        openapi_extra={"security": [{}]},  # besides the token: without it there is less to be told
        summary="Whether the daemon and its channels are up",
        response_description="It is up.",
    )
    async def health(request: Request) -> shapes.HealthShape:
        channels = doors.health()
        status: Literal["ok", "degraded"] = "ok" if all(channel.is_up for channel in channels) else "degraded"
        if not request.scope[TRUSTED]:
            return shapes.HealthShape(status=status)
        return shapes.HealthShape(
            status=status, version=doors.version, pid=os.getpid(), since=doors.since, channels=channel_shapes(channels)
        )

    html, headers = page()

    @router.get("/", include_in_schema=False)
    async def front() -> Response:
        return Response(html, media_type="text/html", headers=headers)

    return router


# --- parts of answers ---------------------------------------------------------------------------------------------------


def _at_once(telling: Telling) -> Problem | None:
    """A refusal that came before anything was to be shown has a status; what goes wrong with the model is told on the stream."""
    end = telling.feed.end
    if not isinstance(end, TurnFailed) or telling.feed.shows_something:
        return None
    problem = of_failure(end)
    return problem if problem.status in _AT_ONCE else None


def _is_too_long(message: str) -> bool:
    """Whether a message is too long for its line, which holds it as JSON, and who said it when. Few are worth a look."""
    if len(message) < MAX_LINE_BYTES // 8:
        return False
    return len(json.dumps(message, ensure_ascii=False).encode()) > MAX_LINE_BYTES - _FIELDS_BYTES


def _naming(key: SessionKey) -> dict[str, str]:
    """A header takes ASCII only; what is not is written as in a path."""
    return {"x-session-id": quote(id_of(key), safe=":@+~")}


async def _tell_lines(lines: AsyncIterator[Line], begin: int | None, seen: int | None, put: Write) -> None:
    """Write each line as it comes; the one that was `seen` last is left out, and what is blank."""
    last = -1 if begin is None else begin - 1
    try:
        async for line in lines:
            frames = frame("replaced", {}) if line.start <= last else b""
            is_new = line.start != seen and not line.text.isspace() and line.text != ""
            last, seen = line.start, None
            if is_new:
                frames += frame("line", line.text, str(line.start))
            if frames:
                # Of a long line the reader may take one part at a time; nothing else of it is kept meanwhile.
                del line
                await put(frames)
    except NanochatError as error:  # a stream that has begun has no other way to say it
        await put(frame("error", of_error(error).fields()))
    finally:
        if isinstance(lines, AsyncGenerator):
            await lines.aclose()
