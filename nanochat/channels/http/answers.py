"""What the daemon's doors tell, in the shapes that are answered.

Pure. Knows records and shapes. Does not know routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from nanochat import transcript
from nanochat.channels.http import shapes
from nanochat.channels.http.telling import id_of, usage_fields
from nanochat.doors import ChannelHealth, SessionStats
from nanochat.keys import SessionKey
from nanochat.ports import Brief
from nanochat.records import Message

__all__ = ["channel_shapes", "message_shape", "row_shape", "stats_shape"]


def row_shape(brief: Brief) -> shapes.Row:
    """A session at a glance."""
    state = brief.state
    return shapes.Row(
        session_id=id_of(brief.key),
        key=str(brief.key),
        created_at=state.created_at,
        updated_at=state.updated_at,
        messages=state.n,
        turns=state.totals.turns,
        cost_usd=state.totals.cost_usd,
        model=state.model or None,
        preview=brief.preview,
        size_bytes=brief.size_bytes,
    )


def message_shape(key: SessionKey, message: Message) -> shapes.MessageShape:
    """A message; its text is what was said, without the frame of a delivery, and its mark stands beside it."""
    seen = transcript.to_seen(key, [replace(message, mark="")])
    return shapes.MessageShape(
        n=message.n,
        role=message.role,
        text=seen[0].text if seen else "",
        content=message.content,
        timestamp=message.timestamp,
        delivered=message.delivered,
        mark=message.mark,
        source_id=message.source_id,
        model=message.model or None,
        usage=shapes.UsageShape.model_validate(usage_fields(message.usage)) if message.usage else None,
        start=message.start,
    )


def stats_shape(key: SessionKey, stats: SessionStats, now: datetime) -> shapes.StatsShape:
    """What a session has taken."""
    state = stats.brief.state
    usage = state.totals.usage
    newest = stats.curve[-1].model if stats.curve else ""
    return shapes.StatsShape(
        session_id=id_of(key),
        key=str(key),
        created_at=state.created_at,
        updated_at=state.updated_at,
        age_s=max(0.0, (now - state.created_at).total_seconds()),
        messages=state.n,
        turns=state.totals.turns,
        usage=shapes.UsageShape.model_validate(usage_fields(usage)),
        cost_usd=state.totals.cost_usd,
        cache_share=usage.cache_read / usage.prompt if usage.prompt else None,
        model=state.model or newest or None,
        context_tokens=stats.context_tokens,
        budget_tokens=stats.budget_tokens,
        curve=[
            shapes.CurvePoint.model_validate(
                {
                    "at": point.at,
                    "kind": point.kind,
                    "model": point.model,
                    "origin": point.origin,
                    **usage_fields(point.usage),
                    "cost_usd": point.cost_usd,
                    "seconds": point.seconds,
                }
            )
            for point in stats.curve
        ],
    )


def channel_shapes(channels: Sequence[ChannelHealth]) -> dict[str, shapes.ChannelShape]:
    """How each channel does, by its name."""
    return {
        channel.name: shapes.ChannelShape(
            up=channel.is_up, since=channel.since, error=channel.error, restarts=channel.restarts
        )
        for channel in channels
    }
