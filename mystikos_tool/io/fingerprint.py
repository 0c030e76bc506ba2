"""Stamps: what changes in a file's status when the file does, packed into 48 bytes."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from itertools import compress, repeat
from operator import ne

# Device, inode, size, mtime and ctime in nanoseconds, st_mode.
_STAMP = struct.Struct("=QQQqqQ")
_TIMES = struct.Struct("=24xqq8x")

_SECOND = 1_000_000_000
# The kernel stamps with its tick, up to 10 ms; some file systems keep whole (even) seconds.
_FINE_TICK = _SECOND // 10
_COARSE_TICK = 2 * _SECOND


def of(status: os.stat_result) -> bytes:
    """Return the stamp of a status, 48 bytes."""
    return _STAMP.pack(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
    )


def content_version(stamp: bytes) -> tuple[int, ...]:
    """Return what of a stamp changes with a file's content; a new link to it changes its ctime only."""
    device, inode, size, mtime, _, mode = _STAMP.unpack(stamp)
    return (stat.S_IFMT(mode), device, inode, size, mtime)


def mode(stamp: bytes) -> int:
    """Return the st_mode in a stamp."""
    return int(_STAMP.unpack(stamp)[5])


def known(
    paths: Sequence[bytes], stamps: Sequence[bytes], old_paths: Sequence[bytes], old_stamps: Sequence[bytes]
) -> list[int]:
    """Return where each path with its stamp is among old ones; -1 where it is not."""
    if paths == old_paths:
        places = list(range(len(paths)))
    else:
        old_places = dict(zip(old_paths, range(len(old_paths)), strict=True))
        places = list(map(old_places.get, paths, repeat(-1)))
    before = list(map([*old_stamps, b""].__getitem__, places))  # no stamp for those that are not found
    for at in compress(range(len(paths)), map(ne, before, stamps)):
        places[at] = -1
    return places


def believed(stamps: Sequence[bytes], places: Sequence[int], now: int) -> list[bytes]:
    """Return stamps, empty where neither :func:`known` found a place nor :func:`is_settled` holds."""
    found = list(stamps)
    for at in compress(range(len(places)), map((-1).__eq__, places)):
        if not is_settled(found[at], now):
            found[at] = b""
    return found


def is_settled(stamp: bytes, now: int) -> bool:
    """Tell whether a later change must alter a stamp that was taken at ``now``, in nanoseconds since 1970.

    A clock ticks in steps, and a file that is written twice within one keeps its times.
    """
    mtime, ctime = _TIMES.unpack(stamp)
    tick = _FINE_TICK if ctime % _SECOND else _COARSE_TICK
    return bool(max(mtime, ctime) + tick < now)
