"""/etc/ld.so.cache, where glibc's dynamic linker finds libraries by their names (glibc: dl-cache.h)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cmp_to_key
from itertools import zip_longest

PATH = "/etc/ld.so.cache"
MAX_SIZE = 1 << 24

_MAGIC = b"glibc-ld.so.cache1.1"
_OLD_MAGIC = b"ld.so-1.7.0\0"
_OLD_HEADER = struct.Struct("<12sI")
_OLD_ENTRY_SIZE = 12
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")
_LITTLE_ENDIAN = 2
_X86_64_LIBC6 = 0x0303
_ANY_PROCESSOR = 0


def read(data: bytes) -> dict[bytes, list[bytes]]:
    """Return the paths of each x86-64 library by its name, in the order in which they are tried.

    Libraries for some processors only (glibc-hwcaps) are left out. What is damaged has no libraries.
    """
    data = _without_old(data)
    found: dict[bytes, list[bytes]] = {}
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        return found
    _, count, *_ = _HEADER.unpack_from(data)
    table = data[_HEADER.size : _HEADER.size + count * _ENTRY.size]
    for flags, name, path, _, processors in _ENTRY.iter_unpack(
        table[: len(table) // _ENTRY.size * _ENTRY.size]
    ):
        if flags == _X86_64_LIBC6 and processors == _ANY_PROCESSOR:
            found.setdefault(_string(data, name), []).append(_string(data, path))
    return found


def _without_old(data: bytes) -> bytes:
    """Return what stands behind the table of the format before glibc 2.2, which may come first."""
    if len(data) < _OLD_HEADER.size or not data.startswith(_OLD_MAGIC):
        return data
    _, count = _OLD_HEADER.unpack_from(data)
    end = _OLD_HEADER.size + count * _OLD_ENTRY_SIZE
    return data[(end + 7) // 8 * 8 :]


def _string(data: bytes, start: int) -> bytes:
    return data[start : data.find(b"\0", start, start + 4096)] if start < len(data) else b""


def write(libraries: Mapping[bytes, bytes]) -> bytes:
    """Return a cache of libraries' paths by their names, the same bytes for the same libraries."""
    names = sorted(libraries, key=cmp_to_key(_compare), reverse=True)  # the linker looks up by halves
    strings = b"".join(text + b"\0" for name in names for text in (name, libraries[name]))
    at = _HEADER.size + len(names) * _ENTRY.size
    rows = []
    for name in names:
        path = at + len(name) + 1
        rows.append(_ENTRY.pack(_X86_64_LIBC6, at, path, 0, _ANY_PROCESSOR))
        at = path + len(libraries[name]) + 1
    header = _HEADER.pack(_MAGIC, len(names), len(strings), _LITTLE_ENDIAN, 0)
    return header + b"".join(rows) + strings


def _compare(first: bytes, second: bytes) -> int:
    """Compare names as the linker does: numbers in them by their values."""
    for one, other in zip_longest(_parts(first), _parts(second), fillvalue=(0, 0)):
        if one != other:
            return 1 if one > other else -1
    return 0


def _parts(name: bytes) -> Iterator[tuple[int, int]]:
    """Yield what is compared one after the other: a number, which stands behind all else, or a byte."""
    digits = b""
    for byte in name:
        if 48 <= byte <= 57:
            digits += bytes([byte])
            continue
        if digits:
            yield 2, int(digits)
            digits = b""
        yield 1, byte - 256 if byte > 127 else byte
    if digits:
        yield 2, int(digits)
