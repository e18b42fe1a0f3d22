"""What others say: the list, the transcript that grows, and what is taken back."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from nanochat.keys import SessionKey
from tests.http.e2e.visitor import Visitor

pytestmark = pytest.mark.asyncio(loop_scope="package")

_APPEND = """
import asyncio, sys
from nanochat import SessionManager

async def main():
    manager = SessionManager(sys.argv[1])
    session = await manager.get_or_create("cli:work")
    session.add_message("user", "said by another process")
    await manager.save(session)
    await manager.close()

asyncio.run(main())
"""


async def _append_elsewhere(directory: Path) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _APPEND, str(directory / "sessions"))
    assert await process.wait() == 0


async def _seen(page: Page, *texts: str) -> None:
    await expect(page.locator("#log .user .said")).to_have_text(list(texts))


async def test_the_newest_session_is_open_and_all_are_listed(visitor: Visitor) -> None:
    """At first sight there is the list with previews, and the conversation that was spoken in last."""
    await visitor.stage.say("older", "cli:work")
    visitor.stage.office.clock.advance(seconds=60)
    await visitor.stage.say("newer", "telegram:77")
    page = await visitor.enter()
    await expect(page.locator("#sessions .key")).to_have_text(["telegram:77", "cli:work"])
    await expect(page.locator("#sessions .preview")).to_have_text(["newer", "older"])
    await expect(page.get_by_role("heading", name="telegram:77")).to_be_visible()
    await _seen(page, "newer")


async def test_the_list_is_filtered_by_key(visitor: Visitor) -> None:
    """The box filters as one types, and Enter opens the first that is left."""
    for key in ("cli:work", "telegram:77", "telegram:78"):
        await visitor.stage.say("hello", key)
    page = await visitor.enter("cli%3Awork")
    box = page.get_by_label("Filter sessions by key")
    await box.fill("GRAM:78")
    await expect(page.locator("#sessions .key")).to_have_text(["telegram:78"])
    await box.press("Enter")
    await expect(page.get_by_role("heading", name="telegram:78")).to_be_visible()
    await box.fill("nowhere")
    await expect(page.get_by_text("No session has such a key.")).to_be_visible()


async def test_what_another_process_appends_appears(visitor: Visitor) -> None:
    """The transcript grows as `tail -f` does, with nothing asked."""
    await visitor.stage.say("hello", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await _seen(page, "hello")
    await _append_elsewhere(visitor.stage.directory)
    await _seen(page, "hello", "said by another process")


async def test_a_session_that_has_not_begun_is_waited_for(visitor: Visitor) -> None:
    """A chat that somebody begins elsewhere appears on a page that is open at it."""
    page = await visitor.enter("telegram%3A5")
    await expect(page.get_by_text("Nothing has been said here yet.")).to_be_visible()
    await visitor.stage.say("first words", "telegram:5")
    await _seen(page, "first words")
    await expect(page.locator(".reply .prose")).to_have_text("first words")


async def test_an_undo_takes_the_exchange_away(visitor: Visitor) -> None:
    """What is undone elsewhere is gone here."""
    await visitor.stage.say("one", "cli:work")
    await visitor.stage.say("two", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await _seen(page, "one", "two")
    await visitor.stage.say("/undo", "cli:work")
    await _seen(page, "one")
    await expect(page.locator(".reply")).to_have_count(1)


async def test_a_new_conversation_is_a_divider_and_can_be_undone(visitor: Visitor) -> None:
    """After a reset the past is dimmed above a line; after its undo all is as before, also on a page that never saw it."""
    await visitor.stage.say("before", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await _seen(page, "before")
    await visitor.stage.say("/new", "cli:work")
    await expect(page.locator(".divider")).to_have_text("New conversation")
    await expect(page.locator(".user.past")).to_have_count(1)
    await page.reload()
    await expect(page.get_by_text("Nothing has been said here yet.")).to_be_visible()
    await visitor.stage.say("/undo", "cli:work")
    await _seen(page, "before")
    await expect(page.locator(".past, .divider")).to_have_count(0)


async def test_new_conversation_asks_first(visitor: Visitor) -> None:
    """The button resets, once it has said what that means."""
    await visitor.stage.say("before", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await page.get_by_role("button", name="New conversation").click()
    await expect(page.get_by_role("dialog")).to_contain_text("Nothing is deleted")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator(".divider")).to_have_count(0)
    await page.get_by_role("button", name="New conversation").click()
    await page.get_by_role("button", name="Begin anew").click()
    await expect(page.locator(".divider.reset")).to_have_count(1)


async def test_a_delivery_stands_there_without_its_frame(visitor: Visitor) -> None:
    """A reminder is told from what was said, and from whom it comes."""
    page = await visitor.enter("http%3Aa")
    await visitor.stage.office.worker.deliver(SessionKey("http", "a"), "the *tide* turns", "cron:tide", "delivery:1")
    entry = page.locator(".delivered")
    await expect(entry).to_contain_text("Delivered from cron:tide")
    await expect(entry.locator("em")).to_have_text("tide")
    await expect(entry).not_to_contain_text("<delivered")


async def test_a_compaction_is_a_divider(visitor: Visitor) -> None:
    """What is now sent as a summary is told with its count."""
    for i in range(9):
        await visitor.stage.say(f"message {i} " + "word " * 30, "cli:work")
    page = await visitor.enter("cli%3Awork")
    await expect(page.locator(".user")).to_have_count(9)
    await visitor.stage.say("/compact", "cli:work")
    await expect(page.locator(".divider.compact")).to_contain_text("older messages now sent as a summary")


async def test_a_session_that_is_put_away_begins_anew(visitor: Visitor) -> None:
    """After an archive the page is empty, and what is said next appears."""
    await visitor.stage.say("old", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await _seen(page, "old")
    await visitor.stage.catalog.archive(SessionKey("cli", "work"))
    await visitor.stage.say("new", "cli:work")
    await _seen(page, "new")


async def test_older_messages_come_as_one_scrolls_up(visitor: Visitor) -> None:
    """The newest page is there at once and the end in sight; the ones before come on the way up, each message once."""
    session = await visitor.stage.office.house.manager.get_or_create("cli:long")
    for i in range(260):
        session.add_message("user" if i % 2 == 0 else "assistant", f"number {i}")
    await visitor.stage.office.house.manager.save(session)
    page = await visitor.enter("cli%3Along")
    await expect(page.locator("#log").get_by_text("number 259", exact=True)).to_be_in_viewport()
    await expect(page.locator(".entry")).to_have_count(100)
    for count in (200, 260):
        await page.evaluate("document.getElementById('scroller').scrollTop = 0")
        await expect(page.locator(".entry")).to_have_count(count)
    await expect(page.get_by_role("button", name="Load older messages")).to_be_hidden()
    texts = await page.locator(".entry .said, .entry .prose").all_text_contents()
    assert texts == [f"number {i}" for i in range(260)]


async def test_the_document_stays_bounded(visitor: Visitor) -> None:
    """However far one scrolls up, 500 entries are kept; the pill leads back to the newest."""
    session = await visitor.stage.office.house.manager.get_or_create("cli:long")
    for i in range(700):
        session.add_message("user" if i % 2 == 0 else "assistant", f"number {i}")
    await visitor.stage.office.house.manager.save(session)
    page = await visitor.enter("cli%3Along")
    await expect(page.locator("#log").get_by_text("number 699", exact=True)).to_be_in_viewport()
    for first in (500, 400, 300, 200, 100, 0):
        await page.evaluate("document.getElementById('scroller').scrollTop = 0")
        await expect(page.locator("#log").get_by_text(f"number {first}", exact=True)).to_be_attached()
    assert await page.locator(".entry").count() == 500
    await visitor.stage.say("news", "cli:long")
    await page.get_by_role("button", name="New messages").click()
    await expect(page.locator(".user .said").last).to_have_text("news")
    await expect(page.locator(".reply .prose").last).to_be_in_viewport()


async def test_a_reader_far_above_is_left_there(visitor: Visitor) -> None:
    """What comes does not move who reads above: a pill tells of it, and leads there."""
    for i in range(4):
        await visitor.stage.say(f"{i}\n\n" + "a long line of words\n\n" * 15, "cli:work")
    page = await visitor.enter("cli%3Awork")
    await expect(page.locator(".reply")).to_have_count(4)
    await page.evaluate("document.getElementById('scroller').scrollTop = 300")
    await page.evaluate("new Promise(requestAnimationFrame)")
    await visitor.stage.say("the newest", "cli:work")
    pill = page.get_by_role("button", name="New messages")
    await expect(pill).to_be_visible()
    assert await page.evaluate("document.getElementById('scroller').scrollTop") == 300
    await pill.click()
    await expect(page.locator(".reply").last).to_be_in_viewport()
    await expect(pill).to_be_hidden()


async def test_what_is_said_elsewhere_is_marked_unread(visitor: Visitor) -> None:
    """Another session's news stand in the list and in the title until it is opened."""
    await visitor.stage.say("hello", "cli:work")
    await visitor.stage.say("hello", "telegram:77")
    page = await visitor.enter("cli%3Awork")
    await expect(page.locator("#sessions a")).to_have_count(2)
    await visitor.stage.say("news", "telegram:77")
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(page).to_have_title("(1) cli:work · nanochat")
    await page.locator("#sessions .unread").click()
    await expect(page).to_have_title("telegram:77 · nanochat")


async def test_usage_shows_the_curve_and_the_totals(visitor: Visitor) -> None:
    """What the conversation takes is drawn per turn and summed, and can be read with the arrow keys."""
    for text in ("one", "two", "three"):
        await visitor.stage.say(text, "cli:work")
    page = await visitor.enter("cli%3Awork")
    await page.get_by_role("button", name="Usage").click()
    figures = page.locator("#figures")
    await expect(figures).to_contain_text("Turns3")
    await expect(figures).to_contain_text("of 16,000")
    curve = page.get_by_role("img", name="3 turns")
    await curve.focus()
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("#readout")).to_contain_text("from cache")
    await visitor.stage.say("four", "cli:work")
    await expect(figures).to_contain_text("Turns4")
