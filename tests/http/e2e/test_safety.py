"""Texts are texts: nothing that a message, a preview or a key says is ever run, loaded or styled.

Each test ends with the visitor's own look: no script of theirs ran, and the page broke its own policy nowhere.
"""

from __future__ import annotations

import pytest
from playwright.async_api import Page, Route, expect

from nanochat.channels.http.page import page as composed
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


# In the builder of elements, and what each would let through.
MISTAKES = (
    ('["http:", "https:", "mailto:"].includes(url.protocol)', "true"),
    (
        'case "hr": return element("hr")',
        'case "hr": return element("iframe", { srcdoc: "<img src=x onerror=parent.alert(1)>" })',
    ),
    ('case "br": return element("br")', 'case "br": return element("img", { src: "data:,", onerror: "alert(1)" })'),
    (
        'element("strong", {}',
        'element("strong", { onmouseover: "alert(1)", style: "position: fixed", id: "log", name: "x" }',
    ),
    ('element("em", {}', 'element("form", { action: "https://example.org/" }'),
    ('element("del", {}', 'drawn("svg", { onload: "alert(1)" }'),
)
_MISTAKEN = """\
[click](javascript:alert(1)) [data](data:text/html,x)  
**bold** *slanted* ~~struck~~

---

[fine](https://example.org/)

```py
code
```
"""

_FORBIDDEN = "#log :is(script, style, iframe, svg, math, img, base, object, embed, form, textarea)"
_OF_THEIRS = """[...document.querySelectorAll("#log *")].flatMap((e) => [...e.attributes])
    .filter((a) => a.name.startsWith("on") || a.name === "style").map((a) => a.name)"""


async def _only_texts(page: Page) -> None:
    """Nothing in the transcript is more than a text with links that may be followed, even if one touches it."""
    await expect(page.locator(_FORBIDDEN)).to_have_count(0)
    assert await page.evaluate(_OF_THEIRS) == []
    hrefs = await page.evaluate('[...document.querySelectorAll("#log a[href]")].map((a) => a.protocol)')
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
    """A session may have any key that can be one; a link that somebody made to what cannot be one opens nothing, and says why."""
    key = 'telegram:"><img src=x onerror=alert(1)>'
    await visitor.stage.say("<img src=x onerror=alert(2)>", key)
    page = await visitor.enter()
    await expect(page.locator("#sessions .key")).to_have_text(key)
    await expect(page.locator("#sessions .preview")).to_have_text("<img src=x onerror=alert(2)>")
    await page.locator("#sessions a").click()
    await expect(page.get_by_role("heading", name=key)).to_be_visible()
    await expect(page.locator(".user .said")).to_have_text("<img src=x onerror=alert(2)>")
    await page.evaluate("location.hash = '%3Cimg%20src=x%20onerror=alert(1)%3E%3Ax'")
    await expect(page.locator("#nothing")).to_contain_text("session key")
    await expect(page.locator("img")).to_have_count(0)


async def test_a_mistake_in_the_builder_is_caught(visitor: Visitor) -> None:
    """Were the page to make of a text what it must not, and had it no policy, what is not on the purifier's list would go."""
    html, _ = composed()
    for right, wrong in MISTAKES:
        assert html.count(right) == 1
        html = html.replace(right, wrong)

    async def serve(route: Route) -> None:
        await route.fulfill(body=html, content_type="text/html; charset=utf-8")

    await visitor.context.route(visitor.stage.url, serve)
    await visitor.stage.say(_MISTAKEN, "cli:work")
    page = await visitor.enter("cli%3Awork")
    reply = page.locator(".reply .prose")
    await expect(reply.get_by_role("link", name="fine")).to_have_attribute("href", "https://example.org/")
    for text in ("click", "bold", "slanted"):
        await expect(reply).to_contain_text(text)
    await expect(page.locator("#log [id], #log [name], #log [srcdoc]")).to_have_count(0)
    await _only_texts(page)
    await expect(page.locator("#log a[href]")).to_have_count(1)
    await reply.get_by_text("click").click()
    await page.get_by_role("button", name="Copy code").click()
    await expect(page.locator("#spoken")).not_to_be_empty()
    visitor.stage.parrot.gate.clear()
    await send(page, "[again](javascript:alert(1)) and§ the end")
    await expect(page.locator(".streaming .prose")).to_have_text("again and")
    await expect(page.locator("#log a[href]")).to_have_count(1)
    await _only_texts(page)
