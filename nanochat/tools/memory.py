"""The memory tool: small text files that the assistant keeps across conversations, under `data/memory/`.

The commands and their wording follow the Messages API's client-side memory tool (`memory_20250818`), which models are trained
on: platform.claude.com/docs, "Memory tool", read 2026-10. Knows one directory. Does not know sessions.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from nanochat.errors import ToolError
from nanochat.ports import ToolContext
from nanochat.records import Block, Json

__all__ = ["API_SPEC", "PLAIN_SPEC", "MemoryTool"]

# A file is read whole into the conversation; the whole store should stay small enough to be looked through by a person.
MAX_FILE_BYTES = 64 * 1024
MAX_FILES = 200

API_SPEC: Block = {"type": "memory_20250818", "name": "memory"}
"""For Anthropic's own API, where the model knows the tool by its type."""

PLAIN_SPEC: Block = {
    "name": "memory",
    "description": (
        "Keep notes across conversations, as text files under /memories. Look there (command view, path /memories)"
        " before you answer what an earlier conversation may have told. Commands: view (path), create (path, file_text),"
        " str_replace (path, old_str, new_str), insert (path, insert_line, insert_text), delete (path),"
        " rename (old_path, new_path)."
    ),
    "input_schema": {
        "type": "object",
        "properties": {
            "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
            "path": {"type": "string"},
            "file_text": {"type": "string"},
            "old_str": {"type": "string"},
            "new_str": {"type": "string"},
            "insert_line": {"type": "integer"},
            "insert_text": {"type": "string"},
            "old_path": {"type": "string"},
            "new_path": {"type": "string"},
        },
        "required": ["command"],
    },
}
"""For compatible endpoints, which know only tools with a schema."""


class MemoryTool:
    """Carries out the model's memory commands; the owner's only, since notes know no other person."""

    name = "memory"

    def __init__(self, directory: Path, spec: Block) -> None:
        self._directory = directory
        self.spec = spec
        self._commands: Mapping[str, Callable[[Mapping[str, Json]], str]] = {
            "view": self._view,
            "create": self._create,
            "str_replace": self._replace,
            "insert": self._insert,
            "delete": self._delete,
            "rename": self._rename,
        }
        self._one_at_a_time = asyncio.Lock()

    def title(self, args: Mapping[str, Json]) -> str:
        """`memory: view /memories`."""
        return f"memory: {args.get('command', '')} {args.get('path', args.get('old_path', ''))}".rstrip()

    async def run(self, args: Mapping[str, Json], context: ToolContext) -> str:
        """See `ports.Tool`."""
        if not context.sender.owner:
            raise ToolError("the memory is the owner's; it is not open to guests")
        command = self._commands.get(str(args.get("command")))
        if command is None:
            raise ToolError(f"unknown command {args.get('command')!r}; it takes {', '.join(self._commands)}")
        async with self._one_at_a_time:
            try:
                return await asyncio.to_thread(command, args)
            except OSError as error:
                raise ToolError(f"the memory cannot be reached: {error.strerror}") from error
            except UnicodeError as error:
                raise ToolError("this is not UTF-8 text") from error

    def _view(self, args: Mapping[str, Json]) -> str:
        path = self._path(args, "path")
        if path.is_dir() or path == self._directory:
            found = sorted(self._directory.rglob("*")) if self._directory.is_dir() else []
            inside = [file for file in found if file.is_relative_to(path) and not file.name.startswith(".")]
            lines = [f"{_size(file)}\t{self._name(file)}" for file in [path, *inside]]
            return "Files and folders under " + self._name(path) + ":\n" + "\n".join(lines)
        lines = self._read(path).split("\n")
        first, last = 1, len(lines)
        match args.get("view_range"):
            case [int(start), int(end)]:
                first, last = max(1, start), len(lines) if end == -1 else min(end, len(lines))
        numbered = [f"{number:6}\t{lines[number - 1]}" for number in range(first, last + 1)]
        return f"The content of {self._name(path)} with line numbers:\n" + "\n".join(numbered)

    def _create(self, args: Mapping[str, Json]) -> str:
        path = self._path(args, "path")
        if path.is_dir():
            raise ToolError(f"{self._name(path)} is a folder")
        if path.exists():
            raise ToolError(f"{self._name(path)} already exists; change it with str_replace or insert")
        if sum(1 for file in self._directory.rglob("*") if file.is_file()) >= MAX_FILES:
            raise ToolError(f"the memory holds {MAX_FILES} files already; delete some first")
        self._write(path, _string(args, "file_text"))
        return f"File created: {self._name(path)}"

    def _replace(self, args: Mapping[str, Json]) -> str:
        path = self._path(args, "path")
        text, old = self._read(path), _string(args, "old_str")
        if not old or text.count(old) != 1:
            raise ToolError(
                f"old_str stands {text.count(old) if old else 0} times in {self._name(path)}; it must stand once"
            )
        self._write(path, text.replace(old, _string(args, "new_str", default="")))
        return f"{self._name(path)} has been edited"

    def _insert(self, args: Mapping[str, Json]) -> str:
        path = self._path(args, "path")
        lines, at = self._read(path).split("\n"), args.get("insert_line")
        if not isinstance(at, int) or not 0 <= at <= len(lines):
            raise ToolError(f"insert_line must be a number from 0 to {len(lines)}")
        lines[at:at] = _string(args, "insert_text").rstrip("\n").split("\n")
        self._write(path, "\n".join(lines))
        return f"{self._name(path)} has been edited"

    def _delete(self, args: Mapping[str, Json]) -> str:
        path = self._path(args, "path")
        if path == self._directory:
            raise ToolError("/memories itself cannot be deleted")
        if path.is_dir():
            for file in sorted(path.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            path.rmdir()
        else:
            self._read(path)
            path.unlink()
        return f"deleted {self._name(path)}"

    def _rename(self, args: Mapping[str, Json]) -> str:
        old, new = self._path(args, "old_path"), self._path(args, "new_path")
        if not old.exists():
            raise ToolError(f"{self._name(old)} does not exist")
        if new.exists():
            raise ToolError(f"{self._name(new)} already exists")
        new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        old.rename(new)
        return f"renamed {self._name(old)} to {self._name(new)}"

    def _path(self, args: Mapping[str, Json], field: str) -> Path:
        """The file that a path under /memories names; nothing outside, through whatever dots or links."""
        given = PurePosixPath(_string(args, field))
        if (
            given.parts[:2] != ("/", "memories")
            or ".." in given.parts
            or any(p.startswith(".") for p in given.parts[2:])
        ):
            raise ToolError(f"{given} is not a path under /memories")
        path = self._directory.joinpath(*given.parts[2:])
        if not path.resolve().is_relative_to(self._directory.resolve()):
            raise ToolError(f"{given} leads out of /memories")
        return path

    def _name(self, path: Path) -> str:
        return "/".join(["/memories", *path.relative_to(self._directory).parts])

    def _read(self, path: Path) -> str:
        if not path.is_file():
            raise ToolError(f"{self._name(path)} does not exist")
        return path.read_text("utf-8")

    def _write(self, path: Path, text: str) -> None:
        """Replace a file at once: a crash leaves the old text or the new."""
        encoded = text.encode()
        if len(encoded) > MAX_FILE_BYTES:
            raise ToolError(f"{len(encoded):,} bytes are more than a memory file takes ({MAX_FILE_BYTES:,})")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(encoded)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _string(args: Mapping[str, Json], name: str, default: str | None = None) -> str:
    value = args.get(name, default)
    if not isinstance(value, str):
        raise ToolError(f"{name} is missing")
    return value


def _size(path: Path) -> str:
    size = path.stat().st_size if path.exists() else 0
    return f"{size / 1024:.1f}K"
