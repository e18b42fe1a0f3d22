"""Faults for as long as one likes; the tests run a handful of the same.

python -m tests.soak kill [--kills N] [--seed N]                   turns that die
python -m tests.soak telegram [--kills N] [--seed N]               the daemon dies, at set moments and under load
python -m tests.soak telegram --minutes M [--seed N]               the daemon lives, and everything around it fails
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.soak import telegram
from tests.soak.hindsight import Findings
from tests.soak.kill import kill_rounds


def main() -> int:
    """Run one soak and print what it came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kill", "telegram"])
    parser.add_argument("--kills", type=int, default=0, help="default: 300 of turns, 200 of the daemon")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--keep", type=Path, help="an empty directory for what is written; default: a temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = asked.keep or Path(scratch)
        if asked.what == "kill":
            faults = asyncio.run(_kill(directory, asked.kills or 300, asked.seed))
        elif asked.minutes:
            faults = asyncio.run(_endurance(directory, asked.minutes, asked.seed))
        else:
            faults = asyncio.run(_telegram(directory, asked.kills or 200, asked.seed))
    for fault in faults:
        print(f"- {fault}")
    return 1 if faults else 0


async def _kill(directory: Path, kills: int, seed: int) -> Sequence[str]:
    outcome = await kill_rounds(directory, kills=kills, seed=seed, progress=sys.stderr.isatty())
    print(
        f"{outcome.kills} kills, {outcome.messages} messages, {outcome.unknown_tools} tool calls with unknown outcome,"
        f" {outcome.given_up} given up after three deaths, {len(outcome.faults)} faults"
    )
    return outcome.faults


async def _telegram(directory: Path, kills: int, seed: int) -> Sequence[str]:
    """Two fifths at the set moments, the rest at any."""
    moments, load = directory / "moments", directory / "load"
    moments.mkdir()
    load.mkdir()
    first = kills * 2 // 5
    faults = _told(
        "at set moments", await telegram.kills_at_moments(moments, kills=first, seed=seed, progress=_progress)
    )
    rest = await telegram.kills_under_load(load, kills=kills - first, seed=seed, progress=_progress)
    return [*faults, *_told("under load", rest)]


def _told(when: str, outcome: telegram.Kills) -> Sequence[str]:
    print(
        f"{when}: {outcome.kills} kills, {outcome.requests} requests to the model,"
        f" {outcome.edited} half-shown messages edited to their end; {_in_words(outcome.findings)}"
    )
    return outcome.findings.faults


async def _endurance(directory: Path, minutes: float, seed: int) -> Sequence[str]:
    outcome = await telegram.endurance(directory, minutes=minutes, seed=seed, progress=_progress)
    print(f"{minutes:g} minutes; {_in_words(outcome.findings)}")
    print("in the way: " + ", ".join(f"{name} {count}" for name, count in sorted(outcome.faults.items())))
    for name, values, unit in (
        ("resident memory", outcome.resident_mb, "MB"),
        ("descriptors", outcome.descriptors, ""),
        ("said to answered", outcome.answered_s, "s"),
    ):
        cuts = [f"{statistics.median(part):.1f}" for part in _quarters(values)]
        print(f"{name}, median of each quarter: {', '.join(cuts)} {unit}; at most {max(values):.1f}")
    return outcome.findings.faults


def _quarters(values: Sequence[float]) -> list[Sequence[float]]:
    size = len(values) // 4
    return [values[size * i : size * (i + 1)] for i in range(4)]


def _in_words(found: Findings) -> str:
    return (
        f"{found.messages} messages, {found.answered} answered once, {found.given_up} given up after three deaths;"
        f" {found.repeats} repeated with ↻, of which {found.doubled} had arrived before; {len(found.faults)} faults"
    )


def _progress(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{words}    ", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
