"""A model that says what a test tells it to, and refuses what the real one would refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from nanochat.errors import ModelError
from nanochat.ports import ModelReply, ModelRequest
from nanochat.records import Block, Usage
from tests.fakes.legality import refusal

__all__ = ["Script", "ScriptedModel", "Step", "call", "say"]

Step: TypeAlias = Callable[[ModelRequest, Callable[[str], None]], Awaitable[ModelReply]]
Script: TypeAlias = Sequence[Step]


def say(text: str, *, stop_reason: str = "end_turn", usage: Usage | None = None, model: str = "") -> Step:
    """A reply of one text, word by word."""

    async def step(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        for word in text.split(" "):
            on_text(word if word == text.split(" ")[0] else " " + word)
        content: tuple[Block, ...] = ({"type": "text", "text": text},) if text else ()
        return ModelReply(
            content, stop_reason, usage or Usage(input=100, output=10), model or request.model, ttft_s=0.01
        )

    return step


def call(name: str, arguments: Block, *, call_id: str = "toolu_1", text: str = "") -> Step:
    """A reply that asks for one tool."""

    async def step(request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        if text:
            on_text(text)
        said: tuple[Block, ...] = ({"type": "text", "text": text},) if text else ()
        block: Block = {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
        return ModelReply((*said, block), "tool_use", Usage(input=100, output=10), request.model, ttft_s=0.01)

    return step


@dataclass
class ScriptedModel:
    """Plays one step per request, in order; `requests` holds what was asked."""

    script: list[Step] = field(default_factory=list)
    name: str = "scripted-1"
    requests: list[ModelRequest] = field(default_factory=list)
    closed: bool = False

    async def reply(
        self,
        request: ModelRequest,
        on_text: Callable[[str], None],
        on_notice: Callable[[str], None],
        on_start: Callable[[str, Usage], None] | None = None,
    ) -> ModelReply:
        self.requests.append(request)
        body: dict[str, object] = {
            "model": request.model,
            "max_tokens": request.max_tokens,
            "messages": list(request.messages),
            "tools": list(request.tools),
        }
        if request.system:
            body["system"] = list(request.system)
        if why := refusal(body):  # type: ignore[arg-type]  # built from wire blocks just above
            raise ModelError(f"400: {why}", kind="bad_request", retryable=False)
        assert self.script, "the script is at its end"
        if on_start is not None:
            on_start(request.model, Usage(input=100))
        return await self.script.pop(0)(request, on_text)

    async def warm(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        self.closed = True
