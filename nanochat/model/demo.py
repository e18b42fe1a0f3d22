"""What the offline model says: the same to the same request, always.

Knows a dozen turns of phrase, the conversation that it is given, and the tools that it is offered. Calls one tool at most for
each message of a person, and none after a tool's result. Does not know how replies are streamed or counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanochat.ports import ModelRequest
from nanochat.records import Block, Json, text_of

__all__ = ["Said", "answer"]

DEMO = "I am nanochat's offline demo model, not a real one: set ANTHROPIC_API_KEY to talk to Claude."

# The time that stands before a person's words, as in `[Fri 2026-11-20 15:04 CET]`.
_CLOCK = re.compile(r"\A\[([^\]\n]*)\]\n")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d")

_FACT = re.compile(r"\bmy ([\w' ]{1,40}?) (?:is|are|was) (?!it\b|there\b)([^.!?\n]{1,200})", re.IGNORECASE)
_NAMED = re.compile(r"\b(?:call me|i am called) ([^.!?,\n]{1,60})", re.IGNORECASE)
_ASKS_FACT = re.compile(r"\b(?:what|who|when|where)(?:'s| is| are| was) my ([\w' ]{1,40}?)\s*(?:\?|\Z)", re.IGNORECASE)
_ASKS_NAME = re.compile(r"\bwho am i\b|\b(?:know|remember|recall) my name\b|what am i called", re.IGNORECASE)
_ASKS_SAID = re.compile(r"\bwhat did i (?:just )?(?:say|tell you|write|ask)(?: about ([^?.!\n]+))?", re.IGNORECASE)
_ASKS_COUNT = re.compile(r"\bhow many messages\b", re.IGNORECASE)

_REMEMBER = re.compile(r"\A(?:please )?(?:remember|note)(?: that)?:? (.+)", re.IGNORECASE | re.DOTALL)
_SEARCH = re.compile(
    r"\A(?:please )?(?:search|look)(?: (?:in|through))?(?: (?:my|the|all|our) (?:sessions|chats|conversations|history))?"
    r"(?: (?:for|about))? (.+)",
    re.IGNORECASE | re.DOTALL,
)
_REMIND = re.compile(r"\A(?:please )?remind me (.+)", re.IGNORECASE | re.DOTALL)
_SUMMARY = re.compile(r"\bsummar(?:y|i[sz]e)\b", re.IGNORECASE)
_TASK = re.compile(r"\A(?:to |that |about |of |: ?|, ?)+", re.IGNORECASE)

_UNITS = {"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "day": "d", "s": "s", "m": "m", "h": "h"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_UNIT = r"(seconds?|secs?|minutes?|mins?|hours?|days?|s|m|h)\b"
_IN = re.compile(rf"\bin (\d{{1,4}}|an?|one) ?{_UNIT}", re.IGNORECASE)
_EVERY = re.compile(rf"\bevery (?:(\d{{1,4}}) ?)?{_UNIT}(?! at\b)", re.IGNORECASE)
_AT = r"(?: at (\d{1,2})(?::(\d\d))? ?(am|pm|o'clock)?)?"
_DAYS = {"day": "*", "morning": "*", "weekday": "1-5", "weekend": "6,0"}
_WEEK = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_DAILY = re.compile(rf"\bevery ({'|'.join((*_DAYS, *_WEEK))}){_AT}", re.IGNORECASE)

_LONG = re.compile(r"\blong(?:er)? (?:answer|story|text|reply|essay|message)\b", re.IGNORECASE)
_HELP = re.compile(r"\A(?:hi|hello|hey|help|what can you do|who are you|what are you)\b", re.IGNORECASE)

_MAX_QUOTE_CHARS = 120
_MAX_DIGEST_LINES = 14


@dataclass(frozen=True, slots=True)
class Said:
    """Text, and perhaps one tool call: `name` and `input`."""

    text: str
    call: Mapping[str, Json] | None = None


def answer(request: ModelRequest) -> Said:
    """The reply to a legal request."""
    if request.purpose == "summary":
        return Said(_digest("\n".join(_user_texts(request.messages))))
    results = _results(request.messages[-1])
    if results:
        return Said("\n\n".join(results))
    *before, (clock, text) = [_split_clock(said) for said in _user_texts(request.messages)]
    earlier = [said for _, said in before]
    tools = {str(tool.get("name")): tool for tool in request.tools}
    return _by_tool(text, clock, earlier, tools) or Said(_by_heart(text, earlier))


# --- the conversation ------------------------------------------------------------------------------------------------


def _user_texts(messages: Sequence[Block]) -> list[str]:
    """What people wrote, oldest first; of a message of several blocks each text counts. The last one is being answered."""
    found = [text for message in messages if message["role"] == "user" for text in _texts(message["content"])]
    return found or [""]


def _texts(content: Json) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for block in _blocks(content):
        if block.get("type") == "text":
            yield str(block.get("text", ""))


def _results(message: Block) -> list[str]:
    """The results of tools in words, if there is nothing else to answer."""
    blocks = _blocks(message["content"])
    if not blocks or any(block.get("type") != "tool_result" for block in blocks):
        return []
    return [_told(block) for block in blocks]


def _told(result: Block) -> str:
    content = result.get("content") or ""
    text = text_of(content if isinstance(content, str) else _blocks(content)).strip() or "done"
    return f"That did not work: {text}" if result.get("is_error") else f"Done. The tool says:\n\n{text}"


def _blocks(content: Json) -> list[Block]:
    if isinstance(content, str) or not isinstance(content, Sequence):
        return []
    return [block for block in content if isinstance(block, Mapping)]


def _split_clock(text: str) -> tuple[datetime | None, str]:
    found = _CLOCK.match(text)
    if not found:
        return None, text.strip()
    stamp = _STAMP.search(found.group(1))
    try:
        clock = datetime.fromisoformat(stamp.group()) if stamp else None
    except ValueError:
        clock = None
    return clock, text[found.end() :].strip()


# --- with a tool -----------------------------------------------------------------------------------------------------


def _by_tool(text: str, clock: datetime | None, earlier: Sequence[str], tools: Mapping[str, Block]) -> Said | None:
    if "schedule" in tools and (job := _job(text, clock, _properties(tools["schedule"]))):
        return Said("", {"name": "schedule", "input": job})
    if "memory" in tools and (found := _REMEMBER.match(text)):
        notes = [match.group(1).strip() for said in earlier if (match := _REMEMBER.match(said))]
        lines = "".join(f"- {note}\n" for note in [*notes, found.group(1).strip()])
        file = {"command": "create", "path": "/memories/notes.md", "file_text": lines}
        return Said("", {"name": "memory", "input": file})
    if "sessions" in tools and (found := _SEARCH.match(text)):
        query = found.group(1).strip(" \"'?.!")
        return Said("", {"name": "sessions", "input": {"action": "search", "query": query}})
    return None


def _properties(tool: Block) -> Mapping[str, Json]:
    schema = tool.get("input_schema")
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


def _job(text: str, clock: datetime | None, properties: Mapping[str, Json]) -> dict[str, Json] | None:
    """The arguments for `schedule`, where the text names a time."""
    asked = _REMIND.match(text)
    if found := _IN.search(text):
        if not asked:
            return None
        when = _once(found, clock, properties)
    elif found := _DAILY.search(text):
        when = {"cron": _cron(found)}
    elif found := _EVERY.search(text):
        when = {"every": f"{found.group(1) or 1}{_unit(found.group(2))}"}
    else:
        return None
    rest = " ".join((text[: found.start()] + text[found.end() :]).split())
    task = _TASK.sub("", re.sub(r"\A(?:please )?remind me ?", "", rest, flags=re.IGNORECASE)).strip() or text
    if asked:
        return {"action": "create", "kind": "text", "text": task, **when}
    kind = "summary" if _SUMMARY.search(task) else "prompt"
    return {"action": "create", "kind": kind, "prompt": task, **when}


def _once(found: re.Match[str], clock: datetime | None, properties: Mapping[str, Json]) -> dict[str, Json]:
    amount = int(found.group(1)) if found.group(1).isdigit() else 1
    unit = _unit(found.group(2))
    if clock is None or "at" not in properties or "in" in properties:
        return {"in": f"{amount}{unit}"}
    # The clock shows whole minutes: less than one of them could lie in the past already.
    wait = timedelta(seconds=max(amount * _SECONDS[unit], 60))
    return {"at": (clock + wait).isoformat()}


def _unit(word: str) -> str:
    word = word.lower()
    return _UNITS.get(word) or _UNITS.get(word.removesuffix("s"), "d")


def _cron(found: re.Match[str]) -> str:
    day, hour, minute, half = found.groups()
    day = day.lower()
    hours = int(hour or 8) % 24
    if half and half.lower() in ("am", "pm"):
        hours = hours % 12 + (12 if half.lower() == "pm" else 0)
    return f"{int(minute or 0) % 60} {hours} * * {_DAYS.get(day) or _WEEK.index(day)}"


# --- without one -----------------------------------------------------------------------------------------------------


def _by_heart(text: str, earlier: Sequence[str]) -> str:
    facts = _facts(earlier)
    if found := _ASKS_FACT.search(text):
        asked = found.group(1).strip().lower()
        if asked in facts:
            return f"Your {asked} is {facts[asked]}."
        return f"I do not know your {asked}: nothing in this conversation says it."
    if _ASKS_NAME.search(text):
        known = facts.get("name")
        return f"Your name is {known}." if known else "I do not know your name yet: tell me with “my name is …”."
    if found := _ASKS_SAID.search(text):
        return _quoted(found.group(1), earlier)
    if _ASKS_COUNT.search(text):
        return f"You have written {len(earlier) + 1} messages that I can see."
    if _LONG.search(text):
        return _LONG_ANSWER
    if found := _REMEMBER.match(text):
        return f"I will remember it as long as this conversation lasts: {_short(found.group(1))}"
    if found := _FACT.search(text):
        return f"Noted: your {found.group(1).strip().lower()} is {found.group(2).strip()}."
    if found := _NAMED.search(text):
        return f"Nice to meet you, {found.group(1).strip()}."
    if _HELP.match(text) or not text:
        return _HELP_ANSWER
    return f"You said: “{_short(text)}”\n\n{DEMO}"


def _facts(texts: Sequence[str]) -> dict[str, str]:
    """What was told with `my … is …`; the latest wins."""
    facts: dict[str, str] = {}
    for text in texts:
        for name, value in _FACT.findall(text):
            facts[name.strip().lower()] = value.strip()
        for value in _NAMED.findall(text):
            facts["name"] = value.strip()
    return facts


def _quoted(about: str | None, earlier: Sequence[str]) -> str:
    wanted = (about or "").strip().lower()
    found = [said for said in earlier if wanted in said.lower()]
    if not found:
        return f"You said nothing about {wanted} in this conversation." if wanted else "This is your first message."
    return f"You said: “{_short(found[-1])}”"


def _digest(text: str) -> str:
    """The lines that hold facts, then the newest others, in their order. Where lines are quoted, only those are looked at."""
    quoted = [said for line in text.splitlines() if (said := _unquoted(line))]
    lines = quoted or [line.strip() for line in text.splitlines() if len(line.strip()) > 2]
    ranked = sorted(range(len(lines)), key=lambda at: (not _FACT.search(lines[at]), -at))[:_MAX_DIGEST_LINES]
    kept = [f"- {_short(lines[at])}" for at in sorted(ranked)]
    return "\n".join([f"A digest of {len(lines)} lines by the offline demo model:", "", *kept])


def _unquoted(line: str) -> str:
    """What a line of a quotation says, and who said it."""
    if not line.startswith('{"'):
        return ""
    try:
        fields = json.loads(line)
    except ValueError:
        return ""
    return f"{fields.get('from', '?')}: {fields.get('text', '')}" if isinstance(fields, dict) else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_QUOTE_CHARS else line[: _MAX_QUOTE_CHARS - 1] + "…"


_HELP_ANSWER = f"""\
Hello. {DEMO}

Until then you can try the house:

- “my name is Olga”, and later “what is my name?”
- “what did I say about …?”
- “remind me in 5 minutes to drink some water”, “every weekday at 8 send me a summary of my chats”, and `/jobs`
- “remember that the spare key is under the mat”, “search tides”
- “tell me a long story”, and `/stop` in the middle of it
"""

_LONG_ANSWER = """\
# The keeper of the small lighthouse

This is a long text from the offline demo model, so that streaming and stopping can be tried. Nothing in it is important, and \
none of it was thought up for the occasion.

## How the evenings began

At the end of a spit of sand stood a lighthouse that no chart thought worth a symbol. Its keeper climbed the forty-one steps \
every evening, not because many ships came by, but because a lamp that is lit only when somebody looks is not a lamp. She \
carried three things up the stairs:

1. a can of oil, filled to the line and never above it;
2. a cloth for the glass, washed on Sundays;
3. a notebook, in which she wrote one line for each evening.

The notebook was the point of it all. She had never torn a page out and had never written over a line. When she had made a \
mistake, she wrote the correction below it, with the date, so that anybody who read along could see what she had believed and \
when she had come to know better.

## What the notebook held

| evening | wind | what was seen |
|---|---|---|
| first | west | a fishing boat with one lantern |
| second | north | nothing, and she wrote that down too |
| third | none | a whale, or a very slow island |

> A line that says “nothing” is worth more than a line that is missing.

One night a storm took the pen out of her hand in the middle of a word. In the morning she found half a line, and under it \
she began a new one. She did not rub out the half: it was as true as the whole ones, only shorter. Years later a student of \
storms would thank her for exactly that line, because it told to the minute when the wind had turned.

## How the lamp is lit today

The steps are still forty-one. The oil has become a wire, and the wire asks for less attention, but the rules on the inside \
of the door are the old ones:

```text
light first, then write
write first, then rest
never promise a ship what the lamp has not done yet
```

Visitors ask whether it is lonely. The keeper's granddaughter, who keeps the lamp now, shows them the shelf with the \
notebooks, all of one size, and lets them read as long as they like. Some stay until the evening. Then they climb up together, \
somebody carries the can that is no longer needed, somebody wipes the glass, and somebody else writes the line.

*The end of the long text.* If you have stopped it before this line, stopping works.
"""
