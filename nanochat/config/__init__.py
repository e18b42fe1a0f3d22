"""Settings: what each key means, where its value comes from, and the secrets beside them.

Knows files, environment and defaults. Does not know what a setting does to the room that receives its plain value.
"""

from __future__ import annotations

from nanochat.config.changes import changed_keys
from nanochat.config.loading import Reading, examine, find_config, load, new_config, parse
from nanochat.config.secrets import Endpoint, Secrets, endpoint_of
from nanochat.config.sections import Config, Context, Cron, Http, Job, Limits, Log, Model, Sessions, Telegram

__all__ = [
    "Config",
    "Context",
    "Cron",
    "Endpoint",
    "Http",
    "Job",
    "Limits",
    "Log",
    "Model",
    "Reading",
    "Secrets",
    "Sessions",
    "Telegram",
    "changed_keys",
    "endpoint_of",
    "examine",
    "find_config",
    "load",
    "new_config",
    "parse",
]
