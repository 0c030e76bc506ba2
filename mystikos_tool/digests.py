"""Content digests that cost a stat where nothing changed.

A digest is remembered together with the file's stamp: device, inode, size, times and mode. It is
used again only for the same stamp, and only when the stamp was old enough at the time of reading
that a later change must have altered it: a clock ticks in steps, and a file that is written twice
within one keeps its times. What is remembered may be lost, stale or damaged: then files are read
again, never believed.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import stat
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mystikos_tool import cpio
from mystikos_tool.appdir import Entry, Tree
from mystikos_tool.errors import UserError
from mystikos_tool.files import write

_MAGIC = b"mystikos-tool digests 2\n"
_CHUNK = 1 << 20
_SECOND = 1_000_000_000
# The kernel stamps with its tick, up to 10 ms; some file systems keep whole (even) seconds.
_FINE_TICK = _SECOND // 10
_COARSE_TICK = 2 * _SECOND
# Small archives are packed anew sooner than they are looked up.
_WORTH_REMEMBERING = 256
_STAMP = struct.Struct("<QQQqqL")
_ROW = struct.Struct("<LLQ")


_Stamp = tuple[int, int, int, int, int, int]


def _stamp(status: os.stat_result) -> _Stamp:
    """Return what changes in a file's status when the file does."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
    )


class _TreeRecord(NamedTuple):
    """A tree as it was last digested.

    ``walk`` is the digest of all stamps; ``settled`` says that every stamp was old enough;
    ``files`` holds the settled files' stamps and digests by path, packed by marshal.
    """

    walk: bytes
    digest: bytes
    settled: bool
    files: bytes


class _ArchiveRecord(NamedTuple):
    """An archive that was written: its stamp, and by path each settled member's stamp, mode and offset."""

    stamp: _Stamp
    members: bytes


class Digests:
    """SHA-256 digests of files and trees, kept in ``store`` between builds (None: not kept).

    The store also says what is in large archives, so that a later one can be made of them.
    """

    def __init__(self, store: Path | None) -> None:
        self._store = store
        self._changed = False
        self._files: dict[bytes, tuple[_Stamp, bytes]] = {}
        self._trees: dict[str, _TreeRecord] = {}
        self._archives: dict[bytes, _ArchiveRecord] = {}
        if store:
            self._load(store)

    def file(self, path: Path) -> bytes:
        """Return the digest of a file's content, 32 bytes; OSError where it can't be read."""
        name = os.fsencode(path)
        status = path.stat()
        stamp = _stamp(status)
        known = self._files.get(name)
        if known and known[0] == stamp:
            return known[1]
        digest, settled = _read(name, status)
        if settled:
            self._files[name] = (stamp, digest)
            self._changed = True
        return digest

    def tree(self, tree: Tree, name: str) -> bytes:
        """Return the digest of a tree: names, types, modes, link targets and content, 32 bytes.

        ``name`` tells trees apart in the store. Raises UserError for a file that can't be read.
        """
        walk = _walk_digest(tree)
        known = self._trees.get(name)
        if known and known.settled and known.walk == walk:
            return known.digest
        record = _digest_tree(tree, marshal.loads(known.files) if known else {}, walk)
        self._trees[name] = record
        self._changed = True
        return record.digest

    def pack(self, tree: Tree, target: Path) -> None:
        """Write a tree's archive as :func:`cpio.write` does, out of an earlier one where there is one."""
        name = os.fsencode(target.absolute())
        record = self._archives.pop(name, None)
        started = time.time_ns()
        offsets = cpio.write(tree, target, _earlier(tree, target, record))
        self._changed = True
        if len(tree.entries) >= _WORTH_REMEMBERING:
            self._archives[name] = _archive_record(tree, target, offsets, started)

    def save(self) -> None:
        """Write the store beside its place and rename it; one that can't be written costs only time."""
        if not (self._store and self._changed):
            return
        trees = {name: tuple(record) for name, record in self._trees.items()}
        archives = {name: tuple(record) for name, record in self._archives.items()}
        body = marshal.dumps((self._files, trees, archives))
        with suppress(OSError, UserError):
            write(self._store, _MAGIC + hashlib.sha256(body).digest() + body)
        self._changed = False

    def _load(self, store: Path) -> None:
        with suppress(OSError, ValueError, EOFError, TypeError):
            data = store.read_bytes()
            start = len(_MAGIC) + hashlib.sha256().digest_size
            body = data[start:]
            # marshal trusts its input: only what was written whole by this version is given to it.
            if data[:start] != _MAGIC + hashlib.sha256(body).digest():
                return
            self._files, trees, archives = marshal.loads(body)
            self._archives = {name: _ArchiveRecord(*record) for name, record in archives.items()}
            self._trees = {name: _TreeRecord(*record) for name, record in trees.items()}


def _earlier(tree: Tree, target: Path, record: _ArchiveRecord | None) -> cpio.Earlier | None:
    """Return what of an archive can be used again; nothing when it is not the one that was written."""
    try:
        if record is None or _stamp(target.stat()) != record.stamp:
            return None
    except OSError:
        return None
    members = marshal.loads(record.members)
    usable = {
        entry.path: known[2]
        for entry in tree.entries
        if (known := members.get(entry.path)) and known[:2] == (_stamp(entry.status), entry.mode)
    }
    return cpio.Earlier(target, usable)


def _archive_record(tree: Tree, target: Path, offsets: dict[bytes, int], started: int) -> _ArchiveRecord:
    members = {
        entry.path: (_stamp(entry.status), entry.mode, offsets[entry.path])
        for entry in tree.entries
        if _is_settled(entry.status, started)
    }
    return _ArchiveRecord(_stamp(target.stat()), marshal.dumps(members))


def _walk_digest(tree: Tree) -> bytes:
    digest = hashlib.sha256()
    for entry in tree.entries:
        digest.update(
            b"%b\0%b\0" % (entry.path, entry.target) + _STAMP.pack(*_stamp(entry.status)) + b"%o" % entry.mode
        )
    return digest.digest()


def _digest_tree(tree: Tree, known: dict[bytes, tuple[_Stamp, bytes]], walk: bytes) -> _TreeRecord:
    digest = hashlib.sha256()
    files: dict[bytes, tuple[_Stamp, bytes]] = {}
    now = time.time_ns()
    settled = True
    for entry in tree.entries:
        content = entry.target
        if stat.S_ISREG(entry.mode):
            content, safe = _entry_digest(entry, known.get(entry.path))
            if safe:
                files[entry.path] = (_stamp(entry.status), content)
            settled = settled and safe
        else:
            settled = settled and _is_settled(entry.status, now)
        digest.update(_ROW.pack(entry.mode, len(entry.path), len(content)) + entry.path + content)
    return _TreeRecord(walk, digest.digest(), settled, marshal.dumps(files))


def _entry_digest(entry: Entry, known: tuple[_Stamp, bytes] | None) -> tuple[bytes, bool]:
    if known and known[0] == _stamp(entry.status):
        return known[1], True
    try:
        return _read(entry.origin, entry.status)
    except OSError as error:
        where = os.fsdecode(entry.origin)
        raise UserError(where, error.strerror or "can't be read", "make it readable for the build") from error


def _read(path: bytes, status: os.stat_result) -> tuple[bytes, bool]:
    """Return a file's digest and whether ``status`` may stand for it from now on."""
    started = time.time_ns()
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            digest.update(data)
        unchanged = _stamp(os.fstat(file.fileno())) == _stamp(status)
    return digest.digest(), unchanged and _is_settled(status, started)


def _is_settled(status: os.stat_result, now: int) -> bool:
    tick = _FINE_TICK if status.st_ctime_ns % _SECOND else _COARSE_TICK
    return max(status.st_mtime_ns, status.st_ctime_ns) + tick < now
