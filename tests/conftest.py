"""Fixtures that more than one room's tests use."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.house import House

Build = Callable[..., House]


def pytest_configure() -> None:
    """Have signals mean what they mean at a terminal.

    A shell that starts us in the background leaves SIGINT ignored, nohup SIGHUP; and what is ignored stays so in all that
    we start.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    """Builds houses over one data directory and closes them."""
    houses: list[House] = []

    def make(*script: Any, **settings: Any) -> House:  # Any: handed through to House as it is
        houses.append(House(tmp_path, script, **settings))
        return houses[-1]

    yield make
    for house in houses:
        await house.close()
