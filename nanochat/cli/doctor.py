"""`nanochat doctor`: what is wrong, and how to mend it.

Knows in which order things are looked at, and how a finding is shown. Does not know what is looked at (`checks`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from nanochat.channels.terminal.words import clean
from nanochat.cli.checks import damage, serving, settings, storage
from nanochat.cli.checks.finding import Finding, State, warning, wrong
from nanochat.cli.checks.reach import Answered, Asking, ask_model, ask_telegram, clock
from nanochat.cli.places import INDEX, LEDGER
from nanochat.config import Reading, Secrets
from nanochat.log import redact

__all__ = ["Patient", "doctor", "first_checks", "show"]

_COLOURS: dict[State, str] = {"ok": "green", "warning": "yellow", "wrong": "red"}

# The longest name of a check and of a state, and the least that is left beside them on a narrow terminal.
_NAME_WIDTH, _STATE_WIDTH = 14, 7
_NARROWEST = 30


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at: settings as they were read, the secrets, and where a settings file would be made."""

    reading: Reading
    secrets: Secrets
    new_config: Path
    secret_fault: str = ""

    @property
    def directory(self) -> Path:
        return Path(self.reading.config.data_dir)


def doctor(patient: Patient, *, offline: bool, as_json: bool) -> int:
    """Print what every check finds, as it is found; changes nothing. Returns the exit code."""
    told: list[Finding] = []
    for finding in _findings(patient, offline=offline):
        told.append(finding)
        show(finding, patient.secrets, as_json=as_json)
    states = [finding.state for finding in told]
    if not as_json:
        print(
            f"nanochat: {states.count('wrong')} wrong, {states.count('warning')} to look at, {states.count('ok')} ok",
            file=sys.stderr,
        )
    return 1 if "wrong" in states else 0


def first_checks(patient: Patient) -> Iterator[Finding]:
    """What can be told at once: of the settings, and of the place for what is said."""
    ledger = patient.directory / LEDGER
    yield from settings.every(patient.reading.config, patient.secrets, ledger, datetime.now(UTC))
    yield storage.place(patient.directory)


def show(finding: Finding, secrets: Secrets, *, as_json: bool = False) -> None:
    """Print a finding: one line, or, on a terminal, as many as it needs."""
    found, mend = (" ".join(redact(clean(text), secrets.values).split()) for text in (finding.found, finding.mend))
    if as_json:
        fields = {"check": finding.check, "state": finding.state, "found": found, "mend": mend}
        print(json.dumps({**fields, "key": finding.key} if finding.key else fields, ensure_ascii=False), flush=True)
        return
    words = [found, f"→ {mend}"] if mend else [found]
    state, name = f"{finding.state:{_STATE_WIDTH}}", f"{finding.check:{_NAME_WIDTH}}"
    if not sys.stdout.isatty():
        print(f"{state}  {name}  {' '.join(words)}", flush=True)
        return
    indent = _STATE_WIDTH + _NAME_WIDTH + 4
    width = max(shutil.get_terminal_size().columns - 1, indent + _NARROWEST)
    first, *others = [
        line
        for text in words
        for line in textwrap.wrap(text, width - indent, break_long_words=False, break_on_hyphens=False)
    ]
    print(f"{_coloured(state, finding.state)}  {name}  {first}")
    for line in others:
        print(" " * indent + line)


def _coloured(text: str, state: State) -> str:
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=_COLOURS[state])


# --- the order of things ---------------------------------------------------------------------------------------------


def _findings(patient: Patient, *, offline: bool) -> Iterator[Finding]:
    reading, directory = patient.reading, patient.directory
    yield from serving.programs()
    yield from settings.files(reading, patient.new_config)
    if patient.secret_fault:
        yield wrong("secrets", patient.secret_fault, "make the credential readable, or set the variable")
    asking: Asking | None = None
    pid = serving.daemon_pid(directory)
    if not reading.faults:
        # Others answer while the files are read here.
        asking = Asking({} if offline else _questions(patient))
        yield from _about_settings(patient, pid)
    yield from storage.look(directory)
    if storage.is_open(directory):
        yield serving.daemon(reading.config, pid, has_jobs=settings.has_jobs(reading.config, directory / LEDGER))
        yield serving.leases(directory)
        yield from serving.inbox(directory / LEDGER, directory, is_served=bool(pid))
        yield from damage.databases(directory / LEDGER, directory / INDEX)
        yield from damage.sessions(directory / "sessions")
    yield from serving.service(reading.config, reading.path)
    if asking is not None:
        answers = list(asking.answers())
        yield from (finding for answer in answers for finding in answer.findings)
        yield from clock(answers)
    else:
        yield warning(
            "network", "not asked while the settings are wrong", "nanochat doctor again, once they are mended"
        )


def _about_settings(patient: Patient, pid: str) -> Iterator[Finding]:
    config, secrets = patient.reading.config, patient.secrets
    yield from settings.every(config, secrets, patient.directory / LEDGER, datetime.now(UTC))
    yield from serving.port(config, secrets, is_served=bool(pid))
    yield from serving.sockets(config, secrets)


def _questions(patient: Patient) -> dict[str, Callable[[], Answered]]:
    config, secrets = patient.reading.config, patient.secrets
    questions: dict[str, Callable[[], Answered]] = {}
    endpoint = settings.model(config, secrets)[1]
    if endpoint is not None:
        variable = "NANOCHAT_MODEL_KEY" if config.model.base_url else "ANTHROPIC_API_KEY"
        questions["model"] = partial(ask_model, endpoint, config.model.name, variable)
    found = settings.telegram(config, secrets)
    if found is not None and found.state != "wrong":
        questions["telegram"] = partial(ask_telegram, secrets.telegram_token, config.telegram.base_url)
    return questions
