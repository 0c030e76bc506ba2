"""Run the benchmarks and write what they measured.

python -m bench [--quick | --fleet] [--only PART] [--against REVISION] [--output DIRECTORY]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench import (
    apps,
    builds,
    earlier,
    fleet,
    floors,
    inputs,
    installed,
    plot,
    processes,
    report,
    stages,
    starts,
)
from bench.figures import Figures, Name
from bench.plan import Plan
from bench.projects import CHECKOUT
from bench.rows import EMPTY, FLOOR, MACHINE
from bench.targets import EARLIER
from mystikos_tool.errors import UserError


def main() -> int:
    """Measure, print the tables, write results.json, results.md and results.svg."""
    arguments = _parser().parse_args()
    if arguments.fleet:
        return fleet.main(arguments.output)
    figures = Figures()
    load = os.getloadavg()
    try:
        with earlier.unpacked(arguments.against) as version:
            places = arguments.runtime.resolve(), arguments.examples.resolve()
            _measure(Plan(*places, arguments.quick, arguments.only, version), figures)
    except UserError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    if not figures.values:
        sys.stderr.write(f"bench: nothing has {' or '.join(arguments.only)} in its name\n")
        return 2
    machine = report.machine(load)
    sys.stdout.write(f"{report.describe(machine)}\n\n{report.as_text(figures)}")
    _write(arguments.output, figures, machine)
    return 0


def _measure(plan: Plan, figures: Figures) -> None:
    _warm_up(plan)
    for scenario in inputs.SCENARIOS:
        builds.measure(scenario, plan, figures)
    stages.measure(plan, figures)
    apps.measure(plan, figures)
    starts.measure(plan, figures)
    if figures.values:
        _measure_machine(figures)


def _warm_up(plan: Plan) -> None:
    """Compile the modules of each version, and build an app with it, before anything is measured."""
    with tempfile.TemporaryDirectory(prefix="mystikos-bench-") as name:
        installed.write(Path(name, "runtime"))
        project = apps.make(1, Path(name, "apps"), Path(name, "runtime"))
        for checkout in plan.versions.values():
            as_imports_do = ("-q", "--invalidation-mode", "timestamp")
            processes.run([sys.executable, "-m", "compileall", *as_imports_do, checkout / "mystikos_tool"])
            project.forget()
            replace(project, checkout=checkout).build()


def _measure_machine(figures: Figures) -> None:
    """Measure what says how fast this machine is: scons without anything to do."""
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(5):
            seconds = floors.empty_sconstruct(Path(directory)).seconds
            figures.add(Name(MACHINE, EMPTY, FLOOR), seconds)


def _write(directory: Path, figures: Figures, machine: dict[str, object]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(report.as_json(figures, machine), encoding="utf-8")
    (directory / "results.md").write_text(report.as_markdown(figures, machine), encoding="utf-8")
    drawn = plot.draw(figures)
    if drawn:
        (directory / "results.svg").write_text(drawn, encoding="utf-8")
    sys.stdout.write(f"\nwritten to {directory}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run the benchmarks.")
    parser.add_argument("--quick", action="store_true", help="fewer runs, without the slowest: under 90 s")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PART",
        help="measure what has this in its name, as in: 20,000 files / nothing to do / mystikos (repeatable)",
    )
    parser.add_argument(
        "--against",
        metavar="REVISION",
        help=f"an earlier version, measured in turn with this one; {EARLIER} is what some limits are held to",
    )
    parser.add_argument(
        "--fleet",
        action="store_true",
        help="the shared cache instead: build machines in network namespaces, and a model held to them",
    )
    build = CHECKOUT / "build"
    parser.add_argument(
        "--output", type=Path, default=build / "bench", metavar="DIR", help="where results go (%(default)s)"
    )
    parser.add_argument(
        "--runtime", type=Path, default=build / "mystikos-runtime", metavar="DIR", help="what is packaged"
    )
    parser.add_argument(
        "--examples", type=Path, default=build / "examples", metavar="DIR", help="the examples, built"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
