"""Who gets in: the token, asked for once."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.http.e2e.visitor import Visitor
from tests.http.premises import TOKEN

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.mark.parametrize("wrong", ["guess", "s\u00e9cret", "two words"], ids=["ascii", "not-ascii", "spaced"])
async def test_a_wrong_token_says_so(visitor: Visitor, wrong: str) -> None:
    """A token that is not the right one is named as such, and the form stays."""
    page = await visitor.page()
    await visitor.give(page, wrong)
    await expect(page.get_by_role("alert").filter(has_text="not accepted")).to_be_visible()
    await visitor.give(page, TOKEN)
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_the_token_is_kept_for_the_tab(visitor: Visitor) -> None:
    """A reload asks for nothing; another tab, which shares no session, does."""
    await visitor.stage.say("hello", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await page.reload()
    await expect(page.locator(".reply")).to_have_count(1)
    await expect(page.get_by_role("dialog")).to_be_hidden()
    other = await visitor.page()
    await expect(other.get_by_role("dialog")).to_be_visible()


async def test_the_form_cannot_be_put_aside(visitor: Visitor) -> None:
    """Escape does not leave a page that can do nothing."""
    page = await visitor.page()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_visible()


async def test_no_token_reaches_a_place_that_outlives_the_tab(visitor: Visitor) -> None:
    """Neither the device's storage, nor a cookie, nor the address holds the token."""
    page = await visitor.enter()
    assert TOKEN not in await page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
