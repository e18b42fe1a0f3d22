"""kill -9 at any moment of a turn: nothing acknowledged is lost, nothing is done twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.kill import kill_rounds


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_killed_turns_are_continued_once(tmp_path: Path, seed: int) -> None:
    """Ten deaths at seeded moments, then the file holds each message once, answered once, its tool run at most once."""
    outcome = await kill_rounds(tmp_path, kills=10, seed=seed)
    assert outcome.kills == 10
    assert outcome.faults == []
