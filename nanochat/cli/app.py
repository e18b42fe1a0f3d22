"""The program and its commands: those that stand alone, and those that `menu` keeps by subject.

Knows names and words. Does not know what a command does: each loads its own room when it runs, so that `--help` is at once
there.
"""

from __future__ import annotations

from functools import partial

import click

import nanochat
from nanochat.cli.menu.cron import cron
from nanochat.cli.menu.importing import importing
from nanochat.cli.menu.service import service
from nanochat.cli.menu.sessions import sessions
from nanochat.cli.menu.setup import doctor, init
from nanochat.cli.menu.tail import tail
from nanochat.cli.menu.telegram import telegram
from nanochat.cli.menu.usage import usage
from nanochat.cli.options import WORD, Program, State, load, program_options, secrets_of, settings

__all__ = ["app"]


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(nanochat.__version__, message="nanochat %(version)s")
@program_options
def app() -> None:
    """A personal assistant whose every conversation is one plain JSONL file.

    Without a command: chat.
    """


@app.command()
@click.option(
    "-s", "--session", "key", default="cli:default", metavar="KEY", show_default=True, help="The conversation."
)
@click.option("-m", "--message", metavar="TEXT", help="One message, one answer; - reads standard input.")
@click.option("--system", metavar="TEXT", help="Set what the model is told about its part, in this conversation.")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is complete.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per event.")
@program_options
@click.pass_context
def chat(
    context: click.Context, key: str, message: str | None, system: str | None, no_stream: bool, as_json: bool
) -> int:
    """Talk: interactively, or once with -m or a pipe.

    A file or pipe beside -m TEXT is put below the text, if the pipe's first byte comes within 2 s.
    """
    from nanochat.cli import chat as room

    wish = room.Wish(key, message, system, stream=not no_stream, as_json=as_json)
    config, secrets = settings(context)
    return room.chat(config, secrets, wish)


@app.command()
@program_options
@click.pass_context
def run(context: click.Context) -> int:
    """Serve every enabled channel, in the foreground, until a signal."""
    import asyncio

    from nanochat.cli import run as room

    state = context.find_root().ensure_object(State)
    secrets, reload = secrets_of(state), partial(load, state)
    return asyncio.run(room.run(reload(), secrets, reload))


@app.command()
@click.argument("subject", metavar="[SOURCE_ID|KEY]", type=WORD, required=False, default="")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest last.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per message.")
@program_options
@click.pass_context
def why(context: click.Context, subject: str, limit: int, as_json: bool) -> int:
    """What became of a message: of one, of a session's, or of all."""
    from nanochat.cli import why as room

    config, _ = settings(context)
    return room.why(config, subject, limit, as_json=as_json)


for group in (sessions, cron, telegram, service, usage, init, doctor, tail, importing):
    app.add_command(group)
