"""The house: what the terminal and the daemon are given of the rooms that `wiring` put together.

Knows which room does what of it. Does not know how a room is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from nanochat import transcript
from nanochat.catalog import Catalog
from nanochat.cli.jobs import from_settings
from nanochat.cli.values import check_caps, limits_of
from nanochat.config import Config
from nanochat.doors import LiveTurns
from nanochat.events import Seen
from nanochat.history.digest import DIGEST_INSTRUCTIONS
from nanochat.inbox.dispatcher import Dispatcher
from nanochat.inbox.live import Live
from nanochat.jobs import Job
from nanochat.keys import SessionKey
from nanochat.ledger import Ledger
from nanochat.ports import Begin, Channel, Emit, Model, Tool
from nanochat.process.patience import Patience
from nanochat.records import Block, Record, SetValue
from nanochat.search import SearchIndex
from nanochat.sessions import SessionManager
from nanochat.store import FileStore
from nanochat.turn.agent import Agent, AgentSettings
from nanochat.turn.assistant import Assistant
from nanochat.turn.condense import Condenser
from nanochat.turn.limits import Purse, RateFence
from nanochat.turn.toolbox import Toolbox

if TYPE_CHECKING:
    from nanochat.inbox.worker import Worker

__all__ = ["Agents", "FindJob", "House", "Remarks", "Rooms"]

# What sums up a day is read on a phone: about four times as much as it is asked for.
_DIGEST_MAX_TOKENS = 2000

_TERMINAL = "cli:"

FindJob: TypeAlias = Callable[[str], Awaitable[Job | None]]

Remarks: TypeAlias = dict[str, Callable[[], Sequence[str]]]
"""What `/status` says of each channel, by its name."""


@dataclass
class Agents:
    """Everybody of the house who does turns, and what bounds them all."""

    manager: SessionManager
    model: Model
    condenser: Condenser
    purse: Purse
    clock: Callable[[], datetime]
    tool_timeout_s: float = 60.0
    hired: list[tuple[Agent, Toolbox]] = field(default_factory=list)

    def hire(self, tools: Sequence[Tool], server_tools: Sequence[Block], settings: AgentSettings) -> Agent:
        """One more, with tools of its own."""
        toolbox = Toolbox(tools, server_tools, self.tool_timeout_s)
        agent = Agent(
            self.manager, self.model, toolbox, settings, condenser=self.condenser, purse=self.purse, clock=self.clock
        )
        self.hired.append((agent, toolbox))
        return agent

    def limit(self, max_rounds: int, turn_timeout_s: float, tool_timeout_s: float) -> None:
        """Bound all of them anew."""
        self.tool_timeout_s = tool_timeout_s
        for agent, toolbox in self.hired:
            toolbox.timeout_s = tool_timeout_s
            agent.settings = replace(agent.settings, max_rounds=max_rounds, turn_timeout_s=turn_timeout_s)


@dataclass(frozen=True, slots=True)
class Rooms:
    """All that one process is made of. `tools` and `server_tools` are what a job's turn may use as well."""

    store: FileStore
    search: SearchIndex
    manager: SessionManager
    """Over that store."""
    model: Model
    ledger: Ledger
    purse: Purse
    fence: RateFence
    agents: Agents
    settings: AgentSettings
    tools: Sequence[Tool]
    server_tools: Sequence[Block]
    assistant: Assistant
    dispatcher: Dispatcher
    jobs: list[Sequence[Job]]
    """The jobs of the settings file: one item, which a reload replaces."""
    remarks: Remarks
    clock: Callable[[], datetime]
    offline: bool


class House:
    """Every method may be called concurrently."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self.handler = rooms.dispatcher.live
        self.warm = rooms.model.warm
        self.store = rooms.store
        self.search = rooms.search
        self.follow = rooms.store.follow
        self.ledger = rooms.ledger
        self.catalog = Catalog(
            rooms.manager, rooms.store, budget_tokens=rooms.settings.budget_tokens, clock=rooms.clock
        )

    async def recall(self, key: SessionKey) -> list[Seen]:
        """The last exchanges of a session, for whoever comes back to it."""
        session = await self._rooms.manager.get_or_create(key)
        return transcript.exchanges(key, session.records, 2)

    async def watch(self, key: SessionKey, show: Callable[[Seen], None]) -> None:
        """See `ports.Watch`."""

        def each(records: Sequence[Record]) -> None:
            for seen in transcript.to_seen(key, records):
                show(seen)

        await self._rooms.manager.follow(key, each)

    async def resume(self, key: SessionKey, emit: Emit) -> bool:
        """Finish what a crash cut short in a session; True if there was something, told through the Emit."""
        return await self._rooms.dispatcher.resume(key, _TERMINAL, emit)

    async def close_orphans(self, key: SessionKey) -> int:
        """Close what a crash cut short in a session, without going on with it; tells how many messages were never begun, and
        wait."""
        return await self._rooms.dispatcher.close_orphans(key, _TERMINAL)

    async def set_system(self, key: SessionKey, text: str) -> None:
        """Give a session its system text."""
        manager = self._rooms.manager
        async with manager.turn(key) as session:
            if session.system != text:
                await manager.append(session, SetValue("system", text), durable=True)

    def live(self, begin: Begin) -> LiveTurns:
        """Turns that outlive those who asked for them; `begin` is the worker's."""
        return Live(begin, self._rooms.ledger, self._rooms.assistant, self._rooms.manager)

    def remark(self, name: str, ask: Callable[[], Sequence[str]]) -> None:
        """Have `/status` ask a channel, by its name, what is to be said of it."""
        self._rooms.remarks[name] = ask

    def hire(self, channels: Mapping[str, Channel], patience: Patience, job_of: FindJob) -> Worker:
        """A worker for the inbox of channels that nobody waits at, and for the fires of jobs."""
        from nanochat.inbox.answering import Turns
        from nanochat.inbox.deliveries import Deliveries
        from nanochat.inbox.worker import Worker
        from nanochat.turn.runs import Crew, Runs

        rooms = self._rooms
        ledger, assistant, manager, clock = rooms.ledger, rooms.assistant, rooms.manager, rooms.clock
        of_digests = replace(
            rooms.settings,
            system_prompt=DIGEST_INSTRUCTIONS,
            max_tokens=min(rooms.settings.max_tokens, _DIGEST_MAX_TOKENS),
            purpose="summary",
            attended=False,
        )
        of_prompts = replace(rooms.settings, attended=False)
        crew = Crew(
            rooms.agents.hire(rooms.tools, rooms.server_tools, of_prompts), rooms.agents.hire((), (), of_digests)
        )
        runs = Runs(assistant, manager, crew, ledger.jobs, rooms.purse, job_of=job_of, clock=clock)
        turns = Turns(
            handler=runs,
            again=runs.again,
            live=rooms.dispatcher.live,
            passes=runs.passes,
            interrupt=runs.interrupt,
            make_way=assistant.make_way,
            coming=assistant.coming,
            opens_at=rooms.fence.opens_at,
        )
        deliveries = Deliveries(ledger, channels, manager, patience, clock)
        bound = rooms.purse.limits.concurrent_turns
        return Worker(ledger, channels, turns, deliveries, patience, concurrent_turns=bound, clock=clock)

    def jobs(self) -> Sequence[Job]:
        """The jobs of the settings file."""
        return self._rooms.jobs[-1]

    def limit(self, other: Config) -> None:
        """Go by the `[limits]` and the jobs of other settings from now on.

        Raises:
            SettingError: they cannot be gone by, and nothing has changed.
        """
        rooms = self._rooms
        check_caps(other, offline=rooms.offline)
        rooms.jobs[:] = [from_settings(other)]
        rooms.purse.limits = limits = limits_of(other)
        rooms.fence.turns_per_minute = limits.turns_per_minute
        rooms.assistant.limit(limits)
        rooms.agents.limit(other.limits.max_rounds, other.limits.turn_timeout_s, other.limits.tool_timeout_s)
