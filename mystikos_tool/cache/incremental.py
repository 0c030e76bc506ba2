"""Archives that are made out of the ones before, where most of the files have not changed since."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from mystikos_tool.cache.store import Store
from mystikos_tool.formats.cpio import Member
from mystikos_tool.io import fingerprint
from mystikos_tool.io.content import FileContent
from mystikos_tool.root import archive
from mystikos_tool.root.archive import Archive, Earlier
from mystikos_tool.root.tree import Entry, Tree

# Small archives are packed anew sooner than they are looked up.
_WORTH_REMEMBERING = 256

# A member's path, mode, offset and size, and the fingerprint of what it was made of unless that was racy.
_Row = tuple[bytes, int, int, int, bytes | None]


class Change(Protocol):
    """What becomes of each file on its way into an archive; another ``name`` stands for other bytes."""

    @property
    def name(self) -> str:
        """What tells it from other changes."""

    def __call__(self, entry: Entry, /) -> Entry:
        """Return a file as it goes into the archive."""


class IncrementalArchives:
    """Writes archives and remembers in ``store`` what is in the large ones."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pack(
        self, tree: Tree, target: Path, change: Change | None = None
    ) -> tuple[Archive, Collection[bytes]]:
        """Write a tree as :func:`archive.write` does, out of an earlier archive where there is one.

        Every file is changed by ``change`` first, but for those whose data are in the earlier archive
        already. Return what is in the archive, and the paths whose data were taken from the earlier one.
        """
        name_of_change = change.name if change else ""
        known = {row[0]: row for row in self._rows(target, name_of_change)}
        started = time.time_ns()
        same = {}
        for entry in tree.entries:
            row = known.get(entry.path)
            if row and row[4] == entry.fingerprint and row[1] == entry.mode:
                same[entry.path] = row[2]
        if change:
            entries = (
                entry._replace(size=known[entry.path][3]) if entry.path in same else change(entry)
                for entry in tree.entries
            )
            tree = Tree(tuple(entries), tree.left_out, tree.as_of)
        written = archive.write(tree, target, Earlier(target, same))
        name = _name(target)
        if len(tree.entries) < _WORTH_REMEMBERING:
            self._store.forget(name)
            return written, same.keys()
        rows: list[_Row] = []
        for entry, (path, mode, offset, size) in zip(tree.entries, written.members, strict=True):
            racy = path not in same and fingerprint.is_racy(entry.fingerprint, started)
            rows.append((path, mode, offset, size, None if racy else entry.fingerprint))
        self._store.keep(name, (fingerprint.of(target.stat()), rows, name_of_change))
        return written, same.keys()

    def read(self, path: Path) -> Archive:
        """Return what is in an archive; raise UserError as :func:`archive.read` does.

        One that :meth:`pack` wrote and nobody changed since is not read again.
        """
        rows = self._rows(path)
        if not rows:
            return archive.read(path)
        members = tuple(Member(name, mode, offset, size) for name, mode, offset, size, _ in rows)
        return Archive(str(path), FileContent.of(path), members)

    def _rows(self, path: Path, change: str | None = None) -> list[_Row]:
        """Return what is known of an archive; nothing where it is not the one that was written.

        With ``change``, nothing either where its files were not changed in the same way.
        """
        known = self._store.value(_name(path))
        with suppress(OSError):
            changed_alike = known and (change is None or known[2:] == (change,))
            if changed_alike and known[0] == fingerprint.of(path.stat()):
                rows: list[_Row] = known[1]
                return rows
        return []


def _name(path: Path) -> str:
    return f"archive {path.absolute()}"
