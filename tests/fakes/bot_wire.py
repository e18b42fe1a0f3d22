"""HTTP/1.1 as a Bot API client speaks it: requests with JSON, form and multipart bodies on connections that are kept.

Knows bytes and fields. Does not know what a method is, nor who calls it.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

__all__ = ["JSON", "MAX_HEAD_BYTES", "Fields", "Gone", "HttpRequest", "Upload", "Wire"]

_T = TypeVar("_T")

MAX_HEAD_BYTES = 64 * 1024
JSON = {"content-type": "application/json"}
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}


class Gone(Exception):
    """The client closed its side."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in a multipart body."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Fields:
    """The parameters of a request, whatever way they came. Structures are kept as JSON text until they are asked for."""

    values: Mapping[str, str]
    uploads: Mapping[str, Upload] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return self.values.get(name, "")

    def number(self, name: str) -> int | None:
        """None where it is absent, or no number: the real server reads neither."""
        value = self.values.get(name, "").strip()
        return int(value) if re.fullmatch(r"[+-]?\d+", value) else None

    def flag(self, name: str) -> bool:
        return self.values.get(name, "").lower() in ("true", "1", "yes")

    def structure(self, name: str) -> object:
        """The decoded JSON, or None where there is none.

        Raises:
            ValueError: it is not JSON.
        """
        value = self.values.get(name, "")
        return json.loads(value) if value else None


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, read to its end."""

    method: str
    path: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read(self) -> HttpRequest:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await self._body(headers)
        path, _, query = target.partition("?")
        fields = _fields(headers.get("content-type", ""), body)
        values = {**dict(parse_qsl(query, keep_blank_values=True)), **fields.values}
        return HttpRequest(method, unquote(path), Fields(values, fields.uploads))

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await self.reader.readexactly(int(headers.get("content-length", "0")))
        chunks = []
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            chunks.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")
        return b"".join(chunks)

    async def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in {**headers, "content-length": str(len(body))}.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection as a crash does: the peer reads a reset, not an end."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def unless_gone(self, waiting: Coroutine[Any, Any, _T]) -> _T:  # Any: what a coroutine yields and is sent
        """Wait for something of our own, but not for a client that has hung up.

        Raises:
            Gone: it has; `waiting` is cancelled.
        """
        ours = asyncio.ensure_future(waiting)
        theirs = asyncio.ensure_future(self.reader.read(1))
        try:
            await asyncio.wait({ours, theirs}, return_when=asyncio.FIRST_COMPLETED)
            if ours.done():
                return ours.result()
            raise Gone
        finally:
            for task in (ours, theirs):
                task.cancel()
            await asyncio.wait({ours, theirs})
            for task in (ours, theirs):
                if not task.cancelled():
                    task.exception()


def _fields(content_type: str, body: bytes) -> Fields:
    kind, _, rest = content_type.partition(";")
    match kind.strip().lower():
        case "application/json" if body:
            decoded: dict[str, object] = json.loads(body)
            return Fields({n: v if isinstance(v, str) else json.dumps(v) for n, v in decoded.items() if v is not None})
        case "application/x-www-form-urlencoded":
            return Fields(dict(parse_qsl(body.decode(), keep_blank_values=True)))
        case "multipart/form-data":
            boundary = re.search(r'boundary="?([^";]+)', rest)
            return _multipart(boundary.group(1) if boundary else "", body)
        case _:
            return Fields({})


def _multipart(boundary: str, body: bytes) -> Fields:
    values: dict[str, str] = {}
    uploads: dict[str, Upload] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        lines = head.decode("utf-8").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        disposition = headers.get("content-disposition", "")
        name = _parameter(disposition, "name") or ""
        if (filename := _parameter(disposition, "filename")) is None:
            values[name] = content.decode("utf-8")
        else:
            uploads[name] = Upload(filename, headers.get("content-type", "application/octet-stream"), content)
    return Fields(values, uploads)


def _parameter(disposition: str, name: str) -> str | None:
    found = re.search(rf'[; ]{name}="((?:[^"\\]|\\.)*)"', disposition)
    return None if found is None else unquote(re.sub(r"\\(.)", r"\1", found.group(1)))
