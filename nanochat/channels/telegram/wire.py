"""The connections to the Bot API: one pool for polling, one for everything else, so that neither can starve the other.

Knows the SDK's `Bot`, never its Application. Does not know what is said.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import httpx
from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    LinkPreviewOptions,
    MessageEntity,
    ReplyParameters,
    User,
)
from telegram.request import HTTPXRequest

from nanochat.channels.telegram.formatted import Formatted
from nanochat.errors import ChannelError, SettingError

__all__ = ["STOP", "Room", "Wire", "bot_id_of"]

STOP = "stop:"
"""What a Stop button sends back begins with; the name of what it stops follows, and all of it is at most 64 bytes,
https://core.telegram.org/bots/api#inlinekeyboardbutton, read 2026-11-20."""

_TELEGRAM = "https://api.telegram.org"
_POLLING_POOL = 4
_SENDING_POOL = 32
# Telegram answers within a second; a call that takes longer than this has been lost on the way.
_READ_S = 20.0
_CONNECT_S = 10.0
# A pool that does not close in time is left to the garbage collector: the new one must not wait for it.
_TEARDOWN_S = 5.0

_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)


@dataclass(frozen=True, slots=True)
class Room:
    """A chat, or a topic of it (`thread`, None for a chat without topics and for a group's General)."""

    chat: int
    thread: int | None = None

    @property
    def is_group(self) -> bool:
        """Groups have negative ids, people positive ones."""
        return self.chat < 0


def bot_id_of(token: str) -> int:
    """The bot's own id, which its token begins with.

    Raises:
        SettingError: it is no token.
    """
    number, colon, _ = token.partition(":")
    if not colon or not number.isdecimal():
        raise SettingError(
            "TELEGRAM_BOT_TOKEN is not a bot token: it looks like 123456789:AAE… and comes from @BotFather"
        )
    return int(number)


class Wire:
    """One bot's connections; opened when they are first needed."""

    def __init__(self, token: str, base_url: str) -> None:
        self._token = token
        self._base_url = (base_url or _TELEGRAM).rstrip("/").removesuffix("/bot")
        self._tls: ssl.SSLContext | None = None
        self._bot: Bot | None = None
        self._pools: tuple[HTTPXRequest, ...] = ()
        # Both print the address of every call, and the token is a part of it.
        for name in ("httpx", "httpcore", "telegram"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # A page of HTML instead of an answer is told by whoever had called, in one line.
        logging.getLogger("telegram.request").setLevel(logging.CRITICAL)
        # The SDK's own switch: without it, reading RetryAfter.retry_after warns.
        os.environ.setdefault("PTB_TIMEDELTA", "1")

    @property
    def bot(self) -> Bot:
        """The SDK's bot. It is not `initialize`d: the error of that call would hold the token."""
        if self._bot is None:
            sending = self._pool(_SENDING_POOL, pool_timeout_s=_CONNECT_S)
            polling = self._pool(_POLLING_POOL, pool_timeout_s=5.0)
            self._pools = (polling, sending)
            self._bot = Bot(
                self._token,
                base_url=f"{self._base_url}/bot",
                base_file_url=f"{self._base_url}/file/bot",
                request=sending,
                get_updates_request=polling,
            )
        return self._bot

    def _pool(self, size: int, *, pool_timeout_s: float) -> HTTPXRequest:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
        return HTTPXRequest(
            connection_pool_size=size,
            read_timeout=_READ_S,
            write_timeout=_READ_S,
            connect_timeout=_CONNECT_S,
            pool_timeout=pool_timeout_s,
            # Reading the system's certificates takes longer than all else here: once is enough.
            httpx_kwargs={"verify": self._tls},
        )

    async def close(self) -> None:
        """Close both pools, or leave them behind if they do not; the next call opens new ones."""
        pools, self._pools, self._bot = self._pools, (), None
        try:
            async with asyncio.timeout(_TEARDOWN_S):
                for pool in pools:
                    await pool.shutdown()
        except TimeoutError:
            logging.getLogger(__name__).warning("telegram: old connections did not close in %s s", _TEARDOWN_S)

    async def me(self) -> User:
        return await self.bot.get_me()

    async def updates(
        self, offset: int | None, *, hold_s: int, kinds: list[str]
    ) -> list[dict[str, Any]]:  # Any: raw JSON
        """The next raw updates; waits up to `hold_s` for the first."""
        asked = {"offset": offset, "timeout": hold_s, "allowed_updates": kinds}
        # Spelled so that the SDK does not recommend its own method, which would parse them all and stumble over one.
        found = await self.bot.do_api_request("get__updates", api_kwargs=asked, read_timeout=hold_s + 10)
        return found if isinstance(found, list) else []

    async def send(self, room: Room, shown: Formatted, *, stop: str, quiet: bool, answers: int | None) -> str:
        """A new message; returns its id. `stop` names what its button stops, empty where it has none; `quiet` makes no sound,
        `answers` is the message that it replies to."""
        sent = await self.bot.send_message(
            room.chat,
            shown.text,
            entities=_entities(shown),
            message_thread_id=room.thread,
            reply_markup=_button(stop),
            disable_notification=quiet,
            link_preview_options=_NO_PREVIEW,
            reply_parameters=_quoting(answers),
        )
        return str(sent.message_id)

    async def edit(self, room: Room, message_id: str, shown: Formatted, *, stop: str) -> None:
        """Have a message show something else; `stop` as for `send`."""
        await self.bot.edit_message_text(
            shown.text,
            chat_id=room.chat,
            message_id=int(message_id),
            entities=_entities(shown),
            reply_markup=_button(stop),
            link_preview_options=_NO_PREVIEW,
        )

    async def send_file(self, room: Room, name: str, data: bytes, caption: str) -> str:
        """A new message with a document; returns its id."""
        sent = await self.bot.send_document(
            room.chat,
            BytesIO(data),
            filename=name,
            caption=caption,
            message_thread_id=room.thread,
            disable_notification=True,
        )
        return str(sent.message_id)

    async def take_button(self, room: Room, message_id: int) -> None:
        """Leave a message as it is, but for its button."""
        await self.bot.edit_message_reply_markup(room.chat, message_id, reply_markup=None)

    async def delete(self, room: Room, message_id: str) -> None:
        await self.bot.delete_message(room.chat, int(message_id))

    async def typing(self, room: Room) -> None:
        await self.bot.send_chat_action(room.chat, "typing", message_thread_id=room.thread)

    async def answer_press(self, callback_id: str, text: str) -> None:
        """Take the waiting sign off a pressed button, with a word that fades."""
        await self.bot.answer_callback_query(callback_id, text)

    async def download(self, file_id: str) -> bytes:
        """A file's bytes; Telegram gives up to 20 MB.

        Raises:
            ChannelError: Telegram does not say where the file is.
        """
        file = await self.bot.get_file(file_id)
        if not file.file_path:
            # The field is optional: https://core.telegram.org/bots/api#file, read 2026-11-20.
            raise ChannelError("telegram does not say where the file is; please send it once more", retryable=True)
        return bytes(await file.download_as_bytearray(read_timeout=60))

    async def set_menu(self, commands: tuple[tuple[str, str], ...]) -> None:
        await self.bot.set_my_commands(commands)

    async def drop_webhook(self) -> None:
        await self.bot.delete_webhook(drop_pending_updates=False)


def _button(stop: str) -> InlineKeyboardMarkup | None:
    return InlineKeyboardMarkup([[InlineKeyboardButton("◼ Stop", callback_data=STOP + stop)]]) if stop else None


def _entities(shown: Formatted) -> list[MessageEntity]:
    return [
        MessageEntity(e.type, e.offset, e.length, url=e.url or None, language=e.language or None)
        for e in shown.entities
    ]


def _quoting(message_id: int | None) -> ReplyParameters | None:
    return None if message_id is None else ReplyParameters(message_id, allow_sending_without_reply=True)
