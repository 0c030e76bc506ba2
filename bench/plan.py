"""What is to be measured, how often, and for how long at the most."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.earlier import Version
from bench.figures import Name
from bench.inputs import HUNDRED_APPS, LARGE_FILES, MANY_FILES, MOST_FILES, ONE_APP, THOUSAND_APPS, Scenario
from bench.projects import CHECKOUT, COLUMNS, COMMAND, OURS
from bench.rows import CONFIG, EACH, FILE, FULL, KEY, NOTHING, ROWS

_SLOW_WITHOUT_US = (MANY_FILES, HUNDRED_APPS, THOUSAND_APPS)
_NOT_QUICK = (LARGE_FILES, MOST_FILES, ONE_APP)
# What an earlier version is measured for: limits that were set beside what it took.
_OF_EARLIER = {HUNDRED_APPS: FULL, THOUSAND_APPS: NOTHING}


@dataclass(frozen=True)
class Plan:
    """The runs of a benchmark; ``only`` has parts of figures' names, one of which must be there.

    ``earlier`` is a version that is measured in turn with this one.
    """

    runtime: Path
    examples: Path
    quick: bool
    only: Sequence[str]
    earlier: Version | None = None

    @property
    def versions(self) -> Mapping[str, Path]:
        """The checkouts that are measured, by their columns: this one is the first."""
        earlier = {self.earlier.column: self.earlier.checkout} if self.earlier else {}
        return {OURS: CHECKOUT, **earlier}

    def wants(self, name: Name) -> bool:
        """Tell whether a figure is to be measured."""
        text = str(name).lower()
        return not self.only or any(part.lower() in text for part in self.only)

    def wants_column(self, scenario: Scenario, column: str) -> bool:
        """Tell whether a scenario is to be built in a column; a quick run leaves the slowest out."""
        if column not in COLUMNS:
            row = _OF_EARLIER.get(scenario)
            return row is not None and self.wants(Name(scenario.name, row, column))
        if scenario is MOST_FILES and column != OURS:  # the others take minutes for what is known
            return False
        slow = scenario in _NOT_QUICK or (column != OURS and scenario in _SLOW_WITHOUT_US)
        if self.quick and slow:
            return False
        rows = (EACH,) if column == COMMAND else ROWS
        return any(self.wants(Name(scenario.name, row, column)) for row in rows)

    def skips(self, scenario: Scenario, row: str) -> bool:
        """Tell whether a quick run leaves out a change to a thousand apps."""
        return self.quick and scenario is THOUSAND_APPS and row in (FILE, KEY, CONFIG)

    def repeat(self, column: str, once: Callable[[], None]) -> None:
        """Measure five times, fewer when it takes long: three of our own, one of the others."""
        at_least = 3 if column == OURS else 1
        self.times(1 if self.quick else 5, once, at_least=at_least, seconds=40)

    def times(self, runs: int, once: Callable[[], None], *, at_least: int, seconds: float) -> None:
        """Do something ``runs`` times, but stop when ``at_least`` runs have taken ``seconds``."""
        started = time.monotonic()
        for run in range(runs):
            if run >= at_least and time.monotonic() - started > seconds:
                return
            once()

    def tell(self, name: Name, seconds: float) -> None:
        """Show that a value was measured."""
        sys.stderr.write(f"bench: {name}: {seconds:.3f} s\n")
