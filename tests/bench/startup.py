"""How long a person waits before anything happens, and what stays in memory."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.bench.report import Figure, median, show

__all__ = ["run"]

ROUNDS = 11


def run(directory: Path) -> list[Figure]:
    """Measure `--help`, the first prompt and `-m` with the offline model, in fresh processes, byte-compiled."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", "nanochat"], check=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "NANOCHAT_DATA_DIR": str(directory / "data"),
    }
    command = [sys.executable, "-m", "nanochat"]
    bare, help_, once, prompt, resident = [], [], [], [], []
    for _ in range(ROUNDS):
        bare.append(_seconds([sys.executable, "-c", "pass"], environment))
        help_.append(_seconds([*command, "--help"], environment))
        once.append(_seconds([*command, "-m", "hello"], environment))
        seconds, memory_mb = _first_prompt(command, environment)
        prompt.append(seconds)
        resident.append(memory_mb)
    figures = [
        Figure("an empty interpreter", median(bare) * 1000, "ms"),
        Figure("nanochat --help", median(help_) * 1000, "ms", 80),
        Figure("first prompt of a chat", median(prompt) * 1000, "ms", 250),
        Figure("nanochat -m with the offline model", median(once) * 1000, "ms", 350),
        Figure("resident memory at the prompt, offline model", median(resident), "MB"),
    ]
    show("Start-up", figures)
    return figures


def _seconds(command: list[str], environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def _first_prompt(command: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Seconds until the prompt is on a terminal, and the process's resident megabytes a second later."""
    leader, follower = pty.openpty()
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
    )
    os.close(follower)
    seen = b""
    try:
        while b"you>" not in seen:
            if not select.select([leader], [], [], 10)[0]:
                raise TimeoutError(seen.decode(errors="replace"))
            seen += os.read(leader, 65536)
            if b"\x1b[6n" in seen:  # prompt_toolkit asks where the cursor is, as a terminal would answer
                os.write(leader, b"\x1b[1;1R")
        seconds = time.perf_counter() - began
        deadline = time.perf_counter() + 1.0
        while (left := deadline - time.perf_counter()) > 0:
            if select.select([leader], [], [], left)[0]:
                os.read(leader, 65536)
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        os.write(leader, b"\x04")
        process.wait(10)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(leader)
    return seconds, resident_kb / 1024
