"""Archives that are made out of the ones before, where most of the files have not changed since."""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import Collection, Sequence
from operator import attrgetter
from pathlib import Path
from threading import Lock
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
_MOST_REWRITTEN = 1 << 24  # bytes that are held in memory to be written into an archive

# What is known of an archive's members, by path: mode, offset and size, and the fingerprint of what it was
# made of, None where that was racy.
_Rows = dict[bytes, tuple[int, int, int, "bytes | None"]]
_SIZE, _ORIGIN = map(attrgetter, ("size", "origin"))


class Change(Protocol):
    """What becomes of each file on its way into an archive; another ``name`` stands for other bytes."""

    @property
    def name(self) -> str:
        """What tells it from other changes."""

    def __call__(self, entry: Entry, /) -> Entry:
        """Return a file as it goes into the archive."""


class _Packed:
    """What was packed of one tree in this process: the archive's fingerprint and path, and when it was begun.

    Who packs the tree holds the lock; whoever comes meanwhile waits and copies.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.archive: tuple[bytes, Path, int] | None = None


_packed: dict[bytes, _Packed] = {}

# What this process wrote and has not asked for since: the stage that measures does, right after it.
_written: dict[str, tuple[bytes, Archive]] = {}


class IncrementalArchives:
    """Writes archives and remembers in ``store`` what is in the large ones."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pack(
        self, tree: Tree, target: Path, change: Change | None = None, *, alone: bool = False
    ) -> tuple[Archive, Collection[bytes]]:
        """Write a tree as :func:`archive.write` does, out of an earlier archive where there is one.

        Every file is changed by ``change`` first, but for those whose data are in the earlier archive
        already. A tree that this process has packed to another place, or packs in another thread, is
        copied from there; with ``alone`` it goes to no other place. Return what is in the archive, and
        the paths whose data are those of the earlier one.
        """
        packed = _Packed()
        if not alone:  # setdefault is one step for all threads
            packed = _packed.setdefault(_identity(tree) + (change.name.encode() if change else b""), packed)
        with packed.lock:
            return self._pack(tree, target, packed, change)

    def _pack(
        self, tree: Tree, target: Path, packed: _Packed, change: Change | None
    ) -> tuple[Archive, Collection[bytes]]:
        name_of_change = change.name if change else ""
        before, known = self._known(target, name_of_change)
        started = time.time_ns()
        same = _offsets(tree, known)
        if change:
            entries = (
                entry._replace(size=known[entry.path][2]) if entry.path in same else change(entry)
                for entry in tree.entries
            )
            tree = Tree(tuple(entries), tree.left_out, tree.as_of)
        changed = [number for number, path in enumerate(tree.paths) if path not in same]
        earlier, rewritten = Earlier(target, same), None
        if packed.archive and packed.archive[1] != target and fingerprint.is_of(*packed.archive[:2]):
            _, path, started = packed.archive
            earlier = Earlier(path, {member.path: member.offset for member in tree.members})
        elif before and not fingerprint.is_racy(before, started) and _is_in_place(tree, changed, known):
            rewritten = archive.rewrite(tree, changed, target, before)
        written = rewritten or archive.write(tree, target, earlier)
        now = fingerprint.of(target.stat())
        packed.archive = (now, target, started)
        _written[_name(target)] = (now, written)
        if len(tree.entries) < _WORTH_REMEMBERING:
            self._store.forget(_name(target))
        else:
            racy = fingerprint.racy([tree.entries[number].fingerprint for number in changed], started)
            numbers = changed if rewritten else range(len(tree.entries))
            rows = (known if rewritten else {}) | _rows_of(tree, numbers, racy)
            self._store.keep(_name(target), (now, rows, name_of_change))
        return written, same.keys()

    def read(self, path: Path) -> Archive:
        """Return what is in an archive; raise UserError as :func:`archive.read` does.

        One that :meth:`pack` wrote and nobody changed since is not read again.
        """
        written = _written.pop(_name(path), None)
        if written and fingerprint.is_of(written[0], path):
            return written[1]
        _, rows = self._known(path)
        if not rows:
            return archive.read(path)
        members = tuple(Member(name, mode, offset, size) for name, (mode, offset, size, _) in rows.items())
        return Archive(str(path), FileContent.of(path), members)

    def _known(self, path: Path, change: str | None = None) -> tuple[bytes, _Rows]:
        """Return an archive's fingerprint and what is known of it; nothing where another one was written.

        With ``change``, nothing either where its files were not changed in the same way.
        """
        value = self._store.value(_name(path))
        changed_alike = value and (change is None or value[2:] == (change,))
        return value[:2] if changed_alike and fingerprint.is_of(value[0], path) else (b"", {})


def _name(path: Path) -> str:
    return f"archive {path.absolute()}"


def _offsets(tree: Tree, known: _Rows) -> dict[bytes, int]:
    """Return where in an archive the data are of what has not changed since, by path."""
    same = {}
    for path, mode, _, _, current, _, _ in tree.entries:
        row = known.get(path)
        if row and row[3] == current and row[0] == mode:
            same[path] = row[1]
    return same


def _is_in_place(tree: Tree, changed: Sequence[int], known: _Rows) -> bool:
    """Tell whether all of a tree is where it belongs in an archive, but for the content of a little."""
    entries = [tree.entries[number] for number in changed]
    return (
        len(known) == len(tree.entries)
        and sum(entry.size for entry in entries) <= _MOST_REWRITTEN
        and all(known.get(entry.path, ())[0:3:2] == (entry.mode, entry.size) for entry in entries)
    )


def _rows_of(tree: Tree, numbers: Sequence[int], racy: Collection[bytes]) -> _Rows:
    """Return what is to be known of some members of an archive; ``racy`` are fingerprints that are not."""
    known = (tree.entries[number].fingerprint for number in numbers)
    members = (tree.members[number] for number in numbers)
    return {
        path: (mode, offset, size, None if each in racy else each)
        for each, (path, mode, offset, size) in zip(known, members, strict=True)
    }


def _identity(tree: Tree) -> bytes:
    """Return bytes that two trees share only where the same is read to pack them."""
    sizes = array("Q", map(_SIZE, tree.entries)).tobytes()
    return hashlib.sha256(tree.fingerprint() + sizes + b"\0".join(map(_ORIGIN, tree.entries))).digest()
