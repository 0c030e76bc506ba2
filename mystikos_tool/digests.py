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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mystikos_tool import stamps
from mystikos_tool.appdir import MODE, PATH, STAMP, TARGET, Entry, Tree
from mystikos_tool.errors import UserError
from mystikos_tool.store import Store

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


class _Contents(NamedTuple):
    """The contents of a tree's entries, a column for each: digests of files, targets of links.

    The stamp is empty where it was not settled.
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
        stamp = stamps.of(path.stat())
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
        walk = _walk_digest(tree)
        record = self._store.table(_TREES).get(name)
        if record and _TreeRecord(*record).settled and _TreeRecord(*record).walk == walk:
            return _TreeRecord(*record).digest
        files = f"{_FILES} of {name}"
        known = _Contents(*self._store.value(files) or ([], [], []))
        digest, settled, contents = _digest_tree(tree, known)
        self._store.keep(files, tuple(contents))
        self._store.change(_TREES, name, tuple(_TreeRecord(walk, digest, settled)))
        return digest


def _walk_digest(tree: Tree) -> bytes:
    """Return the digest of all that a walk tells; paths and targets have no NUL in them, stamps one size."""
    entries = tree.entries
    digest = hashlib.sha256(b"%d\0" % len(entries))
    digest.update(array("I", map(MODE, entries)))
    digest.update(b"".join(map(STAMP, entries)))
    digest.update(b"\0".join([*map(PATH, entries), *map(TARGET, entries)]))
    return digest.digest()


def _digest_tree(tree: Tree, known: _Contents) -> tuple[bytes, bool, _Contents]:
    """Return the digest, whether all stamps are settled, and what is known of the contents from now on."""
    entries = tree.entries
    paths, taken = list(map(PATH, entries)), list(map(STAMP, entries))
    settled = stamps.settled(taken, time.time_ns())
    places = stamps.known(paths, taken, known.paths, known.stamps)
    digests = [*known.digests, b""]  # none, for those that are not found
    # A link's target is its content; a directory has none.
    contents = [target or digests[at] for target, at in zip(map(TARGET, entries), places, strict=True)]
    for at, entry in enumerate(entries):
        if not contents[at] and stat.S_ISREG(entry.mode):
            contents[at], settled[at] = _read_entry(entry)
    believed = [stamp if old else b"" for stamp, old in zip(taken, settled, strict=True)]
    return _digest_of(entries, contents), all(settled), _Contents(paths, believed, contents)


def _digest_of(entries: Sequence[Entry], contents: Sequence[bytes]) -> bytes:
    """Return the digest of entries and of what is in them, all of which have their sizes with them."""
    paths = list(map(PATH, entries))
    digest = hashlib.sha256(b"%d\0" % len(entries))
    for numbers in (map(MODE, entries), map(len, paths), map(len, contents)):
        digest.update(array("I", numbers))
    digest.update(b"".join(paths))
    digest.update(b"".join(contents))
    return digest.digest()


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
        unchanged = stamps.of(os.fstat(file.fileno())) == stamp
    return digest.digest(), unchanged and stamps.is_settled(stamp, started)
