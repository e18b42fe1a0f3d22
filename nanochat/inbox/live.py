"""Turns for clients who may leave before their answer, and ask again: see `doors.LiveTurns`.

Knows who can do what of it. Does not know who asks, nor how.
"""

from __future__ import annotations

from nanochat.doors import Known
from nanochat.events import Inbound
from nanochat.keys import SessionKey
from nanochat.ledger import Ledger
from nanochat.ports import Begin, Emit
from nanochat.records import Message, SetValue
from nanochat.sessions import Session, SessionManager
from nanochat.turn.assistant import Assistant

__all__ = ["Live"]


class Live:
    """One per daemon; `begin` is its worker's."""

    def __init__(self, begin: Begin, ledger: Ledger, assistant: Assistant, manager: SessionManager) -> None:
        self._begin = begin
        self._ledger = ledger
        self._assistant = assistant
        self._manager = manager

    def begin(self, inbound: Inbound, emit: Emit, digest: str = "") -> None:
        """See `doors.LiveTurns`."""
        self._begin(inbound, emit, digest)

    async def known(self, source_id: str) -> Known | None:
        """See `doors.LiveTurns`."""
        return await self._ledger.known(source_id)

    async def retell(self, inbound: Inbound, emit: Emit) -> None:
        """See `doors.LiveTurns`."""
        await self._assistant.retell(inbound, emit)

    async def set_system(self, key: SessionKey, text: str) -> bool:
        """See `doors.LiveTurns`."""
        # Looked at without the lease first: a turn that runs may take minutes, and most ask for what is there.
        if (answer := _is_settled(await self._manager.get_or_create(key), text)) is not None:
            return answer
        async with self._manager.turn(key) as session:
            if (answer := _is_settled(session, text)) is not None:
                return answer
            await self._manager.append(session, SetValue("system", text), durable=True)
        return True


def _is_settled(session: Session, text: str) -> bool | None:
    """Whether the session has this system text; None where it has not begun, and can still be given it."""
    if session.system == text:
        return True
    return False if any(isinstance(record, Message) for record in session.records) else None
