"""What the daemon writes down, and what it must not."""

from __future__ import annotations

import json
import logging
from typing import Literal

import pytest

from nanochat import journal
from nanochat.current import working_on
from nanochat.keys import SessionKey

_log = logging.getLogger("nanochat.x")


def test_a_json_line_tells_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Session and source come from what is being worked on."""
    with journal.written(level="info", form="json", content=False, secrets=[]):
        with working_on(SessionKey("telegram", "42"), "telegram:1:2"):
            _log.info("answered in %d s", 3)
        _log.info("idle")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (first["event"], first["key"], first["source"]) == ("answered in 3 s", "telegram:42", "telegram:1:2")
    assert first["level"] == "info"
    assert first["timestamp"].endswith("Z")
    assert "key" not in second


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_secret_is_written(capsys: pytest.CaptureFixture[str], form: Literal["console", "json"]) -> None:
    """Neither in a line of ours or of a library, nor in a traceback, its variables and its chain."""
    with journal.written(level="debug", form=form, content=True, secrets=["hunter22"]):
        logging.getLogger("httpx").warning("GET https://api/bot123456789:AAabcdefghijklmnopqrstuvwxyz_-12345/getMe")
        try:
            try:
                token = "hunter22"
                int(token)
            except ValueError as error:
                raise RuntimeError("hunter22 again") from error
        except RuntimeError:
            _log.exception("failed with %s", "hunter22", extra={"text": "hunter22"})
    errors = capsys.readouterr().err
    assert "RuntimeError" in errors
    assert "hunter22" not in errors
    assert "AAabcdef" not in errors


@pytest.mark.parametrize("content", [False, True], ids=["without", "with"])
def test_content_only_where_it_is_asked_for(capsys: pytest.CaptureFixture[str], content: bool) -> None:
    """What people say is nobody else's."""
    with journal.written(level="info", form="json", content=content, secrets=[]):
        _log.info("taken up", extra={"text": "my diagnosis"})
        logging.getLogger("telegram").info("got my diagnosis")
    assert ("my diagnosis" in capsys.readouterr().err) is content


def test_the_level_can_be_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """While it is written; afterwards there is silence."""
    with journal.written(level="info", form="console", content=False, secrets=[]) as log:
        _log.debug("one")
        log.set_level("debug")
        _log.debug("two")
    _log.error("three")
    errors = capsys.readouterr().err
    assert "two" in errors
    assert "one" not in errors
    assert "three" not in errors
