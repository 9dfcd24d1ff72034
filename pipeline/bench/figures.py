"""Machinery: a figure is a row: ours, a peer's, their ratio, the bound it is held to; medians of alternating runs."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.errors import UnavailableError
from pipeline.runtime.console import say
from pipeline.runtime.hashing import JSON, Page

HEADER = ("name", "ours", "peer", "peer value", "unit", "ratio", "limit")


@dataclass(frozen=True)
class Bound:
    """What the ratio, or our own value, is held to."""

    of: Literal["ratio", "ours"]
    relation: Literal[">=", "<="]
    number: float

    def holds(self, value: float) -> bool:
        """Tell whether `value` is within the bound."""
        return value >= self.number if self.relation == ">=" else value <= self.number

    def __str__(self) -> str:
        return f"{self.relation} {self.number:g}{'x' if self.of == 'ratio' else ''}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure; `machine` is what this machine could do at most, measured in the same run."""

    name: str
    ours: float | None
    unit: str
    peer: str = ""
    peer_value: float | None = None
    bound: Bound | None = None
    machine: str = ""
    note: str = ""
    """said instead of a number where there is none"""

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        return self.ours / self.peer_value if self.ours is not None and self.peer_value else None

    @property
    def met(self) -> bool | None:
        """Is the bound kept?  None: there is no bound, or nothing to hold it against."""
        value = self.ours if self.bound and self.bound.of == "ours" else self.ratio
        return None if self.bound is None or value is None else self.bound.holds(value)

    @property
    def limit(self) -> str:
        """The bound, and the machine's own limit."""
        missed = " MISSED" if self.met is False else ""
        return "; ".join(filter(None, [f"{self.bound}{missed}" if self.bound else "", self.machine]))

    def as_json(self) -> JSON:
        return {
            "name": self.name,
            "ours": self.ours,
            "peer": self.peer,
            "peer value": self.peer_value,
            "unit": self.unit,
            "ratio": self.ratio,
            "limit": self.limit,
            "met": self.met,
            "note": self.note,
        }

    def cells(self) -> list[str]:
        """Return the row as the table shows it."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}x"
        ours = self.note if self.ours is None else show(self.ours)
        return [self.name, ours, self.peer, show(self.peer_value), self.unit, ratio, self.limit]


def show(value: float | None) -> str:
    """Write a number with three figures that count, and thousands apart."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the table, a Markdown one that is aligned for reading."""
    cells = [list(HEADER), *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADER))]
    numbers = {1, 3, 5}
    lines = [
        "| " + " | ".join(cell.rjust(w) if i in numbers else cell.ljust(w) for i, (cell, w) in enumerate(pairs)) + " |"
        for pairs in (list(zip(line, widths, strict=True)) for line in cells)
    ]
    rule = "|" + "|".join("-" * (w + 1) + ":" if i in numbers else "-" * (w + 2) for i, w in enumerate(widths)) + "|"
    return [lines[0], rule, *lines[1:]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one run gave: a rate or a time, and what else is worth keeping of it."""

    value: float
    about: Page = field(default_factory=dict)


def alternate(contestants: Mapping[str, Callable[[], Measured]], repeats: int) -> dict[str, list[Measured]]:
    """Run each in turn, `repeats` times over, so that what the machine does meanwhile is shared by all.

    One that is not to be had here (UnavailableError) is left out, and said.
    """
    results: dict[str, list[Measured]] = {name: [] for name in contestants}
    absent: set[str] = set()
    for turn in range(repeats):
        for name, run in contestants.items():
            if name in absent:
                continue
            try:
                results[name].append(run())
            except UnavailableError as error:
                say(f"{name} is left out: {error}")
                absent.add(name)
                continue
            found = results[name][-1]
            cpu = f" ({show(found.about['cpu_seconds'])} s of processor)" if "cpu_seconds" in found.about else ""
            say(f"  {name}, run {turn + 1} of {repeats}: {show(found.value)}{cpu}")
    return {name: runs for name, runs in results.items() if name not in absent}


def median(runs: Sequence[Measured] | None) -> float | None:
    """Return the median of the runs' values; None when there are none."""
    return statistics.median(run.value for run in runs) if runs else None
