"""Both channels that there are keep the promises of all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from nanochat.channels.telegram import Telegram, TelegramSettings
from nanochat.keys import SessionKey
from nanochat.ports import Envelope
from tests.contracts.channel import ChannelContract
from tests.fakes.bot_api import Chat, FakeBotAPI
from tests.fakes.memory_channel import MemoryChannel
from tests.telegram.switchboard import HURRIED, PairingBook


@dataclass
class TelegramScene:
    api: FakeBotAPI
    chat: Chat
    channel: Telegram

    async def write(self, text: str) -> None:
        await self.chat.say(text)

    async def write_unreadable(self) -> None:
        await self.chat.voice()

    async def repeat(self, envelope: Envelope) -> None:
        self.api.updates.put(json.loads(envelope.body))

    def texts(self) -> list[str]:
        return self.chat.texts


class TestTelegram(ChannelContract):
    @pytest.fixture
    async def scene(self, api: FakeBotAPI) -> AsyncIterator[TelegramScene]:
        olga = api.user(name="Olga")
        settings = TelegramSettings(token=api.token, base_url=api.url, allow=(olga.id,))
        channel = Telegram(settings, PairingBook(), pace=HURRIED)
        yield TelegramScene(api, olga.private(), channel)
        await channel.close()


@dataclass
class MemoryScene:
    channel: MemoryChannel

    async def write(self, text: str) -> None:
        await self.channel.say(text)

    async def write_unreadable(self) -> None:
        await self.channel.say("unreadable")

    async def repeat(self, envelope: Envelope) -> None:
        await self.channel.say("once", source_id=envelope.source_id)

    def texts(self) -> list[str]:
        return self.channel.board.texts(SessionKey("memory", "1"))


class TestMemory(ChannelContract):
    @pytest.fixture
    def scene(self) -> MemoryScene:
        return MemoryScene(MemoryChannel())
