"""Finds the settings file, lays the environment over it, and refuses what cannot be used.

Knows places and precedence. Does not know secrets, nor how a value is read (`building`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs

from nanochat.config.building import Refuse, Source, at_once, build, overrides_of
from nanochat.config.checks import check, system_timezone
from nanochat.config.sections import Config
from nanochat.errors import SettingError

__all__ = ["Reading", "examine", "find_config", "load", "new_config", "parse"]

_PACKAGE_DIR = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Reading:
    """Settings looked at, and not gone by: the file that counts, the variables that override it (name and key), and every
    refusal. `config` has the default in place of what could not be read; where anything is refused, only its places hold."""

    path: Path | None
    config: Config
    overrides: tuple[tuple[str, str], ...]
    faults: tuple[str, ...]


def load(
    config_path: Path | None, data_dir: Path | None, environ: Mapping[str, str], *, package_dir: Path = _PACKAGE_DIR
) -> Config:
    """The settings as they stand, with all places made absolute.

    Args:
        config_path: of `--config`.
        data_dir: of `--data-dir`.
        environ: of the process.
        package_dir: the running package, whose checkout counts.

    Raises:
        SettingError: in one line.
    """
    path = find_config(config_path, environ, package_dir=package_dir)
    config = parse(_read(path) if path else "", path, environ)
    return _with_prompt(_placed(config, path, data_dir, environ, package_dir), path)


def examine(
    config_path: Path | None, data_dir: Path | None, environ: Mapping[str, str], *, package_dir: Path = _PACKAGE_DIR
) -> Reading:
    """What `load` reads, with everything that it would refuse, one line each, instead of the first."""
    faults: list[SettingError] = []
    path, text = None, ""
    try:
        path = find_config(config_path, environ, package_dir=package_dir)
        text = _read(path) if path else ""
        tomllib.loads(text)
    except (SettingError, tomllib.TOMLDecodeError) as error:
        faults.append(error if isinstance(error, SettingError) else _not_toml(path, error))
        text = ""
    config, overrides = _parsed(text, path, environ, faults.append)
    config = _placed(config, path, data_dir, environ, package_dir)
    try:
        config = _with_prompt(config, path)
    except SettingError as error:
        faults.append(error)
    return Reading(path, config, overrides, tuple(map(str, faults)))


def _placed(
    config: Config, path: Path | None, data_dir: Path | None, environ: Mapping[str, str], package_dir: Path
) -> Config:
    """The settings with their places absolute, and the system's zone where they name none."""
    checkout = _checkout(package_dir)
    directory = data_dir or Path(environ.get("NANOCHAT_DATA_DIR", ""))
    if directory == Path():
        directory = _data_dir(config.data_dir, path, checkout)
    return msgspec.structs.replace(
        config,
        data_dir=str(directory.expanduser().absolute()),
        timezone=config.timezone or system_timezone(environ),
    )


def _with_prompt(config: Config, path: Path | None) -> Config:
    prompt_file = config.model.system_prompt_file
    if not prompt_file:
        return config
    place = Path(prompt_file).expanduser()
    text = _read(path.parent / place if path else place)
    return msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, system_prompt=text.strip()))


def find_config(
    config_path: Path | None, environ: Mapping[str, str], *, package_dir: Path = _PACKAGE_DIR
) -> Path | None:
    """The file that counts, or None: the option, the environment, the checkout's, the user's; never the working directory's.

    Raises:
        SettingError: the file that was asked for by name does not exist.
    """
    named = config_path or Path(environ.get("NANOCHAT_CONFIG", ""))
    if named != Path():
        if not named.expanduser().is_file():
            raise SettingError(f"{named}: there is no such settings file")
        return named.expanduser()
    return next((place for place in _own_places(package_dir) if place.is_file()), None)


def new_config(config_path: Path | None, environ: Mapping[str, str], *, package_dir: Path = _PACKAGE_DIR) -> Path:
    """Where a settings file belongs: the one that counts now, or, where there is none, where it would be looked for."""
    named = config_path or Path(environ.get("NANOCHAT_CONFIG", ""))
    if named != Path():
        return named.expanduser()
    return find_config(None, environ, package_dir=package_dir) or _own_places(package_dir)[0]


def _own_places(package_dir: Path) -> list[Path]:
    """Where the file is looked for when nobody names it: the checkout's place, the user's."""
    checkout = _checkout(package_dir)
    places = [checkout / "config" / "nanochat.toml"] if checkout else []
    return [*places, platformdirs.user_config_path("nanochat") / "nanochat.toml"]


def parse(text: str, path: Path | None, environ: Mapping[str, str]) -> Config:
    """Settings from the text of a file (`path` is for words only) and the environment; nothing is looked up or resolved.

    Raises:
        SettingError: in one line.
    """
    return _parsed(text, path, environ, at_once)[0]


def _parsed(
    text: str, path: Path | None, environ: Mapping[str, str], refuse: Refuse
) -> tuple[Config, tuple[tuple[str, str], ...]]:
    """The settings, and which variables override which keys. What `refuse` does not raise keeps its default."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(path, error) from error
    source = Source(str(path or "settings"), overrides_of(environ, refuse), refuse)
    config = build(Config, table, "", source)
    check(config, source.words, refuse)
    return config, tuple((name, key) for key, (name, _) in source.overrides.items())


def _not_toml(path: Path | None, error: tomllib.TOMLDecodeError) -> SettingError:
    return SettingError(f"{path}: this is not TOML: {error}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: this is not UTF-8 text, from byte {error.start} on") from error
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}") from error


def _checkout(package_dir: Path) -> Path | None:
    """The directory above the package, if it is nanochat's own repository."""
    root = package_dir.parent
    try:
        project = (root / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    is_ours = re.search(r'^name\s*=\s*"nanochat"\s*$', project, re.MULTILINE) is not None
    return root if is_ours and (root / "config").is_dir() else None


def _data_dir(setting: str, path: Path | None, checkout: Path | None) -> Path:
    if setting:
        inside = checkout is not None and path == checkout / "config" / "nanochat.toml"
        start = checkout if checkout and inside else path.parent if path else Path()
        return start / Path(setting).expanduser()
    return checkout / "data" if checkout else platformdirs.user_data_path("nanochat")
