"""Content digests that cost a stat where nothing changed.

A digest is remembered together with the file's stamp. It is used again only for the same stamp,
and only when the stamp was old enough at the time of reading that a later change must have altered
it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import time
from array import array
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from mystikos_tool import stamps
from mystikos_tool.appdir import Entry, Tree
from mystikos_tool.errors import UserError
from mystikos_tool.store import Store

_FILES = "files"
_TREES = "trees"
_CHUNK = 1 << 20
_ROW = struct.Struct("<LLQ")
_PATH, _MODE, _STAMP, _TARGET = map(attrgetter, ("path", "mode", "stamp", "target"))


class _TreeRecord(NamedTuple):
    """A tree as it was last digested.

    ``walk`` is the digest of all stamps; ``settled`` says that every stamp was old enough.
    """

    walk: bytes
    digest: bytes
    settled: bool


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
        known = self._store.table(_TREES).get(name)
        if known and _TreeRecord(*known).settled and _TreeRecord(*known).walk == walk:
            return _TreeRecord(*known).digest
        files = f"{_FILES} of {name}"
        digest, settled, read = _digest_tree(tree, self._store.value(files) or {})
        self._store.keep(files, read)
        self._store.change(_TREES, name, tuple(_TreeRecord(walk, digest, settled)))
        return digest


def _walk_digest(tree: Tree) -> bytes:
    """Return the digest of all that a walk tells; paths and targets have no NUL in them, stamps one size."""
    entries = tree.entries
    digest = hashlib.sha256(b"%d\0" % len(entries))
    digest.update(array("I", map(_MODE, entries)))
    digest.update(b"".join(map(_STAMP, entries)))
    digest.update(b"\0".join([*map(_PATH, entries), *map(_TARGET, entries)]))
    return digest.digest()


def _digest_tree(tree: Tree, known: dict[bytes, bytes]) -> tuple[bytes, bool, dict[bytes, bytes]]:
    """Return the digest, whether all stamps are settled, and settled files' digests by path and stamp."""
    digest = hashlib.sha256()
    files: dict[bytes, bytes] = {}
    now = time.time_ns()
    settled = True
    for entry in tree.entries:
        content = entry.target
        if stat.S_ISREG(entry.mode):
            version = entry.path + entry.stamp
            content = known.get(version, b"")
            safe = True
            if not content:
                content, safe = _read_entry(entry)
            if safe:
                files[version] = content
            settled = settled and safe
        else:
            settled = settled and stamps.is_settled(entry.stamp, now)
        digest.update(_ROW.pack(entry.mode, len(entry.path), len(content)) + entry.path + content)
    return digest.digest(), settled, files


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
