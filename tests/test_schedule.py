"""Jobs made in conversations: read back in words, kept once, within what the sender may do; and they fire."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from nanochat.errors import ToolError
from nanochat.events import Sender
from nanochat.jobs import Job, make
from nanochat.keys import SessionKey
from nanochat.model.offline import OfflineModel
from nanochat.ports import ToolContext
from tests.fakes.house import OWNER, House
from tests.fakes.office import KEY, Office

CHAT = SessionKey("memory", "1")
GUEST = Sender("memory:bob", "bob", owner=False)
IN_2M: dict[str, Any] = {"in": "2m"}  # Any: it is no name in Python
SETTINGS = make(Job("digest", "text", "Europe/Prague", cron="0 9 * * *", text="hello"), recipients=["memory:1"])


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Its clock shows Friday, 2026-11-20, 13:00 in Prague."""
    made = House(tmp_path, jobs=(SETTINGS,))
    yield made
    await made.close()


async def ask(
    house: House,
    call_id: str = "toolu_1",
    sender: Sender = OWNER,
    key: SessionKey = CHAT,
    **args: Any,  # Any: as a model would write them
) -> str:
    return await house.schedule.run(args, ToolContext(key, sender, call_id, house.clock.now))


async def test_a_job_is_read_back_in_words(house: House) -> None:
    """With its next three fires in local time, and whether anybody will fire it."""
    told = await ask(house, action="create", kind="summary", cron="0 8 * * mon-fri", id="morning")
    assert told.splitlines() == [
        "job morning is made. at 08:00 on Monday through Friday (Europe/Prague): a summary of *:*, to memory:1.",
        "It fires next on Mon 2026-11-23 08:00 +0100, Tue 2026-11-24 08:00 +0100, Wed 2026-11-25 08:00 +0100.",
    ]
    assert house.pokes == 1
    house.has_daemon = False
    told = await ask(house, "toolu_2", action="create", text="tea", **IN_2M)
    assert "It fires on Fri 2026-11-20 13:02 +0100." in told
    assert "No daemon is running" in told


async def test_the_same_call_makes_one_job(house: House) -> None:
    """However often it is carried out; another conversation's call of that name is another."""
    first = await ask(house, action="create", text="tea", every="1h")
    assert await ask(house, action="create", text="tea", every="1h") == first
    await ask(house, key=SessionKey("memory", "2"), action="create", text="tea", every="1h")
    assert len(await house.ledger.jobs.all()) == 2


async def test_jobs_are_listed_and_cancelled(house: House) -> None:
    """Those of the settings too, which can be taken out there only."""
    await ask(house, action="create", id="tea", text="tea", every="1h")
    told = await ask(house, action="list")
    assert [line.partition(":")[0] for line in told.splitlines()] == ["tea", "digest"]
    assert await ask(house, action="cancel", id="tea") == "job tea is cancelled"
    with pytest.raises(ToolError, match="stands in the settings file"):
        await ask(house, action="cancel", id="digest")
    with pytest.raises(ToolError, match="there is no job 'tea'"):
        await ask(house, action="cancel", id="tea")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"text": "x"}, "exactly one of cron, every and at"),
        ({"text": "x", "every": "1h", "cron": "@daily"}, "exactly one of cron, every and at"),
        ({"text": "x", "at": "2026-11-20T12:00", "in": "2m"}, "only one of in and at"),
        ({"text": "x", "at": "2026-11-20T12:00"}, "has passed"),
        ({"text": "x", "in": "soon"}, "90s, 15m, 2h or 1d"),
        ({"text": "x", "cron": "0 0 31 2 *"}, "cron"),
        ({"text": "x", "every": "1h", "timezone": "Mars/Base"}, "timezone: 'Mars/Base'"),
        ({"text": "x", "every": "1h", "deliver_to": ["telegramm:1"]}, "deliver_to: telegramm:1: there is no channel"),
        ({"text": "x", "every": "1h", "deliver_to": ["cron:other"]}, "deliver_to"),
        ({"text": "x", "every": "1h", "id": "digest"}, "id: is taken by a job of the settings file"),
        ({"kind": "summary", "sources": ["cron:other"], "every": "1h"}, "sources"),
        ({"kind": "song", "every": "1h"}, "unknown kind 'song'"),
        ({"kind": "prompt", "every": "1h"}, "prompt: is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_could_never_be_kept_is_refused(
    house: House, args: dict[str, Any], why: str
) -> None:  # Any: as in `ask`
    """In one line that names the key, and nothing is made."""
    with pytest.raises(ToolError, match=why.replace("(", r"\(")) as refused:
        await ask(house, action="create", **args)
    assert "\n" not in str(refused.value)
    assert await house.ledger.jobs.all() == []


async def test_a_guest_stays_at_home(house: House) -> None:
    """Own key, ten jobs, and nobody else's are seen or cancelled."""
    for number in range(10):
        await ask(house, f"toolu_{number}", GUEST, action="create", text=f"tea {number}", every="1h", id=f"tea{number}")
    with pytest.raises(ToolError, match="a guest has no more"):
        await ask(house, "toolu_10", GUEST, action="create", text="tea", every="1h")
    await ask(house, "toolu_11", action="create", text="mine", every="1h", id="mine")
    assert "mine" not in await ask(house, sender=GUEST, action="list")
    with pytest.raises(ToolError, match="there is no job 'mine'"):
        await ask(house, sender=GUEST, action="cancel", id="mine")
    await ask(house, sender=GUEST, action="cancel", id="tea0")
    with pytest.raises(ToolError, match="the owner's"):
        await ask(house, "x", GUEST, action="create", kind="summary", every="1h", deliver_to=["memory:2"])
    with pytest.raises(ToolError, match="the owner's"):
        await ask(house, "x", GUEST, action="create", kind="summary", every="1h", sources=["memory:2"])
    await ask(house, "y", GUEST, action="create", kind="summary", every="1h", id="own")
    own = next(job for job in await house.ledger.jobs.all() if job.id == "own")
    assert (own.sources, own.recipients, own.by_owner) == (("memory:1",), (CHAT,), False)


async def test_a_job_makes_no_jobs(house: House) -> None:
    """Nor does it cancel any."""
    fire = Sender("cron:morning", "morning", owner=True)
    with pytest.raises(ToolError, match="a job cannot make jobs"):
        await ask(house, sender=fire, action="create", text="x", every="1h")
    with pytest.raises(ToolError, match="a job cannot cancel jobs"):
        await ask(house, sender=fire, action="cancel", id="digest")


# --- as a person asks for it -----------------------------------------------------------------------------------------


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Callable[[], Office]]:
    """Builds offices with the demo model on one data directory; they share the first one's board and clock."""
    made: list[Office] = []

    def build() -> Office:
        shared = {"board": made[0].board, "pauses": made[0].pauses} if made else {}
        made.append(Office(tmp_path, jobs=(), model=OfflineModel(), **shared))  # type: ignore[arg-type]  # as they are
        return made[-1]

    yield build
    for one in made:
        await one.close()


async def test_a_channel_is_reminded(office: Callable[[], Office]) -> None:
    """“Remind me in 2 minutes” comes two minutes later, once."""
    one = office()
    await one.open()
    await one.channel.say("remind me in 2 minutes to water the plants")
    await one.worker.rest()
    assert "It fires on Fri 2026-11-20 13:02 +0100." in one.board.texts(KEY)[-1]
    await one.tick(119)
    assert one.board.texts(KEY)[-1] != "water the plants"
    await one.tick(1)
    await one.tick(3600)
    assert one.board.texts(KEY).count("water the plants") == 1


async def test_a_terminal_is_reminded(office: Callable[[], Office]) -> None:
    """The reminder stands in its session, where an open terminal shows it."""
    one = office()
    await one.open()
    await one.house.say("remind me in 2 minutes to water the plants", "cli:default")
    await one.tick(120)
    session = await one.house.manager.get_or_create("cli:default")
    assert [m.content for m in session.messages if m.delivered] == [
        f'<delivered from="cron:{(await one.house.ledger.jobs.all())[0].id}">\nwater the plants\n</delivered>'
    ]


async def test_a_reminder_comes_when_the_daemon_does(office: Callable[[], Office]) -> None:
    """It was down at the time, and says it late rather than never."""
    one = office()
    await one.open()
    await one.channel.say("remind me in 2 minutes to water the plants")
    await one.worker.rest()
    await one.leave()
    one.pauses.clock.now += timedelta(hours=3)
    two = office()
    await two.open()
    await two.alarm.rest()
    await two.worker.rest()
    assert two.board.texts(KEY).count("water the plants") == 1


async def test_a_summary_is_asked_for_in_words(office: Callable[[], Office]) -> None:
    """“Every weekday at 8 send me a summary of my chats here.”"""
    one = office()
    await one.open()
    await one.channel.say("my dentist is Novak")
    await one.worker.rest()
    await one.channel.say("every weekday at 8 send me a summary of my chats here")
    await one.worker.rest()
    assert "at 08:00 on Monday through Friday" in one.board.texts(KEY)[-1]
    [made] = await one.house.ledger.jobs.all()
    assert (made.kind, made.sources, made.recipients) == ("summary", ("*:*",), (KEY,))
    one.pauses.clock.now += timedelta(days=2)  # Sunday
    await one.channel.say("my doctor is Dvorak")
    await one.worker.rest()
    await one.tick(24 * 3600)
    assert "Dvorak" in one.board.texts(KEY)[-1]


async def test_jobs_are_shown_by_their_command(house: House) -> None:
    """`/jobs` tells what the sender may see, with the next fire."""
    await ask(house, action="create", text="tea", every="1h", id="tea")
    words = await house.schedule.in_words(ToolContext(CHAT, OWNER, "", house.clock.now))
    assert words[0].startswith("tea: every hour: the text “tea”, to memory:1; next Fri 2026-11-20 14:00")
