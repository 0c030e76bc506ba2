"""The bytes of an ext2 file system that is laid out: maps, inodes, bitmaps, superblocks and content."""

from __future__ import annotations

import hashlib
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from mystikos_tool.formats import ext2
from mystikos_tool.formats.ext2 import BLOCK, BLOCKS_PER_GROUP, Geometry
from mystikos_tool.root.disk.placement import File, Placement, whole_chunks

_CLEAN, _CONTINUE, _NO_MAXIMUM = 1, 1, 0xFFFF
_HALF_MD4, _SIGNED_HASH = 1, 1

# Blocks of the file system: the first one's number, and the content of one or more.
Blocks = tuple[int, bytes | memoryview]


class Image:
    """A file system whose files all have the time ``time``, in seconds since 1970."""

    def __init__(self, placement: Placement, time: int) -> None:
        self.placement = placement
        self._geometry = placement.geometry
        self._time = time
        self._maps: dict[int, tuple[bytes, list[Blocks]]] = {}

    def content(self, file: File) -> Iterator[Blocks]:
        """Yield the blocks of a file's content, or of a directory or a long link's target."""
        if file.body:
            body = file.body.ljust(-(-len(file.body) // BLOCK) * BLOCK, b"\0")
            chunks: Iterable[bytes | memoryview] = (body,)
        else:
            chunks = whole_chunks(file.node.chunks()) if file.runs else ()
        extents = self.placement.extents(file)
        extent = next(extents, None)
        first = 0
        for chunk in chunks:
            end = first + len(chunk) // BLOCK
            while extent and extent.logical < end:
                skip = first - extent.logical if extent.logical < first else 0
                start = max(extent.logical, first)
                stop = min(extent.logical + extent.length, end)
                piece = chunk[(start - first) * BLOCK : (stop - first) * BLOCK]
                yield extent.block + skip, piece
                if stop < extent.logical + extent.length:
                    break
                extent = next(extents, None)
            first = end

    def map_of(self, file: File) -> tuple[bytes, list[Blocks]]:
        """Return what the inode holds of a file's block map, 60 bytes, and its indirect blocks."""
        if file.number not in self._maps:
            self._maps[file.number] = self._map_of(file)
        return self._maps[file.number]

    def _map_of(self, file: File) -> tuple[bytes, list[Blocks]]:
        numbers = self.placement.numbers(file.start, file.blocks)
        size = file.index.size
        pointers, index = file.index.build(numbers[:size], numbers[size:])
        if stat.S_ISLNK(file.node.mode) and not file.body:
            pointers = file.node.target
        return pointers, list(zip(numbers, index, strict=False))

    def metadata(self) -> Iterator[Blocks]:
        """Yield all else but the superblocks: indirect blocks, inodes and bitmaps."""
        geometry = self._geometry
        tables: dict[int, bytearray] = {}
        for file in self.placement.files:
            pointers, index = self.map_of(file)
            yield from index
            group, slot = divmod(file.number - 1, geometry.inodes_per_group)
            table = tables.setdefault(group, bytearray(geometry.table_blocks * BLOCK))
            table[slot * ext2.INODE_SIZE : (slot + 1) * ext2.INODE_SIZE] = self.inode(file, pointers)
        free_table = bytes(geometry.table_blocks * BLOCK)
        for group in range(geometry.groups):
            bitmaps = self.block_bitmap(group) + self._inode_bitmap(group)
            yield geometry.bitmaps(group), bitmaps + bytes(tables.get(group, free_table))

    def inode(self, file: File, pointers: bytes) -> bytes:
        """Return a file's inode; ``pointers`` is what it holds of the block map."""
        node = file.node
        user, group = node.owner
        time = self._time
        return ext2.INODE.pack(
            {
                "mode": node.mode,
                "uid": user & 0xFFFF,
                "uid_high": user >> 16,
                "gid": group & 0xFFFF,
                "gid_high": group >> 16,
                "size": file.size & 0xFFFFFFFF,
                "size_high": file.size >> 32,
                "access_time": time,
                "change_time": time,
                "modification_time": time,
                "links": file.links,
                "sectors": file.blocks * (BLOCK // ext2.SECTOR),
                "blocks": pointers,
            }
        )

    @cached_property
    def _used(self) -> list[list[tuple[int, int]]]:
        """For each group the runs of blocks that are used, counted from its first."""
        groups = range(self._geometry.groups)
        used = [[(0, self._metadata_blocks(group))] for group in groups]
        for block, count in self.placement.used():
            used[block // BLOCKS_PER_GROUP].append((block % BLOCKS_PER_GROUP, count))
        return used

    def block_bitmap(self, group: int) -> bytes:
        """Return a group's bitmap of used blocks."""
        return ext2.bitmap(self._used[group], self._geometry.group_blocks(group))

    def _inode_bitmap(self, group: int) -> bytes:
        used = self._used_inodes(group)
        return ext2.bitmap([(0, used)] if used else [], self._geometry.inodes_per_group)

    def _metadata_blocks(self, group: int) -> int:
        return self._geometry.data_start(group) - group * BLOCKS_PER_GROUP

    def _used_inodes(self, group: int) -> int:
        """Return how many inodes of a group are used: the reserved ones and those of files come first."""
        each = self._geometry.inodes_per_group
        last = self.placement.files[-1].number if len(self.placement.files) > 1 else 0
        return min(max(max(last, ext2.FIRST_INODE - 1) - group * each, 0), each)

    @cached_property
    def _descriptors(self) -> bytes:
        geometry, each = self._geometry, self._geometry.inodes_per_group
        used = [sum(count for _, count in runs) for runs in self._used]
        directories = Counter((file.number - 1) // each for file in self.placement.files if file.is_directory)
        return b"".join(
            ext2.GROUP.pack(
                {
                    "block_bitmap": geometry.bitmaps(group),
                    "inode_bitmap": geometry.bitmaps(group) + 1,
                    "inode_table": geometry.bitmaps(group) + 2,
                    "free_blocks": geometry.group_blocks(group) - used[group],
                    "free_inodes": each - self._used_inodes(group),
                    "directories": directories[group],
                }
            )
            for group in range(geometry.groups)
        )

    def superblocks(self, uuid: bytes) -> Iterator[Blocks]:
        """Yield the superblock and the group descriptors, for each group that has them."""
        return copies(self._geometry, lambda group: self.superblock(group, uuid), self._descriptors)

    def superblock(self, group: int, uuid: bytes) -> bytes:
        """Return a group's superblock, 1024 bytes."""
        geometry, time = self._geometry, self._time
        used_inodes = sum(map(self._used_inodes, range(geometry.groups)))
        return ext2.SUPERBLOCK.pack(
            {
                "inodes_count": geometry.inodes,
                "blocks_count": geometry.blocks,
                "free_blocks": self.placement.free,
                "free_inodes": geometry.inodes - used_inodes,
                "log_block_size": 2,
                "log_fragment_size": 2,
                "blocks_per_group": BLOCKS_PER_GROUP,
                "fragments_per_group": BLOCKS_PER_GROUP,
                "inodes_per_group": geometry.inodes_per_group,
                "write_time": time,
                "max_mount_count": _NO_MAXIMUM,
                "magic": ext2.MAGIC,
                "state": _CLEAN,
                "errors": _CONTINUE,
                "check_time": time,
                "revision": 1,
                "first_inode": ext2.FIRST_INODE,
                "inode_size": ext2.INODE_SIZE,
                "group_number": group,
                "incompat": ext2.INCOMPAT_FILETYPE,
                "ro_compat": ext2.RO_COMPAT_SPARSE_SUPER | ext2.RO_COMPAT_LARGE_FILE,
                **identity(uuid),
                "hash_version": _HALF_MD4,
                "creation_time": time,
                "flags": _SIGNED_HASH,
            }
        )


def copies(geometry: Geometry, superblock_of: Callable[[int], bytes], descriptors: bytes) -> Iterator[Blocks]:
    """Yield the superblock, and group descriptors where there are any, for each group that has them."""
    descriptors = descriptors.ljust(-(-len(descriptors) // BLOCK) * BLOCK, b"\0")
    for group in filter(ext2.has_superblock, range(geometry.groups)):
        # The first superblock lies behind the place of a boot sector.
        before = b"" if group else bytes(ext2.SUPERBLOCK_OFFSET)
        packed = (before + superblock_of(group)).ljust(BLOCK, b"\0")
        yield group * BLOCKS_PER_GROUP, packed + descriptors


def identity(uuid: bytes) -> dict[str, bytes]:
    """Return the fields of a superblock that follow from a UUID of 16 bytes, zeros for none yet."""
    return {"uuid": uuid, "hash_seed": uuid_from(uuid, b"directories") if any(uuid) else uuid}


def uuid_from(data: bytes, purpose: bytes) -> bytes:
    """Return a UUID of 16 bytes that follows from data, in the form of a random one (RFC 9562, version 4)."""
    digest = bytearray(hashlib.sha256(b"mystikos-tool disk: uuid " + purpose + data).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def listing_digest(files: Iterable[File]) -> bytes:
    """Return a digest of the paths and types of a file system, 32 bytes."""
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(b"%o %d " % (stat.S_IFMT(file.node.mode), len(file.node.path)) + file.node.path)
    return hashed.digest()
