"""How many tokens each exchange of a conversation holds.

Counts are those that the model gave with each reply; only what it has not read yet is estimated, by a ratio of bytes to tokens
that is learned from the same records.

Knows records and their usage. Does not know prices, nor what is done about a size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nanochat.history.exchanges import begins_exchange, is_hidden, is_whole, window
from nanochat.records import Block, Content, Json, Message, Record, SetValue, Snapshot

__all__ = ["FIRST_BYTES_PER_TOKEN", "Exchange", "Measure", "measure", "weigh"]

# English prose on the tokenizers of 2026; JSON and other scripts differ, which is why the ratio is learned.
FIRST_BYTES_PER_TOKEN = 2.5
_LEARN = 0.2
# A shorter sample says more about a message's fixed overhead than about its text.
_MIN_SAMPLE_TOKENS = 20

# https://platform.claude.com/docs/en/build-with-claude/vision, read 2026-11-20: width x height / 750, at most about this; a
# document's pages are each read as an image besides their text, and a few pages are usual.
_IMAGE_TOKENS = 1600
_DOCUMENT_TOKENS = 5000


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange: `start` and `n` of its user line, `at` when that was written, the message lines in it, their tokens."""

    start: int
    n: int
    at: datetime
    messages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Measure:
    """The sizes of what is sent, without system and tools. `head_tokens` is what stands before the first exchange."""

    head_tokens: int
    exchanges: tuple[Exchange, ...]
    bytes_per_token: float

    @property
    def total_tokens(self) -> int:
        """The conversation as a whole."""
        return self.head_tokens + sum(exchange.tokens for exchange in self.exchanges)

    @property
    def messages(self) -> int:
        """How many message lines the exchanges hold."""
        return sum(exchange.messages for exchange in self.exchanges)

    def estimate(self, text: str) -> int:
        """How many tokens a text that no model has read yet will be."""
        return weigh(text, self.bytes_per_token)


@dataclass(slots=True)
class _Part:
    """A line on its way to a token count. `weight_bytes` of text, `flat_tokens` for what is no text."""

    weight_bytes: int
    flat_tokens: int = 0
    tokens: int = 0
    learns: bool = True


@dataclass(slots=True)
class _Scale:
    """Reads the counts that replies carry, in order. `known` is what the model had read, and said, at the last one."""

    bytes_per_token: float = FIRST_BYTES_PER_TOKEN
    known: int | None = None
    prefix: str = ""
    pending: list[_Part] = field(default_factory=list)

    def estimate(self, part: _Part) -> int:
        return part.flat_tokens + math.ceil(part.weight_bytes / self.bytes_per_token)

    def learn(self, weight_bytes: int, tokens: int) -> None:
        if tokens >= _MIN_SAMPLE_TOKENS and weight_bytes > 0:
            self.bytes_per_token += _LEARN * (weight_bytes / tokens - self.bytes_per_token)

    def settle(self, tokens: int | None) -> None:
        """Share what the pending lines are known to be together, or estimate each."""
        parts, self.pending = self.pending, []
        for part in parts:
            part.tokens = self.estimate(part)
        if tokens is None or tokens < 0 or not parts:
            return
        if all(part.learns for part in parts):
            self.learn(sum(part.weight_bytes for part in parts), tokens)
        estimated = sum(part.tokens for part in parts) or 1
        shared = 0
        for part in parts[:-1]:
            part.tokens = tokens * part.tokens // estimated
            shared += part.tokens
        parts[-1].tokens = tokens - shared

    def forget(self) -> None:
        """What comes next is read behind something else: counts before and after cannot be subtracted."""
        self.settle(None)
        self.known = None

    def reply(self, message: Message, part: _Part, *, fresh: bool) -> None:
        usage = message.usage
        if usage is None:
            self.pending.append(part)
            return
        blocks = [] if isinstance(message.content, str) else message.content
        if any(_is_server_block(block) for block in blocks):
            # The counts of a reply with server tools are sums over several readings of the prompt.
            self.forget()
            part.tokens = self.estimate(part)
            return
        same = self.known is not None and self.prefix == message.prefix
        self.settle(usage.prompt - (self.known or 0) if same else None)
        self.prefix = message.prefix
        if not is_whole(message):
            self.known = usage.prompt
            self.pending.append(part)
            return
        self.known = usage.prompt + usage.output
        thinks = any(block.get("type") in ("thinking", "redacted_thinking") for block in blocks)
        part.tokens = usage.output if fresh or not thinks else min(usage.output, self.estimate(part))
        if part.learns and not thinks:
            self.learn(part.weight_bytes, usage.output)


def measure(records: Sequence[Record], pins: Sequence[tuple[int, str]] = ()) -> Measure:
    """Weigh what is sent of these records; `pins` as `history.render` takes them.

    Exact where a reply under the same prefix stands before and behind a line; where several lines stand between two replies
    their sum is exact. The first line of a session, and what is newer than the last reply, are estimates.
    """
    seen = window(records)
    scale = _Scale()
    needed = {pin.at for pin in seen.pins}
    head = [_Part(_text_bytes(text)) for text in (seen.summary, *(text for at, text in pins if at in needed)) if text]
    in_head = len(head)
    groups: list[tuple[Message | None, list[_Part], list[int]]] = [(None, head, [0])]
    for i, record in enumerate(seen.records):
        if i == seen.fresh and seen.compact is not None:
            scale.forget()
        if isinstance(record, Snapshot):
            is_pin = isinstance(record.event, SetValue) and record.event.name == "pin" and i >= seen.fresh
            if is_pin and isinstance(record.event, SetValue):
                scale.pending.append(pin := _Part(_text_bytes(record.event.value)))
                groups[-1][1].append(pin)
            continue
        if is_hidden(record):
            continue
        if begins_exchange(record):
            groups.append((record, [], [0]))
        part = _weigh(record)
        groups[-1][1].append(part)
        groups[-1][2][0] += 1
        if record.role == "assistant":
            scale.reply(record, part, fresh=i >= seen.fresh)
        else:
            scale.pending.append(part)
    scale.settle(None)
    for part in head[:in_head]:
        part.tokens = scale.estimate(part)
    exchanges = [
        Exchange(first.start, first.n, first.timestamp, count[0], sum(part.tokens for part in parts))
        for first, parts, count in groups
        if first is not None
    ]
    return Measure(sum(part.tokens for part in groups[0][1]), tuple(exchanges), scale.bytes_per_token)


def weigh(content: Content, bytes_per_token: float) -> int:
    """About how many tokens a content will be that no model has read yet."""
    part = _Part(0)
    _weigh_content(content, part)
    return part.flat_tokens + math.ceil(part.weight_bytes / bytes_per_token)


def _weigh(message: Message) -> _Part:
    part = _Part(len(message.clock) + 3 if message.clock else 0)
    _weigh_content(message.content, part)
    calls = message.extra.get("tool_calls")
    if calls:
        part.weight_bytes += _text_bytes(calls)
    return part


def _weigh_content(content: Content, part: _Part) -> None:
    if isinstance(content, str):
        part.weight_bytes += _text_bytes(content)
        return
    for block in content:
        _weigh_block(block, part)


def _weigh_block(block: Block, part: _Part) -> None:
    match block.get("type"):
        case "text":
            part.weight_bytes += _text_bytes(block.get("text"))
        case "image":
            part.flat_tokens += _IMAGE_TOKENS
            part.learns = False
        case "document":
            part.flat_tokens += _DOCUMENT_TOKENS
            part.learns = False
        case "thinking" | "redacted_thinking":
            pass
        case "tool_result":
            content = block.get("content")
            for inner in content if isinstance(content, Sequence) and not isinstance(content, str) else []:
                if isinstance(inner, Mapping):
                    _weigh_block(inner, part)
            if isinstance(content, str):
                part.weight_bytes += _text_bytes(content)
        case _:
            part.weight_bytes += _text_bytes(block)
            part.learns = False


def _text_bytes(value: Json) -> int:
    """About the bytes of the value's JSON, without making it."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return sum(len(name) + 4 + _text_bytes(inner) for name, inner in value.items())
    if isinstance(value, Sequence):
        return sum(1 + _text_bytes(inner) for inner in value)
    return 4


def _is_server_block(block: Block) -> bool:
    kind = str(block.get("type", ""))
    return kind == "server_tool_use" or (kind.endswith("_tool_result") and kind != "tool_result")
