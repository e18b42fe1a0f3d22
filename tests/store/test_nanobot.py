"""nanobot's session files are read as they are, and written on."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nanochat.history import tail
from nanochat.keys import SessionKey
from nanochat.records import Compact, Message, Opened, Rewind, Snapshot, TurnEnd
from nanochat.store import FileStore
from nanochat.store.names import nanobot_stems
from tests.contracts.store import KEY, add, said, view
from tests.store.raw import RawFile

WORKSPACE = "0123456789abcdef0123456789abcdef"


def _header(key: SessionKey = KEY, **more: Any) -> dict[str, Any]:  # Any: whatever nanobot keeps
    return {
        "_type": "metadata",
        "key": str(key),
        "created_at": "2026-01-02T03:04:05.000006",
        "updated_at": "2026-01-02T03:04:06",
        "metadata": {},
        "last_archived": 0,
        "last_consolidated": 0,
        **more,
    }


def _file(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def _message(i: int, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": f"m{i}", "timestamp": "2026-01-02T03:04:05.000006", **more}


PLACES = [
    "telegram+12345.jsonl",
    nanobot_stems(KEY)[0] + ".jsonl",
    nanobot_stems(KEY)[1] + ".jsonl",
    f"{WORKSPACE}/{nanobot_stems(KEY)[0]}.jsonl",
]


@pytest.fixture(params=PLACES, ids=["our name", "present name", "older name", "workspace"])
def theirs(request: pytest.FixtureRequest, file: RawFile) -> RawFile:
    """Every place where nanobot's file may lie."""
    return RawFile(file.path.parent / request.param)


async def test_it_is_read_where_it_lies(store: FileStore, theirs: RawFile) -> None:
    """All messages, numbered, with the header's times, which are local ones."""
    theirs.write(_file(_header(), *(_message(i) for i in range(4))))
    found = await view(store)
    assert said(found) == [f"m{i}" for i in range(4)]
    assert [record.n for record in found.records if isinstance(record, Message)] == [0, 1, 2, 3]
    assert found.state.n == 4
    assert found.state.created_at == datetime(2026, 1, 2, 3, 4, 5, 6).astimezone()
    assert [brief.key for brief in await store.list()] == [KEY]


async def test_a_reply_of_calls_only_is_a_message(store: FileStore, theirs: RawFile) -> None:
    """nanobot writes null for its text; without the line its result would answer nothing."""
    call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    theirs.write(
        _file(
            _header(),
            _message(0),
            _message(1, "assistant", content=None, tool_calls=[call]),
            _message(2, "tool", tool_call_id="c1", name="read"),
        )
    )
    found = await view(store)
    assert [record.n for record in found.records if isinstance(record, Message)] == [0, 1, 2]
    kinds = [block["type"] for m in tail(found.records) for block in m["content"] if isinstance(block, dict)]  # type: ignore[union-attr]
    assert ("tool_use" in kinds, "tool_result" in kinds) == (True, True)


async def test_it_is_written_on_where_it_lies(store: FileStore, theirs: RawFile) -> None:
    """Appends go to the same file, and number on."""
    theirs.write(_file(_header(), *(_message(i) for i in range(3))))
    found = await view(store)
    done = await add(store, "new", TurnEnd("s", "done"), known=found.end)
    assert not done.replaced
    assert [record.n for record in done.records if isinstance(record, Message)] == [3]
    assert theirs.lines()[-2]["_n"] == 3
    assert theirs.lines()[-1]["v"] == 1
    assert (await store.catch_up(KEY, found.end)).records == done.records
    assert said(await view(store)) == ["m0", "m1", "m2", "new"]
    assert len(list(await store.list())) == 1


async def test_undo_in_it(store: FileStore, theirs: RawFile) -> None:
    """A rewind to before one of nanobot's messages holds."""
    theirs.write(_file(_header(), *(_message(i) for i in range(4))))
    found = await view(store)
    target = next(record for record in found.records if isinstance(record, Message) and record.n == 2)
    await add(store, Rewind(target.start, target.n, "undo"), "new", known=found.end)
    again = await view(store)
    assert said(again) == ["m0", "m1", "new"]
    assert again.state.n == 5


@pytest.mark.parametrize(
    "summary", ["earlier talk", {"text": "earlier talk", "last_active": "2026-01-01"}], ids=["text", "object"]
)
async def test_its_summary(store: FileStore, file: RawFile, summary: object) -> None:
    """Messages that nanobot had summarised are sent as their summary, also once we have written on."""
    metadata = {"_last_summary": summary}
    file.write(_file(_header(metadata=metadata, last_consolidated=2), *(_message(i) for i in range(5))))
    for texts in (["m2", "m3", "m4"], ["m2", "m3", "m4", "new"]):
        found = await view(store)
        assert said(found) == texts
        first = found.records[0]
        assert isinstance(first, Snapshot)
        assert isinstance(first.event, Compact)
        message = next(record for record in found.records if isinstance(record, Message))
        assert (first.event.summary, first.event.keep, first.event.keep_n) == ("earlier talk", message.start, 2)
        assert found.complete
        await add(store, "new", TurnEnd("s", "done"), known=found.end)


@pytest.mark.parametrize(
    ("consolidated", "summary"), [(9, "s"), (2, ""), (-3, "s"), (0, "s")], ids=["beyond", "none", "negative", "zero"]
)
async def test_a_cursor_that_does_not_hold(store: FileStore, file: RawFile, consolidated: int, summary: str) -> None:
    """It hides no message, neither now nor when there are more."""
    header = _header(metadata={"_last_summary": summary}, last_consolidated=consolidated)
    file.write(_file(header, *(_message(i) for i in range(4))))
    assert said(await view(store)) == ["m0", "m1", "m2", "m3"]
    await add(store, *(f"n{i}" for i in range(10)))
    found = await view(store)
    assert said(found)[:4] == ["m0", "m1", "m2", "m3"]
    assert isinstance(found.records[0], Snapshot)
    assert isinstance(found.records[0].event, Opened)


async def test_its_tool_rows(store: FileStore, file: RawFile) -> None:
    """They are messages, with what we do not know of them beside."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    file.write(
        _file(
            _header(),
            {"_type": "provider_state", "state": {}},
            _message(0),
            _message(1, "assistant", tool_calls=[call]),
            _message(2, "tool", tool_call_id="c1", name="f"),
        )
    )
    messages = [record for record in (await view(store)).records if isinstance(record, Message)]
    assert [message.role for message in messages] == ["user", "assistant", "tool"]
    assert messages[1].extra == {"tool_calls": [call]}
    assert messages[2].extra == {"tool_call_id": "c1", "name": "f"}


async def test_an_older_name_of_another_key(store: FileStore, file: RawFile) -> None:
    """Two keys could share an older name; only the header's own gets it."""
    other = SessionKey("http", "x_y")
    theirs = RawFile(file.path.parent / "http_x_y.jsonl")
    theirs.write(_file(_header(SessionKey("http", "x:y")), _message(0)))
    assert await store.read(other, exchanges=1, limit_bytes=1) is None
    assert await store.read(SessionKey("http", "x:y"), exchanges=1, limit_bytes=1) is not None


async def test_our_name_comes_first(store: FileStore, file: RawFile) -> None:
    """Where both lie there, ours is the session."""
    await add(store, "ours")
    RawFile(file.path.parent / PLACES[1]).write(_file(_header(), _message(0)))
    assert said(await view(store)) == ["ours"]
    assert [brief.preview for brief in await store.list()] == ["ours"]


async def test_a_key_too_long_for_nanobot(tmp_path: Path) -> None:
    """Its names for it could not even be looked up."""
    store = FileStore(tmp_path / "sessions")
    assert await store.read(SessionKey("http", "x" * 390), exchanges=1, limit_bytes=1) is None
    await store.close()
