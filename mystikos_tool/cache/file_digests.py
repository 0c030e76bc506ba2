"""The digests of many files, read on all cores."""

from __future__ import annotations

import marshal
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mystikos_tool.cache import digest_worker
from mystikos_tool.io import fingerprint
from mystikos_tool.io.content import sha256
from mystikos_tool.io.workers import Worker
from mystikos_tool.root.source import is_on_this_machine

if TYPE_CHECKING:
    from mystikos_tool.root.tree import Entry

_FILE = 1 << 16  # bytes that are hashed in the time that a file takes beside
_ALONE = 1 << 25  # bytes whose hashing is worth a process
_MAX_WORKERS = 16


def of(entries: Sequence[Entry]) -> list[bytes]:
    """Return the SHA-256 of the files of entries; raise UserError as :meth:`Contents.chunks` does."""
    first, *others = _parts(entries)
    workers = [Worker(digest_worker.__file__, given=marshal.dumps(_files(part))) for part in others]
    try:
        found = digest_worker.digests(_files(first))
        for part, worker in zip(others, workers, strict=True):
            output = worker.output()
            found += [None] * len(part) if output is None else marshal.loads(output)
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
