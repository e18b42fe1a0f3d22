"""The page at `/`: one HTML text with its style and scripts in it, and the headers that let it run those and nothing else.

Knows the files beside it. Does not know who serves it, nor what it is served.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

__all__ = ["SCRIPTS", "page"]

_HERE = Path(__file__).parent

# In the order in which they are run: each knows those before it.
SCRIPTS = ("elements", "wire", "markdown", "curve", "transcript", "sessions", "conversation", "main")

# By others, run before them.
_VENDORED = ("marked", "purify")

_STYLE_PLACE = "<!-- the style -->"
_SCRIPTS_PLACE = "<!-- the scripts -->"


def page() -> tuple[str, dict[str, str]]:
    """The whole page, and the headers to send with it; the same as long as the files beside this one are."""
    style = _read("page.css")
    own = "\n".join(_read(f"scripts/{name}.js") for name in SCRIPTS)
    scripts = (*map(_vendored, _VENDORED), f'(() => {{\n"use strict";\n{own}\n}})();')
    html = _read("page.html")
    html = html.replace(_STYLE_PLACE, f"<style>{style}</style>")
    html = html.replace(_SCRIPTS_PLACE, "\n".join(f"<script>{script}</script>" for script in scripts))
    return html, _headers(style, scripts)


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _vendored(name: str) -> str:
    """As it was published, but for the map of its sources, which is not here."""
    lines = _read(f"vendor/{name}.js").split("\n")
    return "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL"))


def _headers(style: str, scripts: Sequence[str]) -> dict[str, str]:
    """No text becomes HTML or a script in this page: it has no Trusted Types policy, so the browser would refuse."""
    policy = (
        "default-src 'none'",
        f"script-src {' '.join(map(_hash_source, scripts))}",
        f"style-src {_hash_source(style)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(policy),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
