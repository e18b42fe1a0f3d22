"""The daemon's log: structured lines on standard error, for a person or for a machine.

One formatter renders our lines and the libraries', with the session and the source that they belong to, so that one redaction
covers all of them, tracebacks too. Knows how a line looks and what must not be in it. Does not know what is worth a line.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import structlog

from nanochat.current import CURRENT
from nanochat.log import redact

__all__ = ["Journal", "Level", "written"]

Level = Literal["debug", "info", "warning", "error"]

_Fields = MutableMapping[str, Any]  # Any: a log line's fields are whatever the one who wrote it says


class Journal:
    """A log that is being written."""

    def __init__(self, root: logging.Logger, ours: logging.Logger) -> None:
        self._root = root
        self._ours = ours

    def set_level(self, level: Level) -> None:
        """Write lines of this importance and above; of the libraries' only what went wrong, since theirs hold what people say."""
        ours = logging.getLevelNamesMapping()[level.upper()]
        self._ours.setLevel(ours)
        self._root.setLevel(max(ours, logging.WARNING))


@contextmanager
def written(
    *, level: Level, form: Literal["console", "json"], content: bool, secrets: Sequence[str]
) -> Iterator[Journal]:
    """For a while, write the log to standard error. Without `content`, what people say stays out of it."""
    root, ours = logging.getLogger(), logging.getLogger("nanochat")
    before = root.level, ours.level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting(form, content, secrets))
    root.addHandler(handler)
    journal = Journal(root, ours)
    journal.set_level(level)
    try:
        yield journal
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        ours.setLevel(before[1])


class _Redacting(structlog.stdlib.ProcessorFormatter):
    """Renders, then redacts: whatever a value was made of, it is text at the end."""

    def __init__(self, form: Literal["console", "json"], content: bool, secrets: Sequence[str]) -> None:
        self._secrets = tuple(secrets)
        structlog_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        before: list[structlog.types.Processor] = [
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ExtraAdder(),
            _whose,
            *([] if content else [_without_content]),
        ]
        last: list[structlog.types.Processor] = (
            # Tracebacks stay plain: the pretty ones show the values of variables, secrets among them.
            [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
            if form == "json"
            else [
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
                )
            ]
        )
        super().__init__(foreign_pre_chain=before, processors=[structlog_meta, *last])

    def format(self, record: logging.LogRecord) -> str:
        """One line, or one and its traceback."""
        return redact(super().format(record), self._secrets)


def _whose(_logger: object, _method: str, fields: _Fields) -> _Fields:
    work = CURRENT.get()
    if work is not None:
        fields.setdefault("key", str(work.key))
        fields.setdefault("source", work.source_id)
    return fields


def _without_content(_logger: object, _method: str, fields: _Fields) -> _Fields:
    fields.pop("text", None)
    return fields
