"""Refusals and failures as RFC 9457 problem documents, in the words that the command line uses.

Knows which error means which status. Does not know routes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from nanochat.errors import (
    Busy,
    CommandError,
    KeyFormError,
    LeaseHeld,
    LedgerError,
    LimitReached,
    ModelError,
    NanochatError,
    StoreError,
    UnknownSession,
)
from nanochat.events import TurnFailed

__all__ = ["MEDIA_TYPE", "Problem", "Refused", "of_error", "of_failure"]

MEDIA_TYPE = "application/problem+json"

# Kinds of `TurnFailed` that are not the model's.
_STATUS = {
    "busy": 409,
    "pace": 429,
    "limit": 429,
    "command": 422,
    "store": 503,
    "ending": 503,
    "crashed": 500,
    "internal": 500,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One document. `kind` is a word for programs, `detail` a line for people; None and empty members are left out."""

    status: int
    kind: str
    detail: str
    error_id: str = ""
    retryable: bool | None = None
    kept: bool | None = None
    holder: str = ""
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, object]:
        """The document's members."""
        found: dict[str, object] = {
            "type": f"urn:nanochat:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "kind": self.kind,
        }
        if self.error_id:
            found["error_id"] = self.error_id
        if self.retryable is not None:
            found["retryable"] = self.retryable
        if self.kept is not None:
            found["kept"] = self.kept
        if self.holder:
            found["holder"] = self.holder
        return found

    def body(self) -> bytes:
        """The document as it is sent."""
        return json.dumps(self.fields(), ensure_ascii=False).encode(errors="replace")

    def all_headers(self) -> dict[str, str]:
        """What stands above the document."""
        found = {"content-type": MEDIA_TYPE, **self.headers}
        if self.retry_after_s is not None:
            found["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        return found


class Refused(Exception):
    """A request is answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def of_error(error: NanochatError) -> Problem:
    """What an error of ours means to a client."""
    words = str(error)
    match error:
        case UnknownSession():
            return Problem(404, "unknown_session", words)
        case LeaseHeld(holder=holder):
            return Problem(409, "busy", words, retryable=True, holder=holder)
        case Busy():
            return Problem(409, "busy", words, retryable=True)
        case KeyFormError():
            return Problem(422, "session_id", words)
        case CommandError():
            return Problem(422, "command", words)
        case LimitReached(retry_after_s=retry_after_s):
            return Problem(429, "limit", words, retryable=retry_after_s is not None, retry_after_s=retry_after_s)
        case ModelError(kind=kind, retryable=retryable):
            return Problem(502, kind, words, retryable=retryable)
        case StoreError() | LedgerError():
            return Problem(503, "store", words)
        case _:
            return Problem(500, "internal", words)


def of_failure(failed: TurnFailed) -> Problem:
    """What the failure of a turn means to a client."""
    status = _STATUS.get(failed.kind, 502)
    return Problem(
        status,
        failed.kind,
        failed.message,
        error_id=failed.error_id,
        retryable=failed.retryable,
        kept=failed.kept,
        retry_after_s=failed.retry_after_s if status in (429, 503) else None,
    )
