"""Binary content beside the session files, named by its sha256.

A blob is there whole or not at all, and is durable before a line can name it. Knows bytes and hashes. Does not know who refers
to one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import time
from pathlib import Path

import aiofiles

from nanochat.store.disk import Disk, make_dir, refusal, sync_dir

__all__ = ["Blobs"]

_NAME = re.compile(r"[0-9a-f]{64}\Z")

_PART_SUFFIX = ".part"

# A blob takes seconds to write; a part of an older day was left by a process that was killed.
_STALE_S = 24 * 3600


class Blobs:
    """The blobs in one directory."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk
        self._is_swept = False

    async def put(self, data: bytes) -> str:
        """Keep `data`; see `ports.SessionStore.put_blob`.

        Raises:
            NotWritten: it is not kept.
        """
        return await asyncio.to_thread(self._put, data)

    async def get(self, sha256: str) -> bytes | None:
        """The content of that name; None where it is not there, or no longer what it was."""
        if not _NAME.match(sha256):
            return None
        try:
            async with aiofiles.open(self._directory / sha256, "rb") as file:
                data = await file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        digest = await asyncio.to_thread(hashlib.sha256, data)
        return data if digest.hexdigest() == sha256 else None

    def _put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._directory / sha256
        try:
            make_dir(self._disk, self._directory)
            self._sweep()
            if not self._holds(path, data):
                self._write(path, data)
            sync_dir(self._disk, self._directory)  # also for one that is there: its writer may not have come so far
        except OSError as error:
            raise refusal(error, path) from error
        return sha256

    def _holds(self, path: Path, data: bytes) -> bool:
        try:
            return path.stat().st_size == len(data) and path.read_bytes() == data
        except FileNotFoundError:
            return False

    def _write(self, path: Path, data: bytes) -> None:
        part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_PART_SUFFIX}")
        fd = self._disk.open_safely(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[self._disk.write(fd, rest) :]
                self._disk.fsync(fd)
            finally:
                os.close(fd)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _sweep(self) -> None:
        """Remove what killed processes left, once per process."""
        if self._is_swept:
            return
        self._is_swept = True
        oldest = time.time() - _STALE_S
        for part in self._directory.glob(f"*{_PART_SUFFIX}"):
            if part.stat().st_mtime < oldest:
                part.unlink(missing_ok=True)
