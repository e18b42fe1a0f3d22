"""Requests, collectors and a time that passes at once, for the model's tests."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nanochat.model.retry import Waits
from nanochat.ports import ModelReply, ModelRequest
from nanochat.records import Block, Json

__all__ = ["Ear", "Time", "request", "text_of_reply"]


@dataclass(slots=True)
class Ear:
    """What `on_text` and `on_notice` were told."""

    pieces: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(slots=True)
class Time:
    """Sleeps pass at once and are written down; chance is always `luck`."""

    now_s: float = 1000.0
    luck: float = 1.0
    slept_s: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds

    def waits(self) -> Waits:
        return Waits(self.sleep, lambda: self.now_s, lambda: self.luck)


def request(*said: str | Sequence[Block], **more: object) -> ModelRequest:
    """A request of alternating turns, the user's first."""
    roles = itertools.cycle(("user", "assistant"))
    messages: list[Mapping[str, Json]] = [
        {"role": role, "content": text} for role, text in zip(roles, said, strict=False)
    ]
    fields: dict[str, object] = {"model": "", "system": (), "tools": (), "max_tokens": 1000, **more}
    return ModelRequest(messages=tuple(messages), **fields)  # type: ignore[arg-type]  # the tests name the fields


def text_of_reply(reply: ModelReply) -> str:
    return "".join(str(block["text"]) for block in reply.content if block["type"] == "text")
