"""Polling loses nothing, says what is wrong, and notices when it is deaf."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from nanochat.channels.telegram import Telegram, TelegramSettings
from nanochat.channels.telegram.poll import Patience
from nanochat.errors import ChannelError, SettingError
from nanochat.events import Text
from nanochat.ports import Envelope
from tests.fakes.bot_api import Chat, FakeBotAPI
from tests.telegram.switchboard import HURRIED, PairingBook, Switchboard, open_switchboard


@pytest.fixture
def chat(api: FakeBotAPI) -> Chat:
    return api.user(name="Olga").private()


async def test_an_update_is_confirmed_when_it_is_kept(api: FakeBotAPI, chat: Chat) -> None:
    """One that could not be kept is asked for again."""
    async with open_switchboard(api, allow=(chat.id,)) as board:
        board.refusals = 2
        await chat.say("hi")
        await chat.until(lambda chat: chat.texts == ["echo: hi"])
        await api.polled()
    offsets = [call.fields.number("offset") for call in api.called("getUpdates")]
    assert offsets[:3] == [None, None, None]


async def test_the_offset_waits_for_the_commit(api: FakeBotAPI, chat: Chat) -> None:
    """While the inbox writes, Telegram still holds the update: a kill loses nothing."""
    settings = TelegramSettings(token=api.token, base_url=api.url, allow=(chat.id,))
    channel = Telegram(settings, PairingBook(), pace=HURRIED)
    writing = asyncio.Event()

    async def write_for_ever(envelope: Envelope) -> bool:
        writing.set()
        await asyncio.Event().wait()
        return True

    running = asyncio.create_task(channel.run(write_for_ever))
    await chat.say("hi")
    await writing.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await channel.close()
    assert len(api.updates.pending) == 1
    async with open_switchboard(api, allow=(chat.id,)):
        await chat.until(lambda chat: chat.texts == ["echo: hi"])


async def test_a_second_poller_is_explained(api: FakeBotAPI, chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    """And waited out."""
    async with open_switchboard(api, allow=(chat.id,)):
        await api.polled()
        api.conflict(2)
        await chat.say("hi")
        await chat.until(lambda chat: chat.texts == ["echo: hi"])
    assert "another program polls with the same bot token" in caplog.text


async def test_a_webhook_is_taken_away(api: FakeBotAPI, chat: Chat) -> None:
    """With it, polling would be refused for ever."""
    api.updates.webhook_url = "https://example.org/hook"
    async with open_switchboard(api, allow=(chat.id,)):
        await chat.say("hi")
        await chat.until(lambda chat: chat.texts == ["echo: hi"])
    assert len(api.called("deleteWebhook")) == 1


@pytest.mark.parametrize("status", [500, 502, 429], ids=str)
async def test_failures_are_waited_out(api: FakeBotAPI, chat: Chat, status: int) -> None:
    """With growing rests."""
    api.fail("getUpdates", status, parameters={"retry_after": 1} if status == 429 else None)
    async with open_switchboard(api, allow=(chat.id,)):
        await chat.say("hi")
        await chat.until(lambda chat: chat.texts == ["echo: hi"])


class Complaint(logging.Handler):
    """Waits for words in the log."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words
        self.heard = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.words in record.getMessage():
            self.heard.set()


@pytest.fixture
def complaint() -> Iterator[Complaint]:
    handler = Complaint("cannot be reached")
    logger = logging.getLogger("nanochat.channels.telegram")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_no_network_at_the_start(api: FakeBotAPI, chat: Chat, complaint: Complaint) -> None:
    """The channel waits for it."""
    await api.go_down()
    async with open_switchboard(api, allow=(chat.id,)) as board:
        await chat.say("hi")
        async with asyncio.timeout(10):
            await complaint.heard.wait()
        assert board.channel.remarks() == ("telegram: not connected yet",)
        await api.come_up()
        await chat.until(lambda chat: chat.texts == ["echo: hi"])


@pytest.mark.parametrize("revoked", [True, False], ids=["revoked", "wrong"])
async def test_a_bad_token_ends_it(api: FakeBotAPI, caplog: pytest.LogCaptureFixture, revoked: bool) -> None:
    """In one line, without the token."""
    caplog.set_level(logging.DEBUG)
    api.bot.revoked = revoked
    token = api.token if revoked else "123456:AAE-some-other-secret-of-nobody"
    channel = Telegram(TelegramSettings(token=token, base_url=api.url), PairingBook(), pace=HURRIED)
    with pytest.raises(ChannelError, match="refuses the bot's token") as caught:
        await channel.run(lambda envelope: asyncio.sleep(0, True))
    await channel.close()
    assert token not in str(caught.value)
    assert token not in caplog.text
    assert token.partition(":")[2] not in repr(TelegramSettings(token=token))


async def test_a_token_revoked_on_the_way_ends_it(api: FakeBotAPI, chat: Chat) -> None:
    """While polling, and as the same plain error."""
    channel = Telegram(TelegramSettings(token=api.token, base_url=api.url), PairingBook(), pace=HURRIED)
    running = asyncio.create_task(channel.run(lambda envelope: asyncio.sleep(0, True)))
    await api.polled()
    api.bot.revoked = True
    await chat.say("hi")
    with pytest.raises(ChannelError, match="refuses the bot's token"):
        await running
    await channel.close()


def test_what_is_no_token_is_a_wrong_setting() -> None:
    """Said before anything is opened, without repeating it."""
    with pytest.raises(SettingError, match="TELEGRAM_BOT_TOKEN") as caught:
        Telegram(TelegramSettings(token="hunter2"), PairingBook())
    assert "hunter2" not in str(caught.value)


async def test_deafness_is_noticed(api: FakeBotAPI, chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    """A poll that never ends is given up after a while and asked on a new connection, however much is sent meanwhile."""
    api.gate("getUpdates")
    patience = Patience(deaf_s=0.3, backoff_s=0.005, backoff_max_s=0.02)
    async with open_switchboard(api, allow=(chat.id,), pace=replace(HURRIED, patience=patience)) as board:
        await chat.say("hi")
        await chat.until(lambda chat: chat.texts == ["echo: hi"])
        assert board.inbounds[0].content == (Text("hi"),)
    assert "building new connections" in caplog.text


async def test_a_poison_update_is_kept_aside(api: FakeBotAPI, chat: Chat) -> None:
    """It is accepted, cannot be read, and holds up nobody."""
    api.updates.put({"update_id": 1, "message": {"message_id": "x"}})
    api.updates.put(
        {"update_id": 2, "message": {"message_id": 7, "chat": {"id": chat.id}, "from": {"id": chat.id}, "text": "a"}}
    )
    await chat.say("hi")
    async with open_switchboard(api, allow=(chat.id,)) as board:
        await chat.until(lambda chat: chat.texts == ["echo: hi"])
        await board.until(3)
    assert [type(failure) for failure in board.failures] == [ValueError, ValueError]
    assert str(board.accepted["telegram:123456:1"].key) == "telegram:unreadable"


async def test_the_menu_is_set(api: FakeBotAPI, chat: Chat) -> None:
    """And that it cannot be is no harm."""
    api.fail("setMyCommands", 400)
    async with open_switchboard(api, allow=(chat.id,)):
        await chat.say("hi")
        await chat.until(lambda chat: chat.texts == ["echo: hi"])
    assert len(api.called("setMyCommands")) == 1


def is_connected(board: Switchboard, _: FakeBotAPI) -> bool:
    return board.channel.remarks()[0] == "telegram: connected as @nano_test_bot"


async def test_privacy_mode_is_told(api: FakeBotAPI) -> None:
    """With what to do about it."""
    for reads_all, is_told in ((False, True), (True, False)):
        api.bot.reads_all_group_messages = reads_all
        async with open_switchboard(api) as board:
            await api.until(partial(is_connected, board))
            assert ("/setprivacy" in " ".join(board.channel.remarks())) is is_told


# --- bad input ---------------------------------------------------------------------------------------------------------


async def test_bad_input_is_one_line_and_the_next_message_works(api: FakeBotAPI, chat: Chat) -> None:
    """Whatever is sent."""
    await chat.document("film.bin", b"x", size_bytes=30_000_000)
    await chat.photo(b"\xff\xd8\xff not a picture")
    await chat.voice()
    await chat.send({"sticker": {"file_id": "s", "file_unique_id": "s", "type": "regular", "width": 1, "height": 1,
                                 "is_animated": False, "is_video": False, "emoji": "🙂"}})  # fmt: skip
    await chat.send({"location": {"latitude": 1.0, "longitude": 2.0}})
    await chat.send({"dice": {"emoji": "🎲", "value": 3}})
    await chat.document("a.bin", b"\0\1\2")
    await chat.say("hi")
    async with open_switchboard(api, allow=(chat.id,)) as board:
        await chat.until(lambda chat: chat.texts == ["echo: hi"])
        await board.until(8)
    assert sorted(map(str, board.failures)) == sorted(
        [
            "film.bin is too large: bots get files of up to 20 MB",
            "the picture is damaged, or no JPEG, PNG, GIF or WebP; please send it once more",
            "voice messages cannot be read here yet; text, photos, PDF and text files can",
            "stickers cannot be read here yet; text, photos, PDF and text files can",
            "locations cannot be read here yet; text, photos, PDF and text files can",
            "messages of this kind cannot be read here yet; text, photos, PDF and text files can",
            "a.bin cannot be read here; pictures, PDF and text files can",
        ]
    )


async def test_a_download_that_fails_may_work_later(api: FakeBotAPI, chat: Chat) -> None:
    """It says so to whoever tries again."""
    api.fail("getFile", 502)
    await chat.photo(b"x")
    async with open_switchboard(api, allow=(chat.id,)) as board:
        await board.until(1)
    [failure] = board.failures
    assert isinstance(failure, ChannelError)
    assert failure.retryable


async def test_no_log_holds_the_token(api: FakeBotAPI, chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happens, and however much is logged."""
    caplog.set_level(logging.DEBUG)
    api.fail("getUpdates", 502)
    api.fail("sendMessage", 400)
    api.reset("getFile", when="before")
    async with open_switchboard(api, allow=(chat.id,)) as board:
        await chat.say("hi")
        await chat.photo(b"x")
        await board.until(2)
    assert api.token.partition(":")[2] not in caplog.text
    assert api.token.partition(":")[2] not in " ".join(map(repr, board.failures))
