"""The house stands: imports point down, the pure rooms are pure, and what is rare by design stays rare.

Every test reads the source as it is, and imports nothing. A new room has to be given its floor in `ROOMS`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "nanochat"

# From the ground up. A room may import those before it, never those behind it.
GROUND = ("errors", "keys", "records", "lines", "events", "ports", "doors", "current")
PURE = ("pricing", "jobs", "history", "transcript", "nanobot", "usage")
WORLD = ("process", "ledger", "store", "search", "model", "tools")
TURN = ("sessions", "turn", "catalog", "inbox")
CHANNELS = ("channels",)
ENTRY = ("config", "log", "journal")
ROOF = ("daemon", "cli", "__main__")
ROOMS = (*GROUND, *PURE, *WORLD, *TURN, *CHANNELS, *ENTRY, *ROOF)

# The rooms with an order of their own, from the ground up as well.
INNER = {
    "turn": (
        "limits",
        "attachments",
        "tally",
        "condense",
        "toolbox",
        "agent",
        "commands",
        "lineup",
        "assistant",
        "gathering",
        "runs",
    ),
    "inbox": ("dispatcher", "heard", "deliveries", "answering", "worker", "live"),
}

# Slow to import, or a world of their own: only these places know that they exist.
HOMES = {
    "anthropic": ("model/",),
    "httpx": ("channels/telegram/", "cli/checks/"),
    "httpx2": ("model/",),
    "telegram": ("channels/telegram/",),
    "apscheduler": ("channels/cron",),
    "cronsim": ("jobs/",),
    "fastapi": ("channels/http/",),
    "starlette": ("channels/http/",),
    "uvicorn": ("channels/http/",),
    "rich": ("channels/terminal/", "cli/"),
    "prompt_toolkit": ("channels/terminal/", "cli/"),
    "markdown_it": ("channels/",),
    "click": ("cli/", "__main__.py"),
    "msgspec": ("config/", "search/", "store/ends.py", "store/listing.py"),
    "plotext": ("cli/",),
    "pydantic": ("channels/http/",),
    "sqlite3": ("ledger", "store/", "search/"),
    "structlog": ("journal",),
}

# Start-up time: the package's public names, and each command's rooms, are loaded when they are asked for; and `__main__` loads
# what tells of an error only where there is one.
LATE_IMPORTS = ("__init__.py", "__main__.py", "cli/")

# What a room without clock, file and network has no use for.
IMPURE = frozenset(
    (
        "aiofiles",
        "asyncio",
        "concurrent",
        "fcntl",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
    )
) | frozenset(
    (
        "select",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
    )
)
CLOCKS = frozenset(("now", "utcnow", "today"))

# Names that are looked up by text: the public names of the package, which come when they are asked for.
BY_NAME = ("__init__.py",)


@dataclass(frozen=True)
class Source:
    """One file of the package, parsed. `name` is its path inside the package, `room` the room that it belongs to."""

    name: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.split("/")[0].removesuffix(".py")

    @property
    def wing(self) -> str:
        """The room, told apart by channel where it is one."""
        parts = self.name.removesuffix(".py").split("/")
        return "/".join(parts[:2]) if parts[0] == "channels" else parts[0]

    def imports(self) -> Iterator[tuple[ast.stmt, str]]:
        """Every import, and the module that it names."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                # `from nanochat import history` names a room, not a value.
                yield from (
                    (node, f"{module}.{alias.name}")
                    for alias in node.names
                    if module in ("nanochat", "nanochat.channels")
                )
                if module not in ("nanochat", "nanochat.channels"):
                    yield node, module

    def inner(self) -> Iterator[tuple[ast.stmt, str]]:
        """The imports of our own rooms, without the package's name: `channels.telegram.sender`."""
        for node, module in self.imports():
            if module.startswith("nanochat."):
                yield node, module.removeprefix("nanochat.")


def sources() -> list[Source]:
    return [
        Source(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


SOURCES = sources()
ROOMED = [source for source in SOURCES if source.name != "__init__.py"]
every_source = pytest.mark.parametrize("source", SOURCES, ids=[source.name for source in SOURCES])
every_room = pytest.mark.parametrize("source", ROOMED, ids=[source.name for source in ROOMED])
every_pure_one = pytest.mark.parametrize(
    "source", [s for s in ROOMED if s.room in GROUND + PURE], ids=[s.name for s in ROOMED if s.room in GROUND + PURE]
)


@every_room
def test_every_room_has_a_floor(source: Source) -> None:
    """A file belongs to a room that `ROOMS` knows."""
    assert source.room in ROOMS


@every_room
def test_imports_point_down(source: Source) -> None:
    """A room knows those under it, and itself."""
    here = ROOMS.index(source.room)
    upward = [
        f"line {node.lineno}: {module}"
        for node, module in source.inner()
        if (room := module.split(".")[0]) != source.room and (room not in ROOMS or ROOMS.index(room) >= here)
    ]
    assert upward == []


@pytest.mark.parametrize("room", INNER)
def test_inner_imports_point_down(room: str) -> None:
    """In the rooms where a message takes its way, each file knows those before it only, and each has its place."""
    order = INNER[room]
    upward = []
    for source in (source for source in ROOMED if source.room == room and not source.name.endswith("__init__.py")):
        here = order.index(source.name.removeprefix(f"{room}/").removesuffix(".py"))
        named = {module.split(".")[1] for _, module in source.inner() if module.startswith(f"{room}.")}
        upward += [f"{source.name}: {other}" for other in named if order.index(other) >= here]
    assert upward == []


@every_room
def test_channels_know_the_ground_and_the_pure_rooms_only(source: Source) -> None:
    """No channel knows that a model, a file, a database or another channel exists."""
    if source.room != "channels":
        return
    strangers = [
        f"line {node.lineno}: {module}"
        for node, module in source.inner()
        if module.split(".")[0] not in GROUND + PURE and "/".join(module.split(".")[:2]) != source.wing
    ]
    assert strangers == []


@every_room
def test_settings_are_known_to_the_roof_only(source: Source) -> None:
    """Parts receive plain values; neither the settings nor the log's set-up reach below."""
    if source.room in ENTRY + ROOF:
        return
    assert [module for _, module in source.inner() if module.split(".")[0] in ENTRY] == []


@every_source
def test_imports_are_absolute_and_at_the_top(source: Source) -> None:
    """What a file needs is seen at its top; the slow rooms are loaded late in the named places only."""
    relative = [node.lineno for node in ast.walk(source.tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert relative == []
    if source.name.startswith(LATE_IMPORTS):
        return
    at_top = {inner for top in source.tree.body for inner in _at_top(top)}
    assert [f"line {node.lineno}: {module}" for node, module in source.imports() if node not in at_top] == []


def _at_top(node: ast.stmt) -> list[ast.stmt]:
    """The statement, or where it only guards imports for the type checker, those."""
    is_for_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return list(node.body) if is_for_types and isinstance(node, ast.If) else [node]


@every_source
def test_libraries_stay_in_their_rooms(source: Source) -> None:
    """A library with a world of its own is known in one place, so that it can be exchanged, and is not loaded elsewhere."""
    for node, module in source.imports():
        homes = HOMES.get(module.split(".")[0])
        assert homes is None or source.name.startswith(homes), f"line {node.lineno}: {module} belongs to {homes}"


@every_pure_one
def test_pure_rooms_touch_nothing(source: Source) -> None:
    """Ground and pure rooms have neither clock, chance, file nor network: `now` is passed in."""
    assert sorted({module for _, module in source.imports() if module.split(".")[0] in IMPURE}) == []
    calls = [node.func for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    read = [call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in CLOCKS]
    opened = [call.id for call in calls if isinstance(call, ast.Name) and call.id in ("open", "input", "print")]
    assert read + opened == []


def test_there_is_one_broad_except() -> None:
    """One place takes whatever went wrong in a turn, logs it and says so; what cleans up and raises again takes nothing."""
    broad = [
        source.name
        for source in SOURCES
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _raises_again(node)
    ]
    assert broad == ["turn/assistant.py"]


def _is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(_is_broad(one) for one in caught.elts)
    return caught is None or (isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException"))


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


@every_source
def test_the_public_surface_is_named(source: Source) -> None:
    """A file with public names lists them in `__all__`, and every name in the list is there."""
    names = {name for node in source.tree.body for name in _bound(node)}
    public = {name for node in source.tree.body if _is_definition(node) for name in _bound(node) if name[0] != "_"}
    listed = _all_of(source.tree)
    if listed is None:
        # A package's front that holds nothing, and what is run and never imported, have no surface.
        assert source.name.endswith(("__init__.py", "__main__.py")) or not public, "has no __all__"
        return
    assert len(set(listed)) == len(listed)
    # The package's own front loads its names when they are asked for; `TYPE_CHECKING` shows where they come from.
    assert [name for name in listed if name not in names] == []


def _is_definition(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign)


def _bound(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name.split(".")[0] for alias in names)
        case ast.If(body=body, orelse=orelse):
            for inner in (*body, *orelse):
                yield from _bound(inner)
        case _:
            return


def _all_of(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and "__all__" in _bound(node):
            value: object = ast.literal_eval(node.value)
            return [str(name) for name in value] if isinstance(value, list | tuple) else []
    return None


@every_source
def test_nothing_is_looked_up_by_its_name(source: Source) -> None:
    """`getattr` and its kin hide from the reader, and from mypy, what is there."""
    if source.name in BY_NAME:
        return
    looked_up = [
        f"line {node.lineno}: {node.func.id}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr", "setattr")
    ]
    assert looked_up == []


@every_source
def test_modules_hold_no_state(source: Source) -> None:
    """What is bound at the top of a file is a constant: in capitals, and never bound again."""
    assert [node.lineno for node in ast.walk(source.tree) if isinstance(node, ast.Global)] == []
    mutable = [
        name
        for node in source.tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and _is_mutable(node.value)
        for name in _bound(node)
        if name != "__all__" and name != name.upper()
    ]
    assert mutable == []


def _is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in ("list", "dict", "set", "defaultdict", "deque", "OrderedDict", "Counter", "bytearray")
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)
