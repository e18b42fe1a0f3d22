"""`python -m tests.soak kill [--kills N] [--seed N]`: faults for as long as one likes; the tests run a handful of the same."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.soak.kill import kill_rounds


def main() -> int:
    """Run one soak and print what it came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kill"])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=20261120)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = asyncio.run(
            kill_rounds(Path(scratch), kills=asked.kills, seed=asked.seed, progress=sys.stderr.isatty())
        )
    print(
        f"{outcome.kills} kills, {outcome.messages} messages, {outcome.unknown_tools} tool calls with unknown outcome,"
        f" {outcome.given_up} given up after three deaths, {len(outcome.faults)} faults"
    )
    for fault in outcome.faults:
        print(f"- {fault}")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
