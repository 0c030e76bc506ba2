"""Content digests that cost a stat where nothing changed.

A digest is remembered together with the file's stamp. It is used again only for the same stamp,
and only when the stamp was old enough at the time of reading that a later change must have altered
it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from array import array
from itertools import compress
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.cache.store import Store
from mystikos_tool.errors import UserError
from mystikos_tool.io import fingerprint
from mystikos_tool.root.tree import Entry, Tree

_FILES = "files"
_TREES = "trees"
_CHUNK = 1 << 20


class _TreeRecord(NamedTuple):
    """A tree as it was last digested.

    ``walk`` is the digest of all stamps; ``settled`` says that every stamp was old enough.
    """

    walk: bytes
    digest: bytes
    settled: bool


class Contents(NamedTuple):
    """The digests of a tree's files by path and stamp, a column for each.

    The stamp is empty where it was not settled, the digest where there is no file.
    """

    paths: list[bytes]
    stamps: list[bytes]
    digests: list[bytes]


class Digests:
    """SHA-256 digests of files and trees, remembered in ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def file(self, path: Path) -> bytes:
        """Return the digest of a file's content, 32 bytes; OSError where it can't be read."""
        name = os.fsencode(path)
        stamp = fingerprint.of(path.stat())
        known = self._store.table(_FILES).get(name)
        if known and known[0] == stamp:
            return bytes(known[1])
        digest, settled = _read(name, stamp)
        if settled:
            self._store.change(_FILES, name, (stamp, digest))
        return digest

    def tree(self, tree: Tree, name: str) -> bytes:
        """Return the digest of a tree: names, types, modes, link targets and content, 32 bytes.

        ``name`` tells trees apart in the store. Raises UserError for a file that can't be read.
        """
        described = _described(tree)
        walk = hashlib.sha256(described + b"".join(tree.stamps)).digest()
        record = self._store.table(_TREES).get(name)
        if record and _TreeRecord(*record).settled and _TreeRecord(*record).walk == walk:
            return _TreeRecord(*record).digest
        files = f"{_FILES} of {name}"
        known = Contents(*self._store.value(files) or ([], [], []))
        contents = _contents(tree, known)
        digest = hashlib.sha256(described + b"".join(contents.digests)).digest()
        self._store.keep(files, tuple(contents))
        self._store.change(_TREES, name, tuple(_TreeRecord(walk, digest, all(contents.stamps))))
        return digest

    def contents(self, name: str) -> Contents:
        """Return what :meth:`tree` found last for a name; nothing where it was not asked before."""
        return Contents(*self._store.value(f"{_FILES} of {name}") or ([], [], []))


def changed_paths(before: Contents, after: Contents) -> list[str]:
    """Return the paths of files and links that one tree has and the other has not, or has otherwise.

    Where nothing is known of the tree before, nothing is known to have changed.
    """
    old = _by_path(before)
    new = _by_path(after)
    differ = [path for path in old.keys() | new.keys() if _differs(old.get(path), new.get(path))]
    return [os.fsdecode(path) for path in sorted(differ)] if old else []


def _by_path(contents: Contents) -> dict[bytes, tuple[bytes, bytes]]:
    return {path: (stamp, digest) for path, stamp, digest in zip(*contents, strict=True)}


def _differs(old: tuple[bytes, bytes] | None, new: tuple[bytes, bytes] | None) -> bool:
    """Tell whether content, type or permissions differ; what a stamp not settled says is not known."""
    if old is None or new is None:
        return True
    (old_stamp, old_digest), (new_stamp, new_digest) = old, new
    if old_digest != new_digest:
        return True
    if not (old_stamp and new_stamp):
        return False
    mode = fingerprint.mode(new_stamp)
    if not stat.S_ISLNK(mode):
        return fingerprint.mode(old_stamp) != mode
    # A link's target is not remembered; a link that leads elsewhere was made at another time.
    return fingerprint.content_version(old_stamp)[-2:] != fingerprint.content_version(new_stamp)[-2:]


def _described(tree: Tree) -> bytes:
    """Return what a tree is but for its files' contents; there is no NUL in paths and targets."""
    modes = array("I", tree.modes).tobytes()
    return b"%d\0" % len(tree.entries) + modes + b"\0".join([*tree.paths, *tree.targets])


def _contents(tree: Tree, known: Contents) -> Contents:
    """Return the digests of a tree's files; only what is not known is read."""
    places = fingerprint.known(tree.paths, tree.stamps, known.paths, known.stamps)
    believed = fingerprint.believed(tree.stamps, places, time.time_ns())
    digests = list(map([*known.digests, b""].__getitem__, places))  # none for those that are not found
    for at in compress(range(len(places)), tree.are_files):
        if not digests[at]:
            digests[at], settled = _read_entry(tree.entries[at])
            if not settled:
                believed[at] = b""
    return Contents(tree.paths, believed, digests)


def _read_entry(entry: Entry) -> tuple[bytes, bool]:
    try:
        return _read(entry.origin, entry.stamp)
    except OSError as error:
        where = os.fsdecode(entry.origin)
        raise UserError(where, error.strerror or "can't be read", "make it readable for the build") from error


def _read(path: bytes, stamp: bytes) -> tuple[bytes, bool]:
    """Return a file's digest and whether ``stamp`` may stand for it from now on."""
    started = time.time_ns()
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            digest.update(data)
        unchanged = fingerprint.of(os.fstat(file.fileno())) == stamp
    return digest.digest(), unchanged and fingerprint.is_settled(stamp, started)
