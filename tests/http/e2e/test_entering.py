"""Who gets in: the token, asked for once."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.http.e2e.visitor import Visitor, send
from tests.http.premises import TOKEN

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_wrong_token_says_so(visitor: Visitor) -> None:
    """A token that is not the right one, or cannot be one, is named as such; the form stays, and Escape does not put it aside."""
    page = await visitor.page()
    refusal = page.get_by_role("alert").filter(has_text="not accepted")
    for wrong in ("guess", "s\u00e9cret", "two words"):
        await page.keyboard.press("Escape")
        await page.keyboard.press("Escape")
        await page.evaluate("document.getElementById('token-error').textContent = ''")
        await visitor.give(page, wrong)
        await expect(refusal).to_be_visible()
    await visitor.give(page, TOKEN)
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_the_token_is_kept_for_the_tab(visitor: Visitor) -> None:
    """A reload asks for nothing; another tab does, and neither the device's storage, nor a cookie, nor the address holds it."""
    await visitor.stage.say("hello", "cli:work")
    page = await visitor.page("cli%3Awork")
    await visitor.give(page, TOKEN)
    await expect(page.locator(".reply")).to_have_count(1)
    await page.reload()
    await expect(page.locator(".reply")).to_have_count(1)
    await expect(page.get_by_role("dialog")).to_be_hidden()
    assert TOKEN not in await page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
    other = await visitor.page()
    await expect(other.get_by_role("dialog")).to_be_visible()


async def test_a_browser_that_keeps_nothing_is_asked_once(visitor: Visitor) -> None:
    """Where the tab may store nothing, the token is kept in the page, as long as it is open."""
    await visitor.stage.say("hello", "cli:work")
    await visitor.context.add_init_script(
        "for (const name of ['sessionStorage', 'localStorage']) "
        "Object.defineProperty(window, name, {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    page = await visitor.page("cli%3Awork")
    await visitor.give(page, TOKEN)
    await expect(page.locator(".reply")).to_have_count(1)
    await send(page, "more")
    await expect(page.locator(".reply")).to_have_count(2)
    await expect(page.get_by_role("dialog")).to_be_hidden()
