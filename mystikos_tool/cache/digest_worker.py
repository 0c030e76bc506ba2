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
import struct
import sys

_BUFFER = 1 << 18  # bytes, which stay in a core's cache
_ST_BLOCK = 512  # what st_blocks counts

# As mystikos_tool.io.fingerprint packs a status: device, inode, size, mtime, ctime and mode.
_FINGERPRINT = struct.Struct("=QQQqqQ")

# A path and the fingerprint of what is to be read there.
File = tuple[bytes, bytes]


def digests(files: list[File]) -> list[bytes | None]:
    """Return the digest of each file; None for one that is another, cannot be read, or has holes."""
    # At the start of a page, where some processors copy to in a third of the time.
    buffer = memoryview(mmap.mmap(-1, _BUFFER, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return [_digest(path, fingerprint, buffer) for path, fingerprint in files]


def _digest(path: bytes, fingerprint: bytes, buffer: memoryview) -> bytes | None:
    device, inode, size, mtime, _, mode = _FINGERPRINT.unpack(fingerprint)
    # A new link to a file changes its ctime, and nobody's permissions are its content.
    version = device, inode, size, mtime, stat.S_IFMT(mode)
    try:
        # What has become a FIFO since must not be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if _version(status) != version or status.st_blocks * _ST_BLOCK < size:
            return None
        found, read = hashlib.sha256(), 0
        while read < size and (more := os.readv(descriptor, [buffer])):
            found.update(buffer[:more])
            read += more
        same = read == size and _version(os.fstat(descriptor)) == version
        return found.digest() if same else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, stat.S_IFMT(status.st_mode)


if __name__ == "__main__":
    marshal.dump(digests(marshal.load(sys.stdin.buffer)), sys.stdout.buffer)
