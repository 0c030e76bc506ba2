"""A disk of an earlier build: what of it can stay where it is."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from mystikos_tool.errors import UserError
from mystikos_tool.formats import ext2, verity
from mystikos_tool.formats.ext2 import BLOCK, BLOCKS_PER_GROUP, IndexTree, Run
from mystikos_tool.formats.ext2_reader import Filesystem, Member
from mystikos_tool.root.disk.image import Blocks, Image
from mystikos_tool.root.disk.placement import File, joined_runs
from mystikos_tool.root.disk.reader import DiskFile

_VARYING: dict[str, int | bytes] = {"uuid": bytes(16), "hash_seed": bytes(16), "free_blocks": 0}


class Earlier:
    """An unencrypted disk that was written by `disk.write` before, and the ``files`` of the one to come.

    Inode numbers follow from the paths: a file is found by its number where the paths are the same,
    else by its path. Raises UserError for what is no such disk.
    """

    def __init__(self, disk: DiskFile, files: Sequence[File]) -> None:
        self._disk = disk
        self._filesystem: Filesystem = disk.filesystem()
        self._inodes: dict[int, dict[str, int | bytes]] = {}
        self._numbers: dict[bytes, int] | None = None
        if not all(self._has_directory(file) for file in files if file.is_directory):
            self._numbers = {member.path: member.inode for member in self._filesystem.members}

    def _has_directory(self, file: File) -> bool:
        """Tell whether the inode of a directory's number is a directory with the same entries."""
        inode = self._inode(file.number)
        if not stat.S_ISDIR(int(inode["mode"])) or int(inode["size"]) != len(file.body):
            return False
        member = Member(file.node.path, file.number, stat.S_IFDIR, len(file.body), 1, 0, 0, 0)
        places = list(self._filesystem.map_of(member))
        return b"".join(self._filesystem.block(block) for _, block in places) == file.body

    def is_file(self, descriptor: int) -> bool:
        """Tell whether an open file is this disk."""
        return self._disk.is_file(descriptor)

    def runs(self, file: File) -> Sequence[Run] | None:
        """Return which blocks of an unchanged file are no holes; None where that is not known."""
        number = file.number if self._numbers is None else self._numbers.get(file.node.path)
        if number is None:
            return None
        with suppress(UserError):  # a damaged disk costs time and no more
            inode = self._inode(number)
            size = int(inode["size"]) | int(inode["size_high"]) << 32
            if not stat.S_ISREG(int(inode["mode"])) or size != file.node.size:
                return None
            dense = [Run(0, -(-size // BLOCK))]
            blocks = int(inode["sectors"]) // (BLOCK // ext2.SECTOR)
            if blocks == dense[0].length + IndexTree(dense).size:
                return dense
            member = Member(file.node.path, number, file.node.mode, size, 1, 0, 0, 0)
            return joined_runs(Run(at, 1) for at, _ in self._filesystem.map_of(member))
        return None

    def has_layout(self, image: Image, shape: verity.Shape, salt: bytes) -> bool:
        """Tell whether a disk of this image has the same size, paths and inode numbers."""
        if self._disk.shape != shape or self._disk.superblock.salt != salt:
            return False
        now = ext2.SUPERBLOCK.patch(image.superblock(0, bytes(16)), _VARYING)
        directories = (file for file in image.placement.files if file.is_directory)
        with suppress(UserError):
            before = ext2.SUPERBLOCK.patch(self._filesystem.superblock, _VARYING)
            return before == now and all(self._has(image.content(file)) for file in directories)
        return False

    def has_in_place(self, file: File, image: Image) -> bool:
        """Tell whether a file has its blocks where the image has them."""
        pointers, index = image.map_of(file)
        with suppress(UserError):
            return self._inode(file.number)["blocks"] == pointers and self._has(index)
        return False

    def freed(self, image: Image) -> list[Blocks]:
        """Return zeros for the blocks that were used and are free in the image."""
        geometry = image.placement.geometry
        found: list[Blocks] = []
        for group in range(geometry.groups):
            place = geometry.bitmaps(group)
            was = int.from_bytes(self._filesystem.block(place), "little")
            freed = was & ~int.from_bytes(image.block_bitmap(group), "little")
            found += [(group * BLOCKS_PER_GROUP + bit, bytes(BLOCK)) for bit in _bits(freed)]
        return found

    def _has(self, every: Sequence[Blocks] | Iterator[Blocks]) -> bool:
        return all(
            self._filesystem.block(block + at // BLOCK) == data[at : at + BLOCK]
            for block, data in every
            for at in range(0, len(data), BLOCK)
        )

    def _inode(self, number: int) -> dict[str, int | bytes]:
        if number not in self._inodes:
            self._inodes[number] = self._filesystem.inode(number)
        return self._inodes[number]


def _bits(number: int) -> Iterator[int]:
    """Yield the places of the bits that are set."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest
