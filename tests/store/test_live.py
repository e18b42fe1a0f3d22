"""What is live: any history of undo, redo, reset and compaction reads as it would if it were replayed from its beginning."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.records import (
    Compact,
    Event,
    Message,
    Reset,
    Rewind,
    SetValue,
    Snapshot,
    TurnEnd,
    UnknownOp,
    Usage,
)
from nanochat.store import FileStore
from tests.contracts.store import KEY, NOW, add, said, say, view
from tests.fakes.memory_store import MemoryStore
from tests.store.raw import RawFile


@dataclass(frozen=True)
class Step:
    """One act; `pick` chooses among the places there are."""

    kind: str
    pick: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["exchange", "exchange", "rewind", "reset", "compact", "set", "pin", "unpin", "reopen"]),
        st.integers(0, 1 << 16),
    ),
    max_size=25,
)


def _drafts(step: Step, places: list[tuple[int, int]]) -> list[Message | Event]:
    """What a step appends; `places` are the starts of lines so far, with the count of messages before them."""
    to, n = places[step.pick % len(places)]
    match step.kind:
        case "exchange":
            turn = TurnEnd(f"s{step.pick}", "done", usage=Usage(input=1), cost_usd=0.25)
            return [say(f"q{step.pick}"), say("x" * (step.pick % 3000), "assistant"), turn]
        case "rewind":
            return [Rewind(to, n, "undo")]
        case "reset":
            return [Reset()]
        case "compact":
            return [Compact("summary", to, n, "test", "budget")]
        case "pin":
            return [SetValue("pin", f"pin {step.pick}")]
        case "unpin":
            return [SetValue("unpin", str(step.pick % 4))]
        case _:
            return [SetValue("system", f"be {step.pick}")]


async def _compare(steps: list[Step], directory: Path) -> None:
    model = MemoryStore()
    store = FileStore(directory / "sessions", durability="off")
    known = 0
    places = [(0, 0)]
    for i, step in enumerate(steps):
        if step.kind == "reopen":
            await store.close()
            store = FileStore(directory / "sessions", durability="off")
            continue
        drafts = _drafts(step, places)
        now = NOW + timedelta(seconds=i)
        expected = await model.append(KEY, drafts, known=known, durable=False, now=now)
        assert await store.append(KEY, drafts, known=known, durable=False, now=now) == expected
        known = expected.end
        for record in expected.records:
            places.append((record.start, record.n if isinstance(record, Message) else record.state.n))
        assert await view(store) == await view(model)
        small = await store.read(KEY, exchanges=2, limit_bytes=2000)
        whole = await view(model)
        assert small is not None
        assert small.records == whole.records[len(whole.records) - len(small.records) :]
        assert small.state == whole.state
    await store.close()


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_history(steps: list[Step]) -> None:
    """The file store, reading backwards, agrees with the model, replaying forwards, after each of up to 25 acts."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_compare(steps, Path(directory)))


HOSTILE = st.tuples(st.integers(-10, 3000), st.integers(-3, 12), st.sampled_from(["rewind", "compact"]))


@settings(max_examples=150, deadline=None)
@given(st.lists(HOSTILE, max_size=12))
def test_hostile_places(places: list[tuple[int, int, str]]) -> None:
    """Rewinds and compactions to anywhere are read to an end, and what was said after them is there."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_survive(places, Path(directory)))


async def _survive(places: list[tuple[int, int, str]], directory: Path) -> None:
    store = FileStore(directory / "sessions", durability="off")
    await add(store, *(f"m{i}" for i in range(5)))
    for to, n, kind in places:
        event = Rewind(to, n, "hostile") if kind == "rewind" else Compact("s", to, n, "test", "hostile")
        await add(store, event, f"after {to}")
    await add(store, "last")
    found = await view(store)
    assert said(found)[-1] == "last"
    assert found.end == (await store.list())[0].size_bytes
    await store.close()


async def test_an_invalid_rewind_changes_nothing(store: FileStore) -> None:
    """To the middle of a line, behind itself, or before the beginning."""
    first = await add(store, "a", "b")
    for to, n in [(first.records[1].start + 1, -1), (first.end + 10_000, -1), (-5, -1), (first.records[1].start, 77)]:
        await add(store, Rewind(to, n, "hostile"))
    assert said(await view(store)) == ["a", "b"]


async def test_a_rewind_to_the_beginning(store: FileStore) -> None:
    """Byte 0 is a place like any other."""
    first = await add(store, "a")
    await add(store, Rewind(0, 0, "all"), "b", known=first.end)
    assert said(await view(store)) == ["b"]


async def test_an_unknown_op_changes_nothing(store: FileStore) -> None:
    """A later nanochat's event is a record like others."""
    await add(store, "a", UnknownOp("dance"), "b")
    found = await view(store)
    assert said(found) == ["a", "b"]
    assert UnknownOp("dance") in [record.event for record in found.records if isinstance(record, Snapshot)]


async def test_a_rewind_in_a_file_edited_by_hand(store: FileStore, file: RawFile) -> None:
    """Where lines have moved, the message is found by its number."""
    first = await add(store, "a", "b", "c")
    await add(store, Rewind(first.records[1].start, 1, "undo"), "d", known=first.end)
    file.replace(b'"content":"a"', b'"content":"a long time ago"')
    found = await view(store)
    assert said(found) == ["a long time ago", "d"]
    await add(store, "e", known=found.end)
    assert said(await view(store)) == ["a long time ago", "d", "e"]


async def test_a_compaction_in_a_file_edited_by_hand(store: FileStore, file: RawFile) -> None:
    """Its boundary is found by number too, and the record says where it is now."""
    first = await add(store, "a", "b", "c")
    await add(store, Compact("they said a", first.records[1].start, 1, "test", "budget"), "d", known=first.end)
    file.replace(b'"content":"a"', b'"content":"aaa"')
    found = await view(store)
    assert said(found) == ["b", "c", "d"]
    compact = next(r.event for r in found.records if isinstance(r, Snapshot) and isinstance(r.event, Compact))
    assert compact.keep == first.records[1].start + 2


async def test_a_compaction_whose_boundary_is_gone(store: FileStore, file: RawFile) -> None:
    """It hides nothing."""
    first = await add(store, "a", "b")
    await add(store, Compact("they said a", first.records[1].start, 1, "test", "budget"), "c", known=first.end)
    line = file.data.splitlines(keepends=True)[2]
    file.replace(line, b"")
    found = await view(store)
    assert said(found) == ["a", "c"]
    assert not any(isinstance(r, Snapshot) and isinstance(r.event, Compact) for r in found.records)


async def test_long_values_in_a_file_edited_by_hand(store: FileStore, file: RawFile) -> None:
    """System text and pins are found where they are now, and the state says so to whoever appends next."""
    values = [SetValue("pin", "p1"), SetValue("pin", "p2"), SetValue("system", "be brief")]
    await add(store, "a", *values, "b", TurnEnd("s", "done"))
    before = (await view(store)).state
    file.replace(b'"content":"a"', b'"content":"aaaaa"')
    found = await view(store)
    assert (found.system, found.pins) == ("be brief", ("p1", "p2"))
    assert [pin.at for pin in found.state.pins] == [pin.at + 4 for pin in before.pins]
    await add(store, SetValue("unpin", "1"), known=found.end)
    assert (await view(store)).pins == ("p2",)


async def test_a_long_value_that_is_gone(store: FileStore, file: RawFile) -> None:
    """A pin whose line was deleted is no pin any more; the other ones keep their order."""
    await add(store, "a", SetValue("pin", "p1"), SetValue("pin", "p2"), SetValue("system", "s"), TurnEnd("s", "done"))
    gone = [line for line in file.data.splitlines(keepends=True) if b'"p1"' in line or b'"value":"s"' in line]
    for line in gone:
        file.replace(line, b"")
    found = await view(store)
    assert (found.system, found.state.system) == ("", None)
    assert found.pins == ("p2",)
    done = await add(store, SetValue("pin", "p3"), known=found.end)
    assert len(done.state.pins) == 2
    assert (await view(store)).pins == ("p2", "p3")


async def test_a_snapshot_is_never_far(store: FileStore, file: RawFile) -> None:
    """In a file of messages only, the state is repeated often enough that opening it never reads far."""
    known = (await add(store, SetValue("model", "m"))).end
    for _ in range(30):
        known = (await add(store, *("x" * 10_000 for _ in range(20)), known=known, durable=False)).end
    data = file.data
    assert len(data) > 6_000_000
    starts = _starts(data)
    gaps = [b - a for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    assert max(gaps) < 512 * 1024 + 20 * 11_000
    await store.close()
    found = await store.read(KEY, exchanges=1, limit_bytes=0)
    assert found is not None
    assert (found.state.model, found.state.n) == ("m", 600)


def _starts(data: bytes) -> list[int]:
    starts, at = [0], 0
    while (at := data.find(b'\n{"_type"', at + 1)) >= 0:
        starts.append(at + 1)
    return starts
