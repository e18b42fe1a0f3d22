"""Schedules against an oracle that looks at every minute, and what is decided about fires that were missed."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from nanochat.errors import JobError
from nanochat.jobs import Job, at_words, body_of, decide, describe, make, next_fires, parse_body, schedule_of, source_id

# A failing example is told as it is: each walks through thousands of minutes, and making it smaller takes minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Africa/Cairo",
    "Asia/Beirut",
    "Pacific/Chatham",
    "Africa/Casablanca",
    "Asia/Kolkata",
    "UTC",
)


def job(cron: str = "", zone: str = "Europe/Berlin", *, every: str = "", at: str = "", **fields: Any) -> Job:
    # Any: a Job's own fields
    now = fields.pop("now", None)
    recipients = fields.pop("recipients", ())
    draft = Job(**{"id": "j", "kind": "text", "zone": zone, "cron": cron, "text": "hi", **fields})
    return make(draft, every=every, at=at, recipients=recipients, now=now)


# --- the oracle --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """A field as it is written, and the values that it stands for."""

    text: str
    values: frozenset[int]


def plain(low: int, high: int) -> st.SearchStrategy[Field]:
    every = frozenset(range(low, high + 1))
    value = st.integers(low, high)
    return st.one_of(
        st.just(Field("*", every)),
        st.builds(lambda step: Field(f"*/{step}", frozenset(range(low, high + 1, step))), st.integers(1, high)),
        st.builds(lambda one: Field(str(one), frozenset((one,))), value),
        st.builds(lambda a, b: Field(f"{a},{b}", frozenset((a, b))), value, value),
        st.builds(
            lambda a, b: Field(f"{min(a, b)}-{max(a, b)}", frozenset(range(min(a, b), max(a, b) + 1))), value, value
        ),
    )


NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@st.composite
def around_the_week(draw: st.DrawFn) -> Field:
    begin, length = draw(st.integers(0, 6)), draw(st.integers(1, 6))
    days = [(begin + step) % 7 for step in range(length)]
    return Field(f"{NAMES[days[0]]}-{NAMES[days[-1]]}", frozenset(days))


@dataclass(frozen=True)
class Expression:
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    def __str__(self) -> str:
        return " ".join(f.text for f in (self.minute, self.hour, self.day, self.month, self.weekday))

    def names(self, local: datetime) -> bool:
        """Whether this local minute is one that the fields name."""
        last = calendar.monthrange(local.year, local.month)[1]
        on_day = local.day in self.day.values or (self.day.text == "L" and local.day == last)
        weekday = local.isoweekday() % 7
        on_weekday = weekday in self.weekday.values
        if "#" in self.weekday.text:
            name, nth = self.weekday.text.split("#")
            on_weekday = weekday == NAMES.index(name) and (local.day - 1) // 7 + 1 == int(nth)
        elif self.weekday.text.endswith("L"):
            on_weekday = weekday == NAMES.index(self.weekday.text[:-1]) and local.day + 7 > last
        both = self.day.text.startswith("*") or self.weekday.text.startswith("*")
        on_date = (on_day and on_weekday) if both else (on_day or on_weekday)
        is_time = local.minute in self.minute.values and local.hour in self.hour.values
        return is_time and on_date and local.month in self.month.values

    def fires(self, zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[datetime]:
        """By walking through every minute of the real time, with what the wall shows before and after."""
        by_the_wall = self.minute.text.startswith("*") or self.hour.text.startswith("*")
        moment = begin
        shown = (moment - timedelta(minutes=1)).astimezone(zone).replace(tzinfo=None)
        furthest = shown
        while moment < end:
            local = moment.astimezone(zone).replace(tzinfo=None)
            if by_the_wall:
                is_due = self.names(local)
            else:  # what the wall has passed over comes now, and what it shows again does not
                passed = local - furthest
                is_due = any(
                    self.names(local - timedelta(minutes=back))
                    for back in range(max(0, passed // timedelta(minutes=1)))
                )
            if is_due:
                yield moment
            furthest = max(furthest, local)
            moment += timedelta(minutes=1)


def comes(expression: Expression) -> bool:
    """Whether some month has a day that is named; the oracle would walk for ever for one that never comes."""
    longest = max(
        31 if month in (1, 3, 5, 7, 8, 10, 12) else 29 if month == 2 else 30 for month in expression.month.values
    )
    # A day that is counted from a star has to be the named weekday as well, which the first of a month never is the third of.
    both = "/" in expression.day.text and not expression.weekday.values
    return min(expression.day.values, default=1) <= longest and not both


EXPRESSIONS = st.builds(
    Expression,
    plain(0, 59),
    plain(0, 23),
    st.one_of(plain(1, 31), st.just(Field("L", frozenset()))),
    plain(1, 12),
    st.one_of(
        st.just(Field("*", frozenset(range(7)))),
        around_the_week(),
        st.builds(lambda day, nth: Field(f"{NAMES[day]}#{nth}", frozenset()), st.integers(0, 6), st.integers(1, 4)),
        st.builds(lambda day: Field(f"{NAMES[day]}L", frozenset()), st.integers(0, 6)),
    ),
).filter(comes)


def changes(name: str) -> list[datetime]:
    """The hours of 2025 to 2030 in which a zone's offset changes."""
    zone, moment, found = ZoneInfo(name), datetime(2025, 1, 1, tzinfo=UTC), []
    while moment.year < 2031:
        later = moment + timedelta(days=1)
        if moment.astimezone(zone).utcoffset() != later.astimezone(zone).utcoffset():
            found.append(next(
                hour for step in range(24)
                if (hour := moment + timedelta(hours=step)).astimezone(zone).utcoffset()
                != (hour + timedelta(hours=1)).astimezone(zone).utcoffset()
            ))  # fmt: skip
        moment = later
    return found


CHANGES = [(name, change) for name in ZONES for change in changes(name)]


@settings(max_examples=80, phases=PHASES, deadline=None)
@given(EXPRESSIONS, st.sampled_from(CHANGES), st.integers(0, 36))
def test_fires_around_a_change_of_the_clock(
    expression: Expression, change: tuple[str, datetime], before_h: int
) -> None:
    """Forward, backward and counted, a schedule is what an eye on the wall clock sees, minute by minute."""
    name, moment = change
    zone = ZoneInfo(name)
    begin = moment - timedelta(hours=before_h)
    end = begin + timedelta(hours=48)
    seen = list(expression.fires(zone, begin - timedelta(hours=6), end))
    expected = [fire for fire in seen if begin < fire]
    schedule = schedule_of(job(str(expression), name))
    forward, at = [], begin
    while (fire := schedule.after(at)) is not None and fire < end:
        forward.append(fire)
        at = fire
    assert forward == expected
    assert schedule.count(begin, end - timedelta(seconds=1)) == len(expected)
    backward, at = [], end - timedelta(seconds=1)
    while (fire := schedule.last(at)) is not None and fire > begin:
        backward.append(fire)
        at = fire - timedelta(microseconds=1)
    assert backward[::-1] == expected


@settings(max_examples=40, phases=PHASES, deadline=None)
@given(EXPRESSIONS, st.sampled_from(ZONES), st.datetimes(datetime(2025, 1, 1), datetime(2030, 6, 1)))
def test_fires_on_any_day(expression: Expression, name: str, start: datetime) -> None:
    """The next fire is the first minute that the fields name, or none within the days that were looked at."""
    zone, begin = ZoneInfo(name), start.replace(second=0, microsecond=0, tzinfo=UTC)
    end = begin + timedelta(days=4)
    seen = [fire for fire in expression.fires(zone, begin - timedelta(hours=6), end) if fire > begin]
    found = [fire for fire in next_fires(job(str(expression), name), begin, len(seen) + 1) if fire < end]
    assert found == seen


@pytest.mark.parametrize(
    ("cron", "after", "fires"),
    [
        pytest.param("30 2 * * *", "2026-03-28T12:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"], id="gap"),
        pytest.param("30 2 * * *", "2026-10-24T12:00", ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"], id="fold"),
        pytest.param("@daily", "2026-11-20T12:00", ["2026-11-21T00:00:00+01:00", "2026-11-22T00:00:00+01:00"], id="daily"),
        pytest.param("0 8 * * fri-mon", "2026-11-22T12:00", ["2026-11-23T08:00:00+01:00"], id="fri-mon"),
        pytest.param("0 8 13 * fri", "2026-11-20T12:00", ["2026-11-27T08:00:00+01:00", "2026-12-04T08:00:00+01:00"], id="or"),
        pytest.param("0 0 29 2 *", "2026-11-20T12:00", ["2028-02-29T00:00:00+01:00", "2032-02-29T00:00:00+01:00"], id="leap"),
        pytest.param("0 8 * nov-jan/2 *", "2026-12-31T12:00", ["2027-01-01T08:00:00+01:00"], id="year"),
    ],
)  # fmt: skip
def test_fires_by_hand(cron: str, after: str, fires: list[str]) -> None:
    """What a person would read off a calendar."""
    begin = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = next_fires(job(cron), begin, len(fires))
    assert [fire.astimezone(ZoneInfo("Europe/Berlin")).isoformat() for fire in found] == fires


def test_a_distance_never_moves() -> None:
    """It is counted from the making of a job, or from a fixed moment, never from a start of the daemon."""
    made = job(every="2h", created_at=NOW)
    assert next_fires(made, NOW, 2) == [NOW + timedelta(hours=2), NOW + timedelta(hours=4)]
    assert next_fires(made, NOW + timedelta(hours=3), 1) == [NOW + timedelta(hours=4)]
    assert next_fires(job(every="1d", zone="UTC"), NOW, 1) == [datetime(2026, 11, 21, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("at", "moment"),
    [
        ("2026-12-24T18:00", datetime(2026, 12, 24, 17, tzinfo=UTC)),
        ("2026-12-24T18:00+05:00", datetime(2026, 12, 24, 13, tzinfo=UTC)),
        ("2027-03-28T02:30", datetime(2027, 3, 28, 1, tzinfo=UTC)),
        ("2027-10-31T02:30", datetime(2027, 10, 31, 0, 30, tzinfo=UTC)),
    ],
    ids=["local", "offset", "gap", "fold"],
)
def test_a_moment(at: str, moment: datetime) -> None:
    """Local without an offset; what is not there comes when the gap ends, and what is there twice the first time."""
    assert next_fires(job(at=at, now=NOW), NOW) == [moment]


@pytest.mark.parametrize(
    ("fields", "key", "words"),
    [
        ({"cron": "0 0 31 2 *"}, "cron", "never comes"),
        ({"cron": "0 0 30 2 */2"}, "cron", "never comes"),
        ({"cron": "61 8 * * *"}, "cron", "'61' in '61 8 * * *' is no minute: it takes 0-59"),
        ({"cron": "0 8 * *"}, "cron", "has 4 fields, it takes five, as in '0 8 * * mon-fri'"),
        ({"cron": "* * * * * *"}, "cron", "has 6 fields"),
        ({"cron": "@reboot"}, "cron", "@daily"),
        ({"cron": "0 8 * * someday"}, "cron", "no day of the week"),
        ({"every": "0m"}, "every", "as in 90s, 15m, 2h or 1d"),
        ({"every": "999999999d"}, "every", "century"),
        ({"at": "tomorrow"}, "at", "as in 2026-12-24T18:00"),
        ({"at": "2026-11-20T12:59", "now": NOW}, "at", "has passed: it is 2026-11-20T13:00:00 in Europe/Berlin"),
        ({"cron": "@daily", "zone": "Mars/Base"}, "timezone", "'Europe/Berlin'"),
        ({"cron": "@daily", "zone": "../etc/passwd"}, "timezone", "'Europe/Berlin'"),
        ({"cron": "@daily", "every": "2h"}, "cron", "exactly one of cron, every and at"),
        ({}, "cron", "exactly one of cron, every and at"),
        ({"cron": "@daily", "text": " "}, "text", "missing"),
        ({"cron": "@daily", "kind": "prompt", "text": ""}, "prompt", "missing"),
        ({"cron": "@daily", "kind": "summary"}, "sources", "telegram:*"),
        ({"cron": "@daily", "kind": "summary", "sources": ("telegram",)}, "sources", "telegram:*"),
        ({"cron": "@daily", "kind": "summary", "sources": ("cron:a",)}, "sources", "a job does not read jobs"),
        ({"cron": "@daily", "recipients": ["olga"]}, "deliver_to", "did you mean cli:olga?"),
        ({"cron": "@daily", "recipients": ["cron:j"]}, "deliver_to", "nobody reads it there"),
        ({"cron": "@daily", "missed": "later"}, "missed", "within:30m"),
        ({"cron": "@daily", "missed": "within:0s"}, "missed", "no distance"),
        ({"cron": "@daily", "id": " j"}, "id", "without spaces around it"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_kept_is_refused(fields: dict[str, Any], key: str, words: str) -> None:
    """One line that names the job, the key, the reason and what would do."""
    with pytest.raises(JobError) as refused:
        job(**fields)
    assert refused.value.key == key
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"job {refused.value.job_id!r}: {key}")
    assert "\n" not in str(refused.value)


# --- what was missed -----------------------------------------------------------------------------------------------------


@settings(max_examples=100, phases=PHASES, deadline=None)
@given(
    st.sampled_from(("* * * * *", "*/7 * * * *", "30 2 * * *", "0 8 * * mon-fri", "15,45 */3 * * *")),
    st.sampled_from(("once", "skip", "within:30m", "within:1d")),
    st.integers(0, 5 * 86400),
    st.sampled_from(("Europe/Berlin", "America/Havana", "UTC")),
)
def test_every_fire_of_a_while_is_decided_once(cron: str, missed: str, away_s: int, zone: str) -> None:
    """One is run at most, it is the last, and the others are counted as what they are."""
    given_job = job(cron, zone, missed=missed)
    until = datetime(2026, 10, 23, 21, 13, 7, tzinfo=UTC)
    now = until + timedelta(seconds=away_s)
    due = [fire for fire in next_fires(given_job, until, away_s // 60 + 2) if fire <= now]
    decision = decide(given_job, until, now)
    assert int(decision.fire is not None) + decision.missed + decision.skipped == len(due)
    assert decision.until == (due[-1] if due else until)
    assert decision.fire in (None, *due[-1:])
    if due:
        late = now - due[-1]
        limits = {"once": timedelta.max, "skip": timedelta(seconds=60), "within:30m": timedelta(minutes=30)}
        assert (decision.fire is not None) == (late <= limits.get(missed, timedelta(days=1)))
    others = [fire for fire in due if fire != decision.fire]
    assert list(decision.named) == others[-20:]
    assert decision.first == (others[0] if others else None)
    assert decision.unnamed_last == (others[-21] if len(others) > 20 else None)


def test_a_decade_of_minutes_is_decided_at_once() -> None:
    """Nothing is counted up minute by minute: it takes some thousand steps, one a day."""
    decision = decide(job("* * * * *", "UTC"), NOW - timedelta(days=3650), NOW)
    assert (decision.fire, decision.missed) == (NOW, 3650 * 1440 - 1)


# --- words ---------------------------------------------------------------------------------------------------------------


def test_a_job_is_read_back() -> None:
    """When, what and for whom, in one line."""
    morning = job(
        "0 8 * * mon-fri", kind="summary", sources=("telegram:*", "cli:*"), text="", recipients=["telegram:77"]
    )
    assert describe(morning) == (
        "at 08:00 on Monday through Friday (Europe/Berlin): a summary of telegram:* and cli:*, to telegram:77"
    )
    assert describe(job(every="2h")) == "every 2 hours: the text “hi”, only recorded"
    assert describe(job(at="2026-12-24T18:00", kind="prompt", text="what is new?")) == (
        "once, on Thu 2026-12-24 18:00 +0100: the assistant is asked “what is new?”, only recorded"
    )
    assert at_words(NOW + timedelta(seconds=5), "Europe/Berlin") == "Fri 2026-11-20 13:00:05 +0100"


def test_a_fire_has_one_name() -> None:
    """The same for the same moment, in whatever zone; and its body tells it again."""
    berlin = NOW.astimezone(ZoneInfo("Europe/Berlin"))
    assert source_id("a:b", berlin) == "cron:a:b:2026-11-20T12:00:00Z"
    assert parse_body(body_of("ä", berlin)) == ("ä", NOW)
    for body in ("", "[]", "{}", '{"job": "a", "fire": 7}', '{"job": "a", "fire": "x"}'):
        with pytest.raises(JobError):
            parse_body(body)
