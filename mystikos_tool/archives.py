"""Archives that are made out of the ones before, where most of the files have not changed since."""

from __future__ import annotations

import time
from array import array
from pathlib import Path
from typing import NamedTuple

from mystikos_tool import cpio, stamps
from mystikos_tool.appdir import Tree
from mystikos_tool.store import Store

_ARCHIVES = "archives"
# Small archives are packed anew sooner than they are looked up.
_WORTH_REMEMBERING = 256


class _Columns(NamedTuple):
    """What is known of an archive's members, a column for each.

    ``stamps`` are those of the files that they were made of, empty where not settled; the others
    are arrays of numbers: modes, and sizes and offsets of the data in bytes.
    """

    paths: list[bytes]
    stamps: list[bytes]
    modes: bytes
    sizes: bytes
    offsets: bytes


class Archives:
    """Writes archives and remembers in ``store`` what is in the large ones."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pack(self, tree: Tree, target: Path) -> None:
        """Write a tree's archive as :func:`cpio.write` does, out of an earlier one where there is one."""
        name = str(target.absolute())
        columns = self._columns(target)
        started = time.time_ns()
        archive = cpio.write(tree, target, _earlier(tree, target, columns) if columns else None)
        if len(tree.entries) >= _WORTH_REMEMBERING:
            self._store.keep(name, tuple(_columns(tree, archive, started)))
            self._store.change(_ARCHIVES, name, stamps.of(target.stat()))
        elif columns:
            self._store.keep(name, None)

    def read(self, path: Path) -> cpio.Archive:
        """Return what is in an archive; raise UserError as :func:`cpio.read` does.

        One that :meth:`pack` wrote and nobody changed since is not read again.
        """
        columns = self._columns(path)
        if columns is None:
            return cpio.read(path)
        return cpio.Archive(
            path,
            tuple(
                map(
                    cpio.Member,
                    columns.paths,
                    array("I", columns.modes),
                    array("Q", columns.offsets),
                    array("Q", columns.sizes),
                )
            ),
        )

    def _columns(self, path: Path) -> _Columns | None:
        """Return what is known of an archive; None where it is not the one that was written."""
        name = str(path.absolute())
        try:
            unchanged = stamps.of(path.stat()) == self._store.table(_ARCHIVES).get(name)
        except OSError:
            return None
        known = self._store.value(name) if unchanged else None
        return _Columns(*known) if known else None


def _earlier(tree: Tree, target: Path, columns: _Columns) -> cpio.Earlier:
    """Return what of an archive can be used again."""
    known = {
        path + stamp: (mode, offset)
        for path, stamp, mode, offset in zip(
            columns.paths,
            columns.stamps,
            array("I", columns.modes),
            array("Q", columns.offsets),
            strict=True,
        )
        if stamp
    }
    found = ((entry, known.get(entry.path + entry.stamp)) for entry in tree.entries)
    return cpio.Earlier(
        target, {entry.path: place[1] for entry, place in found if place and place[0] == entry.mode}
    )


def _columns(tree: Tree, archive: cpio.Archive, started: int) -> _Columns:
    taken = [entry.stamp for entry in tree.entries]
    return _Columns(
        [member.path for member in archive.members],
        [stamp if old else b"" for stamp, old in zip(taken, stamps.settled(taken, started), strict=True)],
        array("I", [member.mode for member in archive.members]).tobytes(),
        array("Q", [member.size for member in archive.members]).tobytes(),
        array("Q", [member.offset for member in archive.members]).tobytes(),
    )
