"""A session file as another program sees it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["RawFile"]


@dataclass(frozen=True)
class RawFile:
    """The bytes at `path`, and those in the file of fragments beside it."""

    path: Path

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    @property
    def torn(self) -> bytes:
        """The fragments kept aside, or nothing."""
        torn = self.path.with_suffix(".torn")
        return torn.read_bytes() if torn.exists() else b""

    @property
    def status(self) -> os.stat_result:
        return self.path.stat(follow_symlinks=False)

    def lines(self) -> list[dict[str, Any]]:  # Any: whatever JSON is in it
        """Every line that is not blank, decoded."""
        return [json.loads(line) for line in self.data.splitlines() if line.strip()]

    def write(self, data: bytes) -> None:
        """Make the file hold just this, in place."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(data)

    def add(self, data: bytes) -> None:
        """Append like a program that knows nothing of locks."""
        with self.path.open("ab") as file:
            file.write(data)

    def replace(self, old: bytes, new: bytes) -> None:
        """Edit in place, as by hand."""
        data = self.data
        assert old in data
        self.write(data.replace(old, new))

    def remove(self) -> None:
        """The file and its fragments."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".torn").unlink(missing_ok=True)
