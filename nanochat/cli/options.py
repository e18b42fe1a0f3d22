"""What every command takes, and how each gets its settings.

Knows the program's own options, wherever on the line they are typed. Does not know any command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from nanochat.config import Config, Secrets

__all__ = ["WORD", "Program", "State", "load", "program_options", "secrets_of", "settings"]

_C = TypeVar("_C", bound=Callable[..., object])

# Of the whole program, and accepted behind any command as well: where one types them is nobody's concern.
_WITH_VALUE = ("--config", "--data-dir")

_FLAGS = ("--debug", "--version", "-h", "--help")


class _Word(click.ParamType[str]):
    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value.encode(errors="surrogateescape").decode(errors="replace")


WORD = _Word()
"""What somebody typed, as text: bytes that are none arrive as halves of characters, which no file of ours can hold."""


@dataclass(slots=True)
class State:
    """The program's own options, as the command line fills them in."""

    config: Path | None = None
    data_dir: Path | None = None
    debug: bool = False
    secrets: Sequence[str] = ()
    """What must not stand in an error, once it is known."""


def settings(context: click.Context) -> tuple[Config, Secrets]:
    """The settings and secrets of this process; until the command ends, what is logged goes where it should.

    Raises:
        SettingError: one of them cannot be used.
    """
    from nanochat import log

    state = context.find_root().ensure_object(State)
    secrets = secrets_of(state)
    context.with_resource(log.written(debug=state.debug, secrets=secrets.values))
    return load(state), secrets


def secrets_of(state: State) -> Secrets:
    """The secrets of this process's environment; from now on, no error shows one."""
    from nanochat import config

    secrets = config.Secrets.load(os.environ)
    state.secrets = secrets.values
    return secrets


def load(state: State) -> Config:
    """The settings that the command line asks for.

    Raises:
        SettingError: one of them cannot be used.
    """
    from nanochat import config

    return config.load(state.config, state.data_dir, os.environ)


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    state = context.find_root().ensure_object(State)
    match parameter.name, value:
        case "config", Path() as path:
            state.config = path
        case "data_dir", Path() as path:
            state.data_dir = path
        case "debug", True:
            state.debug = True


def program_options(command: _C) -> _C:
    path = click.Path(path_type=Path)
    for option in (
        click.option("--debug", is_flag=True, expose_value=False, callback=_keep, help="Log, and show tracebacks."),
        click.option("--data-dir", type=path, metavar="DIR", expose_value=False, callback=_keep, help="Where data is."),
        click.option("--config", type=path, metavar="FILE", expose_value=False, callback=_keep, help="The settings."),
    ):
        command = option(command)
    return command


class Program(click.Group):
    """A group whose first command may be left out: `nanochat -m hi` is `nanochat chat -m hi`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # for completion, where a word that is missing is still to come
            return super().parse_args(ctx, args)
        place = 0
        while place < len(args):
            name, joined, _ = args[place].partition("=")
            if name in _WITH_VALUE:
                place += 1 if joined else 2
            elif args[place] in _FLAGS:
                place += 1
            else:
                break
        asks_for_itself = {"--version", "-h", "--help"} & {*args[:place]}
        if not asks_for_itself and (place >= len(args) or args[place].startswith("-")):
            args = [*args[:place], "chat", *args[place:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; that nobody reads on, as after `| head`, is no failure."""
        try:
            code: object = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered would raise again when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
            return 0
        return code
