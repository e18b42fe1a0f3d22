"""Many chats, something wrong with every answer: each arrives once, in order, and whole."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from nanochat.channels.telegram.envelopes import room_of
from nanochat.events import Inbound, TextDelta, ToolFinished, ToolStarted, TurnDone
from nanochat.ports import Emit
from tests.fakes.bot_api import Chat, FakeBotAPI
from tests.telegram.switchboard import Switchboard, open_switchboard

CHATS = 12
MESSAGES = 5


def answer_to(text: str) -> str:
    return f"The answer to {text} is long enough to be shown early: " + ", ".join(map(str, range(30))) + "."


@pytest.mark.parametrize("seed", range(4))
async def test_every_answer_arrives_once(api: FakeBotAPI, seed: int) -> None:
    """Or twice where nobody can know, and then with the mark."""
    chance = random.Random(seed)
    faults: list[Callable[[int], object]] = [
        lambda chat: api.fail("sendMessage", 502, chat_id=chat),
        lambda chat: api.fail("editMessageText", 502, chat_id=chat),
        lambda chat: api.reset("sendMessage", when="before", chat_id=chat),
        lambda chat: api.reset("sendMessage", when="after", chat_id=chat),
        lambda chat: api.reset("editMessageText", when="after", chat_id=chat),
        lambda chat: api.fail("sendChatAction", 500, chat_id=chat, times=2),
        lambda chat: api.fail("getUpdates", 502),
        lambda chat: api.conflict(),
        lambda chat: None,
    ]

    async def answer(inbound: Inbound, emit: Emit) -> None:
        room = room_of(inbound.key)
        assert room is not None
        chance.choice(faults)(room.chat)
        text = answer_to(inbound.text)
        for start in range(0, len(text), 20):
            emit(TextDelta(text[start : start + 20]))
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
        emit(ToolStarted("1", "x", "working"))
        emit(ToolFinished("1", "x", ok=True, seconds=0.1))
        emit(TurnDone(text))

    chats: list[Chat] = [api.user(name=f"U{number}").private() for number in range(CHATS)]
    async with open_switchboard(api, answer, allow=tuple(chat.id for chat in chats)) as board:
        board.retries = 5
        for number in range(MESSAGES):
            for chat in chats:
                await chat.say(f"question {number}")
        await board.until(CHATS * MESSAGES)
        assert board.failures == []
    for chat in chats:
        finals = [text for text in chat.texts if text.removeprefix("↻ ").endswith("28, 29.")]
        stripped = [text.removeprefix("↻ ") for text in finals]
        in_order = list(dict.fromkeys(stripped))
        assert in_order == [answer_to(f"question {number}") for number in range(MESSAGES)]
        # What stands twice, whole or broken off, has its repeat marked.
        marked = [text for text in chat.texts if text.startswith("↻ ")]
        assert len(chat.texts) - MESSAGES <= len(marked)


@pytest.mark.parametrize("seed", range(6))
async def test_kills_leave_no_trace(api: FakeBotAPI, seed: int) -> None:
    """Killed at any moment, again and again: every message is answered, in order, and repeats are marked."""
    chance = random.Random(seed)

    async def answer(inbound: Inbound, emit: Emit) -> None:
        text = answer_to(inbound.text)
        for start in range(0, len(text), 20):
            emit(TextDelta(text[start : start + 20]))
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)
        emit(TurnDone(text))

    chats: list[Chat] = [api.user(name=f"U{number}").private() for number in range(4)]
    for number in range(3):
        for chat in chats:
            await chat.say(f"question {number}")
    dead: Switchboard | None = None
    is_over = False
    while not is_over:
        async with open_switchboard(api, answer, allow=tuple(chat.id for chat in chats)) as board:
            if dead is not None:
                board.inherit(dead)
            is_over = await survives(api, board, len(api.calls) + chance.randrange(2, 30))
        dead = board
    for chat in chats:
        finals = [text for text in chat.texts if text.removeprefix("↻ ").endswith("28, 29.")]
        in_order = list(dict.fromkeys(text.removeprefix("↻ ") for text in finals))
        assert in_order == [answer_to(f"question {number}") for number in range(3)]
        marked = [text for text in chat.texts if text.startswith("↻ ")]
        assert len(chat.texts) - 3 <= len(marked)


async def survives(api: FakeBotAPI, board: Switchboard, calls: int) -> bool:
    """Let it work until all is answered, or only until the server has got so many calls."""
    async with asyncio.timeout(20):
        work = [
            asyncio.create_task(board.until_finished(12)),
            asyncio.create_task(api.until(lambda api: len(api.calls) >= calls, patience_s=20)),
        ]
        done, late = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    for task in late:
        task.cancel()
    await asyncio.wait(work)
    return work[0] in done
