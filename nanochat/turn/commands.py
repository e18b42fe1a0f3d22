"""Chat commands: what a message that begins with `/` asks of nanochat itself.

The same in every channel that can show text. Answers are Markdown. Knows sessions and what may be set in them. Does not know
queues: whoever calls `run` for a command that writes holds the session's lease.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import re
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from nanochat import pricing, transcript
from nanochat.errors import CommandError
from nanochat.events import Inbound
from nanochat.history import compaction
from nanochat.history.sizes import measure
from nanochat.keys import SessionKey
from nanochat.records import Compact, Event, Message, Reset, SetValue, Snapshot, TurnEnd, text_of
from nanochat.sessions import Session, SessionManager
from nanochat.turn.agent import AgentSettings
from nanochat.turn.condense import Condenser

__all__ = ["COMMANDS", "Call", "Command", "Commands"]

# Each pin costs about 20 bytes in every later snapshot and its text in every request; a dozen reminders are plenty.
MAX_PINS = 12
MAX_PIN_CHARS = 4000

# One append, held in memory a few times over; a conversation of years has less text.
MAX_LOAD_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Command:
    """One command: how it is written, what it does, and how it goes.

    `writes` runs in the session's queue, under its lease; `stops` ends the running turn first; `owner` and `terminal` say who
    and where; `channel` commands are carried out by the channel itself and only listed here.
    """

    name: str
    usage: str
    summary: str
    writes: bool = False
    stops: bool = False
    owner: bool = False
    terminal: bool = False
    channel: bool = False


COMMANDS: tuple[Command, ...] = (
    Command("help", "/help", "this list"),
    Command(
        "new", "/new", "begin a new conversation; the old one stays in the file (also /reset)", writes=True, stops=True
    ),
    Command("undo", "/undo [n]", "take back the last exchange, or the last n, or a /new", writes=True, stops=True),
    Command("stop", "/stop", "stop the running reply; what was said is kept"),
    Command("retry", "/retry", "ask the last question again", writes=True, stops=True),
    Command("history", "/history [n]", "the last n exchanges (5)"),
    Command("print", "/print", "the whole conversation"),
    Command("usage", "/usage", "tokens and money of this session"),
    Command("context", "/context", "what the model is sent"),
    Command("compact", "/compact", "replace the older part by a summary now", writes=True),
    Command(
        "pin",
        "/pin [text]",
        "keep a text, or the last reply, through every compaction; /pin -2 drops pin 2",
        writes=True,
    ),
    Command(
        "system", "/system [text]", "show or set the system text; /system default goes back", writes=True, owner=True
    ),
    Command("model", "/model [name]", "show or set the model; /model default goes back", writes=True, owner=True),
    Command("status", "/status", "session, model, context, cost"),
    Command("jobs", "/jobs", "the scheduled jobs"),
    Command("save", "/save FILE", "write the conversation to a file: .md, .json", terminal=True),
    Command(
        "load",
        "/load FILE",
        "begin a new conversation with the messages of a .json or .jsonl file",
        writes=True,
        terminal=True,
    ),
    Command("sessions", "/sessions", "all sessions, newest first", terminal=True),
    Command("switch", "/switch KEY", "go on in another session", terminal=True, channel=True),
    Command("exit", "/exit", "leave", terminal=True, channel=True),
)
_ALIASES: Mapping[str, str] = {"reset": "new", "start": "help", "quit": "exit"}
_BY_NAME: Mapping[str, Command] = {command.name: command for command in COMMANDS}

# A word of its own behind the slash, perhaps with the bot's name; `/etc/hosts` is a path, and text.
_FORM = re.compile(r"/([A-Za-z_]+)(?:@\w+)?(?:\s+(.*))?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Call:
    """A command as somebody typed it."""

    command: Command
    argument: str
    inbound: Inbound


_Work: TypeAlias = Callable[[Call, Session], Awaitable[str]]


class Commands:
    """Carries commands out. `jobs` lists the scheduled jobs in words, as the roof knows them, and `remarks` what is to be said of
    the channel that a session belongs to."""

    def __init__(
        self,
        manager: SessionManager,
        condenser: Condenser,
        settings: AgentSettings,
        *,
        jobs: Callable[[Inbound], Awaitable[Sequence[str]]],
        remarks: Callable[[SessionKey], Sequence[str]] = lambda _: (),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._manager = manager
        self._condenser = condenser
        self._settings = settings
        self._jobs = jobs
        self._remarks = remarks
        self._clock = clock
        self._work: Mapping[str, _Work] = {
            "help": self._help,
            "new": self._new,
            "undo": self._undo,
            "history": self._history,
            "print": self._print,
            "usage": self._usage,
            "context": self._context,
            "compact": self._compact,
            "pin": self._pin,
            "system": self._system,
            "model": self._model,
            "status": self._status,
            "jobs": self._list_jobs,
            "save": self._save,
            "load": self._load,
            "sessions": self._sessions,
        }

    def parse(self, inbound: Inbound) -> Call | None:
        """The command that a message is, or None for a message to the model.

        Raises:
            CommandError: unknown, with the nearest; or not for this person, or not for this channel.
        """
        form = _FORM.match(inbound.text.strip())
        if form is None:
            return None
        name = form[1].lower()
        command = _BY_NAME.get(_ALIASES.get(name, name))
        if command is None:
            nearest = difflib.get_close_matches(name, [*_BY_NAME, *_ALIASES], n=1, cutoff=0.5)
            meant = f"did you mean /{nearest[0]}?" if nearest else "/help lists them"
            raise CommandError(f"there is no command /{name}; {meant}", nearest=nearest)
        if command.terminal and not inbound.source_id.startswith("cli:"):
            raise CommandError(f"/{command.name} works in the terminal only")
        if command.channel:
            raise CommandError(f"/{command.name} works in an interactive terminal only")
        argument = (form[2] or "").strip()
        if command.owner and argument and not inbound.sender.owner:
            raise CommandError(
                f"/{command.name} can be changed by the owner only, in the terminal or in a private chat"
            )
        return Call(command, argument, inbound)

    def is_command(self, inbound: Inbound) -> bool:
        """Whether a message is for nanochat itself, rightly or wrongly typed."""
        return _FORM.match(inbound.text.strip()) is not None

    async def run(self, call: Call, session: Session) -> str:
        """Carry a command out and say what came of it, as Markdown.

        Raises:
            CommandError: its argument cannot be used.
            StoreError: a change could not be written.
        """
        return await self._work[call.command.name](call, session)

    # --- the conversation --------------------------------------------------------------------------------------------

    async def _help(self, call: Call, session: Session) -> str:
        terminal = call.inbound.source_id.startswith("cli:")
        shown = [command for command in COMMANDS if terminal or not command.terminal]
        return _table(["command", "what it does"], [[f"`{c.usage}`", c.summary] for c in shown])

    async def _new(self, call: Call, session: Session) -> str:
        await self._manager.append(session, Reset(), durable=True)
        return "a new conversation begins; /undo goes back to the old one"

    async def _undo(self, call: Call, session: Session) -> str:
        taken = []
        for _ in range(_count(call, default=1)):
            undone = await self._manager.undo(session)
            if undone is None:
                break
            taken.append("the /new" if undone.content is None else f"“{_short(text_of(undone.content))}”")
        if not taken:
            more = "; what was summarised stays" if _is_compacted(session) else ""
            return f"there is nothing to take back{more}"
        return f"took back {', '.join(taken)}"

    async def _history(self, call: Call, session: Session) -> str:
        shown = transcript.exchanges(session.key, session.records, _count(call, default=5))
        if not shown:
            return "nothing has been said yet"
        who = {"user": "You", "assistant": "nanochat", "delivered": "delivered"}
        return "\n\n".join(f"**{who.get(entry.kind, entry.kind)}:** {entry.text}" for entry in shown)

    async def _print(self, call: Call, session: Session) -> str:
        return transcript.to_markdown(session.key, await self._manager.whole(session), self._settings.timezone)

    async def _compact(self, call: Call, session: Session) -> str:
        return await self._condenser.compact(session)

    async def _pin(self, call: Call, session: Session) -> str:
        if re.fullmatch(r"-\d+", call.argument):
            number = int(call.argument[1:])
            if not 1 <= number <= len(session.pins):
                raise CommandError(f"there is no pin {number}; /context lists them")
            await self._manager.append(session, SetValue("unpin", str(number)), durable=True)
            return f"dropped pin {number}"
        text = call.argument or next(
            (said for m in reversed(session.messages) if m.role == "assistant" and (said := text_of(m.content))), ""
        )
        if not text:
            raise CommandError("there is no reply to pin yet; /pin TEXT pins a text of your own")
        if len(session.pins) >= MAX_PINS:
            raise CommandError(f"{MAX_PINS} pins are all it takes; /pin -1 drops the oldest")
        if len(text) > MAX_PIN_CHARS:
            raise CommandError(f"a pin is at most {MAX_PIN_CHARS} characters; this one has {len(text)}")
        await self._manager.append(session, SetValue("pin", text), durable=True)
        return f"pinned “{_short(text)}”"

    # --- settings of the session -------------------------------------------------------------------------------------

    async def _system(self, call: Call, session: Session) -> str:
        if not call.argument:
            own = session.system
            return f"{'own' if own else 'default'} system text:\n\n{own or self._settings.system_prompt}"
        value = "" if call.argument == "default" else call.argument
        await self._manager.append(session, SetValue("system", value), durable=True)
        return "the system text is set" if value else "the system text is the default again"

    async def _model(self, call: Call, session: Session) -> str:
        if not call.argument:
            current = session.state.model or self._settings.model
            known = ", ".join(pricing.known_models())
            return f"the model is `{current}`; known are {known}"
        value = "" if call.argument == "default" else call.argument
        if value and not re.fullmatch(r"[\w.:/@-]{1,100}", value):
            raise CommandError(f"{_short(value)!r} is no model's name")
        await self._manager.append(session, SetValue("model", value), durable=True)
        current = value or self._settings.model
        unknown = (
            "" if not value or pricing.window_tokens(current) else "; its price is not known, so no cost can be told"
        )
        return f"the model is now `{current}`{unknown}"

    # --- figures -----------------------------------------------------------------------------------------------------

    async def _usage(self, call: Call, session: Session) -> str:
        totals = session.state.totals
        usage = totals.usage
        written = usage.cache_write + usage.cache_write_1h
        rows = [
            ["turns", f"{totals.turns:,}"],
            ["input", f"{usage.input:,}"],
            ["read from cache", f"{usage.cache_read:,} ({_share(usage.cache_read, usage.prompt)} of what was read)"],
            ["written to cache", f"{written:,}"],
            ["output", f"{usage.output:,}"],
            ["cost", f"${totals.cost_usd:.4f}"],
        ]
        return _table(["this session, since it began", "tokens"], rows)

    async def _context(self, call: Call, session: Session) -> str:
        sizes = measure(session.records, session.pin_texts)
        system = session.system or self._settings.system_prompt
        rows = [
            ["conversation", f"about {sizes.total_tokens:,} tokens of {self._settings.budget_tokens:,}"],
            ["messages sent", f"{len(session.get_history()):,}"],
            ["in the file", f"{session.state.n:,} messages"],
            ["system text", f"{len(system):,} characters"],
            ["cache lives for", compaction.choose_ttl(session.records, self._clock())],
        ]
        rows += [[f"pin {number}", _short(text)] for number, (_, text) in enumerate(session.pins, 1)]
        if not session.complete:
            rows.append(["older messages", "are in the file, beyond the window"])
        return _table(["what the model is sent", ""], rows)

    async def _status(self, call: Call, session: Session) -> str:
        last = next(
            (r.event for r in reversed(session.records) if isinstance(r, Snapshot) and isinstance(r.event, TurnEnd)),
            None,
        )
        rows = [
            ["session", f"`{session.key}`"],
            ["model", f"`{session.state.model or self._settings.model}`"],
            ["turns", f"{session.state.totals.turns:,}"],
            ["cost", f"${session.state.totals.cost_usd:.4f}"],
            ["began", session.created_at.astimezone(self._settings.timezone).strftime("%Y-%m-%d %H:%M")],
        ]
        if last is not None:
            rows.append(["last turn", f"{last.outcome}, {last.seconds:.1f} s, {last.usage.output:,} tokens out"])
        rows += [["channel", remark] for remark in self._remarks(session.key)]
        return _table(["status", ""], rows)

    async def _list_jobs(self, call: Call, session: Session) -> str:
        jobs = await self._jobs(call.inbound)
        return "\n".join(f"- {job}" for job in jobs) or "there are no scheduled jobs"

    # --- the terminal's own ------------------------------------------------------------------------------------------

    async def _save(self, call: Call, session: Session) -> str:
        path = _path(call)
        records = await self._manager.whole(session)
        if path.suffix == ".json":
            text = transcript.to_json(records)
        else:
            text = transcript.to_markdown(session.key, records, self._settings.timezone)
        try:
            await asyncio.to_thread(_write_new, path, text)
        except FileExistsError as error:
            raise CommandError(f"{path} exists already; name another file") from error
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        return f"wrote {path}"

    async def _load(self, call: Call, session: Session) -> str:
        path = _path(call)
        try:
            text = (await asyncio.to_thread(_read_regular, path)).decode()
        except OSError as error:
            raise CommandError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        except UnicodeDecodeError as error:
            raise CommandError(f"{path} is not UTF-8 text, from byte {error.start} on") from error
        found = transcript.from_json(text)
        now = self._clock()
        lines: list[Message | Event] = [Message(role, said, now) for role, said in found]
        await self._manager.append(session, Reset("load"), *lines, durable=True)
        return f"a new conversation begins with {_counted(len(found), 'message')} of {path}; /undo goes back"

    async def _sessions(self, call: Call, session: Session) -> str:
        briefs = await self._manager.store.list()
        rows = [
            [
                f"`{b.key}`",
                b.modified_at.astimezone(self._settings.timezone).strftime("%Y-%m-%d %H:%M"),
                f"{b.state.n:,}",
                _short(b.preview),
            ]
            for b in briefs[:50]
        ]
        more = f"\n\n{len(briefs) - 50} more: nanochat sessions list" if len(briefs) > 50 else ""
        return _table(["session", "last change", "messages", "last line"], rows) + more


def _is_compacted(session: Session) -> bool:
    return any(isinstance(record, Snapshot) and isinstance(record.event, Compact) for record in session.records)


def _count(call: Call, *, default: int) -> int:
    if not call.argument:
        return default
    if not call.argument.isdecimal() or not 0 < int(call.argument) <= 1000:
        raise CommandError(f"/{call.command.name} takes a number from 1 to 1000, not {_short(call.argument)!r}")
    return int(call.argument)


def _path(call: Call) -> Path:
    if not call.argument:
        raise CommandError(f"{call.command.usage}: name a file")
    return Path(call.argument).expanduser()


def _write_new(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def _read_regular(path: Path) -> bytes:
    """The bytes of a file that is one: a pipe or a device may have no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CommandError(f"{path} is no regular file")
        if status.st_size > MAX_LOAD_BYTES:
            raise CommandError(
                f"{path} has {status.st_size / 1e6:.0f} MB; at most {MAX_LOAD_BYTES / 1e6:.0f} MB can be loaded"
            )
        return file.read()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def _short(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
