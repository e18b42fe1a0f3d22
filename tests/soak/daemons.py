"""`nanochat run`, to be killed: a nest that has loaded everything once, and forks one for each line on its standard input.

    in:  {"args": [what stands behind `nanochat`], "environ": {…}, "log": path}
    out: born <pid> · dead <wait status>

The nest has no thread and no loop, so that forking it is safe. A child is the whole program, from its arguments on.
"""

from __future__ import annotations

import gc
import json
import os
import sys

import anthropic  # noqa: F401 - loaded before the fork, once for all children, like those that follow

from nanochat.__main__ import run
from nanochat.cli.options import State


def tell(line: str) -> None:
    """One write, so that lines of parent and child never mix."""
    os.write(1, line.encode() + b"\n")


def live(args: list[str], environ: dict[str, str], log: str) -> int:
    """Be the program; returns its exit code."""
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    os.environ.update(environ)
    return run(args, State())


def main() -> None:
    """Fork a child for each line, until the input ends."""
    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = live(**asked)
            finally:
                os._exit(code)
        tell(f"born {pid}")
        _, status = os.waitpid(pid, 0)
        tell(f"dead {status}")


if __name__ == "__main__":
    main()
