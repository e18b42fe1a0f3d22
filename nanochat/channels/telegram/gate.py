"""Who may talk to the bot; asked before anything else happens.

Knows numbers: a name can be taken by somebody else, an id cannot. Does not know where pairings are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from nanochat.channels.telegram.envelopes import Facts

__all__ = ["Gate", "Pairings"]


class Pairings(Protocol):
    """Who was let in by a code; kept by whoever opens the channel."""

    async def is_paired(self, user_id: int) -> bool: ...

    async def offer(self, user_id: int, name: str) -> str | None:
        """A code for a person who is not known yet, the same until it was `told`; None where it was told within the hour, or too
        many wait."""
        ...

    async def told(self, user_id: int) -> None:
        """The person has the code that was offered."""
        ...


class Gate:
    """Denies by default. `allow` are ids of people and of groups, `owner` of people."""

    def __init__(self, allow: Iterable[int], owner: Iterable[int], pairings: Pairings) -> None:
        self._allow = frozenset(allow)
        self._owner = frozenset(owner)
        self._pairings = pairings

    def set_allowed(self, allow: Iterable[int]) -> None:
        """Go by another list from now on."""
        self._allow = frozenset(allow)

    async def admits(self, facts: Facts) -> bool:
        """Whether this person may be heard here."""
        known = self._allow | self._owner
        if facts.user_id in known or (facts.room.is_group and facts.room.chat in known):
            return True
        return bool(facts.user_id) and await self._pairings.is_paired(facts.user_id)

    async def introduce(self, facts: Facts) -> str | None:
        """What to tell a person who may not be heard: how to be let in, until it was `told`; in a group nothing."""
        if facts.room.is_group or facts.kind != "message" or not facts.user_id:
            return None
        code = await self._pairings.offer(facts.user_id, facts.user_name)
        if code is None:
            return None
        return (
            f"I do not know you yet. If this bot is yours, or its owner expects you, this code lets you in within an hour:\n\n"
            f"`nanochat telegram pair {code}`"
        )

    async def told(self, user_id: int) -> None:
        """The person has read, or can read, what `introduce` said."""
        await self._pairings.told(user_id)

    def is_owner(self, user_id: int, *, in_group: bool) -> bool:
        """Owners are owners in private only: a group reads along."""
        return user_id in self._owner and not in_group
