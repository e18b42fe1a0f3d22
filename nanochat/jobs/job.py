"""One job, as a value.

Knows its parts and what each means. Does not know whether they make sense together (`check`), nor when it falls due (`schedule`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from nanochat.keys import SessionKey

__all__ = ["Job", "Kind"]

Kind: TypeAlias = Literal["prompt", "summary", "text"]


@dataclass(frozen=True, slots=True)
class Job:
    """One job, checked. Exactly one of `cron`, `every_s` and `at` is set; `zone` is an IANA name.

    `missed` is `once`, `skip` or `within:<seconds>s`. `text` is what is asked or said. `sources` are keys or globs
    (`telegram:*`), for a summary. `recipients` empty: only recorded. `origin` is `settings`, or the sender and session that made
    it (`telegram:77 in telegram:77`); not `by_owner`, it runs with a guest's rights. `at` is in UTC, and so is `created_at`,
    which `every` is counted from; without one it is counted from the midnight of 1970-01-01 in the zone, so that a restart
    never moves it.
    """

    id: str
    kind: Kind
    zone: str
    cron: str = ""
    every_s: int = 0
    at: datetime | None = None
    text: str = ""
    sources: tuple[str, ...] = ()
    recipients: tuple[SessionKey, ...] = ()
    missed: str = "once"
    quiet: bool = False
    usd_per_run: float = 0.0
    enabled: bool = True
    origin: str = "settings"
    by_owner: bool = True
    created_at: datetime | None = None
