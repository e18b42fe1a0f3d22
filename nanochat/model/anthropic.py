"""A model behind the Messages API: Anthropic's, or any endpoint that speaks it.

Knows what a request looks like in JSON, and the order of things: retries, then the fallback models. Does not know the SDK:
`wire` does, and is loaded in a thread when it is first needed, because that takes about a second.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from nanochat.errors import ModelError, SettingError
from nanochat.model.failures import OFFICIAL_HOST, Place, broken
from nanochat.model.retry import Patience, Waits, falls_back, in_short, with_retries
from nanochat.ports import ModelReply, ModelRequest
from nanochat.pricing import max_output
from nanochat.records import Block, Json, Usage

if TYPE_CHECKING:
    from nanochat.model.wire import Wire

__all__ = ["DEFAULT_RETRIES", "DEFAULT_TIMEOUT_S", "AnthropicModel"]

# Our own choices. A stream that lives pings every few seconds, so that a minute and a half of silence is a dead line.
DEFAULT_TIMEOUT_S = 90.0
DEFAULT_RETRIES = 3

_THOUGHTS = ("thinking", "redacted_thinking")


class AnthropicModel:
    """Implements `ports.Model` over HTTP.

    Args:
        name: the default model's id.
        api_key: sent to `base_url` and nowhere else; empty sends none.
        auth: how the key is sent.
        base_url: without `/v1`; empty is Anthropic's own.
        timeout_s: the longest silence before a request is given up.
        retries: further attempts, before the first text only.
        fallback: models to ask, in this order, when the one asked for cannot answer.
    """

    def __init__(
        self,
        *,
        name: str,
        api_key: str = "",
        auth: Literal["bearer", "x-api-key"] = "bearer",
        base_url: str = "",
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        fallback: Sequence[str] = (),
        waits: Waits = Waits(),  # noqa: B008 - a frozen value
    ) -> None:
        self.name = name
        self._key = _checked_key(api_key)
        self._auth: Literal["bearer", "x-api-key"] = auth
        self._base_url = _checked_url(base_url)
        self._timeout_s = timeout_s
        self._patience = Patience(retries=retries)
        self._fallback = tuple(fallback)
        self._waits = waits
        self._wire: Wire | None = None
        self._loading = asyncio.Lock()

    async def reply(
        self,
        request: ModelRequest,
        on_text: Callable[[str], None],
        on_notice: Callable[[str], None],
        on_start: Callable[[str, Usage], None] | None = None,
    ) -> ModelReply:
        began_s = self._waits.clock()
        asked = request.model or self.name
        names = (asked, *(name for name in self._fallback if name != asked))
        for name, following in zip(names, (*names[1:], ""), strict=True):
            attempt = partial(self._attempt, _for_model(request, name, asked), on_text, on_start, began_s)
            try:
                return await with_retries(
                    attempt, patience=self._patience, waits=self._waits, began_s=began_s, on_notice=on_notice
                )
            except ModelError as error:
                if not following or not falls_back(error):
                    raise
                on_notice(f"{in_short(error)} ({name}); asking {following} instead")
        raise AssertionError("the last model either answers or raises")

    async def warm(self) -> None:
        try:
            await self._connected(self.name)
        except ModelError:
            # The first reply meets it again, and there somebody is told.
            return

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def _attempt(
        self,
        request: ModelRequest,
        on_text: Callable[[str], None],
        on_start: Callable[[str, Usage], None] | None,
        began_s: float,
    ) -> ModelReply:
        wire = await self._connected(request.model)
        first_s: list[float] = []

        def heard(text: str) -> None:
            if not first_s:
                first_s.append(self._waits.clock())
            on_text(text)

        def started(usage: Usage) -> None:
            if on_start is not None:
                on_start(request.model, usage)

        reply, request_id = await wire.stream(_encoded(request), request.model, heard, started)
        try:
            content = reply.content()
        except ModelError as error:
            error.partial, error.request_id = reply.text, request_id
            raise
        return ModelReply(
            content=content,
            stop_reason=reply.stop_reason,
            usage=reply.usage(),
            # Some endpoints answer under a name of their own making, for which there is no price.
            model=request.model,
            request_id=request_id,
            ttft_s=first_s[0] - began_s if first_s else None,
        )

    async def _connected(self, model: str) -> Wire:
        async with self._loading:
            if self._wire is None:
                self._wire = await asyncio.to_thread(self._load, model)
        return self._wire

    def _load(self, model: str) -> Wire:
        """In a thread: the import takes a second, the certificates 30 ms, the first pass through the SDK as much."""
        place = Place(urlsplit(self._base_url).netloc, model, self._key)
        try:
            module = importlib.import_module("nanochat.model.wire")
            wire: Wire = module.Wire(module.Endpoint(self._base_url, self._key, self._auth, self._timeout_s))
            module.rehearse()
        except (ImportError, OSError, ValueError) as error:
            # A damaged installation, or proxy and certificate settings of the environment that cannot be used.
            raise broken(str(error), place) from error
        return wire


def _checked_key(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingError("the API key holds characters that no key has, perhaps a line break; copy it again")
    return key


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url or f"https://{OFFICIAL_HOST}")
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.username or parts.query or any(char.isspace() for char in url):
        raise SettingError("model.base_url must look like https://host or http://localhost:11434, without a key in it")
    if parts.path.rstrip("/").endswith("/v1"):
        raise SettingError("model.base_url must not end in /v1: the path of the API is appended to it")
    return parts.geturl()


def _for_model(request: ModelRequest, name: str, asked: str) -> ModelRequest:
    """The request as `name` can take it: no more output than it has, and none of another model's thoughts."""
    limit = max_output(name)
    fitted = replace(request, model=name, max_tokens=min(request.max_tokens, limit) if limit else request.max_tokens)
    if name == asked:
        return fitted
    # Thinking is signed for the model that thought; another one refuses the whole request.
    return replace(fitted, messages=tuple(_without_thoughts(message) for message in request.messages))


def _without_thoughts(message: Block) -> Block:
    content = message["content"]
    if message.get("role") != "assistant" or not isinstance(content, list | tuple):
        return message
    # Something is left: no legal message ends in a thought.
    kept = [block for block in content if not (isinstance(block, Mapping) and block.get("type") in _THOUGHTS)]
    return {**message, "content": kept}


def _encoded(request: ModelRequest) -> bytes:
    """The body. Thinking is left to the model, which decides by itself where nothing is said."""
    body: dict[str, Json] = {"model": request.model, "max_tokens": request.max_tokens}
    if request.system:
        body["system"] = request.system
    if request.tools:
        body["tools"] = request.tools
    body["messages"] = request.messages
    if request.effort:
        body["output_config"] = {"effort": request.effort}
    body["stream"] = True
    # A lone surrogate has no form in UTF-8, and must not end the conversation that once received it.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=_plain).encode("utf-8", "replace")


def _plain(value: object) -> dict[object, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
