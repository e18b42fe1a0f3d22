"""What a reader of a feed is told, as events of a stream or as one answer.

Knows the fields of the wire. Does not know how a feed is filled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from nanochat.channels.http.feeds import Feed, Reader, Restarted, Told
from nanochat.channels.http.frames import Write, comment, frame
from nanochat.channels.http.problems import Problem, of_error, of_failure
from nanochat.errors import NanochatError
from nanochat.events import Notice, TextDelta, ToolFinished, ToolStarted, TurnDone, TurnFailed
from nanochat.keys import SessionKey
from nanochat.records import Usage

__all__ = ["CUT", "Telling", "id_of", "usage_fields"]

CUT = Problem(
    503,
    "ending",
    "nanochat is ending; the answer goes on when it is back: send the message again with the same Idempotency-Key",
    retryable=True,
)
"""What is told instead of the rest of an answer, when the daemon ends before the turn does."""

# Ids that mean something else in a path; clients take the dots out before they ask.
_TAKEN = ("new", ".", "..")


def id_of(key: SessionKey) -> str:
    """The id that names a session in a path: short for those of HTTP, the whole key for others."""
    is_short = key.channel == "http" and ":" not in key.chat_id and key.chat_id not in _TAKEN
    return key.chat_id if is_short else str(key)


def usage_fields(usage: Usage) -> dict[str, object]:
    """Tokens by kind; both lives of the cache are one kind here."""
    return {
        "input": usage.input,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write + usage.cache_write_1h,
        "output": usage.output,
    }


@dataclass
class Telling:
    """One answer, told to one reader; `look_again` is called whenever nothing came for `patience_s` and nothing had before."""

    feed: Feed
    reader: Reader
    restarted: Restarted | None
    look_again: Callable[[Feed], Awaitable[None]]
    patience_s: float
    tools: list[dict[str, object]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    async def first(self, most_s: float) -> None:
        """Wait for the first event, but not for long."""
        if not self.feed.has_begun:
            with suppress(TimeoutError):
                async with asyncio.timeout(most_s):
                    await self.reader.wait()

    async def stream(self, write: Write) -> None:
        """Write all of it; the last frame is `done` or `error`."""
        key = self.feed.key
        begin = frame("session", {"session_id": id_of(key), "key": str(key), "source_id": self.feed.source_id})
        if self.restarted is not None:
            begin += self._frame(self.restarted)
        try:
            is_over = False
            while not is_over:
                told = self.reader.take()
                is_over = any(isinstance(one, TurnDone | TurnFailed) for one in told)
                frames = b"".join(map(self._frame, told))
                if self.reader.is_cut and not is_over:
                    frames += frame("error", CUT.fields())
                    is_over = True
                if begin + frames:
                    await write(begin + frames)
                    begin = b""
                if not is_over:
                    await self._wait()
        except NanochatError as error:  # a stream that has begun has no other way to say it
            await write(begin + frame("error", of_error(error).fields()))
        finally:
            self.reader.close()

    async def whole(self) -> dict[str, object] | Problem:
        """Wait for the end, and tell all of it at once."""
        try:
            while True:
                for told in self.reader.take():
                    if isinstance(told, TurnFailed):
                        return of_failure(told)
                    if isinstance(told, TurnDone):
                        return {**self._done(told), "tools": self.tools}
                    self._note(told)
                if self.reader.is_cut:
                    return CUT
                await self._wait()
        except NanochatError as error:
            return of_error(error)
        finally:
            self.reader.close()

    async def _wait(self) -> None:
        if self.feed.has_begun or self.restarted is None:
            await self.reader.wait()
            return
        try:
            async with asyncio.timeout(self.patience_s):
                await self.reader.wait()
        except TimeoutError:
            await self.look_again(self.feed)

    def _note(self, told: Told) -> None:
        match told:
            case Restarted():
                self.tools.clear()
                self.notices.clear()
            case Notice(text=text):
                self.notices.append(text)
            case ToolFinished(name=name, ok=ok, seconds=seconds):
                self.tools.append({"name": name, "ok": ok, "seconds": round(seconds, 3)})
            case _:
                pass

    def _frame(self, told: Told) -> bytes:
        self._note(told)
        match told:
            case Restarted(reason=reason):
                return frame("restart", {"reason": reason})
            case TextDelta(text=text):
                return frame("delta", {"text": text})
            case ToolStarted(call_id=call_id, name=name, title=title):
                return frame("tool", {"call_id": call_id, "name": name, "state": "started", "title": title})
            case ToolFinished(call_id=call_id, name=name, ok=ok, seconds=seconds):
                fields: Mapping[str, object] = {
                    "call_id": call_id,
                    "name": name,
                    "state": "finished",
                    "ok": ok,
                    "seconds": round(seconds, 3),
                }
                return frame("tool", fields)
            case Notice(text=text):
                return comment(text)
            case TurnDone():
                return frame("done", self._done(told))
            case TurnFailed():
                return frame("error", of_failure(told).fields())

    def _done(self, done: TurnDone) -> dict[str, object]:
        stats, key = done.stats, self.feed.key
        return {
            "session_id": id_of(key),
            "key": str(key),
            "text": done.text,
            "mark": done.mark,
            "message_ids": list(done.message_ids),
            "model": stats.model if stats else None,
            "usage": usage_fields(stats.usage) if stats else None,
            "cost_usd": stats.cost_usd if stats else None,
            "context_tokens": stats.context_tokens if stats else None,
            "budget_tokens": stats.budget_tokens if stats else None,
            "window_tokens": stats.window_tokens if stats else None,
            "ttft_s": stats.ttft_s if stats else None,
            "seconds": stats.seconds if stats else None,
            "notices": list(self.notices),
        }
