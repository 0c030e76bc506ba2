"""The application directory as a tree: what goes into a root file system, in the order it goes there."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from itertools import compress
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.io import fingerprint

MAX_PATH = 255
_MAX_BOOTED_PATH = 253  # by an installed Mystikos (docs/formats.md, section 1)
TOO_LONG_TO_BOOT = (
    f"its path in the root has more than {_MAX_BOOTED_PATH} bytes, and an installed Mystikos does not boot;"
    " shorten its names"
)
MAX_FILE_SIZE = (1 << 32) - 1

# What os.fsencode looks up each time.
_ENCODING, _ENCODING_ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

_LEFT_OUT = (stat.S_IFCHR, stat.S_IFIFO)
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


class Entry(NamedTuple):
    """A directory, file or symbolic link.

    ``path`` is relative to the root, without a leading ``./``; ``mode`` is ``st_mode``; ``size``
    counts the bytes of a file or of a link's target and is 0 for a directory; ``origin`` is
    where it lies on this machine and ``stamp`` that of its status there.
    """

    path: bytes
    mode: int
    size: int
    origin: bytes
    stamp: bytes
    target: bytes = b""


_PATH = attrgetter("path")


class Tree:
    """A root file system's entries in the byte order of their paths, and each of their values as a column.

    ``left_out`` names what was there and cannot be in a root.
    """

    def __init__(self, entries: tuple[Entry, ...], left_out: tuple[str, ...] = ()) -> None:
        self.entries = entries
        self.left_out = left_out

    @cached_property
    def paths(self) -> list[bytes]:
        """Every entry's path."""
        return list(map(_PATH, self.entries))

    @cached_property
    def modes(self) -> list[int]:
        """Every entry's mode."""
        return list(map(attrgetter("mode"), self.entries))

    @cached_property
    def sizes(self) -> list[int]:
        """Every entry's size in bytes."""
        return list(map(attrgetter("size"), self.entries))

    @cached_property
    def stamps(self) -> list[bytes]:
        """Every entry's stamp."""
        return list(map(attrgetter("stamp"), self.entries))

    @cached_property
    def targets(self) -> list[bytes]:
        """Every link's target, empty for others."""
        return list(map(attrgetter("target"), self.entries))

    @cached_property
    def are_files(self) -> list[bool]:
        """Whether each entry is a regular file."""
        return list(map(stat.S_ISREG, self.modes))

    @property
    def too_long_to_boot(self) -> list[str]:
        """Paths that are packed but too long for the kernel of an installed Mystikos."""
        return [os.fsdecode(path) for path in self.paths if len(path) > _MAX_BOOTED_PATH]

    @property
    def files(self) -> int:
        """Number of regular files."""
        return sum(self.are_files)

    @property
    def size(self) -> int:
        """Bytes in regular files."""
        return sum(compress(self.sizes, self.are_files))


@lru_cache
def canonical_mode(mode: int) -> int:
    """Return a mode that does not depend on the umask of whoever checked the tree out.

    Directories get 0755; files 0755 where the owner may execute them, else 0644. Set-id and
    sticky bits stay, and so does everything about a symbolic link.
    """
    if stat.S_ISLNK(mode):
        return mode
    executable = stat.S_ISDIR(mode) or mode & stat.S_IXUSR
    return stat.S_IFMT(mode) | mode & _SPECIAL_BITS | (0o755 if executable else 0o644)


def scan(
    directory: Path,
    *,
    exclude: tuple[str, ...] = (),
    preserve_modes: bool = False,
    may_be_missing: bool = False,
) -> Tree:
    """Read an application directory's tree; modes are made canonical unless ``preserve_modes``.

    What matches a pattern of ``exclude`` stays out, a directory with all that is in it: a
    pattern without a slash is held against every name, one with a slash against the path.
    With ``may_be_missing``, a directory that is missing or empty gives an empty tree.

    Character devices and FIFOs are left out, as the reference does, and named in ``left_out``.
    Raises UserError for a directory that is missing or empty, a path longer than 255 bytes, a
    file of 4 GiB or more, a socket or any other type, and what can't be read.
    """
    try:
        if not stat.S_ISDIR(directory.stat().st_mode):
            raise UserError(str(directory), "is no directory", "give the application directory")
    except OSError as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            return Tree(())
        raise UserError(
            str(directory),
            (error.strerror or "cannot be read").lower(),
            "create the application directory first",
        ) from error
    left_out: list[str] = []
    mode_of = _taken_mode if preserve_modes else canonical_mode
    entries = _walk(os.fsencode(directory), mode_of, _excluding(exclude), left_out)
    if not (entries or may_be_missing):
        raise UserError(str(directory), "is empty", "put the application and its files into it")
    entries.sort(key=_PATH)
    return Tree(tuple(entries), tuple(sorted(left_out)))


def scan_file(file: Path, name: str, *, preserve_modes: bool = False) -> Tree:
    """Return the tree of one file, or of what a symbolic link leads to, under a name.

    Raises UserError as :func:`scan` does.
    """
    origin = os.fsencode(file)
    try:
        status = file.stat()
    except OSError as error:
        raise _unreadable(origin, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError(str(file), "is no regular file", "give a file or a directory")
    _check_size(status.st_size, origin)
    mode = status.st_mode if preserve_modes else canonical_mode(status.st_mode)
    return Tree(
        (Entry(os.fsencode(name), mode, status.st_size, os.path.realpath(origin), fingerprint.of(status)),)
    )


def placed(tree: Tree, directory: str) -> Tree:
    """Return a tree as it is below a directory of the root, which is made with mode 0755.

    Raises UserError for a place with ``.`` or ``..`` in it and for a path that becomes too long.
    """
    parts = [os.fsencode(part) for part in directory.split("/") if part]
    first = tree.entries[0]
    if b"." in parts or b".." in parts:
        where = os.fsdecode(first.origin)
        raise UserError(where, f"cannot be placed at /{directory}", "give a place without . and ..")
    mode = stat.S_IFDIR | 0o755
    above = [
        Entry(b"/".join(parts[: count + 1]), mode, 0, first.origin, first.stamp)
        for count in range(len(parts))
    ]
    prefix = b"".join(part + b"/" for part in parts)
    entries = [entry._replace(path=prefix + entry.path) for entry in tree.entries]
    for entry in entries:
        _check_length(entry.path, entry.origin)
    return Tree((*above, *entries), tuple(os.fsdecode(prefix) + path for path in tree.left_out))


def join(trees: Sequence[Tree]) -> Tree:
    """Make one tree of several, whose directories may be the same.

    Raises UserError, naming both, where two have something else at the same path.
    """
    if len(trees) == 1:
        return trees[0]
    joined: dict[bytes, Entry] = {}
    for entry in (entry for tree in trees for entry in tree.entries):
        other = joined.setdefault(entry.path, entry)
        if other is not entry and not (stat.S_ISDIR(other.mode) and stat.S_ISDIR(entry.mode)):
            raise UserError(
                os.fsdecode(entry.origin),
                f"clashes with {os.fsdecode(other.origin)} at /{os.fsdecode(entry.path)} in the root",
                "exclude or rename one of the two",
            )
    left_out = (path for tree in trees for path in tree.left_out)
    return Tree(tuple(sorted(joined.values(), key=_PATH)), tuple(sorted(left_out)))


def select(tree: Tree, paths: Collection[bytes]) -> Tree:
    """Return what a tree has at these paths: with all that is below them, and the directories above."""
    below = tuple(path + b"/" for path in paths)
    named = {path.rsplit(b"/", count)[0] for path in paths for count in range(path.count(b"/") + 1)}
    return Tree(
        tuple(entry for entry in tree.entries if entry.path in named or entry.path.startswith(below)),
        tuple(
            path
            for path in tree.left_out
            if os.fsencode(path) in named or os.fsencode(path).startswith(below)
        ),
    )


def overlay(lower: Tree, upper: Tree) -> Tree:
    """Lay a tree over another: files and links of the upper one win, directories are joined.

    Raises UserError where one has a directory and the other something else.
    """
    merged = {entry.path: entry for entry in lower.entries}
    for entry in upper.entries:
        below = merged.setdefault(entry.path, entry)
        if stat.S_ISDIR(below.mode) != stat.S_ISDIR(entry.mode):
            raise UserError(
                os.fsdecode(entry.origin),
                f"cannot be joined with {os.fsdecode(below.origin)}, for only one of them is a directory",
                "rename one of the two",
            )
        if not stat.S_ISDIR(entry.mode):
            merged[entry.path] = entry
    return Tree(tuple(sorted(merged.values(), key=_PATH)), lower.left_out + upper.left_out)


def _taken_mode(mode: int) -> int:
    return mode


@lru_cache
def _excluding(patterns: tuple[str, ...]) -> Callable[[bytes], object] | None:
    """Return what tells whether a path is excluded; None where nothing is."""
    if not patterns:
        return None
    names = [fnmatch.translate(pattern) for pattern in patterns if "/" not in pattern]
    paths = [fnmatch.translate(pattern.strip("/")) for pattern in patterns if "/" in pattern]
    of_name = re.compile("|".join(names).encode() or rb"(?!)")
    of_path = re.compile("|".join(paths).encode() or rb"(?!)")
    return lambda path: of_name.match(path.rpartition(b"/")[2]) or of_path.match(path)


def _walk(
    root: bytes,
    mode_of: Callable[[int], int],
    excluded: Callable[[bytes], object] | None,
    left_out: list[str],
) -> list[Entry]:
    """Return what lies below a directory, in no order.

    Every file is asked for by its directory's descriptor, which spares the system the rest of the
    path. This is most of a build with nothing to do: ordinary files cost no call of ours.
    """
    entries: list[Entry] = []
    pending = [(root, b"", 0)]
    while pending:
        directory, prefix, flags = pending.pop()
        above = directory + b"/"
        with _opened(directory, flags) as descriptor, os.scandir(descriptor) as found:
            for child in found:
                name = child.name.encode(_ENCODING, _ENCODING_ERRORS)
                path = prefix + name
                if excluded and excluded(path):
                    continue
                try:
                    status = child.stat(follow_symlinks=False)
                except OSError as error:
                    raise _unreadable(above + name, error) from error
                mode = status.st_mode
                if stat.S_ISREG(mode) and status.st_size <= MAX_FILE_SIZE and len(path) <= MAX_PATH:
                    size = status.st_size
                    entries.append(Entry(path, mode_of(mode), size, above + name, fingerprint.of(status)))
                    continue
                entry = _other_entry(path, above + name, status, mode_of)
                if entry is None:
                    left_out.append(os.fsdecode(path))
                    continue
                entries.append(entry)
                if stat.S_ISDIR(mode):
                    pending.append((entry.origin, path + b"/", os.O_NOFOLLOW))
    return entries


@contextmanager
def _opened(directory: bytes, flags: int) -> Iterator[int]:
    """Open a directory to be listed; raise UserError where it can't be."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags)
    except OSError as error:
        raise _unreadable(directory, error) from error
    try:
        yield descriptor
    except OSError as error:
        raise _unreadable(directory, error) from error
    finally:
        os.close(descriptor)


def _other_entry(
    path: bytes, origin: bytes, status: os.stat_result, mode_of: Callable[[int], int]
) -> Entry | None:
    """Describe what is no ordinary file; None for a type that is left out."""
    _check_length(path, origin)
    kind = stat.S_IFMT(status.st_mode)
    if kind in _LEFT_OUT:
        return None
    _check_kind(kind, status.st_size, origin)
    try:
        target = os.readlink(origin) if kind == stat.S_IFLNK else b""
    except OSError as error:
        raise _unreadable(origin, error) from error
    return Entry(path, mode_of(status.st_mode), len(target), origin, fingerprint.of(status), target)


def _check_kind(kind: int, size: int, origin: bytes) -> None:
    if kind in (stat.S_IFDIR, stat.S_IFLNK):
        return
    if kind == stat.S_IFREG:
        _check_size(size, origin)
    where = os.fsdecode(origin)
    name = "a socket" if kind == stat.S_IFSOCK else "a block device"
    raise UserError(where, f"is {name}, which a root file system cannot hold", "remove it from the directory")


def _check_length(path: bytes, origin: bytes) -> None:
    if len(path) > MAX_PATH:
        raise UserError(
            os.fsdecode(origin),
            f"its path in the root has {len(path)} bytes and the kernel reads no more than {MAX_PATH}",
            "shorten the names",
        )


def _check_size(size: int, origin: bytes) -> None:
    if size > MAX_FILE_SIZE:
        raise UserError(
            os.fsdecode(origin),
            f"has {size} bytes and the archive holds files below 4 GiB",
            "split it or mount it instead",
        )


def _unreadable(path: bytes, error: OSError) -> UserError:
    return UserError(
        os.fsdecode(path), (error.strerror or "cannot be read").lower(), "make it readable for the build"
    )
