"""For every hand and eye: the keyboard, a phone, light and dark."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.http.e2e.visitor import Visitor, send

pytestmark = pytest.mark.asyncio(loop_scope="package")

_WIDE = (
    "| "
    + " | ".join(f"column {i}" for i in range(12))
    + " |\n|"
    + "---|" * 12
    + "\n```\n"
    + "x" * 300
    + "\n```\n"
    + "y" * 300
)


async def _focused(page: Page) -> str:
    return str(await page.evaluate("document.activeElement.id || document.activeElement.textContent"))


async def test_all_can_be_done_by_keyboard(visitor: Visitor) -> None:
    """Choose a session, write in two lines, send, and come back to what was said, without a pointer."""
    await visitor.stage.say("hello", "cli:work")
    visitor.stage.office.clock.advance(seconds=60)
    await visitor.stage.say("hello", "telegram:77")
    page = await visitor.enter("telegram%3A77")
    await expect(page.locator("#sessions a")).to_have_count(2)
    await page.keyboard.press("Control+k")
    assert await _focused(page) == "filter"
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="cli:work")).to_be_visible()
    assert await _focused(page) == "message"
    await page.keyboard.type("one")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("two")
    await page.keyboard.press("Enter")
    await expect(page.locator(".user .said").last).to_have_text("one\ntwo")
    await expect(page.locator(".reply")).to_have_count(2)
    await page.keyboard.press("ArrowUp")
    await expect(page.get_by_label("Message", exact=True)).to_have_value("one\ntwo")


async def test_the_skip_link_leads_to_the_message_box(visitor: Visitor) -> None:
    """The first stop of Tab is seen when it is reached, and passes by the list."""
    page = await visitor.enter("cli%3Awork")
    link = page.get_by_role("link", name="Skip to the message box")
    await page.locator("#theme").focus()
    await page.keyboard.press("Shift+Tab")
    await expect(link).to_be_focused()
    await expect(link).to_be_in_viewport()
    await page.keyboard.press("Enter")
    assert await _focused(page) == "message"


async def test_every_control_has_a_name(visitor: Visitor) -> None:
    """What can be pressed or written in tells what it is."""
    await visitor.stage.say("look for x", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await page.get_by_role("button", name="Usage").click()
    await expect(page.locator(".reply")).not_to_have_count(0)
    unnamed = await page.evaluate(
        "[...document.querySelectorAll('button, a, input, textarea')].filter((e) => !(e.getAttribute('aria-label') || "
        "e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert unnamed == []


async def test_a_phone_has_all_of_it_without_scrolling_sideways(visitor: Visitor) -> None:
    """At 390 pixels wide tables and code scroll in themselves; the sessions are a drawer that Escape closes."""
    await visitor.stage.say(_WIDE, "cli:" + "k" * 60)
    page = await visitor.enter("cli%3A" + "k" * 60)
    await page.set_viewport_size({"width": 390, "height": 780})
    await page.get_by_role("button", name="Usage").click()
    await expect(page.locator(".code")).to_have_count(1)
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    assert await page.evaluate("document.getElementById('scroller').scrollWidth <= 390")
    await expect(page.locator("#drawer")).not_to_be_in_viewport()
    await page.get_by_role("button", name="Sessions").click()
    await expect(page.locator("#drawer")).to_be_in_viewport()
    assert await _focused(page) == "filter"
    await page.keyboard.press("Escape")
    await expect(page.locator("#drawer")).not_to_be_in_viewport()
    assert await _focused(page) == "open-drawer"
    await send(page, "from a phone")
    await expect(page.locator(".reply")).to_have_count(2)


async def test_light_and_dark_follow_the_system_or_the_button(visitor: Visitor) -> None:
    """The system decides, until the button says otherwise; that is kept."""
    page = await visitor.enter("cli%3Awork")

    async def is_dark() -> bool:
        colour = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour[4:-1].split(",")) < 384

    assert not await is_dark()
    await page.emulate_media(color_scheme="dark")
    assert await is_dark()
    await page.get_by_role("button", name="Light or dark").click()
    assert not await is_dark()
    await page.reload()
    assert not await is_dark()


async def test_a_stream_is_announced_when_it_is_whole(visitor: Visitor) -> None:
    """A screen reader is not told every word: the answer is busy while it comes, in a log that is polite."""
    visitor.stage.parrot.gate.clear()
    page = await visitor.enter("http%3Aa")
    await send(page, "some§ more")
    await expect(page.get_by_role("log")).to_have_attribute("aria-live", "polite")
    await expect(page.locator(".reply")).to_have_attribute("aria-busy", "true")
    visitor.stage.parrot.gate.set()
    await expect(page.locator("[aria-busy]")).to_have_count(0)
