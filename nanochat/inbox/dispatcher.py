"""From inbox rows to turns, so that a message is answered once, whatever dies and whenever.

A channel with a live connection calls `Dispatcher.live`, a Handler: the row is written first, already claimed, and closed when
the turn has emitted its last event. A row whose process died is found by `resume`. Knows rows and the Handler behind it. Does not
know what becomes of a message that was begun before: the session file tells the turn.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import assert_never

from nanochat.errors import LedgerError
from nanochat.events import Inbound, Notice, ReplyEvent, Sender, Text, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.ledger import Ledger, Row
from nanochat.ports import Emit, Envelope, Handler
from nanochat.records import MAX_LINE_BYTES

__all__ = ["MAX_ATTEMPTS", "Dispatcher", "packed", "unpacked"]

_log = logging.getLogger(__name__)

# A message that has brought three processes down will bring down a fourth.
MAX_ATTEMPTS = 3


class Dispatcher:
    """Stands before a Handler and keeps its inbox.

    `again` is the Handler for messages that were begun before. `passes` tells commands that change nothing: they need no row, and
    work where none can be written. `interrupt` closes, in its session, a turn that is not to be continued, and says whether
    there was one.
    """

    def __init__(
        self,
        handler: Handler,
        ledger: Ledger,
        *,
        again: Handler,
        passes: Callable[[Inbound], bool],
        interrupt: Callable[[SessionKey, str], Awaitable[bool]],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._handler = handler
        self._ledger = ledger
        self._again = again
        self._passes = passes
        self._interrupt = interrupt
        self._clock = clock

    async def live(self, inbound: Inbound, emit: Emit, digest: str = "") -> None:
        """Answer a message of a channel that waits for it; see `ports.Handler`. `digest` is kept with its row."""
        if self._passes(inbound):
            await self._handler(inbound, emit)
            return
        try:
            refusal = await self._accept(inbound, digest)
        except LedgerError as error:
            refusal = TurnFailed(str(error), kind="store", retryable=not error.is_damaged)
        if refusal is not None:
            emit(refusal)
            return
        await self._through(self._handler, inbound, emit)

    async def resume(self, key: SessionKey, source_prefix: str, emit: Emit) -> bool:
        """Continue what a process that died left unfinished in this session; False where there was nothing."""
        found = False
        # One at a time: each claim counts as an attempt, and the next may never be begun.
        while rows := await self._ledger.claim_orphans(key, source_prefix, most=1):
            found = True
            await self._continue(rows[0], emit)
        return found

    async def close_orphans(self, key: SessionKey, source_prefix: str) -> int:
        """Close the turns that a process that died left unfinished in this session, without continuing them.

        Messages that had not been begun are left for whoever resumes; returns how many.
        """
        waiting = []
        for row in await self._ledger.claim_orphans(key, source_prefix):
            source_id = row.envelope.source_id
            if await self._interrupt(key, source_id):
                await self._ledger.finish(source_id, "interrupted", self._clock())
            else:
                waiting.append(source_id)
        await self._ledger.release(waiting)
        return len(waiting)

    async def _accept(self, inbound: Inbound, digest: str) -> TurnFailed | None:
        size_bytes = len(inbound.text.encode(errors="replace"))
        if size_bytes > MAX_LINE_BYTES:
            most = f"{MAX_LINE_BYTES / (1 << 20):.0f} MiB"
            return TurnFailed(f"a message of {size_bytes / 1e6:.1f} MB is more than one may be ({most})", kind="store")
        try:
            if await self._ledger.accept_claimed(packed(inbound), self._clock(), digest):
                return None
        except asyncio.CancelledError:
            # The row may be written all the same, and nobody waits for its answer any more.
            await self._ledger.finish(inbound.source_id, "interrupted", self._clock())
            raise
        return TurnFailed(f"{inbound.source_id} was received before and is not answered again", kind="command")

    async def _continue(self, row: Row, emit: Emit) -> None:
        inbound = unpacked(row.envelope)
        said = inbound.text if len(inbound.text) <= 60 else inbound.text[:59] + "…"
        if row.attempts < MAX_ATTEMPTS:
            emit(Notice(f"going on with what was cut short: “{said}”"))
            await self._through(self._again, inbound, emit)
            return
        await self._interrupt(inbound.key, inbound.source_id)
        await self._finish(inbound, "interrupted")
        emit(TurnFailed(f"{row.attempts} attempts to answer “{said}” were cut short; it is given up", kind="crashed"))

    async def _through(self, handler: Handler, inbound: Inbound, emit: Emit) -> None:
        finals: list[TurnDone | TurnFailed] = []

        def note(event: ReplyEvent) -> None:
            if isinstance(event, TurnDone | TurnFailed):
                finals.append(event)
                if _is_refusal(event):
                    return
            emit(event)

        await handler(inbound, note)
        # Cancelled, it is not closed: whoever opens the session next goes on with it.
        final = finals[-1] if finals else TurnFailed("no answer came")
        await self._finish(inbound, *_outcome(final))
        if _is_refusal(final) or not finals:
            # Told only now: who hears that it was refused may send the same message again at once.
            emit(final)

    async def _finish(self, inbound: Inbound, outcome: str, note: str = "") -> None:
        """Close the row of a message whose outcome is known; should this fail, the session file tells it to the next who asks."""
        try:
            await self._ledger.finish(inbound.source_id, outcome, self._clock(), note)
        except LedgerError as error:
            _log.warning("the row of %s stays open: %s", inbound.source_id, error)


def _is_refusal(final: TurnDone | TurnFailed) -> bool:
    """Whether the turn was not begun, and may be asked for again."""
    return isinstance(final, TurnFailed) and final.kind in ("busy", "pace", "limit") and not final.kept


def _outcome(final: TurnDone | TurnFailed) -> tuple[str, str]:
    """How a row is closed, and why; nothing is noted that a person said."""
    match final:
        case TurnDone(mark=mark):
            return "done", mark
        case TurnFailed(kind="command"):
            return "failed", "a command that cannot be carried out"
        case TurnFailed(message=message):
            return "refused" if _is_refusal(final) else "failed", message
        case _:
            assert_never(final)


def packed(inbound: Inbound) -> Envelope:
    """The envelope of a message that had none: what is needed of it after a crash."""
    sender = inbound.sender
    fields = {
        "text": inbound.text,
        "sender": {"id": sender.id, "name": sender.name, "owner": sender.owner},
        "at": inbound.at.isoformat(),
    }
    return Envelope(inbound.source_id, inbound.key, json.dumps(fields))


def unpacked(envelope: Envelope) -> Inbound:
    """The reverse of `packed`."""
    fields = json.loads(envelope.body)
    sender = Sender(fields["sender"]["id"], fields["sender"]["name"], fields["sender"]["owner"])
    at = datetime.fromisoformat(fields["at"])
    return Inbound(envelope.key, envelope.source_id, sender, (Text(fields["text"]),), at)
