"""Conversations made up of random acts, for laws that hold of any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hypothesis import strategies as st

from nanochat.history.exchanges import begins_exchange
from nanochat.keys import SessionKey
from nanochat.records import Block, Compact, Event, Message, Reset, SetValue, TurnEnd, Usage
from nanochat.sessions import Session, SessionManager

__all__ = ["ACTS", "Act", "live_through"]

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Act:
    """One act; `pick` chooses among the places there are, `text` is what is said."""

    kind: str
    pick: int
    text: str


ACTS = st.lists(
    st.builds(
        Act,
        st.sampled_from(
            [
                "say",
                "say",
                "call",
                "open call",
                "stop",
                "deliver",
                "undo",
                "undo",
                "reset",
                "compact",
                "model",
                "picture",
            ]
        ),
        st.integers(0, 1 << 16),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda text: text.strip() != ""),
    ),
    max_size=20,
)


async def live_through(manager: SessionManager, key: SessionKey, acts: Sequence[Act]) -> None:
    """Have all acts done to a session, in order."""
    for number, act in enumerate(acts):
        async with manager.turn(key) as session:
            if act.kind == "undo":
                await manager.undo(session)
            else:
                await manager.append(session, *_drafts(act, number, session), durable=False)


def _drafts(act: Act, number: int, session: Session) -> list[Message | Event]:
    asked = Message("user", act.text, AT, source_id=f"cli:{number}", clock="noon" if act.pick % 2 else "")
    end = TurnEnd(f"cli:{number}", "done", "m", usage=Usage(input=10, output=3), cost_usd=0.01)
    call: Block = {"type": "tool_use", "id": f"t{number}", "name": "look", "input": {"at": act.text, "n": act.pick}}
    result: Block = {"type": "tool_result", "tool_use_id": f"t{number}", "content": f"seen {number}"}
    answer = Message("assistant", [{"type": "text", "text": f"re: {act.text}"}], AT)
    match act.kind:
        case "call":
            first = Message("assistant", [{"type": "text", "text": "one moment"}, call], AT)
            return [asked, first, Message("user", [result], AT), answer, end]
        case "open call":
            return [asked, Message("assistant", [call], AT)]
        case "stop":
            return [asked, Message("assistant", [{"type": "text", "text": "I beg"}, call], AT, mark="stopped"), end]
        case "deliver":
            framed = f'<delivered from="cron:bell">\n{act.text}\n</delivered>'
            return [Message("user", framed, AT, delivered=True)]
        case "reset":
            return [Reset("test")]
        case "model":
            return [SetValue("model", f"m-{act.pick}")]
        case "picture":
            picture: Block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
            return [Message("user", [{"type": "text", "text": act.text}, picture], AT), answer, end]
        case "compact" if starts := [r for r in session.records if isinstance(r, Message) and begins_exchange(r)]:
            keep = starts[act.pick % len(starts)]
            return [Compact(f"summary {number}", keep.start, keep.n, "test", "asked", 1)]
        case _:
            return [asked, answer, end]
