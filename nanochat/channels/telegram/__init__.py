"""Telegram: one message that grows while the answer comes, and nothing lost or said twice.

Knows the Bot API. Does not know that a model, a file or a database exists.
"""

from nanochat.channels.telegram.channel import Pace, Telegram, TelegramSettings
from nanochat.channels.telegram.gate import Pairings

__all__ = ["Pace", "Pairings", "Telegram", "TelegramSettings"]
