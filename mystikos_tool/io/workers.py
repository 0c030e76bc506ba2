"""Processes that do a part of some work, on a further core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from mystikos_tool.io.commands import file_of

_MOST = 16  # of processes

_T = TypeVar("_T")


def shares(items: Sequence[_T], least: int) -> list[Sequence[_T]]:
    """Divide items, of which there are some, among the cores: as many for each, and not below ``least``."""
    count = min(len(os.sched_getaffinity(0)), len(items) // least, _MOST) or 1
    each = -(-len(items) // count)
    return [items[at : at + each] for at in range(0, len(items), each)]


class Worker:
    """A file of this package run as a process alone, so that it starts quickly, if one can be started.

    ``given`` is its standard input; ``kept`` are descriptors that it has as well.
    """

    def __init__(self, file: str, *arguments: str, given: bytes = b"", kept: Sequence[int] = ()) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        command = [sys.executable, "-I", "-S", file, *arguments]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        # There may be no more processes for this user, or no interpreter that it may start.
        with suppress(OSError), file_of(given) as stdin:
            self._process = subprocess.Popen(command, stdin=stdin, stdout=pipe, stderr=nothing, pass_fds=kept)

    def output(self) -> bytes | None:
        """Return what it wrote, once it has ended; None where it could not be started or do its part."""
        if self._process is None:
            return None
        output = self._process.communicate()[0]
        return None if self._process.returncode else output

    def end(self) -> None:
        """End it."""
        if self._process:
            self._process.kill()
            self._process.wait()
