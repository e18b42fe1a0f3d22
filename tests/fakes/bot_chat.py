"""The user side: people who write, press and block, and what they see.

Knows what the apps do: commands, mentions and links get their entities, a long paste is split, an album is several messages.
Knows which of it a bot is told (privacy mode). Does not know how the bot is told.

    olga = api.user(name="Olga")
    chat = olga.private()
    await chat.say("hi")
    await chat.until(lambda chat: chat.texts == ["hello"])
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from tests.fakes.bot_world import ACTION_LIFE_S, PATIENCE_S, Action, Message, Object, Person, Press, Room, Topic, World
from tests.fakes.telegram_rules import TEXT_LIMIT_UNITS, Entity, units

__all__ = ["Chat", "Said", "User"]

# Where a photo's smaller sizes end, https://core.telegram.org/api/files#image-thumbnail-types.
_SMALLER = (("s", 90, 60), ("m", 320, 213))
_SERVICE = frozenset(("forum_topic_created", "migrate_to_chat_id", "migrate_from_chat_id"))
_FOUND = re.compile(
    r"(?P<url>https?://\S+)|(?P<bot_command>(?<![\w/])/\w{1,64}(?:@\w{3,32})?)"
    r"|(?P<mention>(?<!\w)@\w{3,32})|(?P<hashtag>(?<!\w)#\w+)"
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a person sent. `update_id` is None where the bot is not told of it."""

    message_id: int
    update_id: int | None


Which: TypeAlias = Said | Message | int


class User:
    """Somebody with a Telegram account."""

    def __init__(self, world: World, person: Person) -> None:
        self.person = person
        self._world = world

    @property
    def id(self) -> int:
        return self.person.id

    @property
    def name(self) -> str:
        return self.person.first_name

    def private(self) -> Chat:
        """The chat with the bot; it has been started."""
        room = self._world.rooms.setdefault(self.id, Room(self.id, "private", [self.person]))
        return Chat(self._world, room)

    def block(self) -> int | None:
        """Block the bot; it is told so, and cannot write any more."""
        return self._turn("member", "kicked", "Forbidden: bot was blocked by the user")

    def unblock(self) -> int | None:
        return self._turn("kicked", "member", "")

    def _turn(self, old: str, new: str, gone: str) -> int | None:
        chat = self.private()
        chat.room.gone = gone
        return chat.membership(self.person, old, new)


class Chat:
    """A place where people and the bot write: a private chat, a group, or one topic of either.

    Whoever is not named by `by` is the first member.
    """

    def __init__(self, world: World, room: Room, topic: Topic | None = None) -> None:
        self.room = room
        self.topic_id = None if topic is None else topic.id
        self._world = world

    @property
    def id(self) -> int:
        return self.room.id

    # --- what people do ----------------------------------------------------------------------------------------------

    async def say(
        self,
        text: str,
        *,
        by: User | None = None,
        entities: Sequence[Entity] | None = None,
        reply_to: Which | None = None,
        quote: Object | None = None,
    ) -> Said:
        """Write a message; `entities` are found as the app finds them unless they are given."""
        assert 0 < units(text) <= TEXT_LIMIT_UNITS, f"the app sends 1 to {TEXT_LIMIT_UNITS} units; see paste"
        return self._post(self._draft(text, by, entities, reply_to, quote))

    async def paste(self, text: str, *, by: User | None = None) -> list[Said]:
        """Write a text that may be too long for one message: the app splits it, as many as it takes."""
        pieces = []
        while text:
            piece = text
            while (over := units(piece) - TEXT_LIMIT_UNITS) > 0:
                piece = piece[: len(piece) - (over + 1) // 2]
            pieces.append(piece)
            text = text[len(piece) :]
        return [await self.say(piece, by=by) for piece in pieces]

    async def reply(self, to: Which, text: str, *, quote: str = "", by: User | None = None) -> Said:
        """Answer a message, or the part of it that is quoted."""
        quoted: Object | None = None
        if quote:
            place = self.room.messages[_id_of(to)].text.index(quote)
            position = units(self.room.messages[_id_of(to)].text[:place])
            quoted = {"text": quote, "position": position, "is_manual": True}
        return await self.say(text, by=by, reply_to=to, quote=quoted)

    async def photo(
        self,
        data: bytes,
        caption: str = "",
        *,
        album: str = "",
        by: User | None = None,
        size_bytes: int | None = None,
        reply_to: Which | None = None,
    ) -> Said:
        """Send a picture; those of one `album` are shown as one."""
        keep = self._world.keep
        sizes: list[Object] = [
            {**keep("thumbnails", f"{name}.jpg", "image/jpeg", b"thumbnail").wire(), "width": width, "height": height}
            for name, width, height in _SMALLER
        ]
        whole = keep("photos", "photo.jpg", "image/jpeg", data, size_bytes)
        sizes.append({**whole.wire(), "width": 1280, "height": 853})
        return await self.send(_with_album({"photo": sizes}, album), caption, by=by, reply_to=reply_to)

    async def document(
        self,
        name: str,
        data: bytes = b"",
        caption: str = "",
        *,
        media_type: str = "application/octet-stream",
        album: str = "",
        by: User | None = None,
        size_bytes: int | None = None,
    ) -> Said:
        """Send a file; `size_bytes` lets it be larger than it is."""
        file = self._world.keep("documents", name, media_type, data, size_bytes)
        content = {"document": {**file.wire(), "file_name": name, "mime_type": media_type}}
        return await self.send(_with_album(content, album), caption, by=by)

    async def voice(self, data: bytes = b"OggS", *, seconds: int = 3, by: User | None = None) -> Said:
        file = self._world.keep("voice", "voice.oga", "audio/ogg", data)
        return await self.send({"voice": {**file.wire(), "duration": seconds, "mime_type": "audio/ogg"}}, by=by)

    async def send(
        self, content: Mapping[str, object], caption: str = "", *, by: User | None = None, reply_to: Which | None = None
    ) -> Said:
        """Send something of any kind, in wire form: `{"location": {…}}`."""
        draft = self._draft(caption, by, None, reply_to, None)
        draft.content = dict(content)
        return self._post(draft)

    async def edit(self, which: Which, text: str) -> Said:
        """Change what one has written."""
        message = self.room.messages[_id_of(which)]
        message.show(text, _found(text), None, self._world.clock.now_s)
        self._world.bell.ring()
        return Said(message.id, self._tell("edited_message", message))

    async def press(self, button: str, *, on: Which | None = None, by: User | None = None) -> Press:
        """Press the button of that label, on the newest message that has one."""
        message = self.room.messages[_id_of(on)] if on is not None else self._with_button(button)
        press = Press(str(10_000_000 + self._world.number()), message.buttons[button], self._world.clock.now_s, None)
        self._world.presses[press.id] = press
        body: Object = {"id": press.id, "from": self._person(by).wire(), "message": message.wire()}
        body |= {"chat_instance": str(self.id), "data": press.data}
        press.update_id = self._world.updates.push("callback_query", body)
        return press

    async def react(self, which: Which, emoji: str, *, by: User | None = None) -> int | None:
        """Put a reaction under a message; bots that did not ask for those are not told."""
        body: Object = {"chat": self.room.wire(), "message_id": _id_of(which), "user": self._person(by).wire()}
        body |= {"date": int(self._world.clock.now_s), "old_reaction": []}
        body["new_reaction"] = [{"type": "emoji", "emoji": emoji}] if emoji else []
        return self._world.updates.push("message_reaction", body)

    def topic(self, name: str) -> Chat:
        """Begin a topic."""
        assert self.room.is_forum or self.room.kind == "private", "only forums and private chats have topics"
        draft = self._draft("", None, (), None, None)
        draft.content = {"forum_topic_created": {"name": name, "icon_color": 7322096}}
        draft.id = draft.thread_id = self._world.message_id(self.room)
        topic = self.room.topics[draft.id] = Topic(draft.id, name)
        self._world.add(draft)
        self._tell("message", draft)
        return Chat(self._world, self.room, topic)

    def throw_out(self, by: User | None = None) -> int | None:
        """Remove the bot from the group; it is told so."""
        self.room.gone = f"Forbidden: bot was kicked from the {self.room.kind} chat"
        return self.membership(self._person(by), "member", "kicked")

    def migrate(self) -> Chat:
        """Make a supergroup of a basic group: it has another id from now on."""
        assert self.room.kind == "group", "only basic groups become supergroups"
        new = Room(-1_000_000_000_000 - self._world.number(), "supergroup", self.room.members, self.room.title)
        self._world.rooms[new.id] = new
        farewell = self._draft("", None, (), None, None)
        farewell.content = {"migrate_to_chat_id": new.id}
        self._post(farewell)
        self.room.migrated_to = new.id
        chat = Chat(self._world, new)
        welcome = chat._draft("", None, (), None, None)
        welcome.content = {"migrate_from_chat_id": self.id}
        chat._post(welcome)
        return chat

    def flood(self, retry_after_s: float) -> None:
        """Let every method that concerns this chat be refused with a 429 until the server's clock has gone on so far."""
        self.room.flooded_until_s = self._world.clock.now_s + retry_after_s

    # --- what they see -----------------------------------------------------------------------------------------------

    @property
    def messages(self) -> list[Message]:
        """The bot's messages as they now stand, oldest first, without those that it deleted."""
        bot = self._world.bot.person
        return [message for message in self.everything if message.sender == bot]

    @property
    def everything(self) -> list[Message]:
        """The messages of everybody, as they now stand."""
        mine = self.room.messages.values() if self.topic_id is None else self._of_topic()
        return [message for message in mine if not message.deleted]

    def _of_topic(self) -> list[Message]:
        return [message for message in self.room.messages.values() if message.thread_id == self.topic_id]

    @property
    def texts(self) -> list[str]:
        """The texts of the bot's messages; a caption counts as one."""
        return [message.text for message in self.messages]

    @property
    def last(self) -> Message:
        """The bot's newest message."""
        assert self.messages, f"the bot has written nothing here\n{self.describe()}"
        return self.messages[-1]

    @property
    def actions(self) -> list[Action]:
        """What the bot was seen doing here, oldest first."""
        return [one for one in self.room.actions if self.topic_id in (None, one.thread_id)]

    @property
    def is_typing(self) -> bool:
        """Whether the sign is on: for five seconds, or until the bot's next message."""
        if not self.actions or self._world.clock.now_s - self.actions[-1].at_s >= ACTION_LIFE_S:
            return False
        return not any(message.id > self.actions[-1].after_id for message in self.messages)

    def reactions(self, which: Which) -> list[str]:
        """What the bot has put under a message."""
        return self.room.reactions.get(_id_of(which), [])

    async def until(self, holds: Callable[[Chat], object], *, patience_s: float = PATIENCE_S) -> Chat:
        """Wait for what a person would see; an AssertionError that shows the chat after `patience_s` of wall time."""
        await self._world.bell.until(lambda: holds(self), patience_s, self.describe)
        return self

    def describe(self) -> str:
        """The chat, one line for each message."""
        return "\n".join(_line(message) for message in self.everything) or "(nothing)"

    # --- how it comes about ------------------------------------------------------------------------------------------

    def membership(self, by: Person, old: str, new: str) -> int | None:
        """Tell the bot what it was here, and what it is now."""
        bot = self._world.bot.person.wire()
        body: Object = {"chat": self.room.wire(), "from": by.wire(), "date": int(self._world.clock.now_s)}
        body["old_chat_member"] = _member(bot, old)
        body["new_chat_member"] = _member(bot, new)
        return self._world.updates.push("my_chat_member", body)

    def _person(self, by: User | None) -> Person:
        return self.room.members[0] if by is None else by.person

    def _draft(
        self,
        text: str,
        by: User | None,
        entities: Sequence[Entity] | None,
        reply_to: Which | None,
        quote: Object | None,
    ) -> Message:
        return Message(
            id=0,
            room=self.room,
            sender=self._person(by),
            at_s=self._world.clock.now_s,
            text=text,
            entities=tuple(_found(text) if entities is None else (dict(entity) for entity in entities)),
            thread_id=self.topic_id,
            reply_to=None if reply_to is None else _id_of(reply_to),
            quote=quote,
        )

    def _post(self, message: Message) -> Said:
        message.id = self._world.message_id(self.room)
        self._world.add(message)
        return Said(message.id, self._tell("message", message))

    def _tell(self, kind: str, message: Message) -> int | None:
        return self._world.updates.push(kind, message.wire()) if self._is_told(message) else None

    def _is_told(self, message: Message) -> bool:
        """In privacy mode a bot gets what is meant for it, https://core.telegram.org/bots/features#privacy-mode.

        That mentions belong to it is not promised there, but seen; `withholds_mentions` is for those who see it otherwise.
        """
        bot = self._world.bot
        if self.room.gone:
            return False
        is_service = bool(message.content.keys() & _SERVICE)
        if self.room.kind == "private" or bot.reads_all_group_messages or is_service:
            return True
        answered = self.room.messages.get(message.reply_to or 0)
        if answered is not None and answered.sender == bot.person:
            return True
        encoded = message.text.encode("utf-16-le")
        for entity in message.entities:
            begin, length = cast(int, entity["offset"]), cast(int, entity["length"])
            words = encoded[2 * begin : 2 * (begin + length)].decode("utf-16-le").lower()
            mine = f"@{bot.person.username.lower()}"
            if entity["type"] == "bot_command" and ("@" not in words or words.endswith(mine)):
                return True
            is_me = words == mine or cast("dict[str, Any]", entity.get("user") or {}).get("id") == bot.person.id
            if is_me and not bot.withholds_mentions:  # Any: a user as it stands on the wire
                return True
        return False

    def _with_button(self, label: str) -> Message:
        found = [message for message in self.messages if label in message.buttons]
        assert found, f"no message with the button {label!r}\n{self.describe()}"
        return found[-1]


def _id_of(which: Which) -> int:
    match which:
        case Said():
            return which.message_id
        case Message():
            return which.id
        case _:
            return which


def _found(text: str) -> tuple[Object, ...]:
    """The entities that an app finds in what somebody types."""
    return tuple(
        {"type": str(match.lastgroup), "offset": units(text[: match.start()]), "length": units(match.group())}
        for match in _FOUND.finditer(text)
    )


def _with_album(content: Mapping[str, object], album: str) -> Mapping[str, object]:
    return {**content, "media_group_id": album} if album else content


def _member(user: Object, status: str) -> Object:
    return {"user": user, "status": status, **({"until_date": 0} if status == "kicked" else {})}


def _line(message: Message) -> str:
    holds = "".join(f" <{name}>" for name in message.content)
    buttons = "".join(f" [{label}]" for label in message.buttons)
    edited = f" (edited {message.edits}x)" if message.edits else ""
    return f"#{message.id} {message.sender.first_name}: {message.text}{holds}{buttons}{edited}"
