"""A streamed reply, put together event by event.

Knows the event types of the Messages API, and keeps a block that it has never heard of as it stood on the wire. What comes out
can be sent back: no nulls added, nothing left half. Does not know where the events come from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nanochat.errors import ModelError
from nanochat.records import Block, Json, Usage

__all__ = ["Accumulator"]

# The last tool call of a reply that ended so may be the one that was cut.
_CUT_SHORT = frozenset({"max_tokens", "model_context_window_exceeded", "refusal"})

_EMPTY: Mapping[str, Json] = {}


@dataclass(slots=True)
class _Growing:
    """A block and its pieces; joined once, because joining at each piece would cost the square of a long one."""

    block: dict[str, Json]
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    citations: list[Json] = field(default_factory=list)

    def whole(self) -> dict[str, Json]:
        """Without the arguments, which may be no JSON."""
        for name, pieces in (("text", self.text), ("thinking", self.thinking)):
            if pieces:
                self.block[name] = str(self.block.get(name) or "") + "".join(pieces)
        if self.citations:
            self.block["citations"] = [*_list(self.block.get("citations")), *self.citations]
        return self.block


class Accumulator:
    """One reply in the making; `on_text` gets each piece of text as it comes, `on_start` what was read, once."""

    def __init__(self, on_text: Callable[[str], None], on_start: Callable[[Usage], None] = lambda _: None) -> None:
        self._on_text = on_text
        self._on_start = on_start
        self._blocks: dict[int, _Growing] = {}
        self._usage: dict[str, Json] = {}
        self._half = ""
        self._said: list[str] = []
        self.model = ""
        self.stop_reason = ""
        self.started = False
        self.finished = False

    @property
    def text(self) -> str:
        """All the text that was handed to `on_text`."""
        return "".join(self._said)

    def feed(self, event: Mapping[str, Json]) -> None:
        """Take in the next event; one of an unknown type changes nothing."""
        match event.get("type"):
            case "message_start":
                message = _mapping(event.get("message"))
                self.started = True
                self.model = str(message.get("model") or "")
                self._usage.update(_mapping(message.get("usage")))
                self._on_start(self.usage())
            case "content_block_start":
                self._begin(_number(event.get("index")), _mapping(event.get("content_block")))
            case "content_block_delta":
                self._grow(_number(event.get("index")), _mapping(event.get("delta")))
            case "content_block_stop":
                self._release_half()
            case "message_delta":
                reason = _mapping(event.get("delta")).get("stop_reason")
                self.stop_reason = str(reason or self.stop_reason)
                # Totals so far, not additions; what is left out or null keeps the value of the start.
                told = _mapping(event.get("usage")).items()
                self._usage.update({name: value for name, value in told if value is not None})
            case "message_stop":
                self.finished = True
            case _:
                pass

    def content(self) -> tuple[Block, ...]:
        """The blocks of a finished reply.

        Left out is what could not be sent back: empty text, thinking without its signature, and a tool call that the
        reply's end cut through.

        Raises:
            ModelError: a call that was to be carried out has arguments that are no JSON object.
        """
        order = sorted(self._blocks)
        found: list[Block] = []
        for index in order:
            growing = self._blocks[index]
            block = growing.whole()
            match block.get("type"):
                case "text" if not block.get("text"):
                    continue
                case "thinking" if not block.get("signature"):
                    continue
                case "tool_use" | "server_tool_use" if not self._complete(growing, is_last=index == order[-1]):
                    continue
                case _:
                    found.append(block)
        return tuple(found)

    def usage(self) -> Usage:
        """What the provider counted, zero where it said nothing."""
        written = _count(self._usage.get("cache_creation_input_tokens"))
        split = _mapping(self._usage.get("cache_creation"))
        hour = min(written, _count(split.get("ephemeral_1h_input_tokens")))
        return Usage(
            input=_count(self._usage.get("input_tokens")),
            cache_read=_count(self._usage.get("cache_read_input_tokens")),
            cache_write=written - hour,
            cache_write_1h=hour,
            output=_count(self._usage.get("output_tokens")),
        )

    def _begin(self, index: int, block: Mapping[str, Json]) -> None:
        self._release_half()
        self._blocks[index] = _Growing(dict(block))
        if block.get("type") == "text" and block.get("text"):
            self._say(str(block["text"]))

    def _grow(self, index: int, delta: Mapping[str, Json]) -> None:
        growing = self._blocks.get(index)
        if growing is None:
            return
        match delta:
            case {"type": "text_delta", "text": str(text)}:
                if text := self._whole_characters(text):
                    growing.text.append(text)
                    self._say(text)
            case {"type": "input_json_delta", "partial_json": str(text)}:
                growing.arguments.append(text)
            case {"type": "thinking_delta", "thinking": str(text)}:
                growing.thinking.append(text)
            case {"type": "signature_delta", "signature": str(text)}:
                growing.block["signature"] = text
            case {"type": "citations_delta", "citation": citation}:
                growing.citations.append(citation)
            case _:
                # A later API's: text grows, anything else replaces, which is how all the known ones behave.
                for name, value in delta.items():
                    before = growing.block.get(name)
                    if name != "type":
                        growing.block[name] = (
                            before + value if isinstance(before, str) and isinstance(value, str) else value
                        )

    def _complete(self, growing: _Growing, *, is_last: bool) -> bool:
        text = "".join(growing.arguments)
        if not text:
            return not (is_last and self.stop_reason in _CUT_SHORT)
        try:
            arguments = json.loads(text)
        except ValueError:
            arguments = None
        if isinstance(arguments, dict):
            growing.block["input"] = arguments
            return True
        if self.stop_reason == "tool_use":
            name = growing.block.get("name")
            raise ModelError(
                f"the model called {name} with arguments that are not a JSON object", kind="protocol", retryable=True
            )
        return False

    def _say(self, text: str) -> None:
        self._said.append(text)
        self._on_text(text)

    def _whole_characters(self, text: str) -> str:
        """Some endpoints cut a character outside the BMP into two escapes, one in each delta: hold the first half back."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        if any("\ud800" <= char <= "\udfff" for char in text):
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def _release_half(self) -> None:
        # Its other half never came; alone it has no form in UTF-8.
        self._half = ""


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else _EMPTY


def _list(value: Json) -> list[Json]:
    return list(value) if isinstance(value, list | tuple) else []


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _count(value: Json) -> int:
    return max(0, value) if isinstance(value, int) else 0
