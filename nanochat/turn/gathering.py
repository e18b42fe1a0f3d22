"""What is new in conversations since a job last looked: its sources, read from their files.

Reads backwards in growing steps and only as far as the job's watermark, so a quiet conversation costs one look at its end. Knows
the store and watermarks. Does not know what becomes of what it finds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanochat.errors import StoreError
from nanochat.history import digest
from nanochat.keys import SessionKey
from nanochat.ports import Brief, SessionStore
from nanochat.records import Message, Record

__all__ = ["Gathered", "gather"]

FIRST_LOOK = timedelta(hours=24)

# The newest lines of a source that are read at most; a summary quotes a thirtieth of it.
READ_BYTES = 4 * 1024 * 1024
FIRST_STEP_BYTES = 64 * 1024

# More conversations than this in one summary are a list, not a summary.
MAX_SOURCES = 100


@dataclass(frozen=True, slots=True)
class Gathered:
    """The sources with something new, newest last; `missing` says in words what could not be looked at."""

    sources: tuple[digest.Source, ...]
    missing: str = ""


async def gather(
    store: SessionStore,
    globs: Sequence[str],
    watermark: Callable[[SessionKey], Awaitable[int | None]],
    now: datetime,
) -> Gathered:
    """Read what is new in every session that one of `globs` names; jobs' own sessions never."""
    found: list[digest.Source] = []
    faults: list[str] = []
    left = 0
    for brief in await store.list():
        if brief.key.channel == "cron" or not any(map(brief.key.matches, globs)):
            continue
        if len(found) >= MAX_SOURCES:
            left += 1
            continue
        try:
            source = await _read(store, brief, await watermark(brief.key), now - FIRST_LOOK)
        except StoreError as error:
            faults.append(str(error))
            continue
        if source is not None:
            found.append(source)
    if left:
        faults.append(f"{left} more conversations, silent for longer, were not looked at")
    return Gathered(tuple(reversed(found)), "; ".join(faults))


async def _read(store: SessionStore, brief: Brief, mark: int | None, first: datetime) -> digest.Source | None:
    if mark is None and max(brief.modified_at, brief.state.updated_at) < first:
        return None
    above, since = (-1, first) if mark is None else (mark, None)
    records, is_whole = await _newest(store, brief, above, since)
    newest = max((record.n for record in records if isinstance(record, Message)), default=-1)
    if newest < above:  # a new file, after the old one was archived
        above, since = -1, first
        records, is_whole = await _newest(store, brief, above, since)
    new = digest.said(records, above, since)
    if not new:
        return None
    return digest.Source(brief.key, new, newest, "" if is_whole else "older lines are left out here")


async def _newest(
    store: SessionStore, brief: Brief, above: int, since: datetime | None
) -> tuple[Sequence[Record], bool]:
    """The end of a file, back to what is wanted; False where that would be too far."""
    step = FIRST_STEP_BYTES
    while True:
        begin = max(0, brief.size_bytes - step)
        changes = await store.catch_up(brief.key, begin)
        if changes.replaced:
            await store.read(
                brief.key, exchanges=1, limit_bytes=0
            )  # it is another file than was known, and is known now
            changes = await store.catch_up(brief.key, begin)
        is_whole = begin == 0 or _reaches(changes.records, above, since)
        if is_whole or step >= READ_BYTES:
            return changes.records, is_whole
        step *= 4


def _reaches(records: Sequence[Record], above: int, since: datetime | None) -> bool:
    """Whether what was read goes back beyond what is wanted."""
    oldest = next((record for record in records if isinstance(record, Message)), None)
    return oldest is not None and (oldest.n <= above or (since is not None and oldest.timestamp < since))
