"""`tail -f` on a session file shows every line once, whatever happens to the conversation."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from nanochat.records import Compact, Reset, Rewind, TurnEnd
from nanochat.store import FileStore
from tests.contracts.store import KEY, add, say
from tests.store.raw import RawFile


@pytest.mark.skipif(shutil.which("tail") is None, reason="needs tail")
async def test_tail_shows_each_line_once(store: FileStore, file: RawFile) -> None:
    """Through undo, reset, compaction and the repair of a torn line, with no replay and no complaint."""
    first = await add(store, "m0", say("m1", "assistant"))
    process = await asyncio.create_subprocess_exec(
        "tail",
        "-n",
        "+1",
        "--sleep-interval=0.05",
        "-f",
        str(file.path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    shown = [await process.stdout.readline() for _ in range(3)]
    await add(store, "m2", TurnEnd("s", "done"), known=first.end)
    await add(store, Rewind(first.end, 2, "undo"), "m3")
    await add(store, Compact("summary", first.records[1].start, 1, "test", "budget"), "m4")
    file.add(b'{"role":"user","content":"tor')
    while not shown[-1].endswith(b"m4" + b'","timestamp":"2026-11-20T12:00:00+00:00","_n":4}\n'):
        shown.append(await process.stdout.readline())
    await add(store, Reset(), "m5")
    while b'"m5"' not in shown[-1]:
        shown.append(await process.stdout.readline())
    process.kill()
    shown.append(await process.stdout.read())
    assert await process.stderr.read() == b""
    await process.wait()
    lines = [json.loads(line) for line in shown if _is_whole(line)]
    assert [line["content"] for line in lines if "role" in line] == [f"m{i}" for i in range(6)]
    assert [line["op"] for line in lines if "op" in line] == ["open", "turn", "rewind", "compact", "reset"]
    assert (await store.check(KEY)) == ()


def _is_whole(line: bytes) -> bool:
    """As `jq -R 'fromjson?'` would have it."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
