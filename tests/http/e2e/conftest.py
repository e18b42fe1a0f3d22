"""A browser for all tests of the page, and for each a house of its own and a clean profile."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.http.e2e.stage import Stage, staged
from tests.http.e2e.visitor import Visitor

# Nothing that would look for the network, or take the time that a machine without a screen does not have.
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# A page that broke its own policy, or that a message made do something, tells of it here.
_WITNESS = """
globalThis.broken = [];
globalThis.ran = [];
globalThis.alert = globalThis.prompt = (what) => globalThis.ran.push(String(what));
document.addEventListener("securitypolicyviolation", (event) =>
  globalThis.broken.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    """One browser; without one the tests are skipped, or fail where `TESTS_NEED_BROWSER` is set."""
    found = next((path for name in _CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        why = f"no browser found, looked for {', '.join(_CHROMIUM)}"
        if os.environ.get("TESTS_NEED_BROWSER"):
            pytest.fail(why)
        pytest.skip(why)
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=found, args=list(_OPTIONS))
        yield opened
        await opened.close()


@pytest_asyncio.fixture(loop_scope="package")
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A house of its own."""
    async with staged(tmp_path) as built:
        yield built


@pytest_asyncio.fixture(loop_scope="package")
async def visitor(browser: Browser, stage: Stage) -> AsyncIterator[Visitor]:
    """A clean profile; at the end nothing may have been complained of, and nothing have run that is not the page's own."""
    async with asyncio.timeout(60):
        context = await browser.new_context(viewport={"width": 1100, "height": 800}, reduced_motion="reduce")
        await context.add_init_script(_WITNESS)
        guest = Visitor(context, stage)
        try:
            yield guest
            for page in guest.pages:
                assert await page.evaluate("[...broken, ...ran]") == []
            assert guest.complaints == []
        finally:
            await context.close()
