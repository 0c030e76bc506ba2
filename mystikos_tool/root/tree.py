"""The tree of a root file system: its entries in their order, and how trees are joined."""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import NamedTuple, Protocol

from mystikos_tool.errors import UserError
from mystikos_tool.formats import cpio
from mystikos_tool.io import fingerprint
from mystikos_tool.io.content import ReadAt, pieces

_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_PATH, _FINGERPRINT = attrgetter("path"), attrgetter("fingerprint")
_CLASHING = "exclude or rename one of the two, or let the later one win with MYST_ROOTFS_OVERLAY=True"
_PLANNED = attrgetter("path", "mode", "size")


def boot_fault(path: str) -> str:
    """Return what an installed Mystikos makes of a path that is too long for it."""
    size = len(os.fsencode(path))
    fault = "does not boot" if size > cpio.MAX_BOOTED_PATH + 1 else "cuts its last byte off"
    return f"its path in the root has {size} bytes, and an installed Mystikos {fault}; shorten its names"


class Contents(Protocol):
    """Reads the files of a source: only a source knows where its files are.

    What is not said otherwise belongs to root, has no links, and is read at its offsets from the first one.
    """

    def name(self, entry: Entry) -> str:
        """Return what messages call an entry."""

    def owner(self, entry: Entry) -> tuple[int, int]:
        """Return the user and the group that an entry belongs to where it comes from."""
        return 0, 0

    def identity(self, entry: Entry) -> bytes:
        """Return bytes that two entries share if they are links to one file; nothing where none do."""
        return b""

    def chunks(self, entry: Entry) -> Iterator[bytes | memoryview]:
        """Yield ``entry.size`` bytes in pieces of up to 1 MiB; one is as it is until the next is asked for.

        Raises UserError for a file that cannot be read, and for one that is not, or not until the last piece,
        the one that ``entry.fingerprint`` is of.
        """
        with self.opened(entry) as read_at:
            yield from pieces(read_at, 0, entry.size, changed(entry))

    def opened(self, entry: Entry) -> AbstractContextManager[ReadAt]:
        """Begin to read a file's content at any offset, with errors as those of :meth:`chunks`."""


class Entry(NamedTuple):
    """A directory, file or symbolic link.

    ``path`` is relative to the root, without a leading ``./``; ``mode`` is ``st_mode``; ``size`` counts the
    bytes of a file or of a link's target and is 0 for a directory. ``contents`` reads the file, which it
    knows by ``origin``; ``fingerprint`` changes when the content may have changed.
    """

    path: bytes
    mode: int
    size: int
    origin: bytes
    fingerprint: bytes
    contents: Contents
    target: bytes = b""

    @property
    def name(self) -> str:
        """What messages call the entry."""
        return self.contents.name(self)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield a file's content as :meth:`Contents.chunks` does."""
        return self.contents.chunks(self)


def changed(entry: Entry) -> UserError:
    """Return the error for a file that is not any more what it was."""
    return UserError(entry.name, "changed while it was read", "build again when nothing writes to it")


class Tree:
    """A root file system's entries in the byte order of their paths.

    ``left_out`` names what was there and cannot be in a root. A tree is a source of itself, and ``as_of`` is
    when its entries began to be looked at, in nanoseconds since 1970.
    """

    def __init__(self, entries: tuple[Entry, ...], left_out: tuple[str, ...], as_of: int) -> None:
        self.entries = entries
        self.left_out = left_out
        self.as_of = as_of

    @cached_property
    def paths(self) -> list[bytes]:
        """Every entry's path."""
        return list(map(_PATH, self.entries))

    @cached_property
    def members(self) -> list[cpio.Member]:
        """The members of the tree's archive; raises UserError for what none can hold, and reads no file."""
        if len(self.entries) > cpio.MAX_MEMBERS:
            problem = f"is one of {len(self.entries):,} entries, and a root has at most {cpio.MAX_MEMBERS:,}"
            raise UserError(self.entries[-1].name, problem, cpio.TOO_MANY)
        for entry in self.entries:
            if fault := cpio.fault(entry.path, entry.mode, entry.size):
                raise UserError(entry.name, *fault)
        return cpio.plan(map(_PLANNED, self.entries))

    @property
    def too_long_to_boot(self) -> list[str]:
        """Paths that are packed but too long for the kernel of an installed Mystikos."""
        return [os.fsdecode(path) for path in self.paths if len(path) > cpio.MAX_BOOTED_PATH]

    @property
    def files(self) -> int:
        """Number of regular files."""
        return sum(stat.S_ISREG(entry.mode) for entry in self.entries)

    @property
    def size(self) -> int:
        """Bytes in regular files."""
        return sum(entry.size for entry in self.entries if stat.S_ISREG(entry.mode))

    def fingerprint(self) -> bytes:
        """Return 32 bytes that change when anything in the tree may have changed."""
        return hashlib.sha256(self.described() + b"".join(map(_FINGERPRINT, self.entries))).digest()

    def is_racy(self) -> bool:
        """Tell whether something could be changed and :meth:`fingerprint` stay as it is."""
        return fingerprint.any_racy(b"".join(map(_FINGERPRINT, self.entries)), self.as_of)

    def tree(self) -> Tree:
        """Return the tree itself."""
        return self

    def described(self) -> bytes:
        """Return what the tree is but for its files' contents: paths, modes and targets of links."""
        modes = array("I", map(attrgetter("mode"), self.entries)).tobytes()
        # There is no NUL in paths and targets.
        names = b"\0".join([*self.paths, *map(attrgetter("target"), self.entries)])
        return b"%d\0" % len(self.entries) + modes + names


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


def placed(tree: Tree, directory: str) -> Tree:
    """Place a tree below a directory of mode 0755; raise UserError for ``.`` or ``..`` in its path."""
    parts = [os.fsencode(part) for part in directory.split("/") if part]
    first = tree.entries[0]
    if b"." in parts or b".." in parts:
        raise UserError(first.name, f"cannot be placed at /{directory}", "give a place without . and ..")
    above = [
        first._replace(path=b"/".join(parts[: count + 1]), mode=stat.S_IFDIR | 0o755, size=0, target=b"")
        for count in range(len(parts))
    ]
    prefix = b"".join(part + b"/" for part in parts)
    below = [entry._replace(path=prefix + entry.path) for entry in tree.entries]
    return Tree((*above, *below), tuple(os.fsdecode(prefix) + path for path in tree.left_out), tree.as_of)


def join(trees: Sequence[Tree], *, later_wins: bool = False) -> Tree:
    """Make one tree of several, whose directories may be the same.

    Raises UserError, naming both, where two have something else at the same path. With ``later_wins``
    files and links of a later one win, and only a directory must not meet anything else.
    """
    if len(trees) == 1:
        return trees[0]
    joined: dict[bytes, Entry] = {}
    for entry in (entry for tree in trees for entry in tree.entries):
        other = joined.setdefault(entry.path, entry)
        directories = stat.S_ISDIR(other.mode) + stat.S_ISDIR(entry.mode)
        if other is entry or directories == 2:
            continue
        if not later_wins:
            problem = f"clashes with {other.name} at /{os.fsdecode(entry.path)} in the root"
            raise UserError(entry.name, problem, _CLASHING)
        if directories:
            problem = f"cannot be joined with {other.name}, for only one of them is a directory"
            raise UserError(entry.name, problem, "rename one of the two")
        joined[entry.path] = entry
    left_out = sorted(path for tree in trees for path in tree.left_out)
    return Tree(tuple(sorted(joined.values(), key=_PATH)), tuple(left_out), min(tree.as_of for tree in trees))


def select(tree: Tree, paths: Collection[bytes]) -> Tree:
    """Return what a tree has at these paths: with all that is below them, and the directories above."""
    below = tuple(path + b"/" for path in paths)
    named = {path.rsplit(b"/", count)[0] for path in paths for count in range(path.count(b"/") + 1)}
    entries = tuple(entry for entry in tree.entries if entry.path in named or entry.path.startswith(below))
    left_out = tuple(
        path for path in tree.left_out if os.fsencode(path) in named or os.fsencode(path).startswith(below)
    )
    return Tree(entries, left_out, tree.as_of)
