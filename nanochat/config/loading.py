"""Finds the settings file, lays the environment over it, and refuses what cannot be used.

Knows places, precedence, and what may not stand together. Does not know secrets. Every refusal is one line that names where
the value stands, its key, what it is and what the key takes.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar, get_args, get_origin

import msgspec
import platformdirs

from nanochat.config.checks import check, system_timezone
from nanochat.config.sections import Config, Job
from nanochat.errors import SettingError

__all__ = ["find_config", "load", "parse"]

# Environment variables that begin like a setting and are none.
_NOT_SETTINGS = frozenset({"NANOCHAT_CONFIG", "NANOCHAT_DATA_DIR", "NANOCHAT_HTTP_TOKEN", "NANOCHAT_MODEL_KEY"})

# What people look for in a settings file, by section; no secret is ever read from one.
_SECRET_NAME = re.compile(r"((api|auth|access|bot|anthropic|model|telegram|http)_?)*(key|token|secret|password)")
_SECRET_OF: Mapping[str, str] = {
    "model": "ANTHROPIC_API_KEY, or NANOCHAT_MODEL_KEY with a base_url",
    "anthropic": "ANTHROPIC_API_KEY",
    "api": "ANTHROPIC_API_KEY",
    "telegram": "TELEGRAM_BOT_TOKEN",
    "http": "NANOCHAT_HTTP_TOKEN",
}

_PACKAGE_DIR = Path(__file__).parents[1]

_Toml: TypeAlias = Mapping[str, object]
_S = TypeVar("_S", bound=msgspec.Struct)


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
    checkout = _checkout(package_dir)
    directory = data_dir or Path(environ.get("NANOCHAT_DATA_DIR", ""))
    if directory == Path():
        directory = _data_dir(config.data_dir, path, checkout)
    prompt_file = config.model.system_prompt_file
    if prompt_file:
        place = Path(prompt_file).expanduser()
        text = _read(path.parent / place if path else place)
        config = msgspec.structs.replace(
            config, model=msgspec.structs.replace(config.model, system_prompt=text.strip())
        )
    return msgspec.structs.replace(
        config,
        data_dir=str(directory.expanduser().absolute()),
        timezone=config.timezone or system_timezone(environ),
    )


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
    checkout = _checkout(package_dir)
    places = [checkout / "config" / "nanochat.toml"] if checkout else []
    places.append(platformdirs.user_config_path("nanochat") / "nanochat.toml")
    return next((place for place in places if place.is_file()), None)


def parse(text: str, path: Path | None, environ: Mapping[str, str]) -> Config:
    """Settings from the text of a file (`path` is for words only) and the environment; nothing is looked up or resolved.

    Raises:
        SettingError: in one line.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{path}: this is not TOML: {error}") from error
    source = _Source(str(path or "settings"), _overrides(environ))
    config = _build(Config, table, "", source)
    check(config, source.words)
    return config


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


# --- the environment -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """Where values come from: the file's name, and by dotted key the environment's variable and text."""

    file: str
    overrides: Mapping[str, tuple[str, str]]

    def words(self, key: str) -> str:
        """How a refusal of the key begins."""
        if key in self.overrides:
            return f"environment: {self.overrides[key][0]} ({key})"
        return f"{self.file}: {key}"


def _overrides(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    known = {"NANOCHAT_" + key.upper().replace(".", "__"): key for key in _known_keys() if "[]" not in key}
    found = {}
    for name, text in environ.items():
        if not name.startswith("NANOCHAT_") or name in _NOT_SETTINGS:
            continue
        if name not in known:
            raise SettingError(f"environment: {name} is not a setting{_nearest(name, [*known, *_NOT_SETTINGS])}")
        found[known[name]] = (name, text)
    return found


def _known_keys() -> list[str]:
    """Every key with its section: `timezone`, `limits.waiting`, `cron.jobs[].id`."""
    keys = []
    for top in msgspec.structs.fields(Config):
        if not _is_struct(top.type):
            keys.append(top.encode_name)
            continue
        keys += [f"{top.encode_name}.{field.encode_name}" for field in msgspec.structs.fields(top.type)]
    return [*keys, *(f"cron.jobs[].{field.encode_name}" for field in msgspec.structs.fields(Job))]


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


# --- from tables to structs ------------------------------------------------------------------------------------------


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _build(kind: type[_S], table: _Toml, prefix: str, source: _Source) -> _S:
    """One struct from one table, value by value, so that a refusal can name the key, the value and the type."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in table:
        if name not in fields:
            raise SettingError(f"{source.words(prefix + name)} is not a setting{_meant(prefix, name)}")
    values: dict[str, object] = {}
    for name, field in fields.items():
        key = prefix + name
        if _is_struct(field.type):
            values[name] = _build(field.type, _table(table.get(name, {}), key, source), key + ".", source)
        elif key in source.overrides:
            values[name] = _from_text(source.overrides[key][1], field.type, key, source)
        elif name in table and field.type == tuple[Job, ...]:
            values[name] = _jobs(table[name], key, source)
        elif name in table:
            values[name] = _leaf(table[name], field.type, key, source)
        elif field.required:
            raise SettingError(f"{source.words(key)} is missing: it takes {_takes(field.type)}")
    return kind(**values)


def _meant(prefix: str, name: str) -> str:
    whose = prefix.rstrip(".") or name.partition("_")[0]
    if whose in _SECRET_OF and _SECRET_NAME.fullmatch(name):
        return f": secrets come from the environment only, this one as {_SECRET_OF[whose]}"
    shape = re.sub(r"\[\d+\]", "[]", prefix)
    known = _known_keys()
    siblings = [key.removeprefix(shape) for key in known if key.startswith(shape)]
    if not prefix:
        siblings += [field.encode_name for field in msgspec.structs.fields(Config)]
    elsewhere = [key for key in known if key.rpartition(".")[2] == name]
    words = _nearest(name, siblings) or (f"; did you mean {elsewhere[0]}?" if elsewhere else "")
    return words or _nearest(prefix + name, known)


def _table(value: object, key: str, source: _Source) -> _Toml:
    if not isinstance(value, dict):
        raise SettingError(f"{source.words(key)} is {_shown(value)}: it takes a table, [{key}]")
    return value


def _jobs(value: object, key: str, source: _Source) -> tuple[Job, ...]:
    if not isinstance(value, list) or not all(isinstance(job, dict) for job in value):
        raise SettingError(f"{source.words(key)} is {_shown(value)}: it takes tables, [[{key}]]")
    return tuple(_build(Job, job, f"{key}[{place}].", source) for place, job in enumerate(value))


def _leaf(value: object, kind: object, key: str, source: _Source, *, lenient: bool = False) -> object:
    if isinstance(value, datetime):  # TOML has date-times of its own; ours are text that keeps its missing offset
        value = value.isoformat()
    try:
        # `lenient` reads numbers and truth values from text, which is all that an environment has.
        return msgspec.convert(value, kind, strict=not lenient)
    except msgspec.ValidationError as error:
        raise SettingError(f"{source.words(key)} is {_shown(value)}: it takes {_takes(kind)}") from error


def _from_text(text: str, kind: object, key: str, source: _Source) -> object:
    """A value from the environment: a list is JSON, or its members with commas between."""
    if not _is_list(kind):
        return _leaf(text.strip() if kind is not str else text, kind, key, source, lenient=True)
    value: object = [part.strip() for part in text.split(",") if part.strip()]
    if text.lstrip().startswith("["):
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise SettingError(f"{source.words(key)} is {_shown(text)}: this is not JSON: {error}") from error
    if kind == tuple[Job, ...]:
        return _jobs(value, key, source)
    return _leaf(value, kind, key, source, lenient=True)


def _is_list(kind: object) -> bool:
    return get_origin(kind) is tuple or any(get_origin(part) is tuple for part in get_args(kind))


def _shown(value: object) -> str:
    words = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    text = words or repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _takes(kind: object) -> str:
    """The values of a type, in words."""
    if get_origin(kind) is Annotated:
        number, bounds = get_args(kind)
        words = [
            f"from {bounds.ge}" if bounds.ge is not None else "",
            f"above {bounds.gt}" if bounds.gt is not None else "",
            f"up to {bounds.le}" if bounds.le is not None else "",
        ]
        return " ".join(filter(None, [_takes(number), *words]))
    if get_origin(kind) is tuple:
        return f"a list, each {_takes(get_args(kind)[0])}"
    if kind in _WORDS:
        return _WORDS[kind]
    choices = get_args(kind)
    if all(isinstance(choice, str) for choice in choices):
        return "one of " + ", ".join(json.dumps(choice) for choice in choices)
    return " or ".join(_takes(choice) for choice in choices)


_WORDS: Mapping[object, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
