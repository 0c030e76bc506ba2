"""Disks that are brought up to date: what has not changed since the earlier build is not read again."""

from __future__ import annotations

import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mystikos_tool.cache.incremental import Change
from mystikos_tool.cache.store import Store
from mystikos_tool.io import fingerprint
from mystikos_tool.root.disk import writer
from mystikos_tool.root.disk.nodes import Node, nodes_of
from mystikos_tool.root.tree import Entry, Tree

# Of a file that is on the disk: its size there, and the fingerprint of what it was made of unless racy.
_Row = tuple[int, bytes | None]


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
    ) -> writer.Disk:
        """Write a tree as `writer.write` does, into the earlier disk where there is one.

        ``tree`` is made of ``trees``: files that are links to one are so on the disk where they come
        of the same tree. Every file is changed by ``change`` first, but for those whose content the
        earlier disk has already.
        """
        name = f"disk {target.absolute()}"
        changed_by = change.name if change else ""
        known = self._known(name, target, changed_by)
        started = time.time_ns()
        same = {
            entry.path: row[0]
            for entry in tree.entries
            if (row := known.get(entry.path)) and row[1] == entry.fingerprint
        }
        made_of = _changed(tree, change, same) if change else tree
        nodes = nodes_of(made_of, preserve_owners=preserve_owners)
        nodes = _linked(nodes, trees)
        if change:
            nodes = [
                _changed_when_read(node, entry, change) if node.path in same else node
                for node, entry in zip(nodes, tree.entries, strict=True)
            ]
        made = writer.write(nodes, target, options, same.keys())
        rows = {
            entry.path: (entry.size, None if _is_racy(entry, same, started) else entry.fingerprint)
            for entry in made_of.entries
            if stat.S_ISREG(entry.mode)
        }
        self._store.keep(name, (fingerprint.of(target.stat()), rows, changed_by))
        return made

    def _known(self, name: str, target: Path, changed_by: str) -> dict[bytes, _Row]:
        """Return what is known of a disk; nothing where it is not the one that was written."""
        known = self._store.value(name)
        with suppress(OSError):
            if known and known[2] == changed_by and known[0] == fingerprint.of(target.stat()):
                rows: dict[bytes, _Row] = known[1]
                return rows
        return {}


def _changed(tree: Tree, change: Change, same: dict[bytes, int]) -> Tree:
    entries = (
        entry._replace(size=same[entry.path]) if entry.path in same else change(entry)
        for entry in tree.entries
    )
    return Tree(tuple(entries), tree.left_out, tree.as_of)


def _changed_when_read(node: Node, entry: Entry, change: Change) -> Node:
    """Return a node whose content is on the disk already, and is made again only if it is read after all."""
    return node._replace(chunks=lambda: change(entry).chunks())


def _linked(nodes: Sequence[Node], trees: Sequence[Tree]) -> list[Node]:
    """Return nodes that are links to one file only where they come of one tree."""
    numbers = {entry.path: b"%d " % number for number, tree in enumerate(trees) for entry in tree.entries}
    return [
        node._replace(identity=numbers[node.path] + node.identity) if node.identity else node
        for node in nodes
    ]


def _is_racy(entry: Entry, same: dict[bytes, int], started: int) -> bool:
    return entry.path not in same and fingerprint.is_racy(entry.fingerprint, started)
