"""What is in a layer: the members of a tar archive, checked (OCI image specification, layer.md).

Nothing is ever unpacked: a member's data stay where they are in the archive, and a name is only a name.
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Iterator
from typing import IO, BinaryIO, NamedTuple, cast

from mystikos_tool.errors import UserError
from mystikos_tool.formats.cpio import MAX_MEMBERS, MAX_TARGET, TOO_MANY

MAX_NAME = 4095  # PATH_MAX of Linux without the NUL
_END = 1024  # two blocks of zeros
_MAX_HEADER = 1 << 20  # bytes of a long name or of extended attributes
_MAX_NAMED = 1 << 28  # bytes of all names, which are held in memory
_CANNOT = "make the image without it"
_DAMAGED = "make or fetch the image again"
_NOT_KEPT = {tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE}
_FILES = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}

HARD_LINK = 0  # in place of a mode: the type of what it links to is not known yet


class Member(NamedTuple):
    """A member of a layer, its path relative to the root, without ``.`` and ``..``.

    ``mode`` is ``st_mode``, that of a device or FIFO for what a root does not hold, and HARD_LINK for
    a link, whose target, such a path too, is in ``target``. A file's data are the ``size`` bytes at
    ``offset`` of the archive.
    """

    path: bytes
    mode: int
    size: int
    offset: int
    target: bytes = b""


def members(file: BinaryIO, where: str) -> Iterator[Member]:
    """Yield the members of an archive without those for the root itself.

    Raises UserError for what is no tar archive, ends too early, or holds what no layer may: a name
    or hard link that is absolute or has ``..``, another type, a hole (sparse file).
    """
    count = named = 0
    for found in headers(file, where):
        count, named = count + 1, named + len(found.name) + len(found.linkname)
        if count > MAX_MEMBERS or named > _MAX_NAMED:
            problem = f"has more than {MAX_MEMBERS:,} members, or names of more than {_MAX_NAMED:,} bytes"
            raise UserError(where, problem, TOO_MANY)
        if member := _member(found, where):
            yield member


def headers(file: BinaryIO, where: str) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar archive, none of their data; raise UserError where it is damaged."""
    file.seek(0)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], _Headers(file, where)), mode="r:") as archive:
            while (found := archive.next()) is not None:
                vars(archive)["members"] = []  # tarfile would keep them all
                yield found
            _check_end(file, archive.offset, where)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise UserError(where, f"is no tar archive that can be read: {error}", _DAMAGED) from None


class _Headers:
    """The file as tarfile reads it: headers, never data, and none without bounds."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file = file
        self._where = where
        self.tell = file.tell
        self.seek = file.seek

    def read(self, size: int) -> bytes:
        if size > _MAX_HEADER:
            raise UserError(self._where, f"has a header of {size:,} bytes", _DAMAGED)
        return self._file.read(size)


def _check_end(file: BinaryIO, offset: int, where: str) -> None:
    """Raise UserError where tarfile has ended at what is no end: a header that is damaged."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(min(offset, size))
    rest = file.read(_END)
    if offset > size or rest.strip(b"\0"):
        raise UserError(where, f"is damaged at byte {offset:,}", _DAMAGED)


def _member(found: tarfile.TarInfo, where: str) -> Member | None:
    path = _path(found.name, where, "the name")
    here = f"{where}, {found.name!r}" if not found.name.isprintable() else f"{where}, {found.name}"
    if not path:
        if found.isdir():
            return None  # the root itself
        raise UserError(here, "is a name of the root, and no directory", _CANNOT)
    mode = stat.S_IMODE(found.mode)
    if found.isdir():
        return Member(path, stat.S_IFDIR | mode, 0, found.offset_data)
    if found.issym():
        return Member(path, stat.S_IFLNK | 0o777, 0, found.offset_data, _target(found.linkname, here))
    if found.islnk():
        target = _path(found.linkname, here, "a hard link to")
        return Member(path, HARD_LINK, 0, found.offset_data, target)
    if found.type in _NOT_KEPT:
        return Member(path, stat.S_IFIFO | mode, 0, found.offset_data)
    if found.type not in _FILES or found.issparse():
        kind = "a sparse file" if found.issparse() else f"of the type {found.type!r}"
        raise UserError(here, f"is {kind}, which is not known in layers", _CANNOT)
    return Member(path, stat.S_IFREG | mode, found.size, found.offset_data)


def _path(name: str, where: str, what: str) -> bytes:
    """Return a path that can lead nowhere but into the root."""
    parts = [part for part in encoded(name).split(b"/") if part not in (b"", b".")]
    problem = ""
    if name.startswith("/"):
        problem = "is absolute"
    elif b".." in parts:
        problem = "has .. in it, which leads out"
    elif "\0" in name:
        problem = "has a NUL in it"
    elif len(name) > MAX_NAME:
        problem = f"has more than {MAX_NAME:,} bytes"
    if problem:
        raise UserError(where, f"{what} {name[:200]!r} {problem}", _CANNOT)
    return b"/".join(parts)


def _target(target: str, where: str) -> bytes:
    """Return what a symbolic link has in it; where it leads is known when all layers are."""
    data = encoded(target)
    if not data or b"\0" in data or len(data) > MAX_TARGET:
        raise UserError(where, "is a symbolic link that no system can hold", _CANNOT)
    return data


def encoded(text: str) -> bytes:
    """Return a text of tarfile's as the bytes that are in the archive."""
    return text.encode("utf-8", "surrogateescape")
