"""What others say: the list, the transcript that grows, and what is taken back."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

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


async def test_the_list_has_all_sessions(visitor: Visitor) -> None:
    """The newest is open; the box filters by key, and Enter opens what is left; what has news says so until it is opened."""
    await visitor.stage.say("older", "cli:work")
    visitor.stage.office.clock.advance(seconds=60)
    await visitor.stage.say("newer", "telegram:77")
    page = await visitor.enter()
    await expect(page.locator("#sessions .key")).to_have_text(["telegram:77", "cli:work"])
    await expect(page.locator("#sessions .preview")).to_have_text(["newer", "older"])
    await expect(page.get_by_role("heading", name="telegram:77")).to_be_visible()
    await _seen(page, "newer")
    box = page.get_by_label("Filter sessions by key")
    await box.fill("nowhere")
    await expect(page.get_by_text("No session has such a key.")).to_be_visible()
    await box.fill("LI:W")
    await expect(page.locator("#sessions .key")).to_have_text(["cli:work"])
    await box.press("Enter")
    await expect(page.get_by_role("heading", name="cli:work")).to_be_visible()
    await box.fill("")
    await visitor.stage.say("news", "telegram:77")
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(page).to_have_title("(1) cli:work · nanochat")
    await page.locator("#sessions .unread").click()
    await expect(page).to_have_title("telegram:77 · nanochat")


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


async def test_a_new_conversation_is_a_divider_and_can_be_undone(visitor: Visitor) -> None:
    """After a reset the past is dimmed above a line; after its undo all is as before, also on a page that never saw it."""
    await visitor.stage.say("before", "cli:work")
    await visitor.stage.say("taken back", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await _seen(page, "before", "taken back")
    await visitor.stage.say("/undo", "cli:work")
    await _seen(page, "before")
    await expect(page.locator(".reply")).to_have_count(1)
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


async def test_what_is_no_part_of_the_talk_is_told_from_it(visitor: Visitor) -> None:
    """A summary is told with its count, and a reminder with whom it comes from, without its frame."""
    for i in range(9):
        await visitor.stage.say(f"message {i} " + "word " * 30, "cli:work")
    page = await visitor.enter("cli%3Awork")
    await expect(page.locator(".user")).to_have_count(9)
    await visitor.stage.say("/compact", "cli:work")
    await expect(page.locator(".divider.compact")).to_contain_text("older messages now sent as a summary")
    await visitor.stage.office.worker.deliver(SessionKey("cli", "work"), "the *tide* turns", "cron:tide", "delivery:1")
    entry = page.locator(".delivered")
    await expect(entry).to_contain_text("Delivered from cron:tide")
    await expect(entry.locator("em")).to_have_text("tide")
    await expect(entry).not_to_contain_text("<delivered")


async def test_a_session_that_is_put_away_begins_anew(visitor: Visitor) -> None:
    """After an archive the page is empty, and what is said next appears."""
    await visitor.stage.say("old", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await _seen(page, "old")
    await visitor.stage.catalog.archive(SessionKey("cli", "work"))
    await visitor.stage.say("new", "cli:work")
    await _seen(page, "new")


async def test_the_document_stays_bounded(visitor: Visitor) -> None:
    """Older messages come as one scrolls up, each once; of all 500 entries are kept, and the pill leads back to the newest."""
    session = await visitor.stage.office.house.manager.get_or_create("cli:long")
    for i in range(700):
        session.add_message("user" if i % 2 == 0 else "assistant", f"number {i}")
    await visitor.stage.office.house.manager.save(session)
    page = await visitor.enter("cli%3Along")
    await expect(page.locator("#log").get_by_text("number 699", exact=True)).to_be_in_viewport()
    await expect(page.locator(".entry")).to_have_count(100)
    for first in (500, 400, 300, 200, 100, 0):
        await page.evaluate("document.getElementById('scroller').scrollTop = 0")
        await expect(page.locator("#log").get_by_text(f"number {first}", exact=True)).to_be_attached()
    texts = await page.locator(".entry .said, .entry .prose").all_text_contents()
    assert texts == [f"number {i}" for i in range(500)]
    await expect(page.get_by_role("button", name="Load older messages")).to_be_hidden()
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
    await expect(page.get_by_role("img", name="4 turns")).to_be_focused()
    await expect(page.locator("#readout")).to_contain_text("from cache")


async def test_older_sessions_are_asked_for(visitor: Visitor) -> None:
    """The newest 200 are listed; the button brings as many more, none of them as news, and the filter finds any."""
    await visitor.stage.say("hello", "cli:work")
    sessions = visitor.stage.directory / "sessions"
    text = (sessions / "cli+work.jsonl").read_text()
    for i in range(449):
        (sessions / f"cli+s{i}.jsonl").write_text(text.replace("cli:work", f"cli:s{i}"))
    page = await visitor.enter("cli%3As1")
    rows = page.locator("#sessions a")
    await expect(rows).to_have_count(200)
    older = page.get_by_role("button", name="Show older sessions")
    await expect(page.locator("#sessions-note")).to_have_text("250 more")
    await older.click()
    await expect(rows).to_have_count(400)
    await expect(older).to_be_focused()
    await page.get_by_label("Filter sessions by key").fill("cli:work")
    await expect(rows).to_have_count(1)
    await page.get_by_label("Filter sessions by key").fill("")
    await older.click()
    await expect(rows).to_have_count(450)
    await expect(older).to_be_hidden()
    await expect(page.locator("#sessions .unread")).to_have_count(0)
    for i in range(300):
        (sessions / f"cli+s{i}.jsonl").unlink()
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(rows).to_have_count(150)


async def test_a_page_that_nobody_sees_asks_for_nothing(visitor: Visitor) -> None:
    """The list is read every ten seconds while it is seen; unseen, only when the open session has news."""
    await visitor.stage.say("hello", "cli:work")
    await visitor.context.clock.install()
    page = await visitor.enter("cli%3Awork")
    await expect(page.locator("#sessions a")).to_have_count(1)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    async with page.expect_response("**/sessions?limit=200"):
        await page.clock.fast_forward(11_000)
    await page.evaluate("Object.defineProperty(document, 'hidden', {get: () => globalThis.isAway})")
    see = "(isAway) => { globalThis.isAway = isAway; document.dispatchEvent(new Event('visibilitychange')); }"
    await page.evaluate(see, True)
    asked.clear()
    await page.clock.fast_forward(30_000)
    await page.evaluate("new Promise(requestAnimationFrame)")
    assert asked == []
    async with page.expect_response("**/sessions?limit=200"):
        await visitor.stage.say("news", "cli:work")
    await expect(page).to_have_title("(1) cli:work · nanochat")
    async with page.expect_response("**/sessions?limit=200"):
        await page.evaluate(see, False)
    await expect(page).to_have_title("cli:work · nanochat")


async def test_who_leaves_while_the_past_is_read_anew_misses_nothing(visitor: Visitor) -> None:
    """A session that is opened while the one before is still being read anew shows its own lines as they come."""
    await visitor.stage.say("before", "cli:a")
    await visitor.stage.say("hello", "cli:b")
    page = await visitor.enter("cli%3Aa")
    await _seen(page, "before")
    await visitor.stage.say("/new", "cli:a")
    await expect(page.locator(".divider")).to_be_visible()
    async with page.expect_request("**/sessions/cli%3Aa/history*"):
        await page.route("**/sessions/cli%3Aa/history*", lambda _: None)  # is never answered
        await visitor.stage.say("/undo", "cli:a")
    await page.get_by_role("link", name="cli:b").click()
    await _seen(page, "hello")
    await visitor.stage.say("news", "cli:b")
    await _seen(page, "hello", "news")


async def test_older_messages_that_cannot_be_read_are_asked_for_once(visitor: Visitor) -> None:
    """Who is at the top when the network fails is told so, and tries again when he wants to."""
    session = await visitor.stage.office.house.manager.get_or_create("cli:long")
    for i in range(160):
        session.add_message("user" if i % 2 == 0 else "assistant", f"number {i}")
    await visitor.stage.office.house.manager.save(session)
    page = await visitor.enter("cli%3Along")
    await expect(page.locator(".entry")).to_have_count(100)
    asked: list[str] = []

    async def refuse(route: Route) -> None:
        asked.append(route.request.url)
        await route.abort()

    await page.route("**/history*before=*", refuse)
    await page.evaluate("document.getElementById('scroller').scrollTop = 0")
    button = page.get_by_role("button", name="Load older messages again: nanochat cannot be reached.")
    await expect(button).to_be_visible()
    for _ in range(20):
        await page.evaluate("new Promise(requestAnimationFrame)")
    assert len(asked) == 1
    await page.unroute("**/history*before=*")
    await button.click()
    await expect(page.locator(".entry")).to_have_count(160)


async def test_a_feed_that_fails_says_why_and_is_taken_up_again(visitor: Visitor) -> None:
    """A file that cannot be read for a while is told of in the words of the service; a feed that never begins is given up."""
    await visitor.stage.say("hello", "cli:work")
    await visitor.context.clock.install()
    problem = '{"status": 503, "kind": "store", "detail": "the file cannot be read"}'
    tries: list[Route] = []

    async def fail(route: Route) -> None:
        tries.append(route)
        if len(tries) == 1:
            await route.fulfill(body=f"event: error\ndata: {problem}\n\n", content_type="text/event-stream")
        elif len(tries) > 2:  # the second is never answered
            await route.continue_()

    await visitor.context.route("**/live*", fail)
    page = await visitor.enter("cli%3Awork")
    await expect(page.get_by_text("The file cannot be read.")).to_be_visible()
    async with page.expect_request("**/live*"):
        await page.clock.fast_forward(1_000)
    async with page.expect_response("**/live*"):
        await page.clock.fast_forward(60_500)
        await expect(page.get_by_text("Reconnecting")).to_be_visible()
        await page.clock.fast_forward(5_000)
    await expect(page.locator("#link-state")).to_have_text("")
    await visitor.stage.say("news", "cli:work")
    await _seen(page, "hello", "news")
