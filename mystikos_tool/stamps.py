"""Stamps: what changes in a file's status when the file does, packed into 48 bytes."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Sequence
from itertools import repeat

# Device, inode, size, mtime and ctime in nanoseconds, st_mode.
_STAMP = struct.Struct("=QQQqqQ")
_TIMES = struct.Struct("=24xqq8x")
_WORDS, _MTIME, _CTIME = 6, 3, 4

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


def known(
    paths: Sequence[bytes], stamps: Sequence[bytes], old_paths: Sequence[bytes], old_stamps: Sequence[bytes]
) -> list[int]:
    """Return where each path with its stamp is among old ones; -1 where it is not."""
    found: Iterable[int] = range(len(paths))
    if paths != old_paths:
        places = dict(zip(old_paths, range(len(old_paths)), strict=True))
        found = map(places.get, paths, repeat(-1))
    old = [*old_stamps, b""]  # no stamp, for those that are not found
    return [at if old[at] == stamp else -1 for at, stamp in zip(found, stamps, strict=True)]


def settled(stamps: Sequence[bytes], now: int) -> list[bool]:
    """Tell of each stamp what :func:`is_settled` tells, quickly for those of old files."""
    surely = now - _COARSE_TICK
    words = memoryview(b"".join(stamps)).cast("q")
    times = zip(words[_MTIME::_WORDS].tolist(), words[_CTIME::_WORDS].tolist(), strict=True)
    return [
        (mtime < surely and ctime < surely) or is_settled(stamp, now)
        for stamp, (mtime, ctime) in zip(stamps, times, strict=True)
    ]


def is_settled(stamp: bytes, now: int) -> bool:
    """Tell whether a later change must alter a stamp that was taken at ``now``, in nanoseconds since 1970.

    A clock ticks in steps, and a file that is written twice within one keeps its times.
    """
    mtime, ctime = _TIMES.unpack(stamp)
    tick = _FINE_TICK if ctime % _SECOND else _COARSE_TICK
    return bool(max(mtime, ctime) + tick < now)
