"""The interactive chat on a screen in memory: keys in, rows out."""

from __future__ import annotations

import asyncio
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanochat.errors import StoreError
from nanochat.events import (
    Inbound,
    Notice,
    Seen,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnDone,
    TurnFailed,
)
from nanochat.keys import SessionKey
from nanochat.ports import Emit
from tests.fakes.scripted_handler import STATS, Pause, Script, ScriptedHandler, said
from tests.terminal.conftest import KEY, Neighbours, TalkMaker, Terminal

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"


async def test_a_line_is_answered_below_its_echo(talk: TalkMaker) -> None:
    """What was typed stays in sight, with the reply and what it took below."""
    async with talk() as chat:
        chat.press("hello" + ENTER)
        await chat.terminal.shows("you> hello\n\necho: hello\n\n1,000 in · 20 out · 90% from cache · $0.0123")


async def test_a_message_says_who_speaks_and_where(talk: TalkMaker) -> None:
    """The handler gets the owner's message, with a source id of its own."""
    handler = ScriptedHandler()
    async with talk(handler) as chat:
        chat.press("one" + ENTER)
        await chat.terminal.shows("echo: one")
        chat.press("two" + ENTER)
        await chat.terminal.shows("echo: two")
    assert [(message.key, message.text, message.sender.owner) for message in handler.seen] == [
        (KEY, "one", True),
        (KEY, "two", True),
    ]
    assert len({message.source_id for message in handler.seen}) == 2
    assert all(message.source_id.startswith("cli:") for message in handler.seen)


async def test_a_newline_sent_for_enter_submits(talk: TalkMaker) -> None:
    """Keys that were pressed before the prompt came arrive with line feeds, and scripts send nothing else."""
    async with talk() as chat:
        chat.press("early\n")
        await chat.terminal.shows("echo: early")


async def test_an_empty_line_is_ignored(talk: TalkMaker) -> None:
    """Enter alone, or blanks, say nothing."""
    handler = ScriptedHandler()
    async with talk(handler) as chat:
        chat.press(ENTER + "  " + ENTER + "x" + ENTER)
        await chat.terminal.shows("echo: x")
    assert [message.text for message in handler.seen] == ["x"]


async def test_a_multi_line_paste_is_one_message(talk: TalkMaker) -> None:
    """Line ends within a bracketed paste do not submit."""
    handler = ScriptedHandler()
    async with talk(handler) as chat:
        chat.press("\x1b[200~one\r\ntwo\nthree\x1b[201~")
        await chat.terminal.shows("you> one\n     two\n     three")
        chat.press(ENTER)
        await chat.terminal.shows("echo: one")
    assert [message.text for message in handler.seen] == ["one\ntwo\nthree"]


async def test_escape_and_enter_begin_a_new_line(talk: TalkMaker) -> None:
    """A message of several lines can be typed, too."""
    handler = ScriptedHandler()
    async with talk(handler) as chat:
        chat.press("one\x1b\rtwo" + ENTER)
        await chat.terminal.shows("echo: one")
    assert [message.text for message in handler.seen] == ["one\ntwo"]


async def test_a_reply_grows_on_the_screen(talk: TalkMaker) -> None:
    """Text is shown as it comes, and the prompt stays below it."""
    pause = Pause()
    async with talk(ScriptedHandler([TextDelta("It was a "), pause, *said("dark night.")])) as chat:
        chat.press("tell" + ENTER)
        await chat.terminal.shows("It was a\nyou>")
        pause.go.set()
        await chat.terminal.shows("It was a dark night.\n\n1,000 in")
        assert chat.terminal.screen.text.count("It was a") == 1


async def test_ctrl_c_stops_the_turn_and_keeps_what_is_typed(talk: TalkMaker) -> None:
    """The stopped text stands, marked; a half-written next message is not lost."""
    handler = ScriptedHandler([TextDelta("For ever"), Pause()])
    async with talk(handler) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("For ever")
        chat.press("next")
        await chat.terminal.shows("you> next")
        chat.press(CTRL_C)
        await chat.terminal.shows("For ever\n\n(stopped)", "you> next")
    assert [message.text for message in handler.seen] == ["go", "/stop"]


async def test_a_message_typed_during_a_turn_waits_below_it(talk: TalkMaker) -> None:
    """It goes to the handler at once, and gets its place on the screen when it is its turn."""
    pause = Pause()
    handler = ScriptedHandler([TextDelta("First "), pause, *said("done.")])
    async with talk(handler) as chat:
        chat.press("one" + ENTER)
        await chat.terminal.shows("First")
        chat.press("two" + ENTER)
        await chat.terminal.shows("First\nqueued: two\nyou>")
        assert [message.text for message in handler.seen] == ["one", "two"]
        pause.go.set()
        await chat.terminal.shows("First done.\n\n1,000", "you> two\n\necho: two")
        await chat.terminal.hides("queued")


async def test_an_answer_that_overtakes_is_shown_at_once(talk: TalkMaker) -> None:
    """`/usage` during a long turn is answered while the turn goes on."""
    pause = Pause()
    inner = ScriptedHandler([TextDelta("Long"), pause, *said(" story")])

    async def handler(inbound: Inbound, emit: Emit) -> None:
        if inbound.text == "/usage":
            emit(TurnDone("3 turns"))
        else:
            await inner(inbound, emit)

    async with talk(handler) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("Long")
        chat.press("/usage" + ENTER)
        await chat.terminal.shows("you> /usage\n\n3 turns", "Long\nyou>")
        pause.go.set()
        await chat.terminal.shows("Long story\n\n1,000")


@pytest.mark.parametrize(
    "leave", [CTRL_D, "/exit\r", "/quit\r", CTRL_C + CTRL_C], ids=["ctrl-d", "exit", "quit", "twice"]
)
async def test_leaving(talk: TalkMaker, leave: str) -> None:
    """Ctrl-D, /exit, and Ctrl-C twice end the chat."""
    async with talk() as chat:
        chat.press(leave)
        await chat.left()


async def test_one_ctrl_c_empties_the_line(talk: TalkMaker) -> None:
    """On a line with text Ctrl-C only throws the text away; it takes two more to leave."""
    async with talk() as chat:
        chat.press("half a thought")
        await chat.terminal.shows("half a thought")
        chat.press(CTRL_C)
        await chat.terminal.hides("half a thought")
        chat.press(CTRL_C)
        await chat.terminal.shows("Ctrl-C once more leaves")
        assert not chat.task.done()


async def test_a_message_between_two_ctrl_c_keeps_the_chat_open(talk: TalkMaker) -> None:
    """Only two in a row leave."""
    async with talk() as chat:
        chat.press(CTRL_C + "x" + ENTER)
        await chat.terminal.shows("echo: x", "1.2 s")
        chat.press(CTRL_C)
        await chat.terminal.until(lambda screen: screen.count("once more leaves") == 2)
        assert not chat.task.done()


async def test_leaving_stops_the_running_turn(talk: TalkMaker) -> None:
    """What was said so far is kept as of now, and shown as stopped."""
    handler = ScriptedHandler([TextDelta("For ever"), Pause()])
    async with talk(handler) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("For ever")
        chat.press(CTRL_D)
        await chat.left()
        assert "For ever\n\n(stopped)" in chat.terminal.screen.text
    assert handler.seen[-1].text == "/stop"


async def test_leaving_does_not_begin_what_waits(talk: TalkMaker) -> None:
    """A queued message is left for the next opening; the stop does not let it run."""
    handler = ScriptedHandler([TextDelta("For ever"), Pause()], [TextDelta("must not begin"), Pause()])
    async with talk(handler) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("For ever")
        chat.press("later" + ENTER)
        await chat.terminal.shows("queued: later")
        chat.press(CTRL_D)
        await chat.left()
        assert "must not begin" not in chat.terminal.screen.text


async def test_commands_are_completed(talk: TalkMaker) -> None:
    """A slash opens the list; Tab takes what is common, then walks."""
    async with talk() as chat:
        chat.press("/h")
        await chat.terminal.shows("this list", "the last exchanges")
        chat.press("i\t")
        await chat.terminal.shows("you> /history")


async def test_switch_completes_the_keys_there_are(talk: TalkMaker) -> None:
    """After /switch the sessions' names are offered."""
    async with talk() as chat:
        await chat.terminal.shows("you>")
        chat.press("/switch te")
        await chat.terminal.shows("telegram:42")


async def test_switch_opens_another_conversation(talk: TalkMaker) -> None:
    """The next message goes there, others' lines are followed there, and the banner says what that means."""
    handler, around = ScriptedHandler(), Neighbours()
    async with talk(handler, around) as chat:
        chat.press("/switch telegram:42" + ENTER)
        await chat.terminal.shows("nanochat · telegram:42", "you speak in telegram:42 from here")
        chat.press("hi" + ENTER)
        await chat.terminal.shows("echo: hi")
    assert handler.seen[-1].key == SessionKey("telegram", "42")
    assert around.watched == [KEY, SessionKey("telegram", "42")]


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("/switch", "this is cli:default"),
        ("/switch ../x", "is not a session key"),
        ("/switch work", "did you mean cli:work?"),
        ("/switch cli:default extra", "/switch takes one session key, and got 2 words"),
    ],
    ids=["none", "path", "word", "two"],
)
async def test_switch_refuses(talk: TalkMaker, typed: str, answer: str) -> None:
    """A key that cannot be one is told so, and nothing changes."""
    async with talk() as chat:
        chat.press(typed + ENTER)
        await chat.terminal.until(lambda screen: answer in " ".join(screen.split()))


async def test_switch_waits_for_the_turn(talk: TalkMaker) -> None:
    """A running turn belongs to this screen."""
    async with talk(ScriptedHandler([TextDelta("For ever"), Pause()])) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("For ever")
        chat.press("/switch telegram:42" + ENTER)
        await chat.terminal.shows("a turn is running")
        chat.press(CTRL_C)
        await chat.terminal.shows("(stopped)")


async def test_tools_are_one_line_each(talk: TalkMaker) -> None:
    """A call is announced while it runs, and told with its time when it has ended."""
    pause = Pause()
    script = [
        TextDelta("Let me look."),
        ToolStarted("c1", "search", "searching: tides"),
        pause,
        ToolFinished("c1", "search", ok=True, seconds=1.5),
        *said("Found."),
    ]
    async with talk(ScriptedHandler(script)) as chat:
        chat.press("look" + ENTER)
        await chat.terminal.shows("Let me look.\n… searching: tides\nyou>")
        pause.go.set()
        await chat.terminal.shows("Let me look.\n\n✓ searching: tides · 1.5 s\n\nFound.\n\n1,000")
        assert chat.terminal.screen.text.count("searching") == 1


async def test_a_failed_turn_keeps_its_text(talk: TalkMaker) -> None:
    """One line says what happened, with the id that finds it in the log."""
    failed = TurnFailed("the connection was cut", "e17", "cut", kept=True)
    async with talk(ScriptedHandler([TextDelta("Half a sen"), failed])) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("Half a sen\n\nthe connection was cut (error e17)")


async def test_notices_are_lines(talk: TalkMaker) -> None:
    """A wait is told while it lasts."""
    async with talk(ScriptedHandler([Notice("busy: again in 2 s"), *said("Here.")])) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("busy: again in 2 s\n\nHere.")


async def test_others_lines_are_shown_as_they_come(talk: TalkMaker) -> None:
    """A delivery and another terminal's words appear above the prompt, with where they are from."""
    around = Neighbours()
    async with talk(None, around) as chat:
        chat.press("typing")
        await around.watching.wait()
        assert around.show is not None
        around.show(Seen(KEY, "user", "from elsewhere", NOW))
        around.show(Seen(KEY, "delivered", "**Stand up**", NOW))
        await chat.terminal.shows("↳ cli:default · user: from elsewhere", "↳ cli:default · delivered\n\nStand up")
        await chat.terminal.shows("you> typing")
        chat.press(CTRL_C)


async def test_coming_back_shows_where_one_was(talk: TalkMaker) -> None:
    """The last exchange stands above the prompt, long messages shortened."""
    long = "\n".join(f"line {n}" for n in range(30))
    memory = [Seen(KEY, "user", "what was it?", NOW), Seen(KEY, "assistant", long, NOW)]
    async with talk(None, Neighbours(memory)) as chat:
        await chat.terminal.shows("you> what was it?", "line 7", "… 22 more lines: /history shows them")
        assert "line 8" not in chat.terminal.screen.text


async def test_what_was_interrupted_is_finished_in_sight(talk: TalkMaker) -> None:
    """A turn that a crash cut short goes on at the next opening."""

    class Interrupted(Neighbours):
        async def resume(self, key: SessionKey, emit: Emit) -> bool:
            for text in ("one", "two"):
                emit(Notice(f"going on with what was cut short: {text}"))
                for event in said(f"The rest of {text}."):
                    emit(event)
            return True

    async with talk(None, Interrupted()) as chat:
        await chat.terminal.shows("going on with what was cut short: one\n\nThe rest of one.\n\n1,000 in")
        await chat.terminal.shows("going on with what was cut short: two\n\nThe rest of two.\n\n1,000 in")


async def test_a_line_does_not_overtake_what_is_finished_first(talk: TalkMaker) -> None:
    """Typed while a crashed turn goes on, it waits; the prompt does not, and /stop is heard."""
    may_end = asyncio.Event()

    class Interrupted(Neighbours):
        async def resume(self, key: SessionKey, emit: Emit) -> bool:
            emit(TextDelta("The rest"))
            await may_end.wait()
            emit(TurnDone("The rest", STATS))
            return True

    class Stoppable(ScriptedHandler):
        stopped = asyncio.Event()

        async def __call__(self, inbound: Inbound, emit: Emit) -> None:
            await super().__call__(inbound, emit)
            self.stopped.set()

    handler = Stoppable()
    async with talk(handler, Interrupted()) as chat:
        chat.press("hello" + ENTER)
        await chat.terminal.shows("The rest\nqueued: hello\nyou>")
        chat.press(CTRL_C)
        async with asyncio.timeout(20):
            await handler.stopped.wait()
        assert [message.text for message in handler.seen] == ["/stop"]
        may_end.set()
        await chat.terminal.shows("The rest\n\n1,000 in", "you> hello\n\necho: hello")


async def test_a_line_that_was_not_sent_is_told(talk: TalkMaker) -> None:
    """Who leaves before it could be is not left to believe that it was."""

    class Stuck(Neighbours):
        async def resume(self, key: SessionKey, emit: Emit) -> bool:
            await asyncio.Event().wait()
            return True

    handler = ScriptedHandler()
    async with talk(handler, Stuck()) as chat:
        chat.press("hello" + ENTER)
        await chat.terminal.shows("you> hello")
        chat.press(CTRL_D)
        await chat.left()
        assert "not sent: hello" in chat.terminal.screen.text
    assert handler.seen == []


async def test_ones_own_line_takes_its_place_when_its_turn_begins(talk: TalkMaker) -> None:
    """While another terminal is answered, what it says stands above; the file has it in that order."""
    around, may_begin = Neighbours(), Pause()
    script = [Notice("waiting for process 7"), may_begin, *said("my reply")]
    async with talk(ScriptedHandler(script), around) as chat:
        await around.watching.wait()
        assert around.show is not None
        chat.press("from b" + ENTER)
        await chat.terminal.shows("you> from b\nwaiting for process 7\nyou>")
        around.show(Seen(KEY, "user", "a2", NOW))
        around.show(Seen(KEY, "assistant", "reply to a2", NOW))
        await chat.terminal.shows("reply to a2\n\nyou> from b\nwaiting for process 7\nyou>")
        may_begin.go.set()
        await chat.terminal.shows("my reply\n\n1,000 in")
        shown = [
            chat.terminal.screen.text.index(text) for text in ("user: a2", "reply to a2", "you> from b", "my reply")
        ]
    assert shown == sorted(shown)
    assert chat.terminal.screen.text.count("you> from b") == 1


async def test_others_lines_wait_for_the_reply_that_is_being_written(talk: TalkMaker) -> None:
    """A delivery in the middle of a reply stands below it."""
    around, pause = Neighbours(), Pause()
    async with talk(ScriptedHandler([TextDelta("First "), pause, *said("done.")]), around) as chat:
        await around.watching.wait()
        assert around.show is not None
        chat.press("go" + ENTER)
        await chat.terminal.shows("First")
        around.show(Seen(KEY, "delivered", "Stand up", NOW))
        pause.go.set()
        await chat.terminal.shows("First done.\n\n1,000", "1.2 s\n\n↳ cli:default · delivered\n\nStand up")


async def test_an_empty_reply_says_so(talk: TalkMaker) -> None:
    """Nothing at all would look like a fault of the terminal; a command may well say nothing."""
    async with talk(ScriptedHandler([TurnDone("", STATS)], [TurnDone("")])) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("you> go\nthe reply is empty\n1,000 in")
        chat.press("/quiet" + ENTER)
        await chat.terminal.shows("you> /quiet\n\nyou>")


async def test_errors_break_at_words(talk: TalkMaker) -> None:
    """A word cut in two is hard to read, and harder to copy."""
    failed = TurnFailed("the connection to the model was lost in the middle of it")
    async with talk(ScriptedHandler([failed]), terminal=Terminal(40, 24)) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("the connection to the model was lost in\nthe middle of it")


async def test_a_history_that_becomes_unwritable_is_told_once(talk: TalkMaker, tmp_path: Path) -> None:
    """Enter still sends."""
    async with talk() as chat:
        await chat.terminal.shows("you>")
        shutil.rmtree(tmp_path / "data")
        chat.press("one" + ENTER)
        await chat.terminal.shows("echo: one")
        chat.press("two" + ENTER)
        await chat.terminal.shows("echo: two")
        assert chat.terminal.screen.text.count("what you type is not remembered") == 1


async def test_a_long_paste_is_a_few_words_in_the_line(talk: TalkMaker, tmp_path: Path) -> None:
    """It is sent whole, repeated in short, and not remembered."""
    handler = ScriptedHandler(said("Seen."))
    text = "\n".join(f"line {n}" for n in range(30_000))
    async with talk(handler) as chat:
        await asyncio.to_thread(chat.press, f"see \x1b[200~{text}\x1b[201~")  # a pipe takes no more than is read
        await chat.terminal.shows("you> see [paste 1: 0.3 MB, 30,000 lines]")
        chat.press(" now" + ENTER)
        await chat.terminal.shows("you> see line 0", "line 7\n     … (29,992 more lines)", "Seen.")
    assert handler.seen[0].text == f"see {text} now"
    assert (tmp_path / "data" / "history").read_text() == ""


async def test_a_paste_that_no_message_holds_is_refused(talk: TalkMaker) -> None:
    """In one line, and what was typed around it stays."""
    async with talk() as chat:
        await asyncio.to_thread(chat.press, "a\x1b[200~" + "x" * 9 * 1024**2 + "\x1b[201~b")
        await chat.terminal.shows("a paste of 9.4 MB is more than a message may be (8 MiB)", "you> ab")
        chat.press(CTRL_C)


async def test_a_session_that_cannot_be_read_is_told(talk: TalkMaker) -> None:
    """The chat stays open: another session may be fine."""

    class Unreadable(Neighbours):
        async def recall(self, key: SessionKey) -> list[Seen]:
            raise StoreError("session cli:default: not readable; see data")

    async with talk(None, Unreadable()) as chat:
        await chat.terminal.shows("session cli:default: not readable")


async def test_without_a_key_the_banner_says_what_to_do(talk: TalkMaker) -> None:
    """Somebody who tries it out knows who answers, and how to change that."""
    async with talk(offline=True) as chat:
        await chat.terminal.shows("to talk to Claude, set ANTHROPIC_API_KEY")


async def test_a_strangers_escape_sequence_does_not_reach_the_terminal(talk: TalkMaker) -> None:
    """Neither a reply, nor an error, nor another's line can steer the terminal."""
    evil = "\x1b]0;owned\x07\x1b[2Jx\x9b2J"
    around = Neighbours([Seen(KEY, "user", evil, NOW)])
    script: Script = [ToolStarted("c", "t", evil), ToolFinished("c", "t", True, 1), TextDelta(evil), TurnFailed(evil)]
    async with talk(ScriptedHandler(script), around) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("you> go")
        await around.watching.wait()
        assert around.show is not None
        around.show(Seen(KEY, "delivered", evil, NOW))
        await chat.terminal.until(lambda screen: screen.count("owned") >= 4)
    raw = "".join(chat.terminal.raw)
    assert "\x1b]0;" not in raw
    assert "\x1b[2J" not in raw
    assert "\x9b" not in raw


async def test_history_is_kept_for_its_owner_only(talk: TalkMaker, tmp_path: Path) -> None:
    """What was typed comes back with the arrow key, from a file that nobody else can read."""
    path = tmp_path / "data" / "history"
    async with talk() as chat:
        chat.press("remember me" + ENTER)
        await chat.terminal.shows("echo: remember me")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with talk() as chat:
        chat.press("\x1b[A")
        await chat.terminal.shows("you> remember me")


async def test_a_history_that_cannot_be_kept_is_told(talk: TalkMaker, tmp_path: Path) -> None:
    """The chat works without."""
    (tmp_path / "data").write_text("a file where a directory should be")
    async with talk() as chat:
        await chat.terminal.shows("what you type is not remembered")
        chat.press("hello" + ENTER)
        await chat.terminal.shows("echo: hello")


@pytest.mark.parametrize("rows", [12, 24], ids=["low", "usual"])
async def test_a_long_reply_is_in_the_scrollback_once(talk: TalkMaker, rows: int) -> None:
    """Whatever scrolls off is final: nothing twice, nothing missing, in order."""
    blocks = [
        f"Paragraph {n} begins and goes on for a while, so that it wraps at least once here. End {n}."
        for n in range(80)
    ]
    blocks[40] = "```python\n" + "\n".join(f"line_{n} = {n}" for n in range(60)) + "\n```"
    text = "\n\n".join(blocks)
    pieces = [text[at : at + 11] for at in range(0, len(text), 11)]
    async with talk(ScriptedHandler(said(*pieces)), terminal=Terminal(60, rows)) as chat:
        chat.press("go" + ENTER)
        await chat.terminal.shows("End 79.", "1,000 in")
        joined = " ".join(chat.terminal.screen.text.split())
    shown = [joined.find(f"End {n}.") for n in range(80) if n != 40]
    assert shown == sorted(shown)
    assert all(joined.count(f"Paragraph {n} begins") == 1 for n in range(80) if n != 40)
    assert all(joined.count(f"line_{n} = {n} ") == 1 for n in range(60))


async def test_a_reply_before_the_renderer_is_loaded_is_not_lost(talk: TalkMaker) -> None:
    """Keys that were pressed before the prompt appeared are answered like any other."""
    handler = ScriptedHandler()
    async with talk(handler) as chat:
        chat.press("at once" + ENTER)
        await asyncio.sleep(0)
        await chat.terminal.shows("echo: at once", STATS.model and "1,000 in")
