"""What was measured: every value of every figure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

SECONDS, BYTES, TIMES = "s", "bytes", "x"


class Name(NamedTuple):
    """What a figure is of: ``scenario`` and ``row`` say what was done, ``column`` by whom."""

    scenario: str
    row: str
    column: str

    def __str__(self) -> str:
        return " / ".join(self)


@dataclass
class Figures:
    """The values measured so far."""

    values: dict[Name, list[float]] = field(default_factory=dict)
    units: dict[Name, str] = field(default_factory=dict)

    def add(self, name: Name, value: float, unit: str = SECONDS) -> None:
        """Add one measured value."""
        self.values.setdefault(name, []).append(value)
        self.units[name] = unit

    def median(self, *name: str) -> float | None:
        """Return a figure's median, or None when it was not measured."""
        values = self.values.get(Name(*name))
        return statistics.median(values) if values else None

    def total(self, names: Iterable[tuple[float, tuple[str, str, str]]]) -> float | None:
        """Return the sum of medians, each times its factor; None when one was not measured."""
        medians = [(factor, self.median(*name)) for factor, name in names]
        known = [factor * median for factor, median in medians if median is not None]
        return sum(known) if len(known) == len(medians) else None

    def to_json(self) -> list[Mapping[str, object]]:
        """Return every figure with its lowest, middle and highest value."""
        return [
            {
                **name._asdict(),
                "unit": self.units[name],
                "values": values,
                "min": min(values),
                "median": statistics.median(values),
                "max": max(values),
            }
            for name, values in self.values.items()
        ]
