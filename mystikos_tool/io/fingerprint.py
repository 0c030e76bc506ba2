"""Fingerprints: what changes in a file's status when the file does, packed into 48 bytes.

The words are those of git's index: a fingerprint is *racy* where the file could be written once
more and keep it (git: Documentation/technical/racy-git.txt).
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

# Device, inode, size, mtime and ctime in nanoseconds, st_mode.
STRUCT = struct.Struct("=QQQqqQ")
SIZE = STRUCT.size
_COMPARED = 64  # fingerprints that are compared at once
_SIZE_AND_MODE = struct.Struct("=16xQ16xQ")
_TIMES = struct.Struct("=24xqq8x")
_WORDS, _MTIME, _CTIME = 6, 3, 4

_SECOND = 1_000_000_000
# The kernel takes a file's times from its tick, up to 10 ms; some file systems keep whole (even) seconds.
_FINE_TICK = _SECOND // 10
_COARSE_TICK = 2 * _SECOND


def of(status: os.stat_result) -> bytes:
    """Return the fingerprint of a status, 48 bytes."""
    return STRUCT.pack(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode
    )


def is_of(fingerprint: bytes, path: Path) -> bool:
    """Tell whether a fingerprint is that of the file at a path, as it is now."""
    try:
        return of(path.stat()) == fingerprint
    except OSError:
        return False


def split(fingerprints: bytes) -> Iterator[bytes]:
    """Yield each of several fingerprints."""
    return (fingerprints[at : at + SIZE] for at in range(0, len(fingerprints), SIZE))


def different(before: bytes, now: bytes) -> Iterator[int]:
    """Yield the numbers of those of several fingerprints that differ, of two times as many."""
    for start in range(0, len(now), _COMPARED * SIZE):
        end = start + _COMPARED * SIZE
        if before[start:end] != now[start:end]:
            for at in range(start, min(end, len(now)), SIZE):
                if before[at : at + SIZE] != now[at : at + SIZE]:
                    yield at // SIZE


def sizes_and_modes(fingerprints: bytes) -> Iterator[tuple[int, int]]:
    """Yield st_size and st_mode of each of several fingerprints."""
    return _SIZE_AND_MODE.iter_unpack(fingerprints)


def inode(fingerprint: bytes) -> bytes:
    """Return device and inode, 16 bytes, which all links to a file share."""
    return fingerprint[:16]


def content_version(fingerprint: bytes) -> tuple[int, ...]:
    """Return what of a fingerprint changes with a file's content; a new link to it changes its ctime only."""
    device, inode, size, mtime, _, mode = STRUCT.unpack(fingerprint)
    return (stat.S_IFMT(mode), device, inode, size, mtime)


def version_of(status: os.stat_result) -> tuple[int, ...]:
    """Return the :func:`content_version` of a status."""
    kind = stat.S_IFMT(status.st_mode)
    return (kind, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def is_racy(fingerprint: bytes, now: int) -> bool:
    """Tell whether a change after ``now``, in nanoseconds since 1970, may leave a fingerprint as it is.

    A clock ticks in steps, and a file that is written twice within one keeps its times.
    """
    return any_racy(fingerprint, now)


def racy(fingerprints: Sequence[bytes], now: int) -> set[bytes]:
    """Return which of several fingerprints are racy."""
    some = any_racy(b"".join(fingerprints), now)
    return {each for each in fingerprints if is_racy(each, now)} if some else set()


def any_racy(fingerprints: bytes, now: int) -> bool:
    """Tell whether one of several fingerprints, which follow one another, is racy."""
    words = array("q", fingerprints)
    newest = max((*words[_MTIME::_WORDS], *words[_CTIME::_WORDS]), default=0)
    return newest + _COARSE_TICK >= now and any(
        max(mtime, ctime) + (_FINE_TICK if ctime % _SECOND else _COARSE_TICK) >= now
        for mtime, ctime in _TIMES.iter_unpack(fingerprints)
    )
