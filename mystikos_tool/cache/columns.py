"""What is remembered of a tree's entries, in columns: those of 20,000 entries are compared at once."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

from mystikos_tool.io import fingerprint
from mystikos_tool.root.tree import Tree

_MODE, _FINGERPRINT = map(attrgetter, ("mode", "fingerprint"))


class Columns(NamedTuple):
    """Paths with a NUL between two, modes of 4 bytes, and fingerprints, zero where they were racy."""

    names: bytes = b""
    modes: bytes = b""
    fingerprints: bytes = b""

    @classmethod
    def of(cls, tree: Tree) -> Columns:
        """Return the columns of a tree."""
        modes = array("I", map(_MODE, tree.entries)).tobytes()
        return cls(b"\0".join(tree.paths), modes, b"".join(map(_FINGERPRINT, tree.entries)))

    @property
    def paths_and_modes(self) -> tuple[bytes, bytes]:
        """What has to be equal for entries to be at the same numbers."""
        return self.names, self.modes

    @property
    def paths(self) -> list[bytes]:
        """The paths."""
        return self.names.split(b"\0") if self.modes else []

    @property
    def rows(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Path, mode and fingerprint of each entry."""
        return zip(self.paths, array("I", self.modes), fingerprint.split(self.fingerprints), strict=True)

    def same_in(self, earlier: Columns) -> list[int]:
        """Return, for each entry, its number among earlier ones if it is the same there, else -1."""
        if self.paths_and_modes == earlier.paths_and_modes:
            same = list(range(len(self.fingerprints) // fingerprint.SIZE))
            for number in fingerprint.different(earlier.fingerprints, self.fingerprints):
                same[number] = -1
            return same
        there = {row: number for number, row in enumerate(earlier.rows)}
        return [there.get(row, -1) for row in self.rows]

    def settled(self, tree: Tree, numbers: list[int], started: int) -> Columns:
        """Return the columns with zeros for those of some fingerprints that were racy at ``started``."""
        racy = fingerprint.racy([tree.entries[number].fingerprint for number in numbers], started)
        if not racy:
            return self
        fingerprints = bytearray(self.fingerprints)
        for number in numbers:
            if tree.entries[number].fingerprint in racy:
                at = number * fingerprint.SIZE
                fingerprints[at : at + fingerprint.SIZE] = bytes(fingerprint.SIZE)
        return self._replace(fingerprints=bytes(fingerprints))
