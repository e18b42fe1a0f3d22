"""`nanochat service`: a unit that systemd accepts, and nothing done that was not asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.cli.service import Place, unit
from tests.cli.conftest import Nanochat

ROOT = Path(__file__).parents[2]


def test_a_dry_run_does_nothing(nanochat: Nanochat, tmp_path: Path) -> None:
    """It shows the unit and what would be told to systemd."""
    ran = nanochat("service", "install", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert f"# {tmp_path}/xdg/systemd/user/nanochat.service" in ran.out
    assert f"ExecStart={sys.executable} -m nanochat run --config {ROOT}/config/nanochat.toml" in ran.out
    assert f" --data-dir {tmp_path}/data\n" in ran.out
    assert "systemctl --user enable --now nanochat.service" in ran.out
    assert not (tmp_path / "xdg").exists()
    assert "systemctl --user disable --now" in nanochat("service", "uninstall", "--dry-run").out


@pytest.mark.parametrize("command", ["status", "uninstall"])
def test_what_is_not_installed(nanochat: Nanochat, command: str) -> None:
    """One line, and 1."""
    ran = nanochat("service", command)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("nanochat: it is not installed: there is no ")


def test_the_settings_file_goes_along(nanochat: Nanochat, tmp_path: Path) -> None:
    """With its absolute path, and quoted as systemd reads it."""
    path = tmp_path / "my 100% own.toml"
    path.write_text("[limits]\ngrace_s = 45\n")
    out = nanochat("--config", str(path), "service", "install", "--dry-run").out
    assert f'--config "{tmp_path}/my 100%% own.toml"' in out
    assert "TimeoutStopSec=60" in out


def test_the_unit_in_the_repository() -> None:
    """It is what `service install --system` writes for a program in /usr/local."""
    text = unit(Place.of(system=True), ["/usr/local/bin/nanochat", "run", "--data-dir", "/var/lib/nanochat"], 20)
    assert (ROOT / "config" / "nanochat.service").read_text(encoding="utf-8") == text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("system", [True, False], ids=["system", "user"])
def test_systemd_accepts_it(tmp_path: Path, system: bool) -> None:
    """Every line of it is understood."""
    path = tmp_path / "nanochat.service"
    path.write_text(unit(Place.of(system=system), ["/bin/true"], 20))
    kind = "--system" if system else "--user"
    checked = subprocess.run(
        ["systemd-analyze", kind, "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert "nanochat.service" not in checked.stderr
