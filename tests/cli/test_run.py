"""`nanochat run` as a process: it serves, it ends, and it refuses what cannot be served."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Nanochat
from tests.fakes.bot_api import Chat, FakeBotAPI

OLGA = 4242


@dataclass
class Process:
    """A daemon of its own, and what it says on standard error."""

    process: asyncio.subprocess.Process

    async def says(self, words: str) -> str:
        """Wait for a line of the log."""
        assert self.process.stderr is not None
        lines = []
        while line := (await self.process.stderr.readline()).decode():
            lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"it never said {words!r}: {''.join(lines)}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ends(self) -> int:
        assert self.process.stderr is not None
        await self.process.stderr.read()
        return await self.process.wait()


@asynccontextmanager
async def daemon(
    api: FakeBotAPI, directory: Path, config: Path | None = None, *, telegram: bool = True
) -> AsyncIterator[Process]:
    """Started with the offline model and the fake Bot API, and ended if it has not."""
    environ = {
        **{
            name: value for name, value in os.environ.items() if name.startswith(("PATH", "PYTHON", "HOME", "COVERAGE"))
        },
        "NANOCHAT_TELEGRAM__ENABLED": str(telegram).lower(),
        "NANOCHAT_TELEGRAM__BASE_URL": api.url,
        "NANOCHAT_MODEL__PROVIDER": "offline",
        "TELEGRAM_BOT_TOKEN": api.token,
    }
    if config is None:
        environ["NANOCHAT_TELEGRAM__ALLOW"] = str(OLGA)
    options = ["--config", str(config)] if config else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "nanochat", "run", "--data-dir", str(directory), *options),
        env=environ,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def olga(api: FakeBotAPI) -> Chat:
    return api.user(id=OLGA, name="Olga").private()


async def test_it_answers_and_ends(tmp_path: Path) -> None:
    """SIGTERM ends it with 0, and no token is in its log."""
    async with FakeBotAPI() as api, daemon(api, tmp_path) as process:
        chat = olga(api)
        await process.says("up, pid")
        await chat.say("my name is Olga")
        await chat.until(lambda chat: any("Olga" in text for text in chat.texts))
        process.signal(signal.SIGTERM)
        line = await process.says("ending")
        assert api.token not in line
        assert await process.ends() == 0


async def test_killed_and_started_again(tmp_path: Path) -> None:
    """The message that had begun to grow is finished, and not sent again."""
    async with FakeBotAPI() as api:
        chat = olga(api)
        async with daemon(api, tmp_path) as process:
            await process.says("up, pid")
            await chat.say("tell me a long story")
            await chat.until(lambda _: any(call.method == "editMessageText" for call in api.calls))
            process.process.kill()
            await process.process.wait()
        async with daemon(api, tmp_path) as process:
            await chat.say("my name is Olga")
            await chat.until(lambda chat: any("Olga" in text for text in chat.texts))
            process.signal(signal.SIGTERM)
            assert await process.ends() == 0
        assert len(chat.texts) == 2


async def test_a_second_one_is_refused(tmp_path: Path) -> None:
    """Naming the first one's pid, in one line."""
    async with FakeBotAPI() as api, daemon(api, tmp_path) as first:
        await first.says("up, pid")
        async with daemon(api, tmp_path) as second:
            line = await second.says("nanochat: ")
            assert line.strip().endswith(f"already: pid {first.process.pid}")
            assert await second.ends() == 1


async def test_a_damaged_ledger_is_told(tmp_path: Path) -> None:
    """In one line, and with 1: nobody is left waiting for it."""
    (tmp_path / "ledger.db").write_bytes(b"noise" * 500)
    async with FakeBotAPI() as api, daemon(api, tmp_path) as process:
        line = await process.says("nanochat: ")
        assert "it holds no conversation and may be moved away" in line
        assert await process.ends() == 1


async def test_settings_are_read_anew(tmp_path: Path) -> None:
    """SIGHUP lets Olga in, names what waits for a restart, and an invalid file changes nothing."""
    config = tmp_path / "n.toml"
    config.write_text("[telegram]\nallow = []\n")
    async with FakeBotAPI() as api, daemon(api, tmp_path / "data", config) as process:
        chat = olga(api)
        await process.says("up, pid")
        config.write_text("[telegram]\nalow = []\n")
        process.signal(signal.SIGHUP)
        assert "telegram.alow is not a setting; did you mean allow?" in await process.says("not taken over")
        config.write_text(f'timezone = "UTC"\n[telegram]\nallow = [{OLGA}]\n[context]\nbudget_tokens = 9000\n')
        process.signal(signal.SIGHUP)
        assert "context.budget_tokens" in await process.says("waiting for a restart")
        await chat.say("my name is Olga")
        await chat.until(lambda chat: any("Olga" in text for text in chat.texts))
        process.signal(signal.SIGTERM)
        assert await process.ends() == 0


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"TELEGRAM_BOT_TOKEN": "1:x", "NANOCHAT_TELEGRAM__ENABLED": "1"}, "there is no key: set ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_API_KEY": "sk-x", "NANOCHAT_TELEGRAM__ENABLED": "1"}, "there is no token: set TELEGRAM_BOT_TOKEN"),
        (
            {"ANTHROPIC_API_KEY": "sk-x", "NANOCHAT_HTTP__ENABLED": "1", "NANOCHAT_HTTP_TOKEN": "schlüssel"},
            "NANOCHAT_HTTP_TOKEN cannot be sent in a header",
        ),
    ],
    ids=["no key", "no token", "a token that no header holds"],
)
def test_what_cannot_be_served(
    nanochat: Nanochat, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], words: str
) -> None:
    """One line, and 2."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    ran = nanochat("run")
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1
