"""A terminal in memory: what a person would see, and what has scrolled off above it.

Knows the escape sequences that our programs use, and refuses any other. Every character is one cell wide.
"""

from __future__ import annotations

import re

__all__ = ["Screen"]

_TOKEN = re.compile(
    r"\x1b\[(?P<private>\??)(?P<numbers>[\d;]*)(?P<letter>[A-Za-z])|\x1b(?P<escape>[^\[])|(?P<text>[^\x1b]+)|(?P<part>\x1b.*)",
    re.DOTALL,
)


class Screen:
    """Rows of characters with a cursor. `scrolled` are the rows that left at the top, oldest first."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns = columns
        self.rows = rows
        self.scrolled: list[str] = []
        self._cells = [[" "] * columns for _ in range(rows)]
        self._x = 0
        self._y = 0
        self._held = ""

    def feed(self, data: str) -> None:
        """Do what the data says; an escape sequence may come in parts."""
        data, self._held = self._held + data, ""
        for token in _TOKEN.finditer(data):
            if token["part"] is not None:
                self._held = token["part"]
            elif token["text"] is not None:
                for character in token["text"]:
                    self._put(character)
            elif token["letter"] is not None and not token["private"]:
                numbers = [int(number) for number in token["numbers"].split(";") if number]
                self._control(token["letter"], numbers)
            elif token["letter"] is None and token["escape"] not in "78=>":
                raise AssertionError(f"unknown escape {token['escape']!r}")

    @property
    def lines(self) -> list[str]:
        """All rows from the first ever, without blanks at their ends, and without blank rows at the end."""
        rows = [*self.scrolled, *("".join(row).rstrip() for row in self._cells)]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def text(self) -> str:
        """All rows as one text."""
        return "\n".join(self.lines)

    def _put(self, character: str) -> None:
        if character == "\r":
            self._x = 0
        elif character == "\n":
            self._down()
        elif character == "\b":
            self._x = max(0, self._x - 1)
        elif character != "\a":
            assert character.isprintable(), f"{character!r} reached the screen"
            if self._x >= self.columns:
                self._x = 0
                self._down()
            self._cells[self._y][self._x] = character
            self._x += 1

    def _down(self) -> None:
        if self._y < self.rows - 1:
            self._y += 1
            return
        self.scrolled.append("".join(self._cells.pop(0)).rstrip())
        self._cells.append([" "] * self.columns)

    def _control(self, letter: str, numbers: list[int]) -> None:
        count = max(1, numbers[0]) if numbers else 1
        match letter:
            case "A":
                self._y = max(0, self._y - count)
            case "B":
                self._y = min(self.rows - 1, self._y + count)
            case "C":
                self._x = min(self.columns - 1, self._x + count)
            case "D":
                self._x = max(0, self._x - count)
            case "J":
                self._cells[self._y][self._x :] = [" "] * (self.columns - self._x)
                self._cells[self._y + 1 :] = [[" "] * self.columns for _ in range(self.rows - self._y - 1)]
            case "K":
                self._cells[self._y][self._x :] = [" "] * (self.columns - self._x)
            case "m" | "q":
                pass
            case _:
                raise AssertionError(f"unknown control {letter!r}")
