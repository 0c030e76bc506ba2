"""What was measured, as text, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from bench import builds, targets
from bench.figures import BYTES, SECONDS, TIMES, Figures
from bench.inputs import SCENARIOS
from bench.projects import COLUMNS, COMMAND, OURS
from bench.rows import (
    EACH,
    EMPTY,
    FLOOR,
    FULL,
    HASH,
    INSTALLED,
    NOTHING,
    ROWS,
    STAGES,
    STARTS,
    WALK,
    WRITE,
    memory,
)

Table = list[Sequence[str]]


def build_table(scenario: str, figures: Figures) -> Table:
    """Return a scenario's builds: rows of changes, columns of ways to build and of an earlier version."""
    rows: Table = []
    measured = {name.column for name in figures.values if name.scenario == scenario}
    columns = (*COLUMNS, *sorted(measured - {*COLUMNS, FLOOR}))
    for row in ROWS:
        medians = [value_of(scenario, row, column, figures) for column in columns]
        if any(median is not None for median in medians):
            floor = builds.floor_of(scenario, row, figures)
            rows.append((row, *(shown(value) for value in (floor, *medians))))
    if not rows:
        return []
    return [(scenario, "floor", *columns), *rows]


def value_of(scenario: str, row: str, column: str, figures: Figures) -> float | None:
    """Return a median; every row of Command is its one figure, for it packs everything each time."""
    return figures.median(scenario, EACH if column == COMMAND else row, column)


def floors_line(scenario: str, figures: Figures) -> str:
    """Return what the floors are made of."""
    parts = (EMPTY, WALK, HASH, WRITE)
    return ", ".join(f"{part} {shown(figures.median(scenario, part, FLOOR))}" for part in parts)


def memory_table(figures: Figures) -> Table:
    """Return the builds' peak memory above that of an empty SConstruct."""
    rows: Table = []
    for scenario in SCENARIOS:
        for row in (NOTHING, FULL):
            medians = [value_of(scenario.name, memory(row), column, figures) for column in COLUMNS[:2]]
            if medians[0] is not None:
                rows.append((f"{scenario.name}, {row}", *(shown(value, BYTES) for value in medians)))
    return [("peak memory above an empty SConstruct", *COLUMNS[:2]), *rows] if rows else []


def other_table(scenario: str, figures: Figures) -> Table:
    """Return the figures of stages or starts, each with its lowest and highest value."""
    rows: Table = []
    for name, values in figures.values.items():
        if name.scenario == scenario:
            unit = figures.units[name]
            row = name.row if name.column in (OURS, name.row) else f"{name.row} ({name.column})"
            middle = figures.median(*name)
            rows.append((row, *(shown(value, unit) for value in (middle, min(values), max(values)))))
    return [(scenario, "median", "min", "max"), *rows] if rows else []


def target_table(figures: Figures) -> Table:
    """Return every target that was measured."""
    rows: Table = []
    for verdict in targets.verdicts(figures):
        target = verdict.target
        values = (shown(value, target.unit) for value in (verdict.value, verdict.limit))
        rows.append((target.name, *values, "met" if verdict.met else "NOT met", verdict.limit_text))
    return [("target", "measured", "limit", "", "the limit is"), *rows] if rows else []


def tables(figures: Figures) -> list[tuple[Table, str]]:
    """Return every table with anything in it and the line below it."""
    found = []
    for scenario in SCENARIOS:
        table = build_table(scenario.name, figures)
        if table:
            known = figures.median(scenario.name, EMPTY, FLOOR) is not None
            found.append((table, floors_line(scenario.name, figures) if known else ""))
    others = [memory_table(figures), *(other_table(name, figures) for name in (STAGES, INSTALLED, STARTS))]
    found.extend((table, "") for table in [*others, target_table(figures)] if table)
    return found


def as_text(figures: Figures) -> str:
    """Return the tables for a terminal."""
    return "\n".join(aligned(table) + (f"  ({below})\n" if below else "") for table, below in tables(figures))


def as_markdown(figures: Figures, machine: dict[str, object]) -> str:
    """Return the tables as a page."""
    parts = ["# Results\n", f"{describe(machine)}\n"]
    for table, below in tables(figures):
        parts.append(markdown(table) + (f"\n{below}\n" if below else ""))
    return "\n".join(parts)


def markdown(table: Table) -> str:
    """Return a table for a page."""
    lines = ["|" + "|".join(f" {cell} " for cell in row) + "|" for row in table]
    lines.insert(1, "|---|" + "---:|" * (len(table[0]) - 1))
    return "\n".join(lines) + "\n"


def as_json(figures: Figures, machine: dict[str, object]) -> str:
    """Return everything for programs."""
    found = [
        {
            "name": verdict.target.name,
            "unit": verdict.target.unit,
            "value": verdict.value,
            "limit": verdict.limit,
            "limit_is": verdict.limit_text,
            "met": verdict.met,
        }
        for verdict in targets.verdicts(figures)
    ]
    document = {"machine": machine, "figures": figures.to_json(), "targets": found}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def machine(load_before: tuple[float, float, float]) -> dict[str, object]:
    """Describe what the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "scons": version("scons"),
        "load_before": round(load_before[0], 2),
        "load_after": round(os.getloadavg()[0], 2),
    }


def describe(machine: dict[str, object]) -> str:
    """Return the machine in one line."""
    return (
        f"{machine['processor']}, {machine['cores']} cores; Linux {machine['kernel']}, Python "
        f"{machine['python']}, SCons {machine['scons']}; load {machine['load_before']} before the run"
    )


def shown(value: float | None, unit: str = SECONDS) -> str:
    """Return a value for people: two or three digits and a unit; a dash for what was not measured."""
    if value is None:
        return "-"
    if unit == BYTES:
        return f"{value / 1e6:,.1f} MB"
    if unit == TIMES:
        return f"{value:.2f} x"
    if abs(value) < 0.1:
        return f"{value * 1e3:.1f} ms"
    return f"{value:.2f} s" if abs(value) < 100 else f"{value:.0f} s"


def aligned(table: Table) -> str:
    """Return a table for a terminal; what follows a column without a name is words, too."""
    left = {0} | {number + 1 for number, head in enumerate(table[0]) if not head}
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for number, row in enumerate(table):
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("   ".join(cells).rstrip())
        if number == 0:
            lines.append("─" * (sum(widths) + 3 * len(widths) - 3))
    return "\n".join(lines) + "\n"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def progress(text: str) -> None:
    """Tell what is going on."""
    sys.stderr.write(f"bench: {text}\n")
