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
from pathlib import Path

from bench import floors, inputs, installed, processes, projects
from bench.figures import Figures, Name
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
)

_FILES, _FILE_SIZE = 20, 1_000
_JOBS = (1, 2)
_RUNS_IN_PROCESS = 15


def measure(plan: Plan, figures: Figures) -> None:
    """Measure one app by itself, and builds of many with one job and with two."""
    rows = [(count, jobs) for count in APPS for jobs in _JOBS if not (plan.quick and count == max(APPS))]
    rows = [(count, jobs) for count, jobs in rows if plan.wants(_name(from_nothing(count, jobs)))]
    with_hello = plan.wants(_name(COMMAND_LINE)) or plan.wants(_name(MEASURE_HELLO))
    if not (rows or with_hello):
        return
    with tempfile.TemporaryDirectory(prefix="mystikos-bench-") as name:
        directory = Path(name)
        runtime = directory / "runtime"
        installed.write(runtime)
        made = {
            count: make(count, directory / f"apps-{count}", runtime)
            for count in {count for count, _ in rows} | {1}
        }
        if with_hello:
            plan.times(
                3 if plan.quick else 15, lambda: _hello(made[1], runtime, figures), at_least=3, seconds=60
            )
        for count, jobs in rows:
            name_of_row = _name(from_nothing(count, jobs))

            def once(
                project: projects.Project = made[count], jobs: int = jobs, row: Name = name_of_row
            ) -> None:
                project.forget()
                seconds = project.build(jobs=jobs).seconds
                figures.add(row, seconds)
                plan.tell(row, seconds)

            plan.times(1 if plan.quick else 5, once, at_least=1, seconds=60)


def make(count: int, directory: Path, runtime: Path) -> projects.Project:
    """Write a project of a number of small apps."""
    scenario = Scenario(f"{count} apps", count, _FILES, _FILE_SIZE)
    directory.mkdir()
    appdirs = inputs.write_apps(scenario, directory / "apps")
    return projects.make(OURS, directory / "project", appdirs, scenario, runtime)


def _name(row: str, column: str = OURS) -> Name:
    return Name(INSTALLED, row, column)


def _hello(project: projects.Project, runtime: Path, figures: Figures) -> None:
    """Measure an app from the command line and in a process, with their floors."""
    appdir, targets = project.appdirs[0], project.directory / "targets"
    targets.mkdir(exist_ok=True)
    package = targets / "package"
    package.unlink(missing_ok=True)
    config, key = project.directory / "config.json", project.directory / "key.pem"
    usage = projects.tool("package-sgx", "--runtime", runtime, "-o", package, appdir, key, config)
    figures.add(_name(COMMAND_LINE), usage.seconds)
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
        mrenclave._last = []  # as in a process that measures one enclave
        started = time.perf_counter()
        pipeline.measure(given)
        measuring.append(time.perf_counter() - started)
    seconds = {MEASURE_HELLO: statistics.median(measuring), HASH_OF_HELLO: statistics.median(hashing)}
    sys.stdout.write(json.dumps(seconds) + os.linesep)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
