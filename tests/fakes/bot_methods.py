"""The methods of the Bot API that a chat bot calls, with the objections of the real one, word for word.

Knows what each takes, does and answers. Does not know HTTP, faults, or that `getUpdates` may wait. Not played: parse modes
(their errors can be put into a fault), media other than documents, and whatever else is called: `method not found`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from tests.fakes.bot_updates import BotError
from tests.fakes.bot_wire import Fields, Upload
from tests.fakes.bot_world import Action, File, Message, Object, Room, World
from tests.fakes.telegram_rules import CAPTION_LIMIT_UNITS, refusal, settled, units

__all__ = ["METHODS", "perform", "poll_arguments"]

# "Bots can download files of up to 20MB in size", https://core.telegram.org/bots/api#getfile, read 2026-11-20.
DOWNLOAD_LIMIT_BYTES = 20 * 1024 * 1024
# "up to 50 MB", https://core.telegram.org/bots/api#senddocument, read 2026-11-20.
UPLOAD_LIMIT_BYTES = 50 * 1024 * 1024
# "A message can only be deleted if it was sent less than 48 hours ago", https://core.telegram.org/bots/api#deletemessage.
DELETE_LIMIT_S = 48 * 3600.0
# "1-64 bytes", https://core.telegram.org/bots/api#inlinekeyboardbutton, read 2026-11-20.
CALLBACK_DATA_LIMIT_BYTES = 64
# "0-200 characters", https://core.telegram.org/bots/api#answercallbackquery, read 2026-11-20.
CALLBACK_TEXT_LIMIT = 200
# How long the app waits for the answer to a button; the real figure is not published: our own choice.
CALLBACK_LIFE_S = 60.0
# "At most 100 commands", of "1-32 characters", with "1-256 characters": https://core.telegram.org/bots/api#botcommand.
COMMANDS_LIMIT, COMMAND_WORDS_LIMIT = 100, 256

_ACTIONS = frozenset(
    (
        "typing",
        "upload_photo",
        "record_video",
        "upload_video",
        "record_voice",
        "upload_voice",
        "upload_document",
        "choose_sticker",
        "find_location",
        "record_video_note",
        "upload_video_note",
    )
)
# Some of those that a bot may react with, https://core.telegram.org/bots/api#reactiontypeemoji.
_REACTIONS = frozenset(
    "👍👎❤🔥🥰👏😁🤔🤯😱🎉🤩🙏👌🕊🤡🥱😍🐳💯🤣🏆💔🤨😐🍓💋😈😴😭🤓👻👀🎃🙈😇😨🤝🎅🤪🗿🆒💘🙉🦄😘💊🙊😎👾😡"
)
_NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same"
    " as a current content and reply markup of the message"
)


def perform(world: World, method: str, fields: Fields) -> object:
    """The result of a method; `method` in lower case, because the real server does not care either.

    Raises:
        BotError: it is refused, or there is no such method.
    """
    known = METHODS.get(method)
    if known is None:
        raise BotError(404, "Not Found: method not found")
    result = known(world, fields)
    world.bell.ring()
    return result


def poll_arguments(fields: Fields) -> tuple[int, int, int, list[str] | None]:
    """Offset, limit, timeout in seconds, and the kinds asked for; None: as before."""
    allowed = _structure(fields, "allowed_updates", list)
    limit = fields.number("limit")
    return (
        fields.number("offset") or 0,
        100 if limit is None else limit,
        fields.number("timeout") or 0,
        None if allowed is None else [str(kind) for kind in allowed],
    )


def _bad(words: str) -> BotError:
    return BotError(400, f"Bad Request: {words}")


def _structure(fields: Fields, name: str, kind: type) -> list[object] | None:
    """A list or an object; None where it was not given."""
    try:
        value = fields.structure(name)
    except ValueError:
        raise _bad(f"can't parse {name} JSON object") from None
    if value is not None and not isinstance(value, kind):
        raise _bad(f"can't parse {name}: expected {'an Array' if kind is list else 'an Object'}")
    return cast("list[object] | None", value)


def _object(fields: Fields, name: str) -> Object | None:
    return cast("Object | None", _structure(fields, name, dict))


# --- who and where ---------------------------------------------------------------------------------------------------


def _get_me(world: World, _: Fields) -> object:
    return world.bot.wire()


def _thread(room: Room, fields: Fields) -> int | None:
    """The topic; there is none with the number of `General`, which is written to by naming none."""
    thread_id = fields.number("message_thread_id")
    if thread_id is not None and thread_id not in room.topics:
        raise _bad("message thread not found")
    return thread_id


def _answered(room: Room, fields: Fields) -> int | None:
    reply = _object(fields, "reply_parameters")
    if reply is None:
        return None
    message_id = cast(int, reply.get("message_id"))
    message = room.messages.get(message_id)
    if message is not None and not message.deleted:
        return message_id
    if reply.get("allow_sending_without_reply"):
        return None
    raise _bad("message to be replied not found")


def _own(world: World, room: Room, fields: Fields, words: str) -> Message:
    """The bot's own message that a request names."""
    message = room.messages.get(fields.number("message_id") or 0)
    if message is None or message.deleted:
        raise _bad(words)
    if message.sender != world.bot.person:
        raise _bad("message can't be edited")
    return message


# --- what a message shows --------------------------------------------------------------------------------------------


def _content(fields: Fields, *, too_long: str) -> tuple[str, list[Object]]:
    """The text and entities of a request, as they will stand."""
    text = fields.text("text")
    if fields.text("parse_mode"):
        raise _bad("strict: a parse mode is not played here; give entities")
    entities = [cast(Object, entity) for entity in _structure(fields, "entities", list) or []]
    if (problem := refusal(text, entities)) is not None:
        raise _bad(too_long if problem == "message is too long" else problem)
    return settled(text, entities)


def _markup(fields: Fields) -> Object | None:
    """The inline keyboard; one without buttons is none."""
    markup = _object(fields, "reply_markup")
    if markup is None or "inline_keyboard" not in markup:
        return None
    rows = [row for row in cast("Sequence[Sequence[Mapping[str, str]]]", markup["inline_keyboard"]) if row]
    for button in (button for row in rows for button in row):
        if not button.get("text"):
            raise _bad('can\'t parse inline keyboard button: Field "text" must be non-empty')
        if "callback_data" not in button and "url" not in button:
            raise _bad("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
        if "callback_data" in button and not 1 <= len(button["callback_data"].encode()) <= CALLBACK_DATA_LIMIT_BYTES:
            raise _bad("BUTTON_DATA_INVALID")
    return {"inline_keyboard": [[dict(button) for button in row] for row in rows]} if rows else None


def _new(world: World, room: Room, fields: Fields, text: str, entities: Sequence[Object]) -> Message:
    return Message(
        id=0,
        room=room,
        sender=world.bot.person,
        at_s=world.clock.now_s,
        text=text,
        entities=tuple(entities),
        reply_markup=_markup(fields),
        thread_id=_thread(room, fields),
        reply_to=_answered(room, fields),
        silent=fields.flag("disable_notification"),
        link_preview=_object(fields, "link_preview_options"),
    )


def _send(world: World, message: Message) -> object:
    message.id = world.message_id(message.room)
    return world.add(message).wire()


def _send_message(world: World, fields: Fields) -> object:
    room = world.room(fields.number("chat_id"))
    text, entities = _content(fields, too_long="message is too long")
    return _send(world, _new(world, room, fields, text, entities))


def _edit_message_text(world: World, fields: Fields) -> object:
    room = world.room(fields.number("chat_id"))
    text, entities = _content(fields, too_long="MESSAGE_TOO_LONG")
    message = _own(world, room, fields, "message to edit not found")
    if message.content:
        raise _bad("there is no text in the message to edit")
    return _show(world, message, text, entities, _markup(fields))


def _edit_message_reply_markup(world: World, fields: Fields) -> object:
    room = world.room(fields.number("chat_id"))
    message = _own(world, room, fields, "message to edit not found")
    return _show(world, message, message.text, message.entities, _markup(fields))


def _show(world: World, message: Message, text: str, entities: Sequence[Object], markup: Object | None) -> object:
    if (text, tuple(entities), markup) == (message.text, message.entities, message.reply_markup):
        raise _bad(_NOT_MODIFIED)
    message.show(text, entities, markup, world.clock.now_s)
    return message.wire()


def _delete_message(world: World, fields: Fields) -> object:
    room = world.room(fields.number("chat_id"))
    message = room.messages.get(fields.number("message_id") or 0)
    if message is None or message.deleted:
        raise _bad("message to delete not found")
    is_foreign = message.sender != world.bot.person and room.kind != "private"
    if is_foreign or world.clock.now_s - message.at_s > DELETE_LIMIT_S:
        raise _bad("message can't be deleted for everyone" if not is_foreign else "message can't be deleted")
    message.deleted = True
    return True


# --- files -----------------------------------------------------------------------------------------------------------


def _send_document(world: World, fields: Fields) -> object:
    room = world.room(fields.number("chat_id"))
    file = _uploaded(world, fields)
    caption = fields.text("caption")
    entities = [cast(Object, entity) for entity in _structure(fields, "caption_entities", list) or []]
    if caption.strip() and (problem := refusal(caption, entities, limit_units=CAPTION_LIMIT_UNITS)) is not None:
        raise _bad("message caption is too long" if problem == "message is too long" else problem)
    message = _new(world, room, fields, *(settled(caption, entities) if caption.strip() else ("", [])))
    message.document = file
    message.content = {"document": {**file.wire(), "file_name": file.name, "mime_type": file.media_type}}
    return _send(world, message)


def _uploaded(world: World, fields: Fields) -> File:
    """The document of a request: a part of that name, a part that is pointed to, or a file that is here already."""
    given = fields.text("document")
    upload: Upload | None = fields.uploads.get("document") or fields.uploads.get(given.removeprefix("attach://"))
    if upload is None:
        if (file := world.files.get(given)) is None:
            raise _bad(
                "there is no document in the request" if not given else "wrong file identifier/HTTP URL specified"
            )
        return file
    if not upload.data:
        raise _bad("file must be non-empty")
    if len(upload.data) > UPLOAD_LIMIT_BYTES:
        raise BotError(413, "Request Entity Too Large")
    return world.keep("documents", upload.name, upload.media_type, upload.data)


def _get_file(world: World, fields: Fields) -> object:
    file = world.files.get(fields.text("file_id"))
    if file is None:
        raise _bad("invalid file_id")
    if file.size_bytes > DOWNLOAD_LIMIT_BYTES:
        raise _bad("file is too big")
    return {**file.wire(), "file_path": world.link(file)}


# --- signs and buttons -----------------------------------------------------------------------------------------------


def _send_chat_action(world: World, fields: Fields) -> object:
    room = world.room(fields.number("chat_id"))
    if (name := fields.text("action")) not in _ACTIONS:
        raise _bad("wrong parameter action in request")
    newest = max(room.messages, default=0)
    room.actions.append(Action(name, _thread(room, fields), world.clock.now_s, newest))
    return True


def _set_message_reaction(world: World, fields: Fields) -> object:
    room = world.room(fields.number("chat_id"))
    message = room.messages.get(fields.number("message_id") or 0)
    if message is None or message.deleted:
        raise _bad("message to react not found")
    reactions = cast("list[Mapping[str, str]]", _structure(fields, "reaction", list) or [])
    emoji = [reaction.get("emoji", "") for reaction in reactions]
    if len(emoji) > 1 or any(one not in _REACTIONS for one in emoji):
        raise _bad("REACTIONS_TOO_MANY" if len(emoji) > 1 else "REACTION_INVALID")
    room.reactions[message.id] = emoji
    return True


def _answer_callback_query(world: World, fields: Fields) -> object:
    press = world.presses.get(fields.text("callback_query_id"))
    if press is None or world.clock.now_s - press.at_s > CALLBACK_LIFE_S:
        raise _bad("query is too old and response timeout expired or query ID is invalid")
    if units(fields.text("text")) > CALLBACK_TEXT_LIMIT:
        raise _bad("MESSAGE_TOO_LONG")
    press.answered, press.text, press.alert = True, fields.text("text"), fields.flag("show_alert")
    return True


# --- the bot itself --------------------------------------------------------------------------------------------------


def _scope(fields: Fields) -> str:
    scope = _object(fields, "scope") or {"type": "default"}
    return ":".join(str(value) for value in (*scope.values(), fields.text("language_code")) if value != "")


def _set_my_commands(world: World, fields: Fields) -> object:
    commands = cast("list[Mapping[str, str]]", _structure(fields, "commands", list) or [])
    if len(commands) > COMMANDS_LIMIT:
        raise _bad("BOT_COMMANDS_TOO_MUCH")
    for command in commands:
        if not re.fullmatch(r"[a-z0-9_]{1,32}", command.get("command", "").removeprefix("/")):
            raise _bad("BOT_COMMAND_INVALID")
        if not 1 <= len(command.get("description", "").strip()) <= COMMAND_WORDS_LIMIT:
            raise _bad("BOT_COMMAND_DESCRIPTION_INVALID")
    world.bot.commands[_scope(fields)] = [dict(command) for command in commands]
    return True


def _get_my_commands(world: World, fields: Fields) -> object:
    return world.bot.commands.get(_scope(fields), [])


def _set_webhook(world: World, fields: Fields) -> object:
    world.updates.webhook_url = fields.text("url")
    return True


def _delete_webhook(world: World, fields: Fields) -> object:
    world.updates.webhook_url = ""
    if fields.flag("drop_pending_updates"):
        world.updates.drop()
    return True


def _get_webhook_info(world: World, _: Fields) -> object:
    count = len(world.updates.pending)
    return {"url": world.updates.webhook_url, "has_custom_certificate": False, "pending_update_count": count}


METHODS: Mapping[str, Callable[[World, Fields], object]] = {
    "getme": _get_me,
    "sendmessage": _send_message,
    "editmessagetext": _edit_message_text,
    "editmessagereplymarkup": _edit_message_reply_markup,
    "deletemessage": _delete_message,
    "senddocument": _send_document,
    "getfile": _get_file,
    "sendchataction": _send_chat_action,
    "setmessagereaction": _set_message_reaction,
    "answercallbackquery": _answer_callback_query,
    "setmycommands": _set_my_commands,
    "getmycommands": _get_my_commands,
    "setwebhook": _set_webhook,
    "deletewebhook": _delete_webhook,
    "getwebhookinfo": _get_webhook_info,
}
