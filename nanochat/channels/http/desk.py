"""Where messages are handed in: each is begun once, however often it is posted.

    a new message            -> a turn begins, and its feed is read
    the same key, same body  -> the feed that there is; what a crash cut short is waited for; what is over is told again
    the same key, other body -> refused

Knows source ids and what to ask of those who do turns. Does not know HTTP's framing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from weakref import WeakValueDictionary

from nanochat.channels.http.feeds import Feed, Feeds, Restarted
from nanochat.channels.http.problems import Problem, Refused
from nanochat.doors import Known, LiveTurns
from nanochat.events import Inbound, ReplyEvent, Sender, Text, TurnFailed
from nanochat.keys import SessionKey
from nanochat.ports import Emit

__all__ = ["HOLDER", "Desk", "Post", "digest_of"]

HOLDER = Sender("http", "http", owner=True)
"""Who holds the token, or can open the socket: the person whose daemon this is."""


@dataclass(frozen=True, slots=True)
class Post:
    """A message as it was posted; without an `idempotency_key` it is like no other."""

    key: SessionKey
    message: str
    system_prompt: str | None = None
    idempotency_key: str | None = None

    @property
    def digest(self) -> str:
        """What tells this body from another."""
        return digest_of(self.message, self.system_prompt)

    def source_id(self) -> str:
        """The name of this message for ever."""
        if self.idempotency_key is None:
            return f"http:{uuid.uuid4().hex}"
        return f"http:{digest_of(str(self.key), self.idempotency_key)}"


def digest_of(*parts: str | None) -> str:
    """A short name for some texts, the same in every process."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


class Desk:
    """Takes posts in; may be called concurrently."""

    def __init__(self, turns: LiveTurns, feeds: Feeds, clock: Callable[[], datetime]) -> None:
        self._turns = turns
        self._feeds = feeds
        self._clock = clock
        self._looking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take(self, post: Post) -> tuple[Feed, Restarted | None]:
        """The feed that the answer comes by; with a sign where the message had been posted before.

        Raises:
            Refused: the key was used for another body, or the conversation has another system text.
            LedgerError, StoreError: it cannot be told whether it is known, or its system text cannot be kept.
        """
        source_id = post.source_id()
        # Two posts of one message at once: the second finds what the first has begun.
        lock = self._looking.get(source_id) or asyncio.Lock()
        self._looking[source_id] = lock
        async with lock:
            feed = self._feeds.find(source_id)
            if feed is not None and feed.digest:
                _check(feed.digest, post)
                if not await self._was_never_written(feed):
                    return feed, _restarted(feed)
                feed = None
            # Before it is asked: what a crash cut short may be gone on with at any moment, and is then told to this feed.
            feed = feed or self._feeds.open(post.key, source_id)
            try:
                return await self._look_up(post, feed)
            finally:
                if not (feed.is_fed or feed.has_begun or feed.digest):
                    self._feeds.forget(feed)

    async def look_again(self, feed: Feed) -> None:
        """Of a message that somebody should go on with: find out whether that has come to its end unheard.

        Raises:
            LedgerError: it cannot be told.
        """
        if not (feed.is_fed or feed.has_begun):
            known = await self._turns.known(feed.source_id)
            if known is not None and not known.is_open and not feed.has_begun:
                await self._retell(_named(feed, self._clock()), feed, known)

    async def _was_never_written(self, feed: Feed) -> bool:
        """Whether a message failed for want of a disk before it could be written down: posted again, it is begun."""
        end = feed.end
        if not isinstance(end, TurnFailed) or end.kind != "store" or end.kept:
            return False
        return await self._turns.known(feed.source_id) is None

    async def _look_up(self, post: Post, feed: Feed) -> tuple[Feed, Restarted | None]:
        known = None if post.idempotency_key is None else await self._turns.known(feed.source_id)
        if known is None:
            await self._begin(post, feed)
            return feed, None
        _check(known.digest, post)
        feed.digest = post.digest
        if not known.is_open and not feed.has_begun:
            await self._retell(self._inbound(post, feed.source_id), feed, known)
        return feed, _restarted(feed)

    async def _begin(self, post: Post, feed: Feed) -> None:
        if post.system_prompt is not None and not await self._turns.set_system(post.key, post.system_prompt):
            words = f"{post.key} has begun with another system prompt: leave it out, or begin a new session"
            raise Refused(Problem(422, "system_prompt", words))
        feed.digest, feed.is_fed = post.digest, True
        self._turns.begin(self._inbound(post, feed.source_id), feed, post.digest)

    async def _retell(self, inbound: Inbound, feed: Feed, known: Known) -> None:
        await self._turns.retell(inbound, _annotated(feed, known.note))

    def _inbound(self, post: Post, source_id: str) -> Inbound:
        return Inbound(post.key, source_id, HOLDER, (Text(post.message),), self._clock())


def _annotated(emit: Emit, note: str) -> Emit:
    """Where a session tells only that a turn failed, say what is noted of it."""

    def tell(event: ReplyEvent) -> None:
        emit(replace(event, message=note) if note and isinstance(event, TurnFailed) else event)

    return tell


def _named(feed: Feed, now: datetime) -> Inbound:
    return Inbound(feed.key, feed.source_id, HOLDER, (), now)


def _restarted(feed: Feed) -> Restarted:
    return Restarted("resume" if feed.end is None else "replay")


def _check(digest: str, post: Post) -> None:
    if digest and digest != post.digest:
        raise Refused(
            Problem(
                422,
                "idempotency",
                "this Idempotency-Key was used for another message: take a new key for a new message",
            )
        )
