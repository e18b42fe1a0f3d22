"""`nanochat import nanobot`: its sessions become ours, and stay as they are."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.cli.from_nanobot import Conversion, opened_file
from nanochat.errors import NotWritten
from nanochat.keys import SessionKey
from nanochat.records import Compact, Message, Record, Snapshot
from nanochat.sessions import SessionManager
from nanochat.store import Disk, FileStore
from nanochat.store.names import nanobot_stems
from nanochat.store.placing import place
from tests.cli.conftest import Nanochat
from tests.fakes.disk import FaultyDisk

KEY = SessionKey("telegram", "123")
WORKSPACE = "0123456789abcdef0123456789abcdef"

Row = dict[str, Any]  # Any: whatever nanobot keeps


def header(key: str = str(KEY), **more: Any) -> Row:
    return {
        "_type": "metadata",
        "key": key,
        "created_at": "2026-05-01T10:00:00.000005",
        "updated_at": "2026-05-02T10:00:00",
        "metadata": {"title": "Tides"},
        "last_consolidated": 0,
        **more,
    }


def said(content: object, role: str = "user", **more: Any) -> Row:
    return {"role": role, "content": content, "timestamp": "2026-05-01T10:00:01", **more}


CALL = {"id": "call_1|fc", "type": "function", "function": {"name": "web_search", "arguments": '{"q": "tides"}'}}
TALK = [
    said("when is high tide?"),
    said(None, "assistant", tool_calls=[CALL], reasoning_content="hm"),
    said("at six", "tool", tool_call_id="call_1|fc", name="web_search"),
    said("At six.", "assistant", latency_ms=120),
    said([{"type": "text", "text": "thanks"}, "and bye"]),
]


def write(path: Path, *rows: Row | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    path.write_bytes(b"".join(lines))
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "nanobot" / "workspace"


@pytest.fixture
def theirs(workspace: Path) -> Path:
    """One session of nanobot's, where its older versions keep it."""
    return write(workspace / "sessions" / "telegram_123.jsonl", header(), *TALK)


def records(tmp_path: Path, key: SessionKey = KEY) -> Sequence[Record]:
    """The live records of a session of ours."""

    async def read() -> Sequence[Record]:
        store = FileStore(tmp_path / "data" / "sessions")
        view = await store.read(key, exchanges=1000, limit_bytes=1 << 30)
        assert await store.check(key) == ()
        await store.close()
        assert view is not None
        assert view.complete
        return view.records

    return asyncio.run(read())


def history(sessions: Path, key: SessionKey = KEY) -> list[object]:
    """What a model is sent of a session."""

    async def read() -> list[object]:
        manager = SessionManager(FileStore(sessions))
        session = await manager.get_or_create(key)
        found: list[object] = list(session.get_history())
        await manager.close()
        return found

    return asyncio.run(read())


def test_it_becomes_a_file_of_ours(nanochat: Nanochat, tmp_path: Path, theirs: Path) -> None:
    """Under our name, with its times, what nanobot kept of it, and its calls as content blocks; the original is untouched."""
    before, changed_at = theirs.read_bytes(), theirs.stat().st_mtime_ns
    ran = nanochat("import", "nanobot", str(tmp_path / "nanobot"))
    assert (ran.code, ran.out) == (0, "telegram:123  imported, 5 messages\n")
    assert ran.err == "nanochat: 1 session imported (5 messages), 0 skipped, 0 failed\n"
    assert (theirs.read_bytes(), theirs.stat().st_mtime_ns) == (before, changed_at)
    ours = tmp_path / "data" / "sessions" / "telegram+123.jsonl"
    assert ours.stat().st_mode & 0o777 == 0o600
    assert datetime.fromtimestamp(ours.stat().st_mtime) == datetime.fromisoformat("2026-05-02T10:00:00")
    opening, *messages, closing = records(tmp_path)
    assert isinstance(opening, Snapshot)
    assert isinstance(closing, Snapshot)
    assert opening.state.created_at == datetime.fromisoformat("2026-05-01T10:00:00.000005").astimezone()
    assert closing.state.updated_at == datetime.fromisoformat("2026-05-02T10:00:00").astimezone()
    assert closing.state.other == {"title": "Tides"}
    told = [message for message in messages if isinstance(message, Message)]
    assert [message.n for message in told] == [0, 1, 2, 3, 4]
    assert {message.timestamp for message in told} == {datetime.fromisoformat("2026-05-01T10:00:01").astimezone()}
    assert [(message.role, message.content) for message in told] == [
        ("user", "when is high tide?"),
        ("assistant", [{"type": "tool_use", "id": "call_1|fc", "name": "web_search", "input": {"q": "tides"}}]),
        ("user", [{"type": "tool_result", "tool_use_id": "call_1|fc", "content": "at six"}]),
        ("assistant", "At six."),
        ("user", [{"type": "text", "text": "thanks"}, {"type": "text", "text": "and bye"}]),
    ]
    assert told[3].extra == {"latency_ms": 120}
    assert [path.name for path in ours.parent.iterdir()] == [ours.name]


PLACES = {
    "a workspace": ("workspace", "workspace/sessions/telegram_123.jsonl"),
    "what holds one": ("", "workspace/sessions/telegram_123.jsonl"),
    "its sessions": ("workspace/sessions", "workspace/sessions/telegram_123.jsonl"),
    "the present place": ("", f"sessions/{WORKSPACE}/{nanobot_stems(KEY)[0]}.jsonl"),
    "a namespace": (f"sessions/{WORKSPACE}", f"sessions/{WORKSPACE}/{nanobot_stems(KEY)[0]}.jsonl"),
}


@pytest.mark.parametrize(("directory", "place"), PLACES.values(), ids=PLACES.keys())
def test_where_they_lie(nanochat: Nanochat, tmp_path: Path, directory: str, place: str) -> None:
    """Wherever nanobot keeps them, and whichever of these places is named."""
    write(tmp_path / "nanobot" / place, header(), *TALK)
    ran = nanochat("import", "nanobot", str(tmp_path / "nanobot" / directory), "--json")
    assert ran.code == 0
    row = json.loads(ran.out)
    assert (row["key"], row["state"], row["messages"]) == ("telegram:123", "imported", 5)


@pytest.mark.parametrize(
    ("name", "key", "ours"),
    [
        ("x", "telegram:-100:topic:7", "telegram:-100:7"),
        ("x", "heartbeat", "nanobot:heartbeat"),
        ("x", "cli:direct", "cli:direct"),
        ("x", "Slack:C1", "nanobot:Slack:C1"),
        ("telegram_9", "", "telegram:9"),
        (nanobot_stems(SessionKey("web", "ä"))[0], "", "web:ä"),
    ],
    ids=["a topic", "no channel", "plain", "no channel of ours", "by its older name", "by its present name"],
)
def test_whose_it_is(nanochat: Nanochat, workspace: Path, name: str, key: str, ours: str) -> None:
    """A key stays the same, except where we write it otherwise, or it can be none of ours."""
    write(workspace / "sessions" / f"{name}.jsonl", *([header(key)] if key else []), said("hi"))
    assert json.loads(nanochat("import", "nanobot", str(workspace), "--json").out)["key"] == ours


def test_its_cursor(nanochat: Nanochat, tmp_path: Path, workspace: Path) -> None:
    """What nanobot had summed up is sent as its summary; all messages are in the file."""
    metadata = {"_last_summary": {"text": "we spoke of boats"}}
    rows = [said(f"m{i}", "assistant" if i % 2 else "user") for i in range(6)]
    write(workspace / "sessions" / "a.jsonl", header(metadata=metadata, last_consolidated=4), *rows)
    nanochat("import", "nanobot", str(workspace))
    found = records(tmp_path)
    assert [record.content for record in found if isinstance(record, Message)] == ["m4", "m5"]
    (event,) = [r.event for r in found if isinstance(r, Snapshot) and isinstance(r.event, Compact)]
    assert (event.summary, event.messages, event.by) == ("we spoke of boats", 4, "nanobot")
    assert "we spoke of boats" in str(history(tmp_path / "data" / "sessions")[0])
    assert (tmp_path / "data" / "sessions" / "telegram+123.jsonl").read_text().count('"role"') == 6


@pytest.mark.parametrize(
    ("cursor", "left"), [(0, 4), (2, 2), (4, 0), (5, 4), (-1, 4)], ids=["none", "some", "all", "beyond", "negative"]
)
def test_a_cursor_without_a_summary(
    nanochat: Nanochat, tmp_path: Path, workspace: Path, cursor: int, left: int
) -> None:
    """It is kept to, with a word in place of what is not sent; one that cannot be hides nothing."""
    write(workspace / "sessions" / "a.jsonl", header(last_consolidated=cursor), *(said(f"m{i}") for i in range(4)))
    nanochat("import", "nanobot", str(workspace))
    found = records(tmp_path)
    assert len([record for record in found if isinstance(record, Message)]) == left
    told = "taken into nanobot's memory" in str(history(tmp_path / "data" / "sessions"))
    assert told == (left < 4)


def test_a_cursor_behind_damage(nanochat: Nanochat, tmp_path: Path, workspace: Path) -> None:
    """nanobot counted the line that cannot be read now."""
    rows: list[Row | bytes] = [said("m0"), b"{torn\n", said("m2"), said("m3")]
    write(workspace / "sessions" / "a.jsonl", header(last_consolidated=2), *rows)
    assert nanochat("import", "nanobot", str(workspace)).code == 0
    assert [record.content for record in records(tmp_path) if isinstance(record, Message)] == ["m2", "m3"]


DAMAGE = {
    "not JSON": (b'{"role":"user","con\n', "is not JSON"),
    "not UTF-8": (b'{"role":"user","content":"\xff"}\n', "is not UTF-8"),
    "no role": (b'{"content":"x"}\n', "is no message"),
    "no content": (b'{"role":"assistant"}\n', "has no content"),
    "a list": (b"[1]\n", "is no message"),
    "too long": (b"x" * (9 << 20) + b"\n", "is longer than a line may be"),
    "its end": (b'{"role":"user"', "is not JSON"),
}


@pytest.mark.parametrize(("line", "why"), DAMAGE.values(), ids=DAMAGE.keys())
def test_lines_that_cannot_be_read(nanochat: Nanochat, tmp_path: Path, workspace: Path, line: bytes, why: str) -> None:
    """They are counted and named, and the rest is brought over."""
    rows: list[Row | bytes] = [header(), said("a"), said("b")]
    number = 3 if line.endswith(b"\n") else 4
    rows.insert(number - 1, line)
    path = write(workspace / "sessions" / "a.jsonl", *rows)
    ran = nanochat("import", "nanobot", str(workspace))
    assert ran.code == 0
    assert ran.out == f"telegram:123  imported, 2 messages; 1 line of {path} left out:\n    line {number} {why}\n"
    assert [record.content for record in records(tmp_path) if isinstance(record, Message)] == ["a", "b"]


def test_what_is_no_part_of_the_conversation(nanochat: Nanochat, tmp_path: Path, workspace: Path) -> None:
    """A provider's state is left behind without a word; a later header counts; a last line may lack its newline."""
    rows: list[Row | bytes] = [
        header(),
        {"_type": "provider_state", "state": {}},
        said("a"),
        b"\n",
        header(last_consolidated=1),
    ]
    write(workspace / "sessions" / "a.jsonl", *rows, json.dumps(said("b")).encode())
    ran = nanochat("import", "nanobot", str(workspace))
    assert ran.out == "telegram:123  imported, 2 messages\n"
    assert [record.content for record in records(tmp_path) if isinstance(record, Message)] == ["b"]


def test_a_second_time(nanochat: Nanochat, tmp_path: Path, theirs: Path) -> None:
    """Nothing is brought over again, nor changed; that nanobot went on meanwhile is said."""
    nanochat("import", "nanobot", str(tmp_path / "nanobot"))
    ours = tmp_path / "data" / "sessions" / "telegram+123.jsonl"
    before = ours.read_bytes()
    ran = nanochat("import", "nanobot", str(tmp_path / "nanobot"))
    assert (ran.code, ran.out) == (0, "telegram:123  skipped: it was imported before\n")
    write(theirs, header(updated_at="2026-06-01T10:00:00.123"), *TALK)
    assert nanochat("import", "nanobot", str(tmp_path / "nanobot")).out.endswith("it was imported before\n")
    with theirs.open("ab") as file:
        file.write(json.dumps(said("more")).encode() + b"\n")
    ran = nanochat("import", "nanobot", str(tmp_path / "nanobot"))
    assert ran.code == 0
    assert "has 1 more message now, which are not brought over; nanochat sessions archive telegram:123 first" in ran.out
    assert ours.read_bytes() == before


def test_a_session_that_is_here(nanochat: Nanochat, tmp_path: Path, theirs: Path) -> None:
    """Ours is left alone."""
    nanochat("chat", "-s", "telegram:123", "-m", "hi")
    ours = tmp_path / "data" / "sessions" / "telegram+123.jsonl"
    before = ours.read_bytes()
    ran = nanochat("import", "nanobot", str(tmp_path / "nanobot"))
    assert (ran.code, ours.read_bytes()) == (0, before)
    assert ran.out == "telegram:123  skipped: this session is here already; nothing is overwritten\n"


def test_two_files_of_one_session(nanochat: Nanochat, tmp_path: Path, theirs: Path) -> None:
    """The newer one is taken, the other named."""
    newer = write(tmp_path / "nanobot" / "sessions" / WORKSPACE / "b.jsonl", header(), said("newer"))
    os.utime(theirs, (1, 1))
    ran = nanochat("import", "nanobot", str(tmp_path / "nanobot"))
    assert ran.code == 0
    assert f"telegram:123  skipped: {newer} is of the same session, and newer" in ran.out
    assert [record.content for record in records(tmp_path) if isinstance(record, Message)] == ["newer"]


def test_files_of_other_kinds(nanochat: Nanochat, tmp_path: Path) -> None:
    """Ours, and what is no session, are left alone with a word; a link to nowhere fails, and the rest goes on."""
    nanochat("-m", "hi")
    sessions = tmp_path / "data" / "sessions"
    theirs = write(sessions / f"{nanobot_stems(KEY)[0]}.jsonl", header(), *TALK)
    write(sessions / "history.jsonl", b'{"cursor":1}\n')
    (sessions / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    before = {path: path.read_bytes() for path in sessions.iterdir() if path.is_file()}
    ran = nanochat("import", "nanobot", str(sessions))
    assert ran.code == 1
    assert "cli:default  skipped: it is a file of nanochat's own" in ran.out
    assert f"{sessions / 'history.jsonl'}  skipped: it is no session of nanobot's" in ran.out
    assert "telegram:123  skipped: it is here already, and read as it is" in ran.out
    assert f"{sessions / 'gone.jsonl'}  failed: {sessions / 'gone.jsonl'}: cannot be read: no such file" in ran.out
    assert ran.err == "nanochat: 0 sessions imported (0 messages), 3 skipped, 1 failed\n"
    assert {path: path.read_bytes() for path in sessions.iterdir() if path.is_file()} == before
    assert theirs in before


def test_a_dry_run(nanochat: Nanochat, tmp_path: Path, theirs: Path) -> None:
    """It says the same, and writes nothing."""
    ran = nanochat("import", "nanobot", str(tmp_path / "nanobot"), "--dry-run")
    assert (ran.code, ran.out) == (0, "telegram:123  would be imported, 5 messages\n")
    assert ran.err.startswith("nanochat: 1 session would be imported")
    assert not (tmp_path / "data").exists()


def test_what_it_remembers(nanochat: Nanochat, tmp_path: Path, workspace: Path) -> None:
    """Its memory becomes notes of the memory tool's, once, unless it is too long, empty or no text."""
    write(workspace / "memory" / "MEMORY.md", b"# facts\n")
    write(workspace / "memory" / "HISTORY.md", b"x" * 70_000)
    ran = nanochat("import", "nanobot", str(workspace))
    assert ran.code == 0
    assert "memory/nanobot-MEMORY.md  imported\n" in ran.out
    assert "memory/nanobot-HISTORY.md  skipped: 70,000 bytes are more than a note may have (65,536)" in ran.out
    note = tmp_path / "data" / "memory" / "nanobot-MEMORY.md"
    assert (note.read_bytes(), note.stat().st_mode & 0o777) == (b"# facts\n", 0o600)
    write(workspace / "memory" / "HISTORY.md", b"\xff")
    again = nanochat("import", "nanobot", str(workspace), "--json")
    assert [json.loads(row)["why"] for row in again.out.splitlines()] == [
        "it was imported before",
        "it is not UTF-8 text",
    ]
    note.write_text("mine")
    assert "another nanobot-MEMORY.md is here" in nanochat("import", "nanobot", str(workspace)).out
    assert note.read_text() == "mine"


def test_nothing_to_import(nanochat: Nanochat, tmp_path: Path) -> None:
    """An empty directory is 1, one that is not there is wrong use."""
    ran = nanochat("import", "nanobot", str(tmp_path))
    assert (ran.code, ran.out) == (1, "")
    assert "nanobot has left no sessions in" in ran.err
    assert nanochat("import", "nanobot", str(tmp_path / "nope")).code == 2


def test_a_data_directory_that_cannot_be_written(nanochat: Nanochat, tmp_path: Path, theirs: Path) -> None:
    """It is said of each file, and exits 1."""
    (tmp_path / "data").write_text("a file")
    ran = nanochat("import", "nanobot", str(tmp_path / "nanobot"), "--json")
    assert ran.code == 1
    row = json.loads(ran.out)
    assert row["state"] == "failed"
    assert "nothing was written" in row["why"]


# --- a whole file, or none ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fsync"], ids=["no space", "a device that fails"])
def test_a_file_that_cannot_be_written(tmp_path: Path, call: str) -> None:
    """Nothing is left of it."""
    disk = FaultyDisk()
    (tmp_path / "sessions").mkdir()
    disk.fail(call, 28)
    with pytest.raises(NotWritten):
        place(disk.disk, tmp_path / "sessions" / "cli+a.jsonl", [b"a\n"])
    assert list((tmp_path / "sessions").iterdir()) == []


def test_what_a_killed_import_left(nanochat: Nanochat, tmp_path: Path, theirs: Path) -> None:
    """It is removed by the next one, unless another is at it just now."""
    sessions = tmp_path / "data" / "sessions"
    left = write(sessions / ".telegram+1.0011.part", b"half")
    at_it = write(sessions / ".telegram+2.0022.part", b"half")
    with at_it.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        nanochat("import", "nanobot", str(tmp_path / "nanobot"))
        assert (left.exists(), at_it.exists()) == (False, True)
        assert len(nanochat("sessions", "--json").out.splitlines()) == 1


def test_one_that_begins_meanwhile(tmp_path: Path, theirs: Path) -> None:
    """A session that somebody begins while it is imported is theirs."""
    path = tmp_path / "data" / "sessions" / "telegram+123.jsonl"
    with opened_file(theirs) as file:
        conversion = Conversion(file, KEY)

        def lines() -> Sequence[bytes]:
            path.write_bytes(b"begun\n")
            return list(conversion.lines())

        path.parent.mkdir(parents=True)
        assert not place(Disk(), path, lines())
    assert path.read_bytes() == b"begun\n"
    assert list(path.parent.iterdir()) == [path]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
ROWS = st.lists(
    st.one_of(
        st.builds(said, TEXTS),
        st.builds(said, TEXTS, st.just("assistant")),
        st.builds(lambda text: said(text, "assistant", tool_calls=[CALL]), TEXTS),
        st.builds(lambda text: said(text, "tool", tool_call_id="call_1|fc", name="f"), TEXTS),
        st.builds(lambda text: said([{"type": "text", "text": text}]), TEXTS),
        st.builds(lambda: said([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])),
        st.builds(lambda text: said(text, _command=True), TEXTS),
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_it_says_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    """A model is sent the same bytes, whether nanobot's file is read in its place or was imported."""
    directory = tmp_path_factory.mktemp("both")
    theirs = write(directory / "theirs" / f"{nanobot_stems(KEY)[0]}.jsonl", header(), *rows)
    with opened_file(theirs) as file:
        (directory / "ours").mkdir()
        assert place(Disk(), directory / "ours" / "telegram+123.jsonl", Conversion(file, KEY).lines())
    assert history(directory / "ours") == history(directory / "theirs")
