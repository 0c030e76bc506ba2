"""Find the parts of a file that have marks: in this process, or in a process of its own on another core.

The interpreter's lock is held while bytes are searched. As a process this file runs alone, as
:mod:`mystikos_tool.io.workers` has it: standard input has a search, standard output gets what
:func:`marked` returns, both as :mod:`marshal` writes them.
"""

from __future__ import annotations

import marshal
import os
import sys

# A file, offset and size of each part of it, and the marks.
Search = tuple[bytes, list[tuple[int, int]], list[bytes]]


def marked(search: Search) -> list[tuple[int, int]]:
    """Return the parts that have a mark, and those that the file does not have whole."""
    path, parts, marks = search
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [part for part in parts if _is_marked(os.pread(descriptor, part[1], part[0]), part[1], marks)]
    finally:
        os.close(descriptor)


def _is_marked(data: bytes, size: int, marks: list[bytes]) -> bool:
    return len(data) < size or any(mark in data for mark in marks)


if __name__ == "__main__":
    marshal.dump(marked(marshal.load(sys.stdin.buffer)), sys.stdout.buffer)
