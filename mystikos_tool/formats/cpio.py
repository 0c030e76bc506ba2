"""The root file system archive: CPIO "newc" as the kernel reads it (docs/formats.md, section 1)."""

from __future__ import annotations

import os
import posixpath
import re
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from operator import add
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.io import fingerprint, progress
from mystikos_tool.io.atomic import writing
from mystikos_tool.io.content import FileContent
from mystikos_tool.io.pages import align_up
from mystikos_tool.root.tree import MAX_PATH, Entry, Tree

_MAGIC = b"070701"
_HEADER_SIZE = 110
_FIELDS = (
    "ino",
    "mode",
    "uid",
    "gid",
    "nlink",
    "mtime",
    "filesize",
    "devmajor",
    "devminor",
    "rdevmajor",
    "rdevminor",
    "namesize",
    "check",
)
_DEVICE: Mapping[str, int] = {"devmajor": 8, "devminor": 2}
_ROOT = {"ino": 0x00B66448, "nlink": 2, "mtime": 0x5BE31EB3, **_DEVICE}
_ROOT_MODE = 0o040755
_OTHER = {"nlink": 1, "mtime": 0x56734BA4, **_DEVICE}
_TRAILER = {"nlink": 2}
_TRAILER_NAME = b"TRAILER!!!"
_ALIGN = 4
_BLOCK = 512
_CHUNK = 1 << 20
_MAX_LINKS = 40
_MAX_TARGET = 4095
_NO_NEWC = "make it with 'mystikos-tool mkcpio'"
_DIGITS = b"%08X"
_VARYING = ("mode", "filesize", "namesize")
_FIELD_FORMAT = f">{len(_FIELDS)}I"
_MODE, _FILESIZE, _NAMESIZE = (_FIELDS.index(name) for name in ("mode", "filesize", "namesize"))
_NO_COMPONENTS = {b"", b".", b".."}
_UPPER_HEX = re.compile(rb"[0-9A-F]*")


class Earlier(NamedTuple):
    """An archive of an earlier build, and where in it each entry's data are; None for what has changed."""

    path: Path
    offsets: Sequence[int | None]


def write(tree: Tree, target: Path, earlier: Earlier | None = None) -> Archive:
    """Write a tree as an archive, beside its place first; return what is in it.

    What has not changed since an ``earlier`` archive is copied from there, in long runs and
    within the kernel, instead of from its file.

    Raises UserError for a file that changed since it was scanned or can't be read, and for one
    whose path is the archive's end mark; the target is then as it was.
    """
    root = _header(_ROOT_HEADER, b".", _ROOT_MODE)
    # As align_up, of a header with the name's NUL and of the data.
    headers = [_HEADER_SIZE + len(path) + _ALIGN & -_ALIGN for path in tree.paths]
    spans = [header + (size + _ALIGN - 1 & -_ALIGN) for header, size in zip(headers, tree.sizes, strict=True)]
    starts = list(accumulate(spans, initial=len(root)))
    offsets = list(map(add, starts, headers))
    known = earlier.offsets if earlier else [None] * len(headers)
    shifts = [
        None if before is None else before - offset for before, offset in zip(known, offsets, strict=True)
    ]
    with writing(target) as archive:
        archive.write(root)
        # What has moved by the same distance as its neighbour is next to it in the earlier archive too.
        for shift, run in groupby(range(len(headers)), shifts.__getitem__):
            places = list(run)
            if earlier and shift is not None:
                start, end = starts[places[0]], starts[places[-1] + 1]
                FileContent(earlier.path, end - start, start + shift).write_to(archive)
            else:
                for place in places:
                    _write_member(tree.entries[place], archive)
        archive.write(_header(_TRAILER_HEADER, _TRAILER_NAME))
        archive.write(bytes(-archive.tell() % _BLOCK))
    return Archive(target, Columns(tree.paths, tree.modes, offsets, tree.sizes))


def _write_member(entry: Entry, archive: BinaryIO) -> None:
    if entry.path == _TRAILER_NAME:
        raise UserError(os.fsdecode(entry.origin), "has the name that ends an archive", "rename it")
    archive.write(_header(_OTHER_HEADER, entry.path, entry.mode, entry.size))
    if stat.S_ISREG(entry.mode):
        _copy(entry, archive)
    else:
        archive.write(entry.target)
    archive.write(bytes(-entry.size % _ALIGN))


def _template(values: Mapping[str, int]) -> bytes:
    """Return a header in which only mode and sizes are still to be filled in."""
    fields = (_DIGITS if field in _VARYING else _DIGITS % values.get(field, 0) for field in _FIELDS)
    return _MAGIC + b"".join(fields)


_ROOT_HEADER, _OTHER_HEADER, _TRAILER_HEADER = map(_template, (_ROOT, _OTHER, _TRAILER))


def _header(template: bytes, name: bytes, mode: int = 0, size: int = 0) -> bytes:
    header = template % (mode, size, len(name) + 1) + name + b"\0"
    return header.ljust(align_up(len(header), _ALIGN), b"\0")


def _copy(entry: Entry, archive: BinaryIO) -> None:
    try:
        # What has become a FIFO since the scan must not be waited for.
        descriptor = os.open(entry.origin, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        where = os.fsdecode(entry.origin)
        raise UserError(where, "may not be read", "make it readable for the build") from error
    except OSError as error:
        raise _changed(entry) from error
    try:
        version = fingerprint.content_version(entry.stamp)
        if fingerprint.content_version(fingerprint.of(os.fstat(descriptor))) != version:
            raise _changed(entry)
        copied = 0
        # One byte more than there should be, to see that there is none.
        while data := os.read(descriptor, min(entry.size - copied + 1, _CHUNK)):
            archive.write(data)
            progress.advance(len(data))
            copied += len(data)
        if (
            copied != entry.size
            or fingerprint.content_version(fingerprint.of(os.fstat(descriptor))) != version
        ):
            raise _changed(entry)
    finally:
        os.close(descriptor)


def _changed(entry: Entry) -> UserError:
    where = os.fsdecode(entry.origin)
    return UserError(where, "changed while it was read", "build again when nothing writes to it")


class Member(NamedTuple):
    """A member of an archive; its data are the ``size`` bytes at ``offset`` of the file."""

    path: bytes
    mode: int
    offset: int
    size: int


class Columns(NamedTuple):
    """The members of an archive, a column for each of their values."""

    paths: list[bytes]
    modes: list[int]
    offsets: list[int]
    sizes: list[int]


@dataclass(frozen=True)
class Archive:
    """What is in an archive, without the files' content."""

    path: Path
    columns: Columns

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """Every member, in the archive's order."""
        return tuple(map(Member, *self.columns))

    @cached_property
    def _places(self) -> Mapping[bytes, int]:
        return dict(zip(self.columns.paths, range(len(self.columns.paths)), strict=True))

    def _member(self, path: bytes) -> Member | None:
        place = self._places.get(path)
        if place is None:
            return None
        paths, modes, offsets, sizes = self.columns
        return Member(paths[place], modes[place], offsets[place], sizes[place])

    def entry(self, path: str) -> Member | None:
        """Return the member with exactly this path, symbolic links not followed, or None."""
        return self._member(os.fsencode(path).strip(b"/"))

    def find(self, path: str) -> Member | None:
        """Return the member that an absolute path leads to inside of the root, or None.

        Symbolic links are followed, never out of the root. "/" is a directory that is always there.
        """
        pending = [part for part in os.fsencode(path).split(b"/") if part]
        place = b""
        links = 0
        while pending:
            part = pending.pop(0)
            if part == b".":
                continue
            if part == b"..":
                place = posixpath.dirname(place)
                continue
            member = self._member(place + b"/" + part if place else part)
            if member is None:
                return None
            if not stat.S_ISLNK(member.mode):
                place = member.path
                continue
            links += 1
            if links > _MAX_LINKS:
                return None
            target = self.data(member)
            place = b"" if target.startswith(b"/") else place
            pending = [part for part in target.split(b"/") if part] + pending
        return self._member(place) if place else Member(b"", stat.S_IFDIR | 0o755, 0, 0)

    def data(self, member: Member) -> bytes:
        """Return a member's data."""
        with self.path.open("rb") as file:
            file.seek(member.offset)
            return file.read(member.size)


def read(path: Path) -> Archive:
    """Read what is in an archive.

    Raises UserError for anything that is no archive or is truncated, and for what the kernel
    would not unpack: a name that leads out of the root, is there twice or does not lie in a
    directory that came before it, and types other than directory, file and symbolic link.
    """
    try:
        with path.open("rb") as file:
            members = list(_members(file, str(path)))
    except OSError as error:
        raise UserError(
            str(path), (error.strerror or "cannot be read").lower(), "give a CPIO archive"
        ) from error
    _check_members(members, str(path))
    paths, modes, offsets, sizes = map(list, zip(*members, strict=True)) if members else ([], [], [], [])
    return Archive(path, Columns(paths, modes, offsets, sizes))


def _members(file: BinaryIO, where: str) -> Iterator[Member]:
    descriptor = file.fileno()
    end = os.fstat(descriptor).st_size
    offset = 0
    while True:
        start = os.pread(descriptor, _HEADER_SIZE + MAX_PATH + 1, offset)
        try:
            mode, size, name_size = _parse(start)
            name = _name(start, name_size)
            data = align_up(offset + _HEADER_SIZE + name_size, _ALIGN)
            following = align_up(data + size, _ALIGN)
            if following > end:
                raise _Malformed("is truncated", "pack it again")
            if name == _TRAILER_NAME:
                return
            path = _relative(name)
        except _Malformed as error:
            raise UserError(f"{where}, offset {offset}", *error.args) from None
        if path:
            yield Member(path, mode, data, size)
        offset = following


class _Malformed(Exception):  # noqa: N818 becomes a UserError, which knows the place
    """What is wrong with an entry, and the remedy."""


def _parse(header: bytes) -> tuple[int, int, int]:
    """Return the mode, the data's size and the name's size that a header states."""
    if header[: len(_MAGIC)] != _MAGIC[: len(header)]:
        raise _Malformed("is no CPIO archive of the newc form", _NO_NEWC)
    if len(header) < _HEADER_SIZE:
        raise _Malformed("is truncated", _NO_NEWC)
    digits = header[len(_MAGIC) : _HEADER_SIZE]
    if not _UPPER_HEX.fullmatch(digits):
        raise _Malformed("has a header that is not in upper-case hexadecimal digits", _NO_NEWC)
    fields = struct.unpack(_FIELD_FORMAT, bytes.fromhex(digits.decode()))
    return fields[_MODE], fields[_FILESIZE], fields[_NAMESIZE]


def _name(start: bytes, size: int) -> bytes:
    """Return an entry's name, which with its NUL has ``size`` bytes."""
    if not 2 <= size <= MAX_PATH + 1:
        raise _Malformed(f"has a name that is empty or has more than {MAX_PATH} bytes", "pack it again")
    field = start[_HEADER_SIZE : _HEADER_SIZE + size]
    if len(field) < size:
        raise _Malformed("is truncated", "pack it again")
    if field.find(b"\0") != size - 1:
        raise _Malformed("has a name that does not end where it should", "pack it again")
    return field[:-1]


def _relative(name: bytes) -> bytes:
    """Return a name without empty and ``.`` components: nothing for the root itself."""
    parts = name.split(b"/")
    if _NO_COMPONENTS.isdisjoint(parts):
        return name
    if name.startswith(b"/") or b".." in parts:
        raise _Malformed(f"{os.fsdecode(name)} leads out of the root", "do not trust this archive")
    return b"/".join(part for part in parts if part not in (b"", b"."))


def _check_members(members: Sequence[Member], where: str) -> None:
    directories = {b""}
    seen = set()
    for member in members:
        try:
            if member.path.rpartition(b"/")[0] not in directories:
                raise _Malformed("does not lie in a directory of the archive", "do not trust this archive")
            if member.path in seen:
                raise _Malformed("is in the archive twice", "pack it again")
            _check_type(member)
        except _Malformed as error:
            raise UserError(f"{where}, {os.fsdecode(member.path)}", *error.args) from None
        seen.add(member.path)
        if stat.S_ISDIR(member.mode):
            directories.add(member.path)


def _check_type(member: Member) -> None:
    kind = stat.S_IFMT(member.mode)
    if kind == stat.S_IFLNK and not 0 < member.size <= _MAX_TARGET:
        raise _Malformed(f"is a symbolic link with a target of {member.size} bytes", "pack it again")
    if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise _Malformed(f"has the type {kind:o}", "pack it again")


def extract(archive: Archive, directory: Path) -> None:
    """Unpack an archive into ``directory``, which is created and must be empty.

    Nothing is written outside of it: :func:`read` takes no archive whose names could lead there.
    Raises UserError for a directory that is not empty or can't be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise UserError(
                str(directory), "is not empty", "give a directory that is empty or does not exist"
            )
        with archive.path.open("rb") as file:
            for member in archive.members:
                _extract_member(member, file, os.path.join(os.fsencode(directory), member.path))
        for member in reversed(archive.members):
            if stat.S_ISDIR(member.mode):
                os.chmod(os.path.join(os.fsencode(directory), member.path), stat.S_IMODE(member.mode))
    except OSError as error:
        raise UserError(
            os.fsdecode(error.filename or directory),
            (error.strerror or "cannot be written").lower(),
            "give a directory you may write to",
        ) from error


def _extract_member(member: Member, file: BinaryIO, target: bytes) -> None:
    if stat.S_ISDIR(member.mode):
        os.mkdir(target, 0o700)
        return
    file.seek(member.offset)
    if stat.S_ISLNK(member.mode):
        link = file.read(member.size)
        if b"\0" in link:
            raise UserError(os.fsdecode(target), "its target has a NUL byte in it", "pack the archive again")
        os.symlink(link, target)
        return
    with open(target, "xb") as output:
        left = member.size
        while left > 0:
            data = file.read(min(left, _CHUNK))
            if not data:
                raise UserError(os.fsdecode(target), "its data are truncated", "pack the archive again")
            output.write(data)
            left -= len(data)
    os.chmod(target, stat.S_IMODE(member.mode))
