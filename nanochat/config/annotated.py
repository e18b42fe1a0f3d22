"""The settings file that explains itself: every key with its meaning, its default, and a # in front.

The meanings are the docstrings of `sections`, so that the file cannot say anything else. Knows TOML as far as settings need it.
Does not know where a file lies.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias, get_args, get_origin

import msgspec

from nanochat.config import sections
from nanochat.config.sections import Config, Job

__all__ = ["Value", "annotated", "fill"]

Value: TypeAlias = str | bool | int | float | tuple[str, ...] | tuple[int, ...]

_HEAD = """\
# nanochat's settings. Every line that begins with a single # and a key shows that key's default: take the # away to change it.
# Any key can also be given as an environment variable: NANOCHAT_LIMITS__WAITING=5, NANOCHAT_TIMEZONE=Europe/Berlin.
# Secrets never stand here. They come from the environment: ANTHROPIC_API_KEY, TELEGRAM_BOT_TOKEN, NANOCHAT_HTTP_TOKEN,
# NANOCHAT_MODEL_KEY.
"""

_EXAMPLE_HEAD = """\
## What happens by the clock, one table per job. This is an example, and not a default: take the # away from what you need.
#[[cron.jobs]]"""
_EXAMPLE = Job(
    id="morning", cron="0 8 * * mon-fri", kind="summary", sources=("telegram:*",), deliver_to="telegram:12345"
)

_TABLE = re.compile(r"#?\[+\s*([\w.]+)\s*\]+")
_KEY = re.compile(r"#?(\w+)\s*=")


def annotated(answers: Mapping[str, Value] | None = None) -> str:
    """The file's text, in which the keys of `answers` (dotted) have these values, and all others their defaults."""
    lines = _HEAD.splitlines()
    meanings = _meanings()
    lines += ["", *_keys(Config(), meanings)]
    for field in msgspec.structs.fields(Config):
        value: object = msgspec.structs.asdict(Config())[field.name]
        if not isinstance(value, msgspec.Struct) or isinstance(value, sections.Cron):
            continue
        meaning = meanings[type(value).__name__][""].partition(": ")[2]
        lines += ["", f"## {meaning[:1].upper()}{meaning[1:]}", f"[{field.name}]", *_keys(value, meanings)]
    lines += ["", _EXAMPLE_HEAD, *_keys(_EXAMPLE, meanings)]
    return fill("\n".join(lines) + "\n", answers or {})


def fill(text: str, answers: Mapping[str, Value]) -> str:
    """The text with these keys set, each in the line that shows its default, or where its section begins."""
    lines, left, section = text.splitlines(), dict(answers), ""
    for place, line in enumerate(lines):
        if found := _TABLE.match(line):
            section = found[1] + "."
        elif (found := _KEY.match(line)) and section + found[1] in left:
            lines[place] = f"{found[1]} = {_toml(left.pop(section + found[1]))}"
    for key, value in reversed(left.items()):
        section, _, name = key.rpartition(".")
        header = f"[{section}]"
        if section and header not in lines:
            lines += ["", header]
        lines.insert(lines.index(header) + 1 if section else 0, f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _keys(struct: msgspec.Struct, meanings: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    values = msgspec.structs.asdict(struct)
    for field in msgspec.structs.fields(type(struct)):
        value = values[field.name]
        if isinstance(value, msgspec.Struct):
            continue
        meaning = meanings[type(struct).__name__][field.name]
        yield f"## {meaning}{_choices(field.type, meaning)}"
        yield f"#{field.encode_name} = {_toml(value)}"


def _choices(kind: object, meaning: str) -> str:
    """The values that a key takes, where they are few and its meaning does not name them all."""
    while get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if all(f"`{choice}`" in meaning for choice in choices):
        return ""
    return f" It takes {', '.join(map(json.dumps, choices[:-1]))} or {json.dumps(choices[-1])}."


def _meanings() -> dict[str, dict[str, str]]:
    """By struct and field, what is written under it; under the empty name, what is written under the struct."""
    tree = ast.parse(inspect.getsource(sections))
    found: dict[str, dict[str, str]] = {}
    for struct in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        texts = found.setdefault(struct.name, {"": _line(ast.get_docstring(struct) or "")})
        for node, behind in zip(struct.body, struct.body[1:], strict=False):
            match node, behind:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = _line(text)
    return found


def _line(text: str) -> str:
    return " ".join(text.split())


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's strings, numbers and truth values are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
