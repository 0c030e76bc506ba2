"""Small apps with a runtime of the size of an installed Mystikos: from SCons, and from the command line.

As a program (``python -m bench.apps APPDIR CONFIG RUNTIME TARGETS``) it measures one enclave several
times in one process and prints the seconds as JSON, with those of hashing the same bytes.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import floors, inputs, installed, processes, projects
from bench.figures import TIMES, Figures, Name
from bench.inputs import Scenario
from bench.plan import Plan
from bench.projects import OURS
from bench.rows import (
    APPS,
    COMMAND_LINE,
    FLOOR,
    HASH_OF_HELLO,
    INSTALLED,
    INTERPRETER,
    MEASURE_HELLO,
    from_nothing,
    two_jobs,
)

_FILES, _FILE_SIZE = 20, 1_000
_JOBS = (1, 2)
_OF_EARLIER = 100  # apps: of so many builds an earlier version is measured, too
_RUNS_IN_PROCESS = 15


def measure(plan: Plan, figures: Figures) -> None:
    """Measure one app by itself, and builds of many with one job and with two."""
    builds = {count: wanted for count in APPS if (wanted := _wanted(count, plan))}
    with_hello = plan.wants(_name(COMMAND_LINE)) or plan.wants(_name(MEASURE_HELLO))
    if not (builds or with_hello):
        return
    with tempfile.TemporaryDirectory(prefix="mystikos-bench-") as name:
        directory = Path(name)
        runtime = directory / "runtime"
        installed.write(runtime)
        made = {count: make(count, directory / f"apps-{count}", runtime) for count in {*builds, 1}}
        if with_hello:
            once = partial(_hello, made[1], runtime, plan, figures)
            plan.times(3 if plan.quick else 15, once, at_least=3, seconds=60)
        for count, wanted in builds.items():
            once = partial(_from_nothing, count, wanted, made[count], plan, figures)
            plan.times(1 if plan.quick else 5, once, at_least=1 if count == max(APPS) else 5, seconds=60)


def _wanted(count: int, plan: Plan) -> list[tuple[str, int]]:
    """Return the builds of a number of apps: whose tool, and with how many jobs.

    An earlier version has one job: two take 5f099c6 as long.
    """
    if plan.quick and count == max(APPS):
        return []
    earlier = [column for column in plan.versions if column != OURS and count == _OF_EARLIER]
    builds = [*((OURS, jobs) for jobs in _JOBS), *((column, 1) for column in earlier)]
    return [(column, jobs) for column, jobs in builds if plan.wants(_name(from_nothing(count, jobs), column))]


def _from_nothing(
    count: int, wanted: Sequence[tuple[str, int]], project: projects.Project, plan: Plan, figures: Figures
) -> None:
    """Build a number of apps once in each way, each time after what the build before has left is removed."""
    seconds = {}
    for column, jobs in wanted:
        name = _name(from_nothing(count, jobs), column)
        project.forget()
        seconds[column, jobs] = replace(project, checkout=plan.versions[column]).build(jobs).seconds
        figures.add(name, seconds[column, jobs])
        plan.tell(name, seconds[column, jobs])
    if all((OURS, jobs) in seconds for jobs in _JOBS):
        figures.add(_name(two_jobs(count)), seconds[OURS, 2] / seconds[OURS, 1], TIMES)


def make(count: int, directory: Path, runtime: Path) -> projects.Project:
    """Write a project of a number of small apps."""
    scenario = Scenario(f"{count} apps", count, _FILES, _FILE_SIZE)
    directory.mkdir()
    appdirs = inputs.write_apps(scenario, directory / "apps")
    return projects.make(OURS, directory / "project", appdirs, scenario, runtime)


def _name(row: str, column: str = OURS) -> Name:
    return Name(INSTALLED, row, column)


def _hello(project: projects.Project, runtime: Path, plan: Plan, figures: Figures) -> None:
    """Measure an app from the command line and in a process, with their floors."""
    appdir, targets = project.appdirs[0], project.directory / "targets"
    targets.mkdir(exist_ok=True)
    package = targets / "package"
    config, key = project.directory / "config.json", project.directory / "key.pem"
    command = ("package-sgx", "--runtime", runtime, "-o", package, appdir, key, config)
    for column, checkout in plan.versions.items():
        package.unlink(missing_ok=True)
        figures.add(_name(COMMAND_LINE, column), projects.tool(*command, checkout=checkout).seconds)
    start = processes.run([sys.executable, "-c", "pass"], environment=projects.environment())
    figures.add(_name(INTERPRETER, FLOOR), start.seconds)
    usage = processes.run(
        [sys.executable, "-m", "bench.apps", appdir, config, runtime, targets],
        cwd=projects.CHECKOUT,
        environment=projects.environment(),
    )
    seconds = json.loads(usage.output)
    figures.add(_name(MEASURE_HELLO), seconds[MEASURE_HELLO])
    figures.add(_name(HASH_OF_HELLO, FLOOR), seconds[HASH_OF_HELLO])


def main(appdir: Path, config: Path, runtime: Path, targets: Path) -> None:
    """Measure one enclave and hash as many bytes, in turn; print the median of each."""
    from mystikos_tool import config as config_reader
    from mystikos_tool import pipeline
    from mystikos_tool.enclave import mrenclave
    from mystikos_tool.root.root import ArchiveRoot
    from mystikos_tool.runtime import Runtime

    archive = targets / "rootfs.cpio"
    pipeline.pack(appdir, archive)
    given = pipeline.Inputs(Runtime.installed(runtime), config_reader.load(config), ArchiveRoot(archive))
    laid_out = pipeline.lay_out(given)
    measuring, hashing = [], []
    for _ in range(_RUNS_IN_PROCESS):
        hashing.append(floors.hashing(round(mrenclave.hashed_size(laid_out) / floors.HASHED_PER_BYTE)))
        mrenclave._last = []  # as in a process that measures one enclave; its images stay read
        started = time.perf_counter()
        pipeline.measure(given)
        measuring.append(time.perf_counter() - started)
    seconds = {MEASURE_HELLO: statistics.median(measuring), HASH_OF_HELLO: statistics.median(hashing)}
    sys.stdout.write(json.dumps(seconds) + os.linesep)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
