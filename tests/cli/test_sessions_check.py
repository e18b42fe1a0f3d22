"""`nanochat sessions check`, in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def nanochat(data: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nanochat", "--data-dir", str(data), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_sound_files_are_said_to_be_sound(tmp_path: Path) -> None:
    """Exit code 0, and how many were looked at."""
    nanochat(tmp_path, "-m", "hello")
    checked = nanochat(tmp_path, "sessions", "check")
    assert (checked.returncode, checked.stdout) == (0, "")
    assert "1 session checked, all sound" in checked.stderr


def test_a_fault_is_named_by_its_line(tmp_path: Path) -> None:
    """Exit code 1, one row per fault, and the file as it was."""
    nanochat(tmp_path, "-m", "hello")
    path = tmp_path / "sessions" / "cli+default.jsonl"
    before = path.read_bytes() + b"{not json}\n"
    path.write_bytes(before)
    checked = nanochat(tmp_path, "sessions", "check", "cli:default", "--json")
    assert checked.returncode == 1
    row = json.loads(checked.stdout)
    assert (row["key"], row["line"], row["why"]) == ("cli:default", 5, "is not JSON")
    assert path.read_bytes() == before


def test_an_unknown_session_is_named(tmp_path: Path) -> None:
    """One line that says where to look."""
    checked = nanochat(tmp_path, "sessions", "check", "cli:nobody")
    assert checked.returncode == 1
    assert checked.stderr == "nanochat: there is no session cli:nobody; nanochat sessions lists them\n"
