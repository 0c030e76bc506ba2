"""What a start of a package costs, beside what the application itself takes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import floors, inputs, processes, projects
from bench.figures import BYTES, Figures, Name
from bench.inputs import PROGRAM
from bench.plan import Plan
from bench.projects import OURS
from bench.rows import (
    AS_PACKAGE,
    CPIO,
    FLOOR,
    HASH,
    HELLO,
    HUGE,
    LARGE,
    PLAIN_PROCESS,
    STARTS,
    UNPACK,
    memory,
)

_TMPFS = Path("/dev/shm")  # noqa: S108 the kernel's, where a root file system is unpacked in memory
_RUNTIME_SOURCES = projects.CHECKOUT / "mystikos_tool" / "runtime"
_UNPACK_SOURCES = (
    projects.CHECKOUT / "tests" / "runtime" / "unpack_archive.c",
    *(
        _RUNTIME_SOURCES / f"{name}.c"
        for name in (
            *("kernel/unpack", "kernel/write_behind", "kernel/write", "kernel/archive", "kernel/path"),
            "common/error",
        )
    ),
)
_COMPILER = (
    *(sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-static"),
    *("-std=c11", "-D_GNU_SOURCE", "-O2", "-fno-sanitize=all", "-I", str(_RUNTIME_SOURCES)),
)
_SAMPLING_PAUSE = 0.002
_KILOBYTE = 1024
_MEGABYTE = 1 << 20


def measure(plan: Plan, figures: Figures) -> None:
    """Measure starts of a small, a large and a huge package, and unpacking."""
    if not plan.wants(Name(STARTS, HELLO, OURS)) and not any(
        plan.wants(Name(STARTS, row, OURS)) for row in (LARGE, HUGE, UNPACK)
    ):
        return
    if plan.wants(Name(STARTS, HELLO, OURS)):
        _hello(plan, figures)
    with tempfile.TemporaryDirectory(prefix="mystikos-bench-") as name:
        directory = Path(name)
        if plan.wants(Name(STARTS, LARGE, OURS)) or plan.wants(Name(STARTS, UNPACK, OURS)):
            archive = _large(plan, figures, directory)
            if plan.wants(Name(STARTS, UNPACK, OURS)):
                _unpacking(plan, figures, archive, directory)
                archive.unlink()
        if plan.wants(Name(STARTS, HUGE, OURS)):
            _huge(plan, figures, directory)


def _hello(plan: Plan, figures: Figures) -> None:
    program = plan.examples / "hello" / "appdir" / "bin" / "hello"
    package = plan.examples / "hello" / "hello"
    for _ in range(10 if plan.quick else 40):
        for column, command in ((PLAIN_PROCESS, program), (AS_PACKAGE, package)):
            figures.add(Name(STARTS, HELLO, column), processes.run([command]).seconds)
        size = package.stat().st_size
        figures.add(Name(STARTS, f"{HELLO}: {HASH}", FLOOR), floors.hashing(size))


def _large(plan: Plan, figures: Figures, directory: Path) -> Path:
    """Measure a package of 200 MB; return its archive."""
    scenario = inputs.LARGE_FILES
    package = _package(plan, directory, scenario.files, scenario.file_size)
    plain = directory / "appdir" / PROGRAM
    for _ in range(2 if plan.quick else 7):
        figures.add(Name(STARTS, LARGE, PLAIN_PROCESS), processes.run([plain]).seconds)
        seconds = processes.run([package]).seconds
        figures.add(Name(STARTS, LARGE, AS_PACKAGE), seconds)
        figures.add(Name(STARTS, f"{LARGE}: {HASH}", FLOOR), floors.hashing(package.stat().st_size))
        plan.tell(Name(STARTS, LARGE, AS_PACKAGE), seconds)
    archive = directory / "archive.cpio"
    projects.tool("mkcpio", directory / "appdir", archive)
    return archive


def _huge(plan: Plan, figures: Figures, directory: Path) -> None:
    """Measure a package of 1 GB: its start, and the memory in another start."""
    package = _package(plan, directory, 1_000, 1_000_000)
    for _ in range(0 if plan.quick else 5):
        usage = processes.run([package])
        figures.add(Name(STARTS, HUGE, AS_PACKAGE), usage.seconds)
        plain = processes.run([directory / "appdir" / PROGRAM])
        figures.add(Name(STARTS, HUGE, PLAIN_PROCESS), plain.seconds)
        figures.add(Name(STARTS, f"{HUGE}: {HASH}", FLOOR), floors.hashing(package.stat().st_size))
        plan.tell(Name(STARTS, HUGE, AS_PACKAGE), usage.seconds)
    for _ in range(1 if plan.quick else 3):
        figures.add(Name(STARTS, memory(HUGE), AS_PACKAGE), _peak_of_start(package), BYTES)
        size = (directory / "root-size").read_text()
        figures.add(Name(STARTS, f"{HUGE}: root file system", FLOOR), float(size), BYTES)


def _package(plan: Plan, directory: Path, files: int, file_size: int) -> Path:
    """Make a package that starts the hello example's program in a root of many files."""
    appdir, package = directory / "appdir", directory / "package"
    shutil.rmtree(appdir, ignore_errors=True)
    inputs.write_appdir(appdir, files, file_size)
    shutil.copy(plan.examples / "hello" / "appdir" / "bin" / "hello", appdir / PROGRAM)
    (directory / "root-size").write_text(
        str(sum(path.stat().st_size for path in appdir.rglob("*") if path.is_file()))
    )
    inputs.write_config(directory / "config.json", MemorySize="1500m")
    if not (directory / "key.pem").exists():
        projects.tool("keygen", directory / "key.pem")
    projects.tool(
        *("package-sgx", "--runtime", plan.runtime, "-o", package, appdir),
        *(directory / "key.pem", directory / "config.json"),
    )
    return package


def _unpacking(plan: Plan, figures: Figures, archive: Path, directory: Path) -> None:
    """Measure the kernel's unpacking against cpio's, both into tmpfs; leave out what is not there."""
    if not os.access(_TMPFS, os.W_OK) or importlib.util.find_spec("ziglang") is None:
        sys.stderr.write("bench: unpacking is left out: it needs /dev/shm and the ziglang package\n")
        return
    program = directory / "unpack_archive"
    processes.run([*_COMPILER, *_UNPACK_SOURCES, "-o", program])
    for _ in range(2 if plan.quick else 5):
        with tempfile.TemporaryDirectory(dir=_TMPFS) as root:
            seconds = processes.run([program, archive, root]).seconds
        figures.add(Name(STARTS, UNPACK, OURS), seconds)
        plan.tell(Name(STARTS, UNPACK, OURS), seconds)
        if shutil.which("cpio"):
            with tempfile.TemporaryDirectory(dir=_TMPFS) as root:
                usage = processes.run(["cpio", "-i", "--quiet"], cwd=Path(root), stdin=archive)
            figures.add(Name(STARTS, UNPACK, CPIO), usage.seconds)


def _peak_of_start(package: Path) -> float:
    """Return the most memory, in bytes, that a package's processes and their root hold while it starts.

    Sampled: pages of their own and shared ones (each once), and what lies in the root's tmpfs. The
    package is stopped meanwhile, so that nothing is counted where it was and where it has come to.
    """
    peak = 0
    with _started(package) as child:
        while child.poll() is None:
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            processes_of_it = list(_descendants(child.pid))
            held = sum(map(_resident, processes_of_it))
            peak = max(peak, held + max(map(_in_root, processes_of_it), default=0))
            child.send_signal(signal.SIGCONT)
            time.sleep(_SAMPLING_PAUSE)
    if child.returncode != 0:
        raise processes.FailedError(f"{package}: status {child.returncode}")
    return peak


@contextmanager
def _started(package: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([package], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
        yield child


def _descendants(process: int) -> Iterator[int]:
    yield process
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _descendants(int(child))


def _resident(process: int) -> int:
    """Return the bytes of memory that belong to a process and not to a file on a disk."""
    with suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        held = [line.split()[1] for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
        return sum(map(int, held)) * _KILOBYTE
    return 0


def _in_root(process: int) -> int:
    """Return the bytes in the tmpfs that a process unpacks into or has as its root; 0 without one."""
    held = 0
    ours = {Path("/").stat().st_dev, Path.cwd().stat().st_dev}
    for place in ("cwd", "root"):
        with suppress(OSError):
            directory = f"/proc/{process}/{place}/"
            if Path(directory).stat().st_dev not in ours:
                status = os.statvfs(directory)
                held = max(held, (status.f_blocks - status.f_bfree) * status.f_frsize)
    return held
