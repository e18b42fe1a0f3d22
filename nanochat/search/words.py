"""What people type when they look for something, and where it stands in a text.

Words are what SQLite's tokenizer takes for words; what is asked here is asked of that tokenizer itself, on a scratch table in
memory, so that what is found and what is shown as found cannot differ. Where writing has no spaces between words, as in Chinese,
Japanese and Thai, or adds endings to them, as in Korean, every character is a word, and a run of them is a phrase: so any part of
a text is found. (The other way, SQLite's trigrams, finds nothing of fewer than three characters, and most Chinese words have
two.) Knows how a query is written. Does not know messages, nor where they are kept.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Sequence
from types import TracebackType
from typing import TypeAlias

from nanochat.errors import SearchError

__all__ = ["TOKENIZER", "Marker", "Place", "excerpt", "spread"]

# Marks are parts of words: without their vowel signs, the words of Hindi and Tamil would be a row of single consonants. Private
# characters are too; no text has any left once it is spread, so words made of them stand for what is no text.
TOKENIZER = "unicode61 remove_diacritics 2 categories 'L* N* M* Co'"

# More than anybody types, and far below what SQLite's parser bears.
MAX_QUERY_CHARS = 1000

EXCERPT_CHARS = 160
_BEFORE_CHARS = 50

# Scripts that put no spaces between words, and Hangul, whose words carry their endings with them:
# https://www.unicode.org/reports/tr29/ (read 2026-11-20), "Word Boundaries".
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)

# What parts those characters for the tokenizer, and can be taken out again.
_PARTING = "\x1f"

# Control characters, halves of characters, which SQLite does not take, and the private ones.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff]")

# A phone's keyboard writes quotation marks of its own.
_QUOTES = dict.fromkeys(map(ord, "“”„‟«»\uff02"), '"')
_TERM = re.compile(r'"([^"]*)(?:"(\*?)|\Z)|([^\s"]+)')

_OPENING, _CLOSING = "\x02", "\x03"
_STEP = re.compile(f"[{_OPENING}{_CLOSING}{_PARTING}]")


def spread(text: str) -> str:
    """The text as it is given to the tokenizer."""
    if text.isascii():  # most are, and there is nothing to do
        return text
    return _part(_fit(text))


def _fit(text: str) -> str:
    """The text with one form for each character: wide letters are letters, é is one character."""
    return _UNFIT.sub(" ", text if text.isascii() else unicodedata.normalize("NFKC", text))


def _part(text: str) -> str:
    """The text with signs around what is a word by itself."""
    return _UNSPACED.sub(rf"{_PARTING}\g<0>{_PARTING}", text)


# --- a query ---------------------------------------------------------------------------------------------------------


def _terms(words: str) -> list[str]:
    """What is typed, as SQLite is asked: words, "quoted words" that stand together, and `begin*`."""
    return list(dict.fromkeys(filter(None, map(_term, _TERM.finditer(words.translate(_QUOTES))))))


def _term(match: re.Match[str]) -> str:
    quoted, star, plain = match.groups()
    text = (plain.rstrip("*") if plain is not None else quoted) or ""
    is_beginning = star == "*" or (plain is not None and plain.endswith("*"))
    # Between quotation marks nothing means anything to SQLite, and none are left in the text.
    return f'"{spread(_fit(text))}"{" *" if is_beginning else ""}' if text.strip() else ""


# --- places in a text ------------------------------------------------------------------------------------------------

Place: TypeAlias = tuple[int, int]
"""Where found words begin in a text, and where they end."""


class Marker:
    """Finds in single texts what was asked for, as the index finds it in all. For one thread at a time, and to be closed.

    Raises:
        SearchError: nothing in `words` is a word, or they are too many.
    """

    def __init__(self, words: str) -> None:
        if len(words) > MAX_QUERY_CHARS:
            raise SearchError(f"a search takes {MAX_QUERY_CHARS:,} characters at most, and these are {len(words):,}")
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.execute(f'CREATE VIRTUAL TABLE scratch USING fts5(text, tokenize="{TOKENIZER}")')
        self._connection.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(scratch, row)")
        self._terms = [term for term in _terms(words) if self._holds_word(term)]
        if not self._terms:
            self.close()
            raise SearchError(
                f'there is no word in {words!r}; a search takes words, all of which must occur, "quoted words" and begin*'
            )

    def __enter__(self) -> Marker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def match(self) -> str:
        """The query, as SQLite is asked."""
        return " AND ".join(self._terms)

    def marked(self, text: str) -> tuple[str, list[Place]] | None:
        """The text with one form for each character, and the places in that; None where not all words are in it."""
        return self._marked(_fit(text), self.match)

    def places(self, text: str) -> list[Place]:
        """The places in an excerpt, which is of what `marked` returned, of whichever words are left in it."""
        found = self._marked(_UNFIT.sub(" ", text), " OR ".join(self._terms))
        return found[1] if found else []

    def close(self) -> None:
        """Let go of the scratch table."""
        self._connection.close()

    def _holds_word(self, term: str) -> bool:
        self._put(term)
        return self._connection.execute("SELECT 1 FROM terms LIMIT 1").fetchone() is not None

    def _put(self, text: str) -> None:
        self._connection.execute("DELETE FROM scratch")
        self._connection.execute("INSERT INTO scratch VALUES (?)", (_part(text),))

    def _marked(self, text: str, match: str) -> tuple[str, list[Place]] | None:
        self._put(text)
        row: tuple[str] | None = self._connection.execute(
            "SELECT highlight(scratch, 0, ?, ?) FROM scratch WHERE scratch MATCH ?", (_OPENING, _CLOSING, match)
        ).fetchone()
        return (text, _places(row[0])) if row else None


def _places(marked: str) -> list[Place]:
    places: list[Place] = []
    at = read = begin = 0
    for step in _STEP.finditer(marked):
        at += step.start() - read
        read = step.end()
        if step[0] == _OPENING:
            begin = at
        elif step[0] == _CLOSING:
            places.append((begin, at))
    return places


def excerpt(text: str, places: Sequence[Place]) -> str:
    """Some words around the first place, on one line."""
    first, last = places[0] if places else (0, 0)
    begin = max(0, first - _BEFORE_CHARS)
    if begin:  # at the beginning of a word, if there is one near
        begin = text.find(" ", begin, first) + 1 or begin
    end = begin + EXCERPT_CHARS
    if end < len(text):
        space = text.rfind(" ", last, end)
        end = end if space < 0 else space
    words = " ".join(text[begin:end].split())
    return f"{'…' if begin else ''}{words}{'…' if end < len(text) else ''}"
