"""The turn's rooms put together around a scripted model and a real store, as the roof does it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from nanochat.events import Inbound, ReplyEvent, Sender, Text
from nanochat.history.digest import DIGEST_INSTRUCTIONS
from nanochat.jobs import Job
from nanochat.keys import SessionKey
from nanochat.ledger import Ledger
from nanochat.ports import Model, Tool
from nanochat.process.liveness import Presence
from nanochat.search import SearchIndex
from nanochat.sessions import SessionManager
from nanochat.store import FileStore
from nanochat.tools import ScheduleTool, SessionsTool
from nanochat.turn.agent import Agent, AgentSettings
from nanochat.turn.assistant import Assistant
from nanochat.turn.commands import Commands
from nanochat.turn.condense import Condenser
from nanochat.turn.limits import Limits, Purse, RateFence
from nanochat.turn.runs import Crew
from nanochat.turn.toolbox import Toolbox
from tests.fakes.scripted_model import ScriptedModel, Step

__all__ = ["OWNER", "FakeClock", "House"]

OWNER = Sender("cli", "olga", owner=True)


@dataclass
class FakeClock:
    """Stands still until it is moved."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 20, 12, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **amount: float) -> None:
        self.now += timedelta(**amount)


class House:
    """`say` sends a message through the assistant and returns all events.

    With `jobs`, those of the settings, it has the tool that makes others.
    """

    def __init__(  # noqa: PLR0913 - each test names the one it is about
        self,
        directory: Path,
        script: Sequence[Step] = (),
        *,
        settings: AgentSettings | None = None,
        limits: Limits | None = None,
        tools: Sequence[Tool] | Toolbox | None = None,
        summary_model: str = "",
        clock: FakeClock | None = None,
        model: Model | None = None,
        jobs: Sequence[Job] | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.model = ScriptedModel(list(script))
        answering = model or self.model
        self.presence = Presence(directory / "leases")
        self.ledger = Ledger(directory / "ledger.db", self.presence)
        self.manager = SessionManager(FileStore(directory / "sessions"), clock=self.clock)
        self.search = SearchIndex(directory / "sessions", directory / "index.db")
        limits = limits or Limits()
        settings = settings or AgentSettings(self.model.name, "You are a test.", ZoneInfo("Europe/Prague"))
        self.purse = Purse(self.ledger, limits, settings.timezone, self.clock)
        condenser = Condenser(
            self.manager,
            answering,
            summary_model=summary_model,
            budget_tokens=settings.budget_tokens,
            max_messages=settings.max_messages,
            purse=self.purse,
            clock=self.clock,
        )
        self.schedule = ScheduleTool(
            self.ledger.jobs,
            zone=settings.timezone.key,
            settings=lambda: jobs or (),
            poke=self.poke,
            channels=("cli", "memory"),
        )
        tools = (
            (SessionsTool(self.manager.store, self.search), *((self.schedule,) if jobs is not None else ()))
            if tools is None
            else tools
        )
        toolbox = tools if isinstance(tools, Toolbox) else Toolbox(tools, (), 60.0)
        agent = Agent(
            self.manager, answering, toolbox, settings, condenser=condenser, purse=self.purse, clock=self.clock
        )
        self.agent = agent
        of_digests = replace(settings, system_prompt=DIGEST_INSTRUCTIONS, purpose="summary", attended=False)
        prompts = Agent(
            self.manager,
            answering,
            toolbox,
            replace(settings, attended=False),
            condenser=condenser,
            purse=self.purse,
            clock=self.clock,
        )
        digests = Agent(
            self.manager,
            answering,
            Toolbox((), (), 60.0),
            of_digests,
            condenser=condenser,
            purse=self.purse,
            clock=self.clock,
        )
        self.crew = Crew(prompts, digests)
        self.pokes = 0
        self.has_daemon = True
        self.commands = Commands(self.manager, condenser, settings, jobs=_no_jobs, clock=self.clock)
        self.fence = RateFence(limits.turns_per_minute, self.clock)
        self.assistant = Assistant(
            self.manager, agent, self.commands, limits=limits, fence=self.fence, purse=self.purse
        )
        self._answering = answering
        self._numbers = itertools.count(1)

    def poke(self) -> bool:
        """Stands for the bell at a daemon's door."""
        self.pokes += 1
        return self.has_daemon

    def inbound(self, text: str, key: str = "cli:test", source_id: str = "", sender: Sender = OWNER) -> Inbound:
        source_id = source_id or f"cli:{next(self._numbers)}"
        return Inbound(SessionKey.parse(key), source_id, sender, (Text(text),), self.clock.now)

    async def say(
        self, text: str, key: str = "cli:test", source_id: str = "", sender: Sender = OWNER
    ) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        await self.assistant(self.inbound(text, key, source_id, sender), events.append)
        return events

    async def close(self) -> None:
        await self._answering.close()
        await self.search.close()
        await self.manager.close()
        await self.ledger.close()
        self.presence.leave()


async def _no_jobs(_: Inbound) -> Sequence[str]:
    return ()
