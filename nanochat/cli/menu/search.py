"""`nanochat sessions search`: the words of the command."""

from __future__ import annotations

import click

from nanochat.cli.options import program_options, settings

__all__ = ["search"]


@click.command()
@click.argument("words", metavar="QUERY...", nargs=-1, required=True)
@click.option(
    "--key", "keys", metavar="KEY", multiple=True, help="Only there; a key or a pattern such as 'telegram:*'."
)
@click.option(
    "--role",
    "roles",
    type=click.Choice(("user", "assistant", "delivered")),
    multiple=True,
    help="Only what was said by a person, by the model, or delivered by a job.",
)
@click.option(
    "--since", metavar="DATE", default="", help="From this day on: 2026-11-20, yesterday, 7d; or 2026-11-20T18:00."
)
@click.option("--until", metavar="DATE", default="", help="Up to this day, and with it; or before this time.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per message.")
@program_options
@click.pass_context
def search(
    context: click.Context,
    words: tuple[str, ...],
    keys: tuple[str, ...],
    roles: tuple[str, ...],
    since: str,
    until: str,
    limit: int,
    as_json: bool,
) -> int:
    """Where words were said, newest first.

    A message is found that has all words of QUERY, whatever their case and accents. '"these words"' must stand together,
    'begin*' stands for all words that begin so. What was taken back is not found; what is older than a /new is.
    """
    import asyncio

    from nanochat.cli import search as room

    config, _ = settings(context)
    return asyncio.run(room.search(config, room.Wish(" ".join(words), keys, roles, since, until, limit, as_json)))
