"""When to try again, without waiting for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.errors import ModelError
from nanochat.model.retry import Patience, falls_back, in_short, with_retries
from tests.model.scenes import Ear, Time

_KINDS = [
    "key", "money", "permission", "not_found", "too_large", "bad_request", "rate", "overloaded", "server", "network",
    "timeout", "cut", "protocol",
]  # fmt: skip


def _error(kind: str = "server", *, partial: str = "", asked_s: float | None = None) -> ModelError:
    retryable = kind in ("rate", "overloaded", "server", "network", "timeout", "cut")
    return ModelError("no", kind=kind, retryable=retryable, partial=partial, retry_after_s=asked_s)


async def _run(time: Time, ear: Ear, *errors: ModelError, patience: Patience = Patience(), takes_s: float = 0) -> str:  # noqa: B008
    left = list(errors)

    async def attempt() -> str:
        time.now_s += takes_s
        if left:
            raise left.pop(0)
        return "answer"

    return await with_retries(
        attempt, patience=patience, waits=time.waits(), began_s=time.now_s, on_notice=ear.notices.append
    )


async def test_waits_double() -> None:
    """Each wait is twice the one before."""
    time = Time()
    assert await _run(time, Ear(), *[_error()] * 3) == "answer"
    assert time.slept_s == [0.5, 1.0, 2.0]


async def test_chance_shortens_a_wait_by_half_at_most() -> None:
    """So that many who failed together do not come back together."""
    time = Time(luck=0.0)
    await _run(time, Ear(), *[_error()] * 3)
    assert time.slept_s == [0.25, 0.5, 1.0]


async def test_a_crowded_server_is_left_alone_longer() -> None:
    """Overload needs more than a moment."""
    time = Time()
    await _run(time, Ear(), *[_error("overloaded")] * 3)
    assert time.slept_s == [2.0, 4.0, 8.0]


async def test_the_number_of_attempts_is_bounded() -> None:
    """Three retries, then the last error as it is."""
    time = Time()
    last = _error("network")
    with pytest.raises(ModelError) as caught:
        await _run(time, Ear(), _error(), _error(), _error(), last)
    assert caught.value is last
    assert len(time.slept_s) == 3


async def test_the_server_says_how_long() -> None:
    """`retry-after` is honoured, and told."""
    time, ear = Time(), Ear()
    await _run(time, ear, _error("rate", asked_s=20))
    assert time.slept_s == [20]
    assert ear.notices == ["rate limited; trying again in 20 s"]


async def test_a_server_that_asks_too_much_is_not_waited_for() -> None:
    """A minute is the most; beyond it the person is told at once."""
    time = Time()
    with pytest.raises(ModelError) as caught:
        await _run(time, Ear(), _error("rate", asked_s=61))
    assert (caught.value.retry_after_s, time.slept_s) == (61, [])


async def test_a_limit_without_an_end_is_not_hammered() -> None:
    """A spent allowance says no time, and gets one more try."""
    time = Time()
    with pytest.raises(ModelError):
        await _run(time, Ear(), *[_error("rate")] * 4)
    assert len(time.slept_s) == 1


async def test_short_waits_are_not_told() -> None:
    """Nobody needs to hear about half a second."""
    time, ear = Time(), Ear()
    await _run(time, ear, _error())
    assert (time.slept_s, ear.notices) == ([0.5], [])


async def test_patience_ends() -> None:
    """Attempts and waits together have an end, however slow each attempt is."""
    time = Time()
    with pytest.raises(ModelError):
        await _run(time, Ear(), *[_error("timeout")] * 4, takes_s=90)
    assert time.slept_s == [0.5]


@pytest.mark.parametrize("kind", _KINDS)
async def test_once_text_was_shown_nothing_is_tried_again(kind: str) -> None:
    """A person would read the beginning twice."""
    time = Time()
    with pytest.raises(ModelError):
        await _run(time, Ear(), _error(kind, partial="once upon"))
    assert time.slept_s == []
    assert not falls_back(_error(kind, partial="once upon"))


@pytest.mark.parametrize("kind", ["key", "money", "permission", "not_found", "too_large", "bad_request", "protocol"])
async def test_what_would_fail_again_is_not_tried_again(kind: str) -> None:
    """The answer would be the same."""
    time = Time()
    with pytest.raises(ModelError):
        await _run(time, Ear(), _error(kind))
    assert time.slept_s == []


@pytest.mark.parametrize("kind", _KINDS)
def test_who_falls_back(kind: str) -> None:
    """Another model helps where the model, or its crowd, is the trouble."""
    assert falls_back(_error(kind)) is (kind in ("not_found", "overloaded", "rate", "server"))


@pytest.mark.parametrize("kind", _KINDS)
def test_every_kind_has_short_words(kind: str) -> None:
    """A notice begins with them."""
    assert in_short(_error(kind))


@given(
    tried=st.integers(1, 40),
    chance=st.floats(0, 1, exclude_max=True),
    asked=st.none() | st.floats(0, 60),
    kind=st.sampled_from(["overloaded", "server", "network"]),
)
def test_a_wait_is_never_shorter_than_asked_nor_longer_than_allowed(
    tried: int, chance: float, asked: float | None, kind: str
) -> None:
    """Whatever the luck."""
    patience = Patience(retries=40)
    wait_s = patience.wait_s(_error(kind, asked_s=asked), tried, chance)
    assert wait_s is not None
    assert (asked or 0) <= wait_s <= max(asked or 0, patience.longest_s)
