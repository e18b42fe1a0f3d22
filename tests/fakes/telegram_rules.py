"""What Telegram takes as a formatted text, and what it makes of it.

Knows the limits of a message and the rules of entities: places, nesting, links. Where the real server mends silently (it
drops an entity of blanks, splits those that overlap, cuts off what is too many), this one refuses, so that a renderer
that leans on the mending is found out. Does not know who sends what to whom.

    refusal("so bold", [{"type": "bold", "offset": 3, "length": 4}])    # None: it is taken
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

__all__ = [
    "CAPTION_LIMIT_UNITS",
    "ENTITIES_LIMIT",
    "TEXT_LIMIT_BYTES",
    "TEXT_LIMIT_UNITS",
    "Entity",
    "refusal",
    "settled",
    "units",
]

Entity: TypeAlias = Mapping[str, object]
"""A MessageEntity as it stands on the wire: `{"type": …, "offset": …, "length": …, …}`, counted in UTF-16 units."""

# "1-4096 characters after entities parsing", https://core.telegram.org/bots/api#sendmessage, read 2026-11-20.
TEXT_LIMIT_UNITS = 4096
# "0-1024 characters after entities parsing", https://core.telegram.org/bots/api#senddocument, read 2026-11-20.
CAPTION_LIMIT_UNITS = 1024
# What tdlib/telegram-bot-api reads of a text at all before it looks at its characters.
TEXT_LIMIT_BYTES = 32 * 1024
# About a hundred per message are kept; the client library says the same: telegram.constants.MessageLimit.MESSAGE_ENTITIES.
ENTITIES_LIMIT = 100

_STYLES = frozenset(("bold", "italic", "underline", "strikethrough", "spoiler"))
_QUOTES = frozenset(("blockquote", "expandable_blockquote"))
_CODE = frozenset(("code", "pre"))
# Those that the server finds by itself; given ones are skipped by it.
_FOUND = frozenset(("mention", "hashtag", "cashtag", "bot_command", "url", "email", "phone_number"))
# "All other entities can't contain each other", https://core.telegram.org/bots/api#formatting-options.
_WHOLE = _FOUND | {"text_link", "text_mention", "custom_emoji", "date_time"}
_TYPES = _STYLES | _QUOTES | _CODE | _WHOLE

# What each type has to bring along, and of which kind.
_FIELDS: Mapping[str, tuple[str, type, str]] = {
    "text_link": ("url", str, "String"),
    "text_mention": ("user", dict, "Object"),
    "custom_emoji": ("custom_emoji_id", str, "String"),
    "date_time": ("unix_time", int, "Number"),
}

_BLANK = " \n"
# Control characters become blanks; the carriage return and the marks of text direction go.
_REPLACED = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f]")
_REMOVED = re.compile("[\r\u2028-\u202e]")


def units(text: str) -> int:
    """The length that Telegram counts: UTF-16 code units."""
    return len(text) + sum(character > "\uffff" for character in text)


def refusal(text: str, entities: Sequence[Entity] = (), *, limit_units: int = TEXT_LIMIT_UNITS) -> str | None:
    """Why a text with these entities is not taken, as the server's description puts it; None: it is.

    What it says is the part after `Bad Request: `. An empty text is one that shows nothing once its ends are trimmed.
    """
    try:
        size_bytes = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return "text must be encoded in UTF-8"
    if size_bytes > TEXT_LIMIT_BYTES:
        return "text is too long"
    if not _cleaned(text).strip(_BLANK):
        return "message text is empty"
    if (problem := _entities_problem(text, entities)) is not None:
        return problem
    fits = units(text) <= limit_units or units(settled(text, entities)[0]) <= limit_units
    return None if fits else "message is too long"


def _entities_problem(text: str, entities: Sequence[Entity]) -> str | None:
    if len(entities) > ENTITIES_LIMIT:
        return f"strict: {len(entities)} entities; {ENTITIES_LIMIT} are kept"
    encoded = text.encode("utf-16-le")
    for entity in entities:
        problem = _form_problem(entity) or _place_problem(text, encoded, entity) or _value_problem(entity)
        if problem is not None:
            return problem
    return _nesting_problem(entities)


def _form_problem(entity: Entity) -> str | None:
    """What `get_text_entity` of telegram-bot-api says of one that lacks a field."""
    wrong = "can't parse MessageEntity: "
    for name in ("type", "offset", "length"):
        if name not in entity:
            return f'{wrong}Can\'t find field "{name}"'
    if entity["type"] not in _TYPES:
        return f"{wrong}Unsupported type specified"
    for name in ("offset", "length"):
        if not isinstance(entity[name], int) or isinstance(entity[name], bool):
            return f'{wrong}Field "{name}" must be of type Number'
    if (needed := _FIELDS.get(str(entity["type"]))) is not None:
        field, kind, words = needed
        if field not in entity:
            return f'{wrong}Can\'t find field "{field}"'
        if not isinstance(entity[field], kind):
            return f'{wrong}Field "{field}" must be of type {words}'
    return None


def _place_problem(text: str, encoded: bytes, entity: Entity) -> str | None:
    start, end = _span(entity)
    total = len(encoded) // 2
    if start < 0 or start >= total:
        return f"strict: receive an entity with incorrect offset {start}"
    if end <= start:
        return f"strict: receive an entity with incorrect length {end - start}"
    if end > total:
        return f"entity beginning at UTF-16 offset {start} ends after the end of the text at UTF-16 offset {end}"
    if _splits(encoded, start):
        return f"entity begins in a middle of a UTF-16 symbol at byte offset {_byte_offset(encoded, start + 1)}"
    if _splits(encoded, end):
        place = _byte_offset(encoded, end + 1)
        return f"entity beginning at UTF-16 offset {start} ends in a middle of a UTF-16 symbol at byte offset {place}"
    if not encoded[2 * start : 2 * end].decode("utf-16-le").strip():
        return f"strict: {entity['type']} at {start} covers nothing but blanks"
    return None


def _value_problem(entity: Entity) -> str | None:
    match entity:
        case {"type": "text_link", "url": str(url)}:
            problem = _link_problem(url)
            return None if problem is None else f"entity URL '{url}' is invalid: {problem}"
        case {"type": "text_mention", "user": dict(user)}:
            return None if isinstance(user.get("id"), int) else "user not found"
        case {"type": "custom_emoji", "custom_emoji_id": str(emoji)}:
            return None if emoji.isdigit() and int(emoji) else "invalid custom emoji identifier specified"
        case {"type": "pre", "language": language} if not isinstance(language, str):
            return 'can\'t parse MessageEntity: Field "language" must be of type String'
        case _:
            return None


def _link_problem(url: str) -> str | None:
    """The rules of the server's `check_link`; stricter in that a scheme of its own has to be named.

    Without one it takes `mailto:me@example.org` for a login at a web site, and shows that.
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "Wrong HTTP URL"
    if re.search(r"[\s\x00-\x1f]", url.strip()):
        return "Wrong HTTP URL"
    if parts.scheme in ("tg", "ton", "tonsite"):
        return None if host or parts.path.strip("/") else f"Wrong {parts.scheme} URL"
    if parts.scheme not in ("http", "https"):
        return "Unsupported URL protocol"
    dotted = "." in host.strip(".") and ".." not in host
    return None if dotted or ":" in host else "Wrong HTTP URL"


def _nesting_problem(entities: Sequence[Entity]) -> str | None:
    """Entities lie apart or one within the other, and not every one may lie in every other.

    The rules are those of https://core.telegram.org/bots/api#formatting-options, read 2026-11-20: styles mix with all but code;
    code holds nothing, and lies in quotes at most; quotes do not hold quotes; the rest does not hold its like.
    """
    around: list[Entity] = []
    for entity in sorted(entities, key=lambda one: (_span(one)[0], -_span(one)[1], _depth(one))):
        start, end = _span(entity)
        while around and _span(around[-1])[1] <= start:
            around.pop()
        for outer in around:
            place = f"{entity['type']} at {start} "
            if _span(outer)[1] < end:
                return f"strict: {place}overlaps the end of {outer['type']} at {_span(outer)[0]}"
            if not _may_lie_in(str(entity["type"]), str(outer["type"])):
                return f"strict: {place}must not lie in {outer['type']} at {_span(outer)[0]}"
        around.append(entity)
    return None


def _may_lie_in(inner: str, outer: str) -> bool:
    if inner == outer or outer in _CODE:
        return False
    if inner in _CODE:
        return outer in _QUOTES
    alike = (inner in _QUOTES and outer in _QUOTES) or (inner in _WHOLE and outer in _WHOLE)
    return not alike


def _depth(entity: Entity) -> int:
    """Of those with one and the same place, quotes are the outer ones and code is the inmost."""
    kind = entity["type"]
    return 0 if kind in _QUOTES else 2 if kind in _CODE else 1


def settled(text: str, entities: Sequence[Entity] = ()) -> tuple[str, list[dict[str, object]]]:
    """What of a text that is taken stands in the message: cleaned, and trimmed at both ends, its entities moved along.

    Blanks at the beginning stay where an entity begins with them. So a text that grew by blanks only is not modified.
    """
    encoded = text.encode("utf-16-le")
    first = min((_span(entity)[0] for entity in entities), default=len(encoded) // 2)
    cleaned = _REPLACED.sub(" ", text)
    head = next((index for index, one in enumerate(cleaned) if _cleaned(one).strip(_BLANK)), len(cleaned))
    skipped = min(head, first)
    keep: list[str] = []
    moved = [0]  # for each unit of `text`, where it stands now
    for index, character in enumerate(cleaned):
        stays = index >= skipped and not _REMOVED.match(character)
        place = moved[-1]
        moved.extend(place + (step if stays else 0) for step in range(1, units(character) + 1))
        if stays:
            keep.append(character)
    kept = "".join(keep).rstrip(_BLANK)
    end = units(kept)
    placed = []
    for entity in entities:
        begin, until = (min(moved[place], end) for place in _span(entity))
        if begin < until:
            placed.append({**entity, "offset": begin, "length": until - begin})
    return kept, sorted(placed, key=lambda one: (_span(one)[0], -_span(one)[1], _depth(one)))


def _cleaned(text: str) -> str:
    return _REMOVED.sub("", _REPLACED.sub(" ", text))


def _span(entity: Entity) -> tuple[int, int]:
    offset, length = entity["offset"], entity["length"]
    assert isinstance(offset, int)
    assert isinstance(length, int)
    return offset, offset + length


def _splits(encoded: bytes, unit: int) -> bool:
    """Whether a cut before this unit tears a pair of surrogates."""
    return 0xDC <= (encoded[2 * unit + 1] if 2 * unit < len(encoded) else 0) <= 0xDF


def _byte_offset(encoded: bytes, unit: int) -> int:
    return len(encoded[: 2 * unit].decode("utf-16-le").encode("utf-8"))
