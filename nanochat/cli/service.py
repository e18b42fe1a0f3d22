"""`nanochat service`: the daemon as a systemd unit, of a user or of the machine.

Knows where units lie and what systemctl is told. Does not know what the daemon does.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanochat.config import Config, find_config
from nanochat.errors import SettingError

__all__ = ["Place", "install", "status", "uninstall", "unit"]

_NAME = "nanochat.service"

# What both kinds have. `Type=notify` and not `notify-reload`, which needs systemd 253; ExecReload does the same. A wrong setting
# (exit code 2) does not mend itself by being tried again.
_UNIT = """\
[Unit]
Description=nanochat, a personal assistant
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
WatchdogSec=60
TimeoutStopSec={stop_s}
KillMode=mixed
Restart=always
RestartSec=5
RestartPreventExitStatus=2
# Secrets and settings, one NAME=value per line: ANTHROPIC_API_KEY, TELEGRAM_BOT_TOKEN, NANOCHAT_TELEGRAM__ENABLED.
EnvironmentFile=-{environment}
UMask=0077
NoNewPrivileges=yes
{own}
[Install]
WantedBy={target}
"""

# Credentials are taken from /etc/credstore where they are there: systemd.exec(5).
_SYSTEM = """\
DynamicUser=yes
StateDirectory=nanochat
StateDirectoryMode=0700
LoadCredential=anthropic_api_key
LoadCredential=telegram_bot_token
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
"""

# Running turns have `limits.grace_s`; what is left after it is closing files.
_AFTER_GRACE_S = 15


@dataclass(frozen=True, slots=True)
class Place:
    """Where a unit belongs."""

    path: Path
    systemctl: tuple[str, ...]
    is_system: bool

    @classmethod
    def of(cls, *, system: bool) -> Place:
        """The machine's, or that of the user who asks."""
        if system:
            return cls(Path("/etc/systemd/system") / _NAME, ("systemctl",), True)
        home = Path(os.environ.get("XDG_CONFIG_HOME", "") or Path.home() / ".config")
        return cls(home / "systemd" / "user" / _NAME, ("systemctl", "--user"), False)


def unit(place: Place, command: Sequence[str], grace_s: float) -> str:
    """The unit's text; `command` starts the daemon."""
    if place.is_system:
        environment, own, target = "/etc/nanochat/environment", _SYSTEM, "multi-user.target"
    else:
        environment, own, target = "%h/.config/nanochat/environment", "", "default.target"
    return _UNIT.format(
        command=" ".join(_quoted(word) for word in command),
        stop_s=round(grace_s) + _AFTER_GRACE_S,
        environment=environment,
        own=own,
        target=target,
    )


def install(place: Place, config: Config, config_path: Path | None, dry_run: bool) -> int:
    """Write the unit and start it. Returns the exit code.

    Raises:
        SettingError: the unit cannot be written.
    """
    command = [sys.executable, "-m", "nanochat", "run"]
    # The file that counts here and now; a service has neither this environment nor, perhaps, this user.
    settings_path = find_config(config_path, os.environ)
    if settings_path is not None:
        command += ["--config", str(settings_path.absolute())]
    command += ["--data-dir", "/var/lib/nanochat" if place.is_system else config.data_dir]
    text = unit(place, command, config.limits.grace_s)
    if dry_run:
        print(f"# {place.path}\n{text}", end="")
    else:
        try:
            place.path.parent.mkdir(parents=True, exist_ok=True)
            place.path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingError(f"{place.path}: {error.strerror}; --system needs root") from error
        print(f"wrote {place.path}")
    code = _tell(place, dry_run, ("daemon-reload",), ("enable", "--now", _NAME))
    if not place.is_system and not code:
        print("to have it run while you are logged out: loginctl enable-linger")
    return code


def status(place: Place, dry_run: bool) -> int:
    """Show what systemd knows of it. Returns the exit code."""
    if not dry_run and not place.path.exists():
        print(f"nanochat: it is not installed: there is no {place.path}", file=sys.stderr)
        return 1
    return _tell(place, dry_run, ("status", "--no-pager", _NAME))


def uninstall(place: Place, dry_run: bool) -> int:
    """Stop it and take the unit away. Returns the exit code."""
    if not dry_run and not place.path.exists():
        print(f"nanochat: it is not installed: there is no {place.path}", file=sys.stderr)
        return 1
    code = _tell(place, dry_run, ("disable", "--now", _NAME))
    if dry_run:
        print(f"rm {place.path}")
    elif not code:
        place.path.unlink(missing_ok=True)
        print(f"removed {place.path}")
    return code or _tell(place, dry_run, ("daemon-reload",))


def _tell(place: Place, dry_run: bool, *commands: tuple[str, ...]) -> int:
    for command in commands:
        words = [*place.systemctl, *command]
        if dry_run:
            print(shlex.join(words))
            continue
        try:
            done = subprocess.run(words, check=False)
        except OSError as error:
            print(f"nanochat: {words[0]}: {error.strerror}; is systemd there?", file=sys.stderr)
            return 1
        if done.returncode:
            return 1
    return 0


def _quoted(word: str) -> str:
    """A word of ExecStart: systemd has its own quotes, and % and $ are signs to it."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if any(sign in word for sign in " \t'\\\"") else word
