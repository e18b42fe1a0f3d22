"""The Bot API over real HTTP, on loopback, with the people who write to the bot.

Knows connections, tokens, faults and the log of calls; what is answered stands in `bot_methods`, what people do in `bot_chat`.
Time stands still unless a test advances `clock`: a poll without updates is held, and a flood lasts, until then.

    async with FakeBotAPI() as api:
        bot = Bot(api.token, base_url=f"{api.url}/bot", base_file_url=f"{api.url}/file/bot")
        chat = api.user(name="Olga").private()
        await chat.say("hi")
        api.fail("sendMessage", 429, parameters={"retry_after": 5})
        await chat.until(lambda chat: chat.texts == ["hello"])

By hand: `python -m tests.fakes.bot_api --port 0`, and talk as the user.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias, cast

from tests.fakes.bot_chat import Chat, User
from tests.fakes.bot_console import Console
from tests.fakes.bot_faults import BAD_GATEWAY, DOWNLOAD, EVERY, Fault, Faults, Gate, Refuse, Reset
from tests.fakes.bot_methods import perform, poll_arguments
from tests.fakes.bot_updates import BotError, Clock, RunningClock, ServerClock, UpdateQueue
from tests.fakes.bot_wire import JSON, MAX_HEAD_BYTES, Fields, Gone, Wire
from tests.fakes.bot_world import PATIENCE_S, Bot, Person, Room, World

__all__ = [
    "DOWNLOAD",
    "EVERY",
    "TOKEN",
    "BotCall",
    "Chat",
    "Clock",
    "FakeBotAPI",
    "Fault",
    "Gate",
    "RunningClock",
    "User",
    "main",
]

TOKEN = "123456:TEST-TOKEN-of-no-use-anywhere"

_PATH = re.compile(r"/(?P<file>file/)?bot(?P<token>[^/]*)/(?P<rest>.*)")
# How a token looks; what looks otherwise is no address at all, and a 404.
_TOKEN = re.compile(r"\d+:[\w-]+")

# An answer on its way: status, headers, body. None breaks the connection.
_Answer: TypeAlias = "tuple[int, Mapping[str, str], bytes] | None"


@dataclass(eq=False, slots=True)
class BotCall:
    """One request that arrived. `at_s` is the server's time; `began_s` and `ended_s` are monotonic, to see what overlaps.

    `status` is 0 while it runs and where it was never answered; `result` is what was answered, or the description of the
    error. `connection` counts from 1.
    """

    method: str
    fields: Fields
    connection: int
    at_s: float
    began_s: float
    ended_s: float = 0.0
    status: int = 0
    result: object = None

    @property
    def chat_id(self) -> int | None:
        return self.fields.number("chat_id")

    @property
    def text(self) -> str:
        return self.fields.text("text")


class FakeBotAPI:
    """The server; an async context manager.

    Args:
        reads_all_group_messages: privacy mode is off.
        has_topics: private chats may have topics.
        clock: the server's time; one that runs for tries by hand and long runs.
        log_limit: how many calls `calls` remembers, for long runs; None: all.
    """

    def __init__(
        self,
        *,
        token: str = TOKEN,
        username: str = "nano_test_bot",
        reads_all_group_messages: bool = False,
        has_topics: bool = False,
        clock: ServerClock | None = None,
        port: int = 0,
        log_limit: int | None = None,
    ) -> None:
        self.token = token
        self.clock: ServerClock = clock or Clock()
        person = Person(int(token.partition(":")[0]), "Nano", username, is_bot=True)
        self.bot = Bot(token, person, reads_all_group_messages, has_topics)
        self.world = World(self.bot, self.clock)
        self.calls: list[BotCall] = []
        self.connections = 0
        self.url = ""
        self._faults = Faults()
        self._port = port
        self._log_limit = log_limit
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- people ------------------------------------------------------------------------------------------------------

    def user(self, id: int | None = None, name: str = "Olga", username: str = "") -> User:
        """Somebody with an account; the id is made up where none is given."""
        return User(self.world, Person(5_000_000 + self.world.number() if id is None else id, name, username))

    def group(
        self,
        title: str,
        members: Sequence[User],
        *,
        kind: Literal["group", "supergroup"] = "supergroup",
        forum: bool = False,
    ) -> Chat:
        """A group that the bot is in. Only a forum has topics."""
        number = self.world.number()
        group_id = -4_000_000 - number if kind == "group" else -1_001_000_000_000 - number
        room = Room(group_id, kind, [member.person for member in members], title, is_forum=forum)
        self.world.rooms[group_id] = room
        return Chat(self.world, room)

    @property
    def updates(self) -> UpdateQueue:
        """What waits to be fetched; `put` takes raw updates, also such as no client can read."""
        return self.world.updates

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def fail(
        self,
        method: str,
        status: int = 500,
        description: str = "",
        *,
        parameters: Mapping[str, int] | None = None,
        times: int = 1,
        chat_id: int | None = None,
    ) -> Fault:
        """Refuse the next `times` calls of `method`; a 5xx without a description is a page of HTML."""
        if status == 429 and not parameters:
            parameters = {"retry_after": 5}
        if parameters and "retry_after" in parameters and not description:
            description = f"Too Many Requests: retry after {parameters['retry_after']}"
        refuse = Refuse(status, description, parameters or {})
        return self._faults.add(Fault(method, refuse, times, chat_id))

    def reset(
        self, method: str, *, when: Literal["before", "after"], times: int = 1, chat_id: int | None = None
    ) -> Fault:
        """Break the connection of the next calls: before they are looked at, or after they were carried out."""
        return self._faults.add(Fault(method, Reset(when), times, chat_id))

    def gate(
        self,
        method: str,
        *,
        when: Literal["before", "after"] = "before",
        times: int = 1,
        chat_id: int | None = None,
    ) -> Gate:
        """Hold the next calls until the gate is opened; one that never is hangs them."""
        gate = Gate(when)
        self._faults.add(Fault(method, gate, times, chat_id))
        return gate

    def conflict(self, times: int = 1) -> None:
        """Another instance polls: the held poll, or the next one, and `times` in all end in a 409."""
        self.updates.conflict(times)

    def mend(self) -> None:
        """Take everything out of the way that was put there and not met."""
        self._faults.clear()

    # --- what was called ---------------------------------------------------------------------------------------------

    def called(self, method: str, chat: Chat | None = None) -> list[BotCall]:
        """The calls of a method, oldest first; those that still run are among them."""
        return [
            call
            for call in self.calls
            if call.method.lower() == method.lower() and (chat is None or call.chat_id == chat.id)
        ]

    async def until(self, holds: Callable[[FakeBotAPI], object], *, patience_s: float = PATIENCE_S) -> None:
        """Wait for a condition on all of it: calls, updates, chats."""
        await self.world.bell.until(lambda: holds(self), patience_s, self._describe)

    async def polled(self) -> None:
        """Wait until a poll is held: the bot has everything, and waits for more."""
        await self.until(lambda api: api.updates.is_polled)

    def _describe(self) -> str:
        return "\n".join(f"{call.method} {dict(call.fields.values)} -> {call.status}" for call in self.calls[-30:])

    # --- the server --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.come_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_down()

    async def come_up(self) -> None:
        """Listen; after `go_down` at the same address."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=MAX_HEAD_BYTES)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def go_down(self) -> None:
        """Refuse connections and break those that there are; chats and updates stay."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while await self._exchange(Wire(reader, writer), number):
                pass
        except (Gone, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _exchange(self, wire: Wire, connection: int) -> bool:
        """Answer one request; False closes the connection."""
        request = await wire.read()
        place = _PATH.fullmatch(request.path)
        if place is None:
            await wire.respond(404, JSON, _error(BotError(404, "Not Found")))
            return True
        method = DOWNLOAD if place["file"] else place["rest"]
        call = BotCall(method, request.fields, connection, self.clock.now_s, time.monotonic())
        self._log(call)
        try:
            answer = await wire.unless_gone(self._answer(call, place["token"], place["rest"]))
            if answer is None:
                wire.reset()
                return False
            call.status = answer[0]
            # Whoever waits for this call may act on it before the answer is out: as with a network in between.
            await wire.respond(*answer)
        finally:
            call.ended_s = time.monotonic()
            self.world.bell.ring()
        return True

    def _log(self, call: BotCall) -> None:
        self.calls.append(call)
        if self._log_limit is not None and len(self.calls) > 2 * self._log_limit:
            del self.calls[: -self._log_limit]
        self.world.bell.ring()

    async def _answer(self, call: BotCall, token: str, rest: str) -> _Answer:
        """What a call meets on its way in, what comes of it, and what that meets on its way out."""
        happening = self._faults.meet(call.method, call.chat_id)
        match happening:
            case Reset(when="before"):
                return None
            case Refuse() if happening.status >= 500 and not happening.description:
                return happening.status, {"content-type": "text/html"}, BAD_GATEWAY
            case Refuse():
                call.result = happening.words
                return happening.status, JSON, _error(BotError(happening.status, happening.words, happening.parameters))
            case Gate(when="before"):
                happening.reached.set()
                await happening.opened.wait()
            case _:
                pass
        answer = await self._outcome(call, token, rest)
        match happening:
            case Reset(when="after"):
                return None
            case Gate(when="after"):
                happening.reached.set()
                await happening.opened.wait()
            case _:
                pass
        return answer

    async def _outcome(self, call: BotCall, token: str, rest: str) -> _Answer:
        try:
            self._check(token)
            if call.method == DOWNLOAD:
                return 200, {"content-type": "application/octet-stream"}, self._file(rest)
            call.result = await self._result(call)
        except BotError as error:
            call.result = error.description
            return error.status, JSON, _error(error)
        return 200, JSON, json.dumps({"ok": True, "result": call.result}, ensure_ascii=False).encode()

    def _check(self, token: str) -> None:
        if token != self.token or self.bot.revoked:
            raise BotError(401, "Unauthorized") if _TOKEN.fullmatch(token) else BotError(404, "Not Found")

    def _file(self, path: str) -> bytes:
        if (file := self.world.linked(path)) is None:
            raise BotError(404, "Not Found")
        return file.data

    async def _result(self, call: BotCall) -> object:
        if call.method.lower() != "getupdates":
            return perform(self.world, call.method.lower(), call.fields)
        waiting = self.updates.get(*poll_arguments(call.fields))
        # A poll that waits is news: `polled` is about it.
        asyncio.get_running_loop().call_soon(self.world.bell.ring)
        return await waiting


def _error(error: BotError) -> bytes:
    body: dict[str, object] = {"ok": False, "error_code": error.status, "description": error.description}
    if error.parameters:
        body["parameters"] = error.parameters
    return json.dumps(body, ensure_ascii=False).encode()


async def _run(port: int, token: str, user_id: int) -> None:
    async with FakeBotAPI(port=port, token=token, clock=RunningClock(), reads_all_group_messages=True) as api:
        print(f"TELEGRAM_BOT_TOKEN={api.token} NANOCHAT_TELEGRAM__BASE_URL={api.url}", flush=True)
        await Console(api, api.user(user_id, "You")).run()


def main() -> None:
    parser = argparse.ArgumentParser(description="A Bot API on loopback; you are the user.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument("--user", type=int, default=5_000_001, metavar="ID", help="your Telegram id")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.port, options.token, options.user))


if __name__ == "__main__":
    main()
