"""Everything that is told of one turn, for any number of readers, each at its own pace.

    Emit -> Feed -> Reader, Reader, …

A feed keeps one copy of the reply and never waits. A reader keeps a place in it: who was away for long gets the joined text since
then instead of a queue of pieces, and who comes late gets all of it. A feed that has ended is kept for a while, to be told again.
Knows the events of a turn. Does not know who reads, nor how it is put on a wire.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from weakref import WeakSet

from nanochat.events import Notice, ReplyEvent, TextDelta, TurnDone, TurnFailed
from nanochat.keys import SessionKey

__all__ = ["Feed", "Feeds", "Reader", "Restarted", "Told"]

# Answers that can still be told from memory; older ones are told from their sessions. Sixteen million characters are an hour of
# the longest answers, or a day of common ones.
MAX_ENDED = 256
MAX_ENDED_CHARS = 16 * 1024 * 1024

# What one reader holds beside the feed: a slow one takes the rest when this has gone out.
MAX_TAKEN_CHARS = 32 * 1024

# What an event beside the text takes, about, in characters.
_EVENT_CHARS = 200

# Nothing was begun, and the same message may be sent again under the same key.
_FORGOTTEN = frozenset(("busy", "pace", "limit", "ending"))


@dataclass(frozen=True, slots=True)
class Restarted:
    """Forget what was shown of this answer: it is told from its beginning. `resume`: it goes on; `replay`: it is over."""

    reason: Literal["resume", "replay"]


Told: TypeAlias = ReplyEvent | Restarted


@dataclass(slots=True)
class _Telling:
    """One telling of a turn: its text in pieces, the other events each with the number of pieces before it, and its end."""

    pieces: list[str] = field(default_factory=list)
    others: list[tuple[int, ReplyEvent]] = field(default_factory=list)
    end: TurnDone | TurnFailed | None = None

    def joined(self) -> _Telling:
        """The same in as few pieces as there can be."""
        whole, begin = _Telling(end=self.end), 0
        for at, event in self.others:
            if begin < at:
                whole.pieces.append("".join(self.pieces[begin:at]))
                begin = at
            whole.others.append((len(whole.pieces), event))
        if begin < len(self.pieces):
            whole.pieces.append("".join(self.pieces[begin:]))
        return whole


class Feed:
    """See `ports.Emit`. What comes after the last event is not told."""

    def __init__(
        self, key: SessionKey, source_id: str, digest: str = "", on_end: Callable[[Feed], None] = lambda _: None
    ) -> None:
        self.key = key
        self.source_id = source_id
        self.digest = digest
        """What the message was, or empty where nobody of this process had read it."""
        self.is_fed = False
        """Whether there is somebody who tells it."""
        self.attempt = 0
        """How often the telling was begun anew."""
        self.telling = _Telling()
        self._on_end = on_end
        self._readers: WeakSet[Reader] = WeakSet()

    def __call__(self, event: ReplyEvent) -> None:
        telling = self.telling
        if telling.end is not None:
            return
        match event:
            case TextDelta(text=text):
                telling.pieces += [text] if text else []
            case TurnDone() | TurnFailed():
                if isinstance(event, TurnDone) and event.text and not telling.pieces:
                    telling.pieces.append(event.text)  # so that the deltas joined are always what was said
                telling.end = event
                # Who is in the middle of the pieces goes on with them; who comes now needs them no more.
                self.telling = telling.joined()
                self._on_end(self)
            case _:
                telling.others.append((len(telling.pieces), event))
        self._tell()

    @property
    def end(self) -> TurnDone | TurnFailed | None:
        """The last event, once it was told."""
        return self.telling.end

    @property
    def has_begun(self) -> bool:
        """Whether anything was told."""
        return bool(self.telling.pieces or self.telling.others or self.telling.end)

    @property
    def shows_something(self) -> bool:
        """Whether text came, or a tool began."""
        return bool(self.telling.pieces or any(not isinstance(event, Notice) for _, event in self.telling.others))

    @property
    def chars(self) -> int:
        """About how much it keeps."""
        return sum(map(len, self.telling.pieces)) + _EVENT_CHARS * (1 + len(self.telling.others))

    def begin_anew(self) -> None:
        """The turn is told once more from its beginning."""
        if self.has_begun:
            self.telling = _Telling()
            self.attempt += 1
            self._tell()

    def reader(self) -> Reader:
        """Somebody who is told all of it, from the beginning."""
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Tell a reader nothing more; a feed that nobody tells is over with its last reader."""
        self._readers.discard(reader)
        if not (self.is_fed or self.has_begun or self._readers):
            self._on_end(self)

    def hang_up(self) -> None:
        """Let those who listen know that they will not hear the rest."""
        for reader in tuple(self._readers):
            reader.hang_up()

    def _tell(self) -> None:
        for reader in tuple(self._readers):
            reader.wake()


class Reader:
    """A place in a feed. `is_cut` says that nothing more will come, although the turn goes on."""

    def __init__(self, feed: Feed) -> None:
        self.is_cut = False
        self._feed = feed
        self._attempt = feed.attempt
        self._telling = feed.telling
        self._piece = self._offset = self._other = 0
        self._has_end = False
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There is something to take."""
        self._news.set()

    def hang_up(self) -> None:
        """Nothing more will come."""
        self.is_cut = True
        self._news.set()

    async def wait(self) -> None:
        """Until there may be something to take."""
        await self._news.wait()

    def take(self) -> list[Told]:
        """What was told since the last time, text joined; of much text a part, and then `wait` does not wait. The last event is
        taken once."""
        self._news.clear()
        found: list[Told] = []
        if self._attempt != self._feed.attempt:
            self._attempt, self._telling = self._feed.attempt, self._feed.telling
            self._piece = self._offset = self._other = 0
            found.append(Restarted("resume"))
        telling, room = self._telling, MAX_TAKEN_CHARS
        while room > 0:
            others = telling.others
            upto = others[self._other][0] if self._other < len(others) else len(telling.pieces)
            if self._piece < upto:
                text = self._text(upto, room)
                room -= len(text)
                found.append(TextDelta(text))
            elif self._other < len(others):
                found.append(others[self._other][1])
                self._other += 1
            else:
                break
        if room <= 0:
            self._news.set()
        elif telling.end is not None and not self._has_end:
            self._has_end = True
            found.append(telling.end)
        return found

    def close(self) -> None:
        """Be told nothing more."""
        self._feed.leave(self)

    def _text(self, upto: int, room: int) -> str:
        parts = []
        while self._piece < upto and room > 0:
            piece = self._telling.pieces[self._piece]
            parts.append(piece[self._offset : self._offset + room])
            room -= len(parts[-1])
            self._offset += len(parts[-1])
            if self._offset >= len(piece):
                self._piece, self._offset = self._piece + 1, 0
        return "".join(parts)


class Feeds:
    """All feeds, by their source: those that go on, and the newest of those that have ended."""

    def __init__(self, most: int = MAX_ENDED, most_chars: int = MAX_ENDED_CHARS) -> None:
        self._most = most
        self._most_chars = most_chars
        self._going: dict[str, Feed] = {}
        self._ended: OrderedDict[str, Feed] = OrderedDict()
        self._chars = 0

    def __len__(self) -> int:
        return len(self._going) + len(self._ended)

    def find(self, source_id: str) -> Feed | None:
        """The feed of a message, if it goes on, or is still at hand."""
        if source_id in self._ended:
            self._ended.move_to_end(source_id)
        return self._going.get(source_id) or self._ended.get(source_id)

    def open(self, key: SessionKey, source_id: str, digest: str = "") -> Feed:
        """A feed that goes on: the one that there is, or a new one."""
        feed = self._going.get(source_id)
        if feed is None:
            self._drop(source_id)
            feed = self._going[source_id] = Feed(key, source_id, digest, self._end)
        return feed

    def forget(self, feed: Feed) -> None:
        """Let a feed go that nothing will be told to."""
        if self._going.get(feed.source_id) is feed:
            del self._going[feed.source_id]

    def hang_up(self) -> None:
        """Nobody can be told anything more over the connections that there are."""
        for feed in tuple(self._going.values()):
            feed.hang_up()

    def _end(self, feed: Feed) -> None:
        self.forget(feed)
        end = feed.end
        if end is None or (isinstance(end, TurnFailed) and end.kind in _FORGOTTEN and not end.kept):
            return
        self._ended[feed.source_id] = feed
        self._chars += feed.chars
        while len(self._ended) > self._most or (self._chars > self._most_chars and len(self._ended) > 1):
            self._drop(next(iter(self._ended)))

    def _drop(self, source_id: str) -> None:
        dropped = self._ended.pop(source_id, None)
        if dropped is not None:
            self._chars -= dropped.chars
