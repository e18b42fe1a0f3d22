"""How a job is written in a row.

Knows the form. Does not know tables.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import cast

from nanochat.jobs import Job, Kind
from nanochat.keys import SessionKey

__all__ = ["decode", "encode", "stamp"]


def stamp(moment: datetime) -> str:
    """A moment as text, of which the earlier sorts before the later."""
    return moment.astimezone(UTC).isoformat()


def encode(job: Job) -> str:
    """What stands in a row; its id has a column of its own."""
    return json.dumps(
        {
            "kind": job.kind,
            "zone": job.zone,
            "cron": job.cron,
            "every_s": job.every_s,
            "at": stamp(job.at) if job.at else "",
            "text": job.text,
            "sources": job.sources,
            "recipients": [str(key) for key in job.recipients],
            "missed": job.missed,
            "quiet": job.quiet,
            "usd_per_run": job.usd_per_run,
            "enabled": job.enabled,
            "origin": job.origin,
            "by_owner": job.by_owner,
            "created_at": stamp(job.created_at) if job.created_at else "",
        },
        ensure_ascii=False,
    )


def decode(job_id: str, text: str) -> Job:
    """The job that was written so."""
    parts = json.loads(text)
    return Job(
        id=job_id,
        kind=cast(Kind, parts["kind"]),
        zone=parts["zone"],
        cron=parts["cron"],
        every_s=parts["every_s"],
        at=datetime.fromisoformat(parts["at"]) if parts["at"] else None,
        text=parts["text"],
        sources=tuple(parts["sources"]),
        recipients=tuple(map(SessionKey.parse, parts["recipients"])),
        missed=parts["missed"],
        quiet=parts["quiet"],
        usd_per_run=parts["usd_per_run"],
        enabled=parts["enabled"],
        origin=parts["origin"],
        by_owner=parts["by_owner"],
        created_at=datetime.fromisoformat(parts["created_at"]) if parts["created_at"] else None,
    )
