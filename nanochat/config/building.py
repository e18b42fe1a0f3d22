"""One struct of settings from one table, and from the environment over it.

Every refusal is one line that names where the value stands, its key, what it is and what the key takes. Knows types, and what
people mean by a name that is none. Does not know where the file is, nor what may not stand together.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, TypeAlias, TypeVar, get_args, get_origin

import msgspec

from nanochat.config.sections import Config, Job
from nanochat.errors import SettingError

__all__ = ["Refuse", "Source", "at_once", "build", "overrides_of"]

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

_Toml: TypeAlias = Mapping[str, object]
Refuse: TypeAlias = Callable[[SettingError], None]
"""Is told of a value that cannot be used; where it does not raise, the key keeps its default."""

_S = TypeVar("_S", bound=msgspec.Struct)


def at_once(error: SettingError) -> None:
    """A `Refuse` that ends everything with the first one."""
    raise error


# --- the environment -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """Where values come from: the file's name, and by dotted key the environment's variable and text; and who is told of a
    value that is none."""

    file: str
    overrides: Mapping[str, tuple[str, str]]
    refuse: Refuse

    def words(self, key: str) -> str:
        """How a refusal of the key begins."""
        if key in self.overrides:
            return f"environment: {self.overrides[key][0]} ({key})"
        return f"{self.file}: {key}"


def overrides_of(environ: Mapping[str, str], refuse: Refuse) -> dict[str, tuple[str, str]]:
    """By dotted key, the variable that sets it, and its text."""
    known = {"NANOCHAT_" + key.upper().replace(".", "__"): key for key in _known_keys() if "[]" not in key}
    found = {}
    for name, text in environ.items():
        if not name.startswith("NANOCHAT_") or name in _NOT_SETTINGS:
            continue
        if name not in known:
            words = f"environment: {name} is not a setting{_nearest(name, [*known, *_NOT_SETTINGS])}"
            refuse(SettingError(words))
            continue
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


def build(kind: type[_S], table: _Toml, prefix: str, source: Source) -> _S:
    """One struct from one table, value by value, so that a refusal can name the key, the value and the type."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in table:
        if name not in fields:
            source.refuse(SettingError(f"{source.words(prefix + name)} is not a setting{_meant(prefix, name)}"))
    values: dict[str, object] = {}
    for name, field in fields.items():
        key = prefix + name
        if field.required and name not in table:  # of a job only, which comes whole from one place
            raise SettingError(f"{source.words(key)} is missing: it takes {_takes(field.type)}")
        try:
            if _is_struct(field.type):
                values[name] = build(field.type, _table(table.get(name, {}), key, source), key + ".", source)
            elif key in source.overrides:
                values[name] = _from_text(source.overrides[key][1], field.type, key, source)
            elif name in table and field.type == tuple[Job, ...]:
                values[name] = _jobs(table[name], key, source)
            elif name in table:
                values[name] = _leaf(table[name], field.type, key, source)
        except SettingError as error:
            source.refuse(error)
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


def _table(value: object, key: str, source: Source) -> _Toml:
    if not isinstance(value, dict):
        raise SettingError(f"{source.words(key)} is {_shown(value)}: it takes a table, [{key}]")
    return value


def _jobs(value: object, key: str, source: Source) -> tuple[Job, ...]:
    if not isinstance(value, list) or not all(isinstance(job, dict) for job in value):
        raise SettingError(f"{source.words(key)} is {_shown(value)}: it takes tables, [[{key}]]")
    strict, jobs = replace(source, refuse=at_once), []
    for place, job in enumerate(value):
        try:
            jobs.append(build(Job, job, f"{key}[{place}].", strict))
        except SettingError as error:
            source.refuse(error)
    # One that is left out would give those behind it another number.
    return tuple(jobs) if len(jobs) == len(value) else ()


def _leaf(value: object, kind: object, key: str, source: Source, *, lenient: bool = False) -> object:
    if isinstance(value, datetime):  # TOML has date-times of its own; ours are text that keeps its missing offset
        value = value.isoformat()
    try:
        # `lenient` reads numbers and truth values from text, which is all that an environment has.
        return msgspec.convert(value, kind, strict=not lenient)
    except msgspec.ValidationError as error:
        raise SettingError(f"{source.words(key)} is {_shown(value)}: it takes {_takes(kind)}") from error


def _from_text(text: str, kind: object, key: str, source: Source) -> object:
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
