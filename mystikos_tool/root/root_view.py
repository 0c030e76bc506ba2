"""A sysroot with what is given laid over it, looked at by path, as it is inside of the root."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import program
from mystikos_tool.formats.paths import follow
from mystikos_tool.formats.program import Executable, Script
from mystikos_tool.io import fingerprint
from mystikos_tool.root.source import Excluding, excluding, host_entry, readable, unreadable
from mystikos_tool.root.tree import Entry, Tree, canonical_mode

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
_DIRECTORY = stat.S_IFDIR | 0o755
MOST_PATHS = 500_000  # a real closure asks for some thousands

Facts = Mapping[bytes, tuple[Any, ...]]
"""What was read of programs, in plain values, by their fingerprints and names."""


class _Node(NamedTuple):
    """An entry; ``host`` is the directory of the sysroot that it is, None for anything else."""

    entry: Entry
    host: bytes | None


class RootView:
    """A root by its absolute paths; symbolic links are followed, never out of it.

    ``given`` counts before what lies below ``sysroot``. What matches a pattern of ``exclude`` is not
    there. ``taken`` has what was taken so far by its path, with the directories and links on the way.
    ``known`` has facts about programs from earlier, ``facts`` those that were used, by fingerprint and name.
    """

    def __init__(
        self, given: Tree, sysroot: Path, exclude: tuple[str, ...], preserve_modes: bool, known: Facts
    ) -> None:
        self.taken: dict[bytes, Entry] = {}
        self._given = {entry.path: entry for entry in given.entries}
        self._excluded: Excluding | None = excluding(exclude)
        self._preserve_modes = preserve_modes
        self.facts: dict[bytes, tuple[Any, ...]] = {}
        self._known = known
        self._nodes: dict[bytes, _Node | None] = {}
        self._followed: dict[str, tuple[_Node | None, list[Entry]]] = {}
        self._programs: dict[bytes, Script | Executable | None] = {}
        host = os.fsencode(sysroot)
        self._root = _Node(host_entry(b"", _DIRECTORY, host), host)

    def is_excluded(self, path: bytes) -> bool:
        """Tell whether a pattern keeps a path out."""
        return self._excluded is not None and self._excluded(path)

    def is_given(self, path: bytes) -> bool:
        """Tell whether what is at a path, without a leading slash, was given."""
        return path in self._given

    def find(self, path: str | bytes) -> Entry | None:
        """Return what a path leads to, None where nothing is there."""
        node, _ = self._follow(os.fsdecode(path))
        return node.entry if node else None

    def take(self, path: str | bytes) -> Entry | None:
        """Take what a path leads to, and what leads there; return it, None where nothing is there."""
        node, steps = self._follow(os.fsdecode(path))
        if node:
            self.taken.update((entry.path, entry) for entry in steps)
        return node.entry if node else None

    def put(self, entry: Entry) -> None:
        """Take what is in no sysroot, with a directory above it where there is none."""
        above = os.path.dirname(entry.path)
        self.taken.setdefault(above, host_entry(above, _DIRECTORY, b""))
        self.taken[entry.path] = entry

    def take_all(self, directory: Entry) -> Iterator[Entry]:
        """Take what is in a directory, and yield its files as :meth:`files_of`."""
        pending = [directory]
        while pending:
            children = self._children(pending.pop())
            self.taken.update((child.path, child) for child in children)
            pending += (child for child in children if stat.S_ISDIR(child.mode))
            yield from self.files_of(child for child in children if not stat.S_ISDIR(child.mode))

    def files_of(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield those entries that are files, and the files that others are links to, which are taken."""
        for entry in entries:
            if stat.S_ISREG(entry.mode):
                yield entry
            else:
                target = self.find(b"/" + entry.path)
                if target and stat.S_ISREG(target.mode):
                    self.take(b"/" + entry.path)
                    yield target

    def executable(self, path: bytes) -> Executable | None:
        """Return the program or library that a path leads to; None where there is no such x86-64 file."""
        entry = self.find(path)
        found = self.program(entry) if entry and stat.S_ISREG(entry.mode) else None
        return found if isinstance(found, Executable) else None

    def data(self, path: bytes, limit: int) -> bytes | None:
        """Return the content of a file; None where there is none of at most ``limit`` bytes."""
        entry = self.find(path)
        if entry is None or not stat.S_ISREG(entry.mode) or entry.size > limit:
            return None
        return b"".join(map(bytes, entry.chunks()))

    def names(self, path: bytes) -> list[bytes]:
        """Return the names in a directory, sorted; none where there is no directory."""
        entry = self.find(path)
        if entry is None or not stat.S_ISDIR(entry.mode):
            return []
        return [os.path.basename(child.path) for child in self._children(entry)]

    def program(self, entry: Entry) -> Script | Executable | None:
        """Return what a file is; it is read once, here and in builds to come, as long as it is the same."""
        key = entry.fingerprint + entry.origin
        if key not in self._programs:
            known = self._known.get(key)
            self._programs[key] = self._read(entry, key) if known is None else _restored(known)
            if known is not None:
                self.facts[key] = known
        return self._programs[key]

    def _read(self, entry: Entry, key: bytes) -> Script | Executable | None:
        started = time.time_ns()
        with entry.contents.opened(entry) as read_at:
            found = program.read(read_at)
        if not fingerprint.is_racy(entry.fingerprint, started):
            self.facts[key] = () if found is None else (isinstance(found, Script), *found)
        return found

    def _follow(self, path: str) -> tuple[_Node | None, list[Entry]]:
        if path not in self._followed:
            if len(self._followed) >= MOST_PATHS:
                problem = f"is one of more than {MOST_PATHS:,} paths that programs are looked for at"
                raise UserError(path, problem, "exclude the file that names so many libraries or directories")
            steps: list[Entry] = []

            def child(directory: _Node, name: bytes) -> _Node | None:
                node = self._child(directory, name)
                if node:
                    steps.append(node.entry)
                return node

            self._followed[path] = follow(path, self._root, child, _link_target), steps
        return self._followed[path]

    def _child(self, directory: _Node, name: bytes) -> _Node | None:
        above = directory.entry.path
        path = above + b"/" + name if above else name
        if path not in self._nodes:
            self._nodes[path] = None if self.is_excluded(path) else self._looked_up(directory, name, path)
        return self._nodes[path]

    def _looked_up(self, directory: _Node, name: bytes, path: bytes) -> _Node | None:
        host = directory.host
        found = None if host is None else self._of_sysroot(os.path.join(host, name), path)
        given = self._given.get(path)
        if given is None:
            return found
        return _Node(given, found.host if found and stat.S_ISDIR(given.mode) else None)

    def _of_sysroot(self, host: bytes, path: bytes) -> _Node | None:
        try:
            status = os.lstat(host)
            if stat.S_IFMT(status.st_mode) not in _KINDS:
                return None
            target = os.readlink(host) if stat.S_ISLNK(status.st_mode) else b""
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise unreadable(host, error) from error
        mode = status.st_mode if self._preserve_modes else canonical_mode(status.st_mode)
        if stat.S_ISDIR(mode):
            return _Node(host_entry(path, mode, host), host)  # whatever else comes into it
        return _Node(host_entry(path, mode, host, status, target), None)

    def _children(self, directory: Entry) -> list[Entry]:
        node, _ = self._follow(os.fsdecode(b"/" + directory.path))
        if node is None:
            return []
        names = {
            os.path.basename(path)
            for path in self._given
            if os.path.dirname(path) == directory.path and path != directory.path
        }
        if node.host is not None:
            with readable(node.host):
                names.update(os.listdir(node.host))
        found = (self._child(node, name) for name in sorted(names))
        return [child.entry for child in found if child]


def _link_target(node: _Node) -> bytes | None:
    return node.entry.target if stat.S_ISLNK(node.entry.mode) else None


def _restored(known: tuple[Any, ...]) -> Script | Executable | None:
    if not known:
        return None
    is_script, *fields = known
    return Script(*fields) if is_script else Executable(*fields)
