"""`nanochat sessions`: the words of its commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from nanochat.cli.menu.search import search
from nanochat.cli.options import program_options, settings

__all__ = ["sessions"]

_C = TypeVar("_C", bound=Callable[..., object])


def _of_one(command: _C) -> _C:
    """What the commands about one session take."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)
    return click.argument("key")(program_options(command))


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per session.")
@program_options
@click.pass_context
def sessions(context: click.Context, as_json: bool) -> int:
    """The conversations there are."""
    if context.invoked_subcommand is None:
        return _list(context, (), None, as_json)
    return 0


@sessions.command("list")
@click.argument("globs", metavar="[KEY]...", nargs=-1)
@click.option("-n", "--limit", type=click.IntRange(min=1), help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per session.")
@program_options
@click.pass_context
def list_sessions(context: click.Context, globs: tuple[str, ...], limit: int | None, as_json: bool) -> int:
    """Every conversation, newest first.

    With KEY, those that it names: a key, or a pattern such as 'telegram:*'.
    """
    return _list(context, globs, limit, as_json)


@sessions.command("show")
@click.option("-n", "--limit", type=click.IntRange(min=1), help="The last so many exchanges.")
@click.option("--all", "everything", is_flag=True, help="All that is in the file: what was reset and taken back too.")
@_of_one
@click.pass_context
def show_session(context: click.Context, key: str, limit: int | None, everything: bool, as_json: bool) -> int:
    """What was said in KEY since its last /new.

    With --json, one object per message.
    """
    import asyncio

    from nanochat.cli import showing as room
    from nanochat.keys import SessionKey

    if everything and limit is not None:
        raise click.UsageError("--all and -n exclude each other")
    config, _ = settings(context)
    return asyncio.run(room.show(config, SessionKey.parse(key), limit, everything=everything, as_json=as_json))


@sessions.command("export")
@click.argument("key")
@click.option(
    "--format",
    "form",
    type=click.Choice(("md", "json", "nanobot")),
    default="md",
    show_default=True,
    help="For people; for programs; a session file that nanobot goes on with.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write there instead; nothing is overwritten.",
)
@program_options
@click.pass_context
def export_session(context: click.Context, key: str, form: str, output: Path | None) -> int:
    """Write what was said in KEY to a file of its own.

    It is written to standard output, or to a new FILE, from the last /new on, with what was summarised since.
    nanobot's form holds the live messages and the newest summary; it has no place for a system text or for pins.
    """
    import asyncio

    from nanochat.cli import exporting as room
    from nanochat.keys import SessionKey

    config, _ = settings(context)
    return asyncio.run(room.export(config, SessionKey.parse(key), form, None if output == Path("-") else output))


@sessions.command("reset")
@_of_one
@click.pass_context
def reset_session(context: click.Context, key: str, as_json: bool) -> int:
    """Begin a new conversation in KEY.

    As /new does: the old one stays in the file, and `undo` goes back to it.
    """
    import asyncio

    from nanochat.cli import shelving as room
    from nanochat.keys import SessionKey

    config, _ = settings(context)
    return asyncio.run(room.reset(config, SessionKey.parse(key), as_json=as_json))


@sessions.command("undo")
@_of_one
@click.pass_context
def undo_session(context: click.Context, key: str, as_json: bool) -> int:
    """Take back the last exchange of KEY, or its /new.

    What was said stays in the file; `show --all` shows it.
    """
    import asyncio

    from nanochat.cli import shelving as room
    from nanochat.keys import SessionKey

    config, _ = settings(context)
    return asyncio.run(room.undo(config, SessionKey.parse(key), as_json=as_json))


@sessions.command("archive")
@_of_one
@click.pass_context
def archive_session(context: click.Context, key: str, as_json: bool) -> int:
    """Put KEY's file away.

    It moves to archive/ in the data directory, with a receipt in archive/receipts.jsonl; the next message begins a new file.
    To bring it back, move it to where the receipt says it was.
    """
    import asyncio

    from nanochat.cli import shelving as room
    from nanochat.keys import SessionKey

    config, _ = settings(context)
    return asyncio.run(room.archive(config, SessionKey.parse(key), as_json=as_json))


@sessions.command("delete")
@click.option("--yes", "is_sure", is_flag=True, help="Without it nothing is destroyed.")
@_of_one
@click.pass_context
def delete_session(context: click.Context, key: str, is_sure: bool, as_json: bool) -> int:
    """Remove KEY's file for good. Its pictures and documents over 64 KB stay in blobs/."""
    import asyncio

    from nanochat.cli import shelving as room
    from nanochat.keys import SessionKey

    config, _ = settings(context)
    return asyncio.run(room.delete(config, SessionKey.parse(key), is_sure=is_sure, as_json=as_json))


@sessions.command("check")
@click.argument("key", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per fault.")
@program_options
@click.pass_context
def check_sessions(context: click.Context, key: str | None, as_json: bool) -> int:
    """What is wrong with KEY's file, or with all.

    Line by line; nothing is changed.
    """
    from nanochat.cli import sessions as room
    from nanochat.keys import SessionKey

    config, _ = settings(context)
    return room.check_sessions(config, SessionKey.parse(key) if key is not None else None, as_json=as_json)


sessions.add_command(search)


def _list(context: click.Context, globs: tuple[str, ...], limit: int | None, as_json: bool) -> int:
    import asyncio

    from nanochat.cli import sessions as room

    config, _ = settings(context)
    return asyncio.run(room.list_sessions(config, globs, limit, as_json=as_json))
