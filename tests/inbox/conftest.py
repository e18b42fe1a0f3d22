"""Offices that are opened and closed around a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.fakes.office import Office

Open = Callable[..., Office]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Open]:
    """Builds offices on one data directory; they share the first one's board and clock."""
    made: list[Office] = []

    def build(**settings: object) -> Office:
        if made:
            settings = {"board": made[0].board, "pauses": made[0].pauses, **settings}
        made.append(Office(tmp_path, **settings))  # type: ignore[arg-type]  # handed through as they are
        return made[-1]

    yield build
    for one in made:
        await one.close()
