"""What is sent for `/`: one text, whole, that may load nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from nanochat.channels.http import page as room
from nanochat.channels.http.page import page

HERE = Path(room.__file__).parent


def _policy() -> dict[str, str]:
    entries = (entry.partition(" ") for entry in page()[1]["Content-Security-Policy"].split("; "))
    return {name: value for name, _, value in entries}


@pytest.mark.parametrize("tag", ["script", "style"])
def test_the_policy_allows_what_is_in_the_page_and_nothing_else(tag: str) -> None:
    """Each inline text has its hash in the policy, and each hash its text."""
    texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page()[0], re.DOTALL)
    sums = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    assert texts
    assert _policy()[f"{tag}-src"] == " ".join(f"'sha256-{each}'" for each in sums)


def test_the_policy_is_strict() -> None:
    """Nothing by default, no frames, no forms, and no text that becomes HTML."""
    policy = _policy()
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "'none'"


def test_the_page_names_no_place_outside() -> None:
    """Neither the markup nor the style loads anything; what a parser's comments name is not loaded."""
    own = (HERE / "page.html").read_text() + (HERE / "page.css").read_text()
    own += "".join((HERE / "scripts" / f"{name}.js").read_text() for name in room.SCRIPTS)
    addresses = set(re.findall(r"https?://[^\s'\"`)]+", own))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"}  # names, not places
    assert "sourceMappingURL" not in page()[0]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function", own)


def test_no_script_ends_early() -> None:
    """No text of a script holds what would end it, or begin another, for the HTML parser."""
    html = page()[0]
    assert len(re.findall(r"</script", html)) == len(re.findall(r"<script>", html)) == 3
    for text in re.findall(r"<script>(.*?)</script>", html, re.DOTALL):
        assert "<script" not in text.lower()


def test_every_script_is_in_the_page() -> None:
    """A file that is there is used."""
    assert sorted(room.SCRIPTS) == sorted(path.stem for path in (HERE / "scripts").glob("*.js"))


def test_what_others_wrote_is_what_they_published() -> None:
    """Each vendored file is named with its licence and has the sum that stands beside it."""
    rows = re.findall(
        r"^\| `([^`]+)` \| .+ \| .+, in `([^`]+)` \| `([0-9a-f]{64})` \|$",
        (HERE / "vendor/README.md").read_text(),
        re.M,
    )
    assert {name for row in rows for name in row[:2]} | {"README.md"} == {
        path.name for path in (HERE / "vendor").iterdir()
    }
    for name, licence, expected in rows:
        assert hashlib.sha256((HERE / "vendor" / name).read_bytes()).hexdigest() == expected
        assert (HERE / "vendor" / licence).stat().st_size > 0
