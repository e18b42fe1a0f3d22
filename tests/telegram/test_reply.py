"""A reply grows in one message, ends exactly, and arrives whatever is in its way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from nanochat.channels.telegram.formatted import Formatted
from nanochat.channels.telegram.text import render
from nanochat.errors import ChannelError
from nanochat.events import Inbound, Notice, Sender, Text, TextDelta, ToolFinished, ToolStarted, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.ports import Emit, SentPart
from tests.fakes.bot_api import Chat, FakeBotAPI, User
from tests.fakes.memory_channel import ForgetfulMemory
from tests.fakes.scripted_handler import STATS, Pause, Script, ScriptedHandler, said
from tests.telegram.switchboard import HURRIED, Switchboard, open_switchboard

FIRST = "It was a dark and stormy night, and the rain fell in torrents"
STOP = "◼ Stop"
TOO_FAST = {"retry_after": 1}
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def olga(api: FakeBotAPI) -> User:
    return api.user(name="Olga")


@pytest.fixture
def chat(olga: User) -> Chat:
    return olga.private()


async def tell(api: FakeBotAPI, chat: Chat, script: Script, **settings: Any) -> Switchboard:
    """Let a script be played to the end, as the answer to one message."""
    async with open_switchboard(api, ScriptedHandler(script), allow=(chat.id,), **settings) as board:
        await chat.say("hi")
        await board.until(1)
        return board


def inbound(chat: Chat) -> Inbound:
    key = SessionKey("telegram", str(chat.id))
    return Inbound(key, "telegram:123456:1", Sender("telegram:1", "Olga", False), (Text("hi"),), NOON)


# --- growing -----------------------------------------------------------------------------------------------------------


async def test_one_message_grows_and_ends_exactly(api: FakeBotAPI, chat: Chat) -> None:
    """The same message throughout; the button goes with the end."""
    pause = Pause()
    script: Script = [TextDelta(FIRST), pause, TextDelta(" - except at *times*."), TurnDone("", STATS)]
    async with open_switchboard(api, ScriptedHandler(script), allow=(chat.id,)) as board:
        await chat.say("tell")
        await chat.until(lambda chat: chat.texts == [FIRST])
        assert STOP in chat.last.buttons
        pause.go.set()
        await board.until(1)
    assert chat.texts == [f"{FIRST} - except at times."]
    assert [entity["type"] for entity in chat.last.entities] == ["italic"]
    assert chat.last.buttons == {}
    assert board.receipts[0].message_ids == (str(chat.last.id),)


async def test_a_short_reply_is_one_call(api: FakeBotAPI, chat: Chat) -> None:
    """Nothing to edit, nothing to type."""
    await tell(api, chat, said("Yes."))
    assert chat.texts == ["Yes."]
    assert chat.last.edits == 0
    assert len(api.called("sendMessage")) == 1
    assert not api.called("sendChatAction")


async def test_a_little_text_is_shown_after_a_while(api: FakeBotAPI, chat: Chat) -> None:
    """A slow beginning is a beginning."""
    pause = Pause()
    async with open_switchboard(api, ScriptedHandler([TextDelta("Well"), pause, *said("")]), allow=(chat.id,)) as board:
        await chat.say("tell")
        await chat.until(lambda chat: chat.texts == ["Well"])
        pause.go.set()
        await board.until(1)


async def test_typing_lasts_until_the_first_text(api: FakeBotAPI, chat: Chat) -> None:
    """Again and again, and not once after."""
    think, talk = Pause(), Pause()
    script: Script = [think, TextDelta(FIRST), talk, TurnDone("", STATS)]
    async with open_switchboard(api, ScriptedHandler(script), allow=(chat.id,)) as board:
        await chat.say("tell")
        await api.until(lambda api: len(api.called("sendChatAction")) >= 3)
        think.go.set()
        await chat.until(lambda chat: chat.texts)
        typed = len(api.called("sendChatAction"))
        talk.go.set()
        await board.until(1)
        assert len(api.called("sendChatAction")) == typed
    assert not chat.is_typing


async def test_typing_gives_up(api: FakeBotAPI, chat: Chat) -> None:
    """Three failures are enough, and nothing else is held up by them."""
    api.fail("sendChatAction", 500, times=100)
    think = Pause()
    async with open_switchboard(api, ScriptedHandler([think, *said("Yes.")]), allow=(chat.id,)) as board:
        await chat.say("tell")
        await api.until(lambda api: len(api.called("sendChatAction")) == 3)
        think.go.set()
        await board.until(1)
    assert len(api.called("sendChatAction")) == 3
    assert chat.texts == ["Yes."]


async def test_without_streaming_only_the_end_is_shown(api: FakeBotAPI, chat: Chat) -> None:
    """One message, never edited."""
    await tell(api, chat, said(FIRST, ", and so on"), stream=False)
    assert chat.texts == [f"{FIRST}, and so on"]
    assert chat.last.edits == 0


async def test_tools_are_one_status_line(api: FakeBotAPI, chat: Chat) -> None:
    """Below the text, while they run; gone at the end."""
    pause = Pause()
    script: Script = [
        TextDelta("Let me see."),
        ToolStarted("1", "web", "searching the web: *tides*"),
        pause,
        ToolFinished("1", "web", ok=True, seconds=2),
        TextDelta("High at noon."),
        TurnDone("", STATS),
    ]
    async with open_switchboard(api, ScriptedHandler(script), allow=(chat.id,)) as board:
        await chat.say("tides?")
        await chat.until(lambda chat: chat.texts == ["Let me see.\n\n⏳ searching the web: *tides*"])
        pause.go.set()
        await board.until(1)
    assert chat.texts == ["Let me see.\n\nHigh at noon."]


async def test_a_last_remark_stays(api: FakeBotAPI, chat: Chat) -> None:
    """A retry is forgotten when text comes; what is said at the end is meant to be read."""
    await tell(api, chat, [Notice("trying again"), TextDelta("Yes."), Notice("90% of the context is in use"), *said()])
    assert chat.texts == ["Yes.\n\n90% of the context is in use"]


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ([TurnDone("`/help`")], "/help"),
        ([TextDelta("So far"), TurnDone("", STATS, "stopped")], "So far\n\n(stopped)"),
        ([TurnDone("", STATS, "stopped")], "(stopped)"),
        ([TurnDone("", STATS)], "(no text)"),
        ([TurnFailed("the model is overloaded", "ab12")], "⚠️ the model is overloaded (error ab12)"),
        (
            [TextDelta("So far"), TurnFailed("cut", kept=True)],
            "So far\n\n⚠️ cut",
        ),
    ],
    ids=["command", "stopped", "stopped before a word", "nothing", "failed", "failed in the middle"],
)
async def test_every_end_is_told(api: FakeBotAPI, chat: Chat, script: Script, text: str) -> None:
    """In one plain line."""
    await tell(api, chat, script)
    assert chat.texts == [text]


async def test_the_stop_button_stops(api: FakeBotAPI, chat: Chat) -> None:
    """The press is answered at once, and shows nothing of its own."""
    script: Script = [TextDelta(FIRST), Pause(), *said(" for ever")]
    async with open_switchboard(api, ScriptedHandler(script), allow=(chat.id,)) as board:
        await chat.say("tell")
        await chat.until(lambda chat: chat.texts)
        press = await chat.press(STOP)
        await board.until(2)
        await api.until(lambda _: press.answered)
    assert chat.texts == [f"{FIRST}\n\n(stopped)"]
    assert chat.last.buttons == {}
    assert board.inbounds[1].text == "/stop"


async def test_a_press_stops_before_it_is_answered(api: FakeBotAPI, chat: Chat) -> None:
    """Its waiting sign is the lesser thing, and may not come off at all."""
    api.gate("answerCallbackQuery")
    script: Script = [TextDelta(FIRST), Pause(), *said(" for ever")]
    async with open_switchboard(api, ScriptedHandler(script), allow=(chat.id,)) as board:
        await chat.say("tell")
        await chat.until(lambda chat: chat.texts)
        await chat.press(STOP)
        async with asyncio.timeout(4):
            await board.until(2)
    assert chat.texts == [f"{FIRST}\n\n(stopped)"]


async def test_the_button_of_an_answer_that_is_over_stops_nothing(api: FakeBotAPI, chat: Chat) -> None:
    """It goes, and says so; the answer that runs is let be."""
    first, second = Pause(), Pause()
    scripts: dict[str, Script] = {
        "one": [TextDelta(FIRST), first, *said("!")],
        "two": [TextDelta(FIRST), second, *said("?")],
    }

    async def handler(inbound: Inbound, emit: Emit) -> None:
        await ScriptedHandler(scripts[inbound.text])(inbound, emit)

    async with open_switchboard(api, handler, allow=(chat.id,)) as board:
        await chat.say("one")
        await chat.until(lambda chat: chat.texts)
        old = chat.last
        rows = old.reply_markup
        first.go.set()
        await board.until(1)
        old.reply_markup = rows
        await chat.say("two")
        await chat.until(lambda chat: len(chat.texts) == 2)
        press = await chat.press(STOP, on=old)
        await api.until(lambda _: press.answered and not old.buttons)
        assert press.text == "this one is over"
        second.go.set()
        await board.until(2)
    assert chat.texts == [f"{FIRST}!", f"{FIRST}?"]


async def test_a_button_that_is_not_ours_does_nothing(api: FakeBotAPI, chat: Chat) -> None:
    """Whatever it sends, it is no Stop."""
    pause = Pause()
    async with open_switchboard(api, ScriptedHandler([TextDelta(FIRST), pause, *said("!")]), allow=(chat.id,)) as board:
        await chat.say("tell")
        await chat.until(lambda chat: chat.texts)
        chat.last.reply_markup = {"inline_keyboard": [[{"text": "Other", "callback_data": "stop"}]]}
        press = await chat.press("Other")
        await api.until(lambda _: press.answered)
        pause.go.set()
        await board.until(1)
    assert chat.texts == [f"{FIRST}!"]
    assert len(board.accepted) == 1


async def test_a_long_outage_of_sending_costs_no_answer(api: FakeBotAPI, chat: Chat) -> None:
    """What may have arrived five times over is told again later, marked."""
    api.fail("sendMessage", 502, times=5)
    async with open_switchboard(api, ScriptedHandler(said("Yes.")), allow=(chat.id,)) as board:
        board.retries = 5
        await chat.say("hi")
        await board.until(1)
    assert board.failures == []
    assert chat.texts == ["↻ Yes."]


# --- what is broken on our side ----------------------------------------------------------------------------------------


async def test_what_cannot_be_formatted_is_shown_as_it_is(
    api: FakeBotAPI, chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    """While it grows and at its end; and the next one as it should be."""

    def fragile(text: str) -> Formatted:
        if "boom" in text:
            raise RecursionError("too deep")
        return render(text)

    pause = Pause()
    scripts: dict[str, Script] = {
        "one": [TextDelta(f"*boom* {FIRST}"), pause, TurnDone("", mark="max_tokens")],
        "two": said("*fine*"),
    }

    async def handler(inbound: Inbound, emit: Emit) -> None:
        await ScriptedHandler(scripts[inbound.text])(inbound, emit)

    pace = replace(HURRIED, showing=replace(HURRIED.showing, render=fragile))
    async with open_switchboard(api, handler, allow=(chat.id,), pace=pace) as board:
        await chat.say("one")
        await chat.until(lambda chat: chat.texts == [f"*boom* {FIRST}"])
        pause.go.set()
        await chat.say("two")
        await board.until(2)
    assert chat.texts == [f"*boom* {FIRST}\n\n(cut short: the reply reached model.max_tokens)", "fine"]
    assert "could not be formatted" in caplog.text


class BrokenMemory(ForgetfulMemory):
    """Fails in a way that nobody thought of."""

    async def parts(self) -> tuple[SentPart, ...]:
        raise KeyError("place")


async def test_a_reply_that_breaks_is_alone_with_it(
    api: FakeBotAPI, chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    """The polling and the other replies go on; its own failure is told to whoever waits for it."""
    async with open_switchboard(api, allow=(chat.id,)) as board:
        message = await chat.say("hi")
        board.memories[f"telegram:{api.token.partition(':')[0]}:{message.update_id}"] = BrokenMemory()
        await board.until(1)
        await chat.say("and now?")
        await board.until(2)
    [failure] = board.failures
    assert str(failure) == "the answer could not be shown; the log tells why"
    assert chat.texts == ["echo: and now?"]
    assert "KeyError" in caplog.text


# --- long answers ------------------------------------------------------------------------------------------------------


def paragraphs(count: int) -> str:
    return "\n\n".join(f"Paragraph {number}. " + "The sea is wide. " * 20 for number in range(count)).strip()


async def test_a_long_answer_goes_on_in_a_new_message(api: FakeBotAPI, chat: Chat) -> None:
    """What is full stays as it is; all text is there; only the first makes a sound."""
    text = paragraphs(25)
    pieces = [text[start : start + 500] for start in range(0, len(text), 500)]
    await tell(api, chat, said(*pieces))
    assert 2 <= len(chat.texts) <= 4
    assert "".join("".join(chat.texts).split()) == "".join(text.split())
    assert [message.silent for message in chat.messages] == [False] + [True] * (len(chat.texts) - 1)
    assert all(not message.buttons for message in chat.messages)


async def test_a_very_long_answer_comes_as_a_file(api: FakeBotAPI, chat: Chat) -> None:
    """After four messages, with everything in it."""
    text = paragraphs(60)
    board = await tell(api, chat, said(text))
    *parts, file = chat.messages
    assert len(parts) == 4
    assert file.document is not None
    assert file.document.data.decode().strip() == text
    assert len(board.receipts[0].message_ids) == 5


# --- what goes wrong ---------------------------------------------------------------------------------------------------


async def test_a_flood_wait_keeps_the_final(api: FakeBotAPI, chat: Chat) -> None:
    """It is delivered later, and still formatted."""
    fault = api.fail("editMessageText", 429, parameters=TOO_FAST)
    pause = Pause()
    script: Script = [TextDelta(FIRST), pause, TextDelta(" and **more**"), *said()]
    async with open_switchboard(api, ScriptedHandler(script), allow=(chat.id,)) as board:
        await chat.say("tell")
        await chat.until(lambda chat: chat.texts)
        pause.go.set()
        await api.until(lambda _: fault.hits)
        api.clock.advance(2)
        await board.until(1)
    assert chat.texts == [f"{FIRST} and more"]
    assert [entity["type"] for entity in chat.last.entities] == ["bold"]


async def test_a_refused_first_message_is_sent_once(api: FakeBotAPI, chat: Chat) -> None:
    """A flood wait says that it was not carried out: no mark."""
    api.fail("sendMessage", 429, parameters=TOO_FAST)
    board = await tell(api, chat, said("Yes."))
    assert chat.texts == ["Yes."]
    assert board.memories.popitem()[1].steps[:3] == ["sending 0", "dropped 0", "sending 0"]


async def test_what_may_have_arrived_is_marked(api: FakeBotAPI, chat: Chat) -> None:
    """The connection breaks after Telegram took the message: it is sent once more, visibly, and counted."""
    api.reset("sendMessage", when="after")
    board = await tell(api, chat, said("Yes."))
    assert chat.texts == ["Yes.", "↻ Yes."]
    assert board.channel.repeated == 1
    assert "marked ↻" in " ".join(board.channel.remarks())


async def test_the_mark_stays_and_formatting_with_it(api: FakeBotAPI, chat: Chat) -> None:
    """Later edits of a repeated message keep it."""
    api.reset("sendMessage", when="after")
    pause = Pause()
    async with open_switchboard(
        api, ScriptedHandler([TextDelta(FIRST), pause, *said(" **so**")]), allow=(chat.id,)
    ) as b:
        await chat.say("tell")
        await chat.until(lambda chat: len(chat.texts) == 2)
        pause.go.set()
        await b.until(1)
    assert chat.last.text == f"↻ {FIRST} so"
    assert [(e["offset"], e["length"]) for e in chat.last.entities] == [(len(FIRST) + 3, 2)]


async def test_the_mark_fits(api: FakeBotAPI, chat: Chat) -> None:
    """Also in front of a message that is as long as can be."""
    api.reset("sendMessage", when="after", times=2)
    text = "x" * 4096
    board = await tell(api, chat, [TurnDone(text)])
    assert board.failures == []
    shown = [text.removeprefix("↻ ") for text in chat.texts if text.startswith("↻ ")]
    assert "".join(shown).endswith("x" * 50)


async def test_a_repeat_waits_for_an_open_way(api: FakeBotAPI, chat: Chat) -> None:
    """While nothing gets through, nothing is repeated."""
    api.reset("sendMessage", when="after")
    api.fail("sendChatAction", 502, times=2)
    await tell(api, chat, said("Yes."))
    assert len(api.called("sendMessage")) == 2
    assert len(api.called("sendChatAction")) == 3


async def test_edits_are_repeated_freely(api: FakeBotAPI, chat: Chat) -> None:
    """A lost edit is edited again; that nothing changes is success."""
    api.reset("editMessageText", when="after", times=3)
    pause = Pause()
    async with open_switchboard(api, ScriptedHandler([TextDelta(FIRST), pause, *said("!")]), allow=(chat.id,)) as board:
        await chat.say("tell")
        await chat.until(lambda chat: chat.texts)
        pause.go.set()
        await board.until(1)
    assert chat.texts == [f"{FIRST}!"]
    assert board.channel.repeated == 0


async def test_a_deleted_message_is_begun_anew(api: FakeBotAPI, chat: Chat) -> None:
    """Its reader took it away while it grew; the answer comes all the same."""
    pause = Pause()
    async with open_switchboard(api, ScriptedHandler([TextDelta(FIRST), pause, *said("!")]), allow=(chat.id,)) as board:
        await chat.say("tell")
        await chat.until(lambda chat: chat.texts)
        chat.last.deleted = True
        pause.go.set()
        await board.until(1)
    assert chat.texts == [f"{FIRST}!"]


async def test_refused_formatting_costs_the_formatting_only(api: FakeBotAPI, chat: Chat) -> None:
    """The text arrives."""
    api.fail("sendMessage", 400, "Bad Request: can't parse entities: Can't find end of Bold entity at byte offset 9")
    await tell(api, chat, said("**Yes**."))
    assert chat.texts == ["Yes."]
    assert chat.last.entities == ()


async def test_a_group_that_moved_is_followed(api: FakeBotAPI, olga: User) -> None:
    """The answer goes to its new id."""
    group = api.group("Home", [olga], kind="group")
    pause = Pause()
    async with open_switchboard(api, ScriptedHandler([pause, *said("Yes.")]), allow=(olga.id,)) as board:
        await group.say("@nano_test_bot hi")
        await api.until(lambda _: board.inbounds)
        new = group.migrate()
        pause.go.set()
        await board.until(1)
    assert new.texts == ["Yes."]


async def test_blocked_by_the_person(api: FakeBotAPI, olga: User, chat: Chat) -> None:
    """One line says so, and the next message works."""
    pause = Pause()
    async with open_switchboard(api, ScriptedHandler([pause, *said("Yes.")]), allow=(olga.id,)) as board:
        await chat.say("hi")
        await api.until(lambda _: board.inbounds)
        olga.block()
        pause.go.set()
        await board.until(1)
        olga.unblock()
        await chat.say("again")
        await board.until(2)
    [failure] = board.failures
    assert "blocked" in str(failure)
    assert isinstance(failure, ChannelError)
    assert not failure.retryable
    assert chat.texts == ["echo: again"]


async def test_an_unreachable_telegram_is_handed_up(api: FakeBotAPI, chat: Chat) -> None:
    """After some tries, as something that may work later; nothing was sent."""
    pause = Pause()
    async with open_switchboard(api, ScriptedHandler([pause, *said("Yes.")]), allow=(chat.id,)) as board:
        await chat.say("hi")
        await api.until(lambda _: board.inbounds)
        await api.go_down()
        pause.go.set()
        await board.until(1)
        [failure] = board.failures
        assert isinstance(failure, ChannelError)
        assert failure.retryable
        await api.come_up()
        reply = board.channel.reply_to(board.inbounds[0], board.memories[board.inbounds[0].source_id])
        for event in said("Yes."):
            reply(event)
        await reply.settle()
    assert chat.texts == ["Yes."]


# --- after a crash -----------------------------------------------------------------------------------------------------


async def test_a_continued_reply_edits_every_part_and_deletes_the_rest(api: FakeBotAPI, chat: Chat) -> None:
    """Nothing of the first attempt is left over."""
    memory = ForgetfulMemory()
    async with open_switchboard(api, allow=(chat.id,)) as board:
        for text in (paragraphs(25), "Short, now."):
            reply = board.channel.reply_to(inbound(chat), memory)
            reply(TurnDone(text))
            await reply.settle()
    assert chat.texts == ["Short, now."]
    assert list(memory.known) == [0]
    assert memory.known[0].message_id == str(chat.last.id)


async def test_a_reply_that_stands_is_not_touched(api: FakeBotAPI, chat: Chat) -> None:
    """The memory knows what it showed: no call at all."""
    memory = ForgetfulMemory()
    async with open_switchboard(api, allow=(chat.id,)) as board:
        for _ in range(2):
            reply = board.channel.reply_to(inbound(chat), memory)
            reply(TurnDone("Yes."))
            await reply.settle()
    assert len(api.called("sendMessage") + api.called("editMessageText")) == 1


async def test_an_edit_that_was_not_noted_is_harmless(api: FakeBotAPI, chat: Chat) -> None:
    """Killed between the edit and its note: the same edit again changes nothing."""
    async with open_switchboard(api, allow=(chat.id,)) as board:
        reply = board.channel.reply_to(inbound(chat), ForgetfulMemory())
        reply(TurnDone("Yes."))
        [message_id] = (await reply.settle()).message_ids
        again = board.channel.reply_to(inbound(chat), ForgetfulMemory(SentPart(0, message_id, "mo-older")))
        again(TurnDone("Yes."))
        await again.settle()
    assert chat.texts == ["Yes."]
    assert len(api.called("editMessageText")) == 1


async def test_a_kill_while_sending_is_repeated_once(api: FakeBotAPI, chat: Chat) -> None:
    """The process dies before Telegram's answer came; the next one marks its repeat, and edits it from then on."""
    gate = api.gate("sendMessage", when="after")
    script: Script = [TextDelta(FIRST), *said()]
    async with open_switchboard(api, ScriptedHandler(script), allow=(chat.id,)) as board:
        await chat.say("tell")
        await gate.reached.wait()
        memory = next(iter(board.memories.values()))
        first = board.inbounds[0]
    assert memory.known == {0: SentPart(0, "")}
    async with open_switchboard(api, allow=(chat.id,)) as board:
        for _ in range(2):
            reply = board.channel.reply_to(first, memory)
            reply(TurnDone(FIRST))
            await reply.settle()
    assert chat.texts[-1] == f"↻ {FIRST}"
    assert len(chat.texts) == 2


async def test_previews_never_overtake_the_end(api: FakeBotAPI, chat: Chat) -> None:
    """A slow preview is waited for; the final text is edited after it."""
    gate = api.gate("editMessageText")
    more, end = Pause(), Pause()
    script: Script = [TextDelta(FIRST), more, TextDelta(", more"), end, *said(" and more.")]
    async with open_switchboard(api, ScriptedHandler(script), allow=(chat.id,)) as board:
        await chat.say("tell")
        await chat.until(lambda chat: chat.texts)
        more.go.set()
        await gate.reached.wait()
        end.go.set()
        await asyncio.sleep(0)
        gate.open()
        await board.until(1)
    assert chat.texts == [f"{FIRST}, more and more."]


async def test_deliver_names_a_chat_that_is_not(api: FakeBotAPI) -> None:
    """A wrong key is one plain line."""
    async with open_switchboard(api) as board:
        with pytest.raises(ChannelError):
            await board.channel.deliver(SessionKey("telegram", "nobody"), "hi", ForgetfulMemory())


async def test_a_full_part_that_was_deleted_is_let_be(api: FakeBotAPI, chat: Chat) -> None:
    """Its reader took it away from among others: nothing is put out of order for it."""
    memory = ForgetfulMemory()
    async with open_switchboard(api, allow=(chat.id,)) as board:
        for text in (paragraphs(25), "Now. " + paragraphs(25)):
            reply = board.channel.reply_to(inbound(chat), memory)
            reply(TurnDone(text))
            await reply.settle()
            chat.room.messages[int(memory.known[0].message_id)].deleted = True
    assert len(memory.known) == len(chat.texts) + 1
    assert [int(part.message_id) for part in memory.known.values()][1:] == [message.id for message in chat.messages]


async def test_a_file_that_changed_is_sent_anew(api: FakeBotAPI, chat: Chat) -> None:
    """A document cannot be edited; the old one goes."""
    memory = ForgetfulMemory()
    async with open_switchboard(api, allow=(chat.id,)) as board:
        for text in (paragraphs(60), paragraphs(61)):
            reply = board.channel.reply_to(inbound(chat), memory)
            reply(TurnDone(text))
            await reply.settle()
    files = [message.document for message in chat.messages if message.document is not None]
    assert [file.data.decode().strip() for file in files] == [paragraphs(61)]
