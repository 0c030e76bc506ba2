"""Archives that are made out of the ones before, where most of the files have not changed since."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.cache.store import Store
from mystikos_tool.formats import cpio
from mystikos_tool.io import fingerprint
from mystikos_tool.root.tree import Tree

# Small archives are packed anew sooner than they are looked up.
_WORTH_REMEMBERING = 256


class _Record(NamedTuple):
    """An archive that was written: its own stamp, and what is known of its members, a column for each.

    ``stamps`` are those of the files that they were made of, empty where not settled; the others
    are arrays of numbers: modes, and sizes and offsets of the data in bytes.
    """

    stamp: bytes = b""
    paths: Sequence[bytes] = ()
    stamps: Sequence[bytes] = ()
    modes: bytes = b""
    sizes: bytes = b""
    offsets: bytes = b""

    def columns(self) -> cpio.Columns:
        """What is in the archive."""
        modes, offsets, sizes = array("I", self.modes), array("Q", self.offsets), array("Q", self.sizes)
        return cpio.Columns(list(self.paths), modes.tolist(), offsets.tolist(), sizes.tolist())


class Archives:
    """Writes archives and remembers in ``store`` what is in the large ones."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pack(self, tree: Tree, target: Path) -> None:
        """Write a tree's archive as :func:`cpio.write` does, out of an earlier one where there is one."""
        name, record, started = _name(target), self._record(target), time.time_ns()
        places = fingerprint.known(tree.paths, tree.stamps, record.paths, record.stamps)
        archive = cpio.write(tree, target, cpio.Earlier(target, _offsets(tree, places, record)))
        if len(tree.entries) >= _WORTH_REMEMBERING:
            believed = fingerprint.believed(tree.stamps, places, started)
            self._store.keep(name, tuple(_recorded(archive, believed)))
        else:
            self._store.forget(name)

    def read(self, path: Path) -> cpio.Archive:
        """Return what is in an archive; raise UserError as :func:`cpio.read` does.

        One that :meth:`pack` wrote and nobody changed since is not read again.
        """
        record = self._record(path)
        return cpio.Archive(path, record.columns()) if record.stamp else cpio.read(path)

    def _record(self, path: Path) -> _Record:
        """Return what is known of an archive; nothing where it is not the one that was written."""
        known = self._store.value(_name(path))
        with suppress(OSError):
            if known and _Record(*known).stamp == fingerprint.of(path.stat()):
                return _Record(*known)
        return _Record()


def _name(path: Path) -> str:
    return f"archive {path.absolute()}"


def _offsets(tree: Tree, places: list[int], record: _Record) -> list[int | None]:
    """Return where in an archive the data are of what has not changed since; None for the rest."""
    _, modes, offsets, _ = record.columns()
    return [
        offsets[at] if at >= 0 and modes[at] == mode else None
        for at, mode in zip(places, tree.modes, strict=True)
    ]


def _recorded(archive: cpio.Archive, believed: list[bytes]) -> _Record:
    paths, modes, offsets, sizes = archive.columns
    return _Record(
        fingerprint.of(archive.path.stat()),
        paths,
        believed,
        array("I", modes).tobytes(),
        array("Q", sizes).tobytes(),
        array("Q", offsets).tobytes(),
    )
