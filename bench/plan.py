"""What is to be measured, how often, and for how long at the most."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Name
from bench.inputs import HUNDRED_APPS, LARGE_FILES, MANY_FILES, MOST_FILES, ONE_APP, THOUSAND_APPS, Scenario
from bench.projects import COMMAND, OURS
from bench.rows import CONFIG, EACH, FILE, KEY, ROWS

_SLOW_WITHOUT_US = (MANY_FILES, HUNDRED_APPS, THOUSAND_APPS)
_NOT_QUICK = (LARGE_FILES, MOST_FILES, ONE_APP)


@dataclass(frozen=True)
class Plan:
    """The runs of a benchmark; ``only`` has parts of figures' names, one of which must be there."""

    runtime: Path
    examples: Path
    quick: bool
    only: Sequence[str]

    def wants(self, name: Name) -> bool:
        """Tell whether a figure is to be measured."""
        text = str(name).lower()
        return not self.only or any(part.lower() in text for part in self.only)

    def wants_column(self, scenario: Scenario, column: str) -> bool:
        """Tell whether a scenario is to be built in a column; a quick run leaves the slowest out."""
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
