"""Whole processes, measured: elapsed time and peak memory.

Linux counts towards a child's peak what its parent held when it started it. The benchmark itself
therefore stays small: it makes its inputs file by file and keeps nothing of them.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_KILOBYTE = 1024
_SHOWN_OUTPUT = 4000


@dataclass(frozen=True)
class Usage:
    """What a process took: elapsed seconds; the largest resident set of it or a child, in bytes."""

    seconds: float
    peak: int
    output: str


class FailedError(Exception):
    """A process that had to succeed and did not."""


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: Path | None = None,
) -> Usage:
    """Run a command that has to succeed; raise FailedError with its output when it does not."""
    arguments = [str(argument) for argument in command]
    with tempfile.TemporaryFile() as output, Path(stdin or os.devnull).open("rb") as source:
        started = time.perf_counter()
        child = subprocess.Popen(
            arguments, cwd=cwd, env=environment, stdin=source, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if child.returncode != 0:
        raise FailedError(f"{' '.join(arguments)}: status {child.returncode}\n{text[-_SHOWN_OUTPUT:]}")
    return Usage(seconds, usage.ru_maxrss * _KILOBYTE, text)
