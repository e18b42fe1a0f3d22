"""The daemon: whether it runs, what waits for it, the ways in to it, and the unit that starts it.

Knows locks, sockets and systemd's units. Does not know what the daemon does.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import ipaddress
import json
import os
import platform
import shlex
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import nanochat
from nanochat.channels.terminal.words import counted
from nanochat.cli.checks.finding import Finding, may, ok, warning, wrong
from nanochat.cli.places import HTTP_SOCKET, WAKE
from nanochat.cli.service import Place
from nanochat.config import Config, Secrets
from nanochat.errors import LedgerError
from nanochat.ledger.examined import SQLITE_VERSION, has_full_text, undone
from nanochat.process.liveness import Presence
from nanochat.process.wake import MAX_PATH_BYTES
from nanochat.store.names import key_of

__all__ = ["daemon", "daemon_pid", "inbox", "leases", "port", "programs", "service", "sockets"]

_START = "nanochat run, or as a service: nanochat service install"

# HTTP's socket is made in a directory of its own beside its place.
_SPARE_BYTES = 15

# The daemon is on this machine: whoever takes longer is not it.
_ANSWER_S = 1.0


def daemon_pid(directory: Path) -> str:
    """The pid of the daemon that runs on a data directory; empty where none does."""
    return (_holder(directory / "daemon.lock") or "").removeprefix("pid ")


def daemon(config: Config, pid: str, *, has_jobs: bool) -> Finding:
    """Whether the daemon runs, if there is anything for it to do."""
    lock = Path(config.data_dir) / "daemon.lock"
    if pid:
        since = datetime.fromtimestamp(lock.stat().st_mtime, UTC).astimezone()
        return ok("daemon", f"runs since {since:%Y-%m-%d %H:%M}, pid {pid}")
    if os.path.exists(lock) and not may(lock, os.R_OK):
        return warning("daemon", f"whether it runs cannot be told: {lock} is not ours", "ask as the user who runs it")
    waiting = [
        name
        for name, is_wanted in (
            ("Telegram", config.telegram.enabled),
            ("HTTP", config.http.enabled),
            ("the jobs", has_jobs),
        )
        if is_wanted
    ]
    if waiting:
        needs = "need it" if len(waiting) > 1 or has_jobs else "needs it"
        return warning("daemon", f"does not run; {' and '.join(waiting)} {needs}", _START)
    return ok("daemon", "does not run; nothing that is enabled needs it")


def leases(directory: Path) -> Finding:
    """Which sessions are in a turn, and whose."""
    held = []
    try:
        names = sorted(entry.name for entry in os.scandir(directory / "leases"))
    except FileNotFoundError:
        names = []
    except OSError as error:
        return warning("leases", f"{directory / 'leases'}: {error.strerror}", "make it readable for you")
    for name in names:
        holder = None if name.startswith("process-") else _holder(directory / "leases" / name)
        if holder:
            held.append(f"{key_of(name) or name} by {holder}")
    return ok("leases", f"in a turn: {', '.join(held)}" if held else "no session is in a turn")


def _holder(path: Path) -> str | None:
    """Who holds the lock on a file, in its own words; None where nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # There is no way to ask without taking it for a moment. Who tries in this moment tries again by itself.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
    else:
        return None
    finally:
        os.close(descriptor)


def inbox(ledger: Path, directory: Path, *, is_served: bool) -> Iterator[Finding]:
    """Messages that nobody answers now."""
    try:
        left = undone(ledger, Presence(directory / "leases"))
    except (LedgerError, OSError):
        return  # it is told of as a damaged file, or as one of somebody else's
    if left.unreadable:
        told = f"{counted(len(left.unreadable), 'message')} could not be read and {_were(left.unreadable)} put aside"
        yield warning("inbox", told, f"nanochat why {left.unreadable[0][0]} tells why")
    if left.orphaned:
        keys = ", ".join(dict.fromkeys(key for _, key in left.orphaned[:5]))
        told = f"{counted(len(left.orphaned), 'message')} {_were(left.orphaned)} cut short by a crash: {keys}"
        yield warning("inbox", told, "nanochat run goes on with them; a terminal's, nanochat chat -s KEY")
    if left.waiting and not is_served:
        told = f"{counted(len(left.waiting), 'message')} {'waits' if len(left.waiting) == 1 else 'wait'} for the daemon"
        yield warning("inbox", told, _START)
    elif left.waiting:
        yield ok("inbox", f"{counted(len(left.waiting), 'message')} on the way")
    if not (left.unreadable or left.orphaned or left.waiting):
        yield ok("inbox", "nothing is left undone")


def _were(rows: tuple[tuple[str, str], ...]) -> str:
    return "was" if len(rows) == 1 else "were"


def port(config: Config, secrets: Secrets, *, is_served: bool) -> Iterator[Finding]:
    """Whether HTTP's port can be had, or is the daemon's."""
    host, number = config.http.host, config.http.port
    if not config.http.enabled or not secrets.http_token or not number:
        return
    if not _is_loopback(host):
        yield warning(
            "http", f"{host} is reached from other machines, and what is said there is not encrypted",
            'put a proxy with TLS in front and set http.host = "127.0.0.1"',
        )  # fmt: skip
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        yield _taken(host, number, error, is_served=is_served)
    else:
        if is_served:
            yield warning("http", f"the daemon runs and does not listen on port {number}", "restart the daemon")
        else:
            yield ok("http", f"port {number} is free")


def _taken(host: str, number: int, error: OSError, *, is_served: bool) -> Finding:
    if error.errno != errno.EADDRINUSE:
        mend = "choose another http.port" if error.errno == errno.EACCES else "choose another http.host"
        return wrong("http", f"{host}:{number} cannot be listened on: {error.strerror}", mend)
    if is_served and _is_ours(host, number):
        return ok("http", f"port {number} is the daemon's, and it answers")
    return wrong("http", f"port {number} is taken by another program", "choose another http.port, or end that program")


def _is_ours(host: str, number: int) -> bool:
    there = "127.0.0.1" if host in ("0.0.0.0", "") else "::1" if host == "::" else host
    connection = http.client.HTTPConnection(there, number, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read(65536))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(answer, dict) and "status" in answer


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sockets(config: Config, secrets: Secrets) -> Iterator[Finding]:
    """Whether the data directory's path leaves room for the sockets in it."""
    needed: list[tuple[str, int]] = []
    if not Path("/proc/self/fd").is_dir():  # through which a longer path is reached
        needed.append((WAKE, 0))
    if config.http.enabled and not secrets.http_token:
        needed.append((HTTP_SOCKET, _SPARE_BYTES))
    for name, spare in needed:
        path = Path(config.data_dir, name)
        length = len(os.fsencode(path))
        if length + spare > MAX_PATH_BYTES:
            told = f"{path} has {length} bytes, and the address of a socket holds {MAX_PATH_BYTES - spare}"
            yield wrong("sockets", told, "choose a data directory with a shorter path")


def service(config: Config, settings_path: Path | None) -> Iterator[Finding]:
    """Whether a unit of systemd is there, and starts this installation on these settings."""
    for place in (Place.of(system=False), Place.of(system=True)):
        try:
            text = place.path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            yield warning("service", f"{place.path} cannot be read: {type(error).__name__}")
            continue
        again = f"nanochat service install{' --system' if place.is_system else ''} writes it anew"
        yield _unit(place, text, config, settings_path, again)


def _unit(place: Place, text: str, config: Config, settings_path: Path | None, again: str) -> Finding:
    started = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ExecStart=")]
    try:
        words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(started[0])] if started else []
    except ValueError:
        words = []
    if not words:
        return wrong("service", f"{place.path} starts nothing", again)
    if not may(words[0], os.X_OK):
        return wrong("service", f"{place.path} starts {words[0]}, which is not there", again)
    if words[0] != sys.executable:
        return warning("service", f"{place.path} starts {words[0]}, and this is {sys.executable}", again)
    options = dict(pairwise(words))
    wanted = {"--config": str(settings_path.absolute()) if settings_path else ""}
    if not place.is_system:
        wanted["--data-dir"] = config.data_dir
    for option, value in wanted.items():
        if options.get(option, "") != value:
            given = options.get(option) or "none"
            return warning("service", f"{place.path} has {option} {given}, and here it is {value or 'none'}", again)
    return ok("service", f"{place.path} starts this installation")


def programs() -> Iterator[Finding]:
    """What runs, and under what."""
    yield ok(
        "version",
        f"nanochat {nanochat.__version__}, Python {platform.python_version()}, SQLite {SQLITE_VERSION},"
        f" at {Path(nanochat.__file__).parent}",
    )
    if not has_full_text():
        yield warning(
            "version", "this SQLite has no FTS5, so sessions cannot be searched", "install a Python with a full SQLite"
        )
