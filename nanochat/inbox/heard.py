"""What a turn said, kept until its reader has it.

Stands between a Handler and a Reply, so that an answer whose way is barred can be told again without another turn. Knows events.
Does not know who speaks, nor who listens.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict

from nanochat.events import ReplyEvent, TextDelta, TurnDone, TurnFailed
from nanochat.ports import Reply
from nanochat.turn.assistant import contained

__all__ = ["Heard"]

_log = logging.getLogger(__name__)


class Heard:
    """An Emit that hands on to `reply` and remembers.

    A refusal that says no more than "later" is not told: it is held back as `refusal`, and the turn tried again.
    """

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.final: TurnDone | TurnFailed | None = None
        self.refusal: TurnFailed | None = None
        self._said: list[str] = []
        self._is_deaf = False

    @property
    def text(self) -> str:
        """All that was said, or what stands in its place."""
        if self._said:
            return "".join(self._said)
        match self.final:
            case TurnDone(text=text):
                return text
            case TurnFailed(message=message):
                return message
            case None:
                return ""

    def __call__(self, event: ReplyEvent) -> None:
        if isinstance(event, TurnFailed) and event.kind in ("busy", "pace") and not self._said:
            self.refusal = event
            return
        self._hand_on(event)

    def forget(self) -> None:
        """The turn is tried again."""
        self.refusal = None

    def repeat(self, reply: Reply) -> None:
        """Tell it all again, to another Reply."""
        self.reply, self._is_deaf = reply, False
        said, final = "".join(self._said), self.final
        self._said.clear()
        if said:
            self._hand_on(TextDelta(said))
        if final is not None:
            self._hand_on(final)

    def packed(self) -> str:
        """What was said, as text that `recall` understands."""
        fields = {} if self.final is None else asdict(self.final)
        fields.pop("stats", None)
        is_done = isinstance(self.final, TurnDone)
        return json.dumps({"said": "".join(self._said), "done" if is_done else "failed": fields})

    def recall(self, packed: str) -> None:
        """Tell what another process had heard."""
        fields = json.loads(packed)
        if fields["said"]:
            self._hand_on(TextDelta(fields["said"]))
        if "done" in fields:
            done = fields["done"]
            self._hand_on(TurnDone(done["text"], None, done["mark"], tuple(done["message_ids"])))
        else:
            self._hand_on(TurnFailed(**fields["failed"]))

    def _hand_on(self, event: ReplyEvent) -> None:
        match event:
            case TextDelta(text=text):
                self._said.append(text)
            case TurnDone() | TurnFailed():
                self.final = event
            case _:
                pass
        if not self._is_deaf:
            with contained(self._detach):
                self.reply(event)

    def _detach(self, error: Exception) -> None:
        _log.error("a channel could not take an event; its answer is told again at the end", exc_info=error)
        self._is_deaf = True
