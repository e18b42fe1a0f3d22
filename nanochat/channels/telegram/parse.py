"""One message out of updates: text, pictures, files, and what they refer to.

Knows the SDK's messages, and fetches files. Does not know who may speak: what comes here was let in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC

from telegram import Document, Message, PhotoSize, Update, User
from telegram.error import BadRequest, TelegramError

from nanochat.channels.telegram.envelopes import UNREADABLE, BotName, is_command, length_units, own_words, rich_text
from nanochat.channels.telegram.gate import Gate
from nanochat.channels.telegram.media import (
    FETCH_LIMIT_BYTES,
    PICTURE_LIMIT_BYTES,
    TOTAL_LIMIT_BYTES,
    read_document,
    read_picture,
)
from nanochat.channels.telegram.verdicts import FAULTS, Verdict, verdict
from nanochat.channels.telegram.wire import Wire
from nanochat.errors import ChannelError
from nanochat.events import Attachment, Inbound, Part, Sender, Text
from nanochat.ports import Envelope

__all__ = ["Parser"]

# A client cuts a long text after exactly this many units where it finds no better place,
# https://core.telegram.org/bots/api#sendmessage, read 2026-11-20.
_CLIENT_CUT_UNITS = 4096

# What is replied to is mostly known to the conversation already: enough to recognise it by. Our own choice.
_QUOTE_CHARS = 2000

_KINDS = (
    ("voice", "voice messages"),
    ("audio", "audio files"),
    ("video", "videos"),
    ("video_note", "video messages"),
    ("animation", "animations"),
    ("sticker", "stickers"),
    ("location", "locations"),
    ("contact", "contacts"),
    ("poll", "polls"),
)


class Parser:
    """Reads what envelopes hold. Safe to call concurrently. `on_press` is told of every pressed button, and never waits."""

    def __init__(self, wire: Wire, gate: Gate, on_press: Callable[[str], None]) -> None:
        self._wire = wire
        self._gate = gate
        self._on_press = on_press

    async def parse(self, envelopes: Sequence[Envelope], bot: BotName) -> tuple[Inbound, int | None]:
        """One inbound of all envelopes, in their order; and in a group the id of the message that it was.

        Raises:
            ChannelError: with a plain line for the person.
            ValueError: an update is not what Telegram says it should be.
        """
        head = envelopes[0]
        updates = [_read(envelope) for envelope in envelopes]
        first = updates[0]
        if first.callback_query is not None:
            return self._press(first, head), None
        messages = [message for update in updates if (message := update.message or update.edited_message)]
        if not messages:
            raise ValueError(f"{head.source_id}: an update without a message")
        lead = messages[0]
        in_group = lead.chat.type != "private"
        text = _joined([_said(message, bot) for message in messages])
        is_asked = is_command(text)
        # A command is not about what it replies to, and would be none with a quote in front.
        parts: list[Part] = [] if is_asked else await self._quoted(lead)
        if text:
            parts.append(Text(f"{_name_of(lead)}: {text}" if in_group and not is_asked else text))
        # What goes by the line does not wait for files either; none of those commands takes one.
        for message in messages if head.manner != "pass" else []:
            parts += await self._files(message)
        if sum(len(part.data) for part in parts if isinstance(part, Attachment)) > TOTAL_LIMIT_BYTES:
            raise ChannelError("these files are too large together; please send them one by one")
        if not parts:
            raise ChannelError(_unsupported(lead))
        sender = self._sender(lead.from_user, _name_of(lead), in_group=in_group)
        inbound = Inbound(head.key, head.source_id, sender, tuple(parts), lead.date.astimezone(UTC))
        return inbound, lead.message_id if in_group else None

    def _press(self, update: Update, envelope: Envelope) -> Inbound:
        press = update.callback_query
        if press is None or press.message is None:
            raise ValueError(f"{envelope.source_id}: a button without a message")
        self._on_press(press.id)
        in_group = press.message.chat.type != "private"
        sender = self._sender(press.from_user, press.from_user.full_name, in_group=in_group)
        return Inbound(envelope.key, envelope.source_id, sender, (Text("/stop"),), press.message.date.astimezone(UTC))

    def _sender(self, user: User | None, name: str, *, in_group: bool) -> Sender:
        user_id = user.id if user else 0
        return Sender(f"telegram:{user_id}", name, self._gate.is_owner(user_id, in_group=in_group))

    async def _quoted(self, message: Message) -> list[Part]:
        """What a message replies to, as text and with its picture."""
        replied, external, quote = message.reply_to_message, message.external_reply, message.quote
        if replied is not None and replied.forum_topic_created is not None:
            replied = None
        if replied is None and external is None:
            return []
        who = _name_of(replied) if replied is not None else _origin(message)
        said = quote.text if quote else (replied.text or replied.caption or "") if replied is not None else ""
        source = replied or external
        photo, document = (source.photo, source.document) if source is not None else ((), None)
        parts: list[Part] = []
        try:
            parts = [await self._photo(photo)] if photo else [await self._document(document)] if document else []
        except ChannelError as error:
            said = f"{said}\n[{error}]".strip()
        words = said if len(said) <= _QUOTE_CHARS else f"{said[:_QUOTE_CHARS]} […]"
        body = words.replace("</quoted", "</ quoted") or ("[a file]" if parts else "[something that is no text]")
        return [Text(f"<quoted from={json.dumps(who, ensure_ascii=False)}>\n{body}\n</quoted>"), *parts]

    async def _files(self, message: Message) -> list[Part]:
        if message.photo:
            return [await self._photo(message.photo)]
        # An animation comes with a document, for clients that do not know animations.
        if message.document is not None and message.animation is None:
            return [await self._document(message.document)]
        if any(kind in _present(message) for kind, _ in _KINDS):
            raise ChannelError(_unsupported(message))
        return []

    async def _photo(self, sizes: Sequence[PhotoSize]) -> Attachment:
        """The largest size that can be looked at."""
        small = [size for size in sizes if (size.file_size or 0) <= PICTURE_LIMIT_BYTES]
        chosen = (small or list(sizes))[-1]
        return read_picture(await self._fetch(chosen.file_id, chosen.file_size or 0, "the picture"))

    async def _document(self, document: Document) -> Attachment | Text:
        name = " ".join((document.file_name or "").split())
        data = await self._fetch(document.file_id, document.file_size or 0, name or "the file")
        return read_document(data, name, document.mime_type or "")

    async def _fetch(self, file_id: str, size_bytes: int, name: str) -> bytes:
        too_large = f"{name} is too large: bots get files of up to {FETCH_LIMIT_BYTES // 1_000_000} MB"
        if size_bytes > FETCH_LIMIT_BYTES:
            raise ChannelError(too_large)
        try:
            return await self._wire.download(file_id)
        except BadRequest as error:
            if "too big" in error.message.lower():
                raise ChannelError(too_large) from error
            raise ChannelError(f"{name} cannot be fetched from Telegram any more; please send it again") from error
        except TelegramError as error:
            # Telegram answers a stale file's address as it answers a wrong token; the poll loop knows which it is.
            again = verdict(error) is not Verdict.TOKEN
            raise ChannelError(f"{name} could not be fetched from Telegram", retryable=again) from None


def _read(envelope: Envelope) -> Update:
    if envelope.key == UNREADABLE:
        # Nobody asked whether its sender may be heard.
        raise ValueError(f"{envelope.source_id}: an update that could not be made out when it came")
    try:
        update = Update.de_json(json.loads(envelope.body), None)
    except FAULTS as error:
        raise ValueError(f"{envelope.source_id}: not an update as Telegram describes it: {error!r}") from error
    return update


def _said(message: Message, bot: BotName) -> str:
    """A message's own words."""
    return own_words(message.text or message.caption or rich_text(message.api_kwargs.get("rich_message")), bot)


def _joined(texts: Sequence[str]) -> str:
    """The parts of a text that a client had cut, as one; a space in the cut was lost, a hard cut had none."""
    whole = ""
    hard = True
    for text in filter(None, texts):
        whole += text if hard else f"\n{text}"
        hard = length_units(text) >= _CLIENT_CUT_UNITS
    return whole


def _name_of(message: Message) -> str:
    """Who wrote it, in one plain line."""
    name = message.from_user.full_name if message.from_user else ""
    if message.sender_chat is not None:
        name = message.sender_chat.title or name
    return " ".join(name.split()) or "somebody"


def _origin(message: Message) -> str:
    external = message.external_reply
    chat = external.chat if external is not None else None
    return " ".join((chat.title or "").split()) if chat is not None and chat.title else "another chat"


def _present(message: Message) -> frozenset[str]:
    """The kinds of content that a message has."""
    held = {
        "voice": message.voice,
        "audio": message.audio,
        "video": message.video,
        "video_note": message.video_note,
        "animation": message.animation,
        "sticker": message.sticker,
        "location": message.location,
        "contact": message.contact,
        "poll": message.poll,
    }
    return frozenset(kind for kind, value in held.items() if value is not None)


def _unsupported(message: Message) -> str:
    present = _present(message)
    kind = next((words for kind, words in _KINDS if kind in present), "messages of this kind")
    return f"{kind} cannot be read here yet; text, photos, PDF and text files can"
