"""Archives that are made out of the ones before, where most of the files have not changed since."""

from __future__ import annotations

import time
from array import array
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mystikos_tool import cpio, stamps
from mystikos_tool.appdir import Tree
from mystikos_tool.store import Store

# Small archives are packed anew sooner than they are looked up.
_WORTH_REMEMBERING = 256


class _Record(NamedTuple):
    """An archive that was written: its own stamp, and what is known of its members, a column for each.

    ``stamps`` are those of the files that they were made of, empty where not settled; the others
    are arrays of numbers: modes, and sizes and offsets of the data in bytes.
    """

    stamp: bytes
    paths: list[bytes]
    stamps: list[bytes]
    modes: bytes
    sizes: bytes
    offsets: bytes

    def columns(self) -> cpio.Columns:
        """What is in the archive."""
        modes, offsets, sizes = array("I", self.modes), array("Q", self.offsets), array("Q", self.sizes)
        return cpio.Columns(self.paths, modes.tolist(), offsets.tolist(), sizes.tolist())


class Archives:
    """Writes archives and remembers in ``store`` what is in the large ones."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pack(self, tree: Tree, target: Path) -> None:
        """Write a tree's archive as :func:`cpio.write` does, out of an earlier one where there is one."""
        name = _name(target)
        record = self._record(target)
        started = time.time_ns()
        archive = cpio.write(tree, target, _earlier(tree, target, record) if record else None)
        if len(tree.entries) >= _WORTH_REMEMBERING:
            self._store.keep(name, tuple(_recorded(tree, archive, started)))
        else:
            self._store.forget(name)

    def read(self, path: Path) -> cpio.Archive:
        """Return what is in an archive; raise UserError as :func:`cpio.read` does.

        One that :meth:`pack` wrote and nobody changed since is not read again.
        """
        record = self._record(path)
        if record is None:
            return cpio.read(path)
        return cpio.Archive(path, record.columns())

    def _record(self, path: Path) -> _Record | None:
        """Return what is known of an archive; None where it is not the one that was written."""
        known = self._store.value(_name(path))
        with suppress(OSError):
            if known and _Record(*known).stamp == stamps.of(path.stat()):
                return _Record(*known)
        return None


def _name(path: Path) -> str:
    return f"archive {path.absolute()}"


def _earlier(tree: Tree, target: Path, record: _Record) -> cpio.Earlier:
    """Return what of an archive can be used again."""
    places = stamps.known(tree.paths, tree.stamps, record.paths, record.stamps)
    _, modes, offsets, _ = record.columns()
    return cpio.Earlier(
        target,
        [
            offsets[at] if at >= 0 and modes[at] == mode else None
            for at, mode in zip(places, tree.modes, strict=True)
        ],
    )


def _recorded(tree: Tree, archive: cpio.Archive, started: int) -> _Record:
    settled = stamps.settled(tree.stamps, started)
    paths, modes, offsets, sizes = archive.columns
    return _Record(
        stamps.of(archive.path.stat()),
        paths,
        [stamp if old else b"" for stamp, old in zip(tree.stamps, settled, strict=True)],
        array("I", modes).tobytes(),
        array("Q", sizes).tobytes(),
        array("Q", offsets).tobytes(),
    )
