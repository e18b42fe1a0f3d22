"""Usage drawn in the terminal: how a conversation grows, what days cost, what is dear.

Knows panels, scales and plotext, which paints them. Does not know where the numbers come from.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta, tzinfo
from itertools import accumulate
from typing import Any

import plotext  # type: ignore[import-untyped]  # the library has no types

from nanochat.channels.terminal.words import counted
from nanochat.doors import TurnPoint
from nanochat.usage import Sum

__all__ = ["Canvas", "bars", "days", "growth"]

# What a drawing is made for where no terminal says how large it is.
_WIDTH, _HEIGHT = 80, 24

# Below this there is no room for a scale beside a bar; above, a line's end is too far from its beginning.
_LEAST_WIDTH, _LEAST_HEIGHT = 40, 14
_MOST_HEIGHT = 40

# Full and shaded, so that they differ without colour too.
_NEW, _READ = "█", "░"
_NEW_COLOUR, _READ_COLOUR, _COST_COLOUR = "orange", "blue+", "green"

# What is kept free between the numbers of an axis; and how broad a single turn may be.
_TICK_SPACE = 3
_MOST_CELL = 8


@dataclass(frozen=True, slots=True)
class Canvas:
    """How much room there is, and whether there are colours."""

    width: int = _WIDTH
    height: int = _HEIGHT
    has_colour: bool = False

    @classmethod
    def of_stdout(cls) -> Canvas:
        """The terminal, less the lines of the prompt and of what stands beneath; 80 by 24 without colours where there is none."""
        if not sys.stdout.isatty():
            return cls()
        size = shutil.get_terminal_size((_WIDTH, _HEIGHT))
        height = min(max(size.lines - 3, _LEAST_HEIGHT), _MOST_HEIGHT)
        return cls(max(size.columns, _LEAST_WIDTH), height, not os.environ.get("NO_COLOR"))


# --- a conversation ------------------------------------------------------------------------------------------------------


def growth(points: Sequence[TurnPoint], title: str, zone: tzinfo, canvas: Canvas) -> str:
    """Per turn what was read, new or from the cache, and under it what all have cost so far; `points` are in the order of time,
    one at least."""
    turns = [one for one in points if one.kind == "turn"] or list(points)
    costs = _costs(points, turns)
    has_money = costs[-1] > 0
    height = canvas.height - (4 if has_money else 3)
    upper = math.ceil(height * 0.58) if has_money else height
    # Where turns share a column the scale is the tallest column's, which can only be narrower than this.
    margin = max(
        _Scale.of([one.usage.prompt for one in turns], "", upper).margin, _Scale.of(costs, "$", height - upper).margin
    )
    per_column = math.ceil(len(turns) / (canvas.width - margin - 1))
    whole = _means([one.usage.prompt for one in turns], per_column)
    cached = _means([one.usage.cache_read for one in turns], per_column)
    share = _share(sum(one.usage.cache_read for one in turns), sum(one.usage.prompt for one in turns))
    lines = [
        f"{title}: {counted(len(turns), 'turn')}, {_span(turns, zone)}",
        f"tokens read per turn{f', mean of {per_column}' if per_column > 1 else ''}:"
        f"  {_coloured(_NEW, _NEW_COLOUR, canvas)} new  {_coloured(_READ, _READ_COLOUR, canvas)} from cache ({share})",
        _Panel(canvas, margin, upper, len(turns), per_column).stacked(whole, cached, _Scale.of(whole, "", upper)),
        f"cost so far, by turn: {_exact(costs[-1])}",
    ]
    if has_money:
        ends = [costs[min(at + per_column, len(costs)) - 1] for at in range(0, len(costs), per_column)]
        lower = height - upper
        lines.append(_Panel(canvas, margin, lower, len(turns), per_column).line(ends, _Scale.of(ends, "$", lower)))
    return "\n".join(lines)


def _span(turns: Sequence[TurnPoint], zone: tzinfo) -> str:
    first, last = (one.at.astimezone(zone).date().isoformat() for one in (turns[0], turns[-1]))
    return first if first == last else f"{first} to {last}"


def _costs(points: Sequence[TurnPoint], turns: Sequence[TurnPoint]) -> list[float]:
    """What had been spent at the end of each turn; a summary belongs to the turn that it made room for."""
    spent = list(accumulate(one.cost_usd or 0.0 for one in points))
    if len(turns) == len(points):
        return spent
    at_turns = [usd for one, usd in zip(points, spent, strict=True) if one.kind == "turn"]
    return [*at_turns[:-1], spent[-1]]


def _means(values: Sequence[int], per_column: int) -> list[float]:
    parts = [values[at : at + per_column] for at in range(0, len(values), per_column)]
    return [sum(part) / len(part) for part in parts]


# --- rows ----------------------------------------------------------------------------------------------------------------


def days(rows: Sequence[tuple[str, Sum]], total: Sum, canvas: Canvas) -> str:
    """What each day cost, or where all was free, how many tokens it took; `rows` are in the order of time, one at least."""
    costs = bool(total.cost_usd)
    took = {date.fromisoformat(name): _worth(each, costs=costs) for name, each in rows}
    first, last = min(took), max(took)
    count = (last - first).days + 1
    each_day = [took.get(first + timedelta(days=at), 0.0) for at in range(count)]
    height, unit = canvas.height - 1, "$" if costs else ""
    # What a column shows lies between the dearest day and, where columns are shared, the whole.
    margin = max(_Scale.of([most], unit, height).margin for most in (max(each_day), math.fsum(each_day)))
    per_column = math.ceil(count / (canvas.width - margin - 1))
    sums = [math.fsum(each_day[at : at + per_column]) for at in range(0, count, per_column)]
    labels = [(first + timedelta(days=at)).strftime("%m-%d") for at in range(0, count, per_column)]
    scale = _Scale.of(sums, unit, height)
    when = f"{first} to {last}" if count > 1 else f"{first}"
    per = f"{per_column} days" if per_column > 1 else "day"
    return "\n".join(
        [
            f"{'cost' if costs else 'tokens'} per {per}: {_amount(total)} in all, {when}",
            _Panel(canvas, scale.margin, height, count, per_column).columns(sums, labels, scale),
        ]
    )


def bars(rows: Sequence[tuple[str, Sum]], total: Sum, canvas: Canvas) -> str:
    """The rows as lines, each as long as it cost, or where all was free, as it took tokens."""
    costs = bool(total.cost_usd)
    worths = [_worth(each, costs=costs) for _, each in rows]
    amounts = [_exact(worth) if costs else f"{worth:,.0f}" for worth in worths]
    widest = max(map(len, amounts))
    most_name = max(12, canvas.width // 3)
    names = [name if len(name) <= most_name else f"{name[: most_name - 1]}…" for name, _ in rows]
    name_width = max(map(len, names))
    room = max(8, canvas.width - name_width - widest - 4)
    greatest = max(worths) or 1.0
    lines = [
        f"{name:{name_width}}  {_coloured(_bar(worth / greatest * room), _COST_COLOUR, canvas)}"
        f"{' ' * (room - len(_bar(worth / greatest * room)))}  {amount:>{widest}}"
        for name, worth, amount in zip(names, worths, amounts, strict=True)
    ]
    return "\n".join([f"{'cost' if costs else 'tokens'}: {_amount(total)} in all", *lines])


_EIGHTHS = " ▏▎▍▌▋▊▉"


def _bar(length: float) -> str:
    whole, rest = divmod(round(length * 8), 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "") or ("▏" if length > 0 else "")


def _worth(each: Sum, *, costs: bool) -> float:
    return each.cost_usd or 0.0 if costs else float(each.usage.prompt + each.usage.output)


def _amount(total: Sum) -> str:
    return _exact(total.cost_usd) if total.cost_usd else f"{total.usage.prompt + total.usage.output:,}"


def _exact(usd: float) -> str:
    return f"${usd:,.4f}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "none"


# --- panels --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scale:
    """An axis that begins at 0: its round numbers, and how they are written."""

    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, values: Sequence[float], unit: str, height: int) -> _Scale:
        """A scale that holds the values, with a number for about every four lines; without a unit they are whole ones."""
        step = _round_step(max(values), max(2, min(5, height // 4)), 0.0 if unit else 1.0)
        ticks = tuple(step * at for at in range(max(1, math.ceil(max(values) / step - 1e-9)) + 1))
        decimals = max(2, -math.floor(math.log10(step) + 1e-9)) if unit else 0
        return cls(ticks, tuple(f"{unit}{tick:,.{decimals}f}" for tick in ticks))

    @property
    def margin(self) -> int:
        """The columns that the labels take."""
        return max(map(len, self.labels))


def _round_step(greatest: float, most: int, least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20… and their tenths of which `most` reach to `greatest`."""
    wanted = max(greatest / most, least) or 1.0
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(power * times for times in (1.0, 2.0, 5.0, 10.0) if power * times >= wanted * (1 - 1e-9))


@dataclass(frozen=True, slots=True)
class _Panel:
    """One drawing; those above each other have the same `margin`, for what stands left of the axis. `count` things are shown,
    `per_column` in each column."""

    canvas: Canvas
    margin: int
    height: int
    count: int
    per_column: int

    def stacked(self, whole: Sequence[float], part: Sequence[float], scale: _Scale) -> str:
        """Columns, and in each the part of it."""
        figure = self._figure(scale)
        self._add_bars(figure, whole, _NEW, _NEW_COLOUR)
        self._add_bars(figure, part, _READ, _READ_COLOUR)
        return self._text(figure, self._numbers())

    def columns(self, values: Sequence[float], labels: Sequence[str], scale: _Scale) -> str:
        """Columns with names."""
        figure = self._figure(scale)
        self._add_bars(figure, values, _NEW, _COST_COLOUR)
        every = math.ceil((max(map(len, labels)) + _TICK_SPACE) / self._cell)
        return self._text(figure, {at: labels[at] for at in range(0, len(values), every)})

    def line(self, values: Sequence[float], scale: _Scale) -> str:
        """One line through all values."""
        figure = self._figure(scale)
        marker = plotext.marker("hd", pixel=plotext.pixel(foreground=_COST_COLOUR))
        places = [self._middle(at) for at in range(len(values))]
        figure.draw(figure.signal(places, list(values), marker=marker).lines(True))
        return self._text(figure, self._numbers())

    @property
    def _columns(self) -> int:
        return math.ceil(self.count / self.per_column)

    @property
    def _cell(self) -> int:
        """How broad a column is on the terminal: a whole number, so that all look alike."""
        return max(1, min(_MOST_CELL, (self.canvas.width - self.margin - 1) // self._columns))

    def _middle(self, column: int) -> float:
        return (column + 0.5) * self._cell

    def _numbers(self) -> dict[int, str]:
        """Which columns are numbered, and how: by one of the things that each stands for."""
        most = self._columns * self._cell // (len(f"{self.count:,}") + _TICK_SPACE)
        step = int(_round_step(self.count, max(1, most), 1.0))
        return {(n - 1) // self.per_column: f"{n:,}" for n in {1, *range(step, self.count + 1, step)}}

    def _figure(self, scale: _Scale) -> Any:  # plotext has no types
        plotext.terminal.limit(False, False)
        figure = plotext.figure
        figure.clear()
        width = self._columns * self._cell
        figure.plot_size(self.margin + 1 + width, self.height)
        figure.theme("colorless")  # the terminal's own colours, but for what is painted
        figure.axes(False, axis="x", side="upper")
        figure.axes(False, axis="y", side="right")
        figure.ruler("x").lim(0, width).alignment(lim="edge")
        figure.ruler("y").lim(0, scale.ticks[-1])
        figure.ruler("y").ticks(list(scale.ticks), [label.rjust(self.margin) for label in scale.labels])
        return figure

    def _add_bars(self, figure: Any, values: Sequence[float], mark: str, colour: str) -> None:
        """One stroke for each column of the terminal, in its middle: plotext's own bars are broader here and there."""
        filled = self._cell - 1 if self._cell > 2 else self._cell
        strokes = [
            (at * self._cell + part + 0.5, value) for at, value in enumerate(values) for part in range(filled) if value
        ]
        marker = plotext.marker(mark, pixel=plotext.pixel(foreground=colour))
        figure.draw(figure.signal([x for x, _ in strokes], [y for _, y in strokes], marker=marker).fillx(True))

    def _text(self, figure: Any, ticks: Mapping[int, str]) -> str:
        figure.ruler("x").ticks([self._middle(column) for column in ticks], list(ticks.values()))
        text = figure.build().string(colorless=not self.canvas.has_colour)
        return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))


def _coloured(text: str, colour: str, canvas: Canvas) -> str:
    return str(plotext.colorize(text).fill(plotext.pixel(foreground=colour)).string()) if canvas.has_colour else text
