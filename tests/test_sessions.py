"""Sessions: the public Python surface, and staying in step with the file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

import nanochat
from nanochat import Session, SessionKey, SessionManager
from nanochat.errors import KeyFormError, NotWritten
from nanochat.events import Attachment, Text
from nanochat.records import Compact, Message, Record, Reset, SetValue, TurnEnd, text_of
from nanochat.sessions import MAX_CACHED
from nanochat.turn import attachments
from tests.fakes.house import FakeClock
from tests.fakes.memory_store import MemoryStore

KEY = SessionKey("cli", "default")


def said(session: Session) -> list[str]:
    return [text_of(message.content) for message in session.messages]


async def exchange(manager: SessionManager, question: str, answer: str) -> None:
    async with manager.turn(KEY) as session:
        clock = FakeClock()
        lines = (Message("user", question, clock()), Message("assistant", answer, clock()), TurnEnd(question, "done"))
        await manager.append(session, *lines, durable=True)


def test_the_public_names_are_these() -> None:
    """What `from nanochat import` offers is a promise."""
    assert nanochat.__all__ == ["Session", "SessionKey", "SessionManager", "__version__"]
    assert all(hasattr(nanochat, name) for name in nanochat.__all__)


async def test_the_readme_example(tmp_path: Path) -> None:
    """Add, save, ask for the history; a second manager sees the same."""
    manager = SessionManager(tmp_path / "sessions")
    session = await manager.get_or_create("cli:default")
    session.add_message("user", "hi", weather="fine")
    await manager.save(session)
    assert session.get_history(max_messages=120, max_tokens=0) == [{"role": "user", "content": "hi"}]
    other = SessionManager(tmp_path / "sessions")
    again = await other.get_or_create("cli:default")
    assert said(again) == ["hi"]
    assert again.messages[0].extra == {"weather": "fine"}
    await manager.close()
    await other.close()


async def test_a_new_session_touches_nothing_on_disk(tmp_path: Path) -> None:
    """Looking is not writing."""
    manager = SessionManager(tmp_path / "sessions")
    await manager.get_or_create(KEY)
    assert os.listdir(tmp_path) == []
    await manager.close()


@pytest.mark.parametrize("text", ["", "default", "../x", "cli:", ":x", "cli: x", "cli:\n", "CLI:x", "cli:" + "x" * 500])
async def test_a_bad_key_is_refused(text: str) -> None:
    """Nothing that is not `channel:chat_id` reaches the disk."""
    with pytest.raises(KeyFormError):
        await SessionManager(MemoryStore()).get_or_create(text)


async def test_two_callers_hold_one_session() -> None:
    """Even one that the cache has let go of, as long as somebody uses it."""
    manager = SessionManager(MemoryStore())
    session = await manager.get_or_create(KEY)
    for i in range(MAX_CACHED + 10):
        await manager.get_or_create(f"cli:other{i}")
    assert await manager.get_or_create(KEY) is session


async def test_what_others_append_is_taken_in() -> None:
    """Two managers over one store see each other's lines, in the file's order."""
    store = MemoryStore()
    one, two = SessionManager(store), SessionManager(store)
    await exchange(one, "a", "1")
    await exchange(two, "b", "2")
    await exchange(one, "c", "3")
    assert said(await one.get_or_create(KEY)) == ["a", "1", "b", "2", "c", "3"]
    assert said(await two.get_or_create(KEY)) == ["a", "1", "b", "2", "c", "3"]


async def test_a_listener_hears_the_others_only() -> None:
    """Who watches a session is told what it did not write itself."""
    store = MemoryStore()
    one, two = SessionManager(store), SessionManager(store)
    heard: list[Record] = []
    came = asyncio.Event()

    def listen(records: Sequence[Record]) -> None:
        heard.extend(records)
        came.set()

    watching = asyncio.create_task(one.follow(KEY, listen))
    await asyncio.sleep(0)
    await exchange(one, "mine", "1")
    await exchange(two, "theirs", "2")
    await asyncio.wait_for(came.wait(), 10)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert [text_of(r.content) for r in heard if isinstance(r, Message)] == ["theirs", "2"]


async def test_undo_steps_over_deliveries_and_restates_them() -> None:
    """A reminder that came after the exchange is still there when the exchange is gone."""
    manager = SessionManager(MemoryStore())
    await exchange(manager, "a", "1")
    async with manager.turn(KEY) as session:
        reminder = Message("user", "<delivered>call Olga</delivered>", FakeClock()(), delivered=True)
        await manager.append(session, reminder, durable=True)
        undone = await manager.undo(session)
        assert undone is not None
        assert undone.content == "a"
        assert said(session) == ["<delivered>call Olga</delivered>"]


async def test_undo_restates_a_compaction_whose_boundary_holds() -> None:
    """Taking back an exchange does not bring back what was summarised before it."""
    manager = SessionManager(MemoryStore())
    for question in ("a", "b", "c"):
        await exchange(manager, question, question * 2)
    async with manager.turn(KEY) as session:
        keep = next(m for m in session.messages if m.content == "b")
        await manager.append(session, Compact("they said a", keep.start, keep.n, "test", "asked", 2), durable=True)
        assert said(session) == ["b", "bb", "c", "cc"]
        await manager.undo(session)
        assert said(session) == ["b", "bb"]
        assert "they said a" in str(session.get_history())


async def test_undo_of_a_reset_brings_pins_back() -> None:
    """The old conversation returns as it was."""
    manager = SessionManager(MemoryStore())
    await exchange(manager, "a", "1")
    async with manager.turn(KEY) as session:
        await manager.append(session, SetValue("pin", "keep me"), durable=True)
        await manager.append(session, Reset(), durable=True)
        assert session.pins == []
        await manager.undo(session)
        assert [text for _, text in session.pins] == ["keep me"]
        assert said(session) == ["a", "1"]


async def test_save_waits_for_a_running_turn() -> None:
    """A line is never put into the middle of somebody's turn."""
    store = MemoryStore()
    one, two = SessionManager(store), SessionManager(store)
    async with one.turn(KEY) as session:
        other = await two.get_or_create(KEY)
        other.add_message("user", "from outside")
        saving = asyncio.create_task(two.save(other))
        await manager_append(one, session)
        assert not saving.done()
    await saving
    assert said(await one.get_or_create(KEY)) == ["inside", "from outside"]


async def manager_append(manager: SessionManager, session: Session) -> None:
    session.add_message("user", "inside")
    await manager.save(session)


async def test_what_could_not_be_written_is_kept(tmp_path: Path) -> None:
    """A refused save loses nothing: the same call works once the reason is gone."""
    manager = SessionManager(tmp_path / "sessions")
    session = await manager.get_or_create(KEY)
    session.add_message("user", float("nan"))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(NotWritten):
        await manager.save(session)
    assert len(session.unsaved) == 1
    session.unsaved.clear()
    session.add_message("user", "fine")
    await manager.save(session)
    assert said(session) == ["fine"]
    await manager.close()


@pytest.mark.parametrize("size", [pytest.param(100, id="inline"), pytest.param(100_000, id="blob")])
async def test_a_picture_goes_out_as_it_came_in(tmp_path: Path, size: int) -> None:
    """Small ones stay in the line, large ones beside the files; the request is the same."""
    manager = SessionManager(tmp_path / "sessions")
    picture = Attachment("image", "image/png", b"\x89PNG" + bytes(size))
    content = await attachments.to_content(manager.store, (Text("look"), picture))
    [message] = await attachments.with_bytes(manager.store, [{"role": "user", "content": content}])
    blocks = message["content"]
    assert isinstance(blocks, list)
    assert blocks[0] == {"type": "text", "text": "look"}
    assert blocks[1]["source"]["type"] == "base64"
    await manager.close()


async def test_two_saves_at_once_write_once() -> None:
    """Every message is taken by one of them."""
    manager = SessionManager(MemoryStore())
    async with manager.turn(KEY) as session:
        session.add_message("user", "hi")
        await asyncio.gather(manager.save(session), manager.save(session))
        assert said(session) == ["hi"]


async def test_a_cancelled_save_has_written_or_has_not(tmp_path: Path) -> None:
    """A write that is under way is waited for; saving again does not double it."""
    manager = SessionManager(tmp_path / "sessions")
    session = await manager.get_or_create(KEY)
    session.add_message("user", "once")
    async with manager.turn(KEY):
        saving = asyncio.create_task(manager.save(session))
        while not session._io.locked():  # noqa: ASYNC110 - it is about to write, and there is nothing else to wait for
            await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        await manager.save(session)
    assert said(session) == ["once"]
    await manager.close()


async def test_the_whole_conversation_reaches_behind_compactions() -> None:
    """What is no longer sent is still there to be read."""
    manager = SessionManager(MemoryStore())
    for i in range(6):
        await exchange(manager, f"q{i}", f"a{i}")
        async with manager.turn(KEY) as session:
            keep = session.messages[-2]
            await manager.append(session, Compact("gist", keep.start, keep.n, "test", "asked", 1), durable=True)
    assert len(said(session)) == 2
    whole = [text_of(r.content) for r in await manager.whole(session) if isinstance(r, Message)]
    assert whole == [text for i in range(6) for text in (f"q{i}", f"a{i}")]
