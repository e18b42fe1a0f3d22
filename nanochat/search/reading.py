"""What was said in a session file, and what was taken back there.

Reads forwards, from the file's beginning or from where it stopped, in bounded memory. Knows which lines are a person's words or
the model's, and what a rewind means for them: it hides by bytes, as the file's laws have it, so nothing that is kept elsewhere
has to change when something is taken back, or comes again. Does not know what becomes of the words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from nanochat import transcript
from nanochat.records import FORMAT, Message, Rewind, Snapshot
from nanochat.store.scan import Line, Source, forwards
from nanochat.store.view import Places

__all__ = ["NOTHING", "Back", "Look", "Said", "Span", "glance", "is_live", "live_spans", "look_at", "read"]


class Said(NamedTuple):
    """One message that a person would see, as `transcript.to_seen` shows it; it is line `start` and message `n` of its file.

    A tuple, since a million of them are made at a time.
    """

    start: int
    n: int
    at: datetime
    kind: str
    text: str


class Back(NamedTuple):
    """A rewind, the line at byte `at`: what is live from here on is what was live at byte `to`. `n` counts the messages before
    it, -1 where it does not say; `to_n` those before `to`."""

    at: int
    n: int
    to: int
    to_n: int


class Span(NamedTuple):
    """Messages that begin in these bytes are live, if their number is below `ceiling`, where there is one.

    After a failed sync lines stand in a file twice, and a rewind may lie behind the first copy of what it takes back.
    """

    start: int
    end: int
    ceiling: int | None


def live_spans(backs: Sequence[Back], end: int) -> tuple[Span, ...]:
    """What is live of the first `end` bytes, newest first; across resets and compactions, which hide nothing from a search."""
    spans: list[Span] = []
    ceiling: int | None = None
    for back in sorted(backs, reverse=True):
        if back.at >= end or (ceiling is not None and back.n > ceiling):
            continue  # it was itself taken back
        spans.append(Span(back.at, end, ceiling))
        end = back.to
        if back.to_n >= 0:
            ceiling = back.to_n if ceiling is None else min(ceiling, back.to_n)
    return (*spans, Span(0, end, ceiling))


def is_live(spans: Sequence[Span], start: int, n: int) -> bool:
    """Whether message `n`, which begins at byte `start`, is live."""
    for span in spans:
        if start >= span.start:
            return start < span.end and (span.ceiling is None or n < span.ceiling)
    return False


def read(source: Source, start: int, end: int, count: int) -> Iterator[tuple[int, int, Said | Back | None]]:
    """Of every whole line from byte `start`: where it ends, how many messages there are with it, and what it says or takes back.

    `count` is that of the messages before `start`; one without a number of its own gets the next.
    """
    places = Places(source)
    key = str(source.key)
    for line in forwards(source, start, end):
        look = glance(line, key) or look_at(source, line)
        entry: Said | Back | None = look.said
        if look.number is not None:
            number = look.number if look.number >= 0 else count
            count = max(count, number + 1)
            if look.said is not None and look.number < 0:
                entry = look.said._replace(n=number)
        elif look.rewind is not None:
            entry = _back(places, look.rewind)
        count = max(count, look.total)
        yield line.end, count, entry


def _back(places: Places, own: Snapshot) -> Back | None:
    """The rewind, if the place that it goes back to is there."""
    if not isinstance(own.event, Rewind):
        return None
    to = places.find(own.event.to, own.event.to_n, own)
    n = own.state.n if own.state.version >= FORMAT else -1
    return Back(own.start, n, to, own.event.to_n) if to is not None else None


# --- one line --------------------------------------------------------------------------------------------------------


class Look(NamedTuple):
    """What is to be known of a line. `number` is a message's own, -1 where it has none; None where it is no message. `total` is
    how many messages there are so far, where the line says so."""

    number: int | None = None
    said: Said | None = None
    total: int = 0
    rewind: Snapshot | None = None


NOTHING = Look()

# No file has more messages; a greater number is somebody's mistake, and no database would take it.
_MAX_NUMBER = 2**53


def look_at(source: Source, line: Line) -> Look:
    """What a line is, whatever it looks like."""
    record = source.record(line)
    if isinstance(record, Message):
        seen = next(iter(transcript.to_seen(source.key, (record,))), None)
        number = record.n if record.n < _MAX_NUMBER else -1
        if seen is None:
            return Look(number)
        return Look(number, Said(line.start, number, record.timestamp, seen.kind, seen.text))
    if isinstance(record, Snapshot):
        total = record.state.n if record.state.version >= FORMAT and record.state.n < _MAX_NUMBER else 0
        return Look(total=total, rewind=record if isinstance(record.event, Rewind) else None)
    return NOTHING


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""


class _Line(msgspec.Struct, gc=False):
    """Of a line what is needed here. A type that is not this one's is an error, and left to `look_at`."""

    kind: str | msgspec.UnsetType = msgspec.field(name="_type", default=msgspec.UNSET)
    role: str = ""
    content: str | list[_Block] | msgspec.UnsetType = msgspec.UNSET
    timestamp: str = ""
    number: int = msgspec.field(name="_n", default=-1)
    total: int = msgspec.field(name="n", default=0)
    version: int = msgspec.field(name="v", default=0)
    key: str = ""
    op: str = ""
    mark: str = ""
    delivered: bool = False


_LINES = msgspec.json.Decoder(_Line)


def glance(line: Line, key: str) -> Look | None:
    """What `look_at` would say, at a fifth of its price; None where the line has to be decoded to tell.

    A test holds the two together.
    """
    data = line.data
    if data is None:
        return None
    try:
        if not data.isascii():
            data.decode()  # what is skipped is not looked at for broken UTF-8
        found = _LINES.decode(data)
        if found.kind is msgspec.UNSET:
            return _message(found, line.start)
    except (ValueError, RecursionError):
        return None
    if found.kind != "metadata":
        return NOTHING
    if found.key not in ("", key):
        return NOTHING
    return Look(total=found.total) if _is_plain(found) else None


def _message(found: _Line, start: int) -> Look | None:
    if found.content is msgspec.UNSET or not found.role or found.number >= _MAX_NUMBER:
        return None
    if found.role not in ("user", "assistant"):
        return Look(found.number)
    if found.delivered or found.mark:
        return None
    if isinstance(found.content, str):
        text = found.content.strip()
    else:
        text = "\n".join([block.text for block in found.content if block.type == "text"]).strip()
    if not text:
        return Look(found.number)
    at = datetime.fromisoformat(found.timestamp)
    if at.tzinfo is not UTC:
        return None
    return Look(found.number, Said(start, found.number, at, found.role, text))


def _is_plain(found: _Line) -> bool:
    """Whether a snapshot is of our format, and takes nothing back."""
    return found.version >= FORMAT and 0 <= found.total < _MAX_NUMBER and found.op != "rewind"
