"""Was every message answered once, in order? Judged by what its sender sees, what the ledger claims and what the sessions hold.

Message i of chat c is `say c<c>m<i>`; its answer are the words `c<c>m<i>.0 c<c>m<i>.1 …`, so that a word that is missing, doubled
or out of place shows by its name. Knows files and chats. Does not know who was killed.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanochat.inbox.dispatcher import MAX_ATTEMPTS
from nanochat.records import text_of
from tests.fakes.bot_api import Chat
from tests.fakes.bot_world import Message

__all__ = ["GIVEN_UP", "Findings", "answer_to", "judge", "settled", "tags_in"]

GIVEN_UP = "it is given up"

# How a line of nanochat's own begins, while nothing was said yet.
NOTICE = "⏳"
REPEATED = "↻ "
_TAG = re.compile(r"c\d+m\d+")
_LONG = 700


@dataclass
class Findings:
    """What was found; `faults` is empty if every promise was kept.

    `repeats` are messages with the mark of the one instant that cannot be known; at `doubled` of them their reader sees what
    stood there before as well. `given_up` were cut short three times.
    """

    messages: int = 0
    answered: int = 0
    repeats: int = 0
    doubled: int = 0
    given_up: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Row:
    source_id: str
    outcome: str | None
    note: str
    attempts: int
    message_ids: tuple[int, ...]


def answer_to(tag: str) -> str:
    """What the model says to a message: mostly short, now and then too long for one message, in paragraphs of a few lines."""
    chat, _, number = tag[1:].partition("m")
    seed = 5 * int(chat) + int(number)
    count = _LONG if seed % 9 == 4 else 12 + 13 * seed % 40
    words = [f"{tag}.{k}" for k in range(count)]
    return "\n\n".join(" ".join(words[k : k + 40]) for k in range(0, count, 40))


def tags_in(text: str) -> list[str]:
    """The messages that a text names, in order."""
    return _TAG.findall(text)


def settled(chat: Chat, tag: str, after: int) -> bool:
    """Whether a person would say that message `after` has had its answer: its last word stands, or that none will come."""
    last = answer_to(tag).split()[-1]
    for message in reversed(chat.messages):
        if message.id < after:
            return False
        if message.text.endswith(last) or GIVEN_UP in message.text:
            return True
    return False


def judge(directory: Path, chats: Sequence[Chat], said: Mapping[int, Sequence[str]]) -> Findings:
    """Look at everything; `said` holds the tags of each chat by its id, in order."""
    found = Findings(messages=sum(map(len, said.values())))
    rows = _rows(directory / "ledger.db")
    for chat in chats:
        mine = rows.get(f"telegram:{chat.id}", [])
        if len(mine) != len(said[chat.id]):
            found.faults.append(f"{chat.id}: {len(said[chat.id])} messages, {len(mine)} rows in the inbox")
            continue
        lost = {tag for tag, row in zip(said[chat.id], mine, strict=True) if GIVEN_UP in row.note}
        _judge_chat(chat, said[chat.id], mine, found)
        _judge_session(directory / "sessions" / f"telegram+{chat.id}.jsonl", said[chat.id], lost, found)
    return found


def _judge_chat(chat: Chat, tags: Sequence[str], rows: Sequence[_Row], found: Findings) -> None:
    by_id = {message.id: message for message in chat.messages}
    finals: dict[int, str] = {}
    for tag, row in zip(tags, rows, strict=True):
        there = [by_id[number] for number in row.message_ids if number in by_id]
        where = f"{chat.id} {tag} ({row.outcome}: {row.note})"
        if len(there) != len(row.message_ids) or not there:
            found.faults.append(f"{where}: the evidence {row.message_ids} does not stand in the chat")
        if finals and there and there[0].id < max(finals):
            found.faults.append(f"{where}: answered out of order")
        words = " ".join(message.text.removeprefix(REPEATED) for message in there)
        if row.outcome == "delivered" and words.split() == answer_to(tag).split():
            found.answered += 1
        elif row.outcome == "failed" and GIVEN_UP in words and row.attempts > MAX_ATTEMPTS:
            found.given_up += 1
        else:
            found.faults.append(f"{where}, {row.attempts} attempts: it reads {words[:80]!r}")
        if any(message.buttons for message in there):
            found.faults.append(f"{where}: the Stop button still stands")
        found.repeats += sum(message.text.startswith(REPEATED) for message in there)
        finals |= {message.id: tag for message in there}
    _judge_remainders(chat, by_id, finals, found)


def _judge_remainders(chat: Chat, by_id: Mapping[int, Message], finals: Mapping[int, str], found: Findings) -> None:
    """Whatever stands beside the answers must have a marked message behind it that repeats it."""
    for message in by_id.values():
        if message.id in finals:
            continue
        tags = tags_in(message.text)
        repeats = [
            by_id[number]
            for number, tag in finals.items()
            if number > message.id and by_id[number].text.startswith(REPEATED) and (not tags or tag == tags[0])
        ]
        begins = message.text.removeprefix(REPEATED).split()[:1]
        is_repeated = any(r.text.removeprefix(REPEATED).split()[:1] == begins or GIVEN_UP in r.text for r in repeats)
        # A notice ("the model is overloaded") that arrived unknown to us is repeated, and its repeat then grows into the answer.
        behind = min((number for number in finals if number > message.id), default=None)
        is_notice = message.text.removeprefix(REPEATED).startswith(NOTICE)
        is_repeated |= is_notice and behind is not None and by_id[behind].text.startswith(REPEATED)
        if is_repeated:
            found.doubled += 1
        else:
            found.faults.append(f"{chat.id}: a message that nothing accounts for: #{message.id} {message.text[:60]!r}")


def _judge_session(path: Path, tags: Sequence[str], lost: set[str], found: Findings) -> None:
    records: list[dict[str, Any]] = []  # Any: a line as it stands in the file
    for line in path.read_bytes().split(b"\n"):
        if line.strip():
            try:
                records.append(json.loads(line))
            except ValueError:
                found.faults.append(f"{path.name}: an unreadable line: {line[:60]!r}")
    lines = [r for r in records if "role" in r]
    asked = [tag for r in lines if r["role"] == "user" for tag in tags_in(text_of(r["content"]))]
    # Whose process died three times before the line was written has none.
    if asked != [tag for tag in tags if tag not in lost or tag in asked]:
        found.faults.append(f"{path.name}: user lines are not each once and in order: {asked}")
    answers = Counter(text_of(r["content"]) for r in lines if r["role"] == "assistant")
    for tag in tags:
        count = answers[answer_to(tag)]
        if count != 1 and not (tag in lost and count == 0):
            found.faults.append(f"{path.name}: {count} answers to {tag}")
    ends = Counter(r["source_id"] for r in records if r.get("op") == "turn")
    found.faults += [f"{path.name}: turn {source} ended {count} times" for source, count in ends.items() if count != 1]
    if len(ends) != len(asked):
        found.faults.append(f"{path.name}: {len(asked)} messages, {len(ends)} turns")
    ordinals = [r["_n"] for r in lines]
    if ordinals != sorted(set(ordinals)):
        found.faults.append(f"{path.name}: ordinals are not unique and rising")


def _rows(path: Path) -> dict[str, list[_Row]]:
    """The inbox as it was left, in order, by session."""
    found: dict[str, list[_Row]] = {}
    with closing(sqlite3.connect(path)) as ledger:
        for key, source_id, outcome, note, attempts, ids in ledger.execute(
            "SELECT key, source_id, outcome, note, attempts, message_ids FROM inbox ORDER BY seq"
        ):
            numbers = tuple(int(number) for number in json.loads(ids or "[]"))
            found.setdefault(key, []).append(_Row(source_id, outcome, note, attempts, numbers))
    return found
