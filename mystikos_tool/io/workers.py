"""Processes that do a part of some work, on a further core."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import BinaryIO


class Worker:
    """A file of this package run as a process alone, so that it starts quickly, if one can be started.

    ``given`` is its standard input, nothing without it; ``kept`` are descriptors that it has as well.
    """

    def __init__(
        self, file: str, *arguments: str, given: BinaryIO | None = None, kept: Sequence[int] = ()
    ) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        command, nothing = [sys.executable, "-I", "-S", file, *arguments], subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                command, stdin=given or nothing, stdout=subprocess.PIPE, stderr=nothing, pass_fds=kept
            )
        except OSError:  # no more processes for this user, or no interpreter that it may start
            return

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
