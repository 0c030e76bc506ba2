"""Decides whether a server is still asked: it may cost a build neither its result nor much time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mystikos_tool.cache.remote.server import ServerError, Trouble

# Requests that fail one after another, without one between that succeeds.
_FAILURES = 5


class Health:
    """A circuit breaker for reading and one for writing; the first that opens says why, once."""

    def __init__(self, warn: Callable[[str], None], *, reads: bool, writes: bool) -> None:
        self.reads = reads
        self.writes = writes
        self._warn = warn
        self._warned = False
        self._failures = 0
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        """Tell of a request that succeeded."""
        self._failures = 0

    def failed(self, error: ServerError, *, writing: bool) -> None:
        """Tell of a request that failed."""
        with self._lock:
            self._failures += 1
            if error.trouble is Trouble.FAILED and self._failures < _FAILURES:
                return
        if error.trouble is not Trouble.GONE and writing:
            self.stop_writing(f"{error}; this build stores nothing more")
        else:
            self.stop(f"{error}; the build goes on without it")

    def stop(self, reason: str) -> None:
        """Ask the server nothing more."""
        with self._lock:
            was_used = self.reads or self.writes
            self.reads = self.writes = False
        if was_used:
            self._say(reason)

    def stop_writing(self, reason: str) -> None:
        """Store nothing more."""
        with self._lock:
            was_used, self.writes = self.writes, False
        if was_used:
            self._say(reason)

    def _say(self, reason: str) -> None:
        with self._lock:
            was_warned, self._warned = self._warned, True
        if not was_warned:
            self._warn(reason)
