"""From inbox rows to turns, so that a message is answered once, whatever dies and whenever.

A channel with a live connection calls `Dispatcher.live`, a Handler: the row is written first, already claimed, and closed when
the turn has emitted its last event. A row whose process died is found by `resume`. Knows rows and the Handler behind it. Does not
know what becomes of a message that was begun before: the session file tells the turn.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from nanochat.errors import LedgerError
from nanochat.events import Inbound, Notice, ReplyEvent, Sender, Text, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.ledger import Envelope, Ledger, Row
from nanochat.ports import Emit, Handler

__all__ = ["MAX_ATTEMPTS", "Dispatcher"]

# A message that has brought three processes down will bring down a fourth.
MAX_ATTEMPTS = 3


class Dispatcher:
    """Stands before a Handler and keeps its inbox.

    `again` is the Handler for messages that were begun before. `is_command` tells those that are not continued after a crash:
    whether a `/undo` was carried out can be seen by a person and not by a program. `interrupt` closes, in its session, a turn
    that is not to be continued.
    """

    def __init__(
        self,
        handler: Handler,
        ledger: Ledger,
        *,
        again: Handler,
        is_command: Callable[[Inbound], bool],
        interrupt: Callable[[SessionKey, str], Awaitable[None]],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._handler = handler
        self._ledger = ledger
        self._again = again
        self._is_command = is_command
        self._interrupt = interrupt
        self._clock = clock

    async def live(self, inbound: Inbound, emit: Emit) -> None:
        """Answer a message of a channel that waits for it; see `ports.Handler`."""
        try:
            known = not await self._ledger.accept_claimed(_pack(inbound), self._clock())
        except LedgerError as error:
            emit(TurnFailed(str(error), kind="store"))
            return
        if known:
            emit(TurnFailed(f"{inbound.source_id} was received before and is not answered again", kind="command"))
            return
        await self._through(self._handler, inbound, emit)

    async def resume(self, key: SessionKey, source_prefix: str, emit: Emit) -> bool:
        """Continue what a process that died left unfinished in this session; False where there was nothing."""
        rows = await self._ledger.claim_orphans(key, source_prefix)
        for row in rows:
            await self._continue(row, emit)
        return bool(rows)

    async def close_orphans(self, key: SessionKey, source_prefix: str) -> None:
        """Close what a process that died left unfinished in this session, without continuing it."""
        for row in await self._ledger.claim_orphans(key, source_prefix):
            await self._close(row)

    async def _continue(self, row: Row, emit: Emit) -> None:
        inbound = _unpack(row.envelope)
        if self._is_command(inbound):
            await self._close(row)
            emit(TurnFailed(f"{inbound.text} was cut short; look whether it was carried out", kind="crashed"))
        elif row.attempts >= MAX_ATTEMPTS:
            await self._close(row)
            emit(
                TurnFailed(
                    f"{row.attempts} attempts to answer “{inbound.text[:60]}” were cut short; it is given up",
                    kind="crashed",
                )
            )
        else:
            emit(Notice(f"going on with what was cut short: “{inbound.text[:60]}”"))
            await self._through(self._again, inbound, emit)

    async def _through(self, handler: Handler, inbound: Inbound, emit: Emit) -> None:
        outcomes: list[str] = []

        def note(event: ReplyEvent) -> None:
            if isinstance(event, TurnDone | TurnFailed):
                outcomes.append("done" if isinstance(event, TurnDone) else "failed")
            emit(event)

        await handler(inbound, note)
        # Cancelled, it is not closed: whoever opens the session next goes on with it.
        await self._ledger.finish(inbound.source_id, outcomes[-1] if outcomes else "failed", self._clock())

    async def _close(self, row: Row) -> None:
        await self._interrupt(row.envelope.key, row.envelope.source_id)
        await self._ledger.finish(row.envelope.source_id, "interrupted", self._clock())


def _pack(inbound: Inbound) -> Envelope:
    sender = inbound.sender
    fields = {
        "text": inbound.text,
        "sender": {"id": sender.id, "name": sender.name, "owner": sender.owner},
        "at": inbound.at.isoformat(),
    }
    return Envelope(inbound.source_id, inbound.key, json.dumps(fields))


def _unpack(envelope: Envelope) -> Inbound:
    fields = json.loads(envelope.body)
    sender = Sender(fields["sender"]["id"], fields["sender"]["name"], fields["sender"]["owner"])
    at = datetime.fromisoformat(fields["at"])
    return Inbound(envelope.key, envelope.source_id, sender, (Text(fields["text"]),), at)
