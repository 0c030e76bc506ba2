"""Where two root file systems differ: their files, the order of them, and the archive's own fields."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mystikos_tool.explain.causes import Cause, of_file
from mystikos_tool.explain.contents import (
    SectionChange,
    first_difference,
    first_difference_of,
    is_elf,
    section_differences,
    text_difference,
)
from mystikos_tool.explain.stream import Pages
from mystikos_tool.formats import cpio
from mystikos_tool.formats.cpio import Member
from mystikos_tool.io.content import Content, ReadAt
from mystikos_tool.io.pages import PAGE
from mystikos_tool.printable import printable
from mystikos_tool.root.archive import Archive

# Files that are told of one by one, and of how many of them, and bytes, what in their content differs.
MAX_FILES = 1000
_MAX_LOOKED_INTO = 200
_MAX_READ = 1 << 28
_CHUNK = 1 << 20

ONLY_A, ONLY_B = "only in A", "only in B"
TYPE, MODE, TARGET, CONTENT = "type", "mode", "target", "content"

_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symbolic link"}


@dataclass(frozen=True)
class File:
    """A file of one side: its type, mode in octal digits, size in bytes, and a link's target.

    ``page`` is the offset, in the root's region, of the page with the first byte that differs, or
    of the file's first.
    """

    type: str
    mode: str
    size: int
    target: str | None
    page: int


@dataclass(frozen=True)
class FileChange:
    """A file that is not the same in both; ``changes`` says what of it: "content", "mode", "target", "type".

    ``first_byte`` is the offset of the first byte that differs. ``text`` has the lines of a unified
    diff, ``sections`` what differs of an ELF file; both are empty where the content is neither.
    """

    path: str
    changes: tuple[str, ...]
    a: File | None
    b: File | None
    first_byte: int | None = None
    text: tuple[str, ...] = ()
    sections: tuple[SectionChange, ...] = ()


@dataclass
class RootDifference:
    """What differs between two roots.

    ``files`` has the first `MAX_FILES` of ``changed`` ones, ``count_a`` and ``count_b`` say how many
    there are. ``order`` names the first path at which the order is another one. ``fields`` are those
    of an archive's own headers that differ, with the number of files of which they do, and
    ``elsewhere`` says that what differs is neither of a file nor of a header, as padding.
    """

    count_a: int
    count_b: int
    changed: int = 0
    files: list[FileChange] = field(default_factory=list)
    order: str | None = None
    fields: dict[str, int] = field(default_factory=dict)
    elsewhere: bool = False
    causes: list[tuple[str, Cause]] = field(default_factory=list, repr=False)

    @property
    def same(self) -> bool:
        """Whether the archives are the same, byte for byte."""
        return not (self.changed or self.order or self.fields or self.elsewhere)


class _Side:
    """An archive that is open for reading."""

    def __init__(self, archive: Archive, read_at: ReadAt) -> None:
        self.archive = archive
        self.read_at = read_at
        self._starts = {}
        end = 0
        for member in archive.members:
            self._starts[member.path] = end
            end = member.end

    def start(self, member: Member) -> int:
        """Return where a member's header begins: behind the member before it."""
        return self._starts[member.path]

    def header(self, member: Member) -> bytes:
        """Return what the archive has before a member's data."""
        start = self.start(member)
        return self.read_at(start, member.offset - start)

    def content(self, member: Member) -> Content:
        return self.archive.content_of(member)

    def file(self, member: Member, first_byte: int | None = None) -> File:
        """Describe a member whose first byte that differs is known."""
        kind = stat.S_IFMT(member.mode)
        target = printable(self.archive.data(member)) if kind == stat.S_IFLNK else None
        page = (member.offset + (first_byte or 0)) // PAGE * PAGE
        return File(_TYPES[kind], f"{stat.S_IMODE(member.mode):04o}", member.size, target, page)


def compare(a: Archive, b: Archive, known: Pages | None = None) -> RootDifference:
    """Compare two archives file by file; what is ``known`` to be the same is not read.

    Raises UserError where one became shorter meanwhile.
    """
    with a.content.at_any_offset() as read_a, b.content.at_any_offset() as read_b:
        return _Comparison(_Side(a, read_a), _Side(b, read_b), known or Pages()).difference()


class _Comparison:
    def __init__(self, a: _Side, b: _Side, known: Pages) -> None:
        self._a = a
        self._b = b
        self._known = known
        self._left_to_read = _MAX_READ
        self._found = RootDifference(len(a.archive.members), len(b.archive.members))

    def difference(self) -> RootDifference:
        found = self._found
        in_a, in_b = self._a.archive.by_path, self._b.archive.by_path
        for path in sorted(in_a.keys() | in_b.keys()):
            one, other = in_a.get(path), in_b.get(path)
            if one and other:
                if not self._is_known(one, other):
                    self._compare(one, other)
            elif one:
                self._add(FileChange(printable(path), (ONLY_A,), self._a.file(one), None), one, None)
            elif other:
                self._add(FileChange(printable(path), (ONLY_B,), None, self._b.file(other)), None, other)
        found.order = _order(self._a.archive, self._b.archive)
        if found.same:
            content_a, content_b = self._a.archive.content, self._b.archive.content
            found.elsewhere = first_difference(content_a, content_b) is not None
        return found

    def _is_known(self, one: Member, other: Member) -> bool:
        return one == other and self._known.equal(self._a.start(one), one.end)

    def _compare(self, one: Member, other: Member) -> None:
        changes, first = [], None
        kind, other_kind = stat.S_IFMT(one.mode), stat.S_IFMT(other.mode)
        if kind != other_kind:
            changes.append(TYPE)
        elif stat.S_IMODE(one.mode) != stat.S_IMODE(other.mode):
            changes.append(MODE)
        if kind == other_kind and kind != stat.S_IFDIR:
            first = first_difference_of(self._pieces(one, other))
            if first is not None:
                changes.append(TARGET if kind == stat.S_IFLNK else CONTENT)
        if changes:
            sides = self._a.file(one, first), self._b.file(other, first)
            self._add(FileChange(printable(one.path), tuple(changes), *sides, first), one, other)
        for name in cpio.different_fields(self._a.header(one), self._b.header(other)):
            self._found.fields[name] = self._found.fields.get(name, 0) + 1

    def _pieces(self, one: Member, other: Member) -> Iterator[tuple[bytes, bytes]]:
        for start in range(0, max(one.size, other.size), _CHUNK):
            yield (
                self._a.read_at(one.offset + start, max(min(_CHUNK, one.size - start), 0)),
                self._b.read_at(other.offset + start, max(min(_CHUNK, other.size - start), 0)),
            )

    def _add(self, change: FileChange, one: Member | None, other: Member | None) -> None:
        self._found.changed += 1
        if self._found.changed > MAX_FILES:
            return
        size = sum(member.size for member in (one, other) if member)
        if self._found.changed <= _MAX_LOOKED_INTO and size <= self._left_to_read:
            self._left_to_read -= size
            contents = self._a.content(one) if one else None, self._b.content(other) if other else None
            change = _looked_into(change, *contents)
            if cause := of_file(change.path, change.changes, change.first_byte, change.sections, *contents):
                self._found.causes.append((change.path, cause))
        self._found.files.append(change)


def _looked_into(change: FileChange, a: Content | None, b: Content | None) -> FileChange:
    """Add to a change what in the content of the two files differs."""
    if CONTENT not in change.changes or a is None or b is None:
        return change
    if is_elf(a) and is_elf(b):
        return replace(change, sections=section_differences(a, b))
    return replace(change, text=text_difference(a, b))


def _order(a: Archive, b: Archive) -> str | None:
    """Return the first path at which what is in both archives has another order."""
    one = (member.path for member in a.members if member.path in b.by_path)
    other = (member.path for member in b.members if member.path in a.by_path)
    different = next((path for path, place in zip(one, other, strict=True) if path != place), None)
    return None if different is None else printable(different)
