"""What a user reads is what there is: every command and setting is documented, and every example runs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nanochat.cli.app import app
from nanochat.config import Config
from nanochat.turn.commands import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_chat_command_is_in_the_readme(command: object) -> None:
    """A command that is not told of is not there."""
    assert f"`/{command.name}" in README  # type: ignore[attr-defined]  # parametrize hands out objects


@pytest.mark.parametrize("name", sorted(app.commands))
def test_every_command_of_the_program_is_in_the_readme(name: str) -> None:
    """The same for the command line."""
    assert f"nanochat {name}" in README or f"`{name}" in README


def settings(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from settings(field.type, f"{field.name}.")
        else:
            yield prefix + field.name


def test_every_setting_is_in_the_annotated_file() -> None:
    """The file that the README points to names each key, with a line on its meaning."""
    annotated = (ROOT / "config" / "nanochat.toml").read_text(encoding="utf-8")
    keys = {re.sub(r"^# ?", "", line).partition("=")[0].strip() for line in annotated.splitlines() if "=" in line}
    names = {name.rpartition(".")[2] for name in settings(Config)} - {"jobs"}
    assert names - keys == set()


@pytest.mark.parametrize("key", re.findall(r"`((?:context|limits|model)\.\w+)`", README))
def test_settings_that_the_readme_names_exist(key: str) -> None:
    """No key is promised that is not read."""
    assert key in set(settings(Config))


def test_the_python_example_runs(tmp_path: Path) -> None:
    """The README's code, as it stands, in a fresh process."""
    [example] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = compile(example, "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert code is not None
    program = "import asyncio\nasync def main():\n" + "".join(f"    {line}\n" for line in example.splitlines())
    program += "    print(session.get_history())\n    await manager.close()\nasyncio.run(main())\n"
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "hi" in run.stdout


def test_the_top_level_holds_what_it_should() -> None:
    """Nothing gathers beside the six."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= {
        "README.md", "config", "data", "nanochat", "pyproject.toml", "tests",
    }  # fmt: skip
