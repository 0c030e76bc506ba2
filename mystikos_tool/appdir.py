"""The application directory as a tree: what goes into a root file system, in the order it goes there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError

MAX_PATH = 255
MAX_FILE_SIZE = (1 << 32) - 1

_LEFT_OUT = (stat.S_IFCHR, stat.S_IFIFO)
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


class Entry(NamedTuple):
    """A directory, file or symbolic link.

    ``path`` is relative to the root, without a leading ``./``; ``mode`` is ``st_mode``; ``size``
    counts the bytes of a file or of a link's target and is 0 for a directory; ``origin`` is
    where it lies on this machine and ``status`` what lstat says of it there.
    """

    path: bytes
    mode: int
    size: int
    origin: bytes
    status: os.stat_result
    target: bytes = b""


@dataclass(frozen=True)
class Tree:
    """A root file system's entries in the byte order of their paths."""

    entries: tuple[Entry, ...]
    left_out: tuple[str, ...] = ()

    @property
    def files(self) -> int:
        """Number of regular files."""
        return sum(stat.S_ISREG(entry.mode) for entry in self.entries)

    @property
    def size(self) -> int:
        """Bytes in regular files."""
        return sum(entry.size for entry in self.entries if stat.S_ISREG(entry.mode))


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


def scan(directory: Path, *, preserve_modes: bool = False, may_be_missing: bool = False) -> Tree:
    """Read an application directory's tree; modes are made canonical unless ``preserve_modes``.

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
    entries = _walk(
        os.fsencode(directory), (lambda mode: mode) if preserve_modes else canonical_mode, left_out
    )
    if not (entries or may_be_missing):
        raise UserError(str(directory), "is empty", "put the application and its files into it")
    entries.sort()
    return Tree(tuple(entries), tuple(sorted(left_out)))


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
    return Tree(tuple(sorted(merged.values())), lower.left_out + upper.left_out)


def _walk(root: bytes, mode_of: Callable[[int], int], left_out: list[str]) -> list[Entry]:
    entries: list[Entry] = []
    pending = [(root, b"")]
    while pending:
        directory, prefix = pending.pop()
        try:
            with os.scandir(directory) as found:
                for child in found:
                    path = prefix + child.name
                    entry = _entry(path, child, mode_of)
                    if entry is None:
                        left_out.append(os.fsdecode(path))
                        continue
                    entries.append(entry)
                    if stat.S_ISDIR(entry.mode):
                        pending.append((child.path, path + b"/"))
        except OSError as error:
            raise _unreadable(directory, error) from error
    return entries


def _entry(path: bytes, found: os.DirEntry[bytes], mode_of: Callable[[int], int]) -> Entry | None:
    """Describe one directory entry; None for a type that is left out."""
    if len(path) > MAX_PATH:
        raise UserError(
            os.fsdecode(found.path),
            f"its path in the root has {len(path)} bytes and the kernel reads no more than {MAX_PATH}",
            "shorten the names",
        )
    try:
        status = found.stat(follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG and status.st_size <= MAX_FILE_SIZE:
            return Entry(path, mode_of(status.st_mode), status.st_size, found.path, status)
        target = os.readlink(found.path) if kind == stat.S_IFLNK else b""
    except OSError as error:
        raise _unreadable(found.path, error) from error
    if kind in _LEFT_OUT:
        return None
    _check_kind(kind, status.st_size, found.path)
    return Entry(path, mode_of(status.st_mode), len(target), found.path, status, target)


def _check_kind(kind: int, size: int, origin: bytes) -> None:
    if kind in (stat.S_IFDIR, stat.S_IFLNK):
        return
    where = os.fsdecode(origin)
    if kind == stat.S_IFREG:
        raise UserError(
            where, f"has {size} bytes and the archive holds files below 4 GiB", "split it or mount it instead"
        )
    name = "a socket" if kind == stat.S_IFSOCK else "a block device"
    raise UserError(where, f"is {name}, which a root file system cannot hold", "remove it from the directory")


def _unreadable(path: bytes, error: OSError) -> UserError:
    return UserError(
        os.fsdecode(path), (error.strerror or "cannot be read").lower(), "make it readable for the build"
    )
