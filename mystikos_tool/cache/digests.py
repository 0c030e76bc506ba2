"""Content digests that cost a stat where nothing changed.

A digest is remembered together with a fingerprint. It is used again only for the same
fingerprint, and only when that was not racy at the time of reading.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.cache import file_digests
from mystikos_tool.cache.store import Store
from mystikos_tool.io import fingerprint
from mystikos_tool.root.source import Source
from mystikos_tool.root.tree import Entry, Tree

_FILES = "files"
_TREES = "trees"
_CHUNK = 1 << 20


class Row(NamedTuple):
    """What is known of an entry of a tree.

    ``fingerprint`` is empty where it was racy. ``content`` is the digest of a file, the target of
    a link, and empty for a directory.
    """

    path: bytes
    mode: int
    fingerprint: bytes
    content: bytes


class Digests:
    """SHA-256 digests of files and trees, remembered in ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def file(self, path: str | Path) -> bytes:
        """Return the digest of a file's content, 32 bytes; OSError where it can't be read."""
        name = os.fsencode(path)
        known = self._store.table(_FILES).get(name)
        status = os.stat(path)  # noqa: PTH116 to make a Path takes longer than this
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))  # some never end, some wait
        before = fingerprint.of(status)
        if known and known[0] == before:
            return bytes(known[1])
        started = time.time_ns()
        with Path(path).open("rb", buffering=0) as file:
            digest = file_digests.sha256(iter(lambda: file.read(_CHUNK), b""))
            after = fingerprint.of(os.fstat(file.fileno()))
        if after == before and not fingerprint.is_racy(before, started):
            self._store.change(_FILES, name, (before, digest))
        return digest

    def tree(
        self,
        source: Source,
        name: str,
        check: Callable[[Tree], None] | None = None,
        described: Callable[[Tree], bytes] = Tree.described,
    ) -> bytes:
        """Return the digest of a source's tree: paths, modes, link targets and content, 32 bytes.

        ``name`` tells sources apart in the store. ``described`` says what counts beside the content.
        ``check`` sees a tree before its files are read, and raises UserError for one that cannot be
        used. Raises it also for a file that can't be read or changes meanwhile. Where nothing changed,
        only the source's fingerprint is asked for.
        """
        current = source.fingerprint()
        known = self._store.table(_TREES).get(name)
        if known and known[0] == current:
            return bytes(known[1])
        tree = source.tree()
        if check:
            check(tree)
        digest = hashlib.sha256(described(tree) + b"".join(self.files(tree, name).values())).digest()
        if not source.is_racy():
            self._store.change(_TREES, name, (current, digest))
        return digest

    def rows(self, name: str) -> list[Row]:
        """Return what :meth:`files` found last for a name; nothing where it was not asked before."""
        return [Row(*row) for row in self._store.value(f"{_FILES} of {name}") or ()]

    def files(self, tree: Tree, name: str) -> dict[bytes, bytes]:
        """Return the digest of every file of a tree by its path, in the tree's order.

        Takes ``name`` and raises UserError as :meth:`tree` does; reads only what has changed.
        """
        before = self.rows(name)
        known = {row.path: row for row in before}
        started = time.time_ns()
        new = [entry for entry in tree.entries if not _is_known(entry, known.get(entry.path))]
        racy = fingerprint.any_racy(b"".join(entry.fingerprint for entry in new), started)
        for entry, digest in zip(new, file_digests.of(new), strict=True):
            is_racy = racy and fingerprint.is_racy(entry.fingerprint, started)
            known[entry.path] = Row(entry.path, entry.mode, b"" if is_racy else entry.fingerprint, digest)
        rows = [_row(entry, known.get(entry.path)) for entry in tree.entries]
        if rows != before:
            self._store.keep(f"{_FILES} of {name}", list(map(tuple, rows)))
        return {row.path: row.content for row in rows if stat.S_ISREG(row.mode)}


def changed_paths(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """Return the paths that differ between two trees: in being there, in mode or in content."""
    old, new = ({row.path: (row.mode, row.content) for row in rows} for rows in (before, after))
    return [os.fsdecode(path) for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]


def _is_known(entry: Entry, known: Row | None) -> bool:
    """Tell whether an entry has no content to be read, or is a file whose fingerprint is known."""
    return not stat.S_ISREG(entry.mode) or (known is not None and known.fingerprint == entry.fingerprint)


def _row(entry: Entry, known: Row | None) -> Row:
    """Describe an entry; of a file everything but its mode is known."""
    if not stat.S_ISREG(entry.mode) or known is None:
        return Row(entry.path, entry.mode, b"", entry.target)
    return known if known.mode == entry.mode else known._replace(mode=entry.mode)
