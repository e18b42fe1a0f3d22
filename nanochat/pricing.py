"""What each model costs and holds.

Knows Anthropic's price list as of the date below. Does not know endpoints: whoever sells a model of this name elsewhere may
ask another price. A model that is not in the table has no price, rather than a guessed one.

The rows are from https://platform.claude.com/docs/en/about-claude/pricing and the models' own overview pages beside it,
as known on 2026-11-20; where only other publications had a number, the row says so. Of sizes that are uncertain for an older
model the smaller one is given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nanochat.records import Usage

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_SUMMARY_MODEL",
    "OFFLINE_MODEL",
    "cost_usd",
    "known_models",
    "max_output",
    "min_cacheable_tokens",
    "window_tokens",
]

DEFAULT_MODEL = "claude-sonnet-5-5"
DEFAULT_SUMMARY_MODEL = "claude-haiku-5-5"
OFFLINE_MODEL = "offline"

# Of the input price, and the same for every model: the pricing page's section on prompt caching.
_WRITE_5M = 1.25
_WRITE_1H = 2.0

_MTOK = 1_000_000

# Snapshots are named by their day: `claude-haiku-4-5-20251001`.
_DATED = re.compile(r"-20\d{6}\Z")


@dataclass(frozen=True, slots=True)
class _Price:
    """USD per million tokens; `cache_read` is a factor of `input`."""

    input: float
    output: float
    cache_read: float = 0.1

    def of(self, usage: Usage) -> float:
        read = (
            usage.input
            + usage.cache_read * self.cache_read
            + usage.cache_write * _WRITE_5M
            + usage.cache_write_1h * _WRITE_1H
        )
        return (read * self.input + usage.output * self.output) / _MTOK


@dataclass(frozen=True, slots=True)
class _Row:
    """`long` is the price of a request that reads more than `long_from` tokens, of all its tokens."""

    price: _Price
    window: int
    output: int
    cacheable: int
    long: _Price | None = None
    long_from: int = 0


_ROWS = {
    # Fable 5.2's price is from other publications only; of its cache reads no price was found: the usual factor, which is
    # the dearer one.
    "claude-fable-5-2": _Row(_Price(8, 40), 1_000_000, 128_000, 512),
    "claude-fable-5-1": _Row(_Price(10, 50, 0.025), 1_000_000, 128_000, 512),
    "claude-fable-5": _Row(_Price(10, 50), 1_000_000, 128_000, 512),
    "claude-mythos-5-1": _Row(_Price(10, 50, 0.025), 1_000_000, 128_000, 512),
    "claude-mythos-5": _Row(_Price(10, 50), 1_000_000, 128_000, 512),
    "claude-opus-5-5": _Row(_Price(4, 20, 0.05), 1_000_000, 128_000, 512),
    "claude-opus-5": _Row(_Price(5, 25), 1_000_000, 128_000, 512),
    "claude-opus-4-8": _Row(_Price(5, 25), 1_000_000, 128_000, 1024),
    "claude-opus-4-7": _Row(_Price(5, 25), 1_000_000, 128_000, 2048),
    "claude-opus-4-6": _Row(_Price(5, 25), 1_000_000, 128_000, 4096),
    "claude-opus-4-5": _Row(_Price(5, 25), 200_000, 64_000, 4096),
    # Cache reads at 0.05 since 2026-10-07.
    "claude-sonnet-5-5": _Row(_Price(2, 10, 0.05), 1_000_000, 128_000, 512),
    "claude-sonnet-5": _Row(_Price(2, 10), 1_000_000, 128_000, 1024),
    "claude-sonnet-4-6": _Row(_Price(3, 15), 1_000_000, 64_000, 1024),
    "claude-sonnet-4-5": _Row(_Price(3, 15), 200_000, 64_000, 1024),
    # Two prices by the length of the prompt, cache reads and writes counted in.
    "claude-haiku-5-5": _Row(_Price(0.10, 0.50), 1_000_000, 128_000, 512, long=_Price(0.50, 2.50), long_from=100_000),
    "claude-haiku-4-5": _Row(_Price(1, 5), 200_000, 64_000, 4096),
    OFFLINE_MODEL: _Row(_Price(0, 0), 200_000, 8_192, 1),
}


def cost_usd(model: str, usage: Usage) -> float | None:
    """What one request cost, or None where the model's price is unknown.

    Args:
        usage: of a single request; a sum over several would be taken for one long prompt where length has a price.
    """
    row = _row(model)
    if row is None:
        return None
    if row.long is not None and usage.prompt > row.long_from:
        return row.long.of(usage)
    return row.price.of(usage)


def window_tokens(model: str) -> int:
    """The model's context window, or 0 where it is unknown."""
    row = _row(model)
    return row.window if row else 0


def max_output(model: str) -> int:
    """The most tokens that the model can answer with, or 0 where it is unknown."""
    row = _row(model)
    return row.output if row else 0


def min_cacheable_tokens(model: str) -> int:
    """The shortest prefix that the model's cache keeps, or 0 where it is unknown."""
    row = _row(model)
    return row.cacheable if row else 0


def known_models() -> tuple[str, ...]:
    """Every id of the API that has a row, without its dated forms."""
    return tuple(model for model in _ROWS if model != OFFLINE_MODEL)


def _row(model: str) -> _Row | None:
    return _ROWS.get(model) or _ROWS.get(_DATED.sub("", model))
