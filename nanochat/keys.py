"""Session keys: `channel:chat_id`.

Knows what a key may look like. Does not know how a key becomes a file name (`store` does).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nanochat.errors import KeyFormError

__all__ = ["MAX_KEY_BYTES", "SessionKey", "is_glob"]

# Long enough for `http:<uuid>` or a topic of a channel yet to come, short enough that a key stays a word: our own choice.
MAX_KEY_BYTES = 400

_CHANNEL = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")


@dataclass(frozen=True, slots=True, order=True)
class SessionKey:
    """Names one conversation; equal keys are the same conversation in every process."""

    channel: str
    chat_id: str

    def __post_init__(self) -> None:
        text = f"{self.channel}:{self.chat_id}"
        if not _CHANNEL.match(self.channel):
            raise KeyFormError(f"{text!r} is not a session key: it must look like cli:default or telegram:12345")
        if not self.chat_id or self.chat_id != self.chat_id.strip() or not self.chat_id.isprintable():
            raise KeyFormError(
                f"{text!r} is not a session key: after the colon it takes printable text without spaces around it"
            )
        if len(text.encode()) > MAX_KEY_BYTES:
            raise KeyFormError(f"session key {text[:40]!r}… is longer than {MAX_KEY_BYTES} bytes")

    @classmethod
    def parse(cls, text: str) -> SessionKey:
        """Split at the first colon: `telegram:-100:7` is chat `-100:7` of Telegram.

        Raises:
            KeyFormError: with the form that a key has, or the key that was probably meant.
        """
        channel, colon, chat_id = text.partition(":")
        if not colon:
            meant = f"; did you mean cli:{text}?" if _CHANNEL.match(text) else ""
            raise KeyFormError(f"{text!r} is not a session key: it must look like cli:default or telegram:12345{meant}")
        return cls(channel, chat_id)

    def matches(self, pattern: str) -> bool:
        """Whether a glob such as `telegram:*` means this key; a key that looks like a glob means itself."""
        text = str(self)
        return text == pattern or fnmatchcase(text, pattern)

    def __str__(self) -> str:
        return f"{self.channel}:{self.chat_id}"


def is_glob(word: str) -> bool:
    """Whether a word that somebody typed may stand for several keys."""
    return any(sign in word for sign in "*?[")
