"""How a fire is named for ever, and what its envelope says.

Knows the form of both. Does not know who sends one.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from nanochat.errors import JobError

__all__ = ["body_of", "parse_body", "source_id"]


def source_id(job_id: str, fire: datetime) -> str:
    """`cron:morning:2026-11-20T07:00:00Z`: the same for the same fire, whoever asks."""
    return f"cron:{job_id}:{_stamp(fire)}"


def body_of(job_id: str, fire: datetime) -> str:
    """What stands in a fire's envelope."""
    return json.dumps({"job": job_id, "fire": _stamp(fire)}, ensure_ascii=False)


def parse_body(body: str) -> tuple[str, datetime]:
    """The job's id and the fire's time.

    Raises:
        JobError: it is no fire's.
    """
    try:
        parts = json.loads(body)
        job_id, fire = parts["job"], datetime.fromisoformat(parts["fire"])
    except (ValueError, LookupError, TypeError) as error:
        raise JobError("?", "fire", f"{body[:60]!r} is no fire of a job") from error
    return str(job_id), fire


def _stamp(fire: datetime) -> str:
    return fire.astimezone(UTC).isoformat().replace("+00:00", "Z")
