"""Whether the settings can be used, each by itself and all together, and the secrets that they ask for.

Knows keys and what they need of each other. Does not know whether anybody answers at an address (`reach`).
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from nanochat.cli.checks.finding import Finding, may, ok, warning, wrong
from nanochat.cli.jobs import from_settings
from nanochat.config import Config, Cron, Endpoint, Reading, Secrets, endpoint_of
from nanochat.errors import JobError, LedgerError, SettingError
from nanochat.jobs import Job, at_words, merged, next_fires
from nanochat.ledger import Made, made_jobs

__all__ = ["every", "files", "has_jobs", "model", "telegram"]

_EXPORT = "export {}=…"


def files(reading: Reading, missing: Path) -> Iterator[Finding]:
    """The settings file, and the environment over it. `missing` is where a file would be made."""
    for fault in reading.faults:
        yield wrong("settings", fault, _mend_of(fault, reading))
    if reading.path is None and not reading.faults:
        yield ok("settings", f"no file at {missing}: every key has its default; nanochat init makes one")
    elif not reading.faults:
        yield ok("settings", str(reading.path))
    if reading.overrides:
        named = ", ".join(f"{name} ({key})" for name, key in reading.overrides)
        yield ok("environment", f"overrides: {named}")


def _mend_of(fault: str, reading: Reading) -> str:
    if fault.startswith("environment: "):
        return "unset or correct it in the environment"
    if fault.endswith("there is no such settings file"):
        return "nanochat init makes one there"
    if reading.path is not None and not may(reading.path, os.R_OK):
        return "make it readable for you"
    return f"correct it in {reading.path}" if reading.path else "correct it"


def every(config: Config, secrets: Secrets, ledger: Path, now: datetime) -> Iterator[Finding]:
    """What settings, secrets and jobs come to; nobody is asked. The jobs that were made are in the `ledger`."""
    local = now.astimezone(ZoneInfo(config.timezone))
    yield ok("time zone", f"{config.timezone}, where it is {local:%Y-%m-%d %H:%M}")
    found = [model(config, secrets)[0], telegram(config, secrets), *_http(config, secrets), *_jobs(config, ledger, now)]
    told = [finding for finding in found if finding is not None]
    yield from told
    yield from _together(config, secrets, [finding.found for finding in told])


def model(config: Config, secrets: Secrets) -> tuple[Finding, Endpoint | None]:
    """Who answers, and whether the key for it is there; with the endpoint, if one can be asked."""
    from nanochat.model.anthropic import AnthropicModel

    try:
        endpoint = endpoint_of(config.model, secrets)
        if endpoint is None:
            return _demo(config), None
        # Refuses a key and an address that cannot be ones; opens nothing.
        AnthropicModel(name=config.model.name, api_key=endpoint.key, auth=endpoint.auth, base_url=endpoint.base_url)
    except SettingError as error:
        return wrong("model key", str(error), _EXPORT.format("ANTHROPIC_API_KEY")), None
    if not config.model.base_url:
        where = endpoint.base_url or "Anthropic"
        return ok("model key", f"ANTHROPIC_API_KEY is set, and is sent to {where}"), endpoint
    if endpoint.key:
        return ok("model key", f"NANOCHAT_MODEL_KEY is set, and is sent to {endpoint.base_url}"), endpoint
    return ok("model key", f"none is sent to {endpoint.base_url}: NANOCHAT_MODEL_KEY is not set"), endpoint


def _demo(config: Config) -> Finding:
    if config.model.provider == "offline":
        return ok("model key", "none is needed: model.provider is offline, the demo model answers")
    return warning(
        "model key",
        "there is none: the demo model answers in the terminal, and nanochat run does not start",
        _EXPORT.format("ANTHROPIC_API_KEY"),
    )


def telegram(config: Config, secrets: Secrets) -> Finding | None:
    """Whether the bot has its token; None where nobody asks for a bot."""
    is_enabled, token = config.telegram.enabled, secrets.telegram_token
    if not is_enabled and not token:
        return None
    if not token:
        return wrong(
            "telegram", "telegram.enabled is true, and there is no token", _EXPORT.format("TELEGRAM_BOT_TOKEN")
        )
    number, colon, _ = token.partition(":")
    if not colon or not number.isdecimal():
        return wrong(
            "telegram",
            "TELEGRAM_BOT_TOKEN is not a bot token",
            "take it from @BotFather; it looks like 123456789:AAE…",
        )
    if not is_enabled:
        return warning(
            "telegram", "TELEGRAM_BOT_TOKEN is set, and telegram.enabled is false", "set telegram.enabled = true"
        )
    known = len({*config.telegram.allow, *config.owner})
    return ok(
        "telegram", f"TELEGRAM_BOT_TOKEN is set; {known} ids may write to it, others are offered a code for pairing"
    )


def _http(config: Config, secrets: Secrets) -> Iterator[Finding]:
    """Whether HTTP can be served; nothing where it is not asked for."""
    if not config.http.enabled:
        return
    lacking = [name for name in ("fastapi", "fastapi_offline", "uvicorn") if importlib.util.find_spec(name) is None]
    if lacking:
        yield wrong("http", f"{' and '.join(lacking)} is not installed", "pip install 'nanochat[http]'")
    elif secrets.http_token:
        yield ok("http", f"NANOCHAT_HTTP_TOKEN is set; served at {config.http.host}:{config.http.port}")
    else:
        told = "NANOCHAT_HTTP_TOKEN is not set, so it is served at a socket in the data directory, and at no port"
        yield ok("http", told)


def _jobs(config: Config, ledger: Path, now: datetime) -> Iterator[Finding]:
    """Whether each job can be kept, and what fires next."""
    kept: list[Job] = []
    for wish in config.cron.jobs:
        try:
            kept += from_settings(Config(timezone=config.timezone, cron=Cron(jobs=(wish,))))
        except JobError as error:
            yield wrong("jobs", str(error), "correct it in the settings")
    try:
        made = made_jobs(ledger)
    except (LedgerError, OSError):
        made = Made()  # it is told of as a file that cannot be read
    every, clashes = merged(kept, made.jobs)
    for clash in clashes:
        yield warning("jobs", str(clash), "give the one in the settings another id")
    for job in every:
        channels = {key.channel for key in job.recipients} if job.enabled else set()
        if "telegram" in channels and not config.telegram.enabled:
            yield warning(
                "jobs", f"job {job.id!r} delivers to telegram, which is not enabled", "set telegram.enabled = true"
            )
    resting = {job_id for job_id, state in (made.states or {}).items() if state.paused}
    coming = [
        (fires[0], job) for job in every if job.enabled and job.id not in resting and (fires := next_fires(job, now, 1))
    ]
    if coming:
        fire, job = min(coming, key=lambda pair: pair[0])
        yield ok("jobs", f"{len(every)}; next: {job.id}, {at_words(fire, job.zone)}")
    elif every:
        yield ok("jobs", f"{len(every)}, of which none is to fire")


def has_jobs(config: Config, ledger: Path) -> bool:
    """Whether there is anything to fire."""
    try:
        made = made_jobs(ledger)
    except (LedgerError, OSError):
        made = Made()
    resting = {job_id for job_id, state in (made.states or {}).items() if state.paused}
    enabled = [job.id for job in config.cron.jobs if job.enabled] + [job.id for job in made.jobs if job.enabled]
    return any(job_id not in resting for job_id in enabled)


def _together(config: Config, secrets: Secrets, told: Collection[str]) -> Iterator[Finding]:
    """What only shows when the parts are put together, and is not among those `told`."""
    try:
        asyncio.run(_assemble(config, secrets))
    except SettingError as error:
        if str(error) not in told:
            yield wrong("settings", str(error), "correct it in the settings")


async def _assemble(config: Config, secrets: Secrets) -> None:
    """Nothing is opened before it is used."""
    from nanochat.cli.wiring import assemble

    async with assemble(config, secrets, interactive=False):
        return
