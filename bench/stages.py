"""The stages alone, without SCons: rootfs, measure, sign and package, and signing anew.

As a program (``python -m bench.stages APPDIR CONFIG KEY OTHER_KEY RUNTIME TARGETS``) it runs them
once in one process and prints the seconds of each as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from bench import floors, inputs, processes, projects
from bench.figures import BYTES, Figures, Name
from bench.plan import Plan
from bench.projects import OURS
from bench.rows import (
    FLOOR,
    HASH,
    MEASURE,
    PACKAGE,
    ROOTFS,
    SIGN,
    SIGN_ANEW,
    STAGES,
    TOGETHER,
    WRITE,
    memory,
)

_SCENARIO = inputs.LARGE_FILES


def measure(plan: Plan, figures: Figures) -> None:
    """Measure the stages on 5,000 files and 200 MB, each run with its floors."""
    if not plan.wants(Name(STAGES, TOGETHER, OURS)):
        return
    with tempfile.TemporaryDirectory(prefix="mystikos-bench-") as name:
        directory = Path(name)
        appdirs = inputs.write_apps(_SCENARIO, directory / "apps")
        projects.make(OURS, directory / "project", appdirs, _SCENARIO, plan.runtime)
        plan.times(1 if plan.quick else 5, lambda: _once(plan, figures, directory), at_least=1, seconds=60)


def _once(plan: Plan, figures: Figures, directory: Path) -> None:
    project, targets = directory / "project", directory / "targets"
    targets.mkdir(exist_ok=True)
    for path in targets.iterdir():
        path.unlink()
    hashing, writing = floors.hashing(_SCENARIO.size), floors.writing(_SCENARIO.size, directory, times=2)
    figures.add(Name(STAGES, HASH, FLOOR), hashing)
    figures.add(Name(STAGES, WRITE, FLOOR), writing / 2)
    usage = processes.run(
        [
            *(sys.executable, "-m", "bench.stages", directory / "apps" / "app0000"),
            *(project / name for name in ("config.json", "key.pem", "other.pem")),
            *(plan.runtime, targets),
        ],
        cwd=projects.CHECKOUT,
        environment=projects.environment(),
    )
    seconds = json.loads(usage.output)
    for stage, value in seconds.items():
        figures.add(Name(STAGES, stage, OURS), value)
    figures.add(Name(STAGES, memory(TOGETHER), OURS), usage.peak, BYTES)
    plan.tell(Name(STAGES, TOGETHER, OURS), seconds[TOGETHER])


def main(appdir: Path, config: Path, key: Path, other_key: Path, runtime: Path, targets: Path) -> None:
    """Run every stage once and print what each took."""
    from mystikos_tool import config as config_reader
    from mystikos_tool import pipeline
    from mystikos_tool.io import atomic
    from mystikos_tool.io.content import FileContent
    from mystikos_tool.root.root import ArchiveRoot
    from mystikos_tool.runtime import Runtime
    from mystikos_tool.signing.enclave_key import signer

    archive, image, package = (targets / name for name in ("rootfs.cpio", "mystenc.so", "package"))
    day = date(2026, 1, 2)
    enclave = pipeline.Inputs(Runtime.installed(runtime), config_reader.load(config), ArchiveRoot(archive))
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], object]) -> None:
        started = time.perf_counter()
        work()
        seconds[stage] = time.perf_counter() - started

    def sign(with_key: Path) -> None:
        key = signer(with_key)
        atomic.write(image, pipeline.sign(measured, enclave.runtime, enclave.config, key, day))

    def write_package() -> None:
        pipeline.package(enclave, FileContent.of(image), package)

    def sign_anew() -> None:
        sign(other_key)
        write_package()

    timed(ROOTFS, lambda: pipeline.pack(appdir, archive))
    started = time.perf_counter()
    measured = pipeline.measure(enclave)
    seconds[MEASURE] = time.perf_counter() - started
    timed(SIGN, lambda: sign(key))
    timed(PACKAGE, write_package)
    seconds[TOGETHER] = sum(seconds.values())
    timed(SIGN_ANEW, sign_anew)
    sys.stdout.write(json.dumps(seconds))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
