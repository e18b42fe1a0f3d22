"""What a check has found: a value; and what this process may do with a file, which most checks ask first.

Knows three states. Does not know how they are shown.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

__all__ = ["Finding", "State", "may", "ok", "warning", "wrong"]

State: TypeAlias = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a doctor: what was looked at, how it is, and what to do. `key` is the session that it is about, if any."""

    check: str
    state: State
    found: str
    mend: str = ""
    key: str = ""


def ok(check: str, found: str) -> Finding:
    """It is as it should be."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, mend: str = "") -> Finding:
    """It works, and somebody should look at it."""
    return Finding(check, "warning", found, mend)


def wrong(check: str, found: str, mend: str, *, key: str = "") -> Finding:
    """It does not work."""
    return Finding(check, "wrong", found, mend, key)


def may(path: Path | str, mode: int) -> bool:
    """Whether we may use a path so: `os.access`, as who we act for, and not as who began us."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
