"""What must not be seen in a log line."""

from __future__ import annotations

import logging

import pytest

from nanochat import log


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key sk-ant-api03-abc_DEF-1 used", "key ••• used"),
        ("/bot123456789:AAabcdefghijklmnopqrstuvwxyz_-12345/getMe", "/bot•••/getMe"),
        ("at 12:30:00 nothing happened", "at 12:30:00 nothing happened"),
        ("telegram:12345678", "telegram:12345678"),
        ("the token hunter22 leaks", "the token ••• leaks"),
    ],
    ids=["anthropic", "telegram", "a time", "a session", "a known value"],
)
def test_redact(text: str, shown: str) -> None:
    """Known secrets, and what looks like one."""
    assert log.redact(text, ["hunter22"]) == shown


def test_a_short_value_is_not_a_secret() -> None:
    """It would blank ordinary words."""
    assert log.redact("a cat", ["a"]) == "a cat"


def test_debug_shows_tracebacks_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """Also in the words of an exception."""
    with log.written(debug=True, secrets=["hunter22"]):
        try:
            int("hunter22")
        except ValueError:
            logging.getLogger("nanochat.x").exception("failed with %s", "hunter22")
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert "ValueError: invalid literal for int() with base 10: '•••'" in errors
    assert "hunter22" not in errors


def test_without_debug_there_is_silence(capsys: pytest.CaptureFixture[str]) -> None:
    """A command tells its errors itself."""
    with log.written(debug=False, secrets=[]):
        logging.getLogger("nanochat.x").error("failed")
        logging.getLogger("elsewhere").warning("odd")
    assert capsys.readouterr().err == ""
