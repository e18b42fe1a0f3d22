"""`nanochat init` and `nanochat doctor`: the words of the commands that get one going, and that help when nothing goes."""

from __future__ import annotations

import os

import click

from nanochat.cli.options import State, program_options, secrets_of

__all__ = ["doctor", "init"]


@click.command()
@click.option("--yes", is_flag=True, help="Ask nothing, and take every default.")
@program_options
@click.pass_context
def init(context: click.Context, yes: bool) -> int:
    """Make a commented settings file, after a few questions, and look whether all is there.

    It is made where --config or NANOCHAT_CONFIG says, else where nanochat looks for it. What is set already is never changed.
    """
    from nanochat.cli import init as room

    state = context.find_root().ensure_object(State)
    return room.init(state.config, state.data_dir, os.environ, secrets_of(state), yes=yes)


@click.command()
@click.option("--offline", is_flag=True, help="Ask nobody over the network.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per finding.")
@program_options
@click.pass_context
def doctor(context: click.Context, offline: bool, as_json: bool) -> int:
    """What is wrong, and how to mend it; nothing is changed. Exit code 1 if anything is wrong.

    The model's endpoint and Telegram are asked whether they take the key and the token; that costs nothing.
    """
    from nanochat import config, log
    from nanochat.cli import doctor as room
    from nanochat.errors import SettingError

    state = context.find_root().ensure_object(State)
    secrets, fault = config.Secrets(), ""
    try:
        secrets = secrets_of(state)
    except SettingError as error:
        fault = str(error)
    context.with_resource(log.written(debug=state.debug, secrets=secrets.values))
    reading = config.examine(state.config, state.data_dir, os.environ)
    place = config.new_config(state.config, os.environ)
    return room.doctor(room.Patient(reading, secrets, place, fault), offline=offline, as_json=as_json)
