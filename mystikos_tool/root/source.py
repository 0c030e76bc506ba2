"""Sources of a root's tree: directories and files of this machine.

An archive is one too (:class:`mystikos_tool.root.archive.ArchiveSource`). Nothing but a source
asks a file for its status.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, Protocol

from mystikos_tool.errors import UserError, reason_of
from mystikos_tool.io import buffers, fingerprint, lookup
from mystikos_tool.io.content import ReadAt
from mystikos_tool.root.tree import Contents, Entry, Tree, canonical_mode, changed, placed

_LEFT_OUT = (stat.S_IFCHR, stat.S_IFIFO)
_REFUSED = {stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a block device"}
_ST_BLOCK = 512  # what st_blocks counts
_ZEROS = memoryview(bytes(buffers.SIZE))
_TYPE = 0o170000  # what stat.S_IFMT takes out of a mode
_PATH = attrgetter("path")
# Of what was just there: it is gone, or something else.
_CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)


class Source(Protocol):
    """Where a part of a root comes from, as it was when it was first asked.

    The fingerprint costs as little as can be, for in a build with nothing to do it is all that is
    asked for; the tree of the same moment may cost more.
    """

    def fingerprint(self) -> bytes:
        """Return bytes that change when anything in the tree may have changed; raise as :meth:`tree` does."""

    def is_racy(self) -> bool:
        """Tell whether something could be changed and the fingerprint stay as it is."""

    def tree(self) -> Tree:
        """Return the entries; raise UserError for what cannot be read or cannot be in a root."""


class DirectorySource:
    """What lies below a directory; modes are made canonical unless ``preserve_modes``.

    What matches a pattern of ``exclude`` stays out, a directory with all that is in it: a
    pattern without a slash is held against every name, one with a slash against the path.
    Character devices and FIFOs are left out, as the reference does, and named in the tree's
    ``left_out``. With ``may_be_missing``, a directory that is missing or empty gives an empty tree.

    Raises UserError, when it is asked, for a directory that is missing or empty, a socket or any
    other type, and what can't be read.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        exclude: tuple[str, ...] = (),
        preserve_modes: bool = False,
        may_be_missing: bool = False,
    ) -> None:
        self._path = path
        self._exclude = exclude
        self._preserve_modes = preserve_modes
        self._may_be_missing = may_be_missing

    def fingerprint(self) -> bytes:
        """Return 32 bytes that change when anything in the tree may have changed."""
        _, own, folders = self._walk
        digest = hashlib.sha256((b"preserved" if self._preserve_modes else b"canonical") + own)
        for _, prefix, names, fingerprints in folders:
            digest.update(b"%d %d\0%b%b" % (len(names), len(fingerprints), prefix, names))
            digest.update(fingerprints)
        return digest.digest()

    def is_racy(self) -> bool:
        """Tell whether something could be changed and the fingerprint stay as it is."""
        started, own, folders = self._walk
        every = (own, *(folder.fingerprints for folder in folders))
        return any(fingerprint.any_racy(each, started) for each in every)

    def tree(self) -> Tree:
        """Return the entries."""
        return self._tree

    @cached_property
    def _tree(self) -> Tree:
        mode_of: Callable[[int], int] = int if self._preserve_modes else canonical_mode
        left_out: list[str] = []
        entries = [entry for folder in self._walk.folders for entry in _entries(folder, mode_of, left_out)]
        if not (entries or self._may_be_missing):
            raise UserError(str(self._path), "is empty", "put the application and its files into it")
        entries.sort(key=_PATH)
        return Tree(tuple(entries), tuple(sorted(left_out)), self._walk.started)

    @cached_property
    def _walk(self) -> _Walk:
        started = time.time_ns()
        try:
            status = os.stat(self._path)
            if not stat.S_ISDIR(status.st_mode):
                raise UserError(str(self._path), "is no directory", "give the application directory")
        except OSError as error:
            if self._may_be_missing and isinstance(error, FileNotFoundError):
                return _Walk(started, b"", [])
            _refuse_lost_link(Path(self._path))
            is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
            remedy = "create the application directory first" if is_missing else "see that it can be read"
            raise UserError(str(self._path), reason_of(error), remedy) from error
        folders = _folders(os.fsencode(self._path), excluding(self._exclude))
        return _Walk(started, fingerprint.of(status), list(folders))


def scan_file(file: Path, name: str, *, preserve_modes: bool = False) -> Tree:
    """Return the tree of one file, or of what a symbolic link leads to, under a name.

    Raises UserError for what cannot be read and what is no regular file.
    """
    started = time.time_ns()
    origin = os.fsencode(file)
    try:
        status = file.stat()
    except OSError as error:
        _refuse_lost_link(file)
        raise unreadable(origin, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError(str(file), "is no regular file", "give a file or a directory")
    mode = status.st_mode if preserve_modes else canonical_mode(status.st_mode)
    return Tree((host_entry(os.fsencode(name), mode, os.path.realpath(origin), status),), (), started)


def _refuse_lost_link(path: Path) -> None:
    if target := lookup.lost_target(path):
        problem = f"is a symbolic link to {target}, which is not there"
        raise UserError(str(path), problem, "make that, or correct the link")


def host_entry(
    path: bytes, mode: int, origin: bytes, status: os.stat_result | None = None, target: bytes = b""
) -> Entry:
    """Return what lies at ``origin`` on this machine as an entry; without a status, as a mode alone."""
    size = len(target) if stat.S_ISLNK(mode) else status.st_size if status and stat.S_ISREG(mode) else 0
    known = fingerprint.of(status) if status else fingerprint.STRUCT.pack(0, 0, 0, 0, 0, mode)
    return Entry(path, mode, size, origin, known, _HOST_FILES, target)


class PlacedSource:
    """A source below a directory of the root; see :func:`mystikos_tool.root.tree.placed`."""

    def __init__(self, source: Source, directory: str) -> None:
        self._source = source
        self._directory = directory

    def fingerprint(self) -> bytes:
        """Return 32 bytes that change when anything in the tree may have changed."""
        return hashlib.sha256(os.fsencode(self._directory) + b"\0" + self._source.fingerprint()).digest()

    def is_racy(self) -> bool:
        """Tell whether something could be changed and the fingerprint stay as it is."""
        return self._source.is_racy()

    def tree(self) -> Tree:
        """Return the entries."""
        return placed(self._source.tree(), self._directory)


@contextmanager
def unchanged(path: bytes, entry: Entry) -> Iterator[int]:
    """Yield a descriptor of the file at ``path``, which has to be the one of the entry's fingerprint.

    Raises UserError for a file that cannot be read, and, before or after it is read, for another one.
    """
    descriptor = _opened_file(path, entry)
    try:
        version = fingerprint.content_version(entry.fingerprint)
        if fingerprint.version_of(os.fstat(descriptor)) != version:
            raise changed(entry)
        yield descriptor
        if fingerprint.version_of(os.fstat(descriptor)) != version:
            raise changed(entry)
    finally:
        os.close(descriptor)


def _opened_file(path: bytes, entry: Entry) -> int:
    try:
        # What has become a FIFO since must not be waited for.
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise UserError(entry.name, "may not be read", "make it readable for the build") from error
    except OSError as error:
        raise changed(entry) from error


def _small(entry: Entry, buffer: memoryview) -> memoryview | None:
    """Return the content of a file that fits into a buffer, as :func:`unchanged` reads it.

    None where the system reads it in parts.
    """
    descriptor = _opened_file(entry.origin, entry)
    try:
        problem = None
        try:  # with readable() takes longer
            size = os.readv(descriptor, [buffer])
        except OSError as error:
            size, problem = 0, error
        # A status after the reading tells of what was before it, too.
        version = fingerprint.content_version(entry.fingerprint)
        if size > entry.size or fingerprint.version_of(os.fstat(descriptor)) != version:
            raise changed(entry)
        if problem:
            raise unreadable(entry.origin, problem) from problem
        return buffer[:size] if size == entry.size else None
    finally:
        os.close(descriptor)


class _HostFiles(Contents):
    """Files of this machine; an entry's origin is the path."""

    def name(self, entry: Entry) -> str:
        """Return the path."""
        return os.fsdecode(entry.origin)

    def owner(self, entry: Entry) -> tuple[int, int]:
        """Return user and group."""
        try:
            status = os.lstat(entry.origin)
        except OSError as error:
            raise changed(entry) from error
        return status.st_uid, status.st_gid

    def identity(self, entry: Entry) -> bytes:
        """Return device and inode."""
        return fingerprint.inode(entry.fingerprint)

    def chunks(self, entry: Entry) -> Iterator[memoryview]:
        """Yield a file's content; see :class:`mystikos_tool.root.tree.Contents`."""
        if 0 < entry.size < buffers.SIZE:
            with buffers.borrowed() as buffer:
                if (content := _small(entry, buffer)) is not None:
                    yield content
                    return
        from mystikos_tool.root.disk.hash_worker import hole_end  # small files do without

        with unchanged(entry.origin, entry) as descriptor, buffers.borrowed() as buffer:
            at = 0
            is_sparse = os.fstat(descriptor).st_blocks * _ST_BLOCK < entry.size
            while True:
                end = min(hole_end(descriptor, at), entry.size) if is_sparse else at
                for start in range(at, end, buffers.SIZE):
                    yield _ZEROS[: end - start]
                at = max(at, end)
                # One byte more than there should be, to see that there is none.
                with readable(entry.origin):
                    size = os.preadv(descriptor, [buffer[: entry.size - at + 1]], at)
                if size == 0 or at + size > entry.size:
                    break
                at += size
                yield buffer[:size]
            if size or at < entry.size:
                raise changed(entry)

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[ReadAt]:
        """Begin to read at any offset; see :class:`mystikos_tool.root.tree.Contents`."""
        with unchanged(entry.origin, entry) as descriptor:

            def read_at(offset: int, size: int) -> bytes:
                with readable(entry.origin):
                    return os.pread(descriptor, size, offset)

            yield read_at


_HOST_FILES = _HostFiles()


def is_on_this_machine(entry: Entry) -> bool:
    """Tell whether an entry is a file of this machine as it is, whose path is its origin."""
    return entry.contents is _HOST_FILES


class _Folder(NamedTuple):
    """What a directory holds, as it was found: names with a NUL between two, and all fingerprints.

    ``prefix`` is the directory's path in the root with a slash behind it, empty for the root.
    """

    origin: bytes
    prefix: bytes
    names: bytes
    fingerprints: bytes


class _Walk(NamedTuple):
    """What lay below a directory from ``started`` on; ``own`` is the directory's fingerprint."""

    started: int
    own: bytes
    folders: list[_Folder]


def _folders(root: bytes, excluded: Callable[[bytes], object] | None) -> Iterator[_Folder]:
    """Yield what every directory holds, the root first.

    Every file is asked for by its directory's descriptor, which spares the system the rest of the
    path. This is most of a build with nothing to do: ordinary files cost no call of ours.
    """
    pending = [(root, b"", 0)]
    while pending:
        origin, prefix, flags = pending.pop()
        try:
            descriptor = os.open(origin, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags)
        except OSError as error:
            raise _not_listed(origin, error) from error
        try:
            folder, below = _folder(descriptor, origin, prefix, excluded)
        finally:
            os.close(descriptor)
        pending += [(origin + b"/" + name, prefix + name + b"/", os.O_NOFOLLOW) for name in below]
        yield folder


def _folder(
    descriptor: int, origin: bytes, prefix: bytes, excluded: Callable[[bytes], object] | None
) -> tuple[_Folder, list[bytes]]:
    """Return what a directory holds, and the names of the directories in it; UserError as from a scan."""
    pack, status_of = fingerprint.STRUCT.pack, os.stat
    fingerprints, below, name = bytearray(), [], ""
    try:
        names = os.listdir(descriptor)
        if excluded:
            names = [name for name in names if not excluded(prefix + os.fsencode(name))]
        for name in names:
            status = status_of(name, dir_fd=descriptor, follow_symlinks=False)
            mode = status.st_mode
            # As fingerprint.of, without its call.
            fingerprints += pack(
                status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, mode
            )
            if mode & _TYPE == stat.S_IFDIR:
                below.append(os.fsencode(name))
    except OSError as error:
        if name and isinstance(error, PermissionError):
            folder = os.fsdecode(origin)
            raise UserError(folder, "may not be searched", f"allow it, as in: chmod u+x {folder}") from error
        raise _not_listed(os.path.join(origin, os.fsencode(name)) if name else origin, error) from error
    return _Folder(origin, prefix, os.fsencode("\0".join(names)), bytes(fingerprints)), below


def _entries(folder: _Folder, mode_of: Callable[[int], int], left_out: list[str]) -> Iterator[Entry]:
    """Yield the entries of what a directory holds, and name what is left out."""
    above = folder.origin + b"/"
    names = folder.names.split(b"\0") if folder.names else ()
    every = fingerprint.split(folder.fingerprints)
    numbers = fingerprint.sizes_and_modes(folder.fingerprints)
    for name, known, (size, mode) in zip(names, every, numbers, strict=True):
        path, origin = folder.prefix + name, above + name
        kind = mode & _TYPE
        if kind == stat.S_IFREG:
            yield Entry(path, mode_of(mode), size, origin, known, _HOST_FILES)
        elif kind in (stat.S_IFDIR, stat.S_IFLNK):
            try:
                target = os.readlink(origin) if kind == stat.S_IFLNK else b""
            except OSError as error:
                raise _not_listed(origin, error) from error
            yield Entry(path, mode_of(mode), len(target), origin, known, _HOST_FILES, target)
        elif kind in _LEFT_OUT:
            left_out.append(os.fsdecode(path))
        else:
            problem = f"is {_REFUSED[kind]}, which a root file system cannot hold"
            raise UserError(os.fsdecode(origin), problem, "remove it from the directory")


class Excluding(tuple[str, ...]):
    """Patterns; tells whether a path is excluded. ``unused`` are those that no path has matched so far."""

    def __init__(self, _: Iterable[str]) -> None:  # a tuple takes them before
        self._of_name = _any_of(pattern for pattern in self if "/" not in pattern)
        self._of_path = _any_of(pattern for pattern in self if "/" in pattern)
        self.unused = set(self)

    def __call__(self, path: bytes) -> bool:
        """Tell whether a path is excluded."""
        name = path.rpartition(b"/")[2]
        found = self._of_name.match(name) or self._of_path.match(path)
        for pattern in tuple(self.unused) if found else ():
            if _any_of([pattern]).match(path if "/" in pattern else name):
                self.unused.discard(pattern)
        return found is not None


def _any_of(patterns: Iterable[str]) -> re.Pattern[bytes]:
    translated = [fnmatch.translate(pattern.strip("/")) for pattern in patterns]
    return re.compile("|".join(translated).encode(errors="surrogateescape") or rb"(?!)")


def excluding(patterns: tuple[str, ...]) -> Excluding | None:
    """Return what tells whether a path is excluded; None where nothing is.

    That is the patterns themselves where they can tell, else one for all who have the same patterns.
    """
    return (patterns if isinstance(patterns, Excluding) else _shared(patterns)) or None


@lru_cache(None)
def _shared(patterns: tuple[str, ...]) -> Excluding:
    return Excluding(patterns)


def is_excluded(path: bytes, excluded: Callable[[bytes], object] | None) -> bool:
    """Tell whether a path is excluded, or a directory that it lies in."""
    if excluded is None:
        return False
    parts = path.split(b"/")
    return any(excluded(b"/".join(parts[: n + 1])) for n in range(len(parts)))


@contextmanager
def readable(path: bytes) -> Iterator[None]:
    """Raise :func:`unreadable` where the system does not let a file be read."""
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error


def _not_listed(path: bytes, error: OSError) -> UserError:
    """Return the error for what was found in a directory and cannot be looked at."""
    is_changed = error.errno in _CHANGED
    return changed(host_entry(b"", 0, path)) if is_changed else unreadable(path, error)


def unreadable(path: bytes, error: OSError) -> UserError:
    """Return the error for a file that the system does not let be read."""
    is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
    remedy = "create it, or correct the path" if is_missing else "make it readable for the build"
    return UserError(os.fsdecode(path), reason_of(error), remedy)
