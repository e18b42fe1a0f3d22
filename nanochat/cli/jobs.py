"""The settings' jobs as jobs.

Knows which setting is which part of a job. Does not know what a job may be (`nanochat.jobs`).
"""

from __future__ import annotations

from nanochat.config import Config
from nanochat.errors import JobError
from nanochat.jobs import Job, make

__all__ = ["RECIPIENTS", "checked", "from_settings"]

# Channels that a job's result can go to; a session of one that is not served has it recorded.
RECIPIENTS = ("cli", "telegram", "http")


def from_settings(config: Config) -> tuple[Job, ...]:
    """The jobs of the settings, in their order.

    Raises:
        JobError: one of them cannot be kept.
    """
    jobs: dict[str, Job] = {}
    for wish in config.cron.jobs:
        if wish.id in jobs:
            raise JobError(wish.id, "id", "another job of the settings has this id")
        job = Job(
            id=wish.id,
            kind=wish.kind,
            zone=wish.timezone or config.timezone,
            cron=wish.cron,
            text=wish.text if wish.kind == "text" else wish.prompt,
            sources=wish.sources,
            missed=wish.missed,
            quiet=wish.quiet,
            usd_per_run=wish.usd_per_run,
            enabled=wish.enabled,
        )
        recipients = tuple(filter(None, wish.recipients))
        jobs[wish.id] = checked(make(job, every=wish.every, at=wish.at, recipients=recipients))
    return tuple(jobs.values())


def checked(job: Job) -> Job:
    """The job, if there is a way to each of its recipients.

    Raises:
        JobError: names the one that there is none to.
    """
    for key in job.recipients:
        if key.channel not in RECIPIENTS:
            ways = ", ".join(f"{channel}:…" for channel in RECIPIENTS)
            raise JobError(job.id, "deliver_to", f"nothing can be brought to {str(key)!r}: it takes {ways}")
    return job
