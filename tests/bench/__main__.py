"""`python -m tests.bench [PART…]`: every figure that the README states, measured beside its reference in the same run.

Parts: store, search, turn, startup, telegram, cron, http, tail, cost; all of them where none is named. Takes some minutes and
about 1.2 GB of disk. Exit code 1 where a figure falls short of its goal.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench import cost, cron, http, search, startup, store, tail, telegram, turn
from tests.bench.report import Figure, show


def _cost(_: Path) -> list[Figure]:
    figures = cost.run()
    show("Input cost of 200 turns at 8,000 tokens, against the last 20 messages with caching", figures)
    return figures


PARTS: Mapping[str, Callable[[Path], list[Figure]]] = {
    "store": store.run,
    "search": search.run,
    "turn": turn.run,
    "startup": startup.run,
    "telegram": telegram.run,
    "cron": cron.run,
    "http": http.run,
    "tail": tail.run,
    "cost": _cost,
}


def main() -> int:
    """Run the parts that were asked for, and say how many figures fall short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    parser.add_argument("--scratch", type=Path, help="where to write; default: a temporary directory")
    asked = parser.parse_args()
    print(
        f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=asked.scratch) as scratch:
        for part in asked.parts or PARTS:
            figures += PARTS[part](Path(scratch))
    short = [figure.name for figure in figures if not figure.met]
    print(f"\n{len(figures)} figures, {len(short)} fall short" + "".join(f"\n- {name}" for name in short))
    return 1 if short else 0


if __name__ == "__main__":
    raise SystemExit(main())
