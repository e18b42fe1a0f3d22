"""What every `Channel` promises. A subclass gives the fixture `scene`: a channel that is not running, and one person at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import pytest

from nanochat.errors import ChannelError
from nanochat.events import TextDelta, ToolFinished, ToolStarted, TurnDone, TurnFailed
from nanochat.ports import Channel, Envelope
from tests.fakes.memory_channel import REPEATED, ForgetfulMemory
from tests.fakes.scripted_handler import STATS

__all__ = ["ChannelContract", "Scene"]


class Scene(Protocol):
    """One person who writes to a channel and reads what it shows."""

    channel: Channel

    async def write(self, text: str) -> None: ...

    async def write_unreadable(self) -> None:
        """Send something that the channel takes and cannot read."""
        ...

    async def repeat(self, envelope: Envelope) -> None:
        """Let the channel's source say once more what came as `envelope`."""
        ...

    def texts(self) -> list[str]:
        """What stands before the person, oldest first."""
        ...


class Inbox:
    """What was accepted."""

    def __init__(self) -> None:
        self.envelopes: dict[str, Envelope] = {}
        self.knocks: asyncio.Queue[Envelope] = asyncio.Queue(100)

    async def accept(self, envelope: Envelope) -> bool:
        is_new = envelope.source_id not in self.envelopes
        self.envelopes[envelope.source_id] = envelope
        self.knocks.put_nowait(envelope)
        return is_new

    async def next(self) -> Envelope:
        async with asyncio.timeout(10):
            return await self.knocks.get()


@asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[Inbox]:
    inbox = Inbox()
    task = asyncio.create_task(scene.channel.run(inbox.accept))
    try:
        yield inbox
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class ChannelContract:
    async def test_what_is_written_comes_in_whole(self, scene: Scene) -> None:
        """An envelope names its session and its source, and is read back as what was said."""
        async with running(scene) as inbox:
            await scene.write("are you there?")
            envelope = await inbox.next()
            inbound = await scene.channel.parse([envelope])
        assert envelope.key.channel == scene.channel.name
        assert inbound.text == "are you there?"
        assert (inbound.key, inbound.source_id) == (envelope.key, envelope.source_id)
        assert inbound.sender.id.startswith(f"{scene.channel.name}:")
        assert inbound.at.utcoffset() is not None

    async def test_a_repeat_has_the_same_source(self, scene: Scene) -> None:
        """So the inbox knows it, also when the channel has begun anew."""
        async with running(scene) as inbox:
            await scene.write("once")
            first = await inbox.next()
        async with running(scene) as inbox:
            await scene.repeat(first)
            second = await inbox.next()
        assert first.source_id == second.source_id

    async def test_messages_come_in_order(self, scene: Scene) -> None:
        """And with different sources."""
        async with running(scene) as inbox:
            for text in ("one", "two", "three"):
                await scene.write(text)
            envelopes = [await inbox.next() for _ in range(3)]
            texts = [(await scene.channel.parse([envelope])).text for envelope in envelopes]
        assert texts == ["one", "two", "three"]
        assert len({envelope.source_id for envelope in envelopes}) == 3

    async def test_what_cannot_be_read_is_said_plainly(self, scene: Scene) -> None:
        """One line, for a person."""
        async with running(scene) as inbox:
            await scene.write_unreadable()
            envelope = await inbox.next()
            with pytest.raises(ChannelError) as caught:
                await scene.channel.parse([envelope])
        assert str(caught.value)
        assert "\n" not in str(caught.value)

    async def test_a_reply_stands_as_it_was_said(self, scene: Scene) -> None:
        """All deltas, once, with evidence."""
        async with running(scene) as inbox:
            await scene.write("hi")
            inbound = await scene.channel.parse([await inbox.next()])
            reply = scene.channel.reply_to(inbound, ForgetfulMemory())
            for event in (TextDelta("good "), TextDelta("morning"), TurnDone("good morning", STATS)):
                reply(event)
            receipt = await reply.settle()
        assert scene.texts() == ["good morning"]
        assert len(receipt.message_ids) == 1

    async def test_a_reply_needs_no_running_channel(self, scene: Scene) -> None:
        """What was answered while the channel starts anew arrives all the same."""
        async with running(scene) as inbox:
            await scene.write("hi")
            inbound = await scene.channel.parse([await inbox.next()])
        reply = scene.channel.reply_to(inbound, ForgetfulMemory())
        reply(TurnDone("hello"))
        await reply.settle()
        assert scene.texts() == ["hello"]

    async def test_a_failure_is_one_line(self, scene: Scene) -> None:
        """Below what was said so far."""
        async with running(scene) as inbox:
            await scene.write("hi")
            inbound = await scene.channel.parse([await inbox.next()])
            reply = scene.channel.reply_to(inbound, ForgetfulMemory())
            reply(TextDelta("I think"))
            reply(ToolStarted("1", "search", "searching"))
            reply(ToolFinished("1", "search", ok=False, seconds=1.0))
            reply(TurnFailed("the model is out", "abc123"))
            await reply.settle()
        [text] = scene.texts()
        assert text.startswith("I think")
        assert "the model is out" in text

    async def test_a_continued_reply_replaces_what_stands(self, scene: Scene) -> None:
        """Another process with the same memory edits; nothing stands twice."""
        memory = ForgetfulMemory()
        async with running(scene) as inbox:
            await scene.write("hi")
            inbound = await scene.channel.parse([await inbox.next()])
            for text in ("one", "one and two", "one and two"):
                reply = scene.channel.reply_to(inbound, memory)
                reply(TurnDone(text))
                await reply.settle()
        assert scene.texts() == ["one and two"]

    async def test_what_may_have_arrived_is_sent_again_with_a_mark(self, scene: Scene) -> None:
        """The one instant that cannot be closed is visible."""
        memory = ForgetfulMemory()
        await memory.sending(0)
        async with running(scene) as inbox:
            await scene.write("hi")
            inbound = await scene.channel.parse([await inbox.next()])
            reply = scene.channel.reply_to(inbound, memory)
            reply(TurnDone("hello"))
            await reply.settle()
        assert scene.texts() == [f"{REPEATED}hello"]
        assert memory.known[0].message_id

    async def test_a_new_message_is_announced_before_it_is_sent(self, scene: Scene) -> None:
        """And its id is noted when it is known."""
        memory = ForgetfulMemory()
        async with running(scene) as inbox:
            await scene.write("hi")
            inbound = await scene.channel.parse([await inbox.next()])
            reply = scene.channel.reply_to(inbound, memory)
            reply(TurnDone("hello"))
            [message_id] = (await reply.settle()).message_ids
        assert memory.steps[:2] == ["sending 0", f"sent 0 {message_id}"]

    async def test_an_unprompted_text_arrives_once(self, scene: Scene) -> None:
        """Delivering the same again with the same memory changes nothing."""
        async with running(scene) as inbox:
            await scene.write("hi")
            key = (await inbox.next()).key
        memory = ForgetfulMemory()
        first = await scene.channel.deliver(key, "good morning", memory)
        second = await scene.channel.deliver(key, "good morning", memory)
        assert scene.texts() == ["good morning"]
        assert first.message_ids == second.message_ids
        assert first.message_ids
