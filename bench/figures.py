"""What a measurement says: a name, a value, and the goal where there is one; as a line of text or of a page."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value. `at_least` or `at_most` is the goal; without either it only informs."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def goal(self) -> str:
        """The goal in words, or nothing."""
        if self.at_least is not None:
            return f"≥ {_spell(self.at_least)} {self.unit}"
        return f"≤ {_spell(self.at_most)} {self.unit}" if self.at_most is not None else ""

    @property
    def verdict(self) -> str:
        """`reached` or `missed`, or nothing where there is no goal."""
        if self.at_least is None and self.at_most is None:
            return ""
        too_low = self.at_least is not None and self.value < self.at_least
        too_high = self.at_most is not None and self.value > self.at_most
        return "missed" if too_low or too_high else "reached"

    def cells(self) -> tuple[str, str, str, str]:
        """Name, value, goal, verdict."""
        return self.name, f"{_spell(self.value)} {self.unit}", self.goal, self.verdict


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of each round, so that a minute in which the machine was busy counts for both."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def as_text(figures: Sequence[Figure]) -> str:
    """Aligned lines for a terminal."""
    rows = [figure.cells() for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"  {name:<{widths[0]}}  {value:>{widths[1]}}  {goal:<{widths[2]}}  {verdict}".rstrip()
        for name, value, goal, verdict in rows
    )


def as_table(figures: Sequence[Figure]) -> str:
    """A Markdown table."""
    lines = ["| figure | measured | goal | |", "|---|---:|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(figure.cells())} |" for figure in figures)])


def _spell(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
