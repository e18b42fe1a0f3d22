"""Which records are still sent, and where the exchanges among them begin.

An exchange is a person's line and all that followed from it: calls, results, replies, and deliveries that came after.

Knows records. Does not know the wire form of a request, nor what anything weighs; it has neither clock nor file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from nanochat.records import Compact, Message, Record, Ref, Reset, Snapshot, TurnEnd

__all__ = ["Window", "begins_exchange", "is_hidden", "is_whole", "last_request_at", "pins_needed", "window"]


@dataclass(frozen=True, slots=True)
class Window:
    """What of a session is still sent: records in file order, behind the newest compaction's summary, if there is one.

    `pins` are those that the compaction found set. `fresh` is the index in `records` from which on they are newer than it; those
    before it were kept by it.
    """

    records: tuple[Record, ...]
    compact: Compact | None = None
    pins: tuple[Ref, ...] = ()
    fresh: int = 0

    @property
    def summary(self) -> str:
        """The newest compaction's summary, or empty."""
        return self.compact.summary if self.compact else ""


def is_hidden(message: Message) -> bool:
    """Whether the line is a chat command's, which nanobot keeps in the file and never sends."""
    return bool(message.extra.get("_command")) or bool(message.extra.get("_hidden_history"))


def begins_exchange(record: Record) -> bool:
    """Whether this is a line that a person (or an alarm clock) said: an exchange begins here."""
    if not isinstance(record, Message) or record.role != "user" or record.delivered or is_hidden(record):
        return False
    if isinstance(record.content, str):
        return bool(record.content.strip())
    return any(
        bool(str(block.get("text", "")).strip()) if block.get("type") == "text" else block.get("type") != "tool_result"
        for block in record.content
    )


def window(records: Sequence[Record]) -> Window:
    """What is sent of a session's live records: from the last reset or the boundary of the newest compaction."""
    begin = 0
    newest: tuple[int, Compact, tuple[Ref, ...]] | None = None
    for i, record in enumerate(records):
        match record:
            case Snapshot(event=Reset()):
                begin, newest = i + 1, None
            case Snapshot(event=Compact() as event, state=state):
                newest = (i, event, state.pins)
            case _:
                pass
    if newest is None:
        return Window(tuple(records[begin:]))
    place, compact, pins = newest
    boundary = _boundary(records[begin:place], compact)
    kept = [record for record in records[begin:place] if record.start >= boundary]
    return Window((*kept, *records[place + 1 :]), compact, pins, len(kept))


def _boundary(before: Sequence[Record], event: Compact) -> int:
    """The byte from which the compaction keeps; after an edit by hand the line's number tells more than its place."""
    if event.keep_n >= 0:
        for record in before:
            if isinstance(record, Message) and record.n == event.keep_n:
                return record.start
    return event.keep


def pins_needed(records: Sequence[Record]) -> tuple[int, ...]:
    """The bytes at which the pins stand whose text `render` must be given: those that the newest compaction found set."""
    return tuple(pin.at for pin in window(records).pins)


def is_whole(message: Message) -> bool:
    """Whether the reply is as the model meant it; of one that was stopped, cut or refused only the text is sent."""
    return message.mark in ("", "rounds", "pause_turn")


def last_request_at(records: Iterable[Record]) -> datetime | None:
    """When a model was last asked anything here; deliveries and settings do not count."""
    newest = None
    for record in records:
        if isinstance(record, Message):
            newest = record.timestamp if record.role == "assistant" else newest
        elif isinstance(record.event, TurnEnd):
            newest = record.state.updated_at
    return newest
