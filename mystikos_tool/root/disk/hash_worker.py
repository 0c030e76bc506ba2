"""The hashes of a disk's blocks: in this process, and as a process of its own for each further core.

SHA-256 of 4096 bytes takes so short that threads spend it handing the interpreter's lock over. As
a process this file runs alone, without the rest of the package, so that it starts quickly.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import sys
from collections.abc import Iterator
from itertools import islice

BLOCK = 4096
_DIGEST = 32
_CHUNK = 128  # blocks
_REPORTED = 1000


def read_digests(descriptor: int, offset: int, blocks: int, salt: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and digests of the blocks of a file from ``offset``, up to 128 at a time.

    Holes are not read. Raises ValueError where the file ends too early.
    """
    sha256 = hashlib.sha256
    of_zeros = sha256(salt + bytes(BLOCK)).digest()
    salted, places = _buffers(salt)
    skipped = 0
    for first in range(0, blocks, _CHUNK):
        count = min(_CHUNK, blocks - first)
        start, end = offset + first * BLOCK, offset + (first + count) * BLOCK
        if skipped < end:
            skipped = hole_end(descriptor, start)
        if skipped >= end:
            yield first, of_zeros * count
            continue
        if os.preadv(descriptor, places[:count], start) != count * BLOCK:
            raise ValueError("the file is too short")
        yield first, b"".join([sha256(block).digest() for block in salted[:count]])


def _buffers(salt: bytes) -> tuple[list[memoryview], list[memoryview]]:
    """Return a buffer in pieces of salt and block, which one call hashes, and in these the blocks."""
    size = len(salt) + BLOCK
    # At the start of a page, where some processors copy to in a third of the time.
    data = memoryview(mmap.mmap(-1, _CHUNK * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    salted = [data[at : at + size] for at in range(0, len(data), size)]
    for block in salted:
        block[: len(salt)] = salt
    return salted, [block[len(salt) :] for block in salted]


def hole_end(descriptor: int, start: int) -> int:
    """Return where the hole at ``start`` ends; ``start`` itself where there is none or nobody knows."""
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA)
    except OSError as error:
        # ENXIO: nothing but a hole up to the end of the file.
        return os.fstat(descriptor).st_size if error.errno == errno.ENXIO else start


def write(descriptor: int, offset: int, blocks: int, salt: bytes, target: int) -> None:
    """Write the digests of blocks to the same file from ``target``, zeros up to the end of the last block."""
    for first, found in read_digests(descriptor, offset, blocks, salt):
        found += bytes(-len(found) % BLOCK)
        if os.pwrite(descriptor, found, target + first * _DIGEST) != len(found):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def reported(descriptor: int, offset: int, blocks: int, salt: bytes, target: int) -> Iterator[int]:
    """Yield the numbers of blocks whose digests are not those from ``target``, the first thousand of them."""
    return islice(_wrong(descriptor, offset, blocks, salt, target), _REPORTED)


def _wrong(descriptor: int, offset: int, blocks: int, salt: bytes, target: int) -> Iterator[int]:
    for first, found in read_digests(descriptor, offset, blocks, salt):
        there = os.pread(descriptor, len(found), target + first * _DIGEST)
        if there != found:
            for at in range(0, len(found), _DIGEST):
                if there[at : at + _DIGEST] != found[at : at + _DIGEST]:
                    yield first + at // _DIGEST


def main(arguments: list[str]) -> None:
    """Do what `hashtree` asks for: ``write`` or ``compare``, a descriptor, three numbers and a salt."""
    task, descriptor, offset, blocks, target, salt = arguments
    numbers = int(descriptor), int(offset), int(blocks), bytes.fromhex(salt), int(target)
    if task == "write":
        write(*numbers)
    else:
        for number in reported(*numbers):
            sys.stdout.write(f"{number}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
