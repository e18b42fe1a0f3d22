"""What can go wrong between a bot and its server, to be put in the way of the next calls.

Knows which call a fault is meant for, and how often. Does not know how it is acted out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["DOWNLOAD", "EVERY", "Fault", "Faults", "Gate", "Refuse", "Reset"]

EVERY = "*"
"""The method of a fault that is meant for whatever is called."""

DOWNLOAD = "download"
"""The method under which the download of a file is known here."""

# What a proxy in front of the real server says when it is not there.
BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>nginx/1.18.0</center>\r\n</body>\r\n</html>\r\n"
)
_WORDS: Mapping[int, str] = {
    400: "Bad Request: it was made to fail",
    401: "Unauthorized",
    403: "Forbidden: bot was blocked by the user",
    404: "Not Found",
    409: "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
    413: "Request Entity Too Large",
    429: "Too Many Requests: retry after 5",
    500: "Internal Server Error",
}


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an error, and do nothing. Without a description a 5xx is a page of HTML, as a proxy sends it."""

    status: int
    description: str = ""
    parameters: Mapping[str, int] = field(default_factory=dict)

    @property
    def words(self) -> str:
        return self.description or _WORDS.get(self.status, "")


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection: before anything was done, or after all was done and before it is answered."""

    when: Literal["before", "after"]


@dataclass(eq=False, slots=True)
class Gate:
    """Hold a call: before anything is done, or after all was done, until `opened` is set. Never opened, it hangs.

    `reached` is set when a call stands before it.
    """

    when: Literal["before", "after"]
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self) -> None:
        self.opened.set()


Happening: TypeAlias = Refuse | Reset | Gate


@dataclass(eq=False, slots=True)
class Fault:
    """A happening, the calls that it is meant for, and how many of them are left. `hits` counts those that met it."""

    method: str
    happening: Happening
    times: int
    chat_id: int | None = None
    hits: int = 0

    def is_for(self, method: str, chat_id: int | None) -> bool:
        return (
            self.hits < self.times
            and self.method.lower() in (EVERY, method.lower())
            and self.chat_id in (None, chat_id)
        )


class Faults:
    """Those that are in the way, oldest first; each call meets one at most."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def meet(self, method: str, chat_id: int | None) -> Happening | None:
        """What happens to this call; it is counted."""
        for fault in self._faults:
            if fault.is_for(method, chat_id):
                fault.hits += 1
                return fault.happening
        return None
