"""`nanochat init`: a commented settings file, and what is still missing.

Knows which questions are worth asking, and how a file comes to be whole or not at all. Does not know what a setting does.
"""

from __future__ import annotations

import os
import re
import secrets as chance
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from nanochat.channels.terminal.words import clean
from nanochat.cli.checks import settings
from nanochat.cli.doctor import Patient, first_checks, show
from nanochat.config import Secrets, examine, find_config, new_config, parse
from nanochat.config.annotated import Value, annotated, fill
from nanochat.config.checks import system_timezone
from nanochat.errors import NotWritten, SettingError
from nanochat.store import Disk

__all__ = ["init", "questions", "write_new"]

_SUFFIX = ".new"

_MONEY = re.compile(r"\$?\d{1,9}([.,]\d{1,9})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask: the text, what Enter stands for, and what an answer sets; an answer that cannot be one is refused."""

    text: str
    default: str
    read: Callable[[str], Mapping[str, Value]]


def init(
    config_path: Path | None,
    data_dir: Path | None,
    environ: Mapping[str, str],
    secrets: Secrets,
    *,
    yes: bool,
    disk: Disk | None = None,
) -> int:
    """Ask, write, and tell what is still missing. Returns the exit code.

    Raises:
        SettingError: there is nobody to ask.
        NotWritten: there is a file that says something already, or none could be made.
    """
    path = new_config(config_path, environ)
    before = _present(path)
    if not yes and not sys.stdin.isatty():
        raise SettingError("standard input is no terminal to ask questions on; nanochat init --yes takes all defaults")
    answers = {} if yes else _asked(path, before is not None, environ)
    if before is None:
        write_new(path, annotated(answers), disk or Disk())
        print(f"wrote {clean(str(path))}: every key stands in it, with its meaning")
    elif answers:
        _write_over(path, fill(before, answers), before, disk or Disk())
        print(f"filled in {clean(str(path))}")
    else:
        print(f"{clean(str(path))} is there already, with every key at its default; it is left as it is")
    print()
    reading = examine(config_path, data_dir, environ)
    patient = Patient(reading, secrets, path)
    for finding in (*settings.files(reading, path), *(() if reading.faults else first_checks(patient))):
        show(finding, secrets)
    print(
        "\nno secret is kept in the file; each comes from the environment",
        *_next(patient, config_path, environ),
        sep="\n",
    )
    return 0


def _present(path: Path) -> str | None:
    """The text of the file that is there, if it sets nothing; None where there is none.

    Raises:
        NotWritten: it sets something, or cannot be read.
    """
    if not os.path.lexists(path):
        return None
    left = f"{path} is there already and is left as it is"
    try:
        text = path.read_text(encoding="utf-8")
        is_bare = not any(_leaves(tomllib.loads(text)))
    except (OSError, ValueError) as error:
        raise NotWritten(f"{left}, but it cannot be read; nanochat doctor tells more", path=str(path)) from error
    if not is_bare:
        raise NotWritten(f"{left}: edit it, or have another made with --config FILE", path=str(path))
    return text


def _leaves(table: Mapping[str, object]) -> Iterator[object]:
    for value in table.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


# --- asking ----------------------------------------------------------------------------------------------------------


def _asked(path: Path, is_there: bool, environ: Mapping[str, str]) -> dict[str, Value]:
    """The answers of whoever sits at the terminal.

    Raises:
        click.Abort: on Ctrl-C or Ctrl-D, before anything is written.
    """
    where = f"{path} is there and sets nothing yet: your answers go into it" if is_there else f"this makes {path}"
    print(f"{clean(where)}\nEnter takes what stands in brackets; everything can be changed in the file later.\n")
    answers: dict[str, Value] = {}
    try:
        for question in questions(system_timezone(environ), answers):
            answers.update(_ask(question))
    except click.Abort:
        print("nanochat: nothing was written", file=sys.stderr)
        raise
    return answers


def _ask(question: Question) -> Mapping[str, Value]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.output import create_output
    from prompt_toolkit.output.vt100 import Vt100_Output

    # `input` would sleep through a Ctrl-C that comes in the instant before it reads.
    output = create_output()
    if isinstance(output, Vt100_Output):
        output.enable_cpr = False  # nothing here depends on where the cursor is, and some terminals never tell
    session: PromptSession[str] = PromptSession(output=output)
    while True:
        try:
            typed = session.prompt(f"{question.text} [{question.default}]: ")
        except (KeyboardInterrupt, EOFError):
            raise click.Abort from None
        try:
            return question.read(_text(typed))
        except SettingError as error:
            print(f"  {clean(str(error)).removeprefix('settings: ')}")


def _text(typed: str) -> str:
    if not typed.isprintable():  # an arrow key, or bytes that are no text
        raise SettingError("that is not text")
    return typed.strip()


def questions(system_zone: str, answers: Mapping[str, Value]) -> Iterator[Question]:
    """At most five, one after the other; some depend on the `answers` so far, which the caller fills in."""
    yield Question("Your time zone", system_zone, lambda text: _valid({"timezone": text} if text else {}))
    yield Question(
        "Who answers: Anthropic, or http://… of your own",
        "Anthropic",
        _endpoint,
    )
    if "model.base_url" in answers:
        yield Question("  The model's name there", "none", _name)
    else:
        yield Question("The most that a day may cost, in USD", "no cap", _cap)
    yield Question("Talk over Telegram as well: yes, or your numeric id there", "no", _telegram)
    yield Question("Serve HTTP and its page on this machine", "no", _http)


def _valid(answers: Mapping[str, Value]) -> Mapping[str, Value]:
    """The answers, if they are settings."""
    parse(fill("", answers), None, {})
    return answers


def _endpoint(text: str) -> Mapping[str, Value]:
    if text.lower() in ("", "anthropic"):
        return {}
    return _valid({"model.base_url": text})


def _name(text: str) -> Mapping[str, Value]:
    if not text:
        raise SettingError("the endpoint has to be told which model to use, as in qwen3:14b")
    return _valid({"model.name": text})


def _cap(text: str) -> Mapping[str, Value]:
    if text.lower() in ("", "0", "no", "none", "no cap"):
        return {}
    if not _MONEY.fullmatch(text):
        raise SettingError(f"{text!r} is no amount of money, as in 2.50")
    return _valid({"limits.usd_per_day": float(text.removeprefix("$").replace(",", "."))})


def _telegram(text: str) -> Mapping[str, Value]:
    if not _is_yes(text):
        number = text.removeprefix("+")
        if number and not _is_no(text):
            if not (number.isdecimal() and number.isascii() and 0 < int(number) < 2**52):
                raise SettingError(f"{text!r} is no id: it is a number, which @userinfobot tells you; yes does without")
            return _valid({"telegram.enabled": True, "owner": (int(number),)})
        return {}
    return _valid({"telegram.enabled": True})


def _http(text: str) -> Mapping[str, Value]:
    if _is_yes(text):
        return _valid({"http.enabled": True})
    if text and not _is_no(text):
        raise SettingError(f"{text!r} is neither yes nor no")
    return {}


def _is_yes(text: str) -> bool:
    return text.lower() in ("y", "yes", "true", "1")


def _is_no(text: str) -> bool:
    return text.lower() in ("n", "no", "false", "0")


# --- writing ---------------------------------------------------------------------------------------------------------


def write_new(path: Path, text: str, disk: Disk) -> None:
    """Make a file that only we can read, whole and durable, or none; one that is there is never replaced.

    Raises:
        NotWritten: it was not made.
    """
    made: list[Path] = []
    try:
        for parent in reversed([path.parent, *path.parent.parents]):
            if not parent.exists():
                parent.mkdir(mode=0o700)
                made.append(parent)
        part = _part(path, text, 0o600, disk)
        try:
            os.link(part, path)  # unlike a rename it never replaces anything
        finally:
            part.unlink()
        _sync(path.parent, disk)
    except OSError as error:
        for parent in reversed(made):
            with suppress(OSError):
                parent.rmdir()
        raise _refusal(path, error) from error


def _write_over(path: Path, text: str, before: str, disk: Disk) -> None:
    """Put a text in the place of another, whole and durable, or leave everything as it is.

    Raises:
        NotWritten: it is as it was.
    """
    target = path.resolve()  # a link to it stays one
    try:
        part = _part(target, text, target.stat().st_mode & 0o777, disk)
        try:
            if target.read_text(encoding="utf-8") != before:
                raise NotWritten(f"{path} was changed meanwhile, and is left as it is", path=str(path))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        _sync(target.parent, disk)
    except OSError as error:
        raise _refusal(path, error) from error


def _part(path: Path, text: str, mode: int, disk: Disk) -> Path:
    """The text, durable, under a name of its own beside `path`."""
    part = path.with_name(f".{path.name}.{chance.token_hex(4)}{_SUFFIX}")
    descriptor = disk.open_safely(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            os.fchmod(descriptor, mode)
            rest = memoryview(text.encode())
            while rest:
                rest = rest[disk.write(descriptor, rest) :]
            disk.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        part.unlink()
        raise
    return part


def _sync(directory: Path, disk: Disk) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(path: Path, error: OSError) -> NotWritten:
    if isinstance(error, FileExistsError):
        return NotWritten(f"{path} is there already and is left as it is", path=str(path))
    reason = os.strerror(error.errno) if error.errno else str(error)
    return NotWritten(f"{path}: nothing was written: {reason}", path=str(path))


# --- what comes next -------------------------------------------------------------------------------------------------


def _next(patient: Patient, config_path: Path | None, environ: Mapping[str, str]) -> Iterator[str]:
    """What to type now."""
    config = patient.reading.config
    if config.model.base_url and not patient.secrets.model_key:
        yield "if your endpoint wants a key:  export NANOCHAT_MODEL_KEY=…"
    if config.http.enabled and not patient.secrets.http_token:
        yield f"to have HTTP at port {config.http.port}:  export NANOCHAT_HTTP_TOKEN=…"
    words = ["nanochat"]
    if config_path is not None and _found_alone(environ) != config_path:
        words += ["--config", str(config_path)]
    is_served = config.telegram.enabled or config.http.enabled
    yield f"next:  {clean(shlex.join([*words, 'run'] if is_served else words))}"
    yield f"and to see whether all of it works:  {clean(shlex.join([*words, 'doctor']))}"


def _found_alone(environ: Mapping[str, str]) -> Path | None:
    try:
        return find_config(None, environ)
    except SettingError:
        return None
