"""CPIO archives of the "newc" form, as the kernel reads them (docs/formats.md, section 1)."""

from __future__ import annotations

import os
import re
import stat
import struct
from binascii import unhexlify
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.io.content import ReadAt, Window, pieces
from mystikos_tool.io.pages import align_up

MAX_PATH = 255
MAX_BOOTED_PATH = 253  # by an installed Mystikos (docs/formats.md, section 1)
MAX_FILE_SIZE = (1 << 32) - 1
MAX_TARGET = 4095
# More than a root in memory has; of a hostile archive each costs some 8 microseconds and 250 bytes.
MAX_MEMBERS = 1_000_000
TRAILER_NAME = b"TRAILER!!!"
_TYPES = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)

MAGIC = b"070701"
_HEADER_SIZE = 110
_NAMES = "ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check"
_FIELDS = tuple(_NAMES.split())
_ALIGN = 4
_BLOCK = 512
MAKE_NEWC = "make it with 'mystikos-tool mkcpio'"
_NO_TRUST = "do not trust this archive"
TOO_MANY = "leave files out, or mount them from a disk"
_DIGITS = b"%08X"
_VARYING = ("mode", "filesize", "namesize")
_NUMBERS = struct.Struct(f">{len(_FIELDS)}I")
# Of the fields' values, those that a member is: mode, nlink, filesize and namesize.
_STATED = struct.Struct(">4x I 8x I 4x I 16x I 4x")
_NAMESIZE = _FIELDS.index("namesize")
_NO_COMPONENTS = {b"", b".", b".."}
_HEADER = re.compile(rb"%s([0-9A-F]{%d})" % (MAGIC, _HEADER_SIZE - len(MAGIC)))


class Member(NamedTuple):
    """A member of an archive; its data are the ``size`` bytes at ``offset`` of the archive."""

    path: bytes
    mode: int
    offset: int
    size: int

    @property
    def start(self) -> int:
        """Where its header begins in an archive that this module planned."""
        return self.offset - (_HEADER_SIZE + len(self.path) + _ALIGN & -_ALIGN)  # header, path and NUL

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.offset + self.size + _ALIGN - 1 & -_ALIGN


def fault(path: bytes, mode: int, size: int) -> tuple[str, str] | None:
    """Return what keeps something out of an archive, and the remedy; None where it can be a member."""
    if len(path) > MAX_PATH:
        problem = f"its path in the root has {len(path)} bytes and the kernel reads no more than {MAX_PATH}"
        return problem, "shorten the names"
    if size > MAX_FILE_SIZE:
        return f"has {size} bytes and the archive holds files below 4 GiB", "split it or mount it instead"
    if path == TRAILER_NAME:
        return "has the name that ends an archive", "rename it"
    if stat.S_IFMT(mode) not in _TYPES:
        return f"has the type {stat.S_IFMT(mode):o}, which an archive does not hold", "leave it out"
    return None


def plan(entries: Iterable[tuple[bytes, int, int]]) -> list[Member]:
    """Return the members of an archive of entries, each given by path, mode and size, in this order."""
    members, end = [], len(ROOT)
    for path, mode, size in entries:
        # As Member.start and end, which are asked for too often here.
        offset = end + (_HEADER_SIZE + len(path) + _ALIGN & -_ALIGN)
        members.append(Member(path, mode, offset, size))
        end = offset + size + _ALIGN - 1 & -_ALIGN
    return members


def _template(**values: int) -> bytes:
    """Return a header in which only mode and sizes are still to be filled in."""
    fields = (_DIGITS if field in _VARYING else _DIGITS % values.get(field, 0) for field in _FIELDS)
    return MAGIC + b"".join(fields)


_OTHER = _template(nlink=1, mtime=0x56734BA4, devmajor=8, devminor=2)


def header(path: bytes, mode: int, size: int, template: bytes = _OTHER) -> bytes:
    """Return what comes before the data of a member."""
    header = template % (mode, size, len(path) + 1) + path + b"\0"
    return header.ljust(align_up(len(header), _ALIGN), b"\0")


# The first member of every archive, and the last.
_ROOT = _template(ino=0x00B66448, nlink=2, mtime=0x5BE31EB3, devmajor=8, devminor=2)
ROOT = header(b".", 0o040755, 0, _ROOT)
TRAILER = header(TRAILER_NAME, 0, 0, _template(nlink=2))


def padding(size: int) -> bytes:
    """Return what comes after ``size`` bytes of data."""
    return bytes(-size % _ALIGN)


def end(offset: int) -> bytes:
    """Return the end of an archive whose last member ends at ``offset``."""
    return TRAILER + bytes(-(offset + len(TRAILER)) % _BLOCK)


def members(read: ReadAt, size: int, where: str) -> Iterator[Member]:
    """Yield the members of an archive of ``size`` bytes, but for the root, as they are asked for.

    Raises UserError for anything that is no archive or is truncated, for more than MAX_MEMBERS members, and
    for what no kernel unpacks as it was meant: a name that leads out of the root, is there twice or does not
    lie in a directory that came before, a root that is no directory, other types than directory, file and
    link, a link's target that is no C string, a hard link, data of no file or link, and bytes behind the end.
    """
    is_directory = {b"": True}  # for every path so far
    has_root = False
    read = Window(read).read
    for member, links in _parsed(read, size, where):
        path, mode, _, _ = member
        try:
            if links > 1 or not path or not stat.S_ISREG(mode):
                _check_type(member, links)
                if stat.S_ISLNK(mode) and b"\0" in read(member.offset, member.size):
                    raise _Malformed("is a symbolic link whose target has a NUL byte in it")
            if not path and not has_root:
                has_root = True
                continue
            if not is_directory.get(path.rpartition(b"/")[0]):
                raise _Malformed("does not lie in a directory of the archive", _NO_TRUST)
            if path in is_directory:
                raise _Malformed("is in the archive twice")
            if len(is_directory) > MAX_MEMBERS:
                raise _Malformed(f"is one of more than {MAX_MEMBERS:,} members", TOO_MANY)
        except _Malformed as error:
            raise UserError(f"{where}, {os.fsdecode(path or b'/')}", *error.args) from None
        is_directory[path] = stat.S_ISDIR(mode)
        yield member


def _parsed(read: ReadAt, end: int, where: str) -> Iterator[tuple[Member, int]]:
    """Yield every member, the root with an empty path, and the number of its links."""
    offset = 0
    while True:
        start = read(offset, _HEADER_SIZE + MAX_PATH + 1)
        try:
            mode, links, size, name_size = _parse(start)
            name = _name(start, name_size)
            # As align_up, which is asked for too often here.
            data = offset + _HEADER_SIZE + name_size + _ALIGN - 1 & -_ALIGN
            following = data + size + _ALIGN - 1 & -_ALIGN
            if following > end:
                raise _Malformed("is truncated")
            if name == TRAILER_NAME:
                if size:
                    raise _Malformed("ends the archive and has data, which nothing unpacks")
                _check_end(read, following, end)
                return
            path = _relative(name)
        except _Malformed as error:
            raise UserError(f"{where}, offset {offset}", *error.args) from None
        yield Member(path, mode, data, size), links
        offset = following


def _check_end(read: ReadAt, offset: int, end: int) -> None:
    """Refuse what would be measured and never unpacked, as of a second archive behind the first."""
    if any(piece.strip(b"\0") for piece in pieces(read, offset, end - offset, _Malformed("is truncated"))):
        raise _Malformed("ends the archive, and more than zeros follow", "pack all of it into one archive")


def different_fields(header: bytes, other: bytes) -> list[str]:
    """Return which fields differ in what two archives have before a member's data, but its mode and size.

    The root's header, which only a first member has before its own, is compared where both have it. "name" is
    how the path is written, as with a leading ``./``.
    """
    if header == other:
        return []
    pairs = zip(reversed(_headers(header)), reversed(_headers(other)), strict=False)
    differing = (name for one, two in pairs for name in one if one[name] != two[name])
    return [name for name in dict.fromkeys(differing) if name not in _VARYING]


def _headers(data: bytes) -> list[dict[str, int | bytes]]:
    """Return the fields of headers that follow one another, with the name."""
    found, at = list[dict[str, int | bytes]](), 0
    while at + _HEADER_SIZE <= len(data):
        values = _NUMBERS.unpack(unhexlify(data[at + len(MAGIC) : at + _HEADER_SIZE]))
        end = at + _HEADER_SIZE + values[_NAMESIZE]
        found.append(dict(zip(_FIELDS, values, strict=True)) | {"name": data[at + _HEADER_SIZE : end]})
        at = align_up(end, _ALIGN)
    return found


class _Malformed(Exception):  # noqa: N818 becomes a UserError, which knows the place
    """What is wrong with a member, and the remedy."""

    def __init__(self, problem: str, remedy: str = "pack it again") -> None:
        super().__init__(problem, remedy)


def _parse(header: bytes) -> tuple[int, int, int, int]:
    """Return the mode, the number of links, the data's size and the name's size that a header states."""
    if found := _HEADER.match(header):
        return _STATED.unpack(unhexlify(found[1]))
    if header[: len(MAGIC)] != MAGIC[: len(header)]:
        raise _Malformed("is no CPIO archive of the newc form", MAKE_NEWC)
    if len(header) < _HEADER_SIZE:
        raise _Malformed("is truncated", MAKE_NEWC)
    raise _Malformed("has a header that is not in upper-case hexadecimal digits", MAKE_NEWC)


def _name(start: bytes, size: int) -> bytes:
    """Return a member's name, which with its NUL has ``size`` bytes."""
    if not 2 <= size <= MAX_PATH + 1:
        raise _Malformed(f"has a name that is empty or has more than {MAX_PATH} bytes")
    field = start[_HEADER_SIZE : _HEADER_SIZE + size]
    if len(field) < size:
        raise _Malformed("is truncated")
    if field.find(b"\0") != size - 1:
        raise _Malformed("has a name that does not end where it should")
    return field[:-1]


def _relative(name: bytes) -> bytes:
    """Return a name without empty and ``.`` components: nothing for the root itself."""
    parts = name.split(b"/")
    if _NO_COMPONENTS.isdisjoint(parts):
        return name
    if name.startswith(b"/") or b".." in parts:
        raise _Malformed(f"{os.fsdecode(name)} leads out of the root", _NO_TRUST)
    return b"/".join(part for part in parts if part not in (b"", b"."))


def _check_type(member: Member, links: int) -> None:
    kind = stat.S_IFMT(member.mode)
    if not member.path and kind != stat.S_IFDIR:
        raise _Malformed(f"is the root and has the type {kind:o}, not that of a directory")
    if kind == stat.S_IFDIR and member.size:
        raise _Malformed("is a directory with data, which nothing unpacks")
    if kind == stat.S_IFLNK and not 0 < member.size <= MAX_TARGET:
        raise _Malformed(f"is a symbolic link with a target of {member.size} bytes")
    if kind == stat.S_IFREG and links > 1 and member.size == 0:
        # Of several links newc has the content with the last one only.
        raise _Malformed("is one of several hard links, whose content is elsewhere", MAKE_NEWC)
    if kind not in _TYPES:
        raise _Malformed(f"has the type {kind:o}")
