"""A conversation as the agent would write it, without an agent: records, and the requests that made them.

Knows the order in which lines come, and signs thinking as the model would. Does not know files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import cast

from nanochat.history import prefix_hash, render, system_blocks, with_breakpoints
from nanochat.history.exchanges import begins_exchange
from nanochat.records import (
    Block,
    Compact,
    Content,
    Event,
    Json,
    Message,
    Record,
    Ref,
    Reset,
    Rewind,
    SetValue,
    Snapshot,
    State,
    TurnEnd,
    Usage,
    after,
)
from tests.fakes.legality import plain, sign
from tests.fakes.prompt_cache import tokens

__all__ = ["START", "TOOLS", "Talk", "flat", "prompt_tokens", "view_of"]

START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
TOOLS: tuple[Block, ...] = (
    {"name": "look", "description": "Look at a thing.", "input_schema": {"type": "object", "properties": {}}},
)


def flat(messages: Sequence[Block]) -> list[tuple[str, Block]]:
    """All blocks of the messages in order, each with its role."""
    return [
        (str(message["role"]), block) for message in messages for block in cast(Sequence[Block], message["content"])
    ]


def view_of(live: Sequence[Record]) -> list[Record]:
    """What a reader of these live records is given: from the last reset, or the newest compaction's boundary."""
    begins = [i for i, record in enumerate(live) if isinstance(record, Snapshot) and isinstance(record.event, Reset)]
    seen = list(live[begins[-1] :] if begins else live)
    for record in reversed(seen):
        if isinstance(record, Snapshot) and isinstance(record.event, Compact):
            keep = record.event.keep
            return [kept for kept in seen if kept.start >= keep]
    return seen


def prompt_tokens(body: Mapping[str, Json]) -> int:
    """What the fake API counts for all that the model reads."""
    fixed = [*cast(Sequence[Block], body["tools"]), *cast(Sequence[Block], body["system"])]
    said = [block for _, block in flat(cast(Sequence[Block], body["messages"]))]
    return sum(tokens(plain(block)) for block in (*fixed, *said))


@dataclass(slots=True)
class Talk:
    """`live` are all live records since the file began; `view` is what a reader gets of them."""

    model: str = "m-1"
    system: str = "You are kind."
    live: list[Record] = field(default_factory=list)
    now: datetime = START
    size: int = 0
    said: int = 0
    calls: int = 0
    # The requests since the last change that may rewrite the prefix, for the law of stability.
    steady: list[list[Block]] = field(default_factory=list)
    requests: list[dict[str, Json]] = field(default_factory=list)
    pin_texts: dict[int, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return prefix_hash(self.model, system_blocks(self.system, "5m"), TOOLS)

    @property
    def state(self) -> State:
        last = next((record.state for record in reversed(self.live) if isinstance(record, Snapshot)), None)
        state = last or State("cli:default", START, START)
        return replace(state, n=self.said)

    @property
    def view(self) -> list[Record]:
        return view_of(self.live)

    @property
    def pins(self) -> list[tuple[int, str]]:
        return list(self.pin_texts.items())

    # --- lines -------------------------------------------------------------------------------------------------------

    def say(self, role: str, content: Content, **fields: object) -> Message:
        message = Message(role, content, self.now)
        message = replace(message, **fields)  # type: ignore[arg-type]  # the caller names a message's own fields
        message = replace(message, n=self.state.n, start=self.size, end=self.size + 100)
        self.live.append(message)
        self.size += 100
        self.said += 1
        return message

    def note(self, event: Event) -> Snapshot:
        snapshot = Snapshot(after(self.state, event, self.size, self.now), event, self.size, self.size + 100)
        self.live.append(snapshot)
        self.size += 100
        if isinstance(event, SetValue) and event.name == "pin":
            self.pin_texts[snapshot.start] = event.value
        if isinstance(event, Compact | Rewind | Reset):
            self.steady = []
        return snapshot

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # --- requests ----------------------------------------------------------------------------------------------------

    def request(self) -> dict[str, Json]:
        """The request that an agent would send now."""
        messages = render(self.view, prefix=self.prefix, pins=self.pins)
        self.steady.append(messages)
        body: dict[str, Json] = {
            "model": self.model,
            "max_tokens": 100,
            "system": list(system_blocks(self.system, "1h")),
            "tools": list(TOOLS),
            "messages": with_breakpoints(messages, ttl="5m"),
        }
        self.requests.append(body)
        return body

    def reply(self, *blocks: Block, thinks: bool = False, mark: str = "") -> Message:
        """Ask, and write the reply: these blocks, perhaps with a thought before them."""
        body = self.request()
        thought: list[Block] = [{"type": "thinking", "thinking": "", "signature": sign(body)}] if thinks else []
        content = [*thought, *blocks]
        usage = Usage(input=prompt_tokens(body), output=sum(tokens(block) for block in content))
        return self.say("assistant", content, prefix=self.prefix, usage=usage, mark=mark)

    def call(self, count: int = 1) -> list[Block]:
        """Calls under ids that were never used."""
        self.calls += count
        return [
            {"type": "tool_use", "id": f"toolu_{self.calls - i}", "name": "look", "input": {"at": i}}
            for i in range(count)
        ]

    def answer(self, call: Mapping[str, Json], text: str = "seen", *, failed: bool = False) -> Message:
        result: dict[str, Json] = {"type": "tool_result", "tool_use_id": call["id"], "content": text}
        return self.say("user", [{**result, "is_error": True} if failed else result])

    def end(self, outcome: str = "done", ttl: str = "") -> None:
        self.note(TurnEnd("s", outcome, prefix=self.prefix, ttl=ttl))

    def exchange(self, text: str = "How are you?", answer: str = "I am well.", *, thinks: bool = False) -> None:
        """A whole turn without tools."""
        self.say("user", text)
        self.reply({"type": "text", "text": answer}, thinks=thinks)
        self.end()

    # --- changes -----------------------------------------------------------------------------------------------------

    def compact(self, keep: Message, summary: str = "They talked.") -> Snapshot:
        return self.note(Compact(summary, keep.start, keep.n, "breadcrumb", "asked"))

    def undo(self) -> None:
        """Take back the last exchange as a session does: deliveries and a compaction that still holds are restated."""
        target = next((record for record in reversed(self.view) if begins_exchange(record)), None)
        if not isinstance(target, Message):
            return
        undone = [record for record in self.live if record.start >= target.start]
        self.live = [record for record in self.live if record.start < target.start]
        pins: tuple[Ref, ...] = tuple(pin for pin in self.state.pins if pin.at < target.start)
        self.note(Rewind(target.start, target.n, "undo", pins))
        for record in undone:
            if isinstance(record, Snapshot) and isinstance(record.event, Compact) and record.event.keep <= target.start:
                self.note(record.event)
            elif isinstance(record, Message) and record.delivered:
                self.say(record.role, record.content, delivered=True)
