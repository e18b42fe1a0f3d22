"""What the Messages API refuses with 400, as a pure function of the request's body.

Knows the rules of the wire and the words of a refusal. Does not know HTTP, prices or what a reply would be. It is stricter
than the real API where that one is only careless, so that what passes here passes there.

The laws:

1. Conversations begin with the user and end with the user, or with an assistant whose server tool is still at work.
2. Neighbours of the same role are one message.
3. Every `tool_use` has its `tool_result` in the very next message, before anything else, once.
4. No text is empty, and nothing is marked for the cache that could not be cached.
5. A thinking block may be sent back only behind exactly what it was thought behind (`sign`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from nanochat.records import Block, Json

__all__ = ["breakpoints", "merged", "plain", "refusal", "sign"]

# https://platform.claude.com/docs/en/api/messages, read 2026-11-20: fields of the body. Sampling parameters are gone since
# version 2026-10-21 of the API.
_FIELDS = frozenset(
    """
    cache_control compaction container context_management diagnostics fallbacks inference_geo max_tokens mcp_servers
    messages metadata model output_config service_tier speed stop_sequences stream system thinking tool_choice tools
    """.split()  # noqa: SIM905 - twenty words read better than twenty literals
)
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}\Z")
_ID = re.compile(r"[a-zA-Z0-9_-]+\Z")
_MAX_BREAKPOINTS = 4
_MAX_MESSAGES = 100_000
_MAX_BODY_BYTES = 32 * 1024 * 1024

# The fields of each block that may stand in a message; `cache_control` is looked at apart.
_USER_BLOCKS = {
    "text": {"text", "citations"},
    "image": {"source"},
    "document": {"source", "title", "context", "citations"},
    "search_result": {"source", "title", "content", "citations"},
    "tool_result": {"tool_use_id", "content", "is_error"},
    "container_upload": {"file_id"},
}
_ASSISTANT_BLOCKS = {
    "text": {"text", "citations"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
    "tool_use": {"id", "name", "input", "caller", "toolset_name"},
    "server_tool_use": {"id", "name", "input", "caller"},
}
_ONLY_USER = {"image", "document", "search_result", "tool_result", "container_upload"}
_SOURCES = {
    "base64": {"media_type", "data"},
    "url": {"url"},
    "file": {"file_id"},
    "text": {"media_type", "data"},
    "content": {"content"},
}


class _Refused(Exception):
    """Carries the words of the 400."""


def refusal(request: Mapping[str, Json]) -> str | None:
    """The message of the 400 that this body earns, or None where the API would answer it."""
    try:
        _check(request)
    except _Refused as refused:
        return str(refused)
    return None


def merged(messages: Sequence[Block]) -> list[dict[str, Json]]:
    """The messages as the API reads them: text as blocks, neighbours of one role joined."""
    found: list[dict[str, Json]] = []
    for message in messages:
        content = message["content"]
        blocks: list[Json] = [{"type": "text", "text": content}] if isinstance(content, str) else list(_list(content))
        if found and found[-1]["role"] == message["role"]:
            found[-1]["content"] = [*_list(found[-1]["content"]), *blocks]
        else:
            found.append({"role": message["role"], "content": blocks})
    return found


def plain(value: Json) -> Json:
    """The same value without any `cache_control`: what a prefix is compared by."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items() if name != "cache_control"}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    return value


def sign(request: Mapping[str, Json], messages_before: Sequence[Block] | None = None) -> str:
    """The signature of a thinking block whose message stands behind `messages_before` of this request.

    Without `messages_before`: the signature for the reply to this request. A trailing assistant message is left out, because
    the reply to it continues that message.
    """
    before = merged(cast(Sequence[Block], request["messages"]) if messages_before is None else messages_before)
    if before and before[-1]["role"] == "assistant":
        before.pop()
    system = request.get("system") or []
    bound: dict[str, Json] = {
        "system": [{"type": "text", "text": system}] if isinstance(system, str) else system,
        "tools": request.get("tools") or [],
        "messages": before,
    }
    text = json.dumps(plain(bound), sort_keys=True, separators=(",", ":"))
    return "sig-" + hashlib.sha256(text.encode()).hexdigest()[:16]


def breakpoints(request: Mapping[str, Json]) -> list[tuple[str, Json]]:
    """Every `cache_control` of the body as (where, value), in the order of the prefix: tools, system, messages."""
    found: list[tuple[str, Json]] = []
    for name in ("tools", "system", "messages"):
        found += _marks(request.get(name), name)
    if "cache_control" in request:
        found.append(("cache_control", request["cache_control"]))
    return found


def _marks(value: Json, where: str) -> Iterator[tuple[str, Json]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            # A tool's arguments and a schema may well have a field of that name.
            if name not in ("cache_control", "input", "input_schema"):
                yield from _marks(inner, f"{where}.{name}")
        if value.get("cache_control") is not None:
            yield where, value["cache_control"]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for i, inner in enumerate(value):
            yield from _marks(inner, f"{where}.{i}")


# --- the body --------------------------------------------------------------------------------------------------------


def _refuse_unless(holds: bool, words: str) -> None:
    if not holds:
        raise _Refused(words)


def _list(value: Json) -> Sequence[Json]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else []


def _check(request: Mapping[str, Json]) -> None:
    for name in ("temperature", "top_p", "top_k"):
        _refuse_unless(name not in request, f"{name}: is not supported by this version of the API")
    for name in request:
        _refuse_unless(name in _FIELDS, f"{name}: Extra inputs are not permitted")
    for name in ("model", "max_tokens", "messages"):
        _refuse_unless(name in request, f"{name}: Field required")
    model, max_tokens = request["model"], request["max_tokens"]
    _refuse_unless(isinstance(model, str) and bool(model), "model: Input should be a valid string")
    is_count = isinstance(max_tokens, int) and not isinstance(max_tokens, bool)
    _refuse_unless(is_count and cast(int, max_tokens) >= 1, "max_tokens: Input should be greater than or equal to 1")
    _check_json(request)
    _check_system(request.get("system"))
    _check_tools(request.get("tools"))
    messages = request["messages"]
    _refuse_unless(isinstance(messages, list | tuple), "messages: Input should be a valid list")
    _check_shapes(_list(messages))
    joined = merged(cast(Sequence[Block], messages))
    _check_order(joined)
    _check_tool_pairs(joined)
    _check_server_tools(joined)
    _check_breakpoints(request)
    _check_thinking(request, joined)


def _check_json(request: Mapping[str, Json]) -> None:
    try:
        size_bytes = len(json.dumps(request, ensure_ascii=False, allow_nan=False).encode())
    except UnicodeEncodeError:
        raise _Refused("The request body is not valid JSON: no low surrogate in string") from None
    except (TypeError, ValueError) as error:
        raise _Refused(f"The request body is not valid JSON: {error}") from None
    _refuse_unless(size_bytes <= _MAX_BODY_BYTES, "Request exceeds the maximum size")


def _check_system(system: Json) -> None:
    if system is None or isinstance(system, str):
        return
    for i, block in enumerate(_list(system)):
        where = f"system.{i}"
        is_text = isinstance(block, Mapping) and block.get("type") == "text"
        _refuse_unless(is_text, f"{where}.type: Input should be 'text'")
        _check_text(cast(Block, block), where)
        _check_fields(cast(Block, block), {"text", "citations"}, where)


def _check_tools(tools: Json) -> None:
    names: set[str] = set()
    for i, tool in enumerate(_list(tools)):
        _refuse_unless(isinstance(tool, Mapping), f"tools.{i}: Input should be an object")
        tool = cast(Block, tool)
        name = tool.get("name")
        if not isinstance(name, str) or not _NAME.match(name):
            raise _Refused(f"tools.{i}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        _refuse_unless(name not in names, "tools: Tool names must be unique.")
        names.add(name)
        if tool.get("type") in (None, "custom"):
            schema = tool.get("input_schema")
            is_object = isinstance(schema, Mapping) and schema.get("type") == "object"
            _refuse_unless(is_object, f"tools.{i}.custom.input_schema.type: Field required")


# --- each message alone ----------------------------------------------------------------------------------------------


def _check_shapes(messages: Sequence[Json]) -> None:
    _refuse_unless(bool(messages), "messages: at least one message is required")
    _refuse_unless(len(messages) <= _MAX_MESSAGES, "messages: too many messages")
    for i, message in enumerate(messages):
        where = f"messages.{i}"
        if not isinstance(message, Mapping):
            raise _Refused(f"{where}: Input should be an object")
        role, content = message.get("role"), message.get("content")
        _refuse_unless(role in ("user", "assistant"), f"{where}.role: Input should be 'user' or 'assistant'")
        for name in message:
            _refuse_unless(name in ("role", "content"), f"{where}.{name}: Extra inputs are not permitted")
        is_content = isinstance(content, str | list | tuple)
        _refuse_unless(is_content, f"{where}.content: Input should be a valid list")
        is_final_reply = role == "assistant" and i == len(messages) - 1
        _refuse_unless(
            bool(content) or is_final_reply,
            f"{where}: all messages must have non-empty content except for the optional final assistant message",
        )
        if isinstance(content, str):
            _refuse_unless(not content or bool(content.strip()), f"{where}: text content blocks must be non-empty")
            continue
        for j, block in enumerate(_list(content)):
            if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
                raise _Refused(f"{where}.content.{j}.type: Field required")
            _check_block(block, str(role), f"{where}.content.{j}")


def _check_block(block: Block, role: str, where: str) -> None:
    kind = str(block["type"])
    known = _USER_BLOCKS if role == "user" else _ASSISTANT_BLOCKS
    if kind not in known:
        # What a server tool, or a model yet to come, has said is sent back as it was; only replies hold such blocks.
        is_reply_block = role == "assistant" and kind not in _ONLY_USER
        _refuse_unless(
            is_reply_block, f"{where}: Input tag {kind!r} found using 'type' does not match any of the expected tags"
        )
        return
    _check_fields(block, known[kind], where)
    match kind:
        case "text":
            _check_text(block, where)
        case "image" | "document":
            _check_source(block.get("source"), where)
        case "tool_use" | "server_tool_use":
            _check_name(block, "id", _ID, where)
            _check_name(block, "name", _NAME, where)
            _refuse_unless(isinstance(block.get("input"), Mapping), f"{where}.{kind}.input: Input should be an object")
        case "tool_result":
            _check_name(block, "tool_use_id", _ID, where)
            _check_result(block.get("content"), where)
        case "thinking":
            _refuse_unless(isinstance(block.get("thinking"), str), f"{where}.thinking.thinking: Field required")
            _refuse_unless(isinstance(block.get("signature"), str), f"{where}.thinking.signature: Field required")
        case "redacted_thinking":
            _refuse_unless(isinstance(block.get("data"), str), f"{where}.redacted_thinking.data: Field required")
        case _:
            pass


def _check_fields(block: Block, known: set[str], where: str) -> None:
    for name in block:
        is_known = name in known or name in ("type", "cache_control")
        _refuse_unless(is_known, f"{where}.{block.get('type')}.{name}: Extra inputs are not permitted")


def _check_text(block: Block, where: str) -> None:
    text = block.get("text")
    if not isinstance(text, str):
        raise _Refused(f"{where}.text.text: Input should be a valid string")
    if not text and "cache_control" in block:
        raise _Refused(f"{where}.text: cache_control cannot be set for empty text blocks")
    _refuse_unless(bool(text), f"{where}: text content blocks must be non-empty")
    _refuse_unless(bool(text.strip()), f"{where}: text content blocks must contain non-whitespace text")


def _check_name(block: Block, field: str, pattern: re.Pattern[str], where: str) -> None:
    value = block.get(field)
    is_name = isinstance(value, str) and pattern.match(value) is not None
    _refuse_unless(is_name, f"{where}.{block['type']}.{field}: String should match pattern '{pattern.pattern}'")


def _check_source(source: Json, where: str) -> None:
    kind = source.get("type") if isinstance(source, Mapping) else None
    if not isinstance(source, Mapping) or not isinstance(kind, str) or kind not in _SOURCES:
        raise _Refused(f"{where}.source: Input tag {kind!r} found using 'type' does not match any of the expected tags")
    wanted = _SOURCES[kind]
    _refuse_unless(set(source) == {"type", *wanted}, f"{where}.source.{kind}: takes exactly {sorted(wanted)}")


def _check_result(content: Json, where: str) -> None:
    if content is None or isinstance(content, str):
        return
    _refuse_unless(isinstance(content, list | tuple), f"{where}.tool_result.content: Input should be a valid list")
    for j, block in enumerate(_list(content)):
        is_block = isinstance(block, Mapping) and block.get("type") in ("text", "image", "document", "search_result")
        _refuse_unless(is_block, f"{where}.tool_result.content.{j}: does not match any of the expected tags")
        _check_block(cast(Block, block), "user", f"{where}.tool_result.content.{j}")


# --- the messages together -------------------------------------------------------------------------------------------


def _blocks(message: Mapping[str, Json]) -> list[Block]:
    return [cast(Block, block) for block in _list(message["content"])]


def _check_order(messages: Sequence[Block]) -> None:
    _refuse_unless(messages[0]["role"] == "user", 'messages: first message must use the "user" role')
    last = messages[-1]
    if last["role"] != "assistant":
        return
    blocks = _blocks(last)
    kind = str(blocks[-1]["type"]) if blocks else ""
    is_paused = kind == "server_tool_use" or kind.endswith("_tool_result")
    _refuse_unless(is_paused, "This model does not support assistant message prefill.")


def _check_tool_pairs(messages: Sequence[Block]) -> None:
    seen: set[str] = set()
    open_ids: list[str] = []
    for i, message in enumerate(messages):
        blocks = _blocks(message)
        results = [str(block["tool_use_id"]) for block in blocks if block["type"] == "tool_result"]
        for result in results:
            _refuse_unless(
                result in open_ids,
                f"messages.{i}: unexpected `tool_use_id` found in `tool_result` blocks: {result}."
                " Each `tool_result` block must have a corresponding `tool_use` block in the previous message.",
            )
        _refuse_unless(
            len(set(results)) == len(results),
            f"messages.{i}: each tool_use must have a single result. Found multiple `tool_result` blocks",
        )
        missing = [call for call in open_ids if call not in results]
        _refuse_unless(
            not missing,
            f"messages.{i - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(missing)}",
        )
        leading = [block["type"] for block in blocks[: len(results)]]
        _refuse_unless(
            all(kind == "tool_result" for kind in leading),
            f"messages.{i}: `tool_result` blocks must come before any other content of the message",
        )
        open_ids = [str(block["id"]) for block in blocks if block["type"] == "tool_use"]
        _refuse_unless(
            len(set(open_ids)) == len(open_ids) and not seen.intersection(open_ids),
            f"messages.{i}: `tool_use` ids must be unique",
        )
        seen.update(open_ids)
    _refuse_unless(
        not open_ids, f"messages: `tool_use` ids were found without `tool_result` blocks: {', '.join(open_ids)}"
    )


def _check_server_tools(messages: Sequence[Block]) -> None:
    called: set[str] = set()
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        open_ids: set[str] = set()
        for block in _blocks(message):
            kind = str(block["type"])
            if kind == "server_tool_use":
                call = str(block["id"])
                _refuse_unless(call not in called, f"messages.{i}: `server_tool_use` ids must be unique")
                called.add(call)
                open_ids.add(call)
            elif kind.endswith("_tool_result"):
                call = str(block.get("tool_use_id"))
                _refuse_unless(
                    call in called, f"messages.{i}: unexpected `tool_use_id` found in `{kind}` block: {call}"
                )
                open_ids.discard(call)
        # With a client's tool called beside it, the server's result comes only in the reply after the client's.
        is_open = i == len(messages) - 1 or any(block["type"] == "tool_use" for block in _blocks(message))
        _refuse_unless(
            is_open or not open_ids,
            f"messages.{i}: server tool use with id {', '.join(sorted(open_ids))} was found without a corresponding result",
        )


def _check_breakpoints(request: Mapping[str, Json]) -> None:
    marks = breakpoints(request)
    _refuse_unless(
        len(marks) <= _MAX_BREAKPOINTS,
        f"A maximum of {_MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {len(marks)}.",
    )
    is_short_seen = False
    for where, mark in marks:
        is_form = isinstance(mark, Mapping) and mark.get("type") == "ephemeral" and set(mark) <= {"type", "ttl"}
        ttl = mark.get("ttl", "5m") if isinstance(mark, Mapping) else None
        _refuse_unless(
            is_form and ttl in ("5m", "1h"), f"{where}.cache_control: Input should be ephemeral, for '5m' or '1h'"
        )
        _refuse_unless(
            not (is_short_seen and ttl == "1h"),
            f"{where}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block",
        )
        is_short_seen = is_short_seen or ttl == "5m"


def _check_thinking(request: Mapping[str, Json], messages: Sequence[Block]) -> None:
    for i, message in enumerate(messages):
        blocks = _blocks(message)
        if message["role"] != "assistant" or not blocks:
            continue
        _refuse_unless(
            blocks[-1]["type"] not in ("thinking", "redacted_thinking"),
            f"messages.{i}: The final block in an assistant message cannot be `thinking`.",
        )
        for j, block in enumerate(blocks):
            if block["type"] not in ("thinking", "redacted_thinking"):
                continue
            where = f"messages.{i}.content.{j}"
            _refuse_unless("cache_control" not in block, f"{where}.cache_control: Extra inputs are not permitted")
            signature = block["signature"] if block["type"] == "thinking" else block["data"]
            _refuse_unless(
                signature == sign(request, messages[:i]), f"{where}: Invalid `signature` in `thinking` block"
            )
