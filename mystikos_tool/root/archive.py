"""Archives of a root: a tree is written as one, and one is read, searched, extracted or taken as a source."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError, reason_of
from mystikos_tool.formats import cpio, kinds
from mystikos_tool.formats.cpio import Member
from mystikos_tool.formats.paths import follow
from mystikos_tool.io import atomic, fingerprint, lookup, progress
from mystikos_tool.io.atomic import is_out_of_space, make_directory, writing
from mystikos_tool.io.content import AnyOffset, Content, FileContent, PieceReader, ReadAt, Window, pieces
from mystikos_tool.root.source import excluding, is_excluded, unchanged
from mystikos_tool.root.tree import Contents, Entry, Tree

_Made = list[tuple[Callable[[bytes], None], bytes]]  # what was made, each with what removes it


class _Archive(NamedTuple):
    where: str
    content: Content
    members: tuple[Member, ...]


class Archive(_Archive):  # with attributes, as a cached property needs
    """What is in an archive, without the files' content; ``where`` names it in messages."""

    @cached_property
    def by_path(self) -> Mapping[bytes, Member]:
        """Every member by its path."""
        return {member.path: member for member in self.members}

    def entry(self, path: str) -> Member | None:
        """Return the member with exactly this path, symbolic links not followed, or None."""
        return self.by_path.get(os.fsencode(path).strip(b"/"))

    def find(self, path: str) -> Member | None:
        """Return the member that an absolute path leads to by links that never leave the root, or None."""
        return follow(path, Member(b"", stat.S_IFDIR | 0o755, 0, 0), self._child, self._link_target)

    def _child(self, directory: Member, name: bytes) -> Member | None:
        return self.by_path.get(directory.path + b"/" + name if directory.path else name)

    def _link_target(self, member: Member) -> bytes | None:
        return self.data(member) if stat.S_ISLNK(member.mode) else None

    def data(self, member: Member) -> bytes:
        """Return a member's data."""
        return self.content_of(member).read()

    def content_of(self, member: Member) -> Content:
        """Return a member's data as content, read when it is used."""
        return self.content.part(member.offset, member.size)

    @contextmanager
    def reading(self) -> Iterator[Callable[[Member], ReadAt]]:
        """Begin to read members' data; small ones that follow one another are read at once."""
        with self.content.at_any_offset() as read:
            near = Window(read).read

            def of_member(member: Member) -> ReadAt:
                _, _, start, size = member
                return lambda offset, count: near(start + offset, max(min(count, size - offset), 0))

            yield of_member


class Earlier(NamedTuple):
    """An archive of an earlier build, and the offsets of the data in it that are still the same, by path."""

    path: Path
    offsets: Mapping[bytes, int]


_NOTHING = Earlier(Path(), {})


def write(tree: Tree, target: Path, earlier: Earlier = _NOTHING) -> Archive:
    """Write a tree as an archive, beside its place first; return what is in it.

    What has not changed since an ``earlier`` archive is copied from there, in long runs, within the kernel.
    Raises UserError for what an archive cannot hold, and for a file that changed since its tree was made or
    can't be read; the target is then as it was.
    """
    members, known = tree.members, earlier.offsets
    moved = [known[path] - offset if path in known else None for path, _, offset, _ in members]
    with progress.bar("packing", tree.size), writing(target) as file:
        file.write(cpio.ROOT)
        first = 0
        # What has moved by the same distance as its neighbour is next to it in the earlier archive too.
        for distance, run in groupby(moved):
            after = first + len(list(run))
            if distance is not None:
                start, end = members[first].start, members[after - 1].end
                FileContent(earlier.path, end - start, start + distance).write_to(file)
            else:
                for entry in tree.entries[first:after]:
                    file.writelines(_member(entry))
            first = after
        file.write(cpio.end(_end(members)))
        return Archive(str(target), FileContent(target, file.tell()), tuple(members))


def rewrite(tree: Tree, numbers: Sequence[int], target: Path, known: bytes) -> Archive | None:
    """Write some of a tree's files, by their numbers, into an archive that has all else of it in its place.

    None where the archive is not to be had alone or is not the one of the fingerprint ``known``
    (`atomic.rewrite`). Raises UserError as :func:`write` does, before anything is written.
    """
    contents = [
        (tree.members[number].offset, b"".join(map(bytes, _data(tree.entries[number])))) for number in numbers
    ]
    if not atomic.rewrite(target, known, contents):
        return None
    return Archive(str(target), FileContent.of(target), tuple(tree.members))


class Unwritten:
    """What :func:`write` makes of a tree, to be measured where it is not written; raises as that does."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    @property
    def members(self) -> Sequence[Member]:
        """Its members."""
        return self.tree.members

    @property
    def size(self) -> int:
        """Number of bytes."""
        return _end(self.members) + len(cpio.end(_end(self.members)))

    @contextmanager
    def opened(self) -> Iterator[PieceReader]:
        """Begin to read the archive into buffers."""
        yield PieceReader(self.pieces())

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the archive; a piece is as it is until the next one is asked for."""
        yield cpio.ROOT
        for entry in self.tree.entries:
            yield from _member(entry)
        yield cpio.end(_end(self.members))


def _end(members: Sequence[Member]) -> int:
    """Return where the last member ends."""
    return members[-1].end if members else len(cpio.ROOT)


def _member(entry: Entry) -> Iterator[bytes | memoryview]:
    yield cpio.header(entry.path, entry.mode, entry.size)
    yield from _data(entry)
    yield cpio.padding(entry.size)


def _data(entry: Entry) -> Iterator[bytes | memoryview]:
    if not stat.S_ISREG(entry.mode):
        yield entry.target
        return
    for data in entry.chunks():
        yield data
        progress.advance(len(data))


class DifferentError(Exception):
    """An archive is not what :func:`write` makes of a tree."""


class Held(Unwritten):
    """What :func:`write` makes of a tree, held to the bytes of a file from ``offset`` while it is read.

    ``is_same`` tells that it was read to its end. Raises as :func:`write`, and DifferentError if it differs.
    """

    def __init__(self, tree: Tree, file: AnyOffset, offset: int) -> None:
        super().__init__(tree)
        self.file = file
        self.offset = offset
        self.is_same = False

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the archive as far as it is the same; a piece is as it is until the next one is asked for."""
        at, end = self.offset, self.offset + self.size
        with self.file.at_any_offset() as read_at:
            for piece in super().pieces():
                if read_at(at, len(piece)) != bytes(piece):
                    raise DifferentError
                at += len(piece)
                self.is_same = at == end
                yield piece


def read(path: Path) -> Archive:
    """Read what is in an archive; raise UserError as :func:`index` does and for what cannot be read."""
    return index(FileContent.of(path), str(path))


def index(content: Content, where: str) -> Archive:
    """Read what is in an archive, maybe a part of a file; raise UserError as :func:`cpio.members` does."""
    with content.at_any_offset() as read_at:
        start = read_at(0, min(content.size, kinds.SIZE))
        if kinds.kind(start) not in (kinds.ARCHIVE, ""):
            raise UserError(where, kinds.instead_of(start, "CPIO archive of the newc form"), cpio.MAKE_NEWC)
        return Archive(where, content, tuple(cpio.members(read_at, content.size, where)))


class ArchiveSource:
    """An archive as a source of a root: a layer, with its modes as they are.

    What matches ``exclude`` stays out, as of a directory. Raises UserError as :func:`read`, when it is asked.
    """

    def __init__(self, path: Path, *, exclude: tuple[str, ...] = ()) -> None:
        self._path = path
        self._exclude = exclude

    def fingerprint(self) -> bytes:
        """Return 32 bytes that change when the archive may have changed."""
        return hashlib.sha256("\0".join((*self._exclude, "")).encode() + self._found[0]).digest()

    def is_racy(self) -> bool:
        """Tell whether the archive could be changed and the fingerprint stay as it is."""
        return fingerprint.is_racy(*self._found)

    def tree(self) -> Tree:
        """Return the archive's members as entries."""
        known, started = self._found
        archive, excluded = read(self._path), excluding(self._exclude)
        files = _ArchiveFiles(self._path, archive)
        kept = (member for member in archive.members if not is_excluded(member.path, excluded))
        entries = [files.entry(member, known) for member in kept]
        return Tree(tuple(sorted(entries, key=attrgetter("path"))), (), started)

    @cached_property
    def _found(self) -> tuple[bytes, int]:
        """The archive's fingerprint, and when it was looked at."""
        started = time.time_ns()
        try:
            return fingerprint.of(self._path.stat()), started
        except OSError as error:
            raise UserError(str(self._path), reason_of(error), "give an existing archive") from error


class _ArchiveFiles(Contents):
    """The files of an archive; an entry's origin is the member's path."""

    def __init__(self, path: Path, archive: Archive) -> None:
        self._path = os.path.realpath(os.fsencode(path))
        self._archive = archive

    def entry(self, member: Member, known: bytes) -> Entry:
        """Return a member as an entry."""
        target = self._archive.data(member) if stat.S_ISLNK(member.mode) else b""
        return Entry(member.path, member.mode, member.size, member.path, known, self, target)

    def name(self, entry: Entry) -> str:
        """Return the archive's path and the path in it."""
        return f"{self._archive.where}, {os.fsdecode(entry.origin)}"

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[ReadAt]:
        """Begin to read at any offset; see :class:`mystikos_tool.root.tree.Contents`."""
        offset = self._archive.by_path[entry.origin].offset
        with unchanged(self._path, entry) as descriptor:
            yield lambda at, size: os.pread(descriptor, max(min(size, entry.size - at), 0), offset + at)


def extract(archive: Archive, directory: Path, *, keep_set_id: bool = False) -> None:
    """Unpack an archive into ``directory``, which is created and must be empty.

    Set-user-ID and set-group-ID bits are left out unless they are asked for: the files belong to whoever
    unpacks, and an archive of another's would make a program that runs as that user. Nothing is written
    outside: :func:`index` takes no archive whose names could lead there. Raises UserError for a directory
    that is not empty, can't be written or is reached by another user's link. Where it fails, nothing stays.
    """
    is_new = not lookup.exists(directory)
    make_directory(directory)
    try:
        if any(directory.iterdir()):
            remedy = "give a directory that is empty or does not exist"
            raise UserError(str(directory), "is not empty", remedy)
    except OSError as error:
        raise UserError(str(directory), reason_of(error), "give a directory you may write to") from error
    made: _Made = [(os.rmdir, os.fsencode(directory))] if is_new else []
    try:
        _extract_members(archive, directory, 0o7777 if keep_set_id else 0o1777, made)
    except BaseException:
        for remove, path in reversed(made):  # what others put there meanwhile is theirs
            with suppress(OSError):
                remove(path)
        raise


def _extract_members(archive: Archive, directory: Path, kept: int, made: _Made) -> None:
    """Unpack into an empty directory, with the bits ``kept`` of each mode; add to ``made``."""
    try:
        with archive.content.at_any_offset() as read_at:
            for member in archive.members:
                target = os.path.join(os.fsencode(directory), member.path)
                _extract_member(member, read_at, target, kept, made)
        for member in reversed(archive.members):
            if stat.S_ISDIR(member.mode):
                os.chmod(os.path.join(os.fsencode(directory), member.path), member.mode & kept)
    except OSError as error:
        place = os.fsdecode(error.filename or directory)
        remedy = "free some space" if is_out_of_space(error) else "give a directory you may write to"
        raise UserError(place, reason_of(error), remedy) from error


def _extract_member(member: Member, read_at: ReadAt, target: bytes, kept: int, made: _Made) -> None:
    if stat.S_ISDIR(member.mode):
        os.mkdir(target, 0o700)
        made.append((os.rmdir, target))
    elif stat.S_ISLNK(member.mode):
        os.symlink(read_at(member.offset, member.size), target)
        made.append((os.unlink, target))
    else:
        short = UserError(os.fsdecode(target), "its data are truncated", "pack the archive again")
        with open(target, "xb") as output:
            made.append((os.unlink, target))
            output.writelines(pieces(read_at, member.offset, member.size, short))
        os.chmod(target, member.mode & kept)
