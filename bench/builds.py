"""Builds of every kind after every kind of change."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
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
_ROWS_OF = {OURS: (FILE, KEY, CONFIG), TAR: (FILE,)}
_NOTHING_RUNS = 3
# Longer than the clock's tick, after which no fingerprint is racy.
_SETTLED = 0.15


def measure(scenario: Scenario, plan: Plan, figures: Figures) -> None:
    """Measure a scenario's floors and builds, each in several runs, an earlier version in turn with this."""
    groups = [
        [column for column in group if plan.wants_column(scenario, column)]
        for group in (plan.versions, (TAR,), (COMMAND,))
    ]
    if not any(groups):
        return
    with tempfile.TemporaryDirectory(prefix="mystikos-bench-") as name:
        directory = Path(name)
        appdirs = inputs.write_apps(scenario, directory / "apps")
        with_floors = True
        for columns in filter(None, groups):
            group = []
            for column in columns:
                project = _project(column, directory / column.replace(" ", "-"), appdirs, scenario, plan)
                group.append(_Series(scenario, column, project, plan, figures, directory, with_floors))
                with_floors = False
            plan.repeat(columns[0], partial(_in_turn, group))


def _project(
    column: str, directory: Path, appdirs: Sequence[Path], scenario: Scenario, plan: Plan
) -> Project:
    """Make a column's project; an earlier version packages its own embedded runtime."""
    if plan.earlier and column == plan.earlier.column:
        project = projects.make(OURS, directory, appdirs, scenario, plan.earlier.runtime())
        return replace(project, checkout=plan.earlier.checkout)
    return projects.make(column, directory, appdirs, scenario, plan.runtime)


def _in_turn(group: Sequence[_Series]) -> None:
    """Measure every row of all columns once, a build of each column after the other."""
    for _ in zip_longest(*(series.steps() for series in group)):
        pass


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

    def steps(self) -> Iterator[None]:
        """Measure every row once, a build with nothing to do several times; yield before each of them."""
        self._floors()
        if self.column == COMMAND:
            self._build(EACH)
            return
        yield
        self.project.forget()
        self._build(FULL)
        yield
        time.sleep(_SETTLED)
        self._build(FIRST) if self.column == OURS else self.project.build()
        for _ in range(1 if self.column == TAR or self.plan.quick else _NOTHING_RUNS):
            yield
            self._build(NOTHING)
        for row in _ROWS_OF.get(self.column, ()):
            if self.plan.wants(self._name(row)) and not self.plan.skips(self.scenario, row):
                yield
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
