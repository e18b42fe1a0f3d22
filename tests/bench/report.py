"""How a figure is told: what was measured, against what, and whether it reaches its goal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Figure", "median", "show"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report: `value` should be at most `goal` (None: reported only), in `unit`."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether there is no goal, or it is reached."""
        return self.goal is None or self.value <= self.goal


def median(values: Sequence[float]) -> float:
    """The median; of at least one value."""
    return statistics.median(values)


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print a table that can be pasted into Markdown."""
    print(f"\n### {title}\n\n| figure | value | goal | |\n|---|---|---|---|")
    for figure in figures:
        goal = "" if figure.goal is None else f"≤ {figure.goal:g} {figure.unit}"
        verdict = "" if figure.goal is None else "met" if figure.met else "**falls short**"
        note = f" ({figure.note})" if figure.note else ""
        print(f"| {figure.name}{note} | {figure.value:.3g} {figure.unit} | {goal} | {verdict} |", flush=True)
