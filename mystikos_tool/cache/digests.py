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
from array import array
from collections.abc import Callable
from itertools import compress
from pathlib import Path

from mystikos_tool.cache import file_digests
from mystikos_tool.cache.columns import Columns
from mystikos_tool.cache.store import Store
from mystikos_tool.io import fingerprint
from mystikos_tool.io.content import sha256
from mystikos_tool.root.source import Source
from mystikos_tool.root.tree import Tree

_FILES = "files"
_TREES = "trees"
_CHUNK = 1 << 20


# What is known of the entries of a tree, by path: mode and content. The content is the digest of a file,
# the target of a link, and empty for a directory.
Rows = dict[bytes, tuple[int, bytes]]


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
            digest = sha256(iter(lambda: file.read(_CHUNK), b""))
            after = fingerprint.of(os.fstat(file.fileno()))
        if after == before and not fingerprint.is_racy(before, started):
            self._store.change(_FILES, name, (before, digest))
        return digest

    def tree(
        self,
        source: Source,
        name: str,
        check: Callable[[Tree], object] | None = None,
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
        digest = hashlib.sha256(described(tree) + self._contents(tree, name)).digest()
        if not source.is_racy():
            self._store.change(_TREES, name, (current, digest))
        return digest

    def rows(self, name: str) -> Rows:
        """Return what :meth:`tree` found last for a name; nothing where it was not asked before."""
        columns, contents = self._found(name)
        return dict(zip(columns.paths, zip(array("I", columns.modes), contents, strict=True), strict=True))

    def _found(self, name: str) -> tuple[Columns, list[bytes]]:
        columns, contents = self._store.value(f"{_FILES} of {name}") or ((), [])
        return Columns(*columns), contents

    def _contents(self, tree: Tree, name: str) -> bytes:
        """Return the digests of a tree's files in its order; only what has changed is read."""
        (before, known), started = self._found(name), time.time_ns()
        now = Columns.of(tree)
        same = now.same_in(before)
        contents = [known[at] if at >= 0 else b"" for at in same]
        changed = [number for number, at in enumerate(same) if at < 0]
        files = [number for number in changed if stat.S_ISREG(tree.entries[number].mode)]
        for number in changed:
            contents[number] = tree.entries[number].target
        for number, digest in zip(files, file_digests.of([tree.entries[n] for n in files]), strict=True):
            contents[number] = digest
        settled = now.settled(tree, files, started)
        if (settled, contents) != (before, known):
            self._store.keep(f"{_FILES} of {name}", (tuple(settled), contents))
        return b"".join(compress(contents, [stat.S_ISREG(mode) for mode in array("I", now.modes)]))


def changed_paths(before: Rows, after: Rows) -> list[str]:
    """Return the paths that differ between two trees: in being there, in mode or in content."""
    paths = sorted(before.keys() | after.keys())
    return [os.fsdecode(path) for path in paths if before.get(path) != after.get(path)]
