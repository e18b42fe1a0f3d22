"""Secrets, and which of them goes to which endpoint.

Knows the environment and systemd's credentials directory. Does not know settings files: no secret is ever read from one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nanochat.config.sections import Model
from nanochat.errors import SettingError

__all__ = ["Endpoint", "Secrets", "endpoint_of"]


@dataclass(frozen=True, slots=True)
class Secrets:
    """What must never be seen; empty where it is not given. `anthropic_base_url` belongs to `anthropic_key`."""

    anthropic_key: str = field(default="", repr=False)
    anthropic_base_url: str = ""
    telegram_token: str = field(default="", repr=False)
    http_token: str = field(default="", repr=False)
    model_key: str = field(default="", repr=False)

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Secrets:
        """Take each from the environment, else from the systemd credential of the same name in lower case.

        Raises:
            SettingError: for a credential that cannot be read.
        """
        return cls(
            anthropic_key=_secret(environ, "ANTHROPIC_API_KEY"),
            anthropic_base_url=environ.get("ANTHROPIC_BASE_URL", "").strip(),
            telegram_token=_secret(environ, "TELEGRAM_BOT_TOKEN"),
            http_token=_secret(environ, "NANOCHAT_HTTP_TOKEN"),
            model_key=_secret(environ, "NANOCHAT_MODEL_KEY"),
        )

    @property
    def values(self) -> tuple[str, ...]:
        """The secrets that are given, for whoever keeps them out of logs."""
        return tuple(filter(None, (self.anthropic_key, self.telegram_token, self.http_token, self.model_key)))


def _secret(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "").strip()
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if value or not directory:
        return value
    path = Path(directory, name.lower())
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: this credential cannot be read: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go, and with what. An empty `base_url` is Anthropic's own; an empty `key` sends none."""

    base_url: str
    auth: Literal["bearer", "x-api-key"]
    key: str = field(repr=False)


def endpoint_of(model: Model, secrets: Secrets) -> Endpoint | None:
    """The endpoint to ask, or None for the offline model.

    A `base_url` from the settings never sees Anthropic's key: whoever can edit that file could send the key anywhere.

    Raises:
        SettingError: `provider` is `anthropic`, and there is neither key nor `base_url`.
    """
    if model.provider == "offline":
        return None
    if model.base_url:
        return Endpoint(model.base_url, model.auth, secrets.model_key)
    if secrets.anthropic_key:
        return Endpoint(secrets.anthropic_base_url, "bearer", secrets.anthropic_key)
    if model.provider == "anthropic":
        raise SettingError(
            "model.provider is 'anthropic', but there is no key: set ANTHROPIC_API_KEY or model.base_url"
        )
    return None
