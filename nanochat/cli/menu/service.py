"""`nanochat service`: the words of its commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from nanochat.cli.options import State, program_options, settings

__all__ = ["service"]

_C = TypeVar("_C", bound=Callable[..., object])


@click.group()
@program_options
def service() -> None:
    """The daemon as a systemd service."""


def _service_options(command: _C) -> _C:
    for option in (
        click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing."),
        click.option("--system", is_flag=True, help="For the machine, as root, instead of for you."),
    ):
        command = option(command)
    return command


@service.command()
@_service_options
@program_options
@click.pass_context
def install(context: click.Context, system: bool, dry_run: bool) -> int:
    """Write the unit, start it now and with every boot or login."""
    from nanochat.cli import service as room

    config, _ = settings(context)
    return room.install(room.Place.of(system=system), config, context.find_root().ensure_object(State).config, dry_run)


@service.command()
@_service_options
@program_options
@click.pass_context
def status(context: click.Context, system: bool, dry_run: bool) -> int:
    """Whether it is installed and runs."""
    from nanochat.cli import service as room

    settings(context)
    return room.status(room.Place.of(system=system), dry_run)


@service.command()
@_service_options
@program_options
@click.pass_context
def uninstall(context: click.Context, system: bool, dry_run: bool) -> int:
    """Stop it and take the unit away; conversations and settings stay."""
    from nanochat.cli import service as room

    settings(context)
    return room.uninstall(room.Place.of(system=system), dry_run)
