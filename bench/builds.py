"""Builds of every kind after every kind of change."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import floors, inputs, projects
from bench.figures import BYTES, Figures, Name
from bench.inputs import Scenario
from bench.plan import Plan
from bench.projects import COMMAND, OURS, TAR, Project
from bench.rows import (
    CONFIG,
    EACH,
    EMPTY,
    FILE,
    FIRST,
    FLOOR,
    FULL,
    HASH,
    KEY,
    NOTHING,
    WALK,
    WRITE,
    memory,
)

_CHANGES: dict[str, Callable[[Project], None]] = {
    FILE: Project.change_file,
    KEY: Project.change_key,
    CONFIG: Project.change_config,
}
_ROWS_OF = {OURS: (FILE, KEY, CONFIG), TAR: (FILE,), COMMAND: ()}
_NOTHING_RUNS = 3
# Longer than the clock's tick, after which no fingerprint is racy.
_SETTLED = 0.15


def measure(scenario: Scenario, plan: Plan, figures: Figures) -> None:
    """Measure a scenario's floors and builds, each in several runs."""
    columns = [column for column in projects.COLUMNS if plan.wants_column(scenario, column)]
    if not columns:
        return
    with tempfile.TemporaryDirectory(prefix="mystikos-bench-") as name:
        directory = Path(name)
        appdirs = inputs.write_apps(scenario, directory / "apps")
        for column in columns:
            project = projects.make(
                column, directory / column.replace(" ", "-"), appdirs, scenario, plan.runtime
            )
            series = _Series(scenario, column, project, plan, figures, directory, column == columns[0])
            plan.repeat(column, series.once)


class _Series:
    """One column's builds of one scenario."""

    def __init__(
        self,
        scenario: Scenario,
        column: str,
        project: Project,
        plan: Plan,
        figures: Figures,
        directory: Path,
        with_floors: bool,
    ) -> None:
        self.scenario = scenario
        self.column = column
        self.project = project
        self.plan = plan
        self.figures = figures
        self.directory = directory
        self.with_floors = with_floors
        self.empty_peak = 0

    def once(self) -> None:
        """Measure every row once, a build with nothing to do several times."""
        self._floors()
        if self.column == COMMAND:
            self._build(EACH)
            return
        self.project.forget()
        self._build(FULL)
        time.sleep(_SETTLED)
        self._build(FIRST) if self.column == OURS else self.project.build()
        for _ in range(_NOTHING_RUNS if self.column == OURS and not self.plan.quick else 1):
            self._build(NOTHING)
        for row in _ROWS_OF[self.column]:
            if self.plan.wants(self._name(row)) and not self.plan.skips(self.scenario, row):
                _CHANGES[row](self.project)
                self._build(row)
                time.sleep(_SETTLED)
                self.project.build()

    def _build(self, row: str) -> None:
        name = self._name(row)
        if not (self.plan.wants(name) or row == FULL):
            return
        usage = self.project.build()
        if self.plan.wants(name):
            self.plan.tell(name, usage.seconds)
            self.figures.add(name, usage.seconds)
            above = max(usage.peak - self.empty_peak, 0)
            self.figures.add(name._replace(row=memory(row)), above, BYTES)

    def _floors(self) -> None:
        empty = floors.empty_sconstruct(self.directory)
        self.empty_peak = empty.peak
        if not self.with_floors:
            return
        size = self.scenario.size
        for row, value in (
            (EMPTY, empty.seconds),
            (WALK, floors.stat_walk(self.directory / "apps")),
            (HASH, floors.hashing(size)),
            (WRITE, floors.writing(size, self.directory, times=2) / 2),
        ):
            self.figures.add(Name(self.scenario.name, row, FLOOR), value)

    def _name(self, row: str) -> Name:
        return Name(self.scenario.name, row, self.column)


def floor_of(scenario: str, row: str, figures: Figures) -> float | None:
    """Return the seconds that no build of a row can go below: the sum of what it has to do."""
    least = [(1.0, EMPTY), (1.0, WALK)]
    work = {
        NOTHING: [],
        FIRST: [],
        FILE: [(1.0, HASH), (2.0, WRITE)],
        KEY: [(1.0, WRITE)],
        CONFIG: [(1.0, HASH), (1.0, WRITE)],
        FULL: [(1.0, HASH), (2.0, WRITE)],
    }
    return figures.total((factor, (scenario, part, FLOOR)) for factor, part in [*least, *work[row]])
