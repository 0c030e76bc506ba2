"""SHA-256 of files: in this process, and as a process of its own for each further core.

A small file takes more time in the interpreter than to hash, and threads would spend it handing the
interpreter's lock over. As a process this file runs alone, without the rest of the package, so that it
starts quickly: standard input has an array of files, standard output gets an array of digests, both
as :mod:`marshal` writes them.
"""

from __future__ import annotations

import hashlib
import marshal
import mmap
import os
import stat
import sys

_BUFFER = 1 << 18  # bytes, which stay in a core's cache
_ST_BLOCK = 512  # what st_blocks counts

# A path, and what is to be read there: its size and its version, see :func:`version_of`.
File = tuple[bytes, int, tuple[int, ...]]


def digests(files: list[File]) -> list[bytes | None]:
    """Return the digest of each file; None for one that is another, cannot be read, or has holes."""
    # At the start of a page, where some processors copy to in a third of the time.
    buffer = memoryview(mmap.mmap(-1, _BUFFER, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return [_digest(path, size, version, buffer) for path, size, version in files]


def _digest(path: bytes, size: int, version: tuple[int, ...], buffer: memoryview) -> bytes | None:
    try:
        # What has become a FIFO since must not be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if version_of(status) != version or status.st_blocks * _ST_BLOCK < size:
            return None
        found, read = hashlib.sha256(), 0
        while read < size and (more := os.readv(descriptor, [buffer])):
            found.update(buffer[:more])
            read += more
        same = read == size and version_of(os.fstat(descriptor)) == version
        return found.digest() if same else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def version_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes with a file's content, as `mystikos_tool.io.fingerprint.content_version` has it."""
    kind = stat.S_IFMT(status.st_mode)
    return (kind, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


if __name__ == "__main__":
    marshal.dump(digests(marshal.load(sys.stdin.buffer)), sys.stdout.buffer)
