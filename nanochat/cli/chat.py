"""`nanochat chat`: opens the house, and hands its doors to the terminal.

Knows standard input, and which form of talking was asked for. Does not know how a reply is shown.
"""

from __future__ import annotations

import asyncio
import getpass
import importlib
import os
import select
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from nanochat.channels.terminal.frames import inbound
from nanochat.config import Config, Secrets, endpoint_of
from nanochat.events import Inbound, Sender
from nanochat.keys import SessionKey
from nanochat.records import MAX_LINE_BYTES

__all__ = ["Wish", "chat"]

# So long `-m TEXT` waits for the first byte of a pipe. Much longer than `git diff` takes to begin; and cron, ssh and service
# managers leave pipes open through which nothing ever comes, where waiting for the end would be waiting for ever.
_PIPE_S = 2.0


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of `nanochat chat`, as they were typed."""

    key: str
    message: str | None
    system: str | None
    stream: bool
    as_json: bool


def chat(config: Config, secrets: Secrets, wish: Wish) -> int:
    """Talk, once or until the person leaves; returns the exit code.

    Raises:
        KeyFormError: the session's key cannot be one.
        click.UsageError: there is nothing to say, too much, or no terminal to talk at.
    """
    key = SessionKey.parse(wish.key)
    sender = Sender("cli", _login_name(), owner=True)
    message = _message(wish)  # before there is a loop: reading may wait long, and Ctrl-C ends that
    if message is None:
        return asyncio.run(_converse(config, secrets, wish, key, sender))
    return asyncio.run(_say(config, secrets, wish, inbound(key, sender, message)))


async def _say(config: Config, secrets: Secrets, wish: Wish, message: Inbound) -> int:
    key = message.key
    from nanochat.channels.terminal.once import once
    from nanochat.cli.wiring import assemble

    async with assemble(config, secrets, interactive=False) as house:
        if wish.system is not None:
            await house.set_system(key, wish.system)
        if waiting := await house.close_orphans(key):
            them = "a message that was" if waiting == 1 else f"{waiting} messages that were"
            print(
                f"nanochat: {them} typed here before and never answered: nanochat chat -s {key} goes on with it",
                file=sys.stderr,
            )
        if key.channel != "cli":
            print(f"nanochat: you speak in {key} from here: {key.channel} is not shown this", file=sys.stderr)
        return await once(house.handler, message, as_json=wish.as_json, stream=wish.stream)


async def _converse(config: Config, secrets: Secrets, wish: Wish, key: SessionKey, sender: Sender) -> int:
    """Show the prompt first; the house is built behind it, since loading its rooms takes longer than a person notices."""
    from nanochat.channels.terminal.chat import Doors, Setting, converse

    @asynccontextmanager
    async def open_doors() -> AsyncIterator[Doors]:
        await asyncio.to_thread(importlib.import_module, "nanochat.cli.wiring")
        from nanochat.cli.wiring import assemble
        from nanochat.turn.commands import COMMANDS

        commands = {f"/{command.name}": command.summary for command in COMMANDS}
        async with assemble(config, secrets, interactive=True) as house:

            async def keys() -> list[str]:
                return [str(brief.key) for brief in await house.store.list()]

            if wish.system is not None:
                await house.set_system(key, wish.system)
            yield Doors(house.handler, house.watch, house.recall, house.resume, house.warm, keys, commands)

    offline = endpoint_of(config.model, secrets) is None
    return await converse(
        open_doors,
        Setting(
            key=key,
            sender=sender,
            model_name="offline" if offline else config.model.name,
            offline=offline,
            history_path=Path(config.data_dir, "history"),
        ),
    )


def _message(wish: Wish) -> str | None:
    """What is to be said once, or None for a conversation."""
    text = wish.message
    if text == "-" or (text is None and not (sys.stdin and sys.stdin.isatty())):
        text = _read()
        source = "standard input"
    else:
        source = "-m"
    if text is None:
        _check_terminal(wish)
        return None
    # Bytes of the command line that are no text arrive as halves of characters, which no model takes.
    text = text.encode(errors="surrogateescape").decode(errors="replace").strip("\n")
    if source == "-m" and _has_piped():
        text = "\n\n".join(part for part in (text, _read().strip("\n")) if part.strip())
    if not text.strip():
        raise click.UsageError(f"{source} is empty: there is nothing to say", click.get_current_context(silent=True))
    return text


def _read() -> str:
    """All of standard input."""
    raw = sys.stdin.buffer.read(MAX_LINE_BYTES + 1) if sys.stdin else b""
    if len(raw) > MAX_LINE_BYTES:
        limit = MAX_LINE_BYTES // 1024**2
        raise click.UsageError(
            f"standard input is more than a message may be ({limit} MiB)", click.get_current_context(silent=True)
        )
    return raw.decode(errors="replace")


def _has_piped() -> bool:
    """Whether something beside the message comes through a pipe, or from a file; waits for a pipe's first byte or end."""
    try:
        descriptor = sys.stdin.fileno() if sys.stdin else -1
        mode = os.fstat(descriptor).st_mode
    except OSError:  # there is no descriptor, or it was closed
        return False
    if stat.S_ISREG(mode):
        return True
    if not stat.S_ISFIFO(mode):
        return False
    if select.select([descriptor], [], [], _PIPE_S)[0]:
        return True
    print(
        f"nanochat: nothing came through the pipe within {_PIPE_S:g} s, and it is left aside; -m - waits for its end",
        file=sys.stderr,
    )
    return False


def _check_terminal(wish: Wish) -> None:
    context = click.get_current_context(silent=True)
    if wish.as_json or not wish.stream:
        raise click.UsageError("--json and --no-stream go with -m or a pipe", context)
    if not sys.stdout.isatty():
        raise click.UsageError("standard output is no terminal: say it with -m or through a pipe", context)
    if os.environ.get("TERM", "") in {"", "dumb", "unknown"}:
        raise click.UsageError("this terminal cannot move its cursor: say it with -m or through a pipe", context)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id need not have a name
        return str(os.getuid())
