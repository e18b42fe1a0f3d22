"""What Telegram's servers hold: people, rooms, messages, files, and the bot itself.

Knows how each looks on the wire, and wakes whoever waits for a change. Does not know methods, nor what a person may do.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tests.fakes.bot_updates import BotError, ServerClock, UpdateQueue

__all__ = ["Action", "Bell", "Bot", "File", "Message", "Object", "Person", "Press", "Room", "Topic", "Version", "World"]

Object: TypeAlias = dict[str, object]
"""A JSON object of the Bot API."""

# "It is guaranteed that the link will be valid for at least 1 hour", https://core.telegram.org/bots/api#getfile.
FILE_LINK_LIFE_S = 3600.0
# How long the app shows that somebody is typing, https://core.telegram.org/bots/api#sendchataction.
ACTION_LIFE_S = 5.0
PATIENCE_S = 10.0


class Bell:
    """Rings at every change, so that nobody has to look again and again."""

    def __init__(self) -> None:
        self._listeners: list[asyncio.Future[None]] = []

    def ring(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            if not listener.done():
                listener.set_result(None)

    async def rung(self) -> None:
        listener = asyncio.get_running_loop().create_future()
        self._listeners.append(listener)
        await listener

    async def until(self, holds: Callable[[], object], patience_s: float, describe: Callable[[], str]) -> None:
        """Wait until `holds` is true; an AssertionError with `describe` after `patience_s` of wall time."""
        try:
            async with asyncio.timeout(patience_s):
                while not holds():
                    await self.rung()
        except TimeoutError:
            raise AssertionError(f"not within {patience_s:g} s; there is:\n{describe()}") from None


@dataclass(frozen=True, slots=True)
class Person:
    """A Telegram account."""

    id: int
    first_name: str
    username: str = ""
    is_bot: bool = False

    def wire(self) -> Object:
        known: Object = {"id": self.id, "is_bot": self.is_bot, "first_name": self.first_name}
        return {**known, "username": self.username} if self.username else {**known, "language_code": "en"}


@dataclass(slots=True)
class Bot:
    """The account that the token is for."""

    token: str
    person: Person
    reads_all_group_messages: bool = False
    has_topics: bool = False
    withholds_mentions: bool = False
    revoked: bool = False
    commands: dict[str, list[Object]] = field(default_factory=dict)

    def wire(self) -> Object:
        return {
            **self.person.wire(),
            "can_join_groups": True,
            "can_read_all_group_messages": self.reads_all_group_messages,
            "supports_inline_queries": False,
            "can_connect_to_business": False,
            "has_main_web_app": False,
            "has_topics_enabled": self.has_topics,
            "allows_users_to_create_topics": self.has_topics,
        }


@dataclass(frozen=True, slots=True)
class File:
    """A stored file. `size_bytes` may claim more than `data` holds, so that the big ones cost nothing."""

    id: str
    name: str
    media_type: str
    data: bytes
    size_bytes: int
    path: str

    def wire(self) -> Object:
        return {"file_id": self.id, "file_unique_id": f"u{self.id}", "file_size": self.size_bytes}


@dataclass(frozen=True, slots=True)
class Version:
    """What a message showed, from `at_s` on."""

    text: str
    entities: tuple[Object, ...]
    reply_markup: Object | None
    at_s: float


@dataclass(slots=True, eq=False)
class Message:
    """A message as it now stands. `content` is what it holds besides text, in wire form; `versions` its whole history."""

    id: int
    room: Room = field(repr=False)
    sender: Person
    at_s: float
    text: str
    entities: tuple[Object, ...] = ()
    reply_markup: Object | None = None
    content: Object = field(default_factory=dict)
    thread_id: int | None = None
    reply_to: int | None = None
    quote: Object | None = None
    document: File | None = None
    silent: bool = False
    link_preview: Object | None = None
    edited_at_s: float | None = None
    deleted: bool = False
    versions: list[Version] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.versions.append(self._version(self.at_s))

    def show(self, text: str, entities: Sequence[Object], reply_markup: Object | None, at_s: float) -> None:
        """Show something else from now on."""
        self.text, self.entities, self.reply_markup = text, tuple(entities), reply_markup
        self.edited_at_s = at_s
        self.versions.append(self._version(at_s))

    def _version(self, at_s: float) -> Version:
        return Version(self.text, self.entities, self.reply_markup, at_s)

    @property
    def buttons(self) -> dict[str, str]:
        """The labels of its inline buttons, and the data that each sends when it is pressed."""
        rows = (self.reply_markup or {}).get("inline_keyboard", [])
        assert isinstance(rows, list)
        return {button["text"]: button.get("callback_data", "") for row in rows for button in row}

    @property
    def edits(self) -> int:
        return len(self.versions) - 1

    def wire(self, *, depth: int = 1) -> Object:
        """As an update or a result carries it; what it replies to is told without what that replied to."""
        captioned = bool(self.content)
        body: Object = {"message_id": self.id, "from": self.sender.wire(), "chat": self.room.wire()}
        body["date"] = int(self.at_s)
        if self.edited_at_s is not None:
            body["edit_date"] = int(self.edited_at_s)
        if self.thread_id is not None:
            body |= {"message_thread_id": self.thread_id, "is_topic_message": True}
        answered = self.room.messages.get(self._answered_id() or 0)
        if answered is not None and depth:
            body["reply_to_message"] = answered.wire(depth=depth - 1)
        if self.quote is not None:
            body["quote"] = self.quote
        body |= self.content
        if self.text:
            body["caption" if captioned else "text"] = self.text
        if self.entities:
            body["caption_entities" if captioned else "entities"] = list(self.entities)
        if self.reply_markup is not None:
            body["reply_markup"] = self.reply_markup
        return body

    def _answered_id(self) -> int | None:
        """In a group's topic, what answers nothing is said to answer the message that began the topic."""
        if self.reply_to is not None or self.room.kind == "private" or self.id == self.thread_id:
            return self.reply_to
        return self.thread_id


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a forum, or of a private chat."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Action:
    """What the bot was seen doing: `typing`. `after_id` is the newest message that stood there then."""

    name: str
    thread_id: int | None
    at_s: float
    after_id: int


@dataclass(slots=True, eq=False)
class Room:
    """A chat. `gone` is why the bot cannot write there: the description of the 403; empty: it can."""

    id: int
    kind: Literal["private", "group", "supergroup"]
    members: list[Person]
    title: str = ""
    is_forum: bool = False
    gone: str = ""
    migrated_to: int | None = None
    flooded_until_s: float = 0.0
    topics: dict[int, Topic] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict, repr=False)
    actions: list[Action] = field(default_factory=list)
    reactions: dict[int, list[str]] = field(default_factory=dict)

    def wire(self) -> Object:
        if self.kind == "private":
            person = self.members[0]
            named: Object = {"username": person.username} if person.username else {}
            return {"id": self.id, "type": "private", "first_name": person.first_name, **named}
        forum: Object = {"is_forum": True} if self.is_forum else {}
        return {"id": self.id, "type": self.kind, "title": self.title, **forum}


@dataclass(slots=True)
class Press:
    """A button that somebody pressed, and what the bot answered to it."""

    id: str
    data: str
    at_s: float
    update_id: int | None
    answered: bool = False
    text: str = ""
    alert: bool = False


class World:
    """All of it, and the order in which it is numbered."""

    def __init__(self, bot: Bot, clock: ServerClock) -> None:
        self.bot = bot
        self.clock = clock
        self.bell = Bell()
        self.updates = UpdateQueue(clock)
        self.rooms: dict[int, Room] = {}
        self.files: dict[str, File] = {}
        self.presses: dict[str, Press] = {}
        self._links: dict[str, tuple[File, float]] = {}
        # Private chats and basic groups share one row of message ids, as in life; every supergroup has its own.
        self._shared_ids = itertools.count(11)
        self._own_ids: dict[int, itertools.count[int]] = {}
        self._numbers = itertools.count(1)

    def number(self) -> int:
        """A number that nothing else has: for files, button presses, groups."""
        return next(self._numbers)

    def message_id(self, room: Room) -> int:
        if room.kind == "supergroup":
            return next(self._own_ids.setdefault(room.id, itertools.count(2)))
        return next(self._shared_ids)

    def add(self, message: Message) -> Message:
        message.room.messages[message.id] = message
        self.bell.ring()
        return message

    def room(self, chat_id: int | None) -> Room:
        """The chat of a request.

        Raises:
            BotError: there is none, or the bot cannot write there.
        """
        room = self.rooms.get(chat_id or 0)
        if room is None:
            raise BotError(400, "Bad Request: chat not found")
        if room.migrated_to is not None:
            words = "Bad Request: group chat was upgraded to a supergroup chat"
            raise BotError(400, words, {"migrate_to_chat_id": room.migrated_to})
        if room.gone:
            raise BotError(403, room.gone)
        if (left_s := room.flooded_until_s - self.clock.now_s) > 0:
            seconds = max(1, round(left_s))
            raise BotError(429, f"Too Many Requests: retry after {seconds}", {"retry_after": seconds})
        return room

    def keep(self, folder: str, name: str, media_type: str, data: bytes, size_bytes: int | None = None) -> File:
        """Store a file."""
        number = self.number()
        size = len(data) if size_bytes is None else size_bytes
        ending = name.rpartition(".")[2] if "." in name else "bin"
        file = File(f"FILE{number:06d}", name, media_type, data, size, f"{folder}/file_{number}.{ending}")
        self.files[file.id] = file
        return file

    def link(self, file: File) -> str:
        """A path to download the file from, for an hour."""
        self._links[file.path] = (file, self.clock.now_s + FILE_LINK_LIFE_S)
        return file.path

    def linked(self, path: str) -> File | None:
        file, until_s = self._links.get(path, (None, 0.0))
        return file if until_s > self.clock.now_s else None
