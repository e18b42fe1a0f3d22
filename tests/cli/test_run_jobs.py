"""The daemon and its jobs as a new user meets them: a few lines of settings, and the phone rings."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Nanochat
from tests.cli.test_run import OLGA, daemon, olga
from tests.fakes.bot_api import FakeBotAPI

MORNING = f"""\
telegram.allow = [{OLGA}]
owner = [{OLGA}]
[[cron.jobs]]
id = "morning"
cron = "0 8 * * *"
kind = "summary"
sources = ["telegram:*", "cli:*"]
deliver_to = "telegram:{OLGA}"
"""


async def command(config: Path, directory: Path, *args: str) -> str:
    """One more process on the same data; what it says on standard output."""
    environ = {name: value for name, value in os.environ.items() if name.startswith(("PATH", "PYTHON", "HOME"))}
    environ |= {"NANOCHAT_DATA_DIR": str(directory), "NANOCHAT_CONFIG": str(config)}
    ran = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nanochat", *args),
        env=environ | {"NANOCHAT_MODEL__PROVIDER": "offline"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await ran.communicate()
    assert ran.returncode == 0, err.decode()
    return out.decode()


async def test_a_morning_summary(tmp_path: Path) -> None:
    """Of what was said in Telegram and in the terminal, in Telegram; and a reply to it is understood."""
    config, data = tmp_path / "nanochat.toml", tmp_path / "data"
    config.write_text(MORNING)
    await command(config, data, "chat", "-m", "my dentist is Novak")
    async with FakeBotAPI() as api, daemon(api, data, config) as process:
        chat = olga(api)
        await process.says("up, pid")
        await chat.say("my doctor is Dvorak")
        await chat.until(lambda chat: any("Noted" in text for text in chat.texts))
        await command(config, data, "cron", "run", "morning")
        await chat.until(lambda chat: any("Novak" in text and "Dvorak" in text for text in chat.texts))
        await chat.say("who is my dentist?")
        await chat.until(lambda chat: any("Your dentist is Novak" in text for text in chat.texts))
        process.signal(signal.SIGTERM)
        assert await process.ends() == 0


async def test_killed_while_a_job_is_asked(tmp_path: Path) -> None:
    """kill -9 in the model's answer: the next process goes on with it, and one message arrives."""
    config, data = tmp_path / "nanochat.toml", tmp_path / "data"
    config.write_text(MORNING.replace('kind = "summary"', 'prompt = "tell me a long story"'))
    async with FakeBotAPI() as api:
        chat = olga(api)
        async with daemon(api, data, config) as process:
            await process.says("up, pid")
            await chat.say("hi")
            await chat.until(lambda chat: len(chat.texts) == 1)
            await command(config, data, "cron", "run", "morning")
            await process.says("taken up")
            process.process.kill()
            await process.process.wait()
        async with daemon(api, data, config) as process:
            await chat.until(lambda chat: "how the lamp is lit" in chat.texts[-1].lower())
            process.signal(signal.SIGTERM)
            assert await process.ends() == 0
        assert len(chat.texts) == 2
    lines = (data / "sessions" / "cron+morning.jsonl").read_text()
    assert lines.count('"op":"turn"') == 1


async def test_jobs_are_read_anew(tmp_path: Path) -> None:
    """SIGHUP takes a job over at once; one that could never be kept changes nothing, and is named with its key."""
    config = tmp_path / "nanochat.toml"
    config.write_text(f"telegram.allow = [{OLGA}]\n")
    every = (
        f'[[cron.jobs]]\nid = "tea"\nevery = "1s"\nkind = "text"\ntext = "drink tea"\ndeliver_to = "telegram:{OLGA}"\n'
    )
    async with FakeBotAPI() as api, daemon(api, tmp_path / "data", config) as process:
        chat = olga(api)
        await process.says("up, pid")
        await chat.say("hi")
        await chat.until(lambda chat: bool(chat.texts))
        config.write_text(f"telegram.allow = [{OLGA}]\n" + every.replace("telegram:", "telegramm:"))
        process.signal(signal.SIGHUP)
        line = await process.says("not taken over")
        assert "tea" in line
        assert "deliver_to" in line
        config.write_text(f"telegram.allow = [{OLGA}]\n{every}")
        process.signal(signal.SIGHUP)
        await chat.until(lambda chat: "drink tea" in chat.texts)
        process.signal(signal.SIGTERM)
        assert await process.ends() == 0


async def test_a_daemon_with_only_jobs(tmp_path: Path) -> None:
    """“Remind me”, typed in a terminal, stands in its session when the daemon comes up after the time."""
    config, data = tmp_path / "nanochat.toml", tmp_path / "data"
    config.write_text("telegram.enabled = false\n")
    said = await command(config, data, "chat", "-m", "remind me in 1 second to drink some tea")
    assert "No daemon is running" in said
    async with FakeBotAPI() as api, daemon(api, data, config, telegram=False) as process:
        assert ": cron" in await process.says("up, pid")
        await process.says("recorded what came from")
        process.signal(signal.SIGTERM)
        assert await process.ends() == 0
    shown = (data / "sessions" / "cli+default.jsonl").read_text()
    assert shown.count('"delivered":true') == 1


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('id = "tea"\nevery = "soon"\nkind = "text"\ntext = "x"', "every"),
        ('id = "tea"\ncron = "0 0 31 2 *"\nkind = "text"\ntext = "x"', "cron"),
        ('id = "tea"\ncron = "61 * * * *"\nkind = "text"\ntext = "x"', "cron"),
        ('id = "tea"\nkind = "text"\ntext = "x"', "cron"),
        ('id = "tea"\nat = "yesterday"\nkind = "text"\ntext = "x"', "at"),
        ('id = "tea"\nevery = "1h"\ntimezone = "Mars/Base"\nkind = "text"\ntext = "x"', "timezone"),
        ('id = "tea"\nevery = "1h"\nkind = "text"\ntext = "x"\ndeliver_to = "telegramm:1"', "deliver_to"),
        ('id = "tea"\nevery = "1h"\nkind = "text"\ntext = "x"\ndeliver_to = "olga"', "deliver_to"),
        ('id = "tea"\nevery = "1h"\nkind = "summary"', "sources"),
        ('id = "tea"\nevery = "1h"\nkind = "summary"\nsources = ["cron:other"]', "sources"),
        ('id = "tea"\nevery = "1h"\nkind = "text"', "text"),
        ('id = "tea"\nevery = "1h"\nmissed = "never"\nkind = "text"\ntext = "x"', "missed"),
        (
            'id = "tea"\nevery = "1h"\ntext = "x"\nkind = "text"\n[[cron.jobs]]\nid = "tea"\nevery = "1h"\nprompt = "y"',
            "id",
        ),
    ],
    ids=lambda value: value if "=" not in value else "",
)
def test_bad_jobs_are_refused(
    nanochat: Nanochat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, key: str
) -> None:
    """In one line that names the job, or its place, and the key; exit code 2."""
    config = tmp_path / "nanochat.toml"
    config.write_text(f'model.provider = "offline"\n[[cron.jobs]]\n{lines}\n')
    monkeypatch.setenv("NANOCHAT_CONFIG", str(config))
    ran = nanochat("run")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran.err
    assert key in ran.err
    assert "tea" in ran.err or "cron.jobs[" in ran.err
