"""`nanochat cron`: the words of its commands."""

from __future__ import annotations

from typing import Any

import click

from nanochat.cli.options import WORD, program_options, settings

__all__ = ["cron"]


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per job.")
@program_options
@click.pass_context
def cron(context: click.Context, as_json: bool) -> int:
    """What happens by the clock: jobs, their next fires, and what came of them."""
    return _list_jobs(context, as_json) if context.invoked_subcommand is None else 0


@cron.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per job.")
@program_options
@click.pass_context
def list_jobs(context: click.Context, as_json: bool) -> int:
    """Every job, of the settings and made."""
    return _list_jobs(context, as_json)


def _list_jobs(context: click.Context, as_json: bool) -> int:
    from nanochat.cli import cron as room

    config, _ = settings(context)
    return room.list_jobs(config, as_json=as_json)


@cron.command("next")
@click.argument("job_id", metavar="[ID]", type=WORD, required=False, default="")
@click.option("-n", "--count", type=click.IntRange(min=1), default=10, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per fire.")
@program_options
@click.pass_context
def next_fires(context: click.Context, job_id: str, count: int, as_json: bool) -> int:
    """What is to come, of all jobs or of one, in local time."""
    from nanochat.cli import cron as room

    config, _ = settings(context)
    return room.next_runs(config, job_id, count, as_json=as_json)


@cron.command("history")
@click.argument("job_id", metavar="[ID]", type=WORD, required=False, default="")
@click.option("-n", "--count", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest last.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per fire.")
@program_options
@click.pass_context
def job_history(context: click.Context, job_id: str, count: int, as_json: bool) -> int:
    """What ran, was delivered, missed or skipped; of one job with what it said."""
    from nanochat.cli import cron as room

    config, _ = settings(context)
    return room.history(config, job_id, count, as_json=as_json)


@cron.command("add")
@click.option("--id", "job_id", metavar="ID", type=WORD, default="", help="Its name; default: from its text.")
@click.option("--cron", "fields", metavar="FIELDS", type=WORD, default="", help="When: '0 8 * * mon-fri', or @daily.")
@click.option("--every", metavar="DISTANCE", type=WORD, default="", help="When: 90s, 15m, 2h or 1d, counted from now.")
@click.option("--at", metavar="TIME", type=WORD, default="", help="When, once: 2026-12-24T18:00.")
@click.option(
    "--timezone", metavar="ZONE", type=WORD, default="", help="The zone of --cron and --at; default: the settings'."
)
@click.option("--text", metavar="TEXT", type=WORD, default="", help="Deliver this as it stands.")
@click.option(
    "--prompt", metavar="TEXT", type=WORD, default="", help="Ask the assistant this; for a summary, what to look for."
)
@click.option("--summary", "sources", metavar="SOURCE", multiple=True, help="Sum up a session or glob: telegram:*.")
@click.option("--deliver-to", metavar="KEY", multiple=True, help="Who gets it: telegram:77; without, it is recorded.")
@click.option(
    "--missed", metavar="POLICY", type=WORD, default="once", show_default=True, help="once, skip, or within:30m."
)
@click.option("--quiet", is_flag=True, help="A summary of nothing new says nothing.")
@program_options
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
@click.argument("job_id", metavar="ID", type=WORD)
@program_options
@click.pass_context
def remove_job(context: click.Context, job_id: str) -> int:
    """Take a job away; what came of it is kept."""
    import asyncio

    from nanochat.cli import cron as room

    config, _ = settings(context)
    return asyncio.run(room.remove(config, job_id))


@cron.command("pause")
@click.argument("job_id", metavar="ID", type=WORD)
@program_options
@click.pass_context
def pause_job(context: click.Context, job_id: str) -> int:
    """Let a job rest; what falls due meanwhile is not made up for."""
    import asyncio

    from nanochat.cli import cron as room

    config, _ = settings(context)
    return asyncio.run(room.pause(config, job_id))


@cron.command("resume")
@click.argument("job_id", metavar="ID", type=WORD)
@program_options
@click.pass_context
def resume_job(context: click.Context, job_id: str) -> int:
    """Let a job fire again, from now on."""
    import asyncio

    from nanochat.cli import cron as room

    config, _ = settings(context)
    return asyncio.run(room.resume(config, job_id))


@cron.command("run")
@click.argument("job_id", metavar="ID", type=WORD)
@program_options
@click.pass_context
def run_job(context: click.Context, job_id: str) -> int:
    """Have a job run now, out of its turn."""
    import asyncio

    from nanochat.cli import cron as room

    config, _ = settings(context)
    return asyncio.run(room.run_now(config, job_id))
