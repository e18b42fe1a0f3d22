"""Files that cannot be read as they should: sessions line by line, the ledger and the search index page by page.

Knows where they lie. Does not mend anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from nanochat.cli.checks.finding import Finding, may, ok, warning, wrong
from nanochat.cli.progress import measured
from nanochat.errors import StoreError
from nanochat.keys import SessionKey
from nanochat.ledger.examined import database_faults
from nanochat.ports import Brief
from nanochat.store import Damage, Disk, check
from nanochat.store.listing import list_sessions
from nanochat.store.names import SUFFIX
from nanochat.store.places import find_path, workspaces

__all__ = ["databases", "sessions"]

_OURS = "make it readable for you: chown, or chmod u+r"


def sessions(directory: Path) -> Iterator[Finding]:
    """Every session file that is damaged, with a bar on the terminal where reading them takes long."""
    try:
        unknown = set(_files(directory))
        briefs = list_sessions(Disk(), directory)
    except NotADirectoryError:
        yield wrong("sessions", f"{directory} is not a directory", "move it away")
        return
    except OSError as error:
        yield wrong("sessions", f"{directory}: {error.strerror}", _OURS)
        return
    except StoreError as error:
        yield wrong("sessions", str(error), _OURS)
        return
    found: list[Finding] = []  # what is printed beside a bar would be drawn over
    for brief in measured(briefs, "reading sessions", sum(map(_size, briefs)), _size):
        path = find_path(Disk(), directory, brief.key)
        unknown.discard(path)
        found += _session(path, brief.key)
    sound = len(briefs) - len(found)
    found += filter(None, map(_stranger, sorted(unknown)))
    yield from found
    if sound or not found:
        yield ok("sessions", f"{sound:,} sound" if sound else "there are none yet")


def _size(brief: Brief) -> int:
    return brief.size_bytes


def _session(path: Path, key: SessionKey) -> list[Finding]:
    """What is wrong with a file, in one finding; none where it is sound."""
    tells = f"nanochat sessions check {key} tells of each line"
    try:
        damages = list(check(path, key))
        if not damages:
            return []
        if len(damages) == 1 and _is_unfinished(path, damages[0]):
            return [Finding("sessions", "warning", f"{key}: line {damages[0].line} {damages[0].why}", tells, str(key))]
    except OSError as error:
        return [wrong("sessions", f"{key}: {path}: {error.strerror}", _OURS, key=str(key))]
    except StoreError as error:
        return [wrong("sessions", str(error), "move it away", key=str(key))]
    more = f", and {len(damages) - 1} more" if len(damages) > 1 else ""
    found = f"{key}: line {damages[0].line} {damages[0].why}{more}"
    return [wrong("sessions", found, f"{tells}; what cannot be read is left out, the rest goes on", key=str(key))]


def _is_unfinished(path: Path, damage: Damage) -> bool:
    """Whether it is the end of a line that a crash cut off, or that is being written just now."""
    with path.open("rb") as file:
        file.seek(damage.start)
        while block := file.read(1 << 20):
            if b"\n" in block:
                return False
    return True


def _stranger(path: Path) -> Finding | None:
    """A file among the sessions that none is read from."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return wrong("sessions", f"{path} is not a regular file", "move it away")
        if not status.st_size:
            return None
        path.open("rb").close()
    except OSError as error:
        return wrong("sessions", f"{path}: {error.strerror}", _OURS)
    return wrong(
        "sessions", f"{path} does not tell which session it is: its header is lost", "move it away, or mend it"
    )


def _files(directory: Path) -> Iterator[Path]:
    for place in (directory, *workspaces(directory)):
        if os.path.lexists(place):
            with os.scandir(place) as entries:
                yield from (place / entry.name for entry in entries if _is_session(entry.name))


def _is_session(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith(".")


def databases(ledger: Path, index: Path) -> Iterator[Finding]:
    """Whether both files of SQLite are sound."""
    closed = [path for path in (ledger, index) if os.path.exists(path) and not may(path, os.R_OK)]
    if closed:
        yield wrong("ledger" if ledger in closed else "search index", f"{closed[0]}: Permission denied", _OURS)
        return
    faults = database_faults(ledger)
    if faults:
        mend = f"stop the daemon and move {ledger} away: it holds no conversation, and is made anew"
        yield wrong("ledger", f"{ledger}: {faults[0]}", mend)
    elif os.path.exists(ledger):
        yield ok("ledger", f"{ledger} is sound")
    faults = database_faults(index)
    if faults:
        yield warning("search index", f"{index}: {faults[0]}", f"rm {index}; it is made anew with the next search")
    elif os.path.exists(index):
        yield ok("search index", f"{index} is sound")
