"""The tools that the model can have run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanochat.errors import ToolError
from nanochat.events import Sender
from nanochat.keys import SessionKey
from nanochat.ports import ToolContext
from nanochat.records import Json, Message, Reset
from nanochat.search import SearchIndex
from nanochat.sessions import SessionManager
from nanochat.store import FileStore
from nanochat.tools import MemoryTool, SessionsTool
from nanochat.tools.memory import API_SPEC, MAX_FILE_BYTES, PLAIN_SPEC
from nanochat.tools.sessions import MAX_HITS
from tests.fakes.house import OWNER, FakeClock

KEY = SessionKey("cli", "a")
GUEST = Sender("telegram:7", "eve", owner=False)


def context(sender: Sender = OWNER) -> ToolContext:
    return ToolContext(KEY, sender, "toolu_1", FakeClock()())


@pytest.fixture
def memory(tmp_path: Path) -> MemoryTool:
    return MemoryTool(tmp_path / "memory", PLAIN_SPEC)


async def test_memory_keeps_what_it_is_told(memory: MemoryTool) -> None:
    """Create, view, change, rename, delete: each tells what it did."""

    async def do(**args: Json) -> str:
        return await memory.run(args, context())

    assert "Files and folders" in await do(command="view", path="/memories")
    await do(command="create", path="/memories/people/olga.md", file_text="likes tea\n")
    assert "likes tea" in await do(command="view", path="/memories/people/olga.md")
    assert "olga.md" in await do(command="view", path="/memories")
    await do(command="str_replace", path="/memories/people/olga.md", old_str="tea", new_str="coffee")
    await do(command="insert", path="/memories/people/olga.md", insert_line=0, insert_text="Olga:")
    assert await do(command="view", path="/memories/people/olga.md", view_range=[1, 1]) == (
        "The content of /memories/people/olga.md with line numbers:\n     1\tOlga:"
    )
    await do(command="rename", old_path="/memories/people/olga.md", new_path="/memories/o.md")
    await do(command="delete", path="/memories/people")
    assert "coffee" in await do(command="view", path="/memories/o.md")
    await do(command="delete", path="/memories/o.md")
    with pytest.raises(ToolError, match="does not exist"):
        await do(command="view", path="/memories/o.md")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/memories/../x",
        "../x",
        "memories/x",
        "",
        "/memories/.hidden",
        "/memories/link/x",
        "/memories/link",
    ],
)
async def test_memory_stays_in_its_directory(memory: MemoryTool, tmp_path: Path, path: str) -> None:
    """Neither dots nor links lead out."""
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "link").symlink_to("/etc")
    with pytest.raises(ToolError):
        await memory.run({"command": "view", "path": path}, context())


@pytest.mark.parametrize(
    ("args", "why"),
    [
        pytest.param({"command": "sing"}, "unknown command", id="command"),
        pytest.param({"command": "create", "path": "/memories/a"}, "file_text is missing", id="argument"),
        pytest.param(
            {"command": "create", "path": "/memories/a", "file_text": "x" * (MAX_FILE_BYTES + 1)},
            "more than",
            id="size",
        ),
        pytest.param({"command": "create", "path": "/memories/b", "file_text": "\ud800"}, "UTF-8", id="surrogate"),
        pytest.param({"command": "delete", "path": "/memories"}, "cannot be deleted", id="root"),
    ],
)
async def test_memory_says_what_is_wrong(memory: MemoryTool, args: dict[str, Json], why: str) -> None:
    """The model can mend its call by the answer."""
    with pytest.raises(ToolError, match=why):
        await memory.run(args, context())


async def test_memory_is_closed_to_guests(memory: MemoryTool) -> None:
    """Notes about one person are not read to another."""
    with pytest.raises(ToolError, match="owner"):
        await memory.run({"command": "view", "path": "/memories"}, context(GUEST))


@pytest.fixture
async def sessions(tmp_path: Path) -> AsyncIterator[SessionsTool]:
    manager = SessionManager(FileStore(tmp_path / "sessions"))
    search = SearchIndex(tmp_path / "sessions", tmp_path / "index.db")
    for key, text in (("cli:a", "high tide at six"), ("telegram:1", "the tide is low"), ("telegram:2", "nothing here")):
        async with manager.turn(SessionKey.parse(key)) as session:
            await manager.append(session, Message("user", text, FakeClock()()), durable=True)
    yield SessionsTool(manager.store, search)
    await search.close()
    await manager.close()


async def test_sessions_are_listed_searched_and_read(sessions: SessionsTool) -> None:
    """The owner finds what was said anywhere, with where and when."""
    assert "telegram:2" in await sessions.run({"action": "list"}, context())
    found = await sessions.run({"action": "search", "query": "TIDE"}, context())
    assert "cli:a" in found
    assert "telegram:1" in found
    assert "telegram:2" not in found
    assert "low" in await sessions.run({"action": "read", "key": "telegram:1"}, context())
    assert "nothing found" in await sessions.run({"action": "search", "query": "whale"}, context())


async def test_a_guest_sees_the_own_session_only(sessions: SessionsTool) -> None:
    """Other people's conversations do not exist for a guest."""
    listed = await sessions.run({"action": "list"}, context(GUEST))
    assert "telegram" not in listed
    assert "telegram" not in await sessions.run({"action": "search", "query": "tide"}, context(GUEST))
    with pytest.raises(ToolError, match="owner"):
        await sessions.run({"action": "read", "key": "telegram:1"}, context(GUEST))


@pytest.mark.parametrize("chat", ["*", "[a-z]", "?"])
async def test_a_guests_key_is_no_pattern(sessions: SessionsTool, chat: str) -> None:
    """Whatever stands in a key, it is one key."""
    guest = ToolContext(SessionKey("cli", chat), GUEST, "toolu_1", FakeClock()())
    assert "nothing found" in await sessions.run({"action": "search", "query": "tide"}, guest)


async def test_a_search_tells_what_stands_around_the_words(tmp_path: Path) -> None:
    """Of a long message an excerpt; of many, that there are more; and what is older than a reset."""
    store = FileStore(tmp_path / "sessions")
    search = SearchIndex(tmp_path / "sessions", tmp_path / "index.db")
    tool = SessionsTool(store, search)
    long = Message("user", "before " * 200 + "the whale" + " after" * 200, FakeClock()())
    many = [Message("user", f"tide {n}", FakeClock()()) for n in range(MAX_HITS + 1)]
    await store.append(KEY, [long, Reset(), *many], known=0, durable=False, now=FakeClock()())
    found = await tool.run({"action": "search", "query": "whale"}, context())
    assert "before the whale after" in found
    assert len(found) < 300
    lines = (await tool.run({"action": "search", "query": "tide", "key": "cli:a"}, context())).splitlines()
    assert len(lines) == MAX_HITS + 1
    assert lines[-1] == "(more than 20 messages match; narrow the query)"
    await search.close()
    await store.close()


@pytest.mark.parametrize("args", [{"action": "sing"}, {"action": "search"}, {"action": "read", "key": "no key"}])
async def test_sessions_say_what_is_wrong(sessions: SessionsTool, args: dict[str, Json]) -> None:
    """The model can mend its call by the answer."""
    with pytest.raises(ToolError):
        await sessions.run(args, context())


@pytest.mark.parametrize("spec", [API_SPEC, PLAIN_SPEC, SessionsTool.spec], ids=["memory api", "memory", "sessions"])
def test_specs_are_json(spec: dict[str, Json]) -> None:
    """They go over the wire as they stand."""
    assert json.loads(json.dumps(spec)) == spec
