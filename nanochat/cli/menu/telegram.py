"""`nanochat telegram`: the words of its commands."""

from __future__ import annotations

import click

from nanochat.cli.options import WORD, program_options, settings

__all__ = ["telegram"]

# "It has at most 52 significant bits": https://core.telegram.org/bots/api#user, read 2026-11-20.
_MAX_USER_ID = 2**52 - 1


@click.group()
@program_options
def telegram() -> None:
    """Who may talk to the bot."""


@telegram.command()
@click.argument("code", type=WORD)
@program_options
@click.pass_context
def pair(context: click.Context, code: str) -> int:
    """Let in whoever was given this CODE by the bot."""
    import asyncio

    from nanochat.cli import telegram as room

    config, _ = settings(context)
    return asyncio.run(room.pair(config, code))


@telegram.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per person.")
@program_options
@click.pass_context
def pairings(context: click.Context, as_json: bool) -> int:
    """Who was let in, and who was offered a code."""
    from nanochat.cli import telegram as room

    config, _ = settings(context)
    return room.pairings(config, as_json=as_json)


@telegram.command()
@click.argument("user_id", metavar="ID", type=click.IntRange(1, _MAX_USER_ID))
@program_options
@click.pass_context
def revoke(context: click.Context, user_id: int) -> int:
    """Let this person in no longer."""
    import asyncio

    from nanochat.cli import telegram as room

    config, _ = settings(context)
    return asyncio.run(room.revoke(config, user_id))
