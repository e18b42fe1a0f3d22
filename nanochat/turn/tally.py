"""What one turn has said, used and cost, as it goes; summed up in its turn record and in its last event.

Knows usage, prices and times. Does not know requests, tools or files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from nanochat import pricing
from nanochat.events import Inbound, TurnStats
from nanochat.history.sizes import FIRST_BYTES_PER_TOKEN, weigh
from nanochat.records import Message, Record, ToolTime, TurnEnd, Usage, text_of

__all__ = ["Tally"]

# A turn record stays under 1 KB: the first calls tell where the time went.
MAX_TOOL_TIMES = 8


class Tally:
    """The account of one turn. `model` is who answers, `prefix` and `ttl` are those of its last request."""

    def __init__(self, model: str, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self.model = model
        self.prefix = ""
        self.ttl = ""
        self.usage = Usage()
        self.cost_usd: float | None = 0.0
        self.tools: list[ToolTime] = []
        self.message_ids: list[int] = []
        self._clock_s = clock_s
        self._began_s = clock_s()
        self._ttft_s: float | None = None
        self._last = Usage()
        self._unspent_usd = 0.0
        self._begun: tuple[str, Usage] | None = None
        self._said: list[str] = []
        self._hearing: list[str] = []

    # --- text --------------------------------------------------------------------------------------------------------

    def hear(self, text: str) -> None:
        """A piece of the running reply."""
        if self._ttft_s is None:
            self._ttft_s = self._clock_s() - self._began_s
        self._hearing.append(text)

    @property
    def heard(self) -> str:
        """What the running reply has said."""
        return "".join(self._hearing)

    def settle(self) -> None:
        """The running reply is in the file."""
        self._said.append(self.heard)
        self._hearing.clear()

    @property
    def text(self) -> str:
        """All that the turn has said."""
        return "\n\n".join(text for text in [*self._said, self.heard] if text)

    # --- tokens and money --------------------------------------------------------------------------------------------

    def begin(self, model: str, usage: Usage) -> None:
        """A reply begins; should it never end, so much was paid for."""
        self._begun = (model, usage)

    def count(self, usage: Usage) -> None:
        """A reply came to its end."""
        self._begun = None
        cost_usd = pricing.cost_usd(self.model, usage)
        self._add(usage, cost_usd)
        self._unspent_usd += cost_usd or 0.0

    def break_off(self) -> None:
        """Count a reply that did not come to its end: what it had read, and about what it had said."""
        if self._begun is not None:
            self.model, usage = self._begun
            said = weigh(self.heard, FIRST_BYTES_PER_TOKEN)
            self.count(replace(usage, output=max(usage.output, said)))

    def recount(self, lines: Sequence[Record]) -> None:
        """Take in what a process that died had written of the turn: it still counts, and was spent when it was counted."""
        for line in lines:
            if isinstance(line, Message):
                self.message_ids.append(line.n)
                if line.role == "assistant":
                    self._said.append(text_of(line.content))
                    usage = line.usage or Usage()
                    self._add(usage, pricing.cost_usd(line.model or self.model, usage))

    def take_unspent(self) -> float:
        """What was counted since this was last asked, in USD."""
        usd, self._unspent_usd = self._unspent_usd, 0.0
        return usd

    def _add(self, usage: Usage, cost_usd: float | None) -> None:
        self.usage, self._last = self.usage + usage, usage
        self.cost_usd = None if cost_usd is None or self.cost_usd is None else self.cost_usd + cost_usd

    # --- the sum -----------------------------------------------------------------------------------------------------

    @property
    def context_tokens(self) -> int:
        """The size of the last request with its reply."""
        return self._last.prompt + self._last.output

    def record(self, inbound: Inbound, outcome: str) -> TurnEnd:
        """The turn record."""
        return TurnEnd(
            source_id=inbound.source_id,
            outcome=outcome,
            model=self.model,
            prefix=self.prefix,
            usage=self.usage,
            cost_usd=self.cost_usd,
            ttft_s=self._ttft_s,
            seconds=self._clock_s() - self._began_s,
            origin="owner" if inbound.sender.owner else inbound.sender.id,
            tools=tuple(self.tools[:MAX_TOOL_TIMES]),
            ttl=self.ttl,
        )

    def stats(self, budget_tokens: int) -> TurnStats:
        """The same for a reader."""
        return TurnStats(
            model=self.model,
            usage=self.usage,
            cost_usd=self.cost_usd,
            context_tokens=self.context_tokens,
            budget_tokens=budget_tokens,
            window_tokens=pricing.window_tokens(self.model),
            ttft_s=self._ttft_s,
            seconds=self._clock_s() - self._began_s,
        )
