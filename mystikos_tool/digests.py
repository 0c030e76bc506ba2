"""Content digests that cost a stat where nothing changed.

A digest is remembered together with the file's stamp. It is used again only for the same stamp,
and only when the stamp was old enough at the time of reading that a later change must have altered
it. What is remembered may be lost, stale or damaged: then files are read again, never believed.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import stat
import struct
import time
from array import array
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mystikos_tool import cpio, stamps
from mystikos_tool.appdir import Entry, Tree
from mystikos_tool.errors import UserError
from mystikos_tool.files import write

_MAGIC = b"mystikos-tool digests 3\n"
_CHUNK = 1 << 20
# Without references between equal values, which take longer to find than to write again.
_MARSHAL_VERSION = 2
# Small archives are packed anew sooner than they are looked up.
_WORTH_REMEMBERING = 256
_ROW = struct.Struct("<LLQ")


class _TreeRecord(NamedTuple):
    """A tree as it was last digested.

    ``walk`` is the digest of all stamps; ``settled`` says that every stamp was old enough;
    ``files`` holds the settled files' digests by path and stamp, packed by marshal.
    """

    walk: bytes
    digest: bytes
    settled: bool
    files: bytes


class _ArchiveRecord(NamedTuple):
    """An archive that was written: its stamp, and its members' `_Columns`, packed by marshal."""

    stamp: bytes
    members: bytes


class _Columns(NamedTuple):
    """What is known of an archive's members, a column for each.

    ``stamps`` are those of the files that they were made of, empty where not settled; the others
    are arrays of numbers: modes, and sizes and offsets of the data in bytes.
    """

    paths: list[bytes]
    stamps: list[bytes]
    modes: bytes
    sizes: bytes
    offsets: bytes


class Digests:
    """SHA-256 digests of files and trees, kept in ``store`` between builds (None: not kept).

    The store also says what is in large archives, so that a later one can be made of them.
    """

    def __init__(self, store: Path | None) -> None:
        self._store = store
        self._changed = False
        self._files: dict[bytes, tuple[bytes, bytes]] = {}
        self._trees: dict[str, _TreeRecord] = {}
        self._archives: dict[bytes, _ArchiveRecord] = {}
        if store:
            self._load(store)

    def file(self, path: Path) -> bytes:
        """Return the digest of a file's content, 32 bytes; OSError where it can't be read."""
        name = os.fsencode(path)
        status = path.stat()
        stamp = stamps.of(status)
        known = self._files.get(name)
        if known and known[0] == stamp:
            return known[1]
        digest, settled = _read(name, stamp)
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
        archive = cpio.write(tree, target, _earlier(tree, target, record))
        self._changed = True
        if len(tree.entries) >= _WORTH_REMEMBERING:
            self._archives[name] = _archive_record(tree, archive, started)

    def archive(self, path: Path) -> cpio.Archive | None:
        """Return what is in an archive that :meth:`pack` wrote, or None where that is not known."""
        record = self._archives.get(os.fsencode(path.absolute()))
        if record is None or not _is_unchanged(path, record):
            return None
        columns = _Columns(*marshal.loads(record.members))
        numbers = (array(kind, data) for kind, data in zip("IQQ", columns[2:], strict=True))
        modes, sizes, offsets = numbers
        return cpio.Archive(path, tuple(map(cpio.Member, columns.paths, modes, offsets, sizes)))

    def save(self) -> None:
        """Write the store beside its place and rename it; one that can't be written costs only time."""
        if not (self._store and self._changed):
            return
        trees = {name: tuple(record) for name, record in self._trees.items()}
        archives = {name: tuple(record) for name, record in self._archives.items()}
        body = marshal.dumps((self._files, trees, archives), _MARSHAL_VERSION)
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


def _is_unchanged(path: Path, record: _ArchiveRecord) -> bool:
    try:
        return stamps.of(path.stat()) == record.stamp
    except OSError:
        return False


def _earlier(tree: Tree, target: Path, record: _ArchiveRecord | None) -> cpio.Earlier | None:
    """Return what of an archive can be used again; nothing when it is not the one that was written."""
    if record is None or not _is_unchanged(target, record):
        return None
    columns = _Columns(*marshal.loads(record.members))
    known = {
        path + stamp: (mode, offset)
        for path, stamp, mode, offset in zip(
            columns.paths,
            columns.stamps,
            array("I", columns.modes),
            array("Q", columns.offsets),
            strict=True,
        )
        if stamp
    }
    found = ((entry, known.get(entry.path + entry.stamp)) for entry in tree.entries)
    return cpio.Earlier(
        target, {entry.path: place[1] for entry, place in found if place and place[0] == entry.mode}
    )


def _archive_record(tree: Tree, archive: cpio.Archive, started: int) -> _ArchiveRecord:
    taken = [entry.stamp for entry in tree.entries]
    columns = _Columns(
        [member.path for member in archive.members],
        [stamp if old else b"" for stamp, old in zip(taken, stamps.settled(taken, started), strict=True)],
        array("I", [member.mode for member in archive.members]).tobytes(),
        array("Q", [member.size for member in archive.members]).tobytes(),
        array("Q", [member.offset for member in archive.members]).tobytes(),
    )
    return _ArchiveRecord(stamps.of(archive.path.stat()), marshal.dumps(tuple(columns), _MARSHAL_VERSION))


def _walk_digest(tree: Tree) -> bytes:
    """Return the digest of all that a walk tells; paths and targets have no NUL in them, stamps one size."""
    entries = tree.entries
    digest = hashlib.sha256(b"%d\0" % len(entries))
    digest.update(array("I", [entry.mode for entry in entries]))
    digest.update(b"\0".join([part for entry in entries for part in (entry.path, entry.target, entry.stamp)]))
    return digest.digest()


def _digest_tree(tree: Tree, known: dict[bytes, bytes], walk: bytes) -> _TreeRecord:
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
    return _TreeRecord(walk, digest.digest(), settled, marshal.dumps(files, _MARSHAL_VERSION))


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
