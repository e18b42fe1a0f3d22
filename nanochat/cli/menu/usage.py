"""`nanochat usage`: the words of the command."""

from __future__ import annotations

from typing import Literal

import click

from nanochat.cli.options import program_options, settings

__all__ = ["usage"]


@click.command()
@click.argument("key", metavar="[KEY]", required=False)
@click.option(
    "--by",
    type=click.Choice(("session", "day", "model", "origin")),
    help="What a row stands for; default: session, of one session day. An origin is who or which job asked.",
)
@click.option("--plot", is_flag=True, help="Draw it: how a session grows, or with --by what each row costs.")
@click.option("--since", metavar="DATE", default="", help="From this day on: 2026-11-20, yesterday, 7d.")
@click.option("--until", metavar="DATE", default="", help="Up to this day, and with it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per row.")
@program_options
@click.pass_context
def usage(
    context: click.Context,
    key: str | None,
    by: Literal["session", "day", "model", "origin"] | None,
    plot: bool,
    since: str,
    until: str,
    as_json: bool,
) -> int:
    """What conversations took: tokens, money, and the share read from the cache.

    All of them, archived ones too, or the one of KEY. Turns that were undone count: they were paid for.
    """
    from nanochat.cli import usage as room

    config, _ = settings(context)
    return room.usage(config, room.Wish(key, by, plot, since, until, as_json))
