"""The places where requests come in: a port, or a socket file that one user can open.

Both are taken before the server is started, so that a place that cannot be had is one line for a person. Does not know HTTP.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nanochat.errors import ChannelError

__all__ = ["Listening", "on_path", "on_port"]

# `sun_path` of unix(7) has 108 bytes with the zero at its end; macOS has 104.
MAX_PATH_BYTES = 103

# One more name than ours lies in the directory for an instant, in a directory of its own.
_BESIDE = "/.http-01234567"


@dataclass(frozen=True, slots=True)
class Listening:
    """Bound sockets, and what a person would type to reach them."""

    sockets: tuple[socket.socket, ...]
    url: str
    path: Path | None = None
    inode: int = 0

    def close(self) -> None:
        """Let them go; the file goes too, if it is still ours."""
        for each in self.sockets:
            each.close()
        if self.path is not None:
            with suppress(FileNotFoundError):
                if self.path.lstat().st_ino == self.inode:
                    self.path.unlink()


async def on_port(host: str, port: int) -> Listening:
    """Take a port on every address of a host; 0 is any that is free.

    Raises:
        ChannelError: it cannot be had, with what to set.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ChannelError(f"http.host {host!r} is no address of this machine: {error}", retryable=True) from error
    taken: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        bound = taken[0].getsockname()[1] if taken else port
        try:
            taken.append(_bound(socket.socket(family, kind, protocol), (address[0], bound, *address[2:])))
        except OSError as error:
            is_absent = error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
            if is_absent and (taken or address != found[-1][4]):
                continue  # `localhost` may name an address of a family that is switched off
            for other in taken:
                other.close()
            raise ChannelError(_why(error, where), retryable=True) from error
    port = taken[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return Listening(tuple(taken), f"http://{shown}:{port}/")


def on_path(path: Path) -> Listening:
    """Make a socket file that only this user can open, from its first instant on.

    Raises:
        ChannelError: it cannot be made, or another process answers there.
    """
    if len(os.fsencode(path.parent)) + len(_BESIDE) + len(os.fsencode(path.name)) > MAX_PATH_BYTES:
        raise ChannelError(
            f"{path} is too long for a socket: set NANOCHAT_HTTP_TOKEN to be reached by a port, or a shorter data_dir"
        )
    _clear(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Nobody else can look into the directory that it is made in; the umask is one for all threads, and stays as it is.
        with tempfile.TemporaryDirectory(prefix=".http-", dir=path.parent) as aside:
            made = Path(aside) / path.name
            listening.bind(str(made))
            made.chmod(0o600)
            inode = made.stat().st_ino
            made.rename(path)
    except OSError as error:
        listening.close()
        raise ChannelError(f"{path}: the socket cannot be made: {error.strerror}", retryable=True) from error
    return Listening((listening,), f"unix:{path}", path, inode)


def _bound(made: socket.socket, address: tuple[object, ...]) -> socket.socket:
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        # Two may bind a port that nobody listens on yet; the second is told here.
        made.listen(128)
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made


def _why(error: OSError, where: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"http: {where} is taken by another program: set http.port, or end the other one"
        case errno.EACCES:
            return f"http: {where} may not be used by this user: set http.port to one above 1023"
        case _:
            return f"http: {where} cannot be used: {error.strerror}; see http.host and http.port"


def _clear(path: Path) -> None:
    """Take away what a dead process left.

    Raises:
        ChannelError: it is alive, or it is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ChannelError(f"{path}: the socket cannot be made: {error.strerror}", retryable=True) from error
    if not stat.S_ISSOCK(mode):
        raise ChannelError(f"{path} is in the way, and no socket: move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass  # alive, and too busy to answer
    raise ChannelError(f"another process answers at {path}: end it first", retryable=True)
