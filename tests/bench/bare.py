"""The two SDKs alone: `python -m tests.bench.bare` takes updates and asks the model the same question for each, nothing else.

    in:  {"token": …, "telegram": url, "messages": url, "request": {what is sent to the model}}, one line

What a daemon takes beyond this is its own. Keeps nothing, and would lose all of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import anthropic
from telegram import Bot


async def serve(asked: dict[str, Any]) -> None:  # Any: as it came
    """Answer whatever comes, one after the other."""
    client = anthropic.AsyncAnthropic(api_key="sk-test", base_url=asked["messages"], max_retries=0)
    bot = Bot(asked["token"], base_url=f"{asked['telegram']}/bot")
    offset = None
    while True:
        for update in await bot.get_updates(offset, timeout=25):
            offset = update.update_id + 1
            stream = await client.messages.create(**asked["request"])
            text = [
                event.delta.text
                async for event in stream
                if event.type == "content_block_delta" and event.delta.type == "text_delta"
            ]
            assert update.message is not None
            await bot.send_message(update.message.chat.id, "".join(text))


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.stdin.readline())))
