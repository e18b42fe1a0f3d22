"""The provider's prompt cache, as its documentation describes it.

Knows: prefixes run tools, system, messages; they are kept at breakpoints only, per model, from a minimal length on, for five
minutes or an hour from the start of the request, renewed by every read; a breakpoint finds what was kept at most 20 blocks
before it. Prefixes are compared as JSON bytes, `cache_control` left out. Tokens are counted by a rule of thumb.
Does not know HTTP, nor what is legal (`legality` does), and no real tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nanochat.pricing import min_cacheable_tokens
from nanochat.records import Json
from tests.fakes.legality import plain

__all__ = ["BYTES_PER_TOKEN", "LIFE_S", "LOOKBACK_BLOCKS", "PromptCache", "tokens"]

# The rule by which the fake counts: not the real tokenizer's, but stable, and of its size.
BYTES_PER_TOKEN = 3.5

# https://platform.claude.com/docs/en/build-with-claude/prompt-caching, as known on 2026-11-20.
LOOKBACK_BLOCKS = 20
LIFE_S = {"5m": 300.0, "1h": 3600.0}
_DEFAULT_MIN_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class _Unit:
    section: str
    role: str
    bytes: bytes
    life: str


@dataclass(slots=True)
class _Entry:
    expires_s: float
    life_s: float


def tokens(value: Json) -> int:
    """The fake's token count of one block or text."""
    raw = value.encode() if isinstance(value, str) else _bytes(value)
    return math.ceil(len(raw) / BYTES_PER_TOKEN)


class PromptCache:
    """What the provider keeps between requests; `clock` tells the seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[bytes, _Entry] = {}

    def charge(self, body: Mapping[str, Json]) -> dict[str, Json]:
        """The `usage` of a legal request's input, reading and writing the cache as of its start, which is now."""
        now_s = self._clock()
        model = str(body["model"])
        units = list(_units(body))
        heads = list(_heads(model, body, units))
        sums = [0]
        for unit in units:
            sums.append(sums[-1] + math.ceil(len(unit.bytes) / BYTES_PER_TOKEN))
        marks = [at for at, unit in enumerate(units) if unit.life]
        hit = self._longest_hit(heads, marks, now_s)
        for at in marks:
            if at <= hit and (entry := self._alive(heads[at], now_s)):
                entry.expires_s = now_s + entry.life_s
        read = sums[hit + 1]
        if hit >= 0:
            entry = self._entries[heads[hit]]
            entry.expires_s = now_s + entry.life_s
        written = {"5m": read, "1h": read}
        minimum = min_cacheable_tokens(model) or _DEFAULT_MIN_TOKENS
        for at in marks:
            if at > hit and sums[at + 1] >= minimum:
                life = units[at].life
                self._entries[heads[at]] = _Entry(now_s + LIFE_S[life], LIFE_S[life])
                written[life] = sums[at + 1]
        last = max(written["5m"], written["1h"])
        return {
            "input_tokens": sums[-1] - last,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": last - read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": last - written["1h"],
                "ephemeral_1h_input_tokens": written["1h"] - read,
            },
        }

    def _longest_hit(self, heads: Sequence[bytes], marks: Sequence[int], now_s: float) -> int:
        for mark in reversed(marks):
            for at in range(mark, max(-1, mark - LOOKBACK_BLOCKS), -1):
                if self._alive(heads[at], now_s):
                    return at
        return -1

    def _alive(self, head: bytes, now_s: float) -> _Entry | None:
        entry = self._entries.get(head)
        return entry if entry and now_s < entry.expires_s else None


def _heads(model: str, body: Mapping[str, Json], units: Sequence[_Unit]) -> Iterator[bytes]:
    """The hash of every prefix. How the model is to think and choose tools belongs to the messages' part of it."""
    manner = _bytes([body.get(name) for name in ("thinking", "output_config", "tool_choice")])
    head = model.encode()
    in_messages = False
    for unit in units:
        if unit.section == "messages" and not in_messages:
            in_messages = True
            head = hashlib.sha256(head + manner).digest()
        head = hashlib.sha256(b"\0".join((head, unit.section.encode(), unit.role.encode(), unit.bytes))).digest()
        yield head


def _units(body: Mapping[str, Json]) -> Iterator[_Unit]:
    """Every block of the request in the cache's order; a top-level `cache_control` stands for one on the last block."""
    found: list[_Unit] = []
    for section in ("tools", "system"):
        found.extend(_unit(section, "", block) for block in _blocks(body.get(section)))
    for message in _blocks(body.get("messages")):
        role = str(message.get("role"))
        found.extend(_unit("messages", role, block) for block in _blocks(message.get("content")))
    top = body.get("cache_control")
    if isinstance(top, Mapping) and found and not found[-1].life:
        last = found[-1]
        found[-1] = _Unit(last.section, last.role, last.bytes, str(top.get("ttl", "5m")))
    return iter(found)


def _blocks(value: Json) -> Sequence[Mapping[str, Json]]:
    if isinstance(value, str):
        return ({"type": "text", "text": value},)
    if not isinstance(value, Sequence):
        return ()
    return [block for block in value if isinstance(block, Mapping)]


def _unit(section: str, role: str, block: Mapping[str, Json]) -> _Unit:
    control = block.get("cache_control")
    life = str(control.get("ttl", "5m")) if isinstance(control, Mapping) else ""
    return _Unit(section, role, _bytes(plain(block)), life)


def _bytes(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
