"""Which addresses Telegram makes links of. One that it does not take costs the whole message.

Knows addresses. Does not know where they stand.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

__all__ = ["is_linkable", "shown"]

# tdlib's check_link: the schemes it knows, and a host with a dot; `mailto:me@example.org` it takes for a login at a web
# site. Narrower than there, where an unusual host is not worth the message.
_HOST = re.compile(r"[a-z0-9_~-]+(\.[a-z0-9_~-]+)+\.?\Z", re.ASCII)
_TELEGRAM = re.compile(r"tg:(//)?[a-z0-9]", re.ASCII | re.IGNORECASE)
_BLANK = re.compile(r"[\s\x00-\x1f]")


def is_linkable(url: str) -> bool:
    """Whether Telegram takes the address for a link's."""
    if _BLANK.search(url):
        return False
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.scheme == "tg":
        return _TELEGRAM.match(url) is not None
    return parts.scheme in ("http", "https") and port != 0 and _HOST.match(host) is not None


def shown(url: str) -> str:
    """The address as a person reads it."""
    return unquote(url.removeprefix("mailto:"))
