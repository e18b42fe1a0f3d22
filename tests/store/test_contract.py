"""The file store and its fake keep the same promises."""

from __future__ import annotations

import pytest

from nanochat.ports import SessionStore
from tests.contracts.store import StoreContract
from tests.fakes.memory_store import MemoryStore


class TestFileStore(StoreContract):
    """On files; the fixture is the room's own."""


class TestMemoryStore(StoreContract):
    """The fake that other rooms are tested with."""

    @pytest.fixture
    def store(self) -> SessionStore:
        return MemoryStore()
