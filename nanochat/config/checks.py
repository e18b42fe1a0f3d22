"""What a value must be beyond its type, and what may not stand together.

Knows the meaning of single settings. Does not know where a value came from: `where` gives the beginning of a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from nanochat.config.sections import Config, Job, Model
from nanochat.errors import KeyFormError, SettingError
from nanochat.keys import SessionKey

__all__ = ["check", "system_timezone"]

_DISTANCE = re.compile(r"[1-9]\d{0,8}[smhd]\Z")
_MISSED = re.compile(r"(once|skip|within:[1-9]\d{0,8}[smhd])\Z")


def check(config: Config, where: Callable[[str], str], refuse: Callable[[SettingError], None]) -> None:
    """Refuse what no room could use, in one line each.

    Args:
        config: as it was read.
        where: by dotted key, where its value stands.
        refuse: is given each refusal, and may raise it.
    """
    for rule in _rules(config, where):
        try:
            rule()
        except SettingError as error:
            refuse(error)


def _rules(config: Config, where: Callable[[str], str]) -> Iterator[Callable[[], None]]:
    yield partial(_zone, config.timezone, where("timezone"))
    yield partial(_url, config.model.base_url, where("model.base_url"))
    yield partial(_url, config.telegram.base_url, where("telegram.base_url"))
    yield partial(_model, config.model, where)
    seen: set[str] = set()
    for place, job in enumerate(config.cron.jobs):
        yield partial(_job, job, f"cron.jobs[{place}].", where, frozenset(seen))
        seen.add(job.id)


def _model(model: Model, where: Callable[[str], str]) -> None:
    if not model.name.strip():
        raise SettingError(f"{where('model.name')} is empty: it takes the id of a model")
    if model.system_prompt and model.system_prompt_file:
        raise SettingError(
            f"{where('model.system_prompt_file')} stands beside model.system_prompt: only one of them can"
        )


def _zone(name: str, where: str) -> None:
    if name and not _is_zone(name):
        raise SettingError(f"{where} is {name!r}: it takes the name of a time zone, as in 'Europe/Berlin'")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    # Odd names reach the file system: a directory, a name too long, a path upwards.
    except (OSError, ValueError, KeyError):
        return name == "UTC"
    return True


def _url(url: str, where: str) -> None:
    if url and not re.match(r"https?://[^\s/]+", url):
        raise SettingError(f"{where} is {url[:60]!r}: it takes an address that begins with http:// or https://")


def _job(job: Job, prefix: str, where: Callable[[str], str], taken: frozenset[str]) -> None:
    try:
        SessionKey("cron", job.id)
    except KeyFormError as error:
        raise SettingError(f"{where(prefix + 'id')} is {job.id!r}: it takes a name without spaces around it") from error
    if sum(map(bool, (job.cron, job.every, job.at))) != 1:
        raise SettingError(f"{where(prefix + 'cron')}: job {job.id!r} takes exactly one of cron, every and at")
    if job.every and not _DISTANCE.match(job.every):
        raise SettingError(
            f"{where(prefix + 'every')} is {job.every!r}: it takes a distance such as 90s, 15m, 2h or 1d"
        )
    if job.at and not _is_time(job.at):
        raise SettingError(f"{where(prefix + 'at')} is {job.at!r}: it takes a time such as 2026-12-24T18:00")
    if not _MISSED.match(job.missed):
        raise SettingError(f"{where(prefix + 'missed')} is {job.missed!r}: it takes once, skip, or within:30m")
    _zone(job.timezone, where(prefix + "timezone"))
    needed = {"prompt": ("prompt", job.prompt), "text": ("text", job.text), "summary": ("sources", job.sources)}
    name, value = needed[job.kind]
    if not value:
        raise SettingError(f"{where(prefix + name)} is missing: a job of kind {job.kind!r} takes it")
    for source in job.sources:
        if not re.match(r"[^\s:]+:.", source):
            raise SettingError(
                f"{where(prefix + 'sources')} has {source!r}: it takes keys or globs, as in 'telegram:*'"
            )
    for recipient in job.recipients:
        try:
            SessionKey.parse(recipient)
        except KeyFormError as error:
            raise SettingError(f"{where(prefix + 'deliver_to')}: {error}") from error
    if job.id in taken:
        raise SettingError(f"{where(prefix + 'id')} is {job.id!r}: another job has this id")


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def system_timezone(environ: Mapping[str, str]) -> str:
    """The name of the system's zone: $TZ, else what /etc says, else UTC."""
    named = environ.get("TZ", "").removeprefix(":")
    if named and _is_zone(named):
        return named
    _, inside, name = str(Path("/etc/localtime").resolve()).partition("zoneinfo/")
    if inside and _is_zone(name):
        return name
    try:
        name = Path("/etc/timezone").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return "UTC"
    return name if _is_zone(name) else "UTC"
