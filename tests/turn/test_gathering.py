"""What is new in conversations is read from their files' ends: all of it, once, and nothing that was taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from nanochat.history import digest
from nanochat.keys import SessionKey
from nanochat.records import Message, Reset, text_of
from nanochat.sessions import SessionManager
from nanochat.store import FileStore
from nanochat.turn.gathering import MAX_SOURCES, READ_BYTES, Gathered, gather
from tests.fakes.house import FakeClock

CLOCK = FakeClock()
KEY = SessionKey("cli", "default")


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[SessionManager]:
    made = SessionManager(FileStore(tmp_path / "sessions"), clock=CLOCK)
    yield made
    await made.close()


async def write(manager: SessionManager, key: SessionKey, *texts: str, **fields: object) -> None:
    async with manager.turn(key) as session:
        lines = [Message("user", text, CLOCK(), **fields) for text in texts]  # type: ignore[arg-type]  # a line's own
        await manager.append(session, *lines, durable=False)


async def look(
    manager: SessionManager, *globs: str, marks: Mapping[SessionKey, int] | None = None, hours: float = 0
) -> Gathered:
    async def watermark(key: SessionKey) -> int | None:
        return (marks or {}).get(key)

    return await gather(manager.store, globs or ("*:*",), watermark, CLOCK() + timedelta(hours=hours))


def told(found: Gathered) -> dict[str, list[str]]:
    return {str(source.key): [text_of(line.content) for line in source.messages] for source in found.sources}


async def test_only_what_is_named_is_read(manager: SessionManager) -> None:
    """Keys and globs, never a job's own session, and no delivered lines."""
    for key in ("cli:default", "cli:other", "telegram:7", "cron:morning"):
        await write(manager, SessionKey.parse(key), key)
    await write(manager, KEY, "a summary", delivered=True)
    assert told(await look(manager, "telegram:*", "cli:default", "cron:*")) == {
        "cli:default": ["cli:default"],
        "telegram:7": ["telegram:7"],
    }


async def test_across_resets_and_not_what_was_undone(manager: SessionManager) -> None:
    """A reset hides nothing from a summary; an undo does."""
    await write(manager, KEY, "one")
    async with manager.turn(KEY) as session:
        await manager.append(session, Reset(), durable=True)
    await write(manager, KEY, "two")
    async with manager.turn(KEY) as session:
        await manager.undo(session)
    await write(manager, KEY, "three")
    assert told(await look(manager)) == {"cli:default": ["one", "three"]}


async def test_each_line_once(manager: SessionManager) -> None:
    """Above the mark only, and nothing twice."""
    marks: dict[SessionKey, int] = {}
    seen: list[str] = []
    for round_number in range(5):
        texts = [f"{round_number}.{number}" for number in range(round_number)]
        if texts:
            await write(manager, KEY, *texts)
        found = await look(manager, marks=marks)
        for source in found.sources:
            seen += [text_of(line.content) for line in source.messages]
            marks |= digest.marks(digest.ask([source], ""))
    assert seen == [f"{a}.{b}" for a in range(5) for b in range(a)]


async def test_a_new_file_after_an_archived_one_is_read_from_its_beginning(manager: SessionManager) -> None:
    """Its numbers begin anew, and the mark of the old one hides nothing."""
    await write(manager, KEY, "new one")
    assert told(await look(manager, marks={KEY: 40})) == {"cli:default": ["new one"]}


async def test_a_day_back_at_first(manager: SessionManager) -> None:
    """Of a job that has never looked."""
    await write(manager, KEY, "one")
    assert told(await look(manager, hours=23)) == {"cli:default": ["one"]}
    assert told(await look(manager, hours=25 * 400)) == {}


async def test_a_huge_conversation_is_read_from_its_end(manager: SessionManager) -> None:
    """As much as may be, and it is told that there is more."""
    word = "x" * 100_000
    await write(manager, KEY, *[f"{number} {word}" for number in range(READ_BYTES // 100_000 + 10)])
    [source] = (await look(manager)).sources
    assert source.missing
    assert text_of(source.messages[-1].content).startswith(f"{READ_BYTES // 100_000 + 9} ")
    asked = digest.ask([source], "")
    assert len(asked) < digest.QUOTE_CHARS + 2000
    assert "older lines are left out here" in asked


async def test_too_many_conversations_are_named(manager: SessionManager) -> None:
    """The newest are read, the others counted."""
    for number in range(MAX_SOURCES + 3):
        await write(manager, SessionKey("cli", str(number)), "hi")
    found = await look(manager)
    assert len(found.sources) == MAX_SOURCES
    assert found.missing.startswith("3 more conversations")
