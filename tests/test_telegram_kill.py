"""kill -9 of the daemon while people talk over Telegram: each message is answered once, in order, and edited to its end."""

from __future__ import annotations

from pathlib import Path

from tests.soak.telegram import MOMENTS_S, kills_at_moments, kills_under_load


def _quietly(_: str) -> None:
    return


async def test_killed_after_an_update_arrived(tmp_path: Path) -> None:
    """Just accepted, asking the model, at the first message, while it grows; in four chats at a time."""
    outcome = await kills_at_moments(tmp_path, kills=len(MOMENTS_S), seed=1, progress=_quietly)
    assert outcome.findings.faults == []
    assert outcome.findings.answered == outcome.findings.messages == 4 * len(MOMENTS_S)
    assert outcome.edited > 0


async def test_killed_under_load(tmp_path: Path) -> None:
    """At seeded moments, while twenty chats talk; what is repeated is marked, and little."""
    outcome = await kills_under_load(tmp_path, kills=3, seed=2, longest_s=0.8, progress=_quietly)
    assert outcome.findings.faults == []
    assert outcome.findings.answered + outcome.findings.given_up == outcome.findings.messages
    # Each death may catch several of the twenty at the one instant that cannot be closed.
    assert outcome.findings.repeats <= outcome.findings.messages // 4
