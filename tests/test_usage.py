"""Points and sums: what turns took, and by whom, when and with what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.doors import TurnPoint
from nanochat.records import Compact, Event, Opened, Reset, Snapshot, State, TurnEnd, Usage, after
from nanochat.usage import Account, By, Period, Sum, curve, point

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
USED = Usage(10, 60, 20, 10, 5)
TURN = TurnEnd("telegram:1:2", "done", "m", usage=USED, cost_usd=0.25, seconds=1.5, origin="telegram:7")
COMPACT = Compact("old news", 0, 0, "small", "budget", 7, Usage(9, 0, 0, 0, 1), 0.125)


def snapshot(event: Event, key: str = "telegram:12", at: datetime = NOW) -> Snapshot:
    return Snapshot(State(key, NOW, at), event)


def taken(**changed: object) -> TurnPoint:
    """A turn's point, with other values."""
    return replace(TurnPoint(NOW, "turn", "m", "owner", USED, 0.25, 1.5), **changed)  # type: ignore[arg-type]


# --- points ----------------------------------------------------------------------------------------------------------


def test_the_curve() -> None:
    """Turns and summaries in their order; other records, and what took nothing, are no points."""
    restated = replace(COMPACT, usage=Usage(), cost_usd=None)
    events = (Opened(), TURN, COMPACT, Reset("new"), restated, replace(TURN, usage=Usage(), cost_usd=0.0))
    assert curve(snapshot(event) for event in events) == (
        TurnPoint(NOW, "turn", "m", "telegram:7", USED, 0.25, 1.5),
        TurnPoint(NOW, "compact", "small", "summary", Usage(9, 0, 0, 0, 1), 0.125),
        TurnPoint(NOW, "turn", "m", "telegram:7", Usage(), 0.0, 1.5),
    )


def test_the_newest_points() -> None:
    """No more than are asked for, and those are the last."""
    ends = [snapshot(replace(TURN, model=str(n))) for n in range(5)]
    assert [one.model for one in curve(ends, 2)] == ["3", "4"]
    assert curve(ends, 0) == ()


@pytest.mark.parametrize(
    ("key", "source_id", "origin", "expected"),
    [
        pytest.param(
            "cron:morning", "cron:morning:2026-11-20T07:00:00Z", "owner", "cron:morning", id="a job of the owner's"
        ),
        pytest.param("cron:a", "cron:a:2026-11-20T07:00:00Z", "cron:a", "cron:a", id="a job"),
        pytest.param("cron:a", "cron:ab:2026-11-20T07:00:00Z", "owner", "owner", id="a name that begins alike"),
        pytest.param("cron:morning", "cli:uuid", "owner", "owner", id="a person in a job's session"),
        pytest.param("telegram:7", "telegram:7:1", "owner", "owner", id="a person"),
        pytest.param("cli:x", "cli:uuid", "", "", id="not recorded"),
    ],
)
def test_who_caused_it(key: str, source_id: str, origin: str, expected: str) -> None:
    """What the record says; a fire is told by its job, whoever made that."""
    one = point(snapshot(replace(TURN, source_id=source_id, origin=origin), key))
    assert one is not None
    assert one.origin == expected


# --- sums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        pytest.param("session", ["cli:b", "cli:a"], id="session"),
        pytest.param("day", ["2026-11-20", "2026-11-21"], id="day"),
        pytest.param("model", ["m", "small"], id="model"),
        pytest.param("origin", ["owner", "telegram:7", "summary"], id="origin"),
    ],
)
def test_rows(by: By, expected: list[str]) -> None:
    """The dearest first, days in their order; together they are the total."""
    account = Account(by, UTC)
    account.add("cli:a", [taken(), taken(kind="compact", model="small", origin="summary", cost_usd=0.125)])
    account.add("cli:b", [taken(at=NOW + timedelta(days=1), cost_usd=1.0, origin="telegram:7"), taken()])
    account.add("cli:b", [taken(at=NOW, cost_usd=2.0)])
    assert [row.name for row in account.rows()] == expected
    assert account.total() == Sum(4, 1, Usage(50, 300, 100, 50, 25), 3.625, 0)
    assert sum(row.sum.turns for row in account.rows()) == 4


def test_what_was_put_away_has_its_own_row() -> None:
    """Of sessions only: a day is a day."""
    for by, count in (("session", 2), ("day", 1)):
        account = Account("session" if by == "session" else "day", UTC)
        account.add("cli:a", [taken()])
        account.add("cli:a", [taken()], is_archived=True)
        account.add("cli:a", [taken()], is_archived=True)
        assert len(account.rows()) == count
        assert {row.is_archived for row in account.rows()} == ({False, True} if count == 2 else {False})


def test_a_price_that_is_not_known() -> None:
    """It is counted and not guessed; where nothing is known, neither is the sum."""
    account = Account("model", UTC)
    account.add("cli:a", [taken(cost_usd=None), taken(), taken(model="x", cost_usd=None)])
    assert [(row.name, row.sum.cost_usd, row.sum.unpriced) for row in account.rows()] == [
        ("m", 0.25, 1),
        ("x", None, 1),
    ]
    assert (account.total().cost_usd, account.total().unpriced) == (0.25, 2)


def test_what_took_nothing_needs_no_price() -> None:
    """A turn without a request is free."""
    account = Account("model", UTC)
    account.add("cli:a", [taken(usage=Usage(), cost_usd=None)])
    assert account.total() == Sum(1, 0, Usage(), 0.0, 0)


def test_an_empty_account() -> None:
    """It has no rows, and costs nothing."""
    account = Account("day", UTC)
    account.add("cli:a", [])
    assert (account.rows(), account.total()) == ((), Sum(0, 0, Usage(), 0.0, 0))


def test_shares() -> None:
    """Of what was read, how much the cache gave; and both kinds of writes are writes."""
    took = Sum(1, 0, USED, 0.25, 0)
    assert (took.cache_share, took.cache_write) == (0.6, 30)
    assert Sum(1, 0, Usage(output=3), 0.25, 0).cache_share is None


# Clocks go back at 03:00 on the 25th: that day has 25 hours.
PRAGUE = ZoneInfo("Europe/Prague")


@pytest.mark.parametrize(
    ("at", "day"),
    [
        pytest.param("2026-10-24T21:59:59+00:00", "2026-10-24", id="the last second before"),
        pytest.param("2026-10-24T22:00:00+00:00", "2026-10-25", id="midnight"),
        pytest.param("2026-10-25T22:59:59+00:00", "2026-10-25", id="the 25th hour"),
        pytest.param("2026-10-25T23:00:00+00:00", "2026-10-26", id="the next midnight"),
    ],
)
def test_days_are_the_zones(at: str, day: str) -> None:
    """A day's row holds what lies between its midnights, and a period of that day just that."""
    one = taken(at=datetime.fromisoformat(at))
    account = Account("day", PRAGUE)
    account.add("cli:a", [one])
    assert [row.name for row in account.rows()] == [day]
    for wanted in ("2026-10-24", "2026-10-25", "2026-10-26"):
        narrow = Account("day", PRAGUE, Period(date.fromisoformat(wanted), date.fromisoformat(wanted)))
        narrow.add("cli:a", [one])
        assert bool(narrow.rows()) is (wanted == day)


@pytest.mark.parametrize("period", [Period(), Period(since=date.min), Period(until=date.max)], ids=str)
def test_a_period_without_ends(period: Period) -> None:
    """Everything counts."""
    account = Account("day", UTC, period)
    account.add("cli:a", [taken()])
    assert account.total().turns == 1


COUNTS = st.integers(0, 10**6)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
MONEY = st.none() | st.integers(0, 10**8).map(lambda n: n / 10**8)
EVENTS = st.one_of(
    st.builds(TurnEnd, st.just("s"), st.just("done"), st.sampled_from("mn"), usage=USAGES, cost_usd=MONEY),
    st.builds(Compact, st.just(""), COUNTS, COUNTS, st.just("small"), st.just(""), usage=USAGES, cost_usd=MONEY),
)


@given(st.lists(EVENTS, max_size=8), st.sampled_from(("session", "day", "model", "origin")))
def test_the_total_is_the_sessions_own(events: list[TurnEnd | Compact], by: By) -> None:
    """An account of all records of a session says what its last snapshot does."""
    state, ends = State("cli:a", NOW, NOW), []
    for n, event in enumerate(events):
        state = after(state, event, 0, NOW + timedelta(hours=7 * n))
        ends.append(Snapshot(state, event))
    account = Account(by, PRAGUE)
    account.add("cli:a", curve(ends))
    total, own = account.total(), state.totals
    assert (total.turns, total.usage) == (own.turns, own.usage)
    assert (total.cost_usd or 0.0) == pytest.approx(own.cost_usd)
