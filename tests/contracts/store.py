"""What every `SessionStore` promises. A subclass gives the fixture `store`, empty."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from nanochat.errors import LeaseHeld, NotWritten
from nanochat.keys import SessionKey
from nanochat.ports import Appended, SessionStore, View
from nanochat.records import (
    Compact,
    Event,
    Message,
    Opened,
    Reset,
    Rewind,
    SetValue,
    Snapshot,
    TurnEnd,
    Usage,
)

__all__ = ["KEY", "NOW", "StoreContract", "add", "said", "say", "view"]

KEY = SessionKey("telegram", "12345")
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def say(content: str, role: str = "user") -> Message:
    """A draft."""
    return Message(role, content, NOW)


async def add(
    store: SessionStore, *drafts: Message | Event | str, known: int = 0, durable: bool = True, now: datetime = NOW
) -> Appended:
    """Append drafts; a text is a user's line."""
    whole = [say(draft) if isinstance(draft, str) else draft for draft in drafts]
    return await store.append(KEY, whole, known=known, durable=durable, now=now)


async def view(store: SessionStore, *, exchanges: int = 10_000, limit_bytes: int = 1 << 40) -> View:
    """All that is live, unless less is asked for."""
    found = await store.read(KEY, exchanges=exchanges, limit_bytes=limit_bytes)
    assert found is not None
    return found


def said(found: View) -> list[str]:
    """The contents of its messages."""
    return [str(record.content) for record in found.records if isinstance(record, Message)]


class StoreContract:
    """Holds for one process and several callers."""

    async def test_no_session(self, store: SessionStore) -> None:
        """What was never written is not there, and reading does not make it."""
        assert await store.read(KEY, exchanges=1, limit_bytes=1) is None
        assert await store.list() == []

    async def test_what_was_appended_is_read(self, store: SessionStore) -> None:
        """Drafts come back in order, behind a header, numbered from 0, with their fields."""
        draft = Message(
            "assistant",
            [{"type": "text", "text": "hello"}],
            NOW,
            source_id="cli:1",
            usage=Usage(1, 2, 3, 4, 5),
            prefix="abc",
            mark="stopped",
            clock="Friday",
            extra={"name": "x"},
        )
        done = await add(store, "hi", draft)
        found = await view(store)
        assert isinstance(found.records[0], Snapshot)
        assert isinstance(found.records[0].event, Opened)
        assert found.records[1:] == done.records
        assert [record.n for record in done.records if isinstance(record, Message)] == [0, 1]
        assert done.state == found.state
        assert (found.end, found.complete, found.unreadable) == (done.end, True, 0)

    async def test_offsets_are_gapless(self, store: SessionStore) -> None:
        """Each record says where it stands, and the next one follows it."""
        done = await add(store, "a", TurnEnd("s", "done"), "b")
        records = (await view(store)).records
        assert [record.start for record in records] == [0, *(record.end for record in records[:-1])]
        assert records[-1].end == done.end

    async def test_a_snapshot_repeats_the_state(self, store: SessionStore) -> None:
        """Totals add up over turns, and the last record tells them all."""
        turn = TurnEnd("s", "done", usage=Usage(input=10, output=1), cost_usd=0.5)
        first = await add(store, "a", turn)
        second = await add(store, "b", turn, known=first.end)
        assert second.state.totals.turns == 2
        assert second.state.totals.usage == Usage(input=20, output=2)
        assert second.state.n == 2
        assert (await view(store)).state == second.state

    async def test_others_are_handed_over(self, store: SessionStore) -> None:
        """Whoever appends learns what came before its lines since it last looked."""
        first = await add(store, "a")
        second = await add(store, "b", known=first.end)
        third = await add(store, "c", known=first.end)
        assert third.others == second.records
        assert not third.replaced
        assert (await add(store, "d", known=third.end)).others == ()

    async def test_catching_up(self, store: SessionStore) -> None:
        """What was appended after a known end, and nothing where there was nothing."""
        first = await add(store, "a")
        assert (await store.catch_up(KEY, first.end)).records == ()
        second = await add(store, "b", Rewind(first.records[0].start, 0, "undo"), known=first.end)
        changes = await store.catch_up(KEY, first.end)
        assert changes.records == second.records
        assert (changes.end, changes.replaced) == (second.end, False)

    async def test_catching_up_from_within_a_line(self, store: SessionStore) -> None:
        """The line that the known byte lies inside of is left out."""
        done = await add(store, "a", "b")
        changes = await store.catch_up(KEY, done.records[0].start + 3)
        assert changes.records == done.records[1:]

    async def test_more_is_known_than_there_is(self, store: SessionStore) -> None:
        """A file that is shorter than it was is another file."""
        done = await add(store, "a")
        assert (await store.catch_up(KEY, done.end + 1000)).replaced
        assert (await add(store, "b", known=done.end + 1000)).replaced

    async def test_rewind(self, store: SessionStore) -> None:
        """An undone exchange is not live, and its numbers are not given again."""
        first = await add(store, "a", say("1", "assistant"))
        second = await add(store, "b", say("2", "assistant"), known=first.end)
        undone = second.records[0]
        third = await add(store, Rewind(undone.start, 2, "undo"), "c", known=second.end)
        assert said(await view(store)) == ["a", "1", "c"]
        last = third.records[-1]
        assert isinstance(last, Message)
        assert last.n == 4

    async def test_rewind_of_a_rewind(self, store: SessionStore) -> None:
        """Going back to before an undo brings back what was undone."""
        first = await add(store, "a", "b")
        undo = await add(store, Rewind(first.records[1].start, 1, "undo"), known=first.end)
        assert said(await view(store)) == ["a"]
        await add(store, Rewind(undo.records[0].start, 2, "redo"), "c", known=undo.end)
        assert said(await view(store)) == ["a", "b", "c"]

    async def test_reset(self, store: SessionStore) -> None:
        """The view begins at the newest reset."""
        first = await add(store, "a", Reset("new"), "b")
        found = await view(store)
        assert found.records == first.records[1:]
        assert found.complete

    async def test_undo_of_a_reset(self, store: SessionStore) -> None:
        """A rewind to before the reset makes the old conversation live again."""
        first = await add(store, "a", Reset(), "b")
        await add(store, Rewind(first.records[1].start, 1, "undo"), known=first.end)
        assert said(await view(store)) == ["a"]

    async def test_compaction(self, store: SessionStore) -> None:
        """The view begins at the boundary, the compaction's own record stands in its place, and limits do not cut it."""
        first = await add(store, "a", "b", "c")
        kept = first.records[1]
        await add(store, Compact("they said a", kept.start, 1, "test", "budget"), "d", known=first.end)
        found = await view(store)
        assert said(found) == ["b", "c", "d"]
        assert [type(r.event) for r in found.records if isinstance(r, Snapshot)] == [Compact]
        assert found.complete
        assert found.state.last_consolidated == 1

    async def test_a_window_begins_at_a_user_line(self, store: SessionStore) -> None:
        """Where the limits end the reading, it ends at a person's line, and says that there is more."""
        drafts = [say(f"{i}", role) for i in range(5) for role in ("user", "assistant")]
        await add(store, *drafts)
        found = await view(store, exchanges=2, limit_bytes=0)
        assert said(found) == ["3", "3", "4", "4"]
        assert not found.complete

    async def test_both_limits_must_be_reached(self, store: SessionStore) -> None:
        """Few exchanges are not enough while there are few bytes."""
        await add(store, *(f"{i}" for i in range(10)))
        assert said(await view(store, exchanges=1, limit_bytes=1 << 40)) == [f"{i}" for i in range(10)]
        assert said(await view(store, exchanges=10, limit_bytes=0)) == [f"{i}" for i in range(10)]

    async def test_results_and_deliveries_are_no_exchange(self, store: SessionStore) -> None:
        """A tool's result is no user line to begin at, and a delivered text not one to count."""
        result = Message("user", [{"type": "tool_result", "tool_use_id": "t", "content": "1"}], NOW)
        await add(store, "a", "b", result, Message("user", "reminder", NOW, delivered=True))
        assert said(await view(store, exchanges=1, limit_bytes=0))[0] == "b"

    async def test_the_view_of_an_earlier_end(self, store: SessionStore) -> None:
        """`upto` shows what was live then."""
        first = await add(store, "a")
        await add(store, Reset(), "b", known=first.end)
        found = await store.read(KEY, exchanges=10, limit_bytes=1 << 40, upto=first.end)
        assert found is not None
        assert said(found) == ["a"]
        assert found.end == first.end

    async def test_long_values(self, store: SessionStore) -> None:
        """System text and pins are read back however long ago they were set; a reset takes the pins only."""
        first = await add(store, SetValue("system", "be brief"), SetValue("pin", "p1"), "a", SetValue("pin", "p2"))
        second = await add(store, *("x" * 1000 for _ in range(100)), TurnEnd("s", "done"), known=first.end)
        found = await view(store, exchanges=1, limit_bytes=0)
        assert (found.system, found.pins) == ("be brief", ("p1", "p2"))
        assert len(found.state.pins) == 2
        third = await add(store, SetValue("unpin", "1"), known=second.end)
        assert (await view(store)).pins == ("p2",)
        await add(store, Reset(), known=third.end)
        found = await view(store)
        assert (found.system, found.pins) == ("be brief", ())

    @pytest.mark.parametrize(
        "content", [float("nan"), b"bytes", "x" * 9_000_000], ids=["not a number", "bytes", "too long"]
    )
    async def test_what_cannot_be_a_line(self, store: SessionStore, content: object) -> None:
        """It is refused whole, together with the drafts beside it, and leaves no trace."""
        first = await add(store, "a")
        bad = Message("user", [{"type": "text", "text": content}], NOW)  # type: ignore[dict-item]  # the point of the test
        with pytest.raises(NotWritten):
            await add(store, "b", bad, known=first.end)
        assert (await view(store)).end == first.end

    async def test_a_clock_that_goes_back(self, store: SessionStore) -> None:
        """The order is the file's, and the time of the last change never decreases."""
        first = await add(store, "a", TurnEnd("s", "done"))
        second = await add(store, "b", TurnEnd("s", "done"), known=first.end, now=NOW - timedelta(hours=1))
        assert second.state.updated_at == first.state.updated_at
        assert said(await view(store)) == ["a", "b"]

    async def test_the_list(self, store: SessionStore) -> None:
        """Each session once, with the newest line's beginning."""
        await add(store, "a", say("first line\nsecond", "assistant"), TurnEnd("s", "done"))
        other = SessionKey("cli", "Übung/1")
        await store.append(other, [say("b"), TurnEnd("s", "done")], known=0, durable=False, now=NOW)
        briefs = {brief.key: brief for brief in await store.list()}
        assert {key: brief.preview for key, brief in briefs.items()} == {KEY: "first line", other: "b"}
        assert briefs[KEY].state == (await view(store)).state

    async def test_a_lease_excludes(self, store: SessionStore) -> None:
        """Nobody gets a lease that is held, and everybody once it is given back; other sessions are free."""
        async with store.lease(KEY):
            with pytest.raises(LeaseHeld) as caught:
                async with store.lease(KEY, patience_s=0.01):
                    pass
            assert caught.value.holder
            async with store.lease(SessionKey("cli", "other"), patience_s=0):
                pass
        async with store.lease(KEY, patience_s=0):
            pass

    async def test_leases_are_given_in_order(self, store: SessionStore) -> None:
        """Who came first goes first."""
        order: list[int] = []

        async def turn(i: int) -> None:
            async with store.lease(KEY):
                order.append(i)

        async with asyncio.TaskGroup() as tasks, store.lease(KEY):
            for i in range(5):
                tasks.create_task(turn(i))
                await asyncio.sleep(0)
        assert order == list(range(5))

    async def test_waiting_for_a_lease_can_be_cancelled(self, store: SessionStore) -> None:
        """The one who gave up leaves no trace in the queue."""
        async with store.lease(KEY):
            waiting = asyncio.create_task(_take(store))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with store.lease(KEY, patience_s=1):
            pass

    async def test_blobs(self, store: SessionStore) -> None:
        """The same content has the same name, and is given back; an unknown name gives nothing."""
        name = await store.put_blob(b"\x00picture")
        assert await store.put_blob(b"\x00picture") == name
        assert await store.get_blob(name) == b"\x00picture"
        assert await store.get_blob("0" * 64) is None

    async def test_appends_of_many_callers(self, store: SessionStore) -> None:
        """Every line is there once, each caller's in its order."""

        async def write(name: str) -> None:
            for i in range(10):
                await add(store, f"{name}{i}", durable=i % 3 == 0)

        async with asyncio.TaskGroup() as tasks:
            for name in "abcd":
                tasks.create_task(write(name))
        lines = said(await view(store))
        assert len(lines) == 40
        for name in "abcd":
            assert [line for line in lines if line[0] == name] == [f"{name}{i}" for i in range(10)]


async def _take(store: SessionStore) -> None:
    async with store.lease(KEY):
        pass
