"""A disk of an earlier build whose tree is the same but for what is in some of its files."""

from __future__ import annotations

import os
import stat
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mystikos_tool.formats import ext2
from mystikos_tool.formats.ext2 import BLOCK, BLOCKS_PER_GROUP, Geometry
from mystikos_tool.formats.ext2_reader import Filesystem
from mystikos_tool.root.disk import image
from mystikos_tool.root.disk.image import Blocks, Image
from mystikos_tool.root.disk.nodes import Node
from mystikos_tool.root.disk.placement import File, Placement, find_blocks, kept

_POINTERS = struct.Struct("<15I")


class _Changed(NamedTuple):
    """A file with its new content, and how many blocks it had before."""

    file: File
    had: int


class PatchedImage:
    """The file system of such a disk with other contents of some files; nothing else is laid out or read.

    Every file stays within the blocks that are kept for it. `patched` makes one.
    """

    def __init__(
        self, filesystem: Filesystem, geometry: Geometry, changed: Sequence[_Changed], time: int
    ) -> None:
        self._filesystem = filesystem
        self._changed = changed
        self._geometry = geometry
        self._image = Image(Placement(self._geometry, [file for file, _ in changed]), time)
        self._superblock = filesystem.superblock()
        blocks = range(1, 1 + self._geometry.descriptor_blocks)
        self._descriptors = b"".join(map(filesystem.block, blocks))
        self._taken = Counter[int]()  # by group, how many free blocks are used now
        for file, had in changed:
            for block, count in self._moved(file, had):
                self._taken[block // BLOCKS_PER_GROUP] += count if file.blocks > had else -count

    def _moved(self, file: File, had: int) -> Iterator[tuple[int, int]]:
        """Yield the runs of blocks that a file did not have before, or has not any more."""
        low, high = sorted((had, file.blocks))
        return self._geometry.extents(file.start + low, high - low)

    @property
    def free(self) -> int:
        """Number of blocks that no file has."""
        return ext2.SUPERBLOCK.get_int(self._superblock, "free_blocks") - self._taken.total()

    @property
    def files(self) -> int:
        """Number of inodes in use, as in `Placement.files`."""
        total, free = (
            ext2.SUPERBLOCK.get_int(self._superblock, name) for name in ("inodes_count", "free_inodes")
        )
        return total - free - ext2.FIRST_INODE + 2

    def blocks(self) -> Iterator[Blocks]:
        """Yield all blocks but the superblocks that may differ; each is to be written before the next."""
        for file, had in self._changed:
            yield from self._image.content(file)
            pointers, index = self._image.map_of(file)
            yield from index
            yield self._in_table(file, self._image.inode(file, pointers))
            yield from self._in_bitmaps(file, had)

    def _in_table(self, file: File, inode: bytes) -> Blocks:
        group, slot = divmod(file.number - 1, self._geometry.inodes_per_group)
        number, slot = divmod(slot, ext2.INODES_PER_BLOCK)
        place = self._geometry.bitmaps(group) + 2 + number
        before, at = self._filesystem.block(place), slot * ext2.INODE_SIZE
        return place, before[:at] + inode + before[at + ext2.INODE_SIZE :]

    def _in_bitmaps(self, file: File, had: int) -> Iterator[Blocks]:
        for block, count in self._moved(file, had):
            group, first = divmod(block, BLOCKS_PER_GROUP)
            place = self._geometry.bitmaps(group)
            # Those in which a file grows were free, those that it leaves were its own.
            bits = int.from_bytes(self._filesystem.block(place), "little") ^ ((1 << count) - 1) << first
            yield place, bits.to_bytes(BLOCK, "little")
            if file.blocks < had:
                yield block, bytes(count * BLOCK)

    def superblocks(self, uuid: bytes) -> Iterator[Blocks]:
        """Yield what `Image.superblocks` does."""
        descriptors = bytearray(self._descriptors)
        for group, taken in self._taken.items():
            place = slice(group * ext2.GROUP.size, (group + 1) * ext2.GROUP.size)
            before = bytes(descriptors[place])
            free = ext2.GROUP.get_int(before, "free_blocks") - taken
            descriptors[place] = ext2.GROUP.patch(before, {"free_blocks": free})
        values: dict[str, int | bytes] = {"free_blocks": self.free, **image.identity(uuid)}
        superblock = ext2.SUPERBLOCK.patch(self._superblock, values)
        return image.copies(
            self._geometry,
            lambda group: ext2.SUPERBLOCK.patch(superblock, {"group_number": group}),
            bytes(descriptors),
        )


def patched(
    filesystem: Filesystem, nodes: Sequence[Node], time: int, *, may_grow: bool
) -> PatchedImage | None:
    """Return the file system with these contents of its files; None where other files would move.

    Where the disk's size is given, a file ``may_grow`` not even into what is kept for it, for
    nothing is where room lacks. Raises UserError for a damaged disk, and as reading the nodes does.
    """
    changed, geometry = [], geometry_of(filesystem)
    for node in nodes:
        found = _changed(filesystem, geometry, node)
        if found is None:
            return None
        before, now = found.had, found.file.blocks
        if before != now and not (may_grow and kept(before) == kept(now)):
            return None
        changed.append(found)
    return PatchedImage(filesystem, geometry, changed, time)


def _changed(filesystem: Filesystem, geometry: Geometry, node: Node) -> _Changed | None:
    """Return a file with its new content; None where it is none, or has other names as well."""
    member = filesystem.entry(os.fsdecode(node.path))
    if member is None or not stat.S_ISREG(member.mode) or member.links > 1:
        return None
    inode = filesystem.inode(member.inode)
    had = int(inode["sectors"]) // (BLOCK // ext2.SECTOR)
    file = File(member.inode, node)
    find_blocks([file], lambda _: None)
    if had:
        # What comes first, be it an indirect block or content, the inode itself names.
        first = min(filter(None, _POINTERS.unpack(bytes(inode["blocks"]))))
        file.start = geometry.data_number(first)
    return _Changed(file, had)


def geometry_of(filesystem: Filesystem) -> Geometry:
    """Return the geometry that a superblock tells."""
    superblock = filesystem.superblock()
    blocks, inodes = (
        ext2.SUPERBLOCK.get_int(superblock, name) for name in ("blocks_count", "inodes_per_group")
    )
    return Geometry(blocks, inodes)
