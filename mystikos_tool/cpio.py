"""The root file system archive: CPIO "newc" as the kernel reads it (docs/formats.md, section 1)."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from mystikos_tool.appdir import MAX_PATH, Entry, Tree
from mystikos_tool.errors import UserError
from mystikos_tool.files import writing
from mystikos_tool.pages import align_up

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
_DEVICE = {"devmajor": 8, "devminor": 2}
_ROOT = {"ino": 0x00B66448, "mode": 0o040755, "nlink": 2, "mtime": 0x5BE31EB3, **_DEVICE}
_OTHER = {"nlink": 1, "mtime": 0x56734BA4, **_DEVICE}
_TRAILER = {"nlink": 2}
_TRAILER_NAME = b"TRAILER!!!"
_ALIGN = 4
_BLOCK = 512
_CHUNK = 1 << 20
_MAX_LINKS = 40


def write(tree: Tree, target: Path) -> int:
    """Write a tree as an archive, beside its place first; return its size in bytes.

    Raises UserError for a file that changes while it is read or can't be read; the target is
    then as it was.
    """
    with writing(target) as archive:
        archive.write(_header(b".", _ROOT))
        for entry in tree.entries:
            archive.write(_header(entry.path, {**_OTHER, "mode": entry.mode, "filesize": entry.size}))
            if stat.S_ISREG(entry.mode):
                _copy(entry, archive)
            else:
                archive.write(entry.target)
            archive.write(bytes(-entry.size % _ALIGN))
        archive.write(_header(_TRAILER_NAME, _TRAILER))
        archive.write(bytes(-archive.tell() % _BLOCK))
        return archive.tell()


def _header(name: bytes, values: Mapping[str, int]) -> bytes:
    fields = {**values, "namesize": len(name) + 1}
    header = _MAGIC + b"".join(b"%08X" % fields.get(field, 0) for field in _FIELDS) + name + b"\0"
    return header.ljust(align_up(len(header), _ALIGN), b"\0")


def _copy(entry: Entry, archive: BinaryIO) -> None:
    where = os.fsdecode(entry.origin)
    try:
        descriptor = os.open(entry.origin, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(where, error.strerror or "can't be read", "make it readable for the build") from error
    with open(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        copied = 0
        while copied <= entry.size and (data := file.read(_CHUNK)):
            archive.write(data)
            copied += len(data)
        after = os.fstat(descriptor)
    if copied != entry.size or _version(before) != _version(after):
        raise UserError(where, "changed while it was read", "build again when nothing writes to it")


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True)
class Member:
    """A member of an archive; its data are the ``size`` bytes at ``offset`` of the file."""

    path: bytes
    mode: int
    offset: int
    size: int


@dataclass(frozen=True)
class Archive:
    """What is in an archive, without the files' content."""

    path: Path
    members: tuple[Member, ...]

    @cached_property
    def _by_path(self) -> Mapping[bytes, Member]:
        return {member.path: member for member in self.members}

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
            member = self._by_path.get(place + b"/" + part if place else part)
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
        return self._by_path.get(place) if place else Member(b"", stat.S_IFDIR | 0o755, 0, 0)

    def data(self, member: Member) -> bytes:
        """Return a member's data."""
        with self.path.open("rb") as file:
            file.seek(member.offset)
            return file.read(member.size)


def read(path: Path) -> Archive:
    """Read what is in an archive.

    Raises UserError for anything that is no archive, is truncated, or names what the kernel
    cannot hold.
    """
    try:
        with path.open("rb") as file:
            return Archive(path, tuple(_members(file, str(path))))
    except OSError as error:
        raise UserError(str(path), error.strerror or "can't be read", "give a CPIO archive") from error


def _members(file: BinaryIO, where: str) -> Iterator[Member]:
    end = file.seek(0, os.SEEK_END)
    offset = 0
    while True:
        file.seek(offset)
        start = file.read(_HEADER_SIZE + MAX_PATH + 1)
        fields = _parse(start, f"{where}, offset {offset}")
        name_end = offset + _HEADER_SIZE + fields["namesize"]
        data = align_up(name_end, _ALIGN)
        name = start[_HEADER_SIZE : _HEADER_SIZE + fields["namesize"] - 1]
        if name == _TRAILER_NAME:
            return
        if not 0 < len(name) <= MAX_PATH or b"\0" in name or len(start) < _HEADER_SIZE + fields["namesize"]:
            raise UserError(
                f"{where}, offset {offset}", "has a name that is empty or too long", "pack it again"
            )
        if data + fields["filesize"] > end:
            raise UserError(f"{where}, offset {offset}", "is truncated", "pack it again")
        if name != b".":
            yield Member(name, fields["mode"], data, fields["filesize"])
        offset = align_up(data + fields["filesize"], _ALIGN)


def _parse(header: bytes, where: str) -> dict[str, int]:
    if header[:6] != _MAGIC:
        problem = "is truncated" if not header else "is no CPIO archive of the newc form"
        raise UserError(where, problem, "make it with 'mystikos-tool mkcpio'")
    try:
        return {field: int(header[6 + 8 * i : 14 + 8 * i], 16) for i, field in enumerate(_FIELDS)}
    except ValueError as error:
        raise UserError(where, "has a header field that is no number", "pack it again") from error


def extract(archive: Archive, directory: Path) -> None:
    """Unpack an archive into ``directory``, which is created and must be empty.

    Nothing is written outside of it: a name that is absolute, has ``..`` or lies below anything
    but a directory of the archive raises UserError, before anything is written.
    """
    _check_names(archive)
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
            str(error.filename or directory),
            error.strerror or "can't be written",
            "give a directory you may write to",
        ) from error


def _check_names(archive: Archive) -> None:
    directories = {b""}
    seen = set()
    for member in archive.members:
        where = f"{archive.path}, {os.fsdecode(member.path)}"
        if member.path.startswith(b"/") or b".." in member.path.split(b"/"):
            raise UserError(where, "leads out of the root", "do not trust this archive")
        if posixpath.dirname(member.path) not in directories:
            raise UserError(where, "does not lie in a directory of the archive", "do not trust this archive")
        if member.path in seen:
            raise UserError(where, "is in the archive twice", "pack it again")
        seen.add(member.path)
        if stat.S_ISDIR(member.mode):
            directories.add(member.path)
        elif not (stat.S_ISREG(member.mode) or stat.S_ISLNK(member.mode)):
            raise UserError(where, f"has the type {stat.S_IFMT(member.mode):o}", "pack it again")


def _extract_member(member: Member, file: BinaryIO, target: bytes) -> None:
    if stat.S_ISDIR(member.mode):
        os.mkdir(target, 0o700)
        return
    file.seek(member.offset)
    if stat.S_ISLNK(member.mode):
        os.symlink(file.read(member.size), target)
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
