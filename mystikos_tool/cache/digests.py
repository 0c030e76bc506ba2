"""Content digests that cost a stat where nothing changed.

A digest is remembered together with a fingerprint. It is used again only for the same
fingerprint, and only when that was not racy at the time of reading.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from mystikos_tool.cache.store import Store
from mystikos_tool.io import fingerprint
from mystikos_tool.root.source import Source
from mystikos_tool.root.tree import Tree

_FILES = "files"
_TREES = "trees"
_CHUNK = 1 << 20

_Row = tuple[bytes, bytes, bytes]  # a file's path, its fingerprint, and the digest of its content


class Digests:
    """SHA-256 digests of files and trees, remembered in ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def file(self, path: Path) -> bytes:
        """Return the digest of a file's content, 32 bytes; OSError where it can't be read."""
        name = os.fsencode(path)
        known = self._store.table(_FILES).get(name)
        before = fingerprint.of(path.stat())
        if known and known[0] == before:
            return bytes(known[1])
        started = time.time_ns()
        with path.open("rb", buffering=0) as file:
            digest = _sha256(iter(lambda: file.read(_CHUNK), b""))
            after = fingerprint.of(os.fstat(file.fileno()))
        if after == before and not fingerprint.is_racy(before, started):
            self._store.change(_FILES, name, (before, digest))
        return digest

    def tree(self, source: Source, name: str) -> bytes:
        """Return the digest of a source's tree: paths, modes, link targets and content, 32 bytes.

        ``name`` tells sources apart in the store. Raises UserError for a file that can't be read
        or changes meanwhile. Where nothing changed, only the source's fingerprint is asked for.
        """
        current = source.fingerprint()
        known = self._store.table(_TREES).get(name)
        if known and known[0] == current:
            return bytes(known[1])
        tree = source.tree()
        digest = hashlib.sha256(tree.described() + b"".join(self.files(tree, name).values())).digest()
        if not source.is_racy():
            self._store.change(_TREES, name, (current, digest))
        return digest

    def files(self, tree: Tree, name: str) -> dict[bytes, bytes]:
        """Return the digest of every file of a tree by its path, in the tree's order.

        Takes ``name`` and raises UserError as :meth:`tree` does; reads only what has changed.
        """
        value = f"{_FILES} of {name}"
        rows: list[_Row] = self._store.value(value) or []
        known = {row[0]: row for row in rows}
        started = time.time_ns()
        digests = {}
        kept = []
        for entry in tree.entries:
            if not stat.S_ISREG(entry.mode):
                continue
            row = known.get(entry.path)
            if row is None or row[1] != entry.fingerprint:
                row = (entry.path, entry.fingerprint, _sha256(entry.chunks()))
                if not fingerprint.is_racy(entry.fingerprint, started):
                    kept.append(row)
            else:
                kept.append(row)
            digests[row[0]] = row[2]
        if kept != rows:
            self._store.keep(value, kept)
        return digests


def _sha256(chunks: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()
