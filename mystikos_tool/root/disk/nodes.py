"""What a file system is made of: a tree's entries, with what a disk keeps and an archive does not."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mystikos_tool.root.tree import Tree


class Node(NamedTuple):
    """A directory, file or symbolic link of a disk.

    ``size`` counts a file's bytes, ``owner`` is user and group, ``name`` what messages call it.
    Files of the same ``identity``, unless it is empty, are links to one file. ``chunks`` yields a
    file's content in pieces, as often as it is called.
    """

    path: bytes
    mode: int
    size: int
    target: bytes
    owner: tuple[int, int]
    identity: bytes
    name: str
    chunks: Callable[[], Iterator[bytes | memoryview]]


def nodes_of(tree: Tree, *, preserve_owners: bool = False) -> list[Node]:
    """Return a tree's entries as nodes; they belong to root unless ``preserve_owners``."""
    return [
        Node(
            entry.path,
            entry.mode,
            entry.size if stat.S_ISREG(entry.mode) else 0,
            entry.target,
            entry.contents.owner(entry) if preserve_owners else (0, 0),
            entry.contents.identity(entry) if stat.S_ISREG(entry.mode) else b"",
            entry.name,
            entry.chunks,
        )
        for entry in tree.entries
    ]


def described(tree: Tree, *, owners: bool) -> bytes:
    """Return what a disk shows of a tree and an archive does not: links to one file and, if asked, owners."""
    identities = [
        entry.contents.identity(entry) if stat.S_ISREG(entry.mode) else b"" for entry in tree.entries
    ]
    times = Counter(filter(None, identities))
    links: dict[bytes, list[int]] = {}
    if len(times) < times.total():
        for number, identity in enumerate(identities):
            if times[identity] > 1:
                links.setdefault(identity, []).append(number)
    linked = list(links.values())
    belongs = [entry.contents.owner(entry) for entry in tree.entries] if owners else []
    return repr((linked, belongs)).encode()


def made_directory(path: bytes, mode: int) -> Node:
    """Return a directory that no source has."""
    return Node(path, stat.S_IFDIR | mode, 0, b"", (0, 0), b"", "/" + os.fsdecode(path), lambda: iter(()))
