"""A store over an empty data directory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from nanochat.store import FileStore
from tests.store.raw import RawFile

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileStore]:
    store = FileStore(tmp_path / "data" / "sessions")
    yield store
    await store.close()


@pytest.fixture
def file(tmp_path: Path) -> RawFile:
    """The file of the session that most tests write."""
    return RawFile(tmp_path / "data" / "sessions" / "telegram+12345.jsonl")


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts `tests.store.child` over the data directory of `store`; none outlives the test."""
    started: list[asyncio.subprocess.Process] = []

    async def start(what: str, *args: str) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "tests.store.child", what, str(tmp_path / "data" / "sessions"), *args)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        assert process.stdout
        await process.stdout.read()
        await process.wait()
