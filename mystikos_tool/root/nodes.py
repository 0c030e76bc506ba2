"""What a file system is made of: a tree's entries, with what a disk keeps and an archive does not.

This is the one place that knows where the content of a tree's files is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.io import fingerprint, progress
from mystikos_tool.root.tree import Entry, Tree

_CHUNK = 1 << 20
_IDENTITY = 16  # a stamp begins with device and inode


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
    chunks: Callable[[], Iterator[bytes]]


def nodes_of(tree: Tree, *, preserve_owners: bool = False) -> list[Node]:
    """Return a tree's entries as nodes; they belong to root unless ``preserve_owners``."""
    return [
        Node(
            entry.path,
            entry.mode,
            entry.size if stat.S_ISREG(entry.mode) else 0,
            entry.target,
            _owner(entry) if preserve_owners else (0, 0),
            entry.stamp[:_IDENTITY] if stat.S_ISREG(entry.mode) else b"",
            os.fsdecode(entry.origin),
            partial(_chunks, entry),
        )
        for entry in tree.entries
    ]


def made_directory(path: bytes, mode: int) -> Node:
    """Return a directory that no source has."""
    return Node(path, stat.S_IFDIR | mode, 0, b"", (0, 0), b"", "/" + os.fsdecode(path), lambda: iter(()))


def _owner(entry: Entry) -> tuple[int, int]:
    try:
        status = os.lstat(entry.origin)
    except OSError as error:
        raise _changed(entry) from error
    return status.st_uid, status.st_gid


def _chunks(entry: Entry) -> Iterator[bytes]:
    """Yield a file's content; raise UserError when it is not, or not to the end, what was scanned."""
    try:
        # What has become a FIFO since the scan must not be waited for.
        descriptor = os.open(entry.origin, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        where = os.fsdecode(entry.origin)
        raise UserError(where, "may not be read", "make it readable for the build") from error
    except OSError as error:
        raise _changed(entry) from error
    try:
        _check_version(entry, descriptor)
        left = entry.size
        # One byte more than there should be, to see that there is none.
        while data := os.read(descriptor, min(left + 1, _CHUNK)):
            left -= len(data)
            if left < 0:
                raise _changed(entry)
            progress.advance(len(data))
            yield data
        _check_version(entry, descriptor)
        if left:
            raise _changed(entry)
    finally:
        os.close(descriptor)


def _check_version(entry: Entry, descriptor: int) -> None:
    now = fingerprint.of(os.fstat(descriptor))
    if fingerprint.content_version(now) != fingerprint.content_version(entry.stamp):
        raise _changed(entry)


def _changed(entry: Entry) -> UserError:
    where = os.fsdecode(entry.origin)
    return UserError(where, "changed while it was read", "build again when nothing writes to it")
