"""Tar archives, read: ustar, with the extensions of POSIX (pax) and of GNU tar.

The rules are those of POSIX.1-2017, pax, and of GNU tar's manual, "Basic Tar Format". Where two readers
could take an archive differently, it is refused.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from zlib import adler32

from mystikos_tool.errors import UserError
from mystikos_tool.io.content import ReadAt, Window

FILE, HARD_LINK, SYMBOLIC_LINK, DIRECTORY = b"0", b"1", b"2", b"5"
CHARACTER_DEVICE, BLOCK_DEVICE, FIFO = b"3", b"4", b"6"

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
# name, mode, size, typeflag, linkname, magic and version, prefix, what ends a header of star
_HEADER = struct.Struct("100s8s16x12s12x8xc100s8s80x155s8x4s")
_USTAR, _GNU, _V7 = b"ustar\x0000", b"ustar  \0", bytes(8)
_STAR, _STAR_PREFIX = b"tar\0", 131
_OLD_FILE, _CONTIGUOUS = b"\0", b"7"
_SPARSE, _PAX_SPARSE = b"S", b"GNU.sparse"
_LONG = {b"L": b"path", b"K": b"linkpath"}  # of GNU tar
_PAX, _PAX_GLOBAL = b"x", b"g"
_EXTENSIONS = frozenset((*_LONG, _PAX, _PAX_GLOBAL))
_KEYS = frozenset((b"path", b"linkpath", b"size", _PAX_SPARSE))
# What has no data, whatever its header says of their size.
_WITHOUT_DATA = frozenset((HARD_LINK, SYMBOLIC_LINK, CHARACTER_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO))
_MAX_EXTENSION = 1 << 20  # bytes of a long name or of a pax header, which are held in memory
_MAX_DIGITS = 20
_POSITIVE = 0x80  # first byte of a number in base 256
_DAMAGED = "make or fetch the archive again"


class Member(NamedTuple):
    """A member of an archive, as its header and the extensions of that header describe it.

    ``kind`` is the typeflag, FILE for every flag of a regular file. ``mode`` are the permissions with
    set-id and sticky bits, ``target`` is that of a link. The data are the ``size`` bytes at ``offset``.
    """

    name: bytes
    kind: bytes
    mode: int
    size: int
    offset: int
    target: bytes


class _Malformed(Exception):  # noqa: N818 becomes a UserError, which knows the place
    """What is wrong with a header, and the remedy."""

    def __init__(self, problem: str, remedy: str = _DAMAGED) -> None:
        super().__init__(problem, remedy)


def members(read: ReadAt, size: int, where: str) -> Iterator[Member]:
    """Yield the members of an archive of ``size`` bytes; ``where`` names the archive in messages.

    What comes after a member is read when it is asked for, and no file's data are. Raises UserError for
    what is no archive, is damaged or truncated, for sparse files, and for extensions of more than 1 MiB.
    """
    read = Window(read).read
    extensions: dict[bytes, bytes] = {}
    offset = 0
    while offset < size:
        block = read(offset, _BLOCK)
        if block == _ZEROS:
            break
        try:
            member = _parsed(block, offset + _BLOCK)
            is_extension = member.kind in _EXTENSIONS
            if not is_extension and (extensions or member.kind != FILE):
                member, extensions = _finished(member, extensions), {}
            # What follows begins at a whole block.
            end = member.offset + (member.size + _BLOCK - 1 & -_BLOCK)
            if end > size:
                raise _Malformed("is truncated")
            if is_extension:
                _extend(extensions, member, read)
        except _Malformed as error:
            raise UserError(f"{where}, offset {offset:,}", *error.args) from None
        if not is_extension:
            yield member
        offset = end
    # An archive of nothing is its end alone: images have such layers, where a step has changed no file.
    if size == 0 or extensions or read(offset, 2 * _BLOCK).strip(b"\0"):
        problem = "is empty" if size == 0 else "is no end of a tar archive"
        raise UserError(f"{where}, offset {offset:,}", problem, _DAMAGED)


def _parsed(block: bytes, data: int) -> Member:
    """Return what one header says; its data, if there are any, begin at the offset ``data``."""
    if len(block) < _BLOCK or not _has_its_sum(block):
        raise _Malformed("is no tar archive" if data == _BLOCK else "is damaged, or ends without its end")
    name, mode, size, kind, target, magic, prefix, trailer = _HEADER.unpack(block)
    name = _text(name)
    if magic == _USTAR:
        prefix = _text(prefix[:_STAR_PREFIX] if trailer == _STAR else prefix)
        name = prefix + b"/" + name if prefix else name
    elif magic not in (_GNU, _V7):
        raise _Malformed(f"is a header of an unknown form, {magic!r}")
    length = 0 if kind in _WITHOUT_DATA else _number(size)
    return Member(name, kind, _mode(mode), length, data, _text(target))


def _has_its_sum(block: bytes) -> bool:
    """Tell whether a header has the sum of its bytes that it states, its own field being spaces.

    Some old programs took the bytes for signed.
    """
    field = block[148:156]
    stated = _octal(field)
    if stated is None:
        return False
    expected = stated + sum(field) - len(field) * ord(" ")
    # Adler-32 of half a block has the sum of its bytes in its low half, and one more; sum() is slow.
    found = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2
    return found == expected or found - 256 * sum(byte > 127 for byte in block) == expected


def _text(field: bytes) -> bytes:
    """Return what is in a field up to the first NUL."""
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Return a number: octal digits, or base 256 where the first bit is set (GNU tar)."""
    found = _octal(field)
    if found is not None:
        return found
    if field[0] == _POSITIVE:
        return int.from_bytes(field[1:], "big")
    raise _Malformed(f"has {field!r} in place of a number")


@lru_cache(256)  # there are few
def _mode(field: bytes) -> int:
    return _number(field) & 0o7777


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    if digits.isdigit() and b"8" not in digits and b"9" not in digits:
        return int(digits, 8)
    return None if digits else 0


def _extend(extensions: dict[bytes, bytes], member: Member, read: ReadAt) -> None:
    """Add what a member says of the one behind it."""
    if member.size > _MAX_EXTENSION:
        raise _Malformed(f"has a header of {member.size:,} bytes, more than {_MAX_EXTENSION:,}")
    data = read(member.offset, member.size)
    found = {_LONG[member.kind]: _text(data)} if member.kind in _LONG else dict(_records(data))
    if member.kind == _PAX_GLOBAL:
        # Some readers apply them to all that follows, and some to nothing.
        if found:
            raise _Malformed(f"says for all members {b', '.join(found).decode()}")
    elif not found.keys().isdisjoint(extensions):
        raise _Malformed(f"says once more {b', '.join(found.keys() & extensions).decode()}")
    extensions.update(found)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield what matters of a pax header: records, each ``LENGTH KEY=VALUE`` and a newline."""
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + _MAX_DIGITS].partition(b" ")
        end = at + int(digits) if space and digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not (equals and data[end - 1 : end] == b"\n"):
            raise _Malformed("has a damaged pax header")
        key = _PAX_SPARSE if key.startswith(_PAX_SPARSE) else key
        if key in _KEYS:
            yield key, value
        at = end


def _finished(member: Member, extensions: dict[bytes, bytes]) -> Member:
    """Return a member with what was said of it before."""
    name = extensions.get(b"path") or member.name  # an empty value takes nothing's place
    size, kind = member.size, member.kind
    if kind == _SPARSE or _PAX_SPARSE in extensions:
        problem = f"{os.fsdecode(name)} is a sparse file, which is not read here"
        raise _Malformed(problem, "make the archive without tar's option --sparse")
    if kind in (_OLD_FILE, _CONTIGUOUS):
        kind = DIRECTORY if kind == _OLD_FILE and name.endswith(b"/") else FILE
    if digits := extensions.get(b"size"):
        if not digits.isdigit() or len(digits) > _MAX_DIGITS:
            raise _Malformed(f"has {digits[:80]!r} in place of a size")
        size = 0 if kind in _WITHOUT_DATA else int(digits)
    return Member(name, kind, member.mode, size, member.offset, extensions.get(b"linkpath") or member.target)
