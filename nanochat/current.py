"""Which message is being worked on, for whoever writes the log.

Knows the name of one context variable. Does not know what a log line looks like.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from nanochat.keys import SessionKey

__all__ = ["CURRENT", "Work", "working_on"]


@dataclass(frozen=True, slots=True)
class Work:
    """A message of a session."""

    key: SessionKey
    source_id: str


CURRENT: ContextVar[Work | None] = ContextVar("nanochat_current_work", default=None)


@contextmanager
def working_on(key: SessionKey, source_id: str) -> Iterator[None]:
    """For a while, and in every task that is begun meanwhile: this is what we work on."""
    token = CURRENT.set(Work(key, source_id))
    try:
        yield
    finally:
        CURRENT.reset(token)
