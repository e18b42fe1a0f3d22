"""Somebody at a browser, who notices what the page does wrong.

Knows the page by what a person sees of it. Does not know what stands behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.async_api import BrowserContext, ConsoleMessage, Page

from tests.http.e2e.stage import Stage
from tests.http.premises import TOKEN

__all__ = ["Visitor", "send"]


async def send(page: Page, text: str) -> None:
    """Write a message and press Enter."""
    await page.get_by_label("Message", exact=True).fill(text)
    await page.keyboard.press("Enter")


@dataclass
class Visitor:
    """Somebody at a browser: opens the page, and hears it complain."""

    context: BrowserContext
    stage: Stage
    complaints: list[str] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    async def page(self, key: str = "", kept: str = "") -> Page:
        """The page in a new tab, as it is before a token was given, or with what the tab keeps."""
        page = await self.context.new_page()
        if kept:
            await page.add_init_script(f"sessionStorage.setItem('nanochat-token', '{kept}')")
        page.set_default_timeout(8_000)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.pages.append(page)
        await page.goto(f"{self.stage.url}#{key}")
        return page

    async def give(self, page: Page, token: str) -> None:
        """Fill in the form that asks for the token."""
        await page.get_by_role("textbox", name="Token").fill(token)
        await page.keyboard.press("Enter")

    async def enter(self, key: str = "") -> Page:
        """The page with its token given, at a session."""
        return await self.page(key, TOKEN)

    def _console(self, message: ConsoleMessage) -> None:
        # The browser itself reports a request that was refused, or that found no network: those are asked for.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)
