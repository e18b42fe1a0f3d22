"""The one place where the parts are put together: settings in, a house with its doors out.

Knows every room's constructor. Does not know what any of them does with what it is given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from nanochat.cli.house import Agents, House, Remarks, Rooms
from nanochat.cli.jobs import RECIPIENTS, from_settings
from nanochat.cli.places import INDEX, LEDGER, WAKE, data_dir, open_store
from nanochat.cli.values import SERVER_TOOLS, agent_settings, check_caps, limits_of, summary_model
from nanochat.config import Config, Endpoint, Secrets, endpoint_of
from nanochat.events import Inbound
from nanochat.inbox.dispatcher import Dispatcher
from nanochat.jobs import Job
from nanochat.ledger import Ledger
from nanochat.ports import Model, ToolContext
from nanochat.process import wake
from nanochat.process.liveness import Presence
from nanochat.search import SearchIndex
from nanochat.sessions import WINDOW_BYTES, SessionManager
from nanochat.tools import MemoryTool, ScheduleTool, SessionsTool
from nanochat.tools.memory import API_SPEC, PLAIN_SPEC
from nanochat.turn.assistant import Assistant
from nanochat.turn.commands import Commands
from nanochat.turn.condense import Condenser
from nanochat.turn.limits import Purse, RateFence

__all__ = ["assemble"]


@asynccontextmanager
async def assemble(config: Config, secrets: Secrets, *, interactive: bool) -> AsyncIterator[House]:
    """Build the house for one process, and leave nothing open behind it.

    Raises:
        SettingError: settings that cannot stand together.
    """
    endpoint = endpoint_of(config.model, secrets)
    check_caps(config, offline=endpoint is None)
    clock = partial(datetime.now, UTC)
    presence = Presence(data_dir(config) / "leases")
    ledger = Ledger(data_dir(config) / LEDGER, presence, clock=clock)
    window_bytes = max(WINDOW_BYTES, 8 * config.context.budget_tokens)
    store = open_store(config)
    manager = SessionManager(store, window_bytes=window_bytes, clock=clock)
    model = _model(config, endpoint, interactive=interactive)
    limits = limits_of(config)
    settings = agent_settings(config, model.name)
    purse = Purse(ledger, limits, settings.timezone, clock)
    condenser = Condenser(
        manager,
        model,
        summary_model=summary_model(config, offline=endpoint is None),
        budget_tokens=config.context.budget_tokens,
        max_messages=config.context.max_messages,
        purse=purse,
        clock=clock,
    )
    native = endpoint is not None and not config.model.base_url
    memory = MemoryTool(data_dir(config) / "memory", API_SPEC if native else PLAIN_SPEC)
    jobs_by_file: list[Sequence[Job]] = [from_settings(config)]
    schedule = ScheduleTool(
        ledger.jobs,
        zone=config.timezone,
        settings=lambda: jobs_by_file[-1],
        poke=partial(wake.ring, data_dir(config) / WAKE),
        channels=RECIPIENTS,
    )
    search = SearchIndex(data_dir(config) / "sessions", data_dir(config) / INDEX)
    tools = (SessionsTool(manager.store, search), memory)
    server_tools = [SERVER_TOOLS[name] for name in config.model.server_tools]
    agents = Agents(manager, model, condenser, purse, clock)
    agent = agents.hire((*tools, schedule), server_tools, settings)
    agents.limit(config.limits.max_rounds, config.limits.turn_timeout_s, config.limits.tool_timeout_s)

    async def jobs_in_words(inbound: Inbound) -> list[str]:
        return await schedule.in_words(ToolContext(inbound.key, inbound.sender, "", clock()))

    remarks: Remarks = {}
    commands = Commands(
        manager,
        condenser,
        settings,
        jobs=jobs_in_words,
        remarks=lambda key: remarks.get(key.channel, tuple)(),
        clock=clock,
    )
    fence = RateFence(limits.turns_per_minute, clock)
    assistant = Assistant(manager, agent, commands, limits=limits, fence=fence, purse=purse)
    dispatcher = Dispatcher(
        assistant,
        ledger,
        again=assistant.again,
        passes=assistant.passes,
        interrupt=assistant.interrupt,
        clock=clock,
    )
    rooms = Rooms(
        store=store,
        search=search,
        manager=manager,
        model=model,
        ledger=ledger,
        purse=purse,
        fence=fence,
        agents=agents,
        settings=settings,
        tools=tools,
        server_tools=server_tools,
        assistant=assistant,
        dispatcher=dispatcher,
        jobs=jobs_by_file,
        remarks=remarks,
        clock=clock,
        offline=endpoint is None,
    )
    try:
        yield House(rooms)
    finally:
        async with AsyncExitStack() as leaving:  # each is done, whatever the one before came to
            leaving.callback(presence.leave)
            leaving.push_async_callback(ledger.close)
            leaving.push_async_callback(manager.close)
            leaving.push_async_callback(search.close)
            leaving.push_async_callback(model.close)


def _model(config: Config, endpoint: Endpoint | None, *, interactive: bool) -> Model:
    if endpoint is None:
        from nanochat.model.offline import OfflineModel

        return OfflineModel(pace_s=0.012 if interactive else 0.0)
    from nanochat.model.anthropic import AnthropicModel

    return AnthropicModel(
        name=config.model.name,
        api_key=endpoint.key,
        auth=endpoint.auth,
        base_url=endpoint.base_url,
        timeout_s=config.model.timeout_s,
        retries=config.model.retries,
        fallback=config.model.fallback,
    )
