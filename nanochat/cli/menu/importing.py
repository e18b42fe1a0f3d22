"""`nanochat import`: the words of its commands."""

from __future__ import annotations

from pathlib import Path

import click

from nanochat.cli.options import program_options, settings

__all__ = ["importing"]


@click.group("import")
@program_options
def importing() -> None:
    """Conversations of other programs, brought over."""


@importing.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be brought over, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
@program_options
@click.pass_context
def nanobot(context: click.Context, directory: Path, dry_run: bool, as_json: bool) -> int:
    """Bring over nanobot's sessions, and what it remembers; its own files stay as they are.

    DIR is ~/.nanobot, a workspace of nanobot's, or a directory of its sessions. What is here already is left alone, so a second
    import brings over what is new only.
    """
    from nanochat.cli import importing as room

    config, _ = settings(context)
    return room.from_nanobot(config, room.Wish(directory, dry_run, as_json))
