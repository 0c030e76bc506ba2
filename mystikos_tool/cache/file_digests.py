"""The digests of many files, read on all cores."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mystikos_tool.cache import digest_worker
from mystikos_tool.io import fingerprint
from mystikos_tool.io.content import sha256
from mystikos_tool.root.source import is_on_this_machine

if TYPE_CHECKING:
    from mystikos_tool.root.tree import Entry

_FILE = 1 << 16  # bytes that are hashed in the time that a file takes beside
_ALONE = 1 << 25  # bytes whose hashing is worth a process
_MAX_WORKERS = 16


def of(entries: Sequence[Entry]) -> list[bytes]:
    """Return the SHA-256 of the files of entries; raise UserError as :meth:`Contents.chunks` does."""
    first, *others = _parts(entries)
    workers = [_Worker(part) for part in others]
    try:
        found = digest_worker.digests(_files(first))
        for worker in workers:
            found += worker.digests()
    finally:
        for worker in workers:
            worker.end()
    return [digest or sha256(entry.chunks()) for digest, entry in zip(found, entries, strict=True)]


def _parts(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """Divide entries among the cores, by the time that they take."""
    costs = [entry.size + _FILE for entry in entries]
    count = min(len(os.sched_getaffinity(0)), sum(costs) // _ALONE, _MAX_WORKERS) or 1
    each = -(-sum(costs) // count)
    parts: list[Sequence[Entry]] = []
    start = cost = 0
    for end, more in enumerate(costs, 1):
        cost += more
        if cost >= each:
            parts.append(entries[start:end])
            start, cost = end, 0
    return [*parts, entries[start:]] if start < len(entries) or not parts else parts


def _files(entries: Sequence[Entry]) -> list[digest_worker.File]:
    """Return where the files of entries are; an empty path is that of no file."""
    return [
        (
            entry.origin if is_on_this_machine(entry) else b"",
            entry.size,
            fingerprint.content_version(entry.fingerprint),
        )
        for entry in entries
    ]


class _Worker:
    """A process that hashes files, if one can be started."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._count = len(entries)
        self._process: subprocess.Popen[bytes] | None = None
        command = [sys.executable, "-I", "-S", digest_worker.__file__]
        with os.fdopen(os.memfd_create("files"), "w+b") as files:
            marshal.dump(_files(entries), files)
            files.seek(0)
            try:
                self._process = subprocess.Popen(
                    command, stdin=files, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            except OSError:  # no more processes for this user, or no interpreter that it may start
                return

    def digests(self) -> list[bytes | None]:
        """Return the digests; None for each that the process has not found."""
        if self._process:
            found = self._process.communicate()[0]
            if self._process.returncode == 0:
                return list(marshal.loads(found))
        return [None] * self._count

    def end(self) -> None:
        """End the process."""
        if self._process:
            self._process.kill()
            self._process.wait()
