"""Telling a service manager how we are: four lines of a protocol that is text in a datagram.

https://www.freedesktop.org/software/systemd/man/252/sd_notify.html, read 2026-11-20. Knows the socket that the environment names.
Does not know what the daemon does.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

__all__ = ["Systemd"]


class Systemd:
    """Whoever started us, if it wants to know; each method does nothing where it does not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        is_watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(usec) / 1e6 / 2 if is_watched and usec.isdecimal() and int(usec) else 0.0
        """How often it wants a sign of life, twice as often as it insists on; 0 where it wants none."""

    def ready(self, words: str) -> None:
        """We do what we are for."""
        self._tell(f"READY=1\nSTATUS={words}")

    def reloading(self) -> None:
        """We read our settings anew; `ready` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """We finish what runs."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """The loop turns."""
        self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            try:
                notify.sendto(message.encode(), self._address)
            except OSError:  # a manager that does not listen is its own affair
                return
