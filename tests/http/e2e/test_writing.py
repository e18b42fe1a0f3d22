"""What one says on the page: an answer that streams, once, whatever the network does."""

from __future__ import annotations

import pytest
from playwright.async_api import Route, expect

from tests.http.e2e.visitor import Visitor, send

pytestmark = pytest.mark.asyncio(loop_scope="package")

MARKDOWN = """\
# The tides

They are **strong**, ~~weak~~ and `spring`.

| when | height |
|---|--:|
| noon | 5.4 m |

1. first
2. second
   - [x] done

> said the harbour

```python
print("<b>")
```

See [the table](https://example.org/tides).
"""


# The most entries that ever stood there at once.
_COUNT = """
globalThis.most = 0;
const log = document.getElementById("log");
new MutationObserver(() => { most = Math.max(most, log.children.length); }).observe(log, {childList: true});
"""


async def test_an_answer_streams_as_markdown_and_stands_there_once(visitor: Visitor) -> None:
    """Headings, tables, lists and code are there while it comes; when the file has the turn, each line stands once."""
    visitor.stage.parrot.gate.clear()
    page = await visitor.enter("http%3Aa")
    await page.evaluate(_COUNT)
    await send(page, MARKDOWN + "§\nThe *end*.")
    reply = page.locator(".reply")
    await expect(reply.locator("td").last).to_have_text("5.4 m")
    await expect(reply).to_have_attribute("aria-busy", "true")
    await expect(page.get_by_role("log")).to_have_attribute("aria-live", "polite")
    await expect(reply.get_by_role("link")).to_be_attached()
    grown = await reply.locator(".prose").inner_html()
    visitor.stage.parrot.gate.set()
    await expect(reply.locator(".meta")).to_contain_text("out")
    await expect(page.locator(".streaming, [aria-busy]")).to_have_count(0)
    assert (await reply.locator(".prose").inner_html()).startswith(grown)
    await expect(page.locator(".user")).to_have_count(1)
    await expect(reply).to_have_count(1)
    assert await page.evaluate("most") == 2
    for selector, text in (
        ("h3", "The tides"),
        ("strong", "strong"),
        ("del", "weak"),
        ("blockquote", "said the harbour"),
        ("pre code", 'print("<b>")'),
        ("em", "end"),
    ):
        await expect(reply.locator(selector)).to_have_text(text)
    await expect(reply.locator("ol > li")).to_have_count(2)
    await expect(reply.locator("input[type=checkbox]")).to_be_checked()
    await expect(reply.get_by_role("link", name="the table")).to_have_attribute("href", "https://example.org/tides")


async def test_code_can_be_copied(visitor: Visitor) -> None:
    """The button copies the code as it is, without its fence."""
    await visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await visitor.stage.say("```sh\nls -l | wc\n```", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await page.get_by_role("button", name="Copy code").click()
    await expect(page.locator(".copy")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == "ls -l | wc"


async def test_a_tool_is_a_line_that_opens(visitor: Visitor) -> None:
    """A call is one line; what it was asked and what it said are inside."""
    await visitor.stage.say("the tides are high", "cli:notes")
    page = await visitor.enter("http%3Aa")
    await send(page, "look for tides")
    line = page.locator("details.tool")
    await expect(line).to_have_count(1)
    await expect(page.locator(".meta").last).to_contain_text("out")
    await expect(line.locator("summary")).to_contain_text("sessions")
    await expect(line.locator(".output")).to_be_hidden()
    await line.locator("summary").click()
    await expect(line.locator(".output")).to_contain_text("cli:notes")


async def test_stop_keeps_what_was_said(visitor: Visitor) -> None:
    """The button ends the answer; what was said stays, and says that it was stopped."""
    visitor.stage.parrot.gate.clear()
    page = await visitor.enter("http%3Aa")
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    await send(page, "half of it§ and the rest")
    await expect(page.locator(".reply .prose")).to_have_text("half of it")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator(".reply .mark")).to_have_text("stopped")
    await expect(page.locator(".reply .prose")).to_have_text("half of it")
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def test_a_failure_is_one_line_and_can_be_tried_again(visitor: Visitor) -> None:
    """A model that is overloaded is told of plainly; trying again asks the same question, once in the file."""
    page = await visitor.enter("http%3Aa")
    await send(page, "it breaks¶ here")
    alert = page.locator(".failure")
    await expect(alert).to_contain_text("overloaded")
    await expect(page.locator(".user")).to_have_count(1)
    await alert.get_by_role("button", name="Try again").click()
    await expect(page.locator(".failure")).to_have_count(1)
    await expect(page.locator(".user")).to_have_count(1)
    await page.reload()
    await expect(page.locator(".user")).to_have_count(1)
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def test_a_lost_network_is_waited_for_and_the_answer_resumed(visitor: Visitor) -> None:
    """The same message is posted again under its key: the answer goes on, begun once; what is sent meanwhile arrives, once."""
    visitor.stage.parrot.gate.clear()
    page = await visitor.enter("http%3Aa")
    await send(page, "the first half§ and the second")
    await expect(page.locator(".reply .prose")).to_have_text("the first half")
    await visitor.stage.wire.cut()
    await expect(page.get_by_text("The connection is lost")).to_be_visible()
    await expect(page.get_by_text("Reconnecting")).to_be_visible()
    await visitor.stage.wire.mend()
    visitor.stage.parrot.gate.set()
    await expect(page.locator(".reply .meta")).to_contain_text("out")
    await expect(page.locator(".reply .prose")).to_have_text("the first half and the second")
    await expect(page.get_by_text("Reconnecting")).to_be_hidden()
    assert [line["role"] for line in visitor.stage.written("http:a")] == ["user", "assistant"]
    await visitor.stage.wire.cut()
    await send(page, "are you there?")
    await expect(page.get_by_text("The connection is lost")).to_be_visible()
    await visitor.stage.wire.mend()
    await expect(page.locator(".reply .prose").last).to_have_text("are you there?")
    await expect(page.locator(".user")).to_have_count(2)
    assert len(visitor.stage.written("http:a")) == 4


async def test_a_reload_in_the_middle_loses_nothing(visitor: Visitor) -> None:
    """The answer goes on without the page that asked, can be stopped from the new one, and stands there once."""
    visitor.stage.parrot.gate.clear()
    page = await visitor.enter("http%3Aa")
    await send(page, "half§ and half")
    await expect(page.locator(".reply .prose")).to_have_text("half")
    await page.reload()
    await expect(page.locator(".user")).to_have_count(1)
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    visitor.stage.parrot.gate.set()
    await expect(page.locator(".reply .prose")).to_have_text("half and half")
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def test_a_message_outlives_its_session_on_the_page(visitor: Visitor) -> None:
    """Who opens another session while an answer comes finds it whole on the way back."""
    await visitor.stage.say("hello", "cli:work")
    visitor.stage.parrot.gate.clear()
    page = await visitor.enter("http%3Aa")
    await send(page, "half§ and half")
    await expect(page.locator(".reply .prose")).to_have_text("half")
    await page.get_by_role("link", name="cli:work").click()
    await expect(page.locator(".reply .prose")).to_have_text("hello")
    visitor.stage.parrot.gate.set()
    await page.get_by_role("link", name="http:a").click()
    await expect(page.locator(".reply .prose")).to_have_text("half and half")
    await expect(page.locator(".user")).to_have_count(1)


async def test_what_others_say_meanwhile_stands_in_the_order_of_the_file(visitor: Visitor) -> None:
    """A message from elsewhere that waits behind ours comes below it, and ours is not doubled."""
    visitor.stage.parrot.gate.clear()
    page = await visitor.enter("telegram%3A77")
    await send(page, "ours§")
    await visitor.stage.parrot.waiting.wait()
    visitor.stage.parrot.gate.set()
    await visitor.stage.say("theirs", "telegram:77")
    await expect(page.locator(".user .said")).to_have_text(["ours§", "theirs"])
    await expect(page.locator(".reply .prose")).to_have_text(["ours", "theirs"])
    await expect(page.locator(".streaming")).to_have_count(0)


async def test_a_command_is_answered_and_leaves_no_line(visitor: Visitor) -> None:
    """/help lists the commands on the page, and nothing in the file; one that is mistyped names the nearest."""
    await visitor.stage.say("hello", "cli:work")
    page = await visitor.enter("cli%3Awork")
    await send(page, "/hlep")
    await expect(page.locator(".failure")).to_contain_text("/help")
    await send(page, "/help")
    await expect(page.locator(".command")).to_contain_text("/undo")
    await send(page, "/undo")
    await expect(page.locator(".command").last).to_contain_text("took back")
    await expect(page.locator(".user .said")).to_have_text(["/hlep", "/help", "/undo"])


async def test_a_new_session_is_begun_by_its_first_message(visitor: Visitor) -> None:
    """The button makes an id; the session is in the list once something was said, and stays open if the address loses it."""
    page = await visitor.enter("cli%3Awork")
    await page.get_by_role("button", name="New session").click()
    await send(page, "hello")
    await expect(page.locator(".reply .prose")).to_have_text("hello")
    await expect(page.locator("#sessions .key")).to_have_text(await page.locator("#title").text_content() or "?")
    assert "#http%3A" in page.url
    await page.evaluate("location.hash = ''")
    await send(page, "still here")
    await expect(page.locator(".reply .prose")).to_have_text(["hello", "still here"])


async def test_a_draft_waits_in_its_session(visitor: Visitor) -> None:
    """What was written and not sent is there when one comes back."""
    await visitor.stage.say("hello", "cli:work")
    await visitor.stage.say("hello", "telegram:77")
    page = await visitor.enter("cli%3Awork")
    field = page.get_by_label("Message", exact=True)
    await field.fill("half a thought")
    await page.get_by_role("link", name="telegram:77").click()
    await expect(field).to_have_value("")
    await page.get_by_role("link", name="cli:work").click()
    await expect(field).to_have_value("half a thought")


async def test_an_answer_that_was_lost_on_its_way_stands_there_once(visitor: Visitor) -> None:
    """Where the file tells the whole turn before the message can be posted again, its answer is not shown a second time."""
    page = await visitor.enter("http%3Aa")

    async def lose(route: Route) -> None:
        await route.fetch()
        await expect(page.locator(".reply")).to_have_count(2)  # that of the file, above what is still asked
        await route.abort()

    await page.route("**/chat/stream/**", lose, times=1)
    await send(page, "hello")
    await expect(page.locator(".streaming")).to_have_count(0)
    await expect(page.locator(".user .said")).to_have_text(["hello"])
    await expect(page.locator(".reply .prose")).to_have_text(["hello"])
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def test_what_is_refused_behind_ones_back_is_kept(visitor: Visitor) -> None:
    """A message that could not be sent before its session was left, and is refused then, waits there as a draft."""
    await visitor.stage.say("hello", "cli:work")
    page = await visitor.enter("http%3Aa")
    has_left = False

    async def refuse(route: Route) -> None:
        if has_left:
            await route.fulfill(status=409, json={"kind": "busy", "detail": "the session is busy"})
        else:
            await route.abort()

    await page.route("**/chat/stream/**", refuse)
    await send(page, "do not lose me")
    await expect(page.get_by_text("The connection is lost")).to_be_visible()
    has_left = True
    await page.get_by_role("link", name="cli:work").click()
    await expect(page.get_by_text("Not sent to http:a: The session is busy.")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_label("Message", exact=True)).to_have_value("do not lose me")
