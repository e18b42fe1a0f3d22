"""A daemon's HTTP, opened and closed around a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.premises import Premises

Open = Callable[..., Awaitable[Premises]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens premises on one data directory, one after the other, and closes them."""
    made: list[Premises] = []

    async def build(**settings: Any) -> Premises:  # Any: handed through as they are
        made.append(Premises(tmp_path, **settings))
        await made[-1].open()
        return made[-1]

    yield build
    for each in made:
        await each.close()


@pytest.fixture
async def premises(opened: Open) -> Premises:
    """One that is open."""
    return await opened()


@pytest.fixture
async def client(premises: Premises) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who has its token."""
    async with premises.client() as client:
        yield client
