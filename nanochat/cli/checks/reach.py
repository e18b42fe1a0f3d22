"""Whether the model's endpoint and Telegram answer, and take what they are sent; and what time it is there.

Each is asked in a thread of its own that nobody waits for longer than `patience_s`: a name server that is silent cannot be
cancelled, and would hold up a loop's end. Knows addresses, statuses and headers. No answer costs anything.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit

import httpx

from nanochat.cli.checks.finding import Finding, ok, warning, wrong
from nanochat.config import Endpoint

__all__ = ["PATIENCE_S", "Answered", "Asking", "ask_model", "ask_telegram", "clock", "skew"]

PATIENCE_S = 5.0

# A certificate, a token of an API and a message's order stand more than a minute; beyond it people wonder.
_SKEW_S = 60.0

# The API's version that every Messages endpoint knows.
_VERSION = "2023-06-01"

_ANTHROPIC = "https://api.anthropic.com"
_TELEGRAM = "https://api.telegram.org"

_MAX_QUOTE_CHARS = 200

# Python's own way to begin the words of the operating system.
_ERRNO = re.compile(r"\[Errno -?\d+\] ")


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of asking: the findings, and how far this clock is ahead of theirs, in seconds, where they told."""

    findings: tuple[Finding, ...]
    ahead_s: float | None = None


class Asking:
    """Questions under way, each by its check's name; they begin at once."""

    def __init__(self, questions: Mapping[str, Callable[[], Answered]], patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._until_s = time.monotonic() + patience_s
        self._answers: queue.SimpleQueue[tuple[str, Answered]] = queue.SimpleQueue()
        self._names = list(questions)
        for name, question in questions.items():
            # Daemons: at the program's end, whoever still waits for a name server is left behind.
            threading.Thread(target=self._ask, args=(name, question), name=f"asks {name}", daemon=True).start()

    def _ask(self, name: str, question: Callable[[], Answered]) -> None:
        self._answers.put((name, question()))

    def answers(self) -> Iterator[Answered]:
        """What was answered, in the order of the questions; who has not answered in time is said to be silent."""
        found: dict[str, Answered] = {}
        while len(found) < len(self._names):
            try:
                name, answered = self._answers.get(timeout=max(0.0, self._until_s - time.monotonic()))
            except queue.Empty:
                break
            found[name] = answered
        for name in self._names:
            yield found.get(name) or Answered((_silent(name, self._patience_s),))


def _silent(name: str, patience_s: float) -> Finding:
    return wrong(name, f"there was no answer within {patience_s:g} s", "is this machine online? a proxy or firewall?")


@dataclass(slots=True)
class _Talk:
    """A connection to one side, which remembers how far the clocks are apart, and shows nothing of `secret`."""

    name: str
    host: str
    client: httpx.Client
    secret: str = field(repr=False)
    ahead_s: float | None = None

    def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> httpx.Response:
        answer = self.client.request(method, url, headers=dict(headers), content=body)
        self.ahead_s = skew(answer.headers.get("date", ""), datetime.now(UTC))
        return answer

    def told(self, *findings: Finding) -> Answered:
        return Answered(findings, self.ahead_s)

    def unreachable(self, error: Exception) -> Finding:
        if isinstance(error, httpx.TimeoutException):
            return wrong(
                self.name, f"{self.host} did not answer in time", "is this machine online? a proxy or firewall?"
            )
        said = _ERRNO.sub("", self.quoted(str(error))) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in said:
            mend = "is the clock right? behind a proxy of your own, SSL_CERT_FILE names its certificate"
            return wrong(self.name, f"{self.host} is not who it should be: {said}", mend)
        mend = f"is this machine online, and does anything serve at {self.host}?"
        return wrong(self.name, f"no connection to {self.host}: {said}", mend)

    def quoted(self, text: str) -> str:
        line = " ".join(text.split())
        return (line.replace(self.secret, "•••") if self.secret else line)[:_MAX_QUOTE_CHARS].rstrip(".")


def _asked(name: str, url: str, secret: str, patience_s: float, ask: Callable[[_Talk], Sequence[Finding]]) -> Answered:
    """Ask over a connection that is closed afterwards, whatever comes of it."""
    host = urlsplit(url).netloc
    # It logs addresses, and a bot's holds its token.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        with httpx.Client(timeout=patience_s, follow_redirects=False) as client:
            talk = _Talk(name, host, client, secret)
            try:
                return talk.told(*ask(talk))
            except httpx.HTTPError as error:
                return talk.told(talk.unreachable(error))
    # Proxies or certificates that the environment names and that cannot be used; an address that is none.
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        return Answered((wrong(name, f"{host} cannot be asked: {type(error).__name__}", "check the proxy variables"),))


def _ms(began_s: float) -> str:
    return f"{1000 * (time.monotonic() - began_s):,.0f} ms"


def skew(date: str, now: datetime) -> float | None:
    """How far `now` is ahead of a response's `Date`, in seconds; None where it tells no time."""
    try:
        there = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None
    if there.tzinfo is None:  # "-0000": UTC, of an unknown place
        there = there.replace(tzinfo=UTC)
    return (now - there).total_seconds()


def clock(answers: Sequence[Answered]) -> Iterator[Finding]:
    """Whether this machine's clock is right, by those who told the time; nothing where nobody did."""
    told = [answer.ahead_s for answer in answers if answer.ahead_s is not None]
    if not told:
        return
    ahead_s = min(told, key=abs)
    if abs(ahead_s) <= _SKEW_S:
        yield ok("clock", "is right, to the minute")
    else:
        where = "ahead" if ahead_s > 0 else "behind"
        yield warning(
            "clock", f"is {abs(ahead_s):,.0f} s {where}: jobs fire at the wrong time", "timedatectl set-ntp true"
        )


# --- the model -------------------------------------------------------------------------------------------------------


def ask_model(
    endpoint: Endpoint, model: str, variable: str, patience_s: float = PATIENCE_S, *, official: str = _ANTHROPIC
) -> Answered:
    """Whether the endpoint takes its key, which `variable` holds, and knows the model. `official` is Anthropic's own address."""
    url = (endpoint.base_url or official).rstrip("/")
    address = "ANTHROPIC_BASE_URL" if variable == "ANTHROPIC_API_KEY" else "model.base_url"
    headers = {"anthropic-version": _VERSION}
    if endpoint.key and endpoint.auth == "bearer":
        headers["authorization"] = f"Bearer {endpoint.key}"
    elif endpoint.key:
        headers["x-api-key"] = endpoint.key

    def ask(talk: _Talk) -> Sequence[Finding]:
        began_s = time.monotonic()
        answer = talk.ask("GET", f"{url}/v1/models/{quote(model, safe='/')}", headers)
        took = f"{talk.host} answers in {_ms(began_s)}"
        if (refused := _refused(talk, answer, model, variable, address)) is not None:
            return [refused]
        knows = answer.status_code == 200 and _is_json(answer)
        if knows and not endpoint.base_url:
            return [ok(talk.name, f"{took}, takes the key, and knows {model}")]
        # Other endpoints tell their models to anybody, or not at all. An empty request makes them look at the key, and is refused
        # before it could cost anything.
        answer = talk.ask("POST", f"{url}/v1/messages", {**headers, "content-type": "application/json"}, b"{}")
        if (refused := _refused(talk, answer, model, variable, address)) is not None:
            return [refused]
        if answer.status_code in (404, 405, 501):
            return [wrong(talk.name, f"{took}, but nothing is at {url}/v1/messages", f"check {address}")]
        return [ok(talk.name, f"{took}, and {'knows' if knows else 'does not tell whether it knows'} {model}")]

    return _asked("model", url, endpoint.key, patience_s, ask)


def _refused(talk: _Talk, answer: httpx.Response, model: str, variable: str, address: str) -> Finding | None:
    """What the answer says no to, if it is not the question's form."""
    status = answer.status_code
    kind, said = _error_of(talk, answer)
    because = f": {said}" if said else ""
    match status:
        case 401:
            held = "the key is refused" if talk.secret else "it wants a key"
            return wrong(talk.name, f"{talk.host}: {held} ({status})", f"set {variable} to a valid one")
        case 402:
            return wrong(talk.name, f"{talk.host}: no money is left ({status}){because}", "add credit there")
        case 403:
            return wrong(
                talk.name, f"{talk.host}: the key may not do this ({status}){because}", "ask for the right there"
            )
        case 404 if said.startswith("model:"):
            return wrong(talk.name, f"{talk.host} knows no model {model}", "choose another with model.name")
        case 429:
            return warning(
                talk.name, f"{talk.host} limits the rate ({status}){because}", "wait, or ask for a higher limit"
            )
        case _ if 300 <= status < 400:
            to = talk.quoted(answer.headers.get("location", ""))
            return wrong(
                talk.name, f"{talk.host} sends us on to {to or 'nowhere'} ({status})", f"set {address} to that"
            )
        case _ if status >= 500 and status != 501:
            # Some refuse an empty request so; then the error is theirs, and they answer all the same.
            return warning(
                talk.name, f"{talk.host} fails ({status}, {kind or 'no reason'}){because}", "try again later"
            )
        case _:
            return None


def _error_of(talk: _Talk, answer: httpx.Response) -> tuple[str, str]:
    """Type and message of an error of the Messages API; empty where it is none."""
    try:
        body = answer.json()
    except ValueError:
        return "", ""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "", ""
    return talk.quoted(str(error.get("type") or "")), talk.quoted(str(error.get("message") or ""))


def _is_json(answer: httpx.Response) -> bool:
    try:
        return isinstance(answer.json(), dict)
    except ValueError:
        return False


# --- Telegram --------------------------------------------------------------------------------------------------------


def ask_telegram(token: str, base_url: str, patience_s: float = PATIENCE_S) -> Answered:
    """Whether Telegram knows the bot."""
    url = (base_url or _TELEGRAM).rstrip("/").removesuffix("/bot")

    def ask(talk: _Talk) -> Sequence[Finding]:
        began_s = time.monotonic()
        answer = talk.ask("GET", f"{url}/bot{quote(token, safe=':')}/getMe", {})
        took = _ms(began_s)
        if answer.status_code in (401, 404):
            mend = "ask @BotFather for the current token and set TELEGRAM_BOT_TOKEN"
            return [wrong(talk.name, f"{talk.host}: the token is refused ({answer.status_code})", mend)]
        name = _bot_name(answer)
        if answer.status_code != 200 or not name:
            return [warning(talk.name, f"{talk.host} fails ({answer.status_code})", "try again later")]
        return [ok(talk.name, f"{talk.host} answers in {took}, and knows the bot as @{name}")]

    return _asked("telegram", url, token, patience_s, ask)


def _bot_name(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return ""
    result = body.get("result") if isinstance(body, dict) else None
    return str(result.get("username") or "") if isinstance(result, dict) else ""
