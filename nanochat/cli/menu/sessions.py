"""`nanochat sessions`: the words of its commands."""

from __future__ import annotations

import click

from nanochat.cli.options import program_options, settings

__all__ = ["sessions"]


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per session.")
@program_options
@click.pass_context
def sessions(context: click.Context, as_json: bool) -> int:
    """The conversations there are."""
    if context.invoked_subcommand is None:
        return _list(context, as_json)
    return 0


@sessions.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per session.")
@program_options
@click.pass_context
def list_sessions(context: click.Context, as_json: bool) -> int:
    """Every conversation, newest first."""
    return _list(context, as_json)


@sessions.command("check")
@click.argument("key", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per fault.")
@program_options
@click.pass_context
def check_sessions(context: click.Context, key: str | None, as_json: bool) -> int:
    """What is wrong with KEY's file, or with all files, line by line; nothing is changed."""
    import asyncio

    from nanochat.cli import sessions as room
    from nanochat.keys import SessionKey

    config, _ = settings(context)
    return asyncio.run(room.check_sessions(config, SessionKey.parse(key) if key else None, as_json=as_json))


def _list(context: click.Context, as_json: bool) -> int:
    import asyncio

    from nanochat.cli import sessions as room

    config, _ = settings(context)
    return asyncio.run(room.list_sessions(config, as_json=as_json))
