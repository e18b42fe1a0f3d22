"""Every error that nanochat raises on purpose.

Knows the words shown to people. Does not know who raises what, nor how a channel shows it.

NanochatError
├── KeyFormError            a session key that cannot be one
├── SettingError            a setting, or an option of a command, that cannot be used
│   └── JobError            a scheduled job that cannot be kept as it is written
├── StoreError              a session file, or its directory
│   ├── NotWritten          nothing of it is in the file: trying again is safe
│   ├── DurabilityUnknown   it may be in the file: trying again could double it
│   ├── NewerFormat         written by a newer nanochat: readable, never appended to
│   ├── UnknownSession      there is no such session
│   ├── WrongFile           the path holds something that is not this session's file
│   └── LeaseHeld           another turn of this session is running elsewhere
├── SearchError             words that cannot be looked for, or the search index
├── LedgerError             the work-in-progress database
├── ModelError              the model, or the way to it
├── ToolError               a tool could not do what it was asked; the model sees the text
├── ChannelError            a message could not be brought to a person
├── CommandError            a chat command that cannot be carried out as typed
├── Busy                    too many messages wait in this session
└── LimitReached            a money or rate limit says no

Messages say what failed, on what, and what to do; lower case, no full stop.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "Busy",
    "ChannelError",
    "CommandError",
    "DurabilityUnknown",
    "JobError",
    "KeyFormError",
    "LeaseHeld",
    "LedgerError",
    "LimitReached",
    "ModelError",
    "NanochatError",
    "NewerFormat",
    "NotWritten",
    "SearchError",
    "SettingError",
    "StoreError",
    "ToolError",
    "UnknownSession",
    "WrongFile",
]


class NanochatError(Exception):
    """The root; `str()` of any of them is one line fit for a person."""


class KeyFormError(NanochatError):
    """A session key that is not `channel:chat_id`."""


class SettingError(NanochatError):
    """A setting that cannot be used: names the file or option, the key, what it got and what it takes."""


class JobError(SettingError):
    """A scheduled job that cannot be kept. `job_id` is its name, `key` the part of it that is refused, `reason` why."""

    def __init__(self, job_id: str, key: str, reason: str) -> None:
        super().__init__(f"job {job_id!r}: {key}: {reason}")
        self.job_id = job_id
        self.key = key
        self.reason = reason


class StoreError(NanochatError):
    """A session file could not be read or written.

    `key` is the session's key as text, `path` the file's place.
    """

    def __init__(self, message: str, *, key: str = "", path: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.path = path


class NotWritten(StoreError):
    """Nothing of the append is in the file; the caller may try again."""


class DurabilityUnknown(StoreError):
    """The device failed after the write: the lines may or may not survive; never retried blindly."""


class NewerFormat(StoreError):
    """The file says a format version above ours: it is read, and never appended to."""


class UnknownSession(StoreError):
    """No session of this key was ever written, or it was put away. `hint` says where else to look, where that is known."""

    def __init__(self, key: str, *, hint: str = "") -> None:
        hinted = hint + (" " if hint.endswith("?") else "; ") if hint else ""
        super().__init__(f"there is no session {key}; {hinted}nanochat sessions lists them", key=key)


class WrongFile(StoreError):
    """The path holds another session's file, a link, a directory or a device."""


class LeaseHeld(StoreError):
    """Another process (`holder`, in words) is in a turn of this session."""

    def __init__(self, message: str, *, key: str = "", path: str = "", holder: str = "") -> None:
        super().__init__(message, key=key, path=path)
        self.holder = holder


class SearchError(NanochatError):
    """The words are no query, or the index could not be used; it is derived, and can be deleted."""


class LedgerError(NanochatError):
    """The ledger could not be opened, read or written; what `is_damaged` is not mended by waiting."""

    def __init__(self, message: str, *, is_damaged: bool = False) -> None:
        super().__init__(message)
        self.is_damaged = is_damaged


class ModelError(NanochatError):
    """A request to the model failed.

    `kind` is one of: key, money, permission, not_found, too_large, bad_request, rate, overloaded, server, network,
    timeout, cut, protocol. `retryable`: the same request may succeed later. `partial` is the text that had come,
    `request_id` the provider's name for the request (both may be empty), `retry_after_s` what the provider asked for.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        retryable: bool,
        partial: str = "",
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable
        self.partial = partial
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class ToolError(NanochatError):
    """A tool refused or failed; the model is shown the message as an error result."""


class ChannelError(NanochatError):
    """A channel could not bring a text to a person, or could not go on.

    `retryable`: the same may work later, and not before `retry_after_s` where the other side named a time.
    """

    def __init__(self, message: str, *, retryable: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class CommandError(NanochatError):
    """A chat command is unknown, is not allowed to this person, or has arguments it cannot take."""

    def __init__(self, message: str, *, nearest: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.nearest = tuple(nearest)


class Busy(NanochatError):
    """The session has as many waiting messages as it may have."""


class LimitReached(NanochatError):
    """A limit of `[limits]` forbids the turn; `setting` names it."""

    def __init__(self, message: str, *, setting: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.setting = setting
        self.retry_after_s = retry_after_s
