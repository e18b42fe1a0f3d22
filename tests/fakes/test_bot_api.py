"""The fake Bot API behaves as the real one does, as far as python-telegram-bot can tell."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from telegram import (
    Bot,
    BotCommand,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputFile,
    Message,
    MessageEntity,
    ReplyParameters,
)
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    EndPointNotFound,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TimedOut,
)

from tests.fakes.bot_api import DOWNLOAD, Chat, FakeBotAPI, RunningClock

DAY_S = 24 * 3600.0
TERMINATED = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
STOP = InlineKeyboardMarkup([[InlineKeyboardButton("Stop", callback_data="stop:1")]])


@pytest.fixture
async def api() -> AsyncIterator[FakeBotAPI]:
    async with FakeBotAPI() as running:
        yield running


@pytest.fixture
async def bot(api: FakeBotAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bot]:
    """The real client, to the fake server."""
    monkeypatch.setenv("PTB_TIMEDELTA", "1")  # without it the library warns of every flood limit
    async with client(api) as running:
        yield running


@pytest.fixture
async def raw(api: FakeBotAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Whoever looks at the bytes."""
    async with httpx.AsyncClient(base_url=f"{api.url}/bot{api.token}/", timeout=10) as running:
        yield running


@pytest.fixture
def chat(api: FakeBotAPI) -> Chat:
    return api.user(id=42, name="Olga", username="olga").private()


def client(api: FakeBotAPI, token: str = "") -> Bot:
    return Bot(token or api.token, base_url=f"{api.url}/bot", base_file_url=f"{api.url}/file/bot")


async def updates(bot: Bot, **fields: int | list[str]) -> list[dict[str, Any]]:  # Any: JSON as it came
    """A poll that takes them as they come; in lower case, because the library would rather parse them."""
    return cast(list[dict[str, Any]], await bot.do_api_request("getupdates", api_kwargs=fields))


# --- fetching updates ------------------------------------------------------------------------------------------------


async def test_updates_stay_until_an_offset_confirms_them(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """The same updates come again and again; a higher offset forgets those below it."""
    first, second = await chat.say("one"), await chat.say("two")
    assert [one["update_id"] for one in await updates(bot)] == [first.update_id, second.update_id]
    assert [one["update_id"] for one in await updates(bot, offset=second.update_id or 0)] == [second.update_id]
    api.clock.advance(1)
    assert [one["message"]["text"] for one in await updates(bot)] == ["two"]
    assert api.updates.confirmed == 1


async def test_a_negative_offset_keeps_the_last_ones(bot: Bot, chat: Chat) -> None:
    """From -2 on, two are left, and all before them are forgotten."""
    for text in "abcd":
        await chat.say(text)
    assert [one["message"]["text"] for one in await updates(bot, offset=-2)] == ["c", "d"]
    assert [one["message"]["text"] for one in await updates(bot)] == ["c", "d"]


async def test_an_offset_from_the_future_forgets_nothing(bot: Bot, chat: Chat) -> None:
    """An id that never was given is none: everything is there still."""
    await chat.say("a")
    assert len(await updates(bot, offset=2_000_000_000)) == 1


async def test_the_limit_is_between_one_and_a_hundred(bot: Bot, chat: Chat) -> None:
    """A page of them, never more than a hundred."""
    for number in range(120):
        await chat.say(str(number))
    assert len(await updates(bot, offset=-120)) == 100
    assert len(await updates(bot, limit=7)) == 7
    assert len(await updates(bot, limit=0, offset=-119)) == 1


async def test_asking_the_same_again_at_once_brings_one(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """A client that does not confirm is slowed down, until half a second has gone by."""
    await chat.say("a")
    await chat.say("b")
    assert [len(await updates(bot)), len(await updates(bot))] == [2, 1]
    api.clock.advance(0.5)
    assert len(await updates(bot)) == 2


async def test_a_poll_is_held_until_there_is_something(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """An update wakes it; the clock stands still meanwhile."""
    async with asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(updates(bot, timeout=25))
        await api.polled()
        await chat.say("hi")
    assert [one["message"]["text"] for one in poll.result()] == ["hi"]


async def test_a_held_poll_ends_empty_at_its_timeout(api: FakeBotAPI, bot: Bot) -> None:
    """At most fifty seconds, whatever is asked for."""
    async with asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(updates(bot, timeout=600))
        await api.polled()
        api.clock.advance(49)
        assert api.updates.is_polled
        api.clock.advance(1)
    assert poll.result() == []


async def test_asking_the_same_again_is_held_for_three_seconds(api: FakeBotAPI, bot: Bot) -> None:
    """Also where no waiting was asked for."""
    assert await updates(bot) == []
    async with asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(updates(bot))
        await api.polled()
        api.clock.advance(3)
    assert poll.result() == []


async def test_a_second_poll_ends_the_older_one(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """Two instances: the one that waits is told, and the other gets the update."""
    async with client(api) as other:
        older = asyncio.create_task(updates(bot, timeout=25))
        await api.polled()
        newer = asyncio.create_task(updates(other, timeout=25))
        with pytest.raises(Conflict, match="terminated by other getUpdates request"):
            await older
        await chat.say("hi")
        assert len(await newer) == 1


async def test_further_conflicts_come_late(api: FakeBotAPI, bot: Bot) -> None:
    """The second one within three seconds is told only after them."""
    async with client(api) as second, client(api) as third:
        polls = []
        for number, instance in enumerate((bot, second, third), start=1):
            polls.append(asyncio.create_task(updates(instance, timeout=25)))
            await _held(api, number)
        with pytest.raises(Conflict):
            await polls[0]
        assert not polls[1].done()
        api.clock.advance(3)
        with pytest.raises(Conflict):
            await polls[1]
        api.clock.advance(25)
        assert await polls[2] == []


async def _held(api: FakeBotAPI, polls: int) -> None:
    await api.until(lambda api: len(api.called("getUpdates")) == polls and api.updates.is_polled)


async def test_a_played_conflict_ends_the_held_poll(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """So a test needs no second instance."""
    poll = asyncio.create_task(updates(bot, timeout=25))
    await api.polled()
    api.conflict(times=2)
    with pytest.raises(Conflict):
        await poll
    with pytest.raises(Conflict):
        await updates(bot)
    await chat.say("hi")
    assert len(await updates(bot)) == 1


async def test_a_webhook_and_polling_exclude_each_other(api: FakeBotAPI, bot: Bot) -> None:
    """Until the webhook is deleted."""
    await bot.set_webhook("https://example.org/hook")
    with pytest.raises(Conflict, match="while webhook is active; use deleteWebhook"):
        await updates(bot)
    assert (await bot.get_webhook_info()).url == "https://example.org/hook"
    await bot.delete_webhook()
    assert await updates(bot) == []


async def test_allowed_updates_stay_as_they_were_asked_for(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """They hold for what comes after, until other ones are asked for; what was not allowed is lost."""
    said = await chat.say("a")
    assert await chat.react(said, "👍") is None
    await updates(bot, allowed_updates=["message_reaction"])
    assert (await chat.say("b")).update_id is None
    assert await chat.react(said, "👍") is not None
    kinds = [[*one][1] for one in await updates(bot, limit=10, offset=-2)]
    assert kinds == ["message", "message_reaction"]
    await updates(bot, offset=-1, allowed_updates=[])
    assert (await chat.say("c")).update_id is not None


async def test_updates_are_kept_for_a_day(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """A bot that was away for longer has missed them."""
    await chat.say("old")
    api.clock.advance(DAY_S - 1)
    await chat.say("new")
    api.clock.advance(1)
    assert [one["message"]["text"] for one in await updates(bot)] == ["new"]


async def test_raw_updates_and_duplicates(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """An update can be put in as it is, unreadable or for a second time, though it was confirmed."""
    said = await chat.say("hi")
    [update] = await updates(bot)
    assert await updates(bot, offset=(said.update_id or 0) + 1) == []
    api.updates.put(update)
    api.updates.put({"update_id": 900_000_000, "message": {"message_id": "poison"}})
    assert await updates(bot) == [update, {"update_id": 900_000_000, "message": {"message_id": "poison"}}]
    assert (await chat.say("next")).update_id == 900_000_001


async def test_a_poll_whose_client_left_takes_nothing_along(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """Cancelled, it is no conflict for the next one, and the update waits."""
    poll = asyncio.create_task(updates(bot, timeout=25))
    await api.polled()
    poll.cancel()
    await api.until(lambda api: not api.updates.is_polled)
    await chat.say("hi")
    assert len(await updates(bot, timeout=25)) == 1


# --- sending and editing ---------------------------------------------------------------------------------------------


async def test_a_conversation(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """What is said comes as an update that the library reads, and the answer is seen and changes."""
    said = await chat.say("hi /start")
    [update] = await bot.get_updates()
    assert update.message is not None
    assert (update.update_id, update.message.text, update.message.chat_id) == (said.update_id, "hi /start", 42)
    assert update.message.parse_entities() == {update.message.entities[0]: "/start"}
    sent = await bot.send_message(42, "hello", entities=[MessageEntity("bold", 0, 5)], reply_markup=STOP)
    await chat.until(lambda chat: chat.last.buttons == {"Stop": "stop:1"})
    edited = await bot.edit_message_text("hello you", chat_id=42, message_id=sent.message_id)
    assert isinstance(edited, Message)
    assert edited.edit_date is not None
    assert (chat.texts, chat.last.buttons, chat.last.edits) == (["hello you"], {}, 1)
    assert [version.text for version in chat.last.versions] == ["hello", "hello you"]
    assert chat.last.versions[0].entities == ({"type": "bold", "offset": 0, "length": 5},)
    assert await bot.delete_message(42, sent.message_id)
    assert chat.messages == []


REFUSALS: dict[str, tuple[str, dict[str, object], str]] = {
    "empty": ("sendMessage", {"text": " "}, "message text is empty"),
    "absent": ("sendMessage", {}, "message text is empty"),
    "long": ("sendMessage", {"text": "😀" * 2049}, "message is too long"),
    "long edit": ("editMessageText", {"text": "a" * 4097, "message_id": 1}, "MESSAGE_TOO_LONG"),
    "huge": ("sendMessage", {"text": "a" * 32_769}, "text is too long"),
    "edit of nothing": ("editMessageText", {"text": "a", "message_id": 999}, "message to edit not found"),
    "edit of another's": ("editMessageText", {"text": "a", "message_id": 11}, "message can't be edited"),
    "no chat": ("sendMessage", {"text": "a", "chat_id": 43}, "chat not found"),
    "no topic": ("sendMessage", {"text": "a", "message_thread_id": 7}, "message thread not found"),
    "no answered": (
        "sendMessage",
        {"text": "a", "reply_parameters": {"message_id": 999}},
        "message to be replied not found",
    ),
    "no deleted": ("deleteMessage", {"message_id": 999}, "message to delete not found"),
    "no query": (
        "answerCallbackQuery",
        {"callback_query_id": "1"},
        "query is too old and response timeout expired or query ID is invalid",
    ),
    "data": (
        "sendMessage",
        {"text": "a", "reply_markup": {"inline_keyboard": [[{"text": "Stop", "callback_data": "x" * 65}]]}},
        "BUTTON_DATA_INVALID",
    ),
    "entity": (
        "sendMessage",
        {"text": "ab", "entities": [{"type": "bold", "offset": 0, "length": 3}]},
        "entity beginning at UTF-16 offset 0 ends after the end of the text at UTF-16 offset 3",
    ),
    "action": ("sendChatAction", {"action": "dancing"}, "wrong parameter action in request"),
    "file": ("getFile", {"file_id": "nonsense"}, "invalid file_id"),
    "document": ("sendDocument", {}, "there is no document in the request"),
    "reaction": (
        "setMessageReaction",
        {"message_id": 11, "reaction": [{"type": "emoji", "emoji": "x"}]},
        "REACTION_INVALID",
    ),
    "command": ("setMyCommands", {"commands": [{"command": "New", "description": "a"}]}, "BOT_COMMAND_INVALID"),
    "parse mode": (
        "sendMessage",
        {"text": "a", "parse_mode": "HTML"},
        "strict: a parse mode is not played here; give entities",
    ),
}


@pytest.mark.parametrize(("method", "fields", "words"), REFUSALS.values(), ids=REFUSALS)
async def test_refusals(
    raw: httpx.AsyncClient, chat: Chat, method: str, fields: Mapping[str, object], words: str
) -> None:
    """Each objection has the status, the code and the words of the real server, and leaves nothing behind."""
    await chat.say("mine")
    answer = await raw.post(method, json={"chat_id": 42, **fields})
    assert answer.status_code == 400
    assert answer.json() == {"ok": False, "error_code": 400, "description": f"Bad Request: {words}"}
    assert chat.messages == []


async def test_an_edit_to_the_same_is_refused(bot: Bot, chat: Chat) -> None:
    """Blanks at the ends make no difference, buttons do."""
    sent = await bot.send_message(42, "a", reply_markup=STOP)
    with pytest.raises(
        BadRequest, match=r"(?i)message is not modified: specified new message content and reply markup"
    ):
        await bot.edit_message_text("a \n", chat_id=42, message_id=sent.message_id, reply_markup=STOP)
    await bot.edit_message_reply_markup(chat_id=42, message_id=sent.message_id)
    with pytest.raises(BadRequest, match=r"(?i)message is not modified"):
        await bot.edit_message_reply_markup(chat_id=42, message_id=sent.message_id)
    assert (chat.texts, chat.last.buttons) == (["a"], {})


async def test_what_is_not_known(raw: httpx.AsyncClient, bot: Bot) -> None:
    """Methods have any case, and one that is not there is a 404."""
    assert (await raw.get("GETME")).json()["result"]["username"] == "nano_test_bot"
    answer = await raw.post("sendRichMessage", json={})
    assert (answer.status_code, answer.json()["description"]) == (404, "Not Found: method not found")
    with pytest.raises(EndPointNotFound):
        await bot.do_api_request("sendRichMessage")


@pytest.mark.parametrize("how", ["json", "form", "query", "multipart"])
async def test_ways_of_asking(raw: httpx.AsyncClient, chat: Chat, how: str) -> None:
    """Parameters come as JSON, as a form, in the address, or in parts."""
    fields = {
        "chat_id": "42",
        "text": "naïve & 😀",
        "entities": json.dumps([{"type": "bold", "offset": 0, "length": 5}]),
    }
    match how:
        case "json":
            body = {**fields, "chat_id": 42, "entities": [{"type": "bold", "offset": 0, "length": 5}]}
            answer = await raw.post("sendMessage", json=body)
        case "form":
            answer = await raw.post("sendMessage", data=fields)
        case "query":
            answer = await raw.get("sendMessage", params=fields)
        case _:
            parts: dict[str, Any] = {name: (None, value) for name, value in fields.items()}  # Any: httpx's own union
            answer = await raw.post("sendMessage", files=parts)
    assert answer.status_code == 200
    assert (chat.last.text, chat.last.entities) == ("naïve & 😀", ({"type": "bold", "offset": 0, "length": 5},))


async def test_connections_are_kept(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """Many calls, one connection; errors do not end it."""
    for _ in range(5):
        await bot.send_message(42, "a")
        with pytest.raises(BadRequest):
            await bot.send_message(42, "")
    assert len({call.connection for call in api.called("sendMessage")}) == 1


async def test_who_it_is(api: FakeBotAPI, bot: Bot) -> None:
    """The library gets to know its bot, and its privacy mode."""
    me = await bot.get_me()
    assert (me.id, me.username, me.can_read_all_group_messages) == (123456, "nano_test_bot", False)
    api.bot.reads_all_group_messages = True
    assert (await bot.get_me()).can_read_all_group_messages


async def test_commands_are_registered(api: FakeBotAPI, bot: Bot) -> None:
    """As the app would show them."""
    await bot.set_my_commands([BotCommand("new", "start over"), BotCommand("stop", "stop the answer")])
    assert [one["command"] for one in api.bot.commands["default"]] == ["new", "stop"]
    assert [one.command for one in await bot.get_my_commands()] == ["new", "stop"]


async def test_typing_is_seen_for_five_seconds(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """Or until the next message."""
    await bot.send_chat_action(42, "typing")
    seen = [chat.is_typing]
    api.clock.advance(5)
    seen.append(chat.is_typing)
    await bot.send_chat_action(42, "typing")
    seen.append(chat.is_typing)
    await bot.send_message(42, "a")
    seen.append(chat.is_typing)
    assert seen == [True, False, True, False]
    assert [action.name for action in chat.actions] == ["typing", "typing"]


# --- buttons, files, replies -----------------------------------------------------------------------------------------


async def test_a_button_is_pressed_and_answered(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """The press comes as an update, and its answer is seen once; after a minute it comes too late."""
    sent = await bot.send_message(42, "working", reply_markup=STOP)
    press = await chat.press("Stop")
    [update] = await bot.get_updates()
    query = update.callback_query
    assert query is not None
    assert query.message is not None
    assert (query.data, query.from_user.id, query.message.message_id) == ("stop:1", 42, sent.message_id)
    assert await bot.answer_callback_query(query.id, text="stopped")
    assert (press.answered, press.text) == (True, "stopped")
    late = await chat.press("Stop")
    api.clock.advance(61)
    with pytest.raises(BadRequest, match=r"(?i)query is too old"):
        await bot.answer_callback_query(late.id)


async def test_pressing_what_is_not_there_shows_the_chat(bot: Bot, chat: Chat) -> None:
    """A test that presses in vain says what it saw."""
    await bot.send_message(42, "no buttons here")
    with pytest.raises(AssertionError, match=r"no message with the button 'Stop'\n.*no buttons here"):
        await chat.press("Stop")


async def test_a_picture_is_fetched(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """The last size is the picture itself; the link ends after an hour."""
    await chat.photo(b"\xff\xd8 picture \r\n", "look", album="a1")
    [update] = await bot.get_updates()
    message = update.message
    assert message is not None
    assert (message.caption, message.media_group_id, len(message.photo)) == ("look", "a1", 3)
    file = await bot.get_file(message.photo[-1].file_id)
    assert await file.download_as_bytearray() == b"\xff\xd8 picture \r\n"
    assert len(api.called(DOWNLOAD)) == 1
    api.clock.advance(3600)
    with pytest.raises(InvalidToken):  # what the library makes of any 404 that has no method in its name
        await file.download_as_bytearray()


async def test_large_files_are_not_handed_out(bot: Bot, chat: Chat) -> None:
    """More than twenty megabytes, or so it says."""
    await chat.document("film.mkv", size_bytes=20 * 1024 * 1024 + 1)
    [update] = await bot.get_updates()
    assert update.message is not None
    assert update.message.document is not None
    with pytest.raises(BadRequest, match=r"(?i)file is too big"):
        await bot.get_file(update.message.document.file_id)


async def test_a_document_is_sent(bot: Bot, chat: Chat) -> None:
    """Its bytes arrive as they are, with name and caption; an empty one is refused."""
    data = b"# all of it\r\n--\r\n\x00\xff"
    await bot.send_document(42, InputFile(data, filename="answer ü.md"), caption="the rest", disable_notification=True)
    sent = chat.last
    assert sent.document is not None
    assert (sent.document.name, sent.document.data, sent.text, sent.silent) == ("answer ü.md", data, "the rest", True)
    with pytest.raises(BadRequest, match=r"(?i)file must be non-empty"):
        await bot.send_document(42, InputFile(b"", filename="empty.md"))
    with pytest.raises(BadRequest, match=r"(?i)there is no text in the message to edit"):
        await bot.edit_message_text("a", chat_id=42, message_id=sent.id)


async def test_replies_and_quotes(bot: Bot, chat: Chat) -> None:
    """What is answered comes along, with the part that was quoted; so it does in the other direction."""
    first = await bot.send_message(42, "one 😀 two three")
    said = await chat.reply(first.message_id, "why?", quote="two")
    [update] = await bot.get_updates()
    message = update.message
    assert message is not None
    assert message.reply_to_message is not None
    assert message.quote is not None
    assert message.reply_to_message.text == "one 😀 two three"
    assert (message.quote.text, message.quote.position) == ("two", 7)
    answer = await bot.send_message(42, "because", reply_parameters=ReplyParameters(said.message_id))
    assert answer.reply_to_message is not None
    assert answer.reply_to_message.message_id == said.message_id
    tolerant = ReplyParameters(999, allow_sending_without_reply=True)
    assert (await bot.send_message(42, "anyway", reply_parameters=tolerant)).reply_to_message is None


async def test_a_paste_is_split_and_an_edit_is_told(bot: Bot, chat: Chat) -> None:
    """As the apps do it: pieces of 4096 units, and an update for each change."""
    parts = await chat.paste("😀" * 5000)
    await chat.edit(parts[0], "short")
    found = await bot.get_updates()
    assert [len(update.message.text or "") for update in found if update.message] == [2048, 2048, 904]
    assert found[-1].edited_message is not None
    assert (found[-1].edited_message.text, found[-1].edited_message.edit_date is not None) == ("short", True)


async def test_other_kinds_are_sent(bot: Bot, chat: Chat) -> None:
    """Voices, places, whatever has a wire form."""
    await chat.voice()
    await chat.send({"location": {"longitude": 13.4, "latitude": 52.5}})
    voice, place = await bot.get_updates()
    assert voice.message is not None
    assert voice.message.voice is not None
    assert place.message is not None
    assert place.message.location is not None


async def test_reactions_of_the_bot(bot: Bot, chat: Chat) -> None:
    """Put, and taken away."""
    said = await chat.say("hi")
    await bot.set_message_reaction(42, said.message_id, "👀")
    assert chat.reactions(said) == ["👀"]
    await bot.set_message_reaction(42, said.message_id)
    assert chat.reactions(said) == []


# --- groups and topics -----------------------------------------------------------------------------------------------


async def test_privacy_mode_withholds_what_is_not_for_the_bot(api: FakeBotAPI, bot: Bot) -> None:
    """In a group it gets commands, replies and mentions; the rest when it may read all."""
    olga, ivan = api.user(name="Olga"), api.user(name="Ivan")
    group = api.group("Team", [olga, ivan])
    sent = await bot.send_message(group.id, "I am here")
    told = [
        await group.say("just between us"),
        await group.say("/help"),
        await group.say("/help@nano_test_bot", by=ivan),
        await group.say("/help@other_bot"),
        await group.say("well, @Nano_test_bot, what now?"),
        await group.reply(sent.message_id, "and then?"),
    ]
    assert [said.update_id is not None for said in told] == [False, True, True, False, True, True]
    assert [update.effective_user.first_name for update in await bot.get_updates() if update.effective_user] == [
        "Olga",
        "Ivan",
        "Olga",
        "Olga",
    ]
    api.bot.withholds_mentions = True
    assert (await group.say("@nano_test_bot?")).update_id is None
    api.bot.reads_all_group_messages = True
    assert (await group.say("just between us")).update_id is not None


async def test_topics_of_a_forum(api: FakeBotAPI, bot: Bot) -> None:
    """Messages belong to their topic, seem to answer its beginning, and the bot answers into it; `General` has no number."""
    api.bot.reads_all_group_messages = True
    forum = api.group("Team", [api.user()], forum=True)
    topic = forum.topic("Plans")
    await topic.say("hi")
    update = (await bot.get_updates())[-1]
    assert update.message is not None
    assert (update.message.message_thread_id, update.message.is_topic_message) == (topic.topic_id, True)
    assert update.message.reply_to_message is not None
    assert update.message.reply_to_message.forum_topic_created is not None
    await bot.send_message(forum.id, "in there", message_thread_id=topic.topic_id)
    await bot.send_message(forum.id, "in General")
    assert (topic.texts, forum.texts) == (["in there"], ["in there", "in General"])
    with pytest.raises(BadRequest, match=r"(?i)message thread not found"):
        await bot.send_message(forum.id, "a", message_thread_id=1)


async def test_topics_of_a_private_chat(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """They have numbers like those of a forum."""
    topic = chat.topic("Plans")
    said = await topic.say("hi")
    update = (await bot.get_updates())[-1]
    assert (update.update_id, update.message and update.message.message_thread_id) == (said.update_id, topic.topic_id)
    await bot.send_chat_action(42, "typing", message_thread_id=topic.topic_id)
    assert (topic.is_typing, [action.thread_id for action in chat.actions]) == (True, [topic.topic_id])


async def test_a_group_migrates(api: FakeBotAPI, bot: Bot) -> None:
    """The old id is refused with the new one in hand, and both tell of it."""
    old = api.group("Team", [api.user()], kind="group")
    new = old.migrate()
    with pytest.raises(ChatMigrated) as caught:
        await bot.send_message(old.id, "a")
    assert caught.value.new_chat_id == new.id
    await bot.send_message(new.id, "a")
    farewell, welcome = await bot.get_updates()
    assert farewell.message is not None
    assert welcome.message is not None
    assert (farewell.message.migrate_to_chat_id, welcome.message.migrate_from_chat_id) == (new.id, old.id)


async def test_people_leave(api: FakeBotAPI, bot: Bot) -> None:
    """Who blocks the bot, or throws it out, is told of in an update, and is not written to."""
    olga = api.user(name="Olga")
    chat, group = olga.private(), api.group("Team", [olga])
    olga.block()
    group.throw_out()
    with pytest.raises(Forbidden, match="bot was blocked by the user"):
        await bot.send_message(chat.id, "a")
    with pytest.raises(Forbidden, match="bot was kicked from the supergroup chat"):
        await bot.send_message(group.id, "a")
    olga.unblock()
    await bot.send_message(chat.id, "a")
    changes = [update.my_chat_member for update in await bot.get_updates()]
    assert [change.new_chat_member.status for change in changes if change] == ["kicked", "kicked", "member"]


# --- what goes wrong -------------------------------------------------------------------------------------------------


async def test_a_call_is_refused_as_often_as_said(
    api: FakeBotAPI, bot: Bot, raw: httpx.AsyncClient, chat: Chat
) -> None:
    """A flood limit names its seconds, and is over after the calls that it was meant for."""
    fault = api.fail("sendMessage", 429, parameters={"retry_after": 7}, times=2, chat_id=42)
    answer = await raw.post("sendMessage", data={"chat_id": 42, "text": "a"})
    assert answer.status_code == 429
    assert answer.json() == {
        "ok": False,
        "error_code": 429,
        "description": "Too Many Requests: retry after 7",
        "parameters": {"retry_after": 7},
    }
    with pytest.raises(RetryAfter) as caught:
        await bot.send_message(42, "a")
    assert caught.value.retry_after == timedelta(seconds=7)
    await bot.send_message(42, "a")
    assert (fault.hits, chat.texts) == (2, ["a"])


async def test_a_flood_lasts_as_long_as_it_says(api: FakeBotAPI, raw: httpx.AsyncClient, chat: Chat) -> None:
    """Whoever asks earlier is told what is left of it; other chats go on."""
    other = api.user(id=43).private()
    chat.flood(9)
    waits = []
    for _ in range(3):
        answer = (await raw.post("sendMessage", data={"chat_id": 42, "text": "a"})).json()
        waits.append(answer.get("parameters", {}).get("retry_after"))
        await raw.post("sendMessage", data={"chat_id": 43, "text": "b"})
        api.clock.advance(4.5)
    assert waits == [9, 4, None]
    assert (chat.texts, other.texts) == (["a"], ["b", "b", "b"])


async def test_a_proxy_fails_in_html(api: FakeBotAPI, bot: Bot, raw: httpx.AsyncClient) -> None:
    """A 5xx is a page that no JSON parser likes."""
    api.fail("getMe", 502, times=2)
    answer = await raw.get("getMe")
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    assert "<h1>502 Bad Gateway</h1>" in answer.text
    with pytest.raises(NetworkError):
        await bot.get_me()
    await bot.get_me()


async def test_a_reset_before_or_after_the_send(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """To the client both look alike; the chat tells the difference."""
    api.reset("sendMessage", when="before")
    with pytest.raises(NetworkError):
        await bot.send_message(42, "before")
    assert chat.texts == []
    api.reset("sendMessage", when="after")
    with pytest.raises(NetworkError):
        await bot.send_message(42, "after")
    assert chat.texts == ["after"]
    assert [call.status for call in api.called("sendMessage")] == [0, 0]


async def test_a_gate_holds_a_call(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """Before it, nothing is done; behind it, all is done and not yet answered."""
    before, after = api.gate("sendMessage"), api.gate("sendMessage", when="after")
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(bot.send_message(42, "first"))
        await before.reached.wait()
        second = tasks.create_task(bot.send_message(42, "second"))
        await after.reached.wait()
        assert (chat.texts, first.done(), second.done()) == (["second"], False, False)
        before.open()
        await first
        assert not second.done()
        after.open()
    assert chat.texts == ["second", "first"]


async def test_a_gate_that_stays_shut_hangs_its_call(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """The client gives up; the message is there, or is not."""
    api.gate("sendMessage", when="after")
    api.gate("sendMessage")
    for text in ("arrived", "lost"):
        with pytest.raises(TimedOut):
            await bot.send_message(42, text, read_timeout=0.3)
    assert chat.texts == ["arrived"]


async def test_tokens(api: FakeBotAPI, bot: Bot) -> None:
    """A token that was revoked, one of somebody else, and one that is none."""
    for token in ("123456:other", "nonsense"):
        with pytest.raises(InvalidToken):
            async with client(api, token):
                pass
    api.bot.revoked = True
    with pytest.raises(InvalidToken):
        await bot.get_updates()
    async with httpx.AsyncClient(base_url=api.url) as raw:
        answers = [await raw.get(f"/bot{token}/getMe") for token in (api.token, "nonsense")]
    assert [answer.json()["description"] for answer in answers] == ["Unauthorized", "Not Found"]


async def test_the_server_goes_down_and_comes_back(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """Held polls break, connections are refused, and afterwards everything is where it was."""
    poll = asyncio.create_task(updates(bot, timeout=25))
    await api.polled()
    await api.go_down()
    with pytest.raises(NetworkError):
        await poll
    with pytest.raises(NetworkError):
        await bot.get_me()
    await chat.say("hi")
    await api.come_up()
    assert len(await updates(bot)) == 1


async def test_faults_can_be_taken_away(api: FakeBotAPI, bot: Bot) -> None:
    """What was not met is forgotten."""
    api.fail("*", 500, times=100)
    with pytest.raises(NetworkError):
        await bot.get_me()
    api.mend()
    await bot.get_me()


# --- watching --------------------------------------------------------------------------------------------------------


async def test_until_shows_what_there_is_instead(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """A condition that never comes true fails with the chat, or the calls, as they stand."""
    await bot.send_message(42, "something else", reply_markup=STOP)
    with pytest.raises(AssertionError, match=r"not within 0\.01 s; there is:\n#11 Nano: something else \[Stop\]"):
        await chat.until(lambda chat: chat.texts == ["hello"], patience_s=0.01)
    with pytest.raises(AssertionError, match=r"sendMessage .* -> 200"):
        await api.until(lambda api: False, patience_s=0.01)


async def test_the_log_of_calls(api: FakeBotAPI, bot: Bot, chat: Chat) -> None:
    """Every request, with its parameters, its outcome and its times."""
    api.calls.clear()
    other = api.user(id=43).private()
    await bot.send_message(42, "a")
    api.clock.advance(2)
    await bot.send_message(43, "b")
    first, second = api.called("sendMessage")
    assert (first.text, first.chat_id, first.status) == ("a", 42, 200)
    assert second.at_s - first.at_s == 2
    assert first.began_s <= first.ended_s <= second.began_s
    assert api.called("sendMessage", other) == [second]


async def test_the_log_can_be_kept_short() -> None:
    """For runs of many hours."""
    async with FakeBotAPI(log_limit=5) as api, client(api) as bot:
        for _ in range(30):
            await bot.get_me()
        assert len(api.calls) <= 10


async def test_a_clock_that_runs_ends_polls_by_itself() -> None:
    """For tries by hand: a second takes a second, and it can be set forward."""
    async with FakeBotAPI(clock=RunningClock()) as api, client(api) as bot:
        api.clock.advance(DAY_S)
        await api.user(id=42).private().say("hi")
        assert len(await updates(bot, timeout=1)) == 1
        assert await updates(bot, offset=-1, timeout=0) != []


async def test_a_bot_is_talked_to_by_hand() -> None:
    """Lines are what the user says, and what the bot writes and edits is printed as it changes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.bot_api", "--user", "42"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        await _talk(process)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _talk(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    settings = dict(word.split("=", 1) for word in (await process.stdout.readline()).decode().split())
    url = settings["NANOCHAT_TELEGRAM__BASE_URL"]
    async with Bot(settings["TELEGRAM_BOT_TOKEN"], base_url=f"{url}/bot", base_file_url=f"{url}/file/bot") as bot:
        process.stdin.write(b"/new things\n")
        [update] = await bot.get_updates(timeout=10)
        assert (update.effective_message and update.effective_message.text) == "/new things"
        sent = await bot.send_message(42, "hello", reply_markup=STOP)
        assert await process.stdout.readline() == b"bot #12: hello [Stop]\n"
        process.stdin.write(b":press Stop\n")
        assert await process.stdout.readline() == b"pressed 'Stop': stop:1\n"
        await bot.edit_message_text("bye", chat_id=42, message_id=sent.message_id)
        assert await process.stdout.readline() == b"bot edited #12: bye\n"
        process.stdin.write(b":quit\n")
