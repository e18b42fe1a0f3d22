"""Texts are texts: nothing that a message, a preview or a key says is ever run, loaded or styled.

Each test ends with the visitor's own look: no script of theirs ran, and the page broke its own policy nowhere.
"""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.http.e2e.visitor import Visitor, send

pytestmark = pytest.mark.asyncio(loop_scope="package")

ATTACKS = (
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "[click](javascript:alert(1)) [again](JaVaScRiPt:alert(1)) <javascript:alert(1)>",
    "[click](javascript&#58;alert(1)) [x](&#106;avascript:alert(1)) [y](&#x6A;avascript&colon;alert(1))",
    "[click](data:text/html,<script>alert(1)</script>) [v](vbscript:alert(1)) [b](blob:x)",
    '<svg onload="alert(1)"><script>alert(1)</script></svg>',
    '<math><mtext><style><img src=x onerror="alert(1)"></style></mtext></math>',
    "<style>body { display: none }</style><p style='position:fixed;inset:0'>x</p>",
    '<iframe srcdoc="<script>parent.alert(1)</script>"></iframe><base href="https://example.org/">',
    '![x](https://example.org/x.png) ![y](x"onerror=alert(1))',
    '```"><script>alert(1)</script>\n</code><script>alert(1)</script>\n```',
    '[x](https://example.org "\\"onmouseover=alert(1)")',
    "| <img src=x onerror=alert(1)> |\n|---|\n| <script>alert(1)</script> |",
    'https://example.org/"onmouseover="alert(1)" www.example.org<script>alert(1)</script>',
    "<!--><script>alert(1)</script>--> <?php ?> <![CDATA[<script>alert(1)</script>]]>",
    "> " * 3000 + "x",
    "</script></textarea></style></title>--><script>alert(1)</script>",
)


_FORBIDDEN = "#log :is(script, style, iframe, svg, math, img, base, object, embed, form, textarea)"
_OF_THEIRS = """[...document.querySelectorAll("#log *")].flatMap((e) => [...e.attributes])
    .filter((a) => a.name.startsWith("on") || a.name === "style").map((a) => a.name)"""


async def _only_texts(page: Page) -> None:
    """Nothing in the transcript is more than a text with links that may be followed, even if one touches it."""
    await expect(page.locator(_FORBIDDEN)).to_have_count(0)
    assert await page.evaluate(_OF_THEIRS) == []
    hrefs = await page.evaluate('[...document.querySelectorAll("#log a")].map((a) => a.protocol)')
    assert set(hrefs) <= {"http:", "https:", "mailto:"}
    await page.evaluate(
        'document.querySelectorAll("#log *").forEach((e) => e.dispatchEvent(new MouseEvent("mouseover")))'
    )


async def test_what_a_conversation_holds_is_only_shown(visitor: Visitor) -> None:
    """Each said by both sides, and read from the history."""
    for attack in ATTACKS:
        await visitor.stage.say(attack, "cli:work")
    page = await visitor.enter("cli%3Awork")
    await expect(page.locator(".reply")).to_have_count(len(ATTACKS))
    for attack, shown in zip(ATTACKS, await page.locator(".user .said").all_text_contents(), strict=True):
        assert shown == attack
    await _only_texts(page)


async def test_what_streams_is_only_shown(visitor: Visitor) -> None:
    """Half of a tag is none, and neither is the whole, while it comes and once it is there."""
    page = await visitor.enter("http%3Aa")
    visitor.stage.parrot.gate.clear()
    await send(page, "\n\n".join(ATTACKS) + "§ and the end")
    await expect(page.locator(".reply")).to_contain_text("href")
    await _only_texts(page)
    visitor.stage.parrot.gate.set()
    await expect(page.locator(".meta")).to_contain_text("out")
    await _only_texts(page)


async def test_what_a_tool_says_is_only_shown(visitor: Visitor) -> None:
    """What a search finds is somebody's text, too."""
    await visitor.stage.say("tides <img src=x onerror=alert(1)>", "cli:notes")
    await visitor.stage.say("look for tides", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await page.locator("details.tool summary").click()
    await expect(page.locator(".output")).to_contain_text("<img src=x onerror=alert(1)>")
    await _only_texts(page)


async def test_keys_and_previews_are_only_shown(visitor: Visitor) -> None:
    """A session may have any key that can be one."""
    key = 'telegram:"><img src=x onerror=alert(1)>'
    await visitor.stage.say("<img src=x onerror=alert(2)>", key)
    page = await visitor.enter()
    await expect(page.locator("#sessions .key")).to_have_text(key)
    await expect(page.locator("#sessions .preview")).to_have_text("<img src=x onerror=alert(2)>")
    await page.locator("#sessions a").click()
    await expect(page.get_by_role("heading", name=key)).to_be_visible()
    await expect(page.locator(".user .said")).to_have_text("<img src=x onerror=alert(2)>")
    await expect(page.locator("img")).to_have_count(0)


async def test_an_address_that_names_no_key_is_told_of(visitor: Visitor) -> None:
    """A link made by somebody else opens nothing, and says why."""
    page = await visitor.enter("%3Cimg%20src=x%20onerror=alert(1)%3E%3Ax")
    await expect(page.locator("#nothing")).to_contain_text("session key")
