"""Polling loses nothing, says what is wrong, and notices when it is deaf."""

from __future__ import annotations

import asyncio
import itertools
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


async def test_a_flood_is_no_deafness(api: FakeBotAPI, chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    """A wait that Telegram asks for may be longer than its silence may last."""
    api.fail("getUpdates", 429, parameters={"retry_after": 1})
    patience = Patience(deaf_s=0.5, backoff_s=0.005, backoff_max_s=0.02)
    await chat.say("hi")
    async with open_switchboard(api, allow=(chat.id,), pace=replace(HURRIED, patience=patience)) as board:
        await board.until(1)
        assert "building new connections" not in caplog.text


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


@pytest.mark.parametrize("date", [10**12, 7 * 10**16, 10**30], ids=["year", "calendar", "clock"])
async def test_a_date_beyond_all_dates_is_kept_aside(api: FakeBotAPI, chat: Chat, date: int) -> None:
    """With plain words, as whatever else cannot be read."""
    who = {"id": chat.id, "is_bot": False, "first_name": "Olga"}
    said = {"message_id": 7, "date": date, "chat": {"id": chat.id, "type": "private"}, "from": who, "text": "hi"}
    api.updates.put({"update_id": 1, "message": said})
    async with open_switchboard(api, allow=(chat.id,)) as board:
        await board.until(1)
    [failure] = board.failures
    assert "not an update as Telegram describes it" in str(failure)


async def test_a_chat_that_is_no_key_is_kept_aside(api: FakeBotAPI, chat: Chat) -> None:
    """As an update whose chat cannot be made out at all."""
    said = {
        "message_id": 7,
        "date": 1,
        "chat": {"id": 10**600, "type": "private"},
        "from": {"id": chat.id},
        "text": "a",
    }
    api.updates.put({"update_id": 1, "message": said})
    await chat.say("hi")
    async with open_switchboard(api, allow=(chat.id,)) as board:
        await chat.until(lambda chat: chat.texts == ["echo: hi"])
        await board.until(2)
    assert str(board.accepted["telegram:123456:1"].key) == "telegram:unreadable"


class BrokenBook(PairingBook):
    """Stumbles over some people."""

    async def is_paired(self, user_id: int) -> bool:
        if user_id == 66:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        return await super().is_paired(user_id)


async def test_an_update_that_breaks_the_gate_is_kept_aside(
    api: FakeBotAPI, chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else is kept from being heard by it, and what nobody let in is never read."""
    person = {"id": 66, "is_bot": False, "first_name": "Eve"}
    room = {"id": 66, "type": "private"}
    said = {"message_id": 7, "date": 1, "chat": room, "from": person, "text": "a"}
    api.updates.put({"update_id": 1, "message": said})
    await chat.say("hi")
    async with open_switchboard(api, allow=(chat.id,), book=BrokenBook()) as board:
        await chat.until(lambda chat: chat.texts == ["echo: hi"])
        await board.until(2)
    assert [type(failure) for failure in board.failures] == [ValueError]
    assert str(board.accepted["telegram:123456:1"].key) == "telegram:unreadable"
    assert "OverflowError" in caplog.text


async def test_an_error_that_ends_the_channel_is_named(api: FakeBotAPI, chat: Chat) -> None:
    """Not the group of tasks that it came out of."""

    async def refuse(envelope: Envelope) -> bool:
        raise KeyError("inbox")

    channel = Telegram(
        TelegramSettings(token=api.token, base_url=api.url, allow=(chat.id,)), PairingBook(), pace=HURRIED
    )
    await chat.say("hi")
    with pytest.raises(KeyError, match="inbox"):
        await channel.run(refuse)
    await channel.close()


async def test_a_full_disk_is_asked_less_and_less_often(
    api: FakeBotAPI, chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    """That Telegram answers does not help it."""
    patience = Patience(backoff_s=0.005, backoff_max_s=0.3)
    await chat.say("hi")
    async with open_switchboard(api, allow=(chat.id,), pace=replace(HURRIED, patience=patience)) as board:
        board.refusals = 8
        await chat.until(lambda chat: chat.texts == ["echo: hi"])
    told = [record.created for record in caplog.records if "could not be kept" in record.getMessage()]
    rests = [after - before for before, after in itertools.pairwise(told)]
    assert len(told) == 8
    assert rests[-1] > 0.005 * 1.5**6


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


async def test_a_file_without_a_place_may_have_one_later(api: FakeBotAPI, chat: Chat) -> None:
    """Telegram need not say where a file is."""
    await chat.document("a.txt", b"hello")
    [file] = api.world.files.values()
    api.world.files[file.id] = replace(file, path="")
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
