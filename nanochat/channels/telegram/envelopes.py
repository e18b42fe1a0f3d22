"""From raw updates to envelopes: whose conversation, what belongs together, what may overtake.

Reads the JSON as it came and never stumbles: an update that it cannot make out is left to `parse`, which may. Knows Telegram's
shapes, and a little of what came just before. Does not know who is allowed in, nor what a message says beyond its first word.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from nanochat.channels.telegram.wire import Room
from nanochat.keys import SessionKey
from nanochat.ports import Envelope
from nanochat.records import Json

__all__ = [
    "KINDS",
    "PRESS",
    "TOGETHER_S",
    "UNREADABLE",
    "BotName",
    "Envelopes",
    "Facts",
    "facts_of",
    "is_command",
    "key_of",
    "length_units",
    "own_words",
    "rich_text",
    "room_of",
]

KINDS = ["message", "edited_message", "callback_query"]
"""The updates that are asked for."""

PRESS = ":press"
"""What the source id of a pressed button ends in."""

UNREADABLE = SessionKey("telegram", "unreadable")
"""Where updates are kept that cannot be made out."""

# Telegram's clients cut a long text at 4,096 UTF-16 units, or a little before, at a space: whoever sends this much goes on.
SPLIT_UNITS = 4000
# The parts of an album, or of a split text, come within a fraction of this; our own choice.
TOGETHER_S = 1.0

# What overtakes a running turn, and what ends it first; the same words as in the other channels.
_PASS = frozenset(("stop", "status", "help", "start", "usage"))
_STOP = frozenset(("new", "reset", "undo", "retry"))
_COMMAND = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@(\w+))?(?=\s|\Z)")

# Everything that somebody can mean to say; a message with none of it tells of the chat (a new title, a member) and is no message.
_SAYINGS = (
    *(
        "text",
        "photo",
        "document",
        "voice",
        "audio",
        "video",
        "video_note",
        "animation",
        "sticker",
        "location",
        "venue",
    ),
    *("contact", "poll", "dice", "story", "paid_media", "checklist", "game", "invoice", "rich_message"),
)

_K = TypeVar("_K")
_V = TypeVar("_V")

# "at most 52 significant bits": https://core.telegram.org/bots/api#user, read 2026-11-20. A larger number is nobody.
_LARGEST_ID = 2**52 - 1

# How many albums and split texts are remembered: more than ever come within a moment.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class BotName:
    """Who the bot is: what a mention of it looks like."""

    id: int
    username: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What routing needs to know of one update. `kind` is empty for what is to be ignored. Of a button that was
    pressed, `text` is what it sends, and `press` what Telegram calls the press."""

    update_id: int
    kind: Literal["", "message", "edit", "press"]
    room: Room
    message_id: int
    user_id: int
    user_name: str
    text: str = ""
    album: str = ""
    command: str = ""
    is_addressed: bool = False
    is_for_other: bool = False
    is_bot: bool = False
    press: str = ""


def length_units(text: str) -> int:
    """The length as Telegram counts it, also of what no encoding takes."""
    return len(text) + sum(char > "\uffff" for char in text)


def key_of(room: Room) -> SessionKey:
    """`telegram:<chat>`, with a topic `telegram:<chat>:<thread>`."""
    return SessionKey("telegram", str(room.chat) if room.thread is None else f"{room.chat}:{room.thread}")


def room_of(key: SessionKey) -> Room | None:
    """The other way; None for a key that names no chat of Telegram's."""
    form = re.fullmatch(r"(-?\d{1,20})(?::(\d{1,20}))?", key.chat_id)
    if key.channel != "telegram" or form is None:
        return None
    return Room(int(form[1]), int(form[2]) if form[2] else None)


def facts_of(update: Mapping[str, Json], bot: BotName) -> Facts | None:
    """What an update is about, or None where not even its chat can be made out."""
    update_id = update.get("update_id")
    press = _map(update.get("callback_query"))
    message = _map(press.get("message") if press else update.get("message") or update.get("edited_message"))
    chat_id, message_id = _map(message.get("chat")).get("id"), message.get("message_id")
    if not isinstance(update_id, int) or not isinstance(chat_id, int) or not isinstance(message_id, int):
        return None
    thread = message.get("message_thread_id") if message.get("is_topic_message") is True else None
    room = Room(chat_id, thread if isinstance(thread, int) else None)
    user = _map(press.get("from") if press else message.get("from"))
    user_id = user.get("id")
    name = " ".join(str(user[part]) for part in ("first_name", "last_name") if user.get(part))
    # Who writes in a group's own name is let in with the group.
    is_bot = user.get("is_bot") is True and _map(message.get("sender_chat")).get("id") != chat_id
    known = (room, message_id, user_id if isinstance(user_id, int) and 0 < user_id <= _LARGEST_ID else 0, name)
    if press:
        asked = _text(press.get("data"))
        return Facts(update_id, "press", *known, asked, is_addressed=True, is_bot=is_bot, press=_text(press.get("id")))
    if not any(message.get(saying) for saying in _SAYINGS):
        return Facts(update_id, "", *known)
    text = _text(message.get("text")) or _text(message.get("caption")) or rich_text(message.get("rich_message"))
    command, is_ours = _command(own_words(text, bot))
    return Facts(
        update_id,
        "edit" if "edited_message" in update else "message",
        *known,
        text=text,
        album=_text(message.get("media_group_id")),
        command=command,
        is_addressed=bool(command and is_ours) or _names(message, bot) or _replies_to(message, bot),
        is_for_other=bool(command) and not is_ours,
        is_bot=is_bot,
    )


def own_words(text: str, bot: BotName) -> str:
    """What somebody says to the bot, without its name in front and in a command: `@bot, /stop@bot` is `/stop`."""
    if bot.username:
        name = re.escape(f"@{bot.username}")
        text = re.sub(rf"\A\s*{name}\b[\s,:]*", "", text, flags=re.IGNORECASE)
        text = re.sub(rf"\A(\s*/\w+){name}\b", r"\1", text, flags=re.IGNORECASE)
    return text.strip() and text


def is_command(words: str) -> bool:
    """Whether somebody's own words ask something of nanochat itself; no command of its own has a digit."""
    command, _ = _command(words)
    return bool(command) and not any(map(str.isdigit, command))


def rich_text(rich: object) -> str:
    """The text of a rich message, where this is one."""
    # A kind that came after the SDK's version: https://core.telegram.org/bots/api-changelog, read 2026-11-20.
    return str(rich.get("markdown") or rich.get("text") or "") if isinstance(rich, Mapping) else ""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A text that a client had cut: its `group`, until when more may come, and the newest part; `is_whole` after a short one."""

    group: str
    until: datetime
    newest: int
    is_whole: bool = False


class Envelopes:
    """Packs updates, and remembers what the next ones may belong to. `groups` says what is heard there.

    The same update is packed the same way again: one that the inbox could not take comes once more. What it remembers dies with
    the process: the rest of a text that was being sent just then is a message of its own.
    """

    def __init__(
        self,
        bot_id: int,
        groups: Literal["mention", "all", "off"],
        clock: Callable[[], datetime],
        together_s: float = TOGETHER_S,
    ) -> None:
        self._bot_id = bot_id
        self._groups = groups
        self._clock = clock
        self._together_s = together_s
        self._albums: OrderedDict[tuple[int, str], None] = OrderedDict()
        self._cuts: OrderedDict[tuple[Room, int], _Cut] = OrderedDict()

    def hears(self, facts: Facts) -> bool:
        """Whether this is said to the bot: always in a private chat, in a group as the setting says."""
        if not facts.room.is_group or facts.kind == "press":
            return True
        if facts.is_for_other or self._groups == "off":
            return False
        if self._groups == "all" or facts.is_addressed:
            if facts.album:
                _remember(self._albums, (facts.room.chat, facts.album), None)
            return True
        return (facts.room.chat, facts.album) in self._albums or self._continues(facts) is not None

    def pack(self, facts: Facts, update: Mapping[str, Json]) -> Envelope:
        """The envelope of an update that is heard."""
        key = key_of(facts.room)
        source_id = f"telegram:{self._bot_id}:{facts.update_id}"
        if facts.kind == "press":
            return Envelope(source_id + PRESS, key, _body(update), manner="pass")
        place = str(facts.message_id)
        if facts.kind == "edit":
            return Envelope(source_id, key, _body(update), replaces=place)
        group, ready_at = self._together(facts)
        manner: Literal["wait", "pass", "stop"] = "wait"
        if not group:
            manner = "pass" if facts.command in _PASS else "stop" if facts.command in _STOP else "wait"
        return Envelope(source_id, key, _body(update), group, ready_at, manner, place=place)

    def unreadable(self, update: Mapping[str, Json]) -> Envelope:
        """The envelope of an update that cannot be made out: kept, so that `nanochat why` can show it."""
        source_id = f"telegram:{self._bot_id}:{update.get('update_id')}"
        try:
            body = _body(update)
        except (RecursionError, ValueError) as error:
            body = json.dumps({"lost": type(error).__name__})
        return Envelope(source_id, UNREADABLE, body)

    def _together(self, facts: Facts) -> tuple[str, datetime | None]:
        """The group that a message belongs to, and when it may be taken up."""
        soon = self._clock() + timedelta(seconds=self._together_s)
        if facts.album:
            return f"telegram:{facts.room.chat}:album:{facts.album}", soon
        begun = self._continues(facts)
        is_long = length_units(facts.text) >= SPLIT_UNITS
        if begun is None and not is_long:
            return "", None
        group = begun or f"telegram:{facts.room.chat}:text:{facts.message_id}"
        _remember(self._cuts, (facts.room, facts.user_id), _Cut(group, soon, facts.message_id, is_whole=not is_long))
        return group, soon if is_long else self._clock()

    def _continues(self, facts: Facts) -> str | None:
        """The split text that a text may be the next part of, or is the newest one of."""
        cut = self._cuts.get((facts.room, facts.user_id))
        if cut is None or not facts.text or facts.command or facts.album:
            return None
        is_next = not cut.is_whole and self._clock() <= cut.until
        return cut.group if is_next or cut.newest == facts.message_id else None


def _body(update: Mapping[str, Json]) -> str:
    """The update as text that can be stored: without halves of characters."""
    return json.dumps(update, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace").decode()


def _remember(memory: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _map(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _command(words: str) -> tuple[str, bool]:
    """The command that somebody's own words begin with, and whether it may be ours: one without a name is everybody's."""
    form = _COMMAND.match(words.lstrip())
    return (form[1].lower(), form[2] is None) if form is not None else ("", False)


def _names(message: Mapping[str, Json], bot: BotName) -> bool:
    """Whether the bot is mentioned, by its @name or, in a client that knows better, by its id."""
    for text, entities in (("text", "entities"), ("caption", "caption_entities")):
        said, marks = _text(message.get(text)).encode("utf-16-le", "surrogatepass"), message.get(entities)
        for mark in marks if isinstance(marks, list) else []:
            offset, length = _map(mark).get("offset"), _map(mark).get("length")
            if _map(mark).get("type") == "text_mention" and _map(_map(mark).get("user")).get("id") == bot.id:
                return True
            if _map(mark).get("type") == "mention" and isinstance(offset, int) and isinstance(length, int):
                name = said[2 * offset : 2 * (offset + length)].decode("utf-16-le", "replace")
                if bot.username and name.lower() == f"@{bot.username.lower()}":
                    return True
    return False


def _replies_to(message: Mapping[str, Json], bot: BotName) -> bool:
    """Whether it answers the bot; in a topic every message answers the topic's first one, which does not count."""
    replied = _map(message.get("reply_to_message"))
    return _map(replied.get("from")).get("id") == bot.id and "forum_topic_created" not in replied
