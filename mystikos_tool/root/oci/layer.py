"""What is in a layer: the members of a tar archive, checked (OCI image specification, layer.md).

Nothing is ever unpacked: a member's data stay where they are in the archive, and a name is only a name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import tar
from mystikos_tool.formats.cpio import MAX_MEMBERS, MAX_TARGET, TOO_MANY
from mystikos_tool.io.content import ReadAt

MAX_NAME = 4095  # PATH_MAX of Linux without the NUL
_MAX_NAMED = 1 << 28  # bytes of all names, which are held in memory
_CANNOT = "make the image without it"
_NOT_KEPT = {tar.CHARACTER_DEVICE, tar.BLOCK_DEVICE, tar.FIFO}
_NO_COMPONENTS = {b"", b".", b".."}
_NUL = b"\0"

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


def members(read: ReadAt, size: int, where: str) -> Iterator[Member]:
    """Yield the members of an archive of ``size`` bytes without those for the root itself.

    Raises UserError as :func:`mystikos_tool.formats.tar.members` does, and for what no layer may hold: a
    name or hard link that is absolute or has ``..``, another type.
    """
    count = named = 0
    for found in tar.members(read, size, where):
        count, named = count + 1, named + len(found.name) + len(found.target)
        if count > MAX_MEMBERS or named > _MAX_NAMED:
            problem = f"has more than {MAX_MEMBERS:,} members, or names of more than {_MAX_NAMED:,} bytes"
            raise UserError(where, problem, TOO_MANY)
        path = _path(found.name, where, "the name")
        if not path:
            if found.kind == tar.DIRECTORY:
                continue  # the root itself
            raise UserError(_here(found, where), "is a name of the root, and no directory", _CANNOT)
        if found.kind == tar.FILE:
            yield Member(path, stat.S_IFREG | found.mode, found.size, found.offset)
        else:
            yield Member(path, *_without_data(found, where))


def _without_data(found: tar.Member, where: str) -> tuple[int, int, int, bytes]:
    """Return mode, size, offset and target of what is no file."""
    mode, target = stat.S_IFDIR | found.mode, b""
    if found.kind == tar.SYMBOLIC_LINK:
        mode, target = stat.S_IFLNK | 0o777, _target(found.target, _here(found, where))
    elif found.kind == tar.HARD_LINK:
        mode, target = HARD_LINK, _path(found.target, _here(found, where), "a hard link to")
    elif found.kind in _NOT_KEPT:
        mode = stat.S_IFIFO | found.mode
    elif found.kind != tar.DIRECTORY:
        problem = f"is of the type {found.kind!r}, which is not known in layers"
        raise UserError(_here(found, where), problem, _CANNOT)
    return mode, 0, found.offset, target


def _here(found: tar.Member, where: str) -> str:
    return f"{where}, {os.fsdecode(found.name)}"


def _path(name: bytes, where: str, what: str) -> bytes:
    """Return a path that can lead nowhere but into the root."""
    parts = name.split(b"/")
    is_plain = _NO_COMPONENTS.isdisjoint(parts)
    problem = ""
    if name.startswith(b"/") and name.strip(b"/"):  # "/" is the root itself, as some builders name it
        problem = "is absolute"
    elif not is_plain and b".." in parts:
        problem = "has .. in it, which leads out"
    elif _NUL in name:
        problem = "has a NUL in it"
    elif len(name) > MAX_NAME:
        problem = f"has more than {MAX_NAME:,} bytes"
    if problem:
        raise UserError(where, f"{what} {os.fsdecode(name)[:200]!r} {problem}", _CANNOT)
    return name if is_plain else b"/".join(part for part in parts if part not in _NO_COMPONENTS)


def _target(target: bytes, where: str) -> bytes:
    """Return what a symbolic link has in it; where it leads is known when all layers are."""
    if not target or _NUL in target or len(target) > MAX_TARGET:
        raise UserError(where, "is a symbolic link that no system can hold", _CANNOT)
    return target
