"""`nanochat sessions show`: a conversation as it was said, for a terminal, a pipe or a program.

Knows how a line is shown. Does not know how it is kept.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import tzinfo
from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo

from nanochat import transcript
from nanochat.catalog import Catalog
from nanochat.channels.terminal.words import clean, counted, dim, seen_head, usage_line
from nanochat.cli.shelf import opened
from nanochat.config import Config
from nanochat.events import Seen, TurnStats
from nanochat.keys import SessionKey
from nanochat.records import Message, Record, TurnEnd, text_of
from nanochat.store import Fate

if TYPE_CHECKING:  # rich is loaded only where a screen is written to
    from nanochat.channels.terminal.markdown import Page

__all__ = ["show", "tell_damage"]

_FATES = {"live": "", "reset": " (before /new)", "undone": " (taken back)"}


async def show(config: Config, key: SessionKey, exchanges: int | None, *, everything: bool, as_json: bool) -> int:
    """Print a conversation since its last reset, or its last exchanges, or all that its file holds; changes nothing."""
    async with opened(config) as catalog:
        if everything:
            lines = await catalog.everything(key)
            is_damaged = True  # it is looked at line by line anyway
        else:
            told = await (catalog.whole(key) if exchanges is None else catalog.newest(key, exchanges))
            lines, is_damaged = tuple((record, "live") for record in told.records), told.is_damaged
        if as_json:
            for record, fate in lines:
                if isinstance(record, Message):
                    print(json.dumps(_fields(key, record, fate)))
        else:
            _print(key, lines, ZoneInfo(config.timezone))
        if is_damaged:
            await tell_damage(catalog, key)
    return 0


async def tell_damage(catalog: Catalog, key: SessionKey) -> None:
    """Say on standard error that lines are missing, if any are."""
    faults = await catalog.faults(key)
    if faults:
        words = f"{counted(faults, 'line')} of {clean(str(key))} cannot be read or used"
        print(f"nanochat: {words}; nanochat sessions check {clean(str(key))} tells more", file=sys.stderr)


def _fields(key: SessionKey, message: Message, fate: Fate) -> dict[str, object]:
    return {
        "key": str(key),
        "n": message.n,
        "role": message.role,
        "at": message.timestamp.isoformat(),
        "text": text_of(message.content),
        "content": message.content,
        "mark": message.mark,
        "model": message.model,
        "usage": asdict(message.usage) if message.usage is not None else None,
        "delivered": message.delivered,
        "source_id": message.source_id,
        "state": fate,
    }


def _print(key: SessionKey, lines: Sequence[tuple[Record, Fate]], zone: tzinfo) -> None:
    shown: _Manner
    if sys.stdout.isatty():
        from nanochat.channels.terminal.markdown import Page

        shown = _Screen(Page(), zone)
    else:
        shown = _Plain(zone)
    is_first = True
    for record, fate in lines:
        for block in _blocks(shown, key, record, fate):
            print("\n".join(block if is_first else ["", *block]))
            is_first = False
    if is_first:
        print("nanochat: nothing has been said yet", file=sys.stderr)


class _Manner(Protocol):
    """How what was said looks, in lines."""

    def said(self, seen: Seen, fate: Fate) -> list[str]: ...
    def aside(self, words: str) -> list[str]: ...
    def figures(self, turn: TurnEnd) -> list[str]: ...


def _blocks(shown: _Manner, key: SessionKey, record: Record, fate: Fate) -> Iterator[list[str]]:
    for seen in transcript.to_seen(key, [record]):
        yield shown.aside(f"— {seen.text}") if seen.kind == "change" else shown.said(seen, fate)
    if isinstance(record, Message):
        asides = [line for call in transcript.calls(record) for line in shown.aside(f"→ {call}")]
        if asides:
            yield asides
    elif isinstance(record.event, TurnEnd) and (figures := shown.figures(record.event)):
        yield figures


class _Plain:
    """For a pipe or a file: who and when, and the text as it was written."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def said(self, seen: Seen, fate: Fate) -> list[str]:
        who = {"user": "you", "assistant": "nanochat"}.get(seen.kind, seen.kind)
        return [f"{who}, {_stamp(seen, self._zone)}{_FATES[fate]}:", clean(seen.text)]

    def aside(self, words: str) -> list[str]:
        return [clean(words)]

    def figures(self, turn: TurnEnd) -> list[str]:
        return []


class _Screen:
    """For a terminal: as the chat shows it, with the time."""

    def __init__(self, page: Page, zone: tzinfo) -> None:
        self._page = page
        self._zone = zone
        self._width = shutil.get_terminal_size().columns

    def said(self, seen: Seen, fate: Fate) -> list[str]:
        text = clean(seen.text)
        if seen.kind == "user":
            first, *others = text.split("\n")
            return [
                dim(f"{_stamp(seen, self._zone)}{_FATES[fate]}"),
                f"you> {first}",
                *(f"     {line}" for line in others),
            ]
        stream = self._page.stream()
        stream.feed(text)
        lines = self._page.lines([*stream.take(), *stream.finish()], self._width)
        head = clean(seen_head(seen)) if seen.kind == "delivered" else ""
        above = f"{head} · {_stamp(seen, self._zone)}{_FATES[fate]}" if head else _FATES[fate].strip()
        return [dim(above), *lines] if above else lines

    def aside(self, words: str) -> list[str]:
        return [dim(line) for line in self._page.wrap(clean(words), self._width)]

    def figures(self, turn: TurnEnd) -> list[str]:
        if not turn.usage.prompt and not turn.usage.output:
            return []
        stats = TurnStats(turn.model, turn.usage, turn.cost_usd, 0, 0, 0, turn.ttft_s, turn.seconds)
        return self.aside(usage_line(stats))


def _stamp(seen: Seen, zone: tzinfo) -> str:
    return seen.at.astimezone(zone).strftime("%Y-%m-%d %H:%M")
