"""Chats are not hurried, and none waits for another."""

from __future__ import annotations

import asyncio

from nanochat.channels.telegram.pacer import Pacer, Rates


class Time:
    """Goes on only by sleeping."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def pacer(time: Time, **rates: float) -> Pacer:
    return Pacer(Rates(**rates), time, time.sleep)


async def sends(pacer: Pacer, time: Time, chat: int, count: int) -> list[float]:
    """When each of so many slots was given."""
    times = []
    for _ in range(count):
        async with pacer.slot(chat):
            times.append(time.now_s - 1000)
    return times


async def test_private_chats_take_one_a_second() -> None:
    """The first goes at once."""
    time = Time()
    assert await sends(pacer(time), time, 1, 3) == [0, 1, 2]


async def test_groups_take_one_in_three_seconds() -> None:
    """So that twenty a minute are never exceeded."""
    time = Time()
    assert await sends(pacer(time), time, -1, 3) == [0, 3, 6]


async def test_the_distance_begins_when_the_request_ends() -> None:
    """A slow request is not followed at once."""
    time = Time()
    slots = pacer(time)
    async with slots.slot(1):
        time.now_s += 5
    assert await sends(slots, time, 1, 1) == [6]


async def test_a_flood_wait_is_kept_and_slows_down() -> None:
    """The chat rests as long as was asked, and goes slower then; others do not notice."""
    time = Time()
    slots = pacer(time)
    slots.flooded(1, 200)
    assert not slots.is_free(1)
    assert slots.is_free(2)
    assert await sends(slots, time, 2, 1) == [0]
    assert await sends(slots, time, 1, 3) == [200, 201.5, 203]
    time.now_s += 1000
    begun = time.now_s - 1000
    assert [at - begun for at in await sends(slots, time, 1, 2)] == [0, 1]


async def test_all_chats_together_have_a_bucket() -> None:
    """A burst of a second's worth, then at the rate."""
    time = Time()
    slots = pacer(time, per_second=10)
    given = [(await sends(slots, time, chat, 1))[0] for chat in range(1, 31)]
    assert given[10] <= 0.11
    assert 1.8 <= given[-1] <= 2.1


async def test_one_request_at_a_time() -> None:
    """Two for the same chat do not overlap; whoever asked first goes first."""
    slots = Pacer(Rates(0, 0, 1000), asyncio.get_running_loop().time, asyncio.sleep)
    inside: list[str] = []
    done: list[str] = []

    async def send(name: str) -> None:
        async with slots.slot(1):
            inside.append(name)
            assert inside == [name]
            await asyncio.sleep(0)
            inside.remove(name)
            done.append(name)

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(send(name))
    assert done == ["a", "b", "c"]


async def test_old_chats_are_forgotten() -> None:
    """Memory does not grow with everybody who ever wrote."""
    time = Time()
    slots = pacer(time, per_second=1e9)
    for chat in range(1, 5001):
        await sends(slots, time, chat, 1)
        time.now_s += 1
    assert len(slots._lanes) <= 1000
