"""What a conversation's input costs under our policy, against a window of the last twenty messages.

Both are charged by the fake's prompt cache, from requests that are really drawn: the records, `plan`, `choose_ttl` and `render`
are the package's own. Gaps between turns are drawn from three mixes. Replies cost the same under both policies and are left
out; summaries are ours to pay, at the cheap model's price. Units are tokens at the plain input price.

Run: `python -m tests.bench.cost`
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal, TypeAlias, cast

from nanochat.history import Ttl, render, system_blocks, with_breakpoints
from nanochat.history.compaction import choose_ttl, plan, quote
from nanochat.pricing import DEFAULT_MODEL, DEFAULT_SUMMARY_MODEL, cost_usd
from nanochat.records import Block, Compact, Json, TurnEnd, Usage
from tests.bench.report import Figure, show
from tests.fakes.prompt_cache import BYTES_PER_TOKEN, PromptCache, tokens
from tests.fakes.talk import Talk

__all__ = ["MIXES", "Outcome", "ours", "run", "window"]

Mix: TypeAlias = Literal["hot", "chat", "sparse"]

# Shares of gaps: under five minutes, five minutes to an hour, over three hours.
MIXES: Mapping[Mix, tuple[float, float, float]] = {
    "hot": (1, 0, 0),
    "chat": (0.7, 0.2, 0.1),
    "sparse": (0.25, 0.25, 0.5),
}
GOALS: Mapping[Mix, float] = {"hot": 0.32, "chat": 0.50, "sparse": 0.95}

TURNS = 200
BUDGET_TOKENS = 8000
_USER_TOKENS, _REPLY_TOKENS, _SUMMARY_TOKENS = 60, 240, 200
_WINDOW_MESSAGES = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a conversation came to: units paid, for summaries among them, and the mean size of a request."""

    units: float
    summary_units: float
    mean_context: float
    compactions: int = 0


def window(mix: Mix, *, system_tokens: int, seed: int = 0, turns: int = TURNS) -> Outcome:
    """The last twenty messages and the new one, system text and last block cached for five minutes."""
    clock = _Clock()
    cache = PromptCache(clock.seconds)
    said: list[Block] = []
    units, sizes = 0.0, []
    for i, gap in enumerate(_gaps(mix, seed, turns)):
        clock.now += gap
        question: Block = {"role": "user", "content": [_text(f"{i} ", _USER_TOKENS)]}
        messages = with_breakpoints([*said[-_WINDOW_MESSAGES:], question], ttl="5m")
        usage = cache.charge(_body(system_tokens, "5m", messages))
        units += _units(usage)
        sizes.append(_size(usage))
        said += [question, {"role": "assistant", "content": [_text(f"re {i} ", _REPLY_TOKENS)]}]
    return Outcome(units, 0.0, mean(sizes))


def ours(
    mix: Mix, *, system_tokens: int, seed: int = 0, turns: int = TURNS, budget_tokens: int = BUDGET_TOKENS
) -> Outcome:
    """Appending until `plan` says otherwise, summaries by the cheap model, lifetimes by `choose_ttl`."""
    clock = _Clock()
    cache = PromptCache(clock.seconds)
    talk = Talk(DEFAULT_MODEL, _system(system_tokens))
    units, summaries, sizes, compactions = 0.0, 0.0, [], 0
    for i, gap in enumerate(_gaps(mix, seed, turns)):
        clock.now += gap
        talk.wait(gap)
        question = _text(f"{i} ", _USER_TOKENS)
        due = plan(talk.view, budget_tokens=budget_tokens, now=talk.now, newest=[question])
        if due is not None:
            read = int(len(quote(talk.view, due).encode()) / BYTES_PER_TOKEN) + 350
            summaries += _summary_units(Usage(input=read, output=_SUMMARY_TOKENS))
            summary = str(_text(f"summary {i} ", _SUMMARY_TOKENS)["text"])
            talk.note(Compact(summary, due.keep, due.keep_n, DEFAULT_SUMMARY_MODEL, due.reason, due.messages))
            compactions += 1
        talk.say("user", [question])
        ttl = choose_ttl(talk.view, talk.now)
        messages = with_breakpoints(render(talk.view, prefix=talk.prefix), ttl=ttl)
        usage = cache.charge(_body(system_tokens, ttl, messages))
        units += _units(usage)
        sizes.append(_size(usage))
        answer = _text(f"re {i} ", _REPLY_TOKENS)
        counted = Usage(input=_size(usage), output=tokens(answer))
        talk.say("assistant", [answer], prefix=talk.prefix, usage=counted)
        talk.note(TurnEnd(f"s{i}", "done", prefix=talk.prefix, ttl=ttl))
        # What is behind the boundary is never asked for again; without this the simulation itself would be O(n²).
        talk.live = talk.view
    return Outcome(units + summaries, summaries, mean(sizes), compactions)


def run(seeds: Sequence[int] = range(5)) -> list[Figure]:
    """Both policies over the three mixes and two sizes of system text; means over several draws of the gaps."""
    figures: list[Figure] = []
    for system_tokens in (900, 3500):
        for mix in MIXES:
            pairs = [
                (ours(mix, system_tokens=system_tokens, seed=s), window(mix, system_tokens=system_tokens, seed=s))
                for s in seeds
            ]
            ratio = mean(o.units for o, _ in pairs) / mean(w.units for _, w in pairs)
            share = mean(o.summary_units / o.units for o, _ in pairs)
            note = f"summaries {share:.0%}, {mean(o.compactions for o, _ in pairs):.0f} compactions"
            goal = GOALS[mix] if system_tokens == 900 else None
            figures.append(Figure(f"{mix}, system {system_tokens}: cost against the window", ratio, "x", goal, note))
            shown = mean(w.mean_context for _, w in pairs) / mean(o.mean_context for o, _ in pairs)
            context = f"ours {mean(o.mean_context for o, _ in pairs):.0f} tokens"
            figures.append(
                Figure(
                    f"{mix}, system {system_tokens}: the window's mean context against ours", shown, "x", 1.0, context
                )
            )
    return figures


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def seconds(self) -> float:
        return self.now


def _gaps(mix: Mix, seed: int, turns: int) -> list[float]:
    dice = random.Random(f"{mix} {seed}")
    ranges = ((20, 280), (310, 3500), (3 * 3600 + 60, 20 * 3600))
    return [dice.uniform(*dice.choices(ranges, MIXES[mix])[0]) for _ in range(turns)]


def _text(begin: str, size_tokens: int) -> Block:
    """A text block that the fake counts as so many tokens."""
    room = int(size_tokens * BYTES_PER_TOKEN) - len('{"type":"text","text":""}')
    return {"type": "text", "text": begin.ljust(room, ".")}


def _system(size_tokens: int) -> str:
    return str(_text("You are kind. ", size_tokens)["text"])


def _body(system_tokens: int, ttl: Ttl, messages: Sequence[Block]) -> dict[str, Json]:
    system = list(system_blocks(_system(system_tokens), ttl))
    return {"model": DEFAULT_MODEL, "max_tokens": 100, "system": system, "messages": messages}


def _usage(usage: Mapping[str, Json]) -> Usage:
    written = cast(Mapping[str, int], usage["cache_creation"])
    return Usage(
        input=cast(int, usage["input_tokens"]),
        cache_read=cast(int, usage["cache_read_input_tokens"]),
        cache_write=written["ephemeral_5m_input_tokens"],
        cache_write_1h=written["ephemeral_1h_input_tokens"],
    )


def _size(usage: Mapping[str, Json]) -> int:
    return _usage(usage).prompt


def _units(usage: Mapping[str, Json]) -> float:
    """The request's input in tokens at the plain input price."""
    return _price(DEFAULT_MODEL, _usage(usage)) / _price(DEFAULT_MODEL, Usage(input=1))


def _summary_units(usage: Usage) -> float:
    return _price(DEFAULT_SUMMARY_MODEL, usage) / _price(DEFAULT_MODEL, Usage(input=1))


def _price(model: str, usage: Usage) -> float:
    price = cost_usd(model, usage)
    assert price is not None
    return price


if __name__ == "__main__":
    show("Cost of a conversation's input, 200 turns, budget 8000", run())
