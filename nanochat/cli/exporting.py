"""`nanochat sessions export`: a conversation as a file of its own.

Knows the forms, and that no file is overwritten. Does not know what stands in them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from nanochat import transcript
from nanochat.catalog import Catalog
from nanochat.channels.terminal.words import clean
from nanochat.cli.shelf import opened
from nanochat.cli.showing import tell_damage
from nanochat.config import Config
from nanochat.errors import NanochatError, SettingError
from nanochat.keys import SessionKey
from nanochat.nanobot import to_nanobot
from nanochat.records import Record

__all__ = ["export"]


async def export(config: Config, key: SessionKey, form: str, to: Path | None) -> int:
    """Write a conversation since its last reset to a new file, or to standard output; changes nothing else."""
    if to is not None:
        _expect_free(to)
    async with opened(config) as catalog:
        told = await catalog.whole(key)
        text = await _text(config, catalog, key, form, told.records)
        if to is not None:
            _write_new(to, _encoded(text))
        elif sys.stdout.isatty():
            print(clean(text), end="")
        else:
            # UTF-8 whatever the locale says: it is a file, only that the shell opens it.
            sys.stdout.flush()
            sys.stdout.buffer.write(_encoded(text))
            sys.stdout.buffer.flush()
        if told.is_damaged:
            await tell_damage(catalog, key)
    return 0


async def _text(config: Config, catalog: Catalog, key: SessionKey, form: str, records: Sequence[Record]) -> str:
    match form:
        case "json":
            return transcript.to_json(await catalog.with_bytes(records))
        case "nanobot":
            return to_nanobot(key, (await catalog.brief(key)).state, await catalog.with_bytes(records))
        case _:
            return transcript.to_markdown(key, records, ZoneInfo(config.timezone))


def _encoded(text: str) -> bytes:
    """Half a character has no UTF-8; its escape is what JSON calls it, and in Markdown at least seen."""
    return text.encode("utf-8", "backslashreplace")


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that was not there, durably; of one that could not be written to its end nothing is left.

    Raises:
        SettingError: there is one by now.
        NanochatError: it could not be written.
    """
    try:
        file = path.open("xb")
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise NanochatError(f"{path}: {(error.strerror or str(error)).lower()}; nothing was exported") from error
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise NanochatError(f"{path}: {(error.strerror or str(error)).lower()}; nothing was exported") from error


def _expect_free(path: Path) -> None:
    if os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> SettingError:
    return SettingError(f"{path} exists already; name another file")
