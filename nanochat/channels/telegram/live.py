"""A reply that grows before its reader's eyes: one message, edited as the text comes.

The newest text wins: what to send is decided when it may be sent. One task does it all, so that nothing of a reply overtakes
itself, neither an old text the final one nor a typing sign the answer. Knows when something is worth showing. Does not know how
a message is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from telegram.error import TelegramError

from nanochat.channels.telegram.formatted import Formatted, units
from nanochat.channels.telegram.parts import REPEATED, File, Outbox, Part, Parts, Wanted, with_line
from nanochat.channels.telegram.split import LIMIT_UNITS, MAX_PARTS, overflow, split
from nanochat.channels.telegram.text import render
from nanochat.channels.telegram.verdicts import FAULTS
from nanochat.channels.telegram.words import Words
from nanochat.errors import ChannelError, LedgerError
from nanochat.events import ReplyEvent
from nanochat.ports import Receipt

__all__ = ["LiveReply", "Showing"]

_log = logging.getLogger(__name__)

# A message that has to be repeated has its mark in front.
_LIMIT_UNITS = LIMIT_UNITS - units(REPEATED)

_FILE_NAME = "answer.md"
_FILE_CAPTION = "the whole answer"


@dataclass(frozen=True, slots=True)
class Showing:
    """How a reply is shown, in seconds and characters. `grows` is off where only the end is shown; `render` reads Markdown.

    A typing sign lasts five seconds (https://core.telegram.org/bots/api#sendchataction, read 2026-11-20). It waits a moment: a
    command is answered at once, and needs none. It ends with the first text, after three failures, or when nothing has come for
    the longest time that a turn may take.
    """

    grows: bool = True
    render: Callable[[str], Formatted] = render
    first_chars: int = 40
    first_s: float = 1.0
    typing_after_s: float = 0.2
    typing_every_s: float = 4.0
    typing_limit_s: float = 600.0
    typing_timeout_s: float = 3.0


class LiveReply:
    """See `ports.Reply`. `work` shows the reply as it grows; without it, `settle` shows the end."""

    def __init__(self, outbox: Outbox, parts: Parts, showing: Showing, clock: Callable[[], float]) -> None:
        self._outbox = outbox
        self._parts = parts
        self._showing = showing
        self._clock = clock
        self._words = Words()
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._failure: ChannelError | None = None
        self._is_over = False
        self._began_at = clock()
        self._spoke_at: float | None = None
        self._typing_at: float | None = self._began_at + showing.typing_after_s
        self._typing_failures = 0
        self._split: tuple[str, list[Formatted]] = ("", [])

    def __call__(self, event: ReplyEvent) -> None:
        """Take an event in, and wake whoever shows it."""
        self._words.add(event)
        if self._spoke_at is None and (self._words.text or self._words.line):
            self._spoke_at = self._clock()
        self._changed.set()

    @property
    def is_final(self) -> bool:
        """Whether all was said; it may not all be shown yet."""
        return self._words.is_final

    def start(self, group: asyncio.TaskGroup) -> None:
        """Show it as it grows, in a task of `group`; one that is cancelled leaves the rest to `settle`."""
        self._worker = group.create_task(self._work())

    async def settle(self) -> Receipt:
        """See `ports.Reply.settle`."""
        if self._worker is not None:
            await asyncio.wait((self._worker,))
        if not self._is_over:
            await self._work()
        if self._failure is not None:
            raise self._failure
        return Receipt(self._parts.message_ids)

    async def _work(self) -> None:
        self._failure = None
        try:
            await self._drive()
        except ChannelError as error:
            self._failure = error
        except LedgerError as error:
            self._failure = ChannelError(f"the answer could not be noted: {error}", retryable=True)
        except FAULTS as error:
            # One reply that cannot be shown must not take the others, and the polling, down with it.
            _log.error("telegram: a reply could not be shown", exc_info=error)
            self._failure = ChannelError("the answer could not be shown; the log tells why")
        # What failed before the end was known is tried once more with the end.
        self._is_over = self._words.is_final

    async def _drive(self) -> None:
        """Step by step towards what should stand, until the end stands."""
        await self._parts.load()
        while True:
            wanted = self._wanted()
            if self._parts.next_step(wanted, is_final=self._words.is_final) is None:
                if self._words.is_final:
                    return
                await self._idle()
                continue
            rest_s = 0.0
            async with self._outbox.pacer.slot(self._parts.room.chat):
                wanted, is_final = self._wanted(), self._words.is_final
                step = self._parts.next_step(wanted, is_final=is_final)
                if step is not None:
                    self._typing_at = None
                    rest_s = await self._parts.take(step, is_last=step.index == len(wanted) - 1, is_final=is_final)
            if rest_s:
                await asyncio.sleep(rest_s)

    # --- what should stand -------------------------------------------------------------------------------------------

    def _wanted(self) -> Sequence[Wanted]:
        """The messages as they should be now; none while nothing is worth a message."""
        words = self._words
        if words.is_final:
            return self._whole()
        if not self._showing.grows or not self._is_worth_showing():
            return []
        parts = self._pieces(words.text)[:MAX_PARTS]
        last = parts.pop() if parts else Formatted("", ())
        lined = with_line(last, words.line)
        fits = units(lined.text) <= _LIMIT_UNITS
        shown = lined if fits else last
        return [*(Part(part) for part in parts), Part(shown, stop=True)] if shown.text.strip() else []

    def _whole(self) -> Sequence[Wanted]:
        text, line = self._words.text, self._words.line
        parts = _cut(with_line(self._formatted(text), line)) if line else self._pieces(text)
        parts = parts or [Formatted("(no text)", ())]
        if not overflow(parts):
            return [Part(part) for part in parts]
        whole = f"{text}\n\n{line}".strip() + "\n"
        file = File(_FILE_NAME, whole.encode("utf-8", "replace"), _FILE_CAPTION)
        return [*(Part(part) for part in parts[:MAX_PARTS]), file]

    def _pieces(self, text: str) -> list[Formatted]:
        if self._split[0] != text:
            self._split = (text, _cut(self._formatted(text)))
        return list(self._split[1])

    def _formatted(self, text: str) -> Formatted:
        """A text as it should look; where that fails, as it is: unformatted is better than unsaid."""
        try:
            return self._showing.render(text)
        except FAULTS as error:
            _log.error("telegram: a text could not be formatted, and is shown as it is", exc_info=error)
            return Formatted(text.encode("utf-8", "replace").decode(), ())

    def _is_worth_showing(self) -> bool:
        if self._parts.message_ids:
            return bool(self._words.text or self._words.line)
        return len(self._words.text) >= self._showing.first_chars or (
            self._spoke_at is not None and self._clock() - self._spoke_at >= self._showing.first_s
        )

    # --- meanwhile ---------------------------------------------------------------------------------------------------

    async def _idle(self) -> None:
        """Wait until something was said, or something is due; a typing sign that is due is given."""
        due = [at for at in (self._typing_at, self._first_at()) if at is not None]
        try:
            async with asyncio.timeout(max(0.0, min(due) - self._clock()) if due else None):
                await self._changed.wait()
            self._changed.clear()
        except TimeoutError:
            if self._typing_at is not None and self._clock() >= self._typing_at:
                await self._type()

    def _first_at(self) -> float | None:
        """When what was said so far is worth a message, however little it is."""
        if self._spoke_at is None or not self._showing.grows or self._is_worth_showing():
            return None
        return self._spoke_at + self._showing.first_s

    async def _type(self) -> None:
        now = self._clock()
        self._typing_at = now + self._showing.typing_every_s
        if now - self._began_at > self._showing.typing_limit_s:
            self._typing_at = None
        elif self._outbox.pacer.is_free(self._parts.room.chat):
            try:
                async with asyncio.timeout(self._showing.typing_timeout_s):
                    await self._outbox.wire.typing(self._parts.room)
                self._typing_failures = 0
            except (TelegramError, TimeoutError):
                self._typing_failures += 1
                if self._typing_failures >= 3:
                    self._typing_at = None


def _cut(shown: Formatted) -> list[Formatted]:
    return split(shown, limit_units=_LIMIT_UNITS)
