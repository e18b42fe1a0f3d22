"""Errors in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.model import failures
from nanochat.model.failures import Place, Refused

_OFFICIAL = Place("api.anthropic.com", "claude-sonnet-5-5", "sk-ant-api03-secret")
_OTHER = Place("localhost:11434", "llama", "hunter2-and-more")


@pytest.mark.parametrize(
    ("answer", "kind", "retryable", "words"),
    [
        pytest.param(Refused(400, message="messages.1: no"), "bad_request", False, "messages.1: no", id="400"),
        pytest.param(Refused(400, message="prompt is too long: 2 > 1"), "too_large", False, "/compact", id="too long"),
        pytest.param(Refused(400, message="Your credit balance is too low"), "money", False, "credit", id="no credit"),
        pytest.param(
            Refused(400, message="You have reached your specified API usage limits."), "money", False, "limit", id="cap"
        ),
        pytest.param(Refused(401), "key", False, "set ANTHROPIC_API_KEY to a valid key", id="401"),
        pytest.param(Refused(402, "billing_error"), "money", False, "add credit", id="402"),
        pytest.param(Refused(403, message="not yours"), "permission", False, "not yours", id="403"),
        pytest.param(
            Refused(404, "not_found_error"), "not_found", False, "knows no model claude-sonnet", id="404 model"
        ),
        pytest.param(Refused(404), "not_found", False, "model.base_url", id="404 page"),
        pytest.param(Refused(408), "timeout", True, "gave up waiting", id="408"),
        pytest.param(Refused(409), "server", True, "failed (409)", id="409"),
        pytest.param(Refused(413, "request_too_large"), "too_large", False, "too large", id="413"),
        pytest.param(Refused(422, message="hm"), "bad_request", False, "hm", id="422"),
        pytest.param(Refused(418), "bad_request", False, "(418)", id="418"),
        pytest.param(Refused(429, "rate_limit_error"), "rate", True, "rate limited", id="429"),
        pytest.param(
            Refused(429, "rate_limit_error", "enforced_spend_limit_reached"), "money", False, "money", id="429 spent"
        ),
        pytest.param(Refused(500), "server", True, "Anthropic's servers failed (500)", id="500"),
        pytest.param(Refused(502), "server", True, "failed (502)", id="502"),
        pytest.param(Refused(503), "server", True, "failed (503)", id="503"),
        pytest.param(Refused(504), "server", True, "failed (504)", id="504"),
        pytest.param(Refused(529), "overloaded", True, "Anthropic's servers are overloaded (529)", id="529"),
        pytest.param(Refused(307, location="https://x"), "protocol", False, "https://x", id="redirect"),
        pytest.param(Refused(0, "overloaded_error"), "overloaded", True, "(529)", id="in the middle: overloaded"),
        pytest.param(Refused(0, "api_error"), "server", True, "(500)", id="in the middle: server"),
        pytest.param(Refused(0, "novel_error"), "server", True, "(500)", id="in the middle: unknown"),
        pytest.param(Refused(0, "invalid_request_error"), "bad_request", False, "(400)", id="in the middle: ours"),
    ],
)
def test_a_refusal_in_words(answer: Refused, kind: str, retryable: bool, words: str) -> None:
    """Each answer of the API has a kind, and words that say what to do."""
    error = failures.refused(answer, _OFFICIAL)
    assert (error.kind, error.retryable) == (kind, retryable)
    assert words in str(error)


def test_another_endpoint_is_called_by_its_name() -> None:
    """Nobody blames Anthropic for a local server, nor looks for the wrong key."""
    overloaded, unknown_key = failures.refused(Refused(529), _OTHER), failures.refused(Refused(401), _OTHER)
    assert "localhost:11434" in str(overloaded)
    assert "NANOCHAT_MODEL_KEY" in str(unknown_key)


def test_facts_are_attributes() -> None:
    """What a caller acts on need not be read out of words."""
    error = failures.refused(Refused(429, request_id="req_1", retry_after_s=7.0), _OFFICIAL, "so far")
    assert (error.request_id, error.retry_after_s, error.partial) == ("req_1", 7.0, "so far")


@given(
    before=st.text(max_size=400),
    key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=90).filter(
        lambda key: key not in "the API key was refused (401): set ANTHROPIC_API_KEY to a valid key"
    ),
    status=st.sampled_from([300, 400, 402, 403, 404, 413, 429, 500, 529]),
)
def test_no_message_holds_the_key(before: str, key: str, status: int) -> None:
    """Whatever a server quotes back, the key is not shown."""
    place = Place("host", "model", key)
    for said in (f"{before}{key}", f"bad header Bearer {key}"):
        assert key not in str(failures.refused(Refused(status, message=said, location=said), place))
        assert key not in str(failures.unreachable(said, place))


@pytest.mark.parametrize("text", ["sk-ant-api03-abc_DEF-123", "Authorization: Bearer tok.en/123", "bearer abcdef"])
def test_what_looks_like_a_key_is_not_shown(text: str) -> None:
    """Also a key that is not ours."""
    shown = failures.redact(f"no: {text} refused")
    assert "…" in shown
    assert not any(part in shown for part in ("api03", "tok.en", "abcdef"))


def test_a_long_quotation_is_cut() -> None:
    """A whole page in an error helps nobody, nor does a second line."""
    error = failures.refused(Refused(400, message="a\nb" + "c" * 5000), _OFFICIAL)
    assert len(str(error)) < 400
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("value", "date", "expected"),
    [
        pytest.param("7", "", 7.0, id="seconds"),
        pytest.param("0.5", "", 0.5, id="fraction"),
        pytest.param("-3", "", 0.0, id="past"),
        pytest.param("Fri, 20 Nov 2026 10:00:30 GMT", "Fri, 20 Nov 2026 10:00:00 GMT", 30.0, id="date"),
        pytest.param("Fri, 20 Nov 2026 10:00:30 GMT", "", None, id="date without a clock"),
        pytest.param("soon", "", None, id="nonsense"),
        pytest.param("", "", None, id="absent"),
    ],
)
def test_retry_after(value: str, date: str, expected: float | None) -> None:
    """Both forms of the header are understood, with the server's clock for the second."""
    assert failures.retry_after_s(value, date) == expected


@pytest.mark.parametrize(
    ("reason", "retryable", "words"),
    [
        pytest.param("[Errno -2] Name or service not known", True, "api.anthropic.com: Name or service", id="name"),
        pytest.param("", True, "it was closed", id="silent"),
        pytest.param("[SSL: CERTIFICATE_VERIFY_FAILED] no", False, "CERTIFICATE", id="certificate"),
    ],
)
def test_no_connection(reason: str, retryable: bool, words: str) -> None:
    """A line that may come back is worth another try, a wrong certificate is not."""
    error = failures.unreachable(reason, _OFFICIAL)
    assert (error.kind, error.retryable) == ("network", retryable)
    assert words in str(error)
