"""Disks that are brought up to date: what has not changed since the earlier build is not read again."""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.cache.incremental import Change
from mystikos_tool.cache.store import Store
from mystikos_tool.io import fingerprint
from mystikos_tool.root.disk import writer
from mystikos_tool.root.disk.nodes import Node, described, nodes_of
from mystikos_tool.root.disk.patching import Layout
from mystikos_tool.root.tree import Entry, Tree

_SIZE, _FINGERPRINT = attrgetter("size"), attrgetter("fingerprint")
_FEW = 64  # changed files, of which each is looked up on the disk


class _Known(NamedTuple):
    """What is known of a disk that was written: its file's fingerprint, and of what it was made.

    ``shape`` is a digest of all but the files' contents, ``changed_by`` the name of the change. Of
    each entry there is the path, the size on the disk, and the fingerprint of what it was made of,
    None where that was racy.
    """

    disk: bytes
    shape: bytes
    changed_by: str
    paths: list[bytes]
    sizes: list[int]
    fingerprints: list[bytes | None]
    layout: tuple[int, bytes, bytes]


_NOTHING = _Known(b"", b"", "", [], [], [], (0, b"", b""))


class IncrementalDisks:
    """Writes disks and remembers in ``store`` what the files on them were made of."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(
        self,
        trees: Sequence[Tree],
        tree: Tree,
        target: Path,
        options: writer.Options,
        *,
        preserve_owners: bool = False,
        change: Change | None = None,
    ) -> tuple[writer.Disk, list[Entry]]:
        """Write a tree as `writer.write` does, into the earlier disk where there is one.

        Return the disk and the entries whose content the earlier one had not.

        ``tree`` is made of ``trees``: files that are links to one are so on the disk where they come
        of the same tree. Every file is changed by ``change`` first, but for those whose content the
        earlier disk has already.
        """
        name = f"disk {target.absolute()}"
        job = _Job(trees, tree, target, options, preserve_owners, change)
        known, started = self._known(name, target, job.changed_by), time.time_ns()
        shape = job.shape()
        done = job.rewrite(known) if known.shape == shape else None
        made, layout, sizes, read = done or job.write(known)
        fingerprints: list[bytes | None] = list(map(_FINGERPRINT, tree.entries))
        racy = fingerprint.racy([tree.entries[number].fingerprint for number in read], started)
        for number in read:
            if tree.entries[number].fingerprint in racy:
                fingerprints[number] = None
        now = fingerprint.of(target.stat())
        value = _Known(now, shape, job.changed_by, tree.paths, sizes, fingerprints, (*layout,))
        self._store.keep(name, tuple(value))
        return made, [tree.entries[number] for number in read]

    def _known(self, name: str, target: Path, changed_by: str) -> _Known:
        """Return what is known of a disk; nothing where it is not the one that was written."""
        value = self._store.value(name)
        if value and len(value) == len(_NOTHING):
            known = _Known(*value)
            if known.changed_by == changed_by and fingerprint.is_of(known.disk, target):
                return known
        return _NOTHING


# A disk that was written, its layout, the size of each entry on it, and the numbers of those that were read.
_Done = tuple[writer.Disk, Layout, list[int], list[int]]


class _Job(NamedTuple):
    """A disk to be written, see `IncrementalDisks.write`."""

    trees: Sequence[Tree]
    tree: Tree
    target: Path
    options: writer.Options
    preserve_owners: bool
    change: Change | None

    @property
    def changed_by(self) -> str:
        return self.change.name if self.change else ""

    def shape(self) -> bytes:
        """Return 32 bytes that change when anything may be another on the disk but its files' contents."""
        hashed = hashlib.sha256(b"%d " % writer.FORMAT + self.tree.described())
        hashed.update(described(self.tree, owners=self.preserve_owners))
        hashed.update(repr(replace(self.options, encryption=None, signer=None)).encode())
        if len(self.trees) > 1:
            numbers = _numbers(self.trees)
            hashed.update(repr([numbers[path] for path in self.tree.paths]).encode())
        return hashed.digest()

    def rewrite(self, known: _Known) -> _Done | None:
        """Write a few changed files into the earlier disk, all else of which is as it was, if that can be."""
        pairs = enumerate(zip(self.tree.entries, known.fingerprints, strict=True))
        changed = [n for n, (entry, was) in pairs if entry.fingerprint != was and stat.S_ISREG(entry.mode)]
        if len(changed) > _FEW:
            return None
        entries = self._changed(self.tree.entries[number] for number in changed)
        layout = Layout(*known.layout)
        inodes = layout.numbers()
        nodes = zip([inodes[number] for number in changed], self._nodes(entries), strict=True)
        made = writer.rewrite(list(nodes), self.target, layout, self.options)
        sizes = list(known.sizes)
        for number, entry in zip(changed, entries, strict=True):
            sizes[number] = entry.size
        return (made, layout, sizes, changed) if made else None

    def write(self, known: _Known) -> _Done:
        """Write the disk, with what of the earlier one can be kept."""
        rows = zip(known.paths, known.fingerprints, known.sizes, strict=True)
        now = {entry.path: entry.fingerprint for entry in self.tree.entries}
        same = {path: size for path, was, size in rows if was and was == now.get(path)}
        entries = self._changed(self.tree.entries, same)
        nodes = _linked(self._nodes(entries), self.trees)
        if self.change:
            nodes = [
                _changed_when_read(node, entry, self.change) if node.path in same else node
                for node, entry in zip(nodes, self.tree.entries, strict=True)
            ]
        made, layout = writer.lay_out(nodes, self.target, self.options, same.keys())
        read = [number for number, path in enumerate(self.tree.paths) if path not in same]
        return made, layout, list(map(_SIZE, entries)), read

    def _nodes(self, entries: Sequence[Entry]) -> list[Node]:
        tree = Tree(tuple(entries), (), self.tree.as_of)
        return nodes_of(tree, preserve_owners=self.preserve_owners)

    def _changed(self, entries: Iterable[Entry], same: dict[bytes, int] | None = None) -> list[Entry]:
        """Return entries as they go onto the disk; of what it has already, ``same`` tells the sizes."""
        if not self.change:
            return list(entries)
        known = same or {}
        return [
            entry._replace(size=known[entry.path]) if entry.path in known else self.change(entry)
            for entry in entries
        ]


def _changed_when_read(node: Node, entry: Entry, change: Change) -> Node:
    """Return a node whose content is on the disk already, and is made again only if it is read after all."""
    return node._replace(chunks=lambda: change(entry).chunks())


def _numbers(trees: Sequence[Tree]) -> dict[bytes, int]:
    """Return of which tree each path is."""
    return {path: number for number, tree in enumerate(trees) for path in tree.paths}


def _linked(nodes: Sequence[Node], trees: Sequence[Tree]) -> list[Node]:
    """Return nodes that are links to one file only where they come of one tree."""
    numbers = _numbers(trees)
    return [
        node._replace(identity=b"%d " % numbers[node.path] + node.identity) if node.identity else node
        for node in nodes
    ]
