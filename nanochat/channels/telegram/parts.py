"""The messages that one reply consists of, and the single next step from what stands there to what should.

Every step is one request; what it came to is written to the reply's memory, so that another process could go on from there. A new
message that may or may not have arrived is sent once more with `↻` in front, after the way was found open. Knows requests and
their failures. Does not know when a step is worth taking.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from telegram.error import ChatMigrated, RetryAfter, TelegramError

from nanochat.channels.telegram.formatted import Block, Entity, Formatted, units
from nanochat.channels.telegram.pacer import Pacer
from nanochat.channels.telegram.verdicts import Verdict, retry_after_s, verdict
from nanochat.channels.telegram.wire import Room, Wire
from nanochat.errors import ChannelError
from nanochat.ports import ReplyMemory, SentPart

__all__ = ["REPEATED", "File", "Outbox", "Part", "Parts", "Step", "Wanted", "with_line"]

_log = logging.getLogger(__name__)

REPEATED = "↻ "
"""Stands in front of a message that may have been sent before."""

# Each is a message that its reader may see once more; after these the answer waits for a better time, when one is tried.
_MAX_REPEATS = 3
_REPEAT_AGAIN_S = 60.0
# How often a way that is closed is tried before the failure is handed up, and the rests between, which double.
_TRIES = 6
_LONGEST_REST_S = 30.0


@dataclass(frozen=True, slots=True)
class Part:
    """A message as it should stand: with `stop`, the button below it."""

    shown: Formatted
    stop: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A document as it should stand: the whole answer, where it is too long for messages."""

    name: str
    data: bytes
    caption: str


Wanted: TypeAlias = Part | File


@dataclass(frozen=True, slots=True)
class Step:
    """The next request: `index` names the part; `delete` takes it away."""

    kind: Literal["send", "edit", "delete"]
    index: int
    wanted: Wanted | None = None


@dataclass(slots=True)
class _Sent:
    """`message_id` is empty where it may have been sent; `is_lost`: its reader deleted it, and it is let be."""

    message_id: str
    digest: str = ""
    is_repeat: bool = False
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Outbox:
    """What all replies of a channel share. `moved` are groups with a new id; `on_repeat` counts; `rest_s` is the first
    rest after a failure."""

    wire: Wire
    pacer: Pacer
    moved: dict[int, int]
    on_repeat: Callable[[], None]
    rest_s: float


class Parts:
    """One reply's messages in `room`; `answers` is the message that the first of them replies to, `stop` what a button below
    them names."""

    def __init__(
        self, outbox: Outbox, room: Room, memory: ReplyMemory, answers: int | None = None, stop: str = ""
    ) -> None:
        self._outbox = outbox
        self._room = room
        self._memory = memory
        self._answers = answers
        self._stop = stop
        self._sent: dict[int, _Sent] = {}
        self._loaded = False
        self._plain: set[int] = set()
        self._failures = 0
        self._repeats = 0
        self._max_repeats = _MAX_REPEATS

    @property
    def room(self) -> Room:
        """Where the messages go, by the chat's current id."""
        return replace(self._room, chat=self._outbox.moved.get(self._room.chat, self._room.chat))

    @property
    def message_ids(self) -> tuple[str, ...]:
        """The ids of the messages that stand, in order."""
        return tuple(self._sent[index].message_id for index in sorted(self._sent) if self._sent[index].message_id)

    async def load(self) -> None:
        """Recall what an earlier attempt had sent; once."""
        if not self._loaded:
            self._sent = {part.index: _recalled(part) for part in await self._memory.parts()}
            self._loaded = True
            if any(not sent.message_id for sent in self._sent.values()):
                self._max_repeats = 1
        self._failures = 0

    def next_step(self, wanted: Sequence[Wanted], *, is_final: bool) -> Step | None:
        """The first difference between what stands and what should; None where there is none."""
        for index, want in enumerate(wanted):
            sent = self._sent.get(index)
            if sent is None or not sent.message_id:
                return Step("send", index, want)
            if sent.is_lost or sent.digest == _digest(want, is_repeat=sent.is_repeat):
                continue
            if isinstance(want, File) or _is_file(sent.digest):
                return Step("delete", index)
            return Step("edit", index, want)
        left_over = [index for index in self._sent if index >= len(wanted)] if is_final else []
        return Step("delete", max(left_over)) if left_over else None

    async def take(self, step: Step, *, is_last: bool, is_final: bool) -> float:
        """Make one request; returns how long to rest before the next one.

        Raises:
            ChannelError: it cannot be done, now or ever.
        """
        try:
            match step:
                case Step(kind="send", wanted=Part() | File() as wanted):
                    await self._send(step.index, wanted)
                case Step(kind="edit", wanted=Part() as wanted):
                    await self._edit(step.index, wanted, is_kept=is_final or not is_last)
                case _:
                    await self._delete(step.index)
        except TelegramError as error:
            return await self._after(error, step, is_last=is_last)
        self._failures = 0
        return 0.0

    async def _send(self, index: int, wanted: Wanted) -> None:
        known = self._sent.get(index)
        if known is not None:
            # Whether the way is open is asked with something that may be lost, so that the repeat is not lost as well.
            await self._outbox.wire.typing(self.room)
            self._count_repeat()
        else:
            await self._memory.sending(index)
            self._sent[index] = _Sent("")
        try:
            message_id = await self._post(index, wanted, is_repeat=known is not None)
        except TelegramError as error:
            if known is None and verdict(error) is not Verdict.UNKNOWN:
                del self._sent[index]
                await self._memory.dropped(index)
            raise
        digest = _digest(wanted, is_repeat=known is not None)
        self._sent[index] = _Sent(message_id, digest, is_repeat=known is not None)
        await self._memory.sent(index, message_id, digest)

    async def _post(self, index: int, wanted: Wanted, *, is_repeat: bool) -> str:
        wire, mark = self._outbox.wire, REPEATED if is_repeat else ""
        if isinstance(wanted, File):
            return await wire.send_file(self.room, wanted.name, wanted.data, mark + wanted.caption)
        shown = self._dressed(index, wanted, is_repeat=is_repeat)
        answers = self._answers if index == 0 else None
        return await wire.send(
            self.room, shown, stop=self._stop if wanted.stop else "", quiet=index > 0, answers=answers
        )

    async def _edit(self, index: int, wanted: Part, *, is_kept: bool) -> None:
        sent = self._sent[index]
        try:
            shown = self._dressed(index, wanted, is_repeat=sent.is_repeat)
            stop = self._stop if wanted.stop else ""
            await self._outbox.wire.edit(self.room, sent.message_id, shown, stop=stop)
        except TelegramError as error:
            if verdict(error) is not Verdict.SAME:
                raise
        sent.digest = _digest(wanted, is_repeat=sent.is_repeat)
        # What will change again in a second need not be remembered: an edit can always be repeated.
        if is_kept:
            await self._memory.sent(index, sent.message_id, sent.digest)

    async def _delete(self, index: int) -> None:
        sent = self._sent[index]
        if sent.message_id and not sent.is_lost:
            try:
                await self._outbox.wire.delete(self.room, sent.message_id)
            except TelegramError as error:
                if verdict(error) not in (Verdict.MISSING, Verdict.REFUSED):
                    raise
        del self._sent[index]
        await self._memory.dropped(index)

    async def _after(self, error: TelegramError, step: Step, *, is_last: bool) -> float:
        match verdict(error), error:
            case Verdict.FLOOD, RetryAfter():
                self._outbox.pacer.flooded(self.room.chat, retry_after_s(error))
                return 0.0
            case Verdict.MOVED, ChatMigrated(new_chat_id=new_chat):
                _log.warning(
                    "telegram: group %s has the new id %s; name it in telegram.allow", self._room.chat, new_chat
                )
                self._outbox.moved[self._room.chat] = new_chat
                return 0.0
            case Verdict.MISSING, _ if step.kind == "edit":
                # One that its reader took away from among others is let be; the one that grows is begun anew.
                if is_last:
                    del self._sent[step.index]
                    await self._memory.dropped(step.index)
                else:
                    self._sent[step.index].is_lost = True
                return 0.0
            case Verdict.ENTITIES, _ if step.index not in self._plain:
                _log.error("telegram: formatting was refused (%s); the text is sent without it", error.message)
                self._plain.add(step.index)
                return 0.0
            case ((Verdict.UNSENT | Verdict.UNKNOWN), _):
                return self._rest(error)
            case _:
                raise _hopeless(error) from None

    def _rest(self, error: TelegramError) -> float:
        self._failures += 1
        if self._failures >= _TRIES:
            raise ChannelError("telegram cannot be reached", retryable=True) from None
        _log.warning("telegram: a message was held up (%s); trying again", type(error).__name__)
        rest_s: float = self._outbox.rest_s * 2 ** (self._failures - 1)
        return min(rest_s, _LONGEST_REST_S)

    def _count_repeat(self) -> None:
        if self._repeats >= self._max_repeats:
            words = "telegram does not say whether the answer arrived"
            raise ChannelError(words, retryable=True, retry_after_s=_REPEAT_AGAIN_S)
        self._repeats += 1
        self._outbox.on_repeat()

    def _dressed(self, index: int, wanted: Part, *, is_repeat: bool) -> Formatted:
        entities = () if index in self._plain else wanted.shown.entities
        if not is_repeat:
            return Formatted(wanted.shown.text, entities)
        shift = units(REPEATED)
        return Formatted(REPEATED + wanted.shown.text, tuple(replace(e, offset=e.offset + shift) for e in entities))


def with_line(shown: Formatted, line: str) -> Formatted:
    """A text with a plain line below it, set apart by its slant."""
    if not line:
        return shown
    head = f"{shown.text}\n\n" if shown.text else ""
    start, length = units(head), units(line)
    blocks = (*shown.blocks, Block(start, length)) if shown.blocks or not head else ()
    return Formatted(head + line, (*shown.entities, Entity("italic", start, length)), blocks)


# --- what is remembered of a message ---------------------------------------------------------------------------------


def _digest(wanted: Wanted, *, is_repeat: bool) -> str:
    """A few words for what a message shows; the first letter says which kind it is, the second whether it is a repeat."""
    if isinstance(wanted, File):
        kind, content = "f", wanted.data
    else:
        kind, content = "m", repr((wanted.shown.text, wanted.shown.entities, wanted.stop)).encode("utf-8", "replace")
    return f"{kind}{'r' if is_repeat else 'o'}{hashlib.sha256(content).hexdigest()[:16]}"


def _is_file(digest: str) -> bool:
    return digest.startswith("f")


def _recalled(part: SentPart) -> _Sent:
    return _Sent(part.message_id, part.digest, is_repeat=part.digest[1:2] == "r")


def _hopeless(error: TelegramError) -> ChannelError:
    match verdict(error):
        case Verdict.CLOSED:
            return ChannelError("telegram does not let the bot write there: it was blocked, removed or has no right to")
        case Verdict.TOKEN:
            return ChannelError("telegram refuses the bot's token", retryable=True, retry_after_s=60)
        case _:
            return ChannelError(f"telegram refuses the message: {error.message}")
