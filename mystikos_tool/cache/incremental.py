"""Archives that are made out of the ones before, where most of the files have not changed since."""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import Collection, Sequence
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

from mystikos_tool.cache.columns import Columns
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

_SIZE, _ORIGIN, _OFFSET = map(attrgetter, ("size", "origin", "offset"))


class _Known(NamedTuple):
    """What is known of an archive: its fingerprint, what its members were made of, where they are in it."""

    fingerprint: bytes = b""
    columns: Columns = Columns()
    offsets: array[int] = array("Q")
    sizes: array[int] = array("Q")


class Change(Protocol):
    """What becomes of each file on its way into an archive; another ``name`` stands for other bytes."""

    @property
    def name(self) -> str:
        """What tells it from other changes."""

    def __call__(self, entry: Entry, /) -> Entry:
        """Return a file as it goes into the archive."""


class Rewritten(NamedTuple):
    """An archive written into itself: its fingerprints, and offset and size of what ``changed`` in it."""

    before: bytes
    after: bytes
    changed: list[tuple[int, int]]


class _Packed:
    """What this process has packed of a tree: fingerprint, path and beginning. Who packs it has the lock."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.archive: tuple[bytes, Path, int] | None = None


_packed: dict[bytes, _Packed] = {}

# What this process wrote and has not asked for since: the stage that measures does, right after it.
_written: dict[str, tuple[bytes, Archive]] = {}

# What this process has written into archives, by name.
_rewritten: dict[str, Rewritten] = {}


class IncrementalArchives:
    """Writes archives and remembers in ``store`` what is in the large ones."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pack(
        self, tree: Tree, target: Path, change: Change | None = None, *, alone: bool = False
    ) -> tuple[Archive, Collection[bytes]]:
        """Write a tree as :func:`archive.write` does, out of an earlier archive where there is one.

        Every file is changed by ``change`` first, but for those whose data are in the earlier one already. A
        tree that this process has packed to another place, or packs in another thread, is copied from there;
        with ``alone`` it goes to no other. Return what is in it, and the paths whose data were there earlier.
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
        known, started, columns = self._known(target, name_of_change), time.time_ns(), Columns.of(tree)
        before, same = known.fingerprint, columns.same_in(known.columns)
        if change:
            entries = (
                entry._replace(size=known.sizes[at]) if at >= 0 else change(entry)
                for entry, at in zip(tree.entries, same, strict=True)
            )
            tree = Tree(tuple(entries), tree.left_out, tree.as_of)
        changed = [number for number, at in enumerate(same) if at < 0]
        unchanged = {path: known.offsets[at] for path, at in zip(tree.paths, same, strict=True) if at >= 0}
        earlier, rewritten = Earlier(target, unchanged), None
        if packed.archive and packed.archive[1] != target and fingerprint.is_of(*packed.archive[:2]):
            _, path, started = packed.archive
            earlier = Earlier(path, {member.path: member.offset for member in tree.members})
        elif (
            before
            and not fingerprint.is_racy(before, started)
            and _is_in_place(tree, columns, changed, known)
        ):
            rewritten = archive.rewrite(tree, changed, target, before)
        written = rewritten or archive.write(tree, target, earlier)
        now = fingerprint.of(target.stat())
        if rewritten:
            places = [(tree.members[number].offset, tree.members[number].size) for number in changed]
            _rewritten[_name(target)] = Rewritten(before, now, places)
        packed.archive = (now, target, started)
        _written[_name(target)] = (now, written)
        if len(tree.entries) < _WORTH_REMEMBERING:
            self._store.forget(_name(target))
        else:
            settled = tuple(columns.settled(tree, changed, started))
            columns_of_members = (array("Q", map(each, tree.members)).tobytes() for each in (_OFFSET, _SIZE))
            self._store.keep(_name(target), (now, settled, *columns_of_members, name_of_change))
        return written, unchanged.keys()

    def read(self, path: Path) -> Archive:
        """Return what is in an archive as :func:`archive.read`; what :meth:`pack` wrote last is not read."""
        written = _written.pop(_name(path), None)
        if written and fingerprint.is_of(written[0], path):
            return written[1]
        known = self._known(path)
        if not known.fingerprint:
            return archive.read(path)
        modes = array("I", known.columns.modes)
        members = map(Member, known.columns.paths, modes, known.offsets, known.sizes)
        return Archive(str(path), FileContent.of(path), tuple(members))

    def _known(self, path: Path, change: str | None = None) -> _Known:
        """Return what is known of an archive; nothing of another one, or of one with another ``change``."""
        value = self._store.value(_name(path))
        if not (value and change in (None, value[-1]) and fingerprint.is_of(value[0], path)):
            return _Known()
        version, columns, offsets, sizes, _ = value
        return _Known(version, Columns(*columns), array("Q", offsets), array("Q", sizes))


def rewritten(path: Path) -> Rewritten | None:
    """Return what this process wrote last into an archive; None where it did not, or another one is there."""
    last = _rewritten.get(_name(path))
    return last if last and fingerprint.is_of(last.after, path) else None


def _name(path: Path) -> str:
    return f"archive {path.absolute()}"


def _is_in_place(tree: Tree, columns: Columns, changed: Sequence[int], known: _Known) -> bool:
    """Tell whether all of a tree is where it belongs in an archive, but for the content of a little."""
    sizes = [tree.entries[number].size for number in changed]
    return (
        columns.paths_and_modes == known.columns.paths_and_modes
        and sum(sizes) <= _MOST_REWRITTEN
        and all(known.sizes[number] == size for number, size in zip(changed, sizes, strict=True))
    )


def _identity(tree: Tree) -> bytes:
    """Return bytes that two trees share only where the same is read to pack them."""
    sizes = array("Q", map(_SIZE, tree.entries)).tobytes()
    return hashlib.sha256(tree.fingerprint() + sizes + b"\0".join(map(_ORIGIN, tree.entries))).digest()
