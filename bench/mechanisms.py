"""What each mechanism that makes the tool faster wins: builds with it against builds without it.

    python -m bench.mechanisms [--runs N] [NAME ...]

A mechanism is switched off in the process that is measured, from here: the tool itself has no such
option. Builds with and without it run in turn, and what it wins is the median over the pairs. It
stays if it wins 5 % of a row that people wait for. A candidate is what the tool does not do, or no
longer: it is switched on, and what it wins would be missed if it were there.
"""

from __future__ import annotations

import argparse
import importlib
import runpy
import statistics
import sys
import tempfile
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from bench import apps, inputs, installed, processes, projects
from bench.projects import OURS, Project
from bench.rows import COMMAND_LINE, CONFIG, FILE, FULL, KEY, SIZE

_NEVER = 1 << 62
_WORTH = 0.05
_NONE = "none"
_RUN = "--run"
_SWITCHED = ("bench.mechanisms", _RUN)
_LARGE, _MANY, _HELLO = "5,000 files, 200 MB", "100 apps, installed runtime", "1 app, installed runtime"


def _hash_in_turn() -> None:
    from mystikos_tool.enclave import mrenclave

    mrenclave._MANY_PAGES = _NEVER


def _package_afterwards() -> None:
    from mystikos_tool.scons import partial

    partial._begin = lambda measurement, inputs: None


def _archive_anew() -> None:
    from mystikos_tool.cache import incremental

    incremental._MOST_REWRITTEN = -1


def _package_anew() -> None:
    from mystikos_tool.scons import partial

    partial._earlier = lambda package, inputs: None


def _measure_whole() -> None:
    from mystikos_tool.io import sha256

    sha256.is_available = lambda: False  # type: ignore[assignment]


def _rename_only() -> None:
    from mystikos_tool.io import atomic

    atomic._LARGE = _NEVER


def _free_in_turn() -> None:
    from mystikos_tool.io import atomic

    class Called(Thread):
        def start(self) -> None:
            self.run()

    atomic.Thread = Called  # type: ignore[attr-defined]


def _blocks_one_by_one() -> None:
    from mystikos_tool.enclave import mrenclave

    word, width = mrenclave._WORD, mrenclave.MEASURED_PAGE // mrenclave._WORD

    def move(self: Any, _: int) -> None:
        pages = self.words[mrenclave._OFFSET :: width]
        for number, place in enumerate(mrenclave._BLOCK_OFFSETS):
            offsets = [page + number * mrenclave._BLOCK for page in pages]
            self.words[place // word :: width] = array("Q", offsets)

    mrenclave._Copies._move_blocks = move  # type: ignore[method-assign,assignment]


def _hash_all() -> None:
    from mystikos_tool.enclave import mrenclave

    mrenclave._kept = lambda stream: -1


def _read_again() -> None:
    from mystikos_tool.io import kept

    kept.kept = lambda files: lambda read: read  # what uses it is imported later


def _open_the_key_here() -> None:
    from mystikos_tool.signing import key_process

    key_process._may_fork = lambda named: False


def _load_while_packing() -> None:
    from mystikos_tool.scons import work

    pack = work.rootfs

    def pack_and_load(target: Any, source: Any, env: Any) -> str:
        loading = Thread(target=importlib.import_module, args=("mystikos_tool.pipeline",))
        loading.start()
        try:
            return pack(target, source, env)
        finally:
            loading.join()

    work.STAGES = {**work.STAGES, "rootfs": pack_and_load}


@dataclass(frozen=True)
class Mechanism:
    """A mechanism: what it does, what is done without it, and the rows in which it could matter.

    ``switch`` changes the running process: off, or on for a candidate.
    """

    name: str
    does: str
    without: str
    switch: Callable[[], None]
    rows: tuple[tuple[str, str], ...]
    is_candidate: bool = False


_CHANGES = tuple((_LARGE, row) for row in (FULL, SIZE, KEY, CONFIG))
MECHANISMS = (
    Mechanism(
        "hashing",
        "a large root is hashed by one thread while another one reads (mrenclave.py)",
        "in turn",
        _hash_in_turn,
        ((_LARGE, FULL), (_LARGE, CONFIG)),
    ),
    Mechanism(
        "partial",
        "a large package is written while its root is measured (packaging/partial.py)",
        "after it is signed",
        _package_afterwards,
        _CHANGES,
    ),
    Mechanism(
        "rewriting",
        "files that keep their size are written into the earlier archive itself (cache/incremental.py)",
        "the archive is made out of the earlier one",
        _archive_anew,
        ((_LARGE, FILE),),
    ),
    Mechanism(
        "rewriting-packages",
        "what was written into an archive is written into its package itself (scons/partial.py)",
        "the package is written while its root is measured",
        _package_anew,
        ((_LARGE, FILE),),
    ),
    Mechanism(
        "resuming",
        "an archive that was written into is measured from there on (enclave/resuming.py)",
        "it is measured whole",
        _measure_whole,
        ((_LARGE, FILE),),
    ),
    Mechanism(
        "exchange",
        "a large file changes places with the one that it replaces (io/atomic.py)",
        "it is renamed over it",
        _rename_only,
        _CHANGES,
    ),
    Mechanism(
        "freeing",
        "the space of a large file that was replaced is freed in a thread (io/atomic.py)",
        "in turn",
        _free_in_turn,
        _CHANGES,
    ),
    Mechanism(
        "blocks",
        "blocks have the offsets of their pages copied into theirs (mrenclave.py)",
        "each is an addition",
        _blocks_one_by_one,
        ((_MANY, FULL), (_LARGE, FULL), (_LARGE, CONFIG)),
    ),
    Mechanism(
        "beginning",
        "what enclaves with one runtime begin with alike is hashed once (mrenclave.py)",
        "for each enclave",
        _hash_all,
        ((_MANY, FULL), (_MANY, CONFIG)),
    ),
    Mechanism(
        "kept",
        "a runtime's images and a configuration are read once for all apps of a build (io/kept.py)",
        "by each stage",
        _read_again,
        ((_MANY, FULL), (_MANY, KEY)),
    ),
    Mechanism(
        "key-process",
        "the command line opens the key in a process of its own (signing/key_process.py)",
        "in the same one",
        _open_the_key_here,
        ((_HELLO, COMMAND_LINE),),
    ),
    Mechanism(
        "preloading",
        "what later stages need is loaded while a root is packed",
        "when they begin",
        _load_while_packing,
        ((_LARGE, FULL), (_MANY, FULL)),
        is_candidate=True,
    ),
)


_OF_APPDIRS = {FILE: Project.change_file, SIZE: Project.resize_file}  # which the projects share
_OF_PROJECT = {FULL: Project.forget, KEY: Project.change_key, CONFIG: Project.change_config}


def _compare(mechanism: Mechanism, runs: int, made: dict[str, tuple[Project, Project]]) -> None:
    """Print, for each row, the medians with and without a mechanism and what it wins."""
    for scenario, row in mechanism.rows:
        seconds: dict[str, list[float]] = {_NONE: [], mechanism.name: []}
        for run in range(runs):
            pairs = list(zip(seconds, made[scenario], strict=True))
            if row in _OF_APPDIRS:
                _OF_APPDIRS[row](made[scenario][0])
            for name, project in pairs if run % 2 else reversed(pairs):
                if row in _OF_PROJECT:
                    _OF_PROJECT[row](project)
                seconds[name].append(_seconds(project, row, name))
        usual, switched = seconds.values()
        with_it, without = (switched, usual) if mechanism.is_candidate else (usual, switched)
        wins = statistics.median(1 - one / other for one, other in zip(with_it, without, strict=True))
        sys.stdout.write(
            f"{mechanism.name:14} {scenario}, {row}: with {statistics.median(with_it):.3f} s,"
            f" without {statistics.median(without):.3f} s, wins {wins:+.1%}"
            f" {'' if wins >= _WORTH else '(less than 5 %)'}\n"
        )
        sys.stdout.flush()


def _seconds(project: Project, row: str, name: str) -> float:
    """Run what a row is about in a process with one mechanism switched; return how long it took."""
    if row != COMMAND_LINE:
        return project.build(module=(*_SWITCHED, name, "SCons")).seconds
    package = project.directory / "package"
    package.unlink(missing_ok=True)
    command: list[str | Path] = [sys.executable, "-m", *_SWITCHED, name, "mystikos_tool", "package-sgx"]
    command += ["--runtime", project.directory.parents[1] / "runtime", "-o", package]
    command += [project.appdirs[0], project.directory / "key.pem", project.directory / "config.json"]
    return processes.run(command, cwd=projects.CHECKOUT, environment=projects.environment()).seconds


def _projects(directory: Path) -> dict[str, tuple[Project, Project]]:
    """Make two equal projects of each scenario, so that each always has its own earlier files."""
    runtime = directory / "runtime"
    installed.write(runtime)
    appdirs = inputs.write_apps(inputs.LARGE_FILES, directory / "apps")
    large = [
        projects.make(OURS, directory / f"large-{which}", appdirs, inputs.LARGE_FILES, runtime)
        for which in range(2)
    ]
    many = [apps.make(100, directory / f"many-{which}", runtime) for which in range(2)]
    one = apps.make(1, directory / "one", runtime)
    for project in (*large, *many, one):
        project.build()
    return {_LARGE: (large[0], large[1]), _MANY: (many[0], many[1]), _HELLO: (one, one)}


def _run(name: str, module: str, arguments: Sequence[str]) -> None:
    """Run SCons or the tool in this process, with one mechanism switched."""
    for mechanism in MECHANISMS:
        if mechanism.name == name:
            mechanism.switch()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    """Compare the mechanisms that are named, or all."""
    if sys.argv[1:2] == [_RUN]:
        _run(sys.argv[2], sys.argv[3], sys.argv[4:])
        return
    names = [mechanism.name for mechanism in MECHANISMS]
    parser = argparse.ArgumentParser(prog="python -m bench.mechanisms", description="Compare mechanisms.")
    parser.add_argument("--runs", type=int, default=9, help="pairs of builds for each row (%(default)s)")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mystikos-bench-") as directory:
        made = _projects(Path(directory))
        for mechanism in MECHANISMS:
            if mechanism.name in (options.names or names):
                sys.stdout.write(f"{mechanism.name}: {mechanism.does}; without: {mechanism.without}\n")
                _compare(mechanism, options.runs, made)


if __name__ == "__main__":
    main()
