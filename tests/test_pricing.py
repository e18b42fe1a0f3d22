"""The price list."""

from __future__ import annotations

import typing

import pytest
from anthropic.types import model as sdk_model

from nanochat import pricing
from nanochat.records import Usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(Usage(input=1_000_000), 2.0, id="input"),
        pytest.param(Usage(output=1_000_000), 10.0, id="output"),
        pytest.param(Usage(cache_read=1_000_000), 0.1, id="read"),
        pytest.param(Usage(cache_write=1_000_000), 2.5, id="write for five minutes"),
        pytest.param(Usage(cache_write_1h=1_000_000), 4.0, id="write for an hour"),
        pytest.param(Usage(), 0.0, id="nothing"),
    ],
)
def test_each_kind_of_token_has_its_price(usage: Usage, expected: float) -> None:
    """The four kinds of input and the output are charged apart."""
    assert pricing.cost_usd("claude-sonnet-5-5", usage) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(Usage(input=100_000, output=1000), 0.0105, id="at the border"),
        pytest.param(Usage(input=100_001, output=1000), 0.0525005, id="above it"),
        pytest.param(Usage(cache_read=100_001), 0.00500005, id="reads count"),
    ],
)
def test_a_long_prompt_of_haiku_is_dearer_as_a_whole(usage: Usage, expected: float) -> None:
    """Above 100,000 tokens of prompt every token of the request has the higher price."""
    assert pricing.cost_usd("claude-haiku-5-5", usage) == pytest.approx(expected)


def test_a_dated_id_is_the_same_model() -> None:
    """`claude-haiku-4-5-20251001` is a snapshot of `claude-haiku-4-5`."""
    usage = Usage(input=1000)
    assert pricing.cost_usd("claude-haiku-4-5-20251001", usage) == pricing.cost_usd("claude-haiku-4-5", usage)


@pytest.mark.parametrize("model", ["llama-4", "", "claude-sonnet-9", "claude-mythos-preview"])
def test_an_unknown_model_has_no_price(model: str) -> None:
    """None is not zero: a cap cannot be kept with it."""
    found = pricing.cost_usd(model, Usage(input=1)), pricing.window_tokens(model), pricing.max_output(model)
    assert found == (None, 0, 0)


def test_the_offline_model_costs_nothing() -> None:
    """It has a price, and the price is zero."""
    assert pricing.cost_usd(pricing.OFFLINE_MODEL, Usage(input=10**6, output=10**6)) == 0


@pytest.mark.parametrize("model", pricing.known_models())
def test_the_installed_sdk_knows_every_model(model: str) -> None:
    """The ids are the SDK's own literals."""
    literal, _ = typing.get_args(sdk_model.Model)
    assert model in typing.get_args(literal)


@pytest.mark.parametrize("model", pricing.known_models())
def test_every_model_has_sizes(model: str) -> None:
    """Window and output are known and plausible."""
    assert pricing.window_tokens(model) > pricing.max_output(model) >= 64_000
    assert pricing.min_cacheable_tokens(model) >= 512


def test_the_defaults_are_known() -> None:
    """The settings' defaults have a price."""
    assert {pricing.DEFAULT_MODEL, pricing.DEFAULT_SUMMARY_MODEL} <= set(pricing.known_models())
