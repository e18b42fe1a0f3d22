"""One request to a Messages API over the SDK, and its stream.

Knows `anthropic` and `httpx2`, and turns each of their ways to fail into a `ModelError`. Does not know retries. Importing this
module costs about a second: `anthropic.py` beside it does so in a thread.

The SDK reads nothing from the environment here, neither key nor address nor headers: a key goes to the address that it was
given with, and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import anthropic
import httpx2

from nanochat.model import failures
from nanochat.model.accumulator import Accumulator
from nanochat.model.failures import Place, Refused
from nanochat.records import Json, Usage

__all__ = ["Endpoint", "Wire", "rehearse"]

# The SDK allows a read 600 s; a live stream pings far more often, and a person waits.
_CONNECT_S = 5.0
_WRITE_S = 30.0
_POOL_S = 5.0

# httpx2 closes idle connections after 5 s; a chat's next message comes later than that, and a new one costs two round trips.
_KEEPALIVE_S = 300.0
_MAX_CONNECTIONS = 100
_MAX_IDLE_CONNECTIONS = 10

# Reading the stream to its very end keeps the connection for the next request; a server that does not end it loses that.
_DRAIN_S = 0.5

# An error's body is a few hundred bytes; more of something else is not worth reading.
_MAX_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where, with which key, and how patiently: `timeout_s` is the longest silence on an open stream."""

    base_url: str
    key: str = field(repr=False)
    auth: Literal["bearer", "x-api-key"]
    timeout_s: float

    @property
    def host(self) -> str:
        return httpx2.URL(self.base_url).netloc.decode("ascii", "replace")


class _Event(Protocol):
    """A server-sent event of the SDK, as far as we look at it."""

    @property
    def data(self) -> str: ...


class Wire:
    """A client with its connections; safe to use concurrently."""

    def __init__(self, endpoint: Endpoint, http: httpx2.AsyncClient | None = None) -> None:
        self._endpoint = endpoint
        self._client = _client(endpoint, http)
        # Their debug lines hold whole conversations.
        for name in ("anthropic", "httpx2", "httpcore2"):
            logger = logging.getLogger(name)
            logger.setLevel(max(logger.level, logging.WARNING))

    async def stream(
        self, body: bytes, model: str, on_text: Callable[[str], None], on_start: Callable[[Usage], None]
    ) -> tuple[Accumulator, str]:
        """Send one request and follow its stream to the end.

        Returns:
            The finished reply, and the provider's name for the request.

        Raises:
            ModelError: with what had come as `partial`.
        """
        place = Place(self._endpoint.host, model, self._endpoint.key)
        response = await self._open(body, place)
        request_id = str(response.headers.get("request-id", ""))
        reply = Accumulator(on_text, on_start)
        try:
            await _expect_stream(response, place)
            await _follow(response, reply, place)
        except httpx2.TimeoutException as error:
            raise failures.silent(self._endpoint.timeout_s, place, reply.text, request_id) from error
        except httpx2.HTTPError as error:
            raise failures.cut(place, reply.text, request_id) from error
        finally:
            await response.aclose()
        if not reply.finished:
            raise failures.cut(place, reply.text, request_id)
        return reply, request_id

    async def close(self) -> None:
        await self._client.close()

    async def _open(self, body: bytes, place: Place) -> httpx2.Response:
        # `messages.create` copies the whole body piece by piece, 3 to 6 ms at 2,000 messages, and builds a pydantic model for
        # each event; the same post with bytes, and the response as it is, stay within a few tenths of bare httpx2.
        try:
            response: object = await self._client.post(
                "/v1/messages",
                cast_to=httpx2.Response,
                content=body,
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
            )
        except anthropic.APITimeoutError as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout):
                raise failures.unreachable("it took too long", place) from error
            raise failures.silent(self._endpoint.timeout_s, place) from error
        except anthropic.APIConnectionError as error:
            raise failures.unreachable(str(error.__cause__ or ""), place) from error
        except anthropic.APIStatusError as error:
            raise failures.refused(_as_refused(error.response, error.body), place) from error
        # `cast_to` decides, and the annotation only knows streams.
        return cast(httpx2.Response, response)


def rehearse() -> None:
    """Go once through all the code of a request without a network, in a thread of its own, so that the first one is fast."""
    asyncio.run(_rehearsal())


async def _rehearsal() -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=_SCENE)

    # With a transport of its own it knows no proxy either: nothing leaves this process.
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    wire = Wire(Endpoint("http://rehearsal.invalid", "", "bearer", 1.0), http)
    try:
        await wire.stream(b"{}", "", lambda _: None, lambda _: None)
    finally:
        await wire.close()


_SCENE = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"none","usage":{}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"."}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def _client(endpoint: Endpoint, http: httpx2.AsyncClient | None) -> anthropic.AsyncAnthropic:
    """
    Raises:
        ValueError, OSError: the address, or the environment's proxies or certificates, cannot be used.
    """
    try:
        return anthropic.AsyncAnthropic(
            # Any explicit key keeps the SDK from looking for one; the headers below decide what is sent.
            api_key=endpoint.key or "none",
            base_url=endpoint.base_url,
            timeout=httpx2.Timeout(connect=_CONNECT_S, read=endpoint.timeout_s, write=_WRITE_S, pool=_POOL_S),
            max_retries=0,
            default_headers=_headers(endpoint),
            open_telemetry=False,
            http_client=http or _connections(),
        )
    except httpx2.InvalidURL as error:
        raise ValueError(str(error)) from error


def _connections() -> httpx2.AsyncClient:
    return anthropic.DefaultAsyncHttpxClient(
        limits=httpx2.Limits(
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_IDLE_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_S,
        ),
        # A redirect to another host would carry `X-Api-Key` along.
        follow_redirects=False,
    )


def _headers(endpoint: Endpoint) -> Mapping[str, str]:
    # `Omit` is what the SDK takes for "do not send this one"; its annotations do not say so.
    headers: dict[str, Any] = {}  # Any: str or Omit
    for line in os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n"):
        # The SDK would send these to any address, and they often hold a secret.
        name, colon, _ = line.partition(":")
        if colon:
            headers[name.strip()] = anthropic.omit
    has_key = bool(endpoint.key)
    is_bearer = endpoint.auth == "bearer"
    headers["Authorization"] = f"Bearer {endpoint.key}" if has_key and is_bearer else anthropic.omit
    headers["X-Api-Key"] = endpoint.key if has_key and not is_bearer else anthropic.omit
    return cast(Mapping[str, str], headers)


async def _expect_stream(response: httpx2.Response, place: Place) -> None:
    kind = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
    if kind in ("", "text/event-stream"):
        return
    raw = b""
    async for chunk in response.aiter_bytes():
        raw += chunk
        if len(raw) > _MAX_ERROR_BYTES:
            break
    answer = _as_refused(response, _decoded(raw))
    if answer.type:
        raise failures.refused(Refused(0, answer.type, answer.code, answer.message, answer.request_id), place)
    what = {"text/html": "a web page", "application/json": "plain JSON"}.get(kind, kind)
    raise failures.not_messages(what, place, request_id=answer.request_id)


async def _follow(response: httpx2.Response, reply: Accumulator, place: Place) -> None:
    """Feed every event to `reply`. The event's name is its data's `type`, because some endpoints send no other."""
    is_strange = False
    # raw_events is an async generator, and must be closed as one; its annotation says less.
    events = cast(AsyncGenerator[_Event, None], anthropic.AsyncStream.raw_events(response))
    async with aclosing(events):
        try:
            async for event in events:
                data = _decoded(event.data)
                if isinstance(data, Mapping) and data.get("type") == "error":
                    answer = _as_refused(response, data)
                    raise failures.refused(
                        Refused(0, answer.type, answer.code, answer.message, answer.request_id), place, reply.text
                    )
                if isinstance(data, Mapping) and "type" in data:
                    reply.feed(data)
                elif event.data:
                    is_strange = True
                if reply.finished:
                    await _drain(events)
                    return
        except UnicodeDecodeError:
            is_strange = True
    if is_strange and not reply.started:
        raise failures.not_messages("another kind of stream", place, reply.text)


async def _drain(events: AsyncGenerator[_Event, None]) -> None:
    # The reply is complete: whatever happens to the rest of the stream costs the connection only.
    with suppress(TimeoutError, httpx2.HTTPError, UnicodeDecodeError):
        async with asyncio.timeout(_DRAIN_S):
            async for _ in events:
                pass


def _as_refused(response: httpx2.Response, body: object) -> Refused:
    said = body if isinstance(body, Mapping) else {}
    error = said.get("error")
    fields: Mapping[str, object] = error if isinstance(error, Mapping) else {}
    details = fields.get("details")
    headers = response.headers
    return Refused(
        status=response.status_code,
        type=str(fields.get("type") or ""),
        code=str(details.get("error_code") or "") if isinstance(details, Mapping) else "",
        # Some endpoints have `{"error": "words"}`.
        message=str(fields.get("message") or "") if fields else (error if isinstance(error, str) else ""),
        request_id=str(headers.get("request-id") or said.get("request_id") or ""),
        retry_after_s=failures.retry_after_s(headers.get("retry-after", ""), headers.get("date", "")),
        location=str(headers.get("location", "")).partition("?")[0],
    )


def _decoded(text: str | bytes) -> Json:
    try:
        return cast(Json, json.loads(text))
    except ValueError:
        return None
