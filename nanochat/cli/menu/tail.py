"""`nanochat tail`: the words of the command."""

from __future__ import annotations

import click

from nanochat.cli.options import program_options, settings

__all__ = ["tail"]


@click.command()
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option(
    "-f", "--follow", "follows", is_flag=True, help="Go on, also with sessions that begin later, until Ctrl-C."
)
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many, of each session.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the lines as the files hold them, with their key.")
@program_options
@click.pass_context
def tail(context: click.Context, keys: tuple[str, ...], follows: bool, count: int, as_json: bool) -> int:
    """The newest lines of conversations, interleaved; -f goes on.

    Of all of them, or of those of KEY, which may be a glob: 'telegram:*'.
    """
    import asyncio

    from nanochat.cli import tail as room

    config, _ = settings(context)
    return asyncio.run(room.tail(config, room.Wish(keys, count, follows, as_json)))
