"""Making room in a conversation: the old part becomes a summary, in a record; no line is touched.

Knows when (`compaction.plan` says), and how a summary comes about: a cheap model, tools off, a few seconds, or else a visible
breadcrumb. Does not know turns or channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from nanochat.errors import LimitReached, ModelError
from nanochat.events import Notice
from nanochat.history import compaction
from nanochat.ports import Emit, Model
from nanochat.records import Compact, Content, Usage, text_of
from nanochat.sessions import Session, SessionManager
from nanochat.turn.limits import Purse
from nanochat.turn.tally import Tally

__all__ = ["Condenser"]

# A person waits behind a summary; a cheap model writes 250 words in 2 to 4 s.
SUMMARY_TIMEOUT_S = 10.0


class Condenser:
    """Writes `compact` records. `summary_model` empty: breadcrumbs only."""

    def __init__(
        self,
        manager: SessionManager,
        model: Model,
        *,
        summary_model: str,
        budget_tokens: int,
        max_messages: int,
        purse: Purse,
        clock: Callable[[], datetime],
    ) -> None:
        self._manager = manager
        self._model = model
        self._summary_model = summary_model
        self._budget_tokens = budget_tokens
        self._max_messages = max_messages
        self._purse = purse
        self._clock = clock

    async def make_room(self, session: Session, emit: Emit, newest: Content) -> None:
        """Compact before `newest` is added, if the budget, or a long silence, asks for it."""
        plan = compaction.plan(
            session.records,
            budget_tokens=self._budget_tokens,
            max_messages=self._max_messages,
            now=self._clock(),
            pins=session.pin_texts,
            newest=newest,
            complete=session.complete,
        )
        if plan is not None:
            emit(Notice(await self._compact(session, plan)))

    async def compact(self, session: Session) -> str:
        """Compact because a person asks for it; says what was done, or why there was nothing to do. Needs the lease."""
        plan = compaction.plan(
            session.records,
            budget_tokens=self._budget_tokens,
            max_messages=self._max_messages,
            now=self._clock(),
            pins=session.pin_texts,
            asked=True,
            complete=session.complete,
        )
        if plan is None:
            return "nothing to compact: the newest exchanges always stay as they are"
        return await self._compact(session, plan)

    async def _compact(self, session: Session, plan: compaction.Plan) -> str:
        summary, by, usage, cost_usd = await self._summary(session, plan)
        await self._purse.spend(session.key, cost_usd)
        event = Compact(summary, plan.keep, plan.keep_n, by, plan.reason, plan.messages, usage, cost_usd)
        # The user's line that follows, or the lease's end, makes it durable; alone it may be lost without harm.
        await self._manager.append(session, event, durable=plan.reason == "asked")
        how = f"summarised by {by}" if by != "breadcrumb" else "left out, without a summary"
        return f"the {plan.dropped} oldest messages are now {how}; the file keeps them all"

    async def _summary(self, session: Session, plan: compaction.Plan) -> tuple[str, str, Usage, float | None]:
        """The text, who wrote it (a model, or `breadcrumb`), and what that took, whether it came to anything or not."""
        fallback = compaction.breadcrumb(session.records, plan)
        if not self._summary_model:
            return fallback, "breadcrumb", Usage(), 0.0
        request = compaction.summary_request(session.records, plan, model=self._summary_model)
        tally = Tally(self._summary_model)
        try:
            await self._purse.check(session.state, self._summary_model)
            async with asyncio.timeout(SUMMARY_TIMEOUT_S):
                reply = await self._model.reply(request, tally.hear, lambda _: None, tally.begin)
            tally.model = reply.model
            tally.count(reply.usage)
            text = text_of(reply.content).strip()
        except (ModelError, LimitReached, TimeoutError):
            tally.break_off()
            text = ""
        by = tally.model if text else "breadcrumb"
        return text or fallback, by, tally.usage, tally.cost_usd
