"""The model that needs no key: a demo behind the same interface.

Knows how to stream, count and call tools, so that sessions, channels and cron can be tried at no cost; what it says is
`demo`'s. Does not think, and knows no network.

Its rule for tokens: one for every four bytes of text in UTF-8, begun ones counted. What a request shares from its beginning
with an earlier one counts as read from the cache; the rest as written there, if the request has a breakpoint.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import uuid4

from nanochat.model import demo
from nanochat.ports import ModelReply, ModelRequest
from nanochat.pricing import OFFLINE_MODEL
from nanochat.records import Block, Json, Usage

__all__ = ["OfflineModel"]

_BYTES_PER_TOKEN = 4

# A word or two a piece, as real models stream.
_PIECE = re.compile(r"\S{1,24}\s*|\s+")

# Prefixes of as many requests as a morning's demo has; older ones are forgotten as a real cache would.
_MAX_PREFIXES = 4096


class OfflineModel:
    """Implements `ports.Model`. `pace_s` is the pause before each piece of a turn's text."""

    def __init__(self, *, pace_s: float = 0.01, new_id: Callable[[], str] = lambda: uuid4().hex) -> None:
        self.name = OFFLINE_MODEL
        self._pace_s = pace_s
        self._new_id = new_id
        self._prefixes: OrderedDict[bytes, None] = OrderedDict()

    async def reply(
        self,
        request: ModelRequest,
        on_text: Callable[[str], None],
        on_notice: Callable[[str], None],
        on_start: Callable[[str, Usage], None] | None = None,
    ) -> ModelReply:
        began_s = time.monotonic()
        usage = self._read(request)
        if on_start is not None:
            on_start(self.name, usage)
        said = demo.answer(request)
        limit_chars = request.max_tokens * _BYTES_PER_TOKEN
        text, is_cut = said.text[:limit_chars], len(said.text) > limit_chars
        ttft_s = None
        for piece in _PIECE.findall(text):
            await asyncio.sleep(self._pace_s if request.purpose == "turn" else 0)
            if ttft_s is None:
                ttft_s = time.monotonic() - began_s
            on_text(piece)
        content: list[Block] = [{"type": "text", "text": text}] if text else []
        if said.call is not None and not is_cut:
            content.append({"type": "tool_use", "id": f"toolu_{self._new_id()}", **said.call})
        stop_reason = "max_tokens" if is_cut else "tool_use" if said.call else "end_turn"
        return ModelReply(
            content=tuple(content),
            stop_reason=stop_reason,
            usage=usage + Usage(output=sum(_tokens(block) for block in content)),
            model=self.name,
            ttft_s=ttft_s,
        )

    async def warm(self) -> None:
        return

    async def close(self) -> None:
        return

    def _read(self, request: ModelRequest) -> Usage:
        """Count the request, and remember it."""
        read = fresh = 0
        head = b""
        is_known = True
        has_breakpoint = False
        for block in _blocks(request):
            has_breakpoint = has_breakpoint or "cache_control" in block
            head = hashlib.sha256(head + _encoded({**block, "cache_control": None})).digest()
            is_known = is_known and head in self._prefixes
            if is_known:
                read += _tokens(block)
            else:
                fresh += _tokens(block)
            self._prefixes[head] = None
            self._prefixes.move_to_end(head)
        while len(self._prefixes) > _MAX_PREFIXES:
            self._prefixes.popitem(last=False)
        return Usage(cache_read=read, cache_write=fresh) if has_breakpoint else Usage(cache_read=read, input=fresh)


def _blocks(request: ModelRequest) -> Iterator[Block]:
    yield from request.tools
    yield from request.system
    for message in request.messages:
        content = message["content"]
        if isinstance(content, str):
            yield {"role": message["role"], "text": content}
        elif isinstance(content, Sequence):
            yield from ({"role": message["role"], **block} for block in content if isinstance(block, Mapping))


def _tokens(block: Block) -> int:
    """By what the block says; for all but text by its JSON."""
    text = block.get("text")
    size_bytes = len(text.encode("utf-8", "replace") if isinstance(text, str) else _encoded(block))
    return -(-size_bytes // _BYTES_PER_TOKEN)


def _encoded(value: Json) -> bytes:
    return json.dumps(value, default=dict).encode()
