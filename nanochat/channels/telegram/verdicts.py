"""What a failed call means: whether it was carried out, and what may be done now.

Knows the SDK's exceptions and Telegram's wording. Does not know what was called.
"""

from __future__ import annotations

from enum import Enum, auto

import httpx
from telegram.error import (
    BadRequest,
    ChatMigrated,
    EndPointNotFound,
    Forbidden,
    InvalidToken,
    RetryAfter,
    TelegramError,
)

__all__ = ["FAULTS", "Verdict", "retry_after_s", "verdict"]

FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a mistake of ours, or of a library, looks like. All of these and no more: what else there is means that the process
ends."""


class Verdict(Enum):
    """What a failed call means."""

    UNSENT = auto()
    """Telegram never got it: safe to repeat."""
    UNKNOWN = auto()
    """Telegram may have carried it out."""
    FLOOD = auto()
    """Too fast; not carried out."""
    SAME = auto()
    """An edit that changes nothing: as good as done."""
    MISSING = auto()
    """The message is not there, or can no longer be edited."""
    ENTITIES = auto()
    """The formatting is not liked; the text may be."""
    MOVED = auto()
    """The group has a new id."""
    CLOSED = auto()
    """This chat does not take messages from the bot."""
    TOKEN = auto()
    """The bot's token is no longer good."""
    REFUSED = auto()
    """Anything else that will not get better by repeating."""


# Telegram's words, in lower case because the SDK changes the first letter. Read in tdlib/telegram-bot-api at 10.0, 2026-11-20.
_WORDS = (
    ("message is not modified", Verdict.SAME),
    ("message to edit not found", Verdict.MISSING),
    ("message can't be edited", Verdict.MISSING),
    ("message_id_invalid", Verdict.MISSING),
    ("message to delete not found", Verdict.MISSING),
    ("message can't be deleted", Verdict.MISSING),
    ("parse entities", Verdict.ENTITIES),
    ("entity", Verdict.ENTITIES),
    ("chat not found", Verdict.CLOSED),
    ("thread not found", Verdict.CLOSED),
    ("topic_closed", Verdict.CLOSED),
    ("topic_deleted", Verdict.CLOSED),
    ("not enough rights", Verdict.CLOSED),
    ("chat_write_forbidden", Verdict.CLOSED),
    ("peer_id_invalid", Verdict.CLOSED),
)


def verdict(error: TelegramError) -> Verdict:
    """Read an error. What is not known to be harmless is `UNKNOWN`: a repeated message is worse than a late one."""
    match error:
        case RetryAfter():
            return Verdict.FLOOD
        case ChatMigrated():
            return Verdict.MOVED
        case Forbidden():
            return Verdict.CLOSED
        case InvalidToken() | EndPointNotFound():
            return Verdict.TOKEN
        case BadRequest(message=message):
            said = message.lower()
            return next((meaning for words, meaning in _WORDS if words in said), Verdict.REFUSED)
        case _ if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            return Verdict.UNSENT
        case _:
            return Verdict.UNKNOWN


def retry_after_s(error: RetryAfter) -> float:
    """How long Telegram asks us to wait."""
    asked = error.retry_after
    return float(asked) if isinstance(asked, int) else asked.total_seconds()
