"""A disk of an earlier build whose tree is the same but for what is in some of its files."""

from __future__ import annotations

import os
import stat
import struct
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mystikos_tool.formats import ext2, fssig, verity
from mystikos_tool.formats.ext2 import BLOCK, BLOCKS_PER_GROUP, Geometry
from mystikos_tool.io import buffers
from mystikos_tool.root.disk import image
from mystikos_tool.root.disk.image import Blocks, Image
from mystikos_tool.root.disk.nodes import Node
from mystikos_tool.root.disk.placement import File, Placement, find_blocks, kept

_POINTERS = struct.Struct("<15I")


class Layout(NamedTuple):
    """By what the files of an unencrypted disk are found without its directories.

    ``data_blocks`` and ``salt`` are those of its hash tree. ``inodes`` has the inode number of each
    node that it was made of, as 32-bit integers of this machine; 0 for a further link to a file.
    """

    data_blocks: int
    salt: bytes
    inodes: bytes

    def numbers(self) -> array[int]:
        """Return the inode numbers."""
        return array("I", self.inodes)


def layout_of(nodes: Sequence[Node], files: Sequence[File], shape: verity.Shape, salt: bytes) -> Layout:
    """Return the layout of a disk of these files, which were made of these and other nodes."""
    numbers = {file.node.path: file.number for file in files}
    inodes = array("I", [numbers.get(node.path, 0) for node in nodes])
    return Layout(shape.data_blocks, salt, inodes.tobytes())


def with_contents(nodes: Sequence[tuple[int, Node]]) -> list[File]:
    """Read files to find which of their blocks are no holes; each comes with its inode number.

    Raises UserError as reading the nodes does.
    """
    files = [File(number, _held(node)) for number, node in nodes]
    find_blocks(files, lambda _: None)
    return files


def _held(node: Node) -> Node:
    """Return a node whose content is read once, now, where it is read in one piece."""
    if node.size >= buffers.SIZE:
        return node
    pieces = [bytes(piece) for piece in node.chunks()]
    return node._replace(chunks=lambda: iter(pieces))


class _Changed(NamedTuple):
    """A file with its new content, and how many blocks it had before."""

    file: File
    had: int


class PatchedImage:
    """The file system of such a disk with other contents of some files; nothing else is laid out or read.

    Every file stays within the blocks that are kept for it. `patched` makes one.
    """

    def __init__(
        self, descriptor: int, superblock: bytes, geometry: Geometry, changed: Sequence[_Changed], time: int
    ) -> None:
        self._descriptor = descriptor
        self._superblock = superblock
        self._changed = changed
        self._geometry = geometry
        self._image = Image(Placement(geometry, [file for file, _ in changed]), time)
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
        place, at = _place_of(self._geometry, file.number)
        before = _read(self._descriptor, place)
        return place, before[:at] + inode + before[at + ext2.INODE_SIZE :]

    def _in_bitmaps(self, file: File, had: int) -> Iterator[Blocks]:
        for block, count in self._moved(file, had):
            group, first = divmod(block, BLOCKS_PER_GROUP)
            place = self._geometry.bitmaps(group)
            # Those in which a file grows were free, those that it leaves were its own.
            bits = int.from_bytes(_read(self._descriptor, place), "little") ^ ((1 << count) - 1) << first
            yield place, bits.to_bytes(BLOCK, "little")
            if file.blocks < had:
                yield block, bytes(count * BLOCK)

    def superblocks(self, uuid: bytes) -> Iterator[Blocks]:
        """Yield what `Image.superblocks` does, but for group descriptors that are as they were."""
        values: dict[str, int | bytes] = {"free_blocks": self.free, **image.identity(uuid)}
        superblock = ext2.SUPERBLOCK.patch(self._superblock, values)
        return image.copies(
            self._geometry,
            lambda group: ext2.SUPERBLOCK.patch(superblock, {"group_number": group}),
            self._changed_descriptors() if self._taken else b"",
        )

    def _changed_descriptors(self) -> bytes:
        blocks = range(1, 1 + self._geometry.descriptor_blocks)
        descriptors = bytearray(b"".join(_read(self._descriptor, block) for block in blocks))
        for group, taken in self._taken.items():
            place = slice(group * ext2.GROUP.size, (group + 1) * ext2.GROUP.size)
            before = bytes(descriptors[place])
            free = ext2.GROUP.get_int(before, "free_blocks") - taken
            descriptors[place] = ext2.GROUP.patch(before, {"free_blocks": free})
        return bytes(descriptors)


def patched(
    descriptor: int, layout: Layout, files: Sequence[File], time: int, *, may_grow: bool
) -> PatchedImage | None:
    """Return the file system of an open disk with these contents of its files; None where others would move.

    The disk is as it was written, with this layout; another one is None too, as far as it is noticed.
    Where the disk's size is given, a file ``may_grow`` not even into what is kept for it, for
    nothing is where room lacks.
    """
    superblock = os.pread(descriptor, ext2.SUPERBLOCK.size, ext2.SUPERBLOCK_OFFSET)
    size = os.fstat(descriptor).st_size
    if size != verity.Shape(layout.data_blocks).end + fssig.SIZE or not ext2.is_superblock(superblock):
        return None
    blocks, inodes = (
        ext2.SUPERBLOCK.get_int(superblock, name) for name in ("blocks_count", "inodes_per_group")
    )
    geometry = Geometry(blocks, inodes)
    changed = []
    for file in files:
        had = _find(descriptor, geometry, file) if file.number else None
        if had is None or (had != file.blocks and not (may_grow and kept(had) == kept(file.blocks))):
            return None
        changed.append(_Changed(file, had))
    return PatchedImage(descriptor, superblock, geometry, changed, time)


def _find(descriptor: int, geometry: Geometry, file: File) -> int | None:
    """Set where a file has its blocks; return how many it had. None where it is none, or has other names."""
    place, at = _place_of(geometry, file.number)
    inode = ext2.INODE.unpack(_read(descriptor, place)[at : at + ext2.INODE_SIZE])
    if not stat.S_ISREG(int(inode["mode"])) or int(inode["links"]) > 1:
        return None
    had = int(inode["sectors"]) // (BLOCK // ext2.SECTOR)
    if had:
        # What comes first, be it an indirect block or content, the inode itself names.
        first = min(filter(None, _POINTERS.unpack(bytes(inode["blocks"]))))
        file.start = geometry.data_number(first)
    return had


def _place_of(geometry: Geometry, number: int) -> tuple[int, int]:
    """Return in which block an inode is, and at which byte there."""
    group, slot = divmod(number - 1, geometry.inodes_per_group)
    block, slot = divmod(slot, ext2.INODES_PER_BLOCK)
    return geometry.bitmaps(group) + 2 + block, slot * ext2.INODE_SIZE


def _read(descriptor: int, block: int) -> bytes:
    return os.pread(descriptor, BLOCK, block * BLOCK)
