"""Lines of session files as rows of a log: for a terminal, a pipe or a program.

Knows what of a line a person wants to see, and what a row looks like. Does not know where lines come from.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import TYPE_CHECKING, Protocol

from nanochat import transcript
from nanochat.channels.terminal.words import clean, dim
from nanochat.doors import Line
from nanochat.keys import SessionKey
from nanochat.records import Content, Message, Opened, Record, SetValue, Snapshot, TurnEnd

if TYPE_CHECKING:  # rich is loaded only where a screen is written to
    from nanochat.channels.terminal.markdown import Page

__all__ = ["Json", "Log", "manner", "time_of"]

# Keys that differ are told apart at a glance. Of the terminal's own 16 colours; red and grey mean something already.
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)

# A longer key stands as it is and moves its row; all others stay in line.
_MAX_KEY_WIDTH = 28
_WHO_WIDTH = len("delivered")

# Where less than this is left for a text it is not wrapped in its column, but by the terminal.
_MIN_TEXT_WIDTH = 24

_WHO = {"user": "you", "assistant": "nanochat"}
_ATTACHED = {"image": "[picture]", "document": "[document]"}


def time_of(record: Record | None) -> datetime | None:
    """When it was said or done; None for what cannot be read."""
    match record:
        case Message(timestamp=at):
            return at
        case Snapshot(state=state, event=Opened(), start=0):
            return state.created_at
        case Snapshot(state=state):
            return state.updated_at
        case None:
            return None


# --- what a line says -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Told:
    """One row: who said what. Without a `who` it is beside the point."""

    who: str
    text: str


def _told(line: Line) -> list[_Told]:
    """What of a line a person wants to see; nothing of a turn that ended well, nor of a tool's result."""
    match line.record:
        case Message() as message:
            return _said(line.key, message)
        case Snapshot() as snapshot:
            return [_Told("", words) for words in _changed(line, snapshot)]
        case None:
            return [] if _is_json(line.text) else [_Told("", f"(the line at byte {line.start} cannot be read)")]


def _said(key: SessionKey, message: Message) -> list[_Told]:
    rows = [_Told(_WHO.get(seen.kind, seen.kind), seen.text) for seen in transcript.to_seen(key, [message])]
    attached = " ".join(_attachments(message.content))
    if attached and rows:
        rows[0] = _Told(rows[0].who, f"{attached} {rows[0].text}")
    elif attached:
        rows = [_Told(_WHO.get(message.role, message.role), attached)]
    return [*rows, *(_Told("", f"→ {call}") for call in transcript.calls(message))]


def _attachments(content: Content) -> list[str]:
    blocks = () if isinstance(content, str) else content
    return [_ATTACHED[kind] for block in blocks if (kind := str(block.get("type"))) in _ATTACHED]


def _changed(line: Line, snapshot: Snapshot) -> list[str]:
    match snapshot.event:
        case Opened():
            return ["the session begins"] if line.start == 0 else []
        case TurnEnd(outcome=outcome) if outcome not in ("done", ""):
            return [f"the turn ended: {outcome}"]
        case SetValue(name="pin"):
            return ["a text was pinned"]
        case SetValue(name="unpin", value=value):
            return [f"pin {value} was dropped"]
        case _:
            return [seen.text for seen in transcript.to_seen(line.key, [snapshot])]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


# --- how it is shown ------------------------------------------------------------------------------------------------------


class Json:
    """Every line as its file holds it, for a program."""

    def counts(self, line: Line) -> bool:
        return True

    def make_room(self, keys: Iterable[SessionKey]) -> None:
        """There are no columns."""

    def put(self, line: Line, at: datetime, *, is_undone: bool) -> None:
        print(json.dumps(self._fields(line)))

    def _fields(self, line: Line) -> dict[str, object]:
        key: dict[str, object] = {"key": str(line.key)}
        try:
            fields = json.loads(line.text)
        except (ValueError, RecursionError):
            return {**key, "byte": line.start, "unreadable": line.text}
        if not isinstance(fields, dict):
            return {**key, "byte": line.start, "unknown": fields}
        times: dict[str, object] = {}
        if isinstance(line.record, Message):  # nanobot's have no offset
            times = {"timestamp": line.record.timestamp.isoformat()}
        elif line.record is not None:
            state = line.record.state
            times = {"created_at": state.created_at.isoformat(), "updated_at": state.updated_at.isoformat()}
        return {**key, **fields, **times, **key}


class Log:
    """Rows in columns: when, where, who, what."""

    def __init__(self, manner: Manner, zone: tzinfo) -> None:
        self._manner = manner
        self._zone = zone
        self._width = 0

    def counts(self, line: Line) -> bool:
        return bool(_told(line))

    def make_room(self, keys: Iterable[SessionKey]) -> None:
        """Have the columns fit these keys."""
        for key in keys:
            width = self._manner.cells(clean(str(key)))
            self._width = max(self._width, width if width <= _MAX_KEY_WIDTH else 0)

    def put(self, line: Line, at: datetime, *, is_undone: bool) -> None:
        rows = _told(line)
        if rows:
            self.make_room([line.key])
        name = clean(str(line.key))
        gap = max(0, self._width - self._manner.cells(name))
        for told in rows:
            words = clean(told.text)
            row = _Told(told.who, f"(taken back) {words}" if is_undone else words)
            lines = self._manner.row(at.astimezone(self._zone), name, gap, row, is_aside=is_undone or not told.who)
            print("\n".join(line.rstrip() for line in lines))


class Manner(Protocol):
    """How a row looks, in lines; `gap` is how many blanks the key's column still takes."""

    def cells(self, text: str) -> int: ...
    def row(self, at: datetime, name: str, gap: int, told: _Told, *, is_aside: bool) -> list[str]: ...


class _Plain:
    """For a pipe or a file: the whole time in every row, no colours."""

    def cells(self, text: str) -> int:
        return len(text)

    def row(self, at: datetime, name: str, gap: int, told: _Told, *, is_aside: bool) -> list[str]:
        head = f"{at:%Y-%m-%d %H:%M:%S}  {name}{' ' * gap}  {told.who:{_WHO_WIDTH}}  "
        first, *others = told.text.split("\n")
        return [head + first, *(" " * len(head) + line for line in others)]


class _Screen:
    """For a terminal: a colour for each session, the date where it changes, texts wrapped in their column."""

    def __init__(self, page: Page, today: date) -> None:
        self._page = page
        self._day = today
        self._colours = itertools.cycle(() if os.environ.get("NO_COLOR") else _COLOURS)
        self._heads: dict[str, str] = {}

    def cells(self, text: str) -> int:
        return self._page.cells(text)

    def row(self, at: datetime, name: str, gap: int, told: _Told, *, is_aside: bool) -> list[str]:
        if name not in self._heads:
            colour = next(self._colours, None)
            self._heads[name] = name if colour is None else f"\x1b[{colour}m{name}\x1b[0m"
        indent = len(f"{at:%H:%M:%S}") + 2 + self.cells(name) + gap + 2 + _WHO_WIDTH + 2
        room = shutil.get_terminal_size().columns - indent
        lines = told.text.split("\n")
        if room >= _MIN_TEXT_WIDTH:
            lines = [wrapped for line in lines for wrapped in self._page.wrap(line, room) or [""]]
        first, *others = map(dim, lines) if is_aside else lines
        who = f"{told.who:{_WHO_WIDTH}}"
        who = f"\x1b[1m{who}\x1b[0m" if told.who == _WHO["user"] and not is_aside else dim(who)
        head = f"{dim(f'{at:%H:%M:%S}')}  {self._heads[name]}{' ' * gap}  {who}  "
        return [*self._new_day(at), head + first, *(" " * indent + line for line in others)]

    def _new_day(self, at: datetime) -> list[str]:
        if at.date() == self._day:
            return []
        self._day = at.date()
        return [dim(f"── {self._day} ──")]


def manner(today: date) -> Manner:
    """How rows look where standard output goes; on a terminal, without a date before another day's."""
    if not sys.stdout.isatty():
        return _Plain()
    from nanochat.channels.terminal.markdown import Page

    return _Screen(Page(), today)
