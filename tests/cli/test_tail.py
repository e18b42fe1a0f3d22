"""`nanochat tail`: the newest lines of conversations, and those to come."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanochat.keys import SessionKey
from nanochat.records import Compact, Event, Message, Reset, Rewind, SetValue, TurnEnd
from nanochat.store import FileStore
from tests.cli.conftest import Nanochat

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def at(minute: int, content: str | list[dict[str, object]], role: str = "user", **more: object) -> Message:
    return Message(role, content, NOW + timedelta(minutes=minute), **more)  # type: ignore[arg-type]  # JSON is JSON


async def _append(sessions: Path, key: str, drafts: Sequence[Message | Event]) -> tuple[int, ...]:
    store = FileStore(sessions)
    done = await store.append(SessionKey.parse(key), drafts, known=0, durable=False, now=NOW + timedelta(minutes=1))
    await store.close()
    return tuple(record.start for record in done.records)


def write(sessions: Path, key: str, *drafts: Message | Event) -> tuple[int, ...]:
    """Append to a session; the first byte of each line."""
    return asyncio.run(_append(sessions, key, drafts))


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sessions"


def rows(out: str) -> list[str]:
    """What is behind the time, without its columns."""
    return [re.sub(r" {2,}", " | ", row[21:].strip()) for row in out.splitlines()]


def test_sessions_are_interleaved(nanochat: Nanochat, sessions: Path) -> None:
    """By the time something was said, each session in its own order; in columns."""
    write(sessions, "cli:a", at(0, "one"), at(2, "three", "assistant"))
    write(sessions, "telegram:12345", at(1, "two"), at(3, "four"))
    ran = nanochat("tail", "-n", "2")
    assert (ran.code, ran.err) == (0, "")
    assert rows(ran.out) == [
        "cli:a | you | one",
        "telegram:12345 | you | two",
        "cli:a | nanochat | three",
        "telegram:12345 | you | four",
    ]
    words = ["one", "two", "three", "four"]
    assert len({row.rindex(word) for row, word in zip(ran.out.splitlines(), words, strict=True)}) == 1
    stamps = [datetime.fromisoformat(row[:19]) for row in ran.out.splitlines()]
    assert stamps[0].astimezone() == NOW


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["cli:a"], ["a"]),
        (["telegram:*"], ["t"]),
        (["cli:a", "tele*:1"], ["a", "t"]),
        (["cli:?"], ["a", "b"]),
        (["cli:a", "cli:a", "cli:*"], ["a", "b"]),
    ],
    ids=["a key", "a glob", "both", "one letter", "twice"],
)
def test_of_some_sessions(nanochat: Nanochat, sessions: Path, keys: list[str], told: list[str]) -> None:
    """Keys and globs, each session once."""
    for minute, (key, text) in enumerate([("cli:a", "a"), ("cli:b", "b"), ("telegram:1", "t")]):
        write(sessions, key, at(minute, text))
    assert [row.split()[-1] for row in nanochat("tail", "-n", "1", *keys).out.splitlines()] == told


def test_so_many_rows_of_each(nanochat: Nanochat, sessions: Path) -> None:
    """What is not shown, as the end of a turn, does not count."""
    for i in range(20):
        write(sessions, "cli:a", at(i, f"q{i}"), at(i, f"a{i}", "assistant"), TurnEnd("s", "done"))
    assert [row.split()[-1] for row in nanochat("tail", "-n", "3").out.splitlines()] == ["a18", "q19", "a19"]
    assert len(nanochat("tail").out.splitlines()) == 10
    assert nanochat("tail", "-n", "0").out == ""


def test_what_a_line_says(nanochat: Nanochat, sessions: Path) -> None:
    """Calls and changes in a few words, deliveries by their text, a short reply with its mark; results and thoughts never."""
    call: dict[str, object] = {
        "type": "tool_use",
        "id": "t1",
        "name": "sessions",
        "input": {"action": "search", "query": "tides"},
    }
    starts = write(
        sessions,
        "cli:a",
        at(0, "look\nfor tides"),
        at(0, [{"type": "thinking", "thinking": "hm", "signature": "x"}, call], "assistant"),
        at(0, [{"type": "tool_result", "tool_use_id": "t1", "content": "nothing"}]),
        at(0, "there are", "assistant", mark="stopped"),
        TurnEnd("s", "stopped"),
        at(1, '<delivered from="cron:x">\ndrink\n</delivered>', delivered=True),
        at(2, [{"type": "image", "source": {}}, {"type": "text", "text": "what is it"}]),
        at(2, [{"type": "image", "source": {}}]),
        SetValue("model", "m1"),
        SetValue("pin", "p"),
    )
    write(sessions, "cli:a", Compact("s", starts[3], 3, "test", "budget", 3), Reset())
    assert rows(nanochat("tail", "-n", "99").out) == [
        "cli:a | the session begins",
        "cli:a | you | look",
        "for tides",
        "cli:a | → sessions search tides",
        "cli:a | nanochat | there are […stopped]",
        "cli:a | the turn ended: stopped",
        "cli:a | delivered | drink",
        "cli:a | you | [picture] what is it",
        "cli:a | you | [picture]",
        "cli:a | the model is now m1",
        "cli:a | a text was pinned",
        "cli:a | 3 older messages are now sent as a summary",
        "cli:a | a new conversation begins",
    ]


def test_what_was_taken_back(nanochat: Nanochat, sessions: Path) -> None:
    """It is marked so."""
    write(sessions, "cli:a", at(0, "kept"))
    (start,) = write(sessions, "cli:a", at(1, "gone"))
    write(sessions, "cli:a", Rewind(start, 1, "undo"), at(2, "new"))
    assert rows(nanochat("tail", "-n", "4").out) == [
        "cli:a | you | kept",
        "cli:a | you | (taken back) gone",
        "cli:a | the last exchange was taken back",
        "cli:a | you | new",
    ]


def test_text_does_not_steer_the_terminal(nanochat: Nanochat, sessions: Path) -> None:
    """Neither what was said, nor a key, nor what cannot be read."""
    write(sessions, "cli:a", at(0, "\x1b[2Jhi\r\x07"))
    with (sessions / "cli+a.jsonl").open("ab") as file:
        file.write(b"\x1b[2J\n")
    out = nanochat("tail").out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out)
    assert "cannot be read)" in out


def test_as_json(nanochat: Nanochat, sessions: Path) -> None:
    """The lines as they stand, all of them, with their key; times with an offset, also nanobot's."""
    write(sessions, "cli:a", at(0, "hä"), TurnEnd("s", "done"))
    theirs = b'{"role":"user","content":"x","timestamp":"2026-11-20T01:02:03"}\nnonsense\n[1]\n'
    (sessions / "telegram+1.jsonl").write_bytes(theirs)
    ran = nanochat("tail", "--json")
    found = [json.loads(row) for row in ran.out.splitlines()]
    ours = [row for row in found if row["key"] == "cli:a"]
    assert ours == [
        {"key": "cli:a", **json.loads(line)} for line in (sessions / "cli+a.jsonl").read_text().splitlines()
    ]
    message, unreadable, unknown = [row for row in found if row["key"] == "telegram:1"]
    assert datetime.fromisoformat(message["timestamp"]).tzinfo is not None
    assert (unreadable["byte"], unreadable["unreadable"]) == (64, "nonsense")
    assert unknown["unknown"] == [1]


def test_it_changes_nothing(nanochat: Nanochat, sessions: Path, tmp_path: Path) -> None:
    """Not a file, not an mtime; and where nothing is, nothing is made."""
    assert nanochat("tail").err == "nanochat: there are no sessions yet\n"
    assert not (tmp_path / "data").exists()
    write(sessions, "cli:a", at(0, "x"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    nanochat("tail")
    nanochat("tail", "cli:b", "--json")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("word", "code", "words"),
    [
        ("cli:nope", 1, "there is no session cli:nope"),
        ("web:*", 1, "no session matches web:*"),
        ("nope", 2, "'nope' is not a session key"),
    ],
    ids=["a key", "a glob", "no key"],
)
def test_one_that_is_not_there(nanochat: Nanochat, sessions: Path, word: str, code: int, words: str) -> None:
    """It is said, and the others are shown all the same, unless the word can be no key."""
    write(sessions, "cli:a", at(0, "x"))
    ran = nanochat("tail", "cli:a", word)
    assert ran.code == code
    assert words in ran.err
    assert bool(ran.out) == (code == 1)


def test_one_that_cannot_be_read(nanochat: Nanochat, sessions: Path) -> None:
    """It is named, and the others are shown."""
    write(sessions, "cli:a", at(0, "x"))
    (sessions / "cli+b.jsonl").symlink_to(sessions / "cli+a.jsonl")
    ran = nanochat("tail", "cli:a", "cli:b")
    assert ran.code == 1
    assert "cli+b.jsonl is not a regular file" in ran.err
    assert ran.out.endswith("  x\n")


# --- following --------------------------------------------------------------------------------------------------------------


Append = Callable[..., Awaitable[tuple[int, ...]]]


@asynccontextmanager
async def following(
    directory: Path, *args: str, stdout: int = asyncio.subprocess.PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    kept = ("PATH", "PYTHON", "HOME", "COVERAGE")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "nanochat", "tail", "-f", "--data-dir", str(directory), *args),
        env={**{name: value for name, value in os.environ.items() if name.startswith(kept)}, "COLUMNS": "60"},
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                await pipe.read()
        await process.wait()


async def _row(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().rstrip()


async def test_lines_to_come(tmp_path: Path, sessions: Path) -> None:
    """After the newest ones; also of a session that begins later; each once, and Ctrl-C ends it."""
    await _append(sessions, "cli:a", [at(0, "old"), at(1, "newest")])
    async with following(tmp_path / "data", "-n", "1") as process:
        assert (await _row(process)).endswith("newest")
        await _append(sessions, "cli:a", [at(2, "next", "assistant"), TurnEnd("s", "done")])
        assert (await _row(process)).endswith("nanochat   next")
        await _append(sessions, "telegram:1", [at(3, "elsewhere")])
        assert (await _row(process)).endswith("the session begins")
        assert (await _row(process)).endswith("elsewhere")
        await _append(sessions, "cli:a", [Reset()])
        assert (await _row(process)).endswith("a new conversation begins")
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130


async def test_a_session_is_waited_for(tmp_path: Path, sessions: Path) -> None:
    """It is said that it is; others that begin are none of it."""
    async with following(tmp_path / "data", "cli:late", "web:*") as process:
        assert process.stderr is not None
        assert await process.stderr.readline() == b"nanochat: cli:late has not begun; waiting for it\n"
        assert await process.stderr.readline() == b"nanochat: web:* has not begun; waiting for it\n"
        await _append(sessions, "cli:other", [at(0, "other")])
        await _append(sessions, "cli:late", [at(0, "late")])
        assert "cli:late" in await _row(process)
        assert (await _row(process)).endswith("late")
        await _append(sessions, "web:1", [at(0, "web")])
        assert "web:1" in await _row(process)


async def test_nobody_reads_on(tmp_path: Path, sessions: Path) -> None:
    """As with `| head`: it ends at once and quietly, without a further line."""
    await _append(sessions, "cli:a", [at(0, "x")])
    ours, theirs = os.pipe()
    async with following(tmp_path / "data", stdout=theirs) as process:
        os.close(theirs)
        assert await asyncio.to_thread(os.read, ours, 1)
        os.close(ours)
        assert await process.wait() == 0
        assert process.stderr is not None
        assert await process.stderr.read() == b""


async def test_on_a_terminal(tmp_path: Path, sessions: Path) -> None:
    """A colour for each session, the date where it changes, and long texts wrapped in their column."""
    long_ago = at(-1_000_000, "a long text that is wider than what is left of its row")
    await _append(sessions, "cli:a", [at(-1_000_001, "first"), long_ago])
    await _append(sessions, "cli:b", [at(3, "second")])
    leader, follower = pty.openpty()
    async with following(tmp_path / "data", "-n", "2", stdout=follower) as process:
        os.close(follower)
        shown = b""
        while b"second" not in shown:
            shown += await asyncio.to_thread(os.read, leader, 4096)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    os.close(leader)
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).replace("\r", "").splitlines()
    assert plain[0] == f"── {long_ago.timestamp.astimezone().date()} ──"
    assert plain[1].endswith("  cli:a  you        first")
    assert [line[28:] for line in plain[2:4]] == ["a long text that is wider than", "what is left of its row"]
    assert plain[4].startswith("── 2026-11-")
    assert plain[-1].endswith("  cli:b  you        second")
    colours = set(re.findall(r"\x1b\[(\d+)mcli:[ab]", shown.decode()))
    assert len(colours) == 2
