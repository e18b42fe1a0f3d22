"""Every setting, its default and its meaning.

Knows names, types and bounds of single values. Does not know files (`loading`), nor what may not stand together.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from nanochat import pricing

__all__ = ["Config", "Context", "Cron", "Http", "Job", "Limits", "Log", "Model", "Sessions", "Telegram"]

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Money: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
Share: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1)]
Days: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=36500)]
Port: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Names: TypeAlias = tuple[str, ...]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """`[model]`: who answers."""

    name: str = pricing.DEFAULT_MODEL
    """The model's id, as the endpoint knows it."""
    provider: Literal["auto", "anthropic", "offline"] = "auto"
    """`auto` is `anthropic` where there is a key or a `base_url`, and else the built-in demo model, for the terminal only."""
    base_url: str = ""
    """Another endpoint that speaks the Messages API; it is only ever sent NANOCHAT_MODEL_KEY. Empty: Anthropic's own."""
    auth: Literal["bearer", "x-api-key"] = "bearer"
    """How NANOCHAT_MODEL_KEY is sent to `base_url`."""
    max_tokens: Positive = 8192
    """The longest reply, in tokens."""
    system_prompt: str = ""
    """What the model is told about its part. Empty: nanochat's own few lines."""
    system_prompt_file: str = ""
    """A text file that holds the system prompt, relative to this file; instead of `system_prompt`."""
    effort: Literal["", "low", "medium", "high", "xhigh", "max"] = ""
    """How much the model thinks before it answers. Empty: as the model sees fit."""
    fallback: Names = ()
    """Models asked in turn, when `name` is overloaded or out of order."""
    timeout_s: Seconds = 90.0
    """How long the endpoint may send nothing before the request is given up, in seconds."""
    retries: Count = 3
    """How often a failed request is repeated, before a fallback or an error."""
    server_tools: tuple[Literal["web_search", "web_fetch"], ...] = ()
    """Tools that the endpoint runs itself: `web_search`, `web_fetch`. They cost extra."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """`[context]`: how much of a conversation is sent."""

    budget_tokens: Positive = 16000
    """A conversation longer than this is compacted, down to half of it."""
    max_messages: Count = 0
    """The most messages that are sent; 0 is no such bound."""
    summarise: bool = True
    """Whether compaction writes a summary of what is no longer sent."""
    summary_model: str = pricing.DEFAULT_SUMMARY_MODEL
    """Who writes that summary."""
    warn_at: Share = 0.8
    """The share of the model's window from which on a turn warns."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """`[limits]`: what a turn, a session and a day may take."""

    turns_per_minute: Count = 20
    """Turns that a session may begin in a minute; 0 is no limit."""
    waiting: Count = 10
    """Messages that may wait in a session while a turn runs."""
    concurrent_turns: Positive = 32
    """Turns that may run at once, over all sessions."""
    usd_per_day: Money = 0.0
    """What all turns of a day may cost, in USD; 0 is no cap."""
    usd_per_session: Money = 0.0
    """What one session may cost in all, in USD; 0 is no cap."""
    max_rounds: Positive = 25
    """Requests in one turn, each but the last with tool calls."""
    turn_timeout_s: Seconds = 600.0
    """The longest turn, in seconds."""
    tool_timeout_s: Seconds = 60.0
    """The longest tool call, in seconds."""
    grace_s: Money = 20.0
    """How long running turns may take to end when the daemon is stopped, in seconds."""


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """`[sessions]`: how conversations are kept."""

    durability: Literal["turn", "always", "off"] = "turn"
    """When lines are forced to the device: twice a turn, at every line, or never."""
    archive_after_days: Days = 0
    """Sessions that were silent this long move to the archive; 0 is never."""


class Telegram(msgspec.Struct, frozen=True, kw_only=True):
    """`[telegram]`: the bot. Its token is TELEGRAM_BOT_TOKEN in the environment."""

    enabled: bool = False
    """Whether `nanochat run` serves Telegram."""
    allow: tuple[int, ...] = ()
    """The numeric ids of the people and groups that may talk to the bot; nobody else can."""
    groups: Literal["mention", "all", "off"] = "mention"
    """What the bot answers in groups: what names it, everything, or nothing."""
    base_url: str = ""
    """Another Bot API server. Empty: Telegram's own."""
    stream: bool = True
    """Whether a reply grows while it is written, or is sent when it is complete."""


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """`[http]`: the HTTP service. Its token is NANOCHAT_HTTP_TOKEN; without one there is a socket file only, for you alone."""

    enabled: bool = False
    """Whether `nanochat run` serves HTTP."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8765
    """The port to listen on; 0 takes any free one."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """`[[cron.jobs]]`: one thing to do, and when."""

    id: str
    """The job's name; its turns are the session `cron:<id>`."""
    cron: str = ""
    """When, in five fields: `0 8 * * mon-fri`, or `@daily`."""
    every: str = ""
    """When, as a distance: `90s`, `15m`, `2h`, `1d`."""
    at: str = ""
    """When, once: `2026-12-24T18:00`, in the job's zone where it has no offset."""
    timezone: str = ""
    """The zone of `cron` and `at`. Empty: the general one."""
    kind: Literal["prompt", "summary", "text"] = "prompt"
    """A turn with `prompt`, a summary of `sources`, or `text` as it stands."""
    prompt: str = ""
    """What the model is asked; for a summary, what it shall look for."""
    text: str = ""
    """What is delivered as it stands, without a model."""
    sources: Names = ()
    """The sessions that a summary reads, as keys or globs: `telegram:*`."""
    deliver_to: str | Names = ()
    """The key or keys that get the result. Absent: it is only recorded."""
    missed: str = "once"
    """What happens to what fell due while nothing ran: `once`, `skip`, or `within:30m`."""
    quiet: bool = False
    """A summary of nothing new makes no call and no message."""
    usd_per_run: Money = 0.0
    """What one run may cost, in USD; 0 is no cap."""
    enabled: bool = True
    """Whether it fires."""

    @property
    def recipients(self) -> tuple[str, ...]:
        """`deliver_to` as a tuple of keys."""
        return (self.deliver_to,) if isinstance(self.deliver_to, str) else self.deliver_to


class Cron(msgspec.Struct, frozen=True, kw_only=True):
    """`[cron]`: what happens by the clock."""

    jobs: tuple[Job, ...] = ()
    """The jobs of the settings file; others are made by `nanochat cron add` or by the assistant."""


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """`[log]`: what the daemon writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""
    format: Literal["console", "json"] = "console"
    """For a person, or for a machine."""
    content: bool = False
    """Whether the text of messages may stand in the log."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. After `load`, `data_dir` is absolute, `timezone` a zone's name, and the prompt's file is read."""

    data_dir: str = ""
    """Where sessions, ledger and blobs are kept. Empty: `data` of the checkout, else the platform's user data directory."""
    timezone: str = ""
    """The zone of jobs and of the times that the model is told, as in `Europe/Berlin`. Empty: the system's."""
    owner: tuple[int, ...] = ()
    """Telegram user ids of the owner; whoever sits at the terminal is always the owner."""
    model: Model = Model()
    """Who answers."""
    context: Context = Context()
    """How much of a conversation is sent."""
    limits: Limits = Limits()
    """What a turn, a session and a day may take."""
    sessions: Sessions = Sessions()
    """How conversations are kept."""
    telegram: Telegram = Telegram()
    """The bot."""
    http: Http = Http()
    """The HTTP service."""
    cron: Cron = Cron()
    """What happens by the clock."""
    log: Log = Log()
    """What the daemon writes to standard error."""
