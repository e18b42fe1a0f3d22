"""Chat commands, as a person types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanochat.events import Sender, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.records import text_of
from nanochat.turn.commands import COMMANDS
from tests.conftest import Build
from tests.fakes.house import House
from tests.fakes.scripted_model import say

KEY = SessionKey("cli", "test")
GUEST = Sender("telegram:7", "eve", owner=False)


async def answer(house: House, text: str, **options: object) -> str:
    last = (await house.say(text, **options))[-1]  # type: ignore[arg-type]  # handed through
    assert isinstance(last, TurnDone), last
    return last.text


async def refusal(house: House, text: str, **options: object) -> str:
    last = (await house.say(text, **options))[-1]  # type: ignore[arg-type]  # handed through
    assert isinstance(last, TurnFailed), last
    assert last.kind == "command"
    return last.message


async def said(house: House) -> list[str]:
    return [text_of(m.content) for m in (await house.manager.get_or_create(KEY)).messages]


async def test_help_names_every_command(build: Build) -> None:
    """What is not in /help does not exist for its users."""
    text = await answer(build(), "/help")
    assert all(f"/{command.name}" in text for command in COMMANDS)


async def test_terminal_commands_are_not_offered_elsewhere(build: Build) -> None:
    """A phone has no files of ours."""
    house = build()
    assert "/save" not in await answer(house, "/help", source_id="telegram:1:1")
    assert "terminal" in await refusal(house, "/save x.md", source_id="telegram:1:2")


async def test_an_unknown_command_names_the_nearest(build: Build) -> None:
    """A slip of the finger costs one line."""
    assert "did you mean /status?" in await refusal(build(), "/staus")


async def test_a_path_is_not_a_command(build: Build) -> None:
    """A slash alone makes no command."""
    house = build(say("a file"))
    assert await answer(house, "/etc/hosts is what?") == "a file"


async def test_undo_names_what_it_takes_back(build: Build) -> None:
    """Undo, twice, then a /new and its undo: the conversation is what it was."""
    house = build(say("one"), say("two"), say("three"))
    for text in ("a", "b", "c"):
        await house.say(text)
    assert await answer(house, "/undo") == "took back “c”"
    assert await said(house) == ["a", "one", "b", "two"]
    await house.say("/new")
    assert await said(house) == []
    assert await answer(house, "/undo") == "took back the /new"
    assert await said(house) == ["a", "one", "b", "two"]
    assert await answer(house, "/undo 5") == "took back “b”, “a”"
    assert await answer(house, "/undo") == "there is nothing to take back"


async def test_retry_asks_the_same_again(build: Build) -> None:
    """The old answer is gone, the new one stands in its place."""
    house = build(say("heads"), say("tails"))
    await house.say("toss a coin")
    assert await answer(house, "/retry") == "tails"
    assert await said(house) == ["toss a coin", "tails"]


async def test_retry_with_nothing_to_retry(build: Build) -> None:
    """An empty session says so."""
    assert "nothing to try again" in await refusal(build(), "/retry")


async def test_pins_survive_and_can_be_dropped(build: Build) -> None:
    """A pinned text is in every request until it is dropped."""
    house = build(say("one"), say("two"))
    await house.say("a")
    assert await answer(house, "/pin the door code is 4711") == "pinned “the door code is 4711”"
    assert "4711" in await answer(house, "/context")
    await house.say("b")
    assert "4711" in str(house.model.requests[-1].messages)
    assert await answer(house, "/pin -1") == "dropped pin 1"
    assert "no pin 1" in await refusal(house, "/pin -1")


async def test_a_dropped_pin_leaves_the_head_at_the_next_compaction(build: Build) -> None:
    """What was sent is not changed behind the cache's back, and the text is gone when it is rewritten anyway."""
    house = build(*(say(f"reply {i}") for i in range(20)))
    await answer(house, "/pin the door code is 4711")
    for i in range(8):
        await house.say(f"question {i}")
    assert "left out" in await answer(house, "/compact")
    await house.say("and now?")
    head = house.model.requests[-1].messages[0]
    assert "4711" in str(head)
    await answer(house, "/pin -1")
    await house.say("and now?")
    assert house.model.requests[-1].messages[0] == head
    for i in range(8):
        await house.say(f"question {i}")
    await answer(house, "/compact")
    await house.say("and now?")
    assert "4711" not in str(house.model.requests[-1].messages)


async def test_pin_alone_takes_the_last_reply(build: Build) -> None:
    """The usual wish: keep what was just said."""
    house = build(say("the answer"))
    await house.say("a")
    assert "the answer" in await answer(house, "/pin")


async def test_system_and_model_stay_through_new_and_undo(build: Build) -> None:
    """Settings of a session are not part of its conversation."""
    house = build(say("one"), say("two"))
    await answer(house, "/system Answer in rhyme.")
    await answer(house, "/model claude-haiku-5-5")
    await house.say("a")
    assert house.model.requests[-1].model == "claude-haiku-5-5"
    assert "rhyme" in str(house.model.requests[-1].system)
    await house.say("/new")
    await house.say("/undo 3")
    await house.say("b")
    assert house.model.requests[-1].model == "claude-haiku-5-5"
    assert "rhyme" in str(house.model.requests[-1].system)
    assert "default" in await answer(house, "/system default")
    assert "scripted-1" in await answer(house, "/model default")


async def test_a_guest_changes_no_settings(build: Build) -> None:
    """Reading is free; model and system text are the owner's."""
    house = build()
    assert "owner" in await refusal(house, "/system Obey me.", sender=GUEST)
    assert "owner" in await refusal(house, "/model x", sender=GUEST)
    assert "You are a test" in await answer(house, "/system", sender=GUEST)


async def test_usage_and_status_tell_figures(build: Build) -> None:
    """Tokens of all turns, undone ones included: they were paid."""
    house = build(say("one"), say("two"))
    await house.say("a")
    await house.say("b")
    await house.say("/undo")
    text = await answer(house, "/usage")
    assert "| turns | 2 |" in text
    assert "| input | 200 |" in text
    assert "done" in await answer(house, "/status")


async def test_history_and_print_show_the_conversation(build: Build) -> None:
    """The last exchange, and the whole."""
    house = build(say("one"), say("two"))
    await house.say("first question")
    await house.say("second question")
    last = await answer(house, "/history 1")
    assert "second question" in last
    assert "first question" not in last
    assert "first question" in await answer(house, "/print")


@pytest.mark.parametrize("text", ["/history x", "/history 0", "/undo -1", "/undo 9999999"])
async def test_a_bad_number_is_refused(build: Build, text: str) -> None:
    """The line says what it takes."""
    assert "takes a number" in await refusal(build(), text)


@pytest.mark.parametrize("suffix", [".md", ".json"])
async def test_save_writes_a_new_file_only(build: Build, tmp_path: Path, suffix: str) -> None:
    """Nothing of the user's is overwritten."""
    house = build(say("one"))
    await house.say("a question")
    path = tmp_path / f"out{suffix}"
    assert str(path) in await answer(house, f"/save {path}")
    assert "a question" in path.read_text()
    assert "exists" in await refusal(house, f"/save {path}")


async def test_load_begins_anew_with_the_files_messages(build: Build, tmp_path: Path) -> None:
    """What /save wrote, /load reads; and undo goes back."""
    house = build(say("one"), say("two"))
    await house.say("a question")
    path = tmp_path / "out.json"
    await answer(house, f"/save {path}")
    await house.say("another")
    assert "2 messages" in await answer(house, f"/load {path}")
    assert await said(house) == ["a question", "one"]
    missing = tmp_path / "nothing.json"
    assert "no such file" in await refusal(house, f"/load {missing}")
    assert "no regular file" in await refusal(house, "/load /dev/zero")
    (tmp_path / "noise.json").write_text("what is this")
    assert "no messages" in await refusal(house, f"/load {tmp_path / 'noise.json'}")


async def test_sessions_lists_them(build: Build) -> None:
    """Newest first, with the last line."""
    house = build(say("one"), say("two"))
    await house.say("a", key="cli:first")
    await house.say("b", key="cli:second")
    text = await answer(house, "/sessions")
    assert "cli:first" in text
    assert "cli:second" in text
