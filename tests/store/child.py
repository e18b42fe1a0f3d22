"""Stores in processes of their own: `python -m tests.store.child WHAT SESSIONS_DIR …`. Each prints what it did, line by line."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import sys
from pathlib import Path

from nanochat.errors import NotWritten
from nanochat.store import FileStore
from tests.contracts.store import KEY, add, say


async def write(store: FileStore, name: str, count: int) -> None:
    """Append durably, and say so once each line is acknowledged."""
    known = 0
    for i in range(count):
        done = await add(store, f"{name}{i}", say("x" * 600, "assistant"), known=known)
        known = done.end
        print(f"{name}{i}", flush=True)


async def fill(store: FileStore, limit_bytes: int) -> None:
    """Append under a file size limit until it refuses, then without one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    i = 0
    try:
        while True:
            await add(store, f"a{i}", "x" * 300)
            i += 1
    except NotWritten as error:
        print(i, error, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await add(store, "after")
    print("after", flush=True)


async def many(store: FileStore, descriptors: int) -> None:
    """Two hundred sessions at once with few descriptors."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    keys = [type(KEY)("cli", f"s{i}") for i in range(200)]
    async with asyncio.TaskGroup() as tasks:
        for key in keys:
            for _ in range(2):
                tasks.create_task(store.append(key, [say("a")], known=0, durable=True, now=say("").timestamp))
    print("done", flush=True)


async def hold(store: FileStore) -> None:
    """Take the lease and keep it."""
    async with store.lease(KEY):
        print("held", flush=True)
        await asyncio.Event().wait()


async def lock(file: Path) -> None:
    """Take the file's own lock in the middle of a write, and keep it."""
    fd = os.open(file, os.O_RDWR | os.O_APPEND)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(fd, b'{"role":"user","conte')
    print("locked", flush=True)
    await asyncio.Event().wait()


async def main(what: str, sessions_dir: str, *args: str) -> None:
    store = FileStore(Path(sessions_dir), process=f"test {what}")
    match what:
        case "write":
            await write(store, args[0], int(args[1]))
        case "fill":
            await fill(store, int(args[0]))
        case "many":
            await many(store, int(args[0]))
        case "hold":
            await hold(store)
        case "lock":
            await lock(store.path_of(KEY))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
