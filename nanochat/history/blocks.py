"""What of one line may be sent: its blocks, as the Messages API takes them.

Whatever the line is: ours, one of nanobot's in OpenAI's form, or damaged by hand. What the API would refuse is left out, or
told as text. Each line is looked at alone, so the same line always gives the same bytes.

Knows content blocks. Does not know what stands before or behind a line: whether a call has its result is not asked here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import cast

from nanochat.history.exchanges import is_whole
from nanochat.records import Block, Json, Message

__all__ = [
    "NOT_IN_ID",
    "THOUGHTS",
    "clean_text",
    "is_server_result",
    "reply_blocks",
    "result_text",
    "text_block",
    "user_blocks",
]

THOUGHTS = ("thinking", "redacted_thinking")

# https://platform.claude.com/docs/en/api/messages, read 2026-11-20: what an id, and a tool's name, may not hold; and the
# sources of images and documents, to which `blob` is added: a file beside the session, whose bytes are put in later.
NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME_CHARS = 128
_SOURCES = ("base64", "url", "file", "text", "content", "blob")
_ONLY_USER = ("image", "document", "search_result", "tool_result", "container_upload")


def reply_blocks(message: Message, *, thinks: bool) -> list[Block]:
    """An assistant line's blocks that can be sent. What only the API can have said is taken from its own replies alone."""
    if isinstance(message.content, str):
        blocks = text_blocks(message.content)
    else:
        is_own, whole = bool(message.prefix), is_whole(message)
        blocks = [
            sent
            for block in message.content
            if (whole or block.get("type") == "text")
            and (sent := _reply_block(block, is_own=is_own, thinks=thinks)) is not None
        ]
    return [*blocks, *_openai_calls(message)] if is_whole(message) else blocks


def _reply_block(block: Block, *, is_own: bool, thinks: bool) -> Block | None:
    kind = block.get("type")
    match kind:
        case "text":
            text = clean_text(block.get("text"))
            quoted = block.get("citations")
            if not text.strip():
                return None
            return {**text_block(text), "citations": _clean(quoted)} if is_own and quoted else text_block(text)
        case "thinking" | "redacted_thinking":
            needed = ("thinking", "signature") if kind == "thinking" else ("data",)
            sound = all(isinstance(block.get(name), str) and _clean(block[name]) == block[name] for name in needed)
            return {"type": kind, **{name: block[name] for name in needed}} if thinks and sound else None
        case "tool_use":
            return _call(block.get("id"), block.get("name"), block.get("input"), block if is_own else {})
        case "server_tool_use":
            is_call = isinstance(block.get("id"), str) and isinstance(block.get("input"), Mapping)
            return _clean_block(block) if is_own and is_call else None
        case str() if is_own and kind and kind not in _ONLY_USER:
            return _clean_block(block)
        case _:
            return None


def _call(call: Json, name: Json, arguments: Json, own: Block) -> Block | None:
    if not isinstance(call, str) or not call or not isinstance(name, str) or not isinstance(arguments, Mapping):
        return None
    named = NOT_IN_ID.sub("_", name)[:_MAX_NAME_CHARS]
    # Who called it, where the API said so: it wants that back.
    extra = {field: _clean(own[field]) for field in ("caller", "toolset_name") if own.get(field)}
    return {"type": "tool_use", "id": call, "name": named, "input": _clean(arguments), **extra} if named else None


def _openai_calls(message: Message) -> list[Block]:
    """The calls of a line in OpenAI's form, which is nanobot's."""
    calls = message.extra.get("tool_calls")
    found: list[Block] = []
    for call in calls if isinstance(calls, Sequence) and not isinstance(calls, str) else []:
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(call, Mapping) and isinstance(function, Mapping):
            sent = _call(call.get("id"), function.get("name"), _arguments(function.get("arguments")), {})
            found += [sent] if sent is not None else []
    return found


def _arguments(value: Json) -> Json:
    if isinstance(value, Mapping):
        return value
    try:
        decoded = json.loads(value) if isinstance(value, str) and value else {}
    except (ValueError, RecursionError):
        decoded = value
    return decoded if isinstance(decoded, Mapping) else {"arguments": value}


def user_blocks(message: Message) -> tuple[list[Block], list[Block]]:
    """A user line's, or a tool row's, results and its other blocks."""
    if message.role == "tool":
        call = message.extra.get("tool_call_id")
        content = message.content if isinstance(message.content, str) else list(message.content)
        result = _result({"tool_use_id": call, "content": content})
        return [result] if result is not None else [], []
    if isinstance(message.content, str):
        return [], _with_clock(message.clock, text_blocks(message.content))
    results: list[Block] = []
    others: list[Block] = []
    for block in message.content:
        if block.get("type") == "tool_result":
            result = _result(block)
            results += [result] if result is not None else []
        else:
            sent = _said(block)
            others += [sent] if sent is not None else []
    return results, _with_clock(message.clock, others)


def _said(block: Block) -> Block | None:
    """A block that a user message, or a result, may hold."""
    kind, source = block.get("type"), block.get("source")
    if kind == "text":
        text = clean_text(block.get("text"))
        return text_block(text) if text.strip() else None
    if kind == "image_url":
        return _openai_image(block.get("image_url"))
    if kind not in ("image", "document") or not isinstance(source, Mapping) or source.get("type") not in _SOURCES:
        return None
    named = {name: _clean(block[name]) for name in ("title", "context") if kind == "document" and block.get(name)}
    return {"type": kind, "source": _clean(source), **named}


def _openai_image(value: Json) -> Block:
    url = value.get("url") if isinstance(value, Mapping) else value
    if isinstance(url, str) and url.startswith("https://"):
        return {"type": "image", "source": {"type": "url", "url": clean_text(url)}}
    data = re.fullmatch(r"data:(image/[a-z]+);base64,([A-Za-z0-9+/=]+)", url) if isinstance(url, str) else None
    if data is None:
        return text_block("[an image that is not kept here]")
    return {"type": "image", "source": {"type": "base64", "media_type": data[1], "data": data[2]}}


def _result(block: Block) -> Block | None:
    call, content = block.get("tool_use_id"), block.get("content")
    if not isinstance(call, str) or not call:
        return None
    sent: dict[str, Json] = {"type": "tool_result", "tool_use_id": call}
    if isinstance(content, str):
        sent["content"] = clean_text(content)
    elif isinstance(content, Sequence):
        inner = [said for part in content if isinstance(part, Mapping) and (said := _said(part)) is not None]
        sent["content"] = inner
    else:
        sent["content"] = ""
    if block.get("is_error") is True:
        sent["is_error"] = True
    return sent


def result_text(result: Block) -> str:
    content = result.get("content")
    if isinstance(content, str):
        return content.strip()
    parts = [part for part in cast(Sequence[Block], content) if part["type"] == "text"]
    return "\n".join(str(part["text"]) for part in parts).strip()


def _with_clock(clock: str, blocks: Sequence[Block]) -> list[Block]:
    if not clock or not blocks:
        return list(blocks)
    stamp = f"[{clean_text(clock)}]"
    first = blocks[0]
    if first["type"] == "text":
        return [text_block(f"{stamp}\n{first['text']}"), *blocks[1:]]
    return [text_block(stamp), *blocks]


def text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def text_blocks(text: str) -> list[Block]:
    cleaned = clean_text(text)
    return [text_block(cleaned)] if cleaned.strip() else []


def is_server_result(kind: str) -> bool:
    return kind.endswith("_tool_result")


# --- what JSON over HTTP cannot hold ---------------------------------------------------------------------------------


def _clean_block(block: Block) -> Block:
    return cast(Block, _clean({name: value for name, value in block.items() if name != "cache_control"}))


def _clean(value: Json) -> Json:
    """The same value without lone surrogates, and without numbers that JSON has no form for."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {clean_text(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, Sequence):
        return [_clean(inner) for inner in value]
    return value


def clean_text(value: Json) -> str:
    if not isinstance(value, str):
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in value)
    return value
