"""The hash tree of a disk: written, brought up to date and checked, on all cores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from mystikos_tool.formats.verity import BLOCK, DIGEST_SIZE, PER_BLOCK, Level, Shape
from mystikos_tool.io.atomic import write_at
from mystikos_tool.io.workers import Worker
from mystikos_tool.root.disk import hash_worker

_ALONE = 1 << 14  # blocks, 64 MiB: for fewer it does not pay to start a process
_MAX_WORKERS = 16
_MAX_HELD = 2048  # blocks of hashes in memory


class _Part(NamedTuple):
    """Blocks to be hashed, and where their digests are."""

    offset: int
    blocks: int
    target: int


class HashTree:
    """The hash tree of an open disk some of whose blocks become others.

    What changes in it is in memory until `write`, or until it is much.
    """

    def __init__(self, descriptor: int, shape: Shape, salt: bytes) -> None:
        self._descriptor = descriptor
        self._offsets = [level.offset for level in shape.levels]
        self._salt = hashlib.sha256(salt)
        self._changed: list[set[int]] = [set() for _ in shape.levels]  # whose own hashes are to be taken
        self._held: dict[int, bytearray] = {}  # by offset in the disk

    def put(self, number: int, blocks: bytes | memoryview) -> None:
        """Take the hashes of data blocks' new content, which follow each other from the first."""
        digests = []
        for at in range(0, len(blocks), BLOCK):
            salted = self._salt.copy()
            salted.update(blocks[at : at + BLOCK])
            digests.append(salted.digest())
        self._put(0, number, digests)

    def root_hash(self) -> bytes:
        """Hash all that is above what was put; return the root hash."""
        for height, changed in enumerate(self._changed[:-1]):
            for number in sorted(changed):
                self._put(height + 1, number, [self._hash(self._block(height, number))])
            changed.clear()
        return self._hash(self._block(len(self._offsets) - 1, 0))

    def write(self) -> None:
        """Write what has changed."""
        for offset, block in self._held.items():
            write_at(self._descriptor, block, offset)
        self._held.clear()

    def _put(self, height: int, number: int, digests: Sequence[bytes]) -> None:
        """Put digests from that of a number on."""
        done = 0
        while done < len(digests):
            place, slot = divmod(number + done, PER_BLOCK)
            some = digests[done : done + PER_BLOCK - slot]
            start = slot * DIGEST_SIZE
            self._block(height, place)[start : start + len(some) * DIGEST_SIZE] = b"".join(some)
            self._changed[height].add(place)
            done += len(some)

    def _hash(self, block: bytes | bytearray | memoryview) -> bytes:
        salted = self._salt.copy()
        salted.update(block)
        return salted.digest()

    def _block(self, height: int, number: int) -> bytearray:
        offset = self._offsets[height] + number * BLOCK
        held = self._held.get(offset)
        if held is None:
            if len(self._held) >= _MAX_HELD:
                self.write()
            held = self._held[offset] = bytearray(os.pread(self._descriptor, BLOCK, offset))
        return held


def write(descriptor: int, shape: Shape, salt: bytes) -> bytes:
    """Write the hash tree of an open disk; return the root hash."""
    _run("write", descriptor, _parts(Level(0, shape.data_blocks), shape.levels[0]), salt)
    for level, above in zip(shape.levels, shape.levels[1:], strict=False):
        hash_worker.write(descriptor, level.offset, level.blocks, salt, above.offset)
    return _root_hash(descriptor, shape, salt)


def wrong_blocks(descriptor: int, shape: Shape, salt: bytes) -> list[int]:
    """Return the numbers of data blocks that are not what their hashes say, the first thousand of a part."""
    return _run("compare", descriptor, _parts(Level(0, shape.data_blocks), shape.levels[0]), salt)


def is_sound(descriptor: int, shape: Shape, salt: bytes, root_hash: bytes) -> bool:
    """Tell whether the hashes themselves, with the zeros behind the last, lead up to the root hash."""
    for level, above in zip(shape.levels, shape.levels[1:], strict=False):
        wrong = hash_worker.reported(descriptor, level.offset, level.blocks, salt, above.offset)
        if next(wrong, None) is not None:
            return False
    below = shape.data_blocks
    for level in shape.levels:
        used = below * DIGEST_SIZE
        unused = level.blocks * BLOCK - used
        if any(os.pread(descriptor, unused, level.offset + used)):
            return False
        below = level.blocks
    return _root_hash(descriptor, shape, salt) == root_hash


def _root_hash(descriptor: int, shape: Shape, salt: bytes) -> bytes:
    return _hash(descriptor, shape.levels[-1].offset, salt)


def _hash(descriptor: int, offset: int, salt: bytes) -> bytes:
    return hashlib.sha256(salt + os.pread(descriptor, BLOCK, offset)).digest()


def _parts(level: Level, above: Level) -> list[_Part]:
    """Divide the hashing of a level among the cores, in whole blocks of hashes."""
    workers = min(len(os.sched_getaffinity(0)), level.blocks // _ALONE, _MAX_WORKERS) or 1
    each = -(-above.blocks // workers)
    return [
        _Part(
            level.offset + first * PER_BLOCK * BLOCK,
            min(each * PER_BLOCK, level.blocks - first * PER_BLOCK),
            above.offset + first * BLOCK,
        )
        for first in range(0, above.blocks, each)
    ]


def _run(task: str, descriptor: int, parts: list[_Part], salt: bytes) -> list[int]:
    """Let a process of its own do each part but the first; return the numbers of blocks that are wrong."""
    workers = [_start(task, descriptor, part, salt) for part in parts[1:]]
    try:
        found = _do(task, descriptor, parts[0], salt)
        for part, worker in zip(parts[1:], workers, strict=True):
            output = worker.output()
            numbers = _do(task, descriptor, part, salt) if output is None else map(int, output.split())
            found += [part.offset // BLOCK + number for number in numbers]
        return found
    finally:
        for worker in workers:
            worker.end()


def _start(task: str, descriptor: int, part: _Part, salt: bytes) -> Worker:
    numbers = map(str, (descriptor, *part))
    return Worker(hash_worker.__file__, task, *numbers, salt.hex(), kept=[descriptor])


def _do(task: str, descriptor: int, part: _Part, salt: bytes) -> list[int]:
    if task == "compare":
        return list(hash_worker.reported(descriptor, part.offset, part.blocks, salt, part.target))
    hash_worker.write(descriptor, part.offset, part.blocks, salt, part.target)
    return []
