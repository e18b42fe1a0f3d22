"""The daemon without what it waits for out of politeness: the pace of Telegram's limits, and the demo model's of a reader.

python -m tests.bench.unpaced; settings and secrets from the environment, as `nanochat run` takes them.
"""

from __future__ import annotations

import asyncio
import os

from nanochat.channels.telegram import Pace, Telegram, TelegramSettings
from nanochat.channels.telegram.pacer import Rates
from nanochat.cli.run import serve
from nanochat.cli.wiring import assemble
from nanochat.config import Secrets, load


async def main() -> None:
    """Serve until a signal."""
    config, secrets = load(None, None, os.environ), Secrets.load(os.environ)
    settings = TelegramSettings(secrets.telegram_token, config.telegram.base_url, config.telegram.allow)
    async with assemble(config, secrets, interactive=False) as house:
        pace = Pace(rates=Rates(private_s=0.0, group_s=0.0, per_second=1e6))
        channel = Telegram(settings, house.ledger.pairings, pace=pace)
        await serve(config, secrets, lambda: config, house, channel)


if __name__ == "__main__":
    asyncio.run(main())
