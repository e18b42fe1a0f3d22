"""What is sent to the model: records in, a legal request out.

The laws:

1. Legal. It begins with a user message, every `tool_use` is answered in the next user message and nothing else is, no text is
   empty, neighbours of one role are one message, and it does not end with a reply that is complete.
2. Append-only. Each line is rendered from itself and from what stands before it, so what was sent once is sent again as the
   same bytes, until a compaction, a rewind or another model, system text or set of tools. Only the answers that stand in for
   results still to come may change, and no request is sent while one is to come.
3. Bound. Thinking is sent back only where all before it is as it was when it was thought: under the same prefix hash, behind
   the newest compaction, and not where a reply was joined to another one.

Knows records and the Messages API's content blocks. Does not know who sends them, nor when: no clock, no file, no network.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, cast

from nanochat.history.blocks import (
    NOT_IN_ID,
    THOUGHTS,
    clean_text,
    is_server_result,
    reply_blocks,
    result_text,
    text_block,
    user_blocks,
)
from nanochat.history.exchanges import begins_exchange, is_hidden, window
from nanochat.history.sizes import measure
from nanochat.records import Block, Json, Message, Record, SetValue, Snapshot

__all__ = ["INTERRUPTED", "Ttl", "prefix_hash", "render", "system_blocks", "tail", "with_breakpoints"]

Ttl: TypeAlias = Literal["5m", "1h"]

INTERRUPTED = "interrupted, outcome unknown"
_GO_ON = "(the reply above is all that was received; go on)"

# https://platform.claude.com/docs/en/build-with-claude/prompt-caching, read 2026-11-20: a breakpoint finds what was cached at
# most 20 blocks before it. A little less, so that a mark that has to step back over a thinking block still reaches the next.
_MARK_EVERY_BLOCKS = 16
# Of the four that a request may have, one is the system text's.
_MAX_MARKS = 3


def prefix_hash(model: str, system: Sequence[Block], tools: Sequence[Block]) -> str:
    """Twelve hex digits that change whenever the bytes before the first message do, cache marks left out."""
    text = json.dumps(
        [model, [_unmarked(block) for block in system], [_unmarked(tool) for tool in tools]], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def system_blocks(text: str, ttl: Ttl) -> tuple[Block, ...]:
    """The system text as the request takes it, with the breakpoint that caches it and the tools before it."""
    cleaned = clean_text(text)
    return ({"type": "text", "text": cleaned, "cache_control": _mark(ttl)},) if cleaned.strip() else ()


def render(
    records: Sequence[Record], *, prefix: str, pins: Sequence[tuple[int, str]] = (), complete: bool = True
) -> list[Block]:
    """The messages of a request, each `{"role", "content": [blocks]}`.

    Args:
        records: live ones in file order, as a `View` has them, what is not yet saved last.
        prefix: the hash of the request's model, system and tools; replies under another one are sent without their thinking.
        pins: (byte, text) of each pin. Used are those that the newest compaction found set (`exchanges.pins_needed`), also
            where they were unpinned since; pins that are newer stand among the records.
        complete: the records reach back to where the conversation, or its newest compaction, begins.
    """
    drawn = _draw(records, prefix=prefix, pins=pins, keep_thinking=complete)
    messages = drawn.messages
    if messages and messages[-1].role == "assistant" and not messages[-1].is_paused():
        drawn.add_user([text_block(_GO_ON)])
    return [{"role": message.role, "content": message.blocks} for message in messages]


def tail(
    records: Sequence[Record], *, pins: Sequence[tuple[int, str]] = (), max_messages: int = 0, max_tokens: int = 0
) -> list[Block]:
    """The newest legal part of a conversation, for a reader of its own: whole exchanges, 0 means no limit.

    Text that a line holds as a plain string stays one; clocks and thinking are left out.
    """
    drawn = _draw([_without_clock(record) for record in records], prefix="", pins=pins, keep_thinking=False)
    messages = drawn.messages
    if messages and messages[-1].role == "assistant":
        messages[-1].settle()
        if not messages[-1].blocks:
            messages.pop()
    begin = 0
    if max_messages > 0:
        enough = max(0, len(messages) - max_messages)
        begin = next((i for i in range(enough, len(messages)) if messages[i].may_be_first()), len(messages))
    if max_tokens > 0:
        begin = max(begin, _begin_within(messages, records, pins, max_tokens))
    return [message.simplest() for message in messages[begin:]]


def with_breakpoints(messages: Sequence[Block], *, ttl: Ttl) -> list[Block]:
    """Copies of the messages, marked so that the next request finds this one in the cache.

    The last block is marked; and, because a round of many calls may add more blocks than a breakpoint looks back over, so are
    blocks at fixed distances before it. A mark where nothing is new costs nothing.
    """
    places = [
        (i, j, block)
        for i, message in enumerate(messages)
        for j, block in enumerate(cast(Sequence[Block], message["content"]))
    ]
    marks: set[tuple[int, int]] = set()
    at = len(places) - 1
    while at >= 0 and len(marks) < _MAX_MARKS:
        i, j, block = places[at]
        if block["type"] in THOUGHTS:
            at -= 1
        else:
            marks.add((i, j))
            at -= _MARK_EVERY_BLOCKS
    contents: list[list[Block]] = [[] for _ in messages]
    for i, j, block in places:
        contents[i].append({**block, "cache_control": _mark(ttl)} if (i, j) in marks else block)
    return [{"role": message["role"], "content": content} for message, content in zip(messages, contents, strict=True)]


def _mark(ttl: Ttl) -> Block:
    return {"type": "ephemeral", "ttl": ttl}


def _unmarked(block: Block) -> dict[str, Json]:
    return {name: value for name, value in block.items() if name != "cache_control"}


# --- messages under way ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Drawn:
    """One message as it grows. `plain`: one line's string is all of it. `line` is the index of the record that opened it,
    -1 for the head and for results."""

    role: str
    blocks: list[Block]
    plain: bool = False
    line: int = -1

    def may_be_first(self) -> bool:
        return self.role == "user" and self.blocks[0]["type"] != "tool_result"

    def is_paused(self) -> bool:
        """A server tool is still at work: the request that ends here asks for more of the same reply."""
        kind = str(self.blocks[-1].get("type")) if self.blocks else ""
        return self.role == "assistant" and (kind == "server_tool_use" or is_server_result(kind))

    def settle(self) -> set[str]:
        """Drop calls of server tools whose result cannot come, because a user message stands behind them now.

        With a call of ours beside it, the server's result comes in the next reply: then nothing is dropped.
        """
        calls = {str(block["id"]) for block in self.blocks if block["type"] == "server_tool_use"}
        if not calls or any(block["type"] == "tool_use" for block in self.blocks):
            return set()
        calls -= {str(block["tool_use_id"]) for block in self.blocks if is_server_result(str(block["type"]))}
        self.blocks = _without_last_thoughts(
            [block for block in self.blocks if block["type"] != "server_tool_use" or block["id"] not in calls]
        )
        return calls

    def simplest(self) -> Block:
        """The message with its content as a plain string where a line had it so."""
        if self.plain and len(self.blocks) == 1 and self.blocks[0]["type"] == "text":
            return {"role": self.role, "content": self.blocks[0]["text"]}
        return {"role": self.role, "content": self.blocks}


@dataclass(slots=True)
class _Conversation:
    """The messages so far, and the calls among them that still want a result.

    `open_calls` are those of the last reply: the id in the file -> the id that is sent. `answered` are all that ever had
    a real result, `used` every id that was sent.
    """

    messages: list[_Drawn] = field(default_factory=list)
    open_calls: dict[str, str] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    server_calls: set[str] = field(default_factory=set)
    server_answered: set[str] = field(default_factory=set)

    def add_user(self, blocks: Sequence[Block], *, plain: bool = False, line: int = -1) -> None:
        """Content that is no result: after it, no result for the last reply's calls can come any more."""
        if blocks:
            self.close_calls()
            self._append("user", blocks, plain=plain, line=line)

    def add_results(self, results: Sequence[Block]) -> None:
        """Results of the last reply's calls; one that answers nothing is told as text."""
        for result in results:
            call = str(result["tool_use_id"])
            sent = self.open_calls.pop(call, None)
            if sent is not None:
                self.answered.add(call)
                self._append("user", [{**result, "tool_use_id": sent}])
            elif self.messages and call not in self.answered and not self.open_calls and (text := result_text(result)):
                self.add_user([text_block(f"[result of an earlier tool call]\n{text}")])

    def add_reply(self, blocks: Sequence[Block], *, plain: bool, line: int) -> None:
        """A reply; where nobody spoke before it, nobody is answered, and it is left out."""
        self.close_calls()
        if not self.messages:
            return
        last = self.messages[-1]
        if last.role == "assistant" and not last.is_paused():
            # The request for this reply did not end where this reply now would.
            blocks = [block for block in blocks if block["type"] not in THOUGHTS]
        kept = _without_last_thoughts([sent for block in blocks if (sent := self._numbered(block)) is not None])
        if kept:
            self._append("assistant", kept, plain=plain, line=line)

    def close_calls(self) -> None:
        """Answer what nobody has answered, honestly."""
        calls, self.open_calls = self.open_calls, {}
        stand_ins: list[Block] = [
            {"type": "tool_result", "tool_use_id": sent, "content": INTERRUPTED, "is_error": True}
            for sent in calls.values()
        ]
        if stand_ins:
            self._append("user", stand_ins)

    def _numbered(self, block: Block) -> Block | None:
        """The block under an id that no other call has; None for what repeats or answers nothing."""
        kind = str(block["type"])
        if kind == "tool_use":
            call = str(block["id"])
            if call in self.open_calls:
                return None
            sent = stem = NOT_IN_ID.sub("_", call)
            count = 1
            while sent in self.used:
                count += 1
                sent = f"{stem}-{count}"
            self.used.add(sent)
            self.open_calls[call] = sent
            self.answered.discard(call)
            return {**block, "id": sent}
        if kind == "server_tool_use":
            call = str(block["id"])
            if call in self.server_calls:
                return None
            self.server_calls.add(call)
        elif is_server_result(kind):
            call = str(block.get("tool_use_id"))
            if call not in self.server_calls or call in self.server_answered:
                return None
            self.server_answered.add(call)
        return block

    def _append(self, role: str, blocks: Sequence[Block], *, plain: bool = False, line: int = -1) -> None:
        if role == "user" and self.messages and self.messages[-1].role == "assistant":
            last = self.messages[-1]
            # A result that comes for what is dropped here would answer nothing.
            self.server_answered |= last.settle()
            if not last.blocks:
                self.messages.pop()
        if self.messages and self.messages[-1].role == role:
            last = self.messages[-1]
            last.blocks = [*last.blocks, *blocks]
            last.plain = False
        else:
            self.messages.append(_Drawn(role, list(blocks), plain, line))


def _draw(
    records: Sequence[Record], *, prefix: str, pins: Sequence[tuple[int, str]], keep_thinking: bool
) -> _Conversation:
    """Every line in its turn."""
    seen = window(records)
    drawn = _Conversation()
    texts = dict(pins)
    in_head = [pin.at for pin in seen.pins]
    # A head that has lost a pin's text is not the head behind which the replies were thought.
    keep_thinking = keep_thinking and bool(prefix) and all(at in texts for at in in_head)
    head = _head(seen.summary, [texts[at] for at in in_head if at in texts])
    drawn.add_user([text_block(head)] if head else [])
    for i, record in enumerate(seen.records):
        if isinstance(record, Snapshot):
            if isinstance(record.event, SetValue) and record.event.name == "pin" and i >= seen.fresh:
                drawn.add_user([text_block(_pinned(record.event.value))] if record.event.value.strip() else [], line=i)
        elif is_hidden(record):
            continue
        elif record.role == "assistant":
            thinks = keep_thinking and i >= seen.fresh and record.prefix == prefix
            drawn.add_reply(reply_blocks(record, thinks=thinks), plain=isinstance(record.content, str), line=i)
        elif record.role in ("user", "tool"):
            results, others = user_blocks(record)
            drawn.add_results(results)
            drawn.add_user(others, plain=isinstance(record.content, str), line=i)
    drawn.close_calls()
    return drawn


def _begin_within(
    messages: Sequence[_Drawn], records: Sequence[Record], pins: Sequence[tuple[int, str]], max_tokens: int
) -> int:
    """The first message from which on whole exchanges hold no more than so many tokens."""
    sizes = measure(records, pins)
    if sizes.total_tokens <= max_tokens:
        return 0
    lines = [i for i, record in enumerate(window(records).records) if begins_exchange(record)]
    room, first_line = max_tokens, math.inf
    for line, exchange in zip(reversed(lines), reversed(sizes.exchanges), strict=True):
        room -= exchange.tokens
        if room < 0:
            break
        first_line = line
    fitting = (i for i, message in enumerate(messages) if message.line >= first_line and message.may_be_first())
    return next(fitting, len(messages))


def _without_clock(record: Record) -> Record:
    return replace(record, clock="") if isinstance(record, Message) and record.clock else record


def _without_last_thoughts(blocks: Sequence[Block]) -> list[Block]:
    """A message may not end with a thought."""
    end = len(blocks)
    while end and blocks[end - 1]["type"] in THOUGHTS:
        end -= 1
    return list(blocks[:end])


# --- the head --------------------------------------------------------------------------------------------------------


def _head(summary: str, pinned: Sequence[str]) -> str:
    parts = [_fenced("summary_of_earlier_conversation", summary)] if summary.strip() else []
    return "\n\n".join([*parts, *(_pinned(text) for text in pinned if text.strip())])


def _pinned(text: str) -> str:
    return _fenced("pinned", text)


def _fenced(tag: str, text: str) -> str:
    """The text between tags that it cannot close itself."""
    inner = re.sub(rf"<(?=/?{tag})", "&lt;", clean_text(text), flags=re.IGNORECASE)
    return f"<{tag}>\n{inner.strip()}\n</{tag}>"
