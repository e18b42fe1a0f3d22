"""`nanochat run`: the daemon in the foreground, with every channel that the settings enable.

Knows which setting makes which channel, and what a SIGHUP may change. Does not know how the daemon goes about it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import nanochat
from nanochat import journal
from nanochat.cli.house import House
from nanochat.cli.places import HTTP_SOCKET, WAKE, data_dir
from nanochat.cli.wiring import assemble
from nanochat.config import Config, Secrets, changed_keys, endpoint_of
from nanochat.daemon import ChannelState, Daemon, Reloaded
from nanochat.doors import ChannelHealth, Health, LiveTurns
from nanochat.errors import SettingError
from nanochat.jobs import Job
from nanochat.keys import SessionKey
from nanochat.ports import Channel
from nanochat.process.patience import Patience
from nanochat.process.systemd import Systemd
from nanochat.turn.assistant import contained

if TYPE_CHECKING:
    from nanochat.channels.cron import Clock

__all__ = ["Gated", "put_away_silent", "run", "serve"]

_log = logging.getLogger(__name__)

_DAY_S = 24 * 3600.0

# What a client can send, and a proxy does not change; none at all is the socket's.
_TOKEN = re.compile(r"[!-~]*")

# What a reload goes by at once; everything else waits for a restart.
AT_ONCE = ("limits.", "telegram.allow", "log.level", "cron.jobs")


class Gated(Channel, Protocol):
    """A channel that hears some people only."""

    def set_allowed(self, allow: Iterable[int]) -> None: ...

    def remarks(self) -> Sequence[str]:
        """What `/status` says of the channel."""
        ...


async def run(config: Config, secrets: Secrets, load: Callable[[], Config]) -> int:
    """Serve until a signal; `load` reads the settings anew. Returns the exit code.

    Raises:
        SettingError: there is nothing to serve, or nobody to answer.
        LeaseHeld: another daemon has the data directory.
    """
    if endpoint_of(config.model, secrets) is None and config.model.provider != "offline":
        raise SettingError(
            'there is no key: set ANTHROPIC_API_KEY or model.base_url, or model.provider = "offline" for the demo model'
        )
    if config.telegram.enabled and not secrets.telegram_token:
        raise SettingError("telegram.enabled is true, but there is no token: set TELEGRAM_BOT_TOKEN")
    if config.http.enabled and not all(map(find_spec, ("fastapi", "fastapi_offline", "uvicorn"))):
        raise SettingError("http.enabled is true, but what it needs is not installed: pip install 'nanochat[http]'")
    if config.http.enabled and not _TOKEN.fullmatch(secrets.http_token):
        raise SettingError("NANOCHAT_HTTP_TOKEN cannot be sent in a header: it takes printable ASCII without spaces")
    async with assemble(config, secrets, interactive=True) as house:
        await serve(
            config, secrets, load, house, _telegram(config, secrets, house) if config.telegram.enabled else None
        )
    return 0


async def serve(
    config: Config, secrets: Secrets, load: Callable[[], Config], house: House, people: Gated | None
) -> None:
    """Have a daemon serve the channel of `people`, if there is one, HTTP if it is enabled, and the jobs; and write the log."""
    from nanochat.channels.cron import Clock
    from nanochat.channels.fires import Fires

    patience = Patience()
    book = house.ledger.jobs
    clock = Clock(book, house.jobs())

    async def job_of(job_id: str) -> Job | None:
        # What a former process left is worked off before the clock has looked at its jobs.
        return clock.job(job_id) or next((job for job in [*house.jobs(), *await book.all()] if job.id == job_id), None)

    async def deliver(key: SessionKey, text: str, origin: str, source_id: str) -> bool:
        return await worker.deliver(key, text, origin, source_id)

    fires = Fires(clock, book, deliver, job_of)
    channels: list[Channel] = [fires] if people is None else [people, fires]
    if config.http.enabled:
        live = house.live(lambda inbound, emit, digest: worker.begin(inbound, emit, digest))
        channels.append(_http(config, secrets, house, live, lambda: _healths(daemon.states)))
    worker = house.hire({channel.name: channel for channel in channels}, patience, job_of)
    if people is not None:
        house.remark(people.name, people.remarks)
    form, content = config.log.format, config.log.content
    with journal.written(level=config.log.level, form=form, content=content, secrets=secrets.values) as log:

        def follow(new: Config) -> None:
            house.limit(new)
            clock.set_jobs(house.jobs())
            clock.look()
            worker.limit(new.limits.concurrent_turns)
            if people is not None:
                people.set_allowed(new.telegram.allow)
            log.set_level(new.log.level)

        def hear() -> None:
            worker.look_around()
            clock.look()

        async def keep_house() -> None:
            await house.warm()
            # The first search over years of conversations would take longer than a tool may.
            with contained(lambda error: _log.error("the search index: %s", error)):
                await house.search.sync()
            await put_away_silent(house, config.sessions.archive_after_days, clock, patience)

        daemon = Daemon(
            channels,
            worker,
            patience,
            bell=data_dir(config) / WAKE,
            grace_s=config.limits.grace_s,
            reload=_Reload(config, load, follow),
            warm=keep_house,
            systemd=Systemd(os.environ),
            heard=hear,
        )
        await daemon.run()


@dataclass
class _Reload:
    """See `daemon.Reload`: `load` reads the settings, `follow` goes by what may change at once."""

    config: Config
    load: Callable[[], Config]
    follow: Callable[[Config], None]

    def __call__(self) -> Reloaded:
        new = self.load()
        self.follow(new)
        waiting = [name for name in changed_keys(self.config, new) if not name.startswith(AT_ONCE)]
        return Reloaded(tuple(waiting), new.limits.grace_s)


async def put_away_silent(house: House, days: int, clock: Clock, patience: Patience) -> None:
    """Each day, archive the sessions that were silent for so many days, until the end; 0 is never.

    Left where they are: sessions in a turn, those that messages wait for, and those of jobs that there are.
    """
    while days:
        waiting: set[SessionKey] = set()

        def is_wanted(key: SessionKey) -> bool:
            return key in waiting or (key.channel == "cron" and clock.job(key.chat_id) is not None)  # noqa: B023 - used at once

        with contained(lambda error: _log.error("archiving silent sessions: %s", error)):
            waiting.update(await house.ledger.inbox.keys())
            swept = await house.catalog.archive_silent(timedelta(days=days), is_wanted)
            for archived in swept.archived:
                _log.info("%s was silent for %d days, and is now %s", archived.key, days, archived.moved_to)
            for fault in swept.faults:
                _log.error("archiving silent sessions: %s", fault)
        if not await patience.wait(_DAY_S):
            return


def _healths(states: Mapping[str, ChannelState]) -> list[ChannelHealth]:
    return [
        ChannelHealth(name, state.is_up, state.since, state.error, state.restarts) for name, state in states.items()
    ]


def _http(config: Config, secrets: Secrets, house: House, live: LiveTurns, health: Health) -> Channel:
    from nanochat.channels.http import Http, HttpSettings

    settings = HttpSettings(
        host=config.http.host,
        port=config.http.port,
        token=secrets.http_token,
        socket_path=data_dir(config) / HTTP_SOCKET,
    )
    return Http(settings, live, house.catalog, house.follow, health, version=nanochat.__version__)


def _telegram(config: Config, secrets: Secrets, house: House) -> Gated:
    from nanochat.channels.telegram import Telegram, TelegramSettings
    from nanochat.turn.commands import COMMANDS

    settings = TelegramSettings(
        token=secrets.telegram_token,
        base_url=config.telegram.base_url,
        allow=config.telegram.allow,
        owner=config.owner,
        groups=config.telegram.groups,
        stream=config.telegram.stream,
    )
    menu = [(command.name, command.summary) for command in COMMANDS if not command.terminal]
    return Telegram(settings, house.ledger.pairings, menu)
