"""The model of the provider's cache."""

from __future__ import annotations

from typing import cast

import pytest

from nanochat.records import Block, Json
from tests.fakes.messages_api import Clock
from tests.fakes.prompt_cache import PromptCache

_MODEL = "claude-sonnet-5-5"
_MARK: Block = {"type": "ephemeral"}
_HOUR: Block = {"type": "ephemeral", "ttl": "1h"}


def _text(text: str, mark: Block | None = None, size: int = 2000) -> Block:
    block: Block = {"type": "text", "text": text.ljust(size, ".")}
    return {**block, "cache_control": mark} if mark else block


def _body(*blocks: Block, system: tuple[Block, ...] = (), **more: Json) -> dict[str, Json]:
    return {"model": _MODEL, "system": system, "messages": ({"role": "user", "content": blocks},), **more}


def _read(usage: dict[str, Json]) -> int:
    return cast(int, usage["cache_read_input_tokens"])


def _written(usage: dict[str, Json]) -> int:
    return cast(int, usage["cache_creation_input_tokens"])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> PromptCache:
    return PromptCache(clock)


def test_a_prefix_is_written_and_then_read(cache: PromptCache) -> None:
    """What was written up to a breakpoint is read by the next request that begins so."""
    first = cache.charge(_body(_text("a", _MARK)))
    second = cache.charge(_body(_text("a"), _text("b", _MARK)))
    assert (_read(first), _read(second)) == (0, _written(first))
    assert _written(second) > 0


def test_without_a_breakpoint_nothing_is_kept(cache: PromptCache) -> None:
    """Writes happen at breakpoints only."""
    cache.charge(_body(_text("a")))
    assert _read(cache.charge(_body(_text("a", _MARK)))) == 0


def test_all_kinds_add_up(cache: PromptCache) -> None:
    """Read, written and plain input are disjoint, and together the whole prompt."""
    plain = cache.charge(_body(_text("a"), _text("b"), _text("c")))
    cache.charge(_body(_text("a", _MARK)))
    mixed = cache.charge(_body(_text("a"), _text("b", _MARK), _text("c")))
    parts = [cast(int, mixed["input_tokens"]), _read(mixed), _written(mixed)]
    assert all(parts)
    assert sum(parts) == plain["input_tokens"]


def test_a_short_prefix_is_not_kept(cache: PromptCache) -> None:
    """Below the model's minimum a breakpoint is ignored, without an error."""
    usage = cache.charge(_body(_text("a", _MARK, size=100)))
    assert (_read(usage), _written(usage)) == (0, 0)


@pytest.mark.parametrize(("mark", "life_s"), [pytest.param(_MARK, 300, id="5m"), pytest.param(_HOUR, 3600, id="1h")])
def test_an_entry_lives_from_the_start_of_its_request(
    cache: PromptCache, clock: Clock, mark: Block, life_s: float
) -> None:
    """Just before its end it is read, and at its end it is gone."""
    cache.charge(_body(_text("a", mark)))
    clock.advance(life_s - 1)
    assert _read(cache.charge(_body(_text("a"), _text("b", size=10)))) == 0
    assert _read(cache.charge(_body(_text("a", mark)))) > 0
    clock.advance(life_s)
    assert _read(cache.charge(_body(_text("a", mark)))) == 0


def test_a_read_renews(cache: PromptCache, clock: Clock) -> None:
    """Each read gives the entry its whole life again, at no cost."""
    cache.charge(_body(_text("a", _MARK)))
    for _ in range(5):
        clock.advance(299)
        assert _read(cache.charge(_body(_text("a", _MARK)))) > 0


@pytest.mark.parametrize(("added", "is_found"), [(18, True), (19, True), (20, False)])
def test_the_lookback_is_twenty_blocks(cache: PromptCache, added: int, is_found: bool) -> None:
    """A breakpoint that stands 20 blocks behind the last one finds nothing."""
    cache.charge(_body(_text("a", _MARK)))
    blocks = [_text(str(at), size=10) for at in range(added - 1)]
    usage = cache.charge(_body(_text("a"), *blocks, _text("z", _MARK)))
    assert (_read(usage) > 0) is is_found


def test_an_early_breakpoint_is_found_where_a_late_one_is_not(cache: PromptCache) -> None:
    """Each breakpoint looks back for itself."""
    cache.charge(_body(_text("a", _MARK)))
    blocks = [_text(str(at), size=10) for at in range(30)]
    assert _read(cache.charge(_body(_text("a", _MARK), *blocks, _text("z", _MARK)))) > 0


def test_models_do_not_share(cache: PromptCache) -> None:
    """The cache is the model's own."""
    cache.charge(_body(_text("a", _MARK)))
    assert _read(cache.charge({**_body(_text("a", _MARK)), "model": "claude-opus-5-5"})) == 0


def test_a_changed_tool_changes_everything_behind_it(cache: PromptCache) -> None:
    """The order is tools, system, messages."""
    cache.charge(_body(_text("a", _MARK), system=(_text("s", _MARK),)))
    body = _body(_text("a", _MARK), system=(_text("s", _MARK),), tools=({"name": "t"},))
    assert _read(cache.charge(body)) == 0


def test_another_effort_spares_the_system(cache: PromptCache) -> None:
    """How to think belongs to the messages: the system text before them is still found."""
    first = cache.charge(_body(_text("a", _MARK), system=(_text("s", _MARK),)))
    effort = {"output_config": {"effort": "low"}}
    second = cache.charge(_body(_text("a", _MARK), system=(_text("s", _MARK),), **effort))
    assert 0 < _read(second) < _written(first)


def test_the_hour_and_the_minutes_are_told_apart(cache: PromptCache) -> None:
    """Writes of one request are split by their life."""
    usage = cache.charge(_body(_text("a", _MARK), system=(_text("s", _HOUR),)))
    split = cast(dict[str, int], usage["cache_creation"])
    assert all(split.values())
    assert sum(split.values()) == _written(usage)


def test_a_breakpoint_for_the_whole_request(cache: PromptCache) -> None:
    """`cache_control` at the top stands for one on the last block."""
    cache.charge(_body(_text("a"), cache_control=_MARK))
    assert _read(cache.charge(_body(_text("a", _MARK)))) > 0


def test_other_bytes_are_another_prefix(cache: PromptCache) -> None:
    """The order of a block's fields counts, as it does on the wire."""
    cache.charge(_body({"type": "text", "text": "a" * 3000, "cache_control": _MARK}))
    assert _read(cache.charge(_body({"text": "a" * 3000, "type": "text", "cache_control": _MARK}))) == 0
