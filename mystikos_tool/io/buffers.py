"""Buffers to read files into, which are used again: fresh memory costs more than what is read into it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager

SIZE = 1 << 18  # bytes, which stay in a core's cache

_idle: list[memoryview] = []


@contextmanager
def borrowed() -> Iterator[memoryview]:
    """Yield a buffer of ``SIZE`` bytes that nobody else has meanwhile; what is in it is arbitrary."""
    try:
        buffer = _idle.pop()
    except IndexError:
        # At the start of a page, where some processors copy to in a third of the time.
        buffer = memoryview(mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    try:
        yield buffer
    finally:
        _idle.append(buffer)
