"""What goes wrong with a request, in words fit for a person.

Knows statuses, error types and codes of the Messages API, and which of them may pass. Does not know the SDK, nor when to try
again (`retry` does). No message ever holds a key, nor a web page.

Statuses and types are those of the SDK's own error classes (anthropic 2.11); what each of them asks for is in
https://platform.claude.com/docs/en/api/errors, as known on 2026-11-20.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from nanochat.errors import ModelError

__all__ = [
    "OFFICIAL_HOST",
    "Place",
    "Refused",
    "broken",
    "cut",
    "not_messages",
    "redact",
    "refused",
    "retry_after_s",
    "silent",
    "unreachable",
]

OFFICIAL_HOST = "api.anthropic.com"

# An error in the middle of a stream has a type and no status.
_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

# `kind` and `retryable`; 409 is a conflict with another request, which passes.
_KINDS = {
    401: ("key", False),
    402: ("money", False),
    403: ("permission", False),
    404: ("not_found", False),
    408: ("timeout", True),
    409: ("server", True),
    413: ("too_large", False),
    429: ("rate", True),
    529: ("overloaded", True),
}

_SECRET = re.compile(r"sk-[\w-]{4,}|(?i:(?<=bearer )[^\s'\"]+)")
_OUT_OF_MONEY = re.compile(r"spend_limit_reached|billing_unavailable")
_MONEY_WORDS = re.compile(r"credit balance is too low|API usage limits", re.IGNORECASE)
_TOO_LONG_WORDS = re.compile(r"prompt is too long|exceed(s|ed)? (the )?(context|maximum)", re.IGNORECASE)

# Python's own way to begin the words of the operating system.
_ERRNO = re.compile(r"\[Errno -?\d+\] ")

# Longer quotations tell a reader of a chat nothing.
_MAX_QUOTE_CHARS = 300


@dataclass(frozen=True, slots=True)
class Place:
    """Whom we asked: the host as shown to people, the model, and the key that must not be shown."""

    host: str
    model: str
    key: str = ""

    @property
    def servers(self) -> str:
        return "Anthropic's servers" if self.host == OFFICIAL_HOST else f"the servers of {self.host}"

    @property
    def key_setting(self) -> str:
        return "ANTHROPIC_API_KEY" if self.host == OFFICIAL_HOST else "ANTHROPIC_API_KEY (or NANOCHAT_MODEL_KEY)"


@dataclass(frozen=True, slots=True)
class Refused:
    """An error as it came: `status` is 0 for one in the middle of a stream; the texts may be empty."""

    status: int
    type: str = ""
    code: str = ""
    message: str = ""
    request_id: str = ""
    retry_after_s: float | None = None
    location: str = ""


def refused(answer: Refused, place: Place, partial: str = "") -> ModelError:
    """The server said no."""
    status = answer.status or _STATUS_OF.get(answer.type, 500)
    kind, retryable = _kind(status, answer)
    return ModelError(
        _words(kind, status, answer, place),
        kind=kind,
        retryable=retryable,
        partial=partial,
        request_id=answer.request_id,
        retry_after_s=answer.retry_after_s,
    )


def unreachable(reason: str, place: Place) -> ModelError:
    """No connection, or it was lost before the server answered."""
    is_untrusted = "CERTIFICATE_VERIFY_FAILED" in reason
    said = _ERRNO.sub("", _quote(reason, place)) or "it was closed"
    return ModelError(
        f"no connection to {place.host}: {said}",
        kind="network",
        retryable=not is_untrusted,
    )


def silent(seconds: float, place: Place, partial: str = "", request_id: str = "") -> ModelError:
    """The server, or the line to it, said nothing for too long."""
    return ModelError(
        f"{place.host} said nothing for {seconds:g} s; a slow model may need a larger model.timeout_s",
        kind="timeout",
        retryable=True,
        partial=partial,
        request_id=request_id,
    )


def cut(place: Place, partial: str = "", request_id: str = "") -> ModelError:
    """The reply broke off: a lost connection, or a stream without its end."""
    return ModelError(
        f"the reply from {place.host} broke off before its end",
        kind="cut",
        retryable=True,
        partial=partial,
        request_id=request_id,
    )


def not_messages(what: str, place: Place, partial: str = "", request_id: str = "") -> ModelError:
    """Something answered that does not speak the Messages API."""
    return ModelError(
        f"{place.host} answered with {what}, not with a stream of the Messages API; check model.base_url",
        kind="protocol",
        retryable=False,
        partial=partial,
        request_id=request_id,
    )


def broken(reason: str, place: Place) -> ModelError:
    """The way to the model cannot even be prepared on this machine."""
    return ModelError(
        f"the model cannot be reached from here: {_quote(reason, place)}", kind="protocol", retryable=False
    )


def redact(text: str, key: str = "") -> str:
    """The text without anything that looks like a key, and without this one."""
    if key:
        text = text.replace(key, "…")
    return _SECRET.sub(lambda match: "sk-…" if match.group().startswith("sk-") else "…", text)


def retry_after_s(value: str, date: str) -> float | None:
    """The seconds of a `retry-after` header, which may be a number or a date; `date` is the response's own."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(date)).total_seconds())
    except (TypeError, ValueError):
        return None


def _kind(status: int, answer: Refused) -> tuple[str, bool]:
    """`kind` and `retryable`."""
    if _OUT_OF_MONEY.search(answer.code) or (400 <= status < 500 and _MONEY_WORDS.search(answer.message)):
        return "money", False
    if status == 400 and _TOO_LONG_WORDS.search(answer.message):
        return "too_large", False
    if status in _KINDS:
        return _KINDS[status]
    return ("server", True) if status >= 500 else ("protocol", False) if status < 400 else ("bad_request", False)


def _words(kind: str, status: int, answer: Refused, place: Place) -> str:
    said = _quote(answer.message, place)
    because = f": {said}" if said else ""
    match kind:
        case "key":
            return f"the API key was refused ({status}): set {place.key_setting} to a valid key"
        case "money":
            return f"no money is left for {place.host} ({status}){because}; raise the limit or add credit there"
        case "permission":
            return f"this API key may not do that ({status}){because}"
        case "not_found" if answer.message.startswith("model:") or answer.type == "not_found_error":
            return f"{place.host} knows no model {place.model} ({status}); choose another with model.name or /model"
        case "not_found":
            return f"nothing answers at {place.host}/v1/messages ({status}); check model.base_url"
        case "too_large":
            return f"the request is too large for {place.model} ({status}){because}; /compact or /new makes it smaller"
        case "rate":
            return f"rate limited by {place.host} ({status}){because}"
        case "overloaded":
            return f"{place.servers} are overloaded ({status}); try again later"
        case "server":
            return f"{place.servers} failed ({status}){because}; try again later"
        case "timeout":
            return f"{place.servers} gave up waiting ({status}){because}; try again later"
        case "protocol":
            where = f" to {_quote(answer.location, place)}" if answer.location else ""
            return f"{place.host} answered with a redirect{where} ({status}); set model.base_url to the final address"
        case _:
            return f"{place.host} refused the request ({status}){because}"


def _quote(text: str, place: Place) -> str:
    line = " ".join(redact(text, place.key).split()).rstrip(".")
    return line if len(line) <= _MAX_QUOTE_CHARS else line[: _MAX_QUOTE_CHARS - 1] + "…"
