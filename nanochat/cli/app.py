"""The commands, their options and their help.

Knows names and words. Does not know what a command does: each loads its own module when it runs, so that `--help` is at once
there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import nanochat

if TYPE_CHECKING:
    from nanochat.config import Config, Secrets

__all__ = ["State", "app", "settings"]

_C = TypeVar("_C", bound=Callable[..., object])

# Of the whole program, and accepted behind any command as well: where one types them is nobody's concern.
_WITH_VALUE = ("--config", "--data-dir")
# "It has at most 52 significant bits": https://core.telegram.org/bots/api#user, read 2026-11-20.
_MAX_USER_ID = 2**52 - 1

_FLAGS = ("--debug", "--version", "-h", "--help")


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
    secrets = _secrets(state)
    context.with_resource(log.written(debug=state.debug, secrets=secrets.values))
    return _load(state), secrets


def _secrets(state: State) -> Secrets:
    from nanochat import config

    secrets = config.Secrets.load(os.environ)
    state.secrets = secrets.values
    return secrets


def _load(state: State) -> Config:
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


def _program_options(command: _C) -> _C:
    path = click.Path(path_type=Path)
    for option in (
        click.option("--debug", is_flag=True, expose_value=False, callback=_keep, help="Log, and show tracebacks."),
        click.option("--data-dir", type=path, metavar="DIR", expose_value=False, callback=_keep, help="Where data is."),
        click.option("--config", type=path, metavar="FILE", expose_value=False, callback=_keep, help="The settings."),
    ):
        command = option(command)
    return command


class _App(click.Group):
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


@click.group(cls=_App, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(nanochat.__version__, message="nanochat %(version)s")
@_program_options
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
@_program_options
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


@app.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per session.")
@_program_options
@click.pass_context
def sessions(context: click.Context, as_json: bool) -> int:
    """The conversations there are."""
    if context.invoked_subcommand is None:
        return _list(context, as_json)
    return 0


@sessions.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per session.")
@_program_options
@click.pass_context
def list_sessions(context: click.Context, as_json: bool) -> int:
    """Every conversation, newest first."""
    return _list(context, as_json)


@sessions.command("check")
@click.argument("key", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per fault.")
@_program_options
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


@app.command()
@_program_options
@click.pass_context
def run(context: click.Context) -> int:
    """Serve every enabled channel, in the foreground, until a signal."""
    import asyncio

    from nanochat.cli import run as room

    state = context.find_root().ensure_object(State)
    secrets, load = _secrets(state), partial(_load, state)
    return asyncio.run(room.run(load(), secrets, load))


@app.command()
@click.argument("subject", metavar="[SOURCE_ID|KEY]", required=False, default="")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest last.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per message.")
@_program_options
@click.pass_context
def why(context: click.Context, subject: str, limit: int, as_json: bool) -> int:
    """What became of a message: of one, of a session's, or of all."""
    from nanochat.cli import why as room

    config, _ = settings(context)
    return room.why(config, subject, limit, as_json=as_json)


@app.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per job.")
@_program_options
@click.pass_context
def cron(context: click.Context, as_json: bool) -> int:
    """What happens by the clock: jobs, their next fires, and what came of them."""
    return _list_jobs(context, as_json) if context.invoked_subcommand is None else 0


@cron.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per job.")
@_program_options
@click.pass_context
def list_jobs(context: click.Context, as_json: bool) -> int:
    """Every job, of the settings and made."""
    return _list_jobs(context, as_json)


def _list_jobs(context: click.Context, as_json: bool) -> int:
    from nanochat.cli import cron as room

    config, _ = settings(context)
    return room.list_jobs(config, as_json=as_json)


@cron.command("next")
@click.argument("job_id", metavar="[ID]", required=False, default="")
@click.option("-n", "--count", type=click.IntRange(min=1), default=10, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per fire.")
@_program_options
@click.pass_context
def next_fires(context: click.Context, job_id: str, count: int, as_json: bool) -> int:
    """What is to come, of all jobs or of one, in local time."""
    from nanochat.cli import cron as room

    config, _ = settings(context)
    return room.next_runs(config, job_id, count, as_json=as_json)


@cron.command("history")
@click.argument("job_id", metavar="[ID]", required=False, default="")
@click.option("-n", "--count", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest last.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per fire.")
@_program_options
@click.pass_context
def job_history(context: click.Context, job_id: str, count: int, as_json: bool) -> int:
    """What ran, was delivered, missed or skipped; of one job with what it said."""
    from nanochat.cli import cron as room

    config, _ = settings(context)
    return room.history(config, job_id, count, as_json=as_json)


@cron.command("add")
@click.option("--id", "job_id", metavar="ID", default="", help="Its name; default: from its text.")
@click.option("--cron", "fields", metavar="FIELDS", default="", help="When: '0 8 * * mon-fri', or @daily.")
@click.option("--every", metavar="DISTANCE", default="", help="When: 90s, 15m, 2h or 1d, counted from now.")
@click.option("--at", metavar="TIME", default="", help="When, once: 2026-12-24T18:00.")
@click.option("--timezone", metavar="ZONE", default="", help="The zone of --cron and --at; default: the settings'.")
@click.option("--text", metavar="TEXT", default="", help="Deliver this as it stands.")
@click.option("--prompt", metavar="TEXT", default="", help="Ask the assistant this; for a summary, what to look for.")
@click.option("--summary", "sources", metavar="SOURCE", multiple=True, help="Sum up a session or glob: telegram:*.")
@click.option("--deliver-to", metavar="KEY", multiple=True, help="Who gets it: telegram:77; without, it is recorded.")
@click.option("--missed", metavar="POLICY", default="once", show_default=True, help="once, skip, or within:30m.")
@click.option("--quiet", is_flag=True, help="A summary of nothing new says nothing.")
@_program_options
@click.pass_context
def add_job(context: click.Context, /, **typed: Any) -> int:  # Any: the options above, by their names
    """Make a job: exactly one of --cron, --every and --at, and one of --text, --prompt and --summary."""
    import asyncio

    from nanochat.cli import cron as room

    config, _ = settings(context)
    sources = tuple(word for source in typed.pop("sources") for word in source.replace(",", " ").split())
    wish = room.Wish(cron=typed.pop("fields"), sources=sources, **typed)
    return asyncio.run(room.add(config, wish))


@cron.command("remove")
@click.argument("job_id", metavar="ID")
@_program_options
@click.pass_context
def remove_job(context: click.Context, job_id: str) -> int:
    """Take a job away; what came of it is kept."""
    import asyncio

    from nanochat.cli import cron as room

    config, _ = settings(context)
    return asyncio.run(room.remove(config, job_id))


@cron.command("pause")
@click.argument("job_id", metavar="ID")
@_program_options
@click.pass_context
def pause_job(context: click.Context, job_id: str) -> int:
    """Let a job rest; what falls due meanwhile is not made up for."""
    import asyncio

    from nanochat.cli import cron as room

    config, _ = settings(context)
    return asyncio.run(room.pause(config, job_id))


@cron.command("resume")
@click.argument("job_id", metavar="ID")
@_program_options
@click.pass_context
def resume_job(context: click.Context, job_id: str) -> int:
    """Let a job fire again, from now on."""
    import asyncio

    from nanochat.cli import cron as room

    config, _ = settings(context)
    return asyncio.run(room.resume(config, job_id))


@cron.command("run")
@click.argument("job_id", metavar="ID")
@_program_options
@click.pass_context
def run_job(context: click.Context, job_id: str) -> int:
    """Have a job run now, out of its turn."""
    import asyncio

    from nanochat.cli import cron as room

    config, _ = settings(context)
    return asyncio.run(room.run_now(config, job_id))


@app.group()
@_program_options
def telegram() -> None:
    """Who may talk to the bot."""


@telegram.command()
@click.argument("code")
@_program_options
@click.pass_context
def pair(context: click.Context, code: str) -> int:
    """Let in whoever was given this CODE by the bot."""
    import asyncio

    from nanochat.cli import telegram as room

    config, _ = settings(context)
    return asyncio.run(room.pair(config, code))


@telegram.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per person.")
@_program_options
@click.pass_context
def pairings(context: click.Context, as_json: bool) -> int:
    """Who was let in, and who was offered a code."""
    from nanochat.cli import telegram as room

    config, _ = settings(context)
    return room.pairings(config, as_json=as_json)


@telegram.command()
@click.argument("user_id", metavar="ID", type=click.IntRange(1, _MAX_USER_ID))
@_program_options
@click.pass_context
def revoke(context: click.Context, user_id: int) -> int:
    """Let this person in no longer."""
    import asyncio

    from nanochat.cli import telegram as room

    config, _ = settings(context)
    return asyncio.run(room.revoke(config, user_id))


@app.group()
@_program_options
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
@_program_options
@click.pass_context
def install(context: click.Context, system: bool, dry_run: bool) -> int:
    """Write the unit, start it now and with every boot or login."""
    from nanochat.cli import service as room

    config, _ = settings(context)
    return room.install(room.Place.of(system=system), config, context.find_root().ensure_object(State).config, dry_run)


@service.command()
@_service_options
@_program_options
@click.pass_context
def status(context: click.Context, system: bool, dry_run: bool) -> int:
    """Whether it is installed and runs."""
    from nanochat.cli import service as room

    settings(context)
    return room.status(room.Place.of(system=system), dry_run)


@service.command()
@_service_options
@_program_options
@click.pass_context
def uninstall(context: click.Context, system: bool, dry_run: bool) -> int:
    """Stop it and take the unit away; conversations and settings stay."""
    from nanochat.cli import service as room

    settings(context)
    return room.uninstall(room.Place.of(system=system), dry_run)
