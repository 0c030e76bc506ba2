"""What no build can do without: an empty SConstruct, a walk over the files, hashing, writing."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import processes, projects

# What SGX hashes for a page of 4096 bytes: its EADD record and sixteen EEXTEND records with their data.
HASHED_PER_BYTE = 1.27
_CHUNK = 1 << 20


def empty_sconstruct(directory: Path) -> processes.Usage:
    """Run scons on an SConstruct without a line in it."""
    project = directory / "empty"
    project.mkdir(exist_ok=True)
    (project / "SConstruct").touch()
    command = [sys.executable, "-m", "SCons", "-Q"]
    return processes.run(command, cwd=project, environment=projects.environment())


def stat_walk(directory: Path) -> float:
    """Return the seconds that it takes to find and stat everything below a directory."""
    return _seconds(lambda: _walk(str(directory)))


def hashing(size: int) -> float:
    """Return the seconds of SHA-256 over 1.27 times ``size`` bytes."""
    return _seconds(lambda: _hash(int(size * HASHED_PER_BYTE)))


def writing(size: int, directory: Path, times: int = 1) -> float:
    """Return the seconds that it takes to write ``size`` bytes, each time to a new file."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        paths = [Path(scratch) / str(number) for number in range(times)]
        return _seconds(lambda: _write(size, paths))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _walk(directory: str) -> None:
    with os.scandir(directory) as found:
        for entry in found:
            entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                _walk(entry.path)


def _hash(size: int) -> None:
    digest = hashlib.sha256()
    chunk = bytes(_CHUNK)
    for _ in range(size // _CHUNK):
        digest.update(chunk)
    digest.update(chunk[: size % _CHUNK])


def _write(size: int, paths: Iterable[Path]) -> None:
    chunk = bytes(_CHUNK)
    for path in paths:
        with path.open("wb", buffering=0) as file:
            for _ in range(size // _CHUNK):
                file.write(chunk)
            file.write(chunk[: size % _CHUNK])
