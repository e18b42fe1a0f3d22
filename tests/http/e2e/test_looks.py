"""For every hand and eye: the keyboard, a phone, light and dark."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.async_api import Page, expect

from nanochat.keys import SessionKey
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


# What is seen, and on what: [how many texts, those that are too pale].
_CONTRAST = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const { backgroundColor, opacity } = getComputedStyle(e);
      if (opacity !== "1") return "rgb(128, 128, 128)";
      if ((parts(backgroundColor)[3] ?? 1) === 1) return backgroundColor;
    }
  };
  const texts = [...document.querySelectorAll("body *")].filter((e) => !e.closest(".unseen, .skip, script, noscript, dialog")
    && e.checkVisibility({ visibilityProperty: true }) && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  const pale = texts.map((e) => {
    const style = getComputedStyle(e);
    const two = [light(e instanceof SVGElement ? style.fill : style.color), light(ground(e))].sort((a, b) => b - a);
    return [(two[0] + 0.05) / (two[1] + 0.05), e.outerHTML.slice(0, 90)];
  }).filter(([contrast]) => contrast < 4.5);
  return [texts.length, pale];
})()"""


_FITS = "(e) => e.scrollWidth <= e.clientWidth"


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


async def test_every_stop_of_the_keyboard_is_seen_and_named(visitor: Visitor) -> None:
    """The first stop of Tab passes by the list, each control has a name, and the transcript scrolls by keys."""
    await visitor.stage.say("look for x" + "\n\nlong" * 60, "cli:work")
    page = await visitor.enter("cli%3Awork")
    link = page.get_by_role("link", name="Skip to the message box")
    await page.locator("#theme").focus()
    await page.keyboard.press("Shift+Tab")
    await expect(link).to_be_focused()
    await expect(link).to_be_in_viewport()
    await page.keyboard.press("Enter")
    assert await _focused(page) == "message"
    await page.get_by_role("button", name="Usage").click()
    await expect(page.locator(".reply")).not_to_have_count(0)
    unnamed = await page.evaluate(
        "[...document.querySelectorAll('button, a, input, textarea, [tabindex]')].filter((e) => "
        "!(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    await page.get_by_role("button", name="Usage").click()
    await page.locator("#reset").focus()
    await page.keyboard.press("Tab")
    assert await _focused(page) == "scroller"
    await page.keyboard.press("Home")
    await expect(page.locator(".who").first).to_be_in_viewport()


async def test_every_text_stands_out(visitor: Visitor) -> None:
    """Each text that is seen has at least 4.5 times the contrast to what it stands on, what is past too."""
    await visitor.stage.say(
        "look for x `code` [link](https://example.org/) [dead](x:y)\n\n> quoted\n\n```py\ncode\n```", "cli:work"
    )
    await visitor.stage.office.worker.deliver(SessionKey("cli", "work"), "the tide turns", "cron:tide", "delivery:1")
    page = await visitor.enter("cli%3Awork")
    await expect(page.locator(".delivered")).to_be_visible()
    await visitor.stage.say("/new", "cli:work")
    await expect(page.locator(".divider")).to_be_visible()
    await send(page, "broken¶")
    await expect(page.locator(".failure")).to_be_visible()
    await page.get_by_role("button", name="Usage").click()
    await expect(page.locator(".legend")).to_be_visible()
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        checked, pale = await page.evaluate(_CONTRAST)
        assert pale == []
        assert checked > 40


async def test_a_phone_has_all_of_it_without_scrolling_sideways(visitor: Visitor) -> None:
    """At 390 pixels wide code scrolls in itself, the sessions are a drawer, and the header tells all of a chat's key."""
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
    await page.evaluate("location.hash = '#telegram:12345678'")
    title = page.get_by_role("heading", name="telegram:12345678")
    assert await title.evaluate(_FITS)
    for name in ("Sessions", "Usage", "New conversation"):
        await expect(page.get_by_role("button", name=name, exact=True)).to_be_in_viewport(ratio=1)
    await send(page, "from a phone")
    await expect(page.locator(".reply")).to_have_count(1)
    await visitor.stage.wire.cut()
    await expect(page.get_by_text("Reconnecting")).to_be_visible()
    assert await title.evaluate(_FITS)
    await expect(page.get_by_role("button", name="New conversation")).to_be_in_viewport(ratio=1)


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
