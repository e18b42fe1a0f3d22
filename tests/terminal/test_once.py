"""One message, one answer: what goes to which stream, and the exit code."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from datetime import UTC, datetime

import pytest

from nanochat.channels.terminal.once import once
from nanochat.events import (
    Inbound,
    Notice,
    ReplyEvent,
    Sender,
    Text,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnDone,
    TurnFailed,
)
from nanochat.keys import SessionKey
from nanochat.ports import Emit
from tests.fakes.screen import Screen
from tests.fakes.scripted_handler import STATS, Pause, ScriptedHandler, said
from tests.terminal.scripted_chat import MARKDOWN

MESSAGE = Inbound(
    SessionKey("cli", "default"),
    "cli:1",
    Sender("cli", "olga", owner=True),
    (Text("hello"),),
    datetime(2026, 11, 20, tzinfo=UTC),
)
CUT = TurnFailed("the connection was cut", "e1", "cut", kept=True)
TOOL: list[ReplyEvent] = [ToolStarted("c1", "search", "searching"), ToolFinished("c1", "search", True, 0.5)]


async def run(*script: ReplyEvent | Pause, as_json: bool = False, stream: bool = True) -> int:
    return await once(ScriptedHandler(script), MESSAGE, as_json=as_json, stream=stream)


class _Tty(io.StringIO):
    """A terminal that tells when it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


def fields(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_pipe_gets_the_text_and_nothing_else(capsys: pytest.CaptureFixture[str], stream: bool) -> None:
    """No escape sequence, no usage line: what was said, with one line end."""
    assert await run(*TOOL, *said("# A", " reply"), stream=stream) == 0
    assert tuple(capsys.readouterr()) == ("# A reply\n", "")


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
async def test_notices_are_for_the_log_too(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """A damaged line is told whoever reads standard error."""
    assert await run(Notice("2 lines cannot be read"), *said("x"), as_json=as_json, stream=False) == 0
    output, errors = capsys.readouterr()
    assert errors == "nanochat: 2 lines cannot be read\n"
    assert "cannot be read" not in output


async def test_what_is_said_after_a_tool_begins_a_paragraph(capsys: pytest.CaptureFixture[str]) -> None:
    """All deltas joined are the text of the last object."""
    script = [
        *TOOL,
        TextDelta("let me"),
        TextDelta(" look"),
        *TOOL,
        *TOOL,
        TextDelta("echo"),
        TurnDone("let me look\n\necho"),
    ]
    assert await run(*script) == 0
    assert capsys.readouterr().out == "let me look\n\necho\n"
    assert await run(*script, as_json=True) == 0
    lines = fields(capsys.readouterr().out)
    assert "".join(str(line["text"]) for line in lines if line["type"] == "delta") == lines[-1]["text"]


async def test_an_empty_reply_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error; a command may well say nothing."""
    assert await run(TurnDone("", STATS)) == 0
    assert await run(TurnDone("")) == 0
    assert tuple(capsys.readouterr()) == ("", "nanochat: the reply is empty\n")


async def test_a_pipe_gets_the_text_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    """Each piece is there before the next is written."""
    seen = []

    async def handler(inbound: Inbound, emit: Emit) -> None:
        for event in said("one ", "two"):
            emit(event)
            seen.append(capsys.readouterr().out)

    assert await once(handler, MESSAGE, as_json=False, stream=True) == 0
    assert seen[:2] == ["one ", "two"]


async def test_a_commands_answer_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A command emits no deltas; its text comes whole."""
    assert await run(TurnDone("3 turns")) == 0
    assert capsys.readouterr().out == "3 turns\n"


async def test_an_existing_line_end_is_not_doubled(capsys: pytest.CaptureFixture[str]) -> None:
    """A reply may end with one itself."""
    assert await run(*said("x\n")) == 0
    assert capsys.readouterr().out == "x\n"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_reply_that_is_cut_off_is_kept_and_fails(capsys: pytest.CaptureFixture[str], stream: bool) -> None:
    """Its text stands, one line on standard error says why it ends, and the code is 1."""
    assert await run(TextDelta("Half a sen"), CUT, stream=stream) == 1
    output, errors = capsys.readouterr()
    assert output == "Half a sen\n"
    assert errors == "nanochat: the connection was cut (error e1)\n"


async def test_a_turn_that_fails_at_once_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even a line end."""
    assert await run(TurnFailed("no credit", kind="money")) == 1
    assert tuple(capsys.readouterr()) == ("", "nanochat: no credit\n")


@pytest.mark.parametrize("mark", ["stopped", "deadline", "max_tokens", "refusal", "rounds", "context", "new"])
async def test_a_short_reply_fails_with_a_reason(capsys: pytest.CaptureFixture[str], mark: str) -> None:
    """A script must not take half an answer for a whole one."""
    assert await run(*said("Half", mark=mark)) == 1
    output, errors = capsys.readouterr()
    assert output == "Half\n"
    assert len(errors.splitlines()) == 1


async def test_json_is_one_object_per_event(capsys: pytest.CaptureFixture[str]) -> None:
    """In order, the last one complete, and nothing else on standard output."""
    assert await run(*TOOL, Notice("wait"), *said("a", "b"), as_json=True) == 0
    lines = fields(capsys.readouterr().out)
    assert [line["type"] for line in lines] == ["tool", "tool", "notice", "delta", "delta", "done"]
    assert lines[0] == {"type": "tool", "status": "started", "call_id": "c1", "name": "search", "title": "searching"}
    assert lines[1] == {
        "type": "tool",
        "status": "finished",
        "call_id": "c1",
        "name": "search",
        "ok": True,
        "seconds": 0.5,
    }
    assert lines[2] == {"type": "notice", "text": "wait"}
    assert lines[3] == {"type": "delta", "text": "a"}
    done = lines[-1]
    assert (done["key"], done["text"], done["cost_usd"]) == ("cli:default", "ab", STATS.cost_usd)
    assert done["usage"] == {"input": 100, "cache_read": 900, "cache_write": 0, "cache_write_1h": 0, "output": 20}


async def test_json_without_streaming_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """The last one says it all."""
    assert await run(*TOOL, *said("a", "b"), as_json=True, stream=False) == 0
    (done,) = fields(capsys.readouterr().out)
    assert (done["type"], done["text"]) == ("done", "ab")


async def test_json_of_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """The error is an object, too, with the text that had come."""
    assert await run(TextDelta("Half"), CUT, as_json=True, stream=False) == 1
    (error,) = fields(capsys.readouterr().out)
    assert (error["type"], error["kind"], error["error_id"], error["text"], error["key"]) == (
        "error",
        "cut",
        "e1",
        "Half",
        "cli:default",
    )


async def test_json_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing that it took."""
    assert await run(TurnDone("3 turns"), as_json=True) == 0
    (done,) = fields(capsys.readouterr().out)
    assert (done["text"], done["usage"], done["cost_usd"]) == ("3 turns", None, None)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["ctrl-c", "term", "hup"],
)
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
async def test_a_signal_stops_the_turn(
    capsys: pytest.CaptureFixture[str], as_json: bool, number: signal.Signals, code: int
) -> None:
    """The text so far is kept and printed, and the code says which it was."""

    class Interrupting(ScriptedHandler):
        async def __call__(self, inbound: Inbound, emit: Emit) -> None:
            if inbound.text == "hello":
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
            await super().__call__(inbound, emit)

    handler = Interrupting([TextDelta("For ever"), Pause()])
    assert await once(handler, MESSAGE, as_json=as_json, stream=True) == code
    assert [message.text for message in handler.seen] == ["hello", "/stop"]
    assert "For ever" in capsys.readouterr().out


async def test_a_second_ctrl_c_gives_the_turn_up(capsys: pytest.CaptureFixture[str]) -> None:
    """A turn that does not stop must not hold the shell."""
    loop = asyncio.get_running_loop()

    async def deaf(inbound: Inbound, emit: Emit) -> None:
        emit(TextDelta("." if inbound.text == "hello" else ""))
        loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    assert await once(deaf, MESSAGE, as_json=False, stream=True) == 130
    assert "interrupted" in capsys.readouterr().err


def shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, rows: int) -> tuple[_Tty, Screen]:
    terminal = _Tty()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(rows))
    return terminal, Screen(columns, rows)


def play(screen: Screen, raw: str) -> None:
    screen.feed(raw.replace("\n", "\r\n"))


@pytest.mark.parametrize(("columns", "rows"), [(80, 40), (40, 8)], ids=["usual", "small"])
async def test_a_terminal_gets_markdown_that_grows(monkeypatch: pytest.MonkeyPatch, columns: int, rows: int) -> None:
    """Drawn with or without frames between, the screen holds every line once."""
    pieces = [TextDelta(MARKDOWN[at : at + 5]) for at in range(0, len(MARKDOWN), 5)]
    terminal, screen = shown_on_a_terminal(monkeypatch, columns, rows)

    async def slow(inbound: Inbound, emit: Emit) -> None:
        for at in range(0, len(pieces), 20):
            terminal.written.clear()
            for piece in pieces[at : at + 20]:
                emit(piece)
            async with asyncio.timeout(20):
                await terminal.written.wait()
        emit(TurnDone(MARKDOWN, STATS))

    assert await once(slow, MESSAGE, as_json=False, stream=True) == 0
    play(screen, terminal.getvalue())
    whole, other = shown_on_a_terminal(monkeypatch, columns, rows)
    assert await once(ScriptedHandler(said(MARKDOWN)), MESSAGE, as_json=False, stream=False) == 0
    play(other, whole.getvalue())
    assert screen.lines == other.lines
    assert sum("spring tide" in line for line in screen.lines) == 1


async def test_a_person_sees_what_it_took(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The usage line goes to standard error, and only if a person reads it."""
    errors = _Tty()
    monkeypatch.setattr(sys, "stderr", errors)
    assert await run(*said("x")) == 0
    assert "1,000 in · 20 out" in errors.getvalue()
    assert capsys.readouterr().out == "x\n"


async def test_nobody_reads_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `| head` the turn goes on to its end, in silence."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert await run(*said("one", "two")) == 0
