"""ext2: superblock, groups, inodes, directories and block maps, bytes to values and back.

The rules are those of the Linux kernel's documentation of ext2 and ext4 ("Data Structures and
Algorithms"), as far as Mystikos' kernel reads them (docs/disks.md). What is written here has blocks
of 4096 bytes, the unit of the hash tree, and inodes of 128; `ext2_reader` reads others too.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import NamedTuple

from mystikos_tool.formats.record import Field, Record

BLOCK = 4096
SUPERBLOCK_OFFSET = 1024
MAGIC = 0xEF53
ROOT_INODE = 2
FIRST_INODE = 11
INODE_SIZE = 128
BLOCKS_PER_GROUP = 8 * BLOCK
INODES_PER_BLOCK = BLOCK // INODE_SIZE
MAX_INODES_PER_GROUP = 8 * BLOCK
SECTOR = 512

MAX_NAME = 255
MAX_LINKS = 65000
MAX_BLOCKS = (1 << 32) - 1
FAST_LINK = 60  # a shorter target lies in the inode

INCOMPAT_FILETYPE = 0x2
RO_COMPAT_SPARSE_SUPER = 0x1
RO_COMPAT_LARGE_FILE = 0x2
FLAG_EXTENTS = 0x80000
FLAG_INLINE_DATA = 0x10000000

TYPE_FILE, TYPE_DIRECTORY, TYPE_LINK = 1, 2, 7

SUPERBLOCK = Record(
    1024,
    (
        Field("inodes_count", 0, "I"),
        Field("blocks_count", 4, "I"),
        Field("reserved_blocks", 8, "I"),
        Field("free_blocks", 12, "I"),
        Field("free_inodes", 16, "I"),
        Field("first_data_block", 20, "I"),
        Field("log_block_size", 24, "I"),
        Field("log_fragment_size", 28, "I"),
        Field("blocks_per_group", 32, "I"),
        Field("fragments_per_group", 36, "I"),
        Field("inodes_per_group", 40, "I"),
        Field("mount_time", 44, "I"),
        Field("write_time", 48, "I"),
        Field("mount_count", 52, "H"),
        Field("max_mount_count", 54, "H"),
        Field("magic", 56, "H"),
        Field("state", 58, "H"),
        Field("errors", 60, "H"),
        Field("minor_revision", 62, "H"),
        Field("check_time", 64, "I"),
        Field("check_interval", 68, "I"),
        Field("creator_os", 72, "I"),
        Field("revision", 76, "I"),
        Field("reserved_uid", 80, "H"),
        Field("reserved_gid", 82, "H"),
        Field("first_inode", 84, "I"),
        Field("inode_size", 88, "H"),
        Field("group_number", 90, "H"),
        Field("compat", 92, "I"),
        Field("incompat", 96, "I"),
        Field("ro_compat", 100, "I"),
        Field("uuid", 104, "16s"),
        Field("volume_name", 120, "16s", filled=True),
        Field("hash_seed", 236, "16s"),
        Field("hash_version", 252, "B"),
        Field("creation_time", 264, "I"),
        Field("flags", 352, "I"),
    ),
)


def is_superblock(data: bytes) -> bool:
    """Tell whether bytes are a superblock of ext2."""
    return len(data) == SUPERBLOCK.size and SUPERBLOCK.get_int(data, "magic") == MAGIC


GROUP = Record(
    32,
    (
        Field("block_bitmap", 0, "I"),
        Field("inode_bitmap", 4, "I"),
        Field("inode_table", 8, "I"),
        Field("free_blocks", 12, "H"),
        Field("free_inodes", 14, "H"),
        Field("directories", 16, "H"),
    ),
)

INODE = Record(
    INODE_SIZE,
    (
        Field("mode", 0, "H"),
        Field("uid", 2, "H"),
        Field("size", 4, "I"),
        Field("access_time", 8, "I"),
        Field("change_time", 12, "I"),
        Field("modification_time", 16, "I"),
        Field("deletion_time", 20, "I"),
        Field("gid", 24, "H"),
        Field("links", 26, "H"),
        Field("sectors", 28, "I"),
        Field("flags", 32, "I"),
        Field("blocks", 40, "60s", filled=True),
        Field("generation", 100, "I"),
        Field("attributes", 104, "I"),
        Field("size_high", 108, "I"),
        Field("uid_high", 120, "H"),
        Field("gid_high", 122, "H"),
    ),
)

_ENTRY = struct.Struct("<IHBB")
_ENTRY_ALIGN = 4


class Name(NamedTuple):
    """A directory entry: inode number, type and name."""

    inode: int
    type: int
    name: bytes


def directory(names: Iterable[Name]) -> bytes:
    """Return a directory's blocks: entries in the order given, the last of each block filling it."""
    blocks: list[bytearray] = []
    last = room = 0
    for name in names:
        size = -(-(_ENTRY.size + len(name.name)) // _ENTRY_ALIGN) * _ENTRY_ALIGN
        if size > room:
            blocks.append(bytearray())
            room = BLOCK
        block = blocks[-1]
        if block:  # the entry before it ends where this one begins
            struct.pack_into("<H", block, last + 4, len(block) - last)
        last = len(block)
        block += _ENTRY.pack(name.inode, room, len(name.name), name.type) + name.name
        block += bytes(-len(block) % _ENTRY_ALIGN)
        room -= size
    return b"".join(bytes(block).ljust(BLOCK, b"\0") for block in blocks)


def names(block: bytes, only: bytes | None = None) -> Iterator[Name]:
    """Yield a directory block's entries that are in use, or ``only`` those of a name.

    Raises ValueError for a malformed one.
    """
    at, end, unpack = 0, len(block), _ENTRY.unpack_from
    wanted = -1 if only is None else len(only)
    while at < end:
        if end - at < _ENTRY.size:
            raise ValueError("an entry does not fit its block")
        inode, length, size, kind = unpack(block, at)
        if length < _ENTRY.size + size or length % _ENTRY_ALIGN or at + length > end:
            raise ValueError("an entry has a wrong length")
        if inode and (only is None or (size == wanted and block.startswith(only, at + _ENTRY.size))):
            start = at + _ENTRY.size
            yield Name(inode, kind, block[start : start + size])
        at += length


@lru_cache(1024)
def has_superblock(group: int) -> bool:
    """Tell whether a group holds a copy of the superblock: 0, 1 and powers of 3, 5 and 7 (sparse_super)."""
    if group <= 1:
        return True
    return any(_is_power(group, base) for base in (3, 5, 7))


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1


@dataclass(frozen=True)
class Geometry:
    """Where a file system of ``blocks`` blocks has its groups, and what of them holds no metadata.

    A group begins with the superblock and the group descriptors, if it has copies of them, then
    come its two bitmaps and its inode table. The blocks behind these hold data: counted through
    all groups, they are what `extents` translates.
    """

    blocks: int
    inodes_per_group: int

    @property
    def groups(self) -> int:
        """Number of groups."""
        return -(-self.blocks // BLOCKS_PER_GROUP)

    @property
    def inodes(self) -> int:
        """Number of inodes."""
        return self.groups * self.inodes_per_group

    @property
    def descriptor_blocks(self) -> int:
        """Blocks that the group descriptors take."""
        return -(-self.groups * GROUP.size // BLOCK)

    @property
    def table_blocks(self) -> int:
        """Blocks of a group's inode table."""
        return self.inodes_per_group // INODES_PER_BLOCK

    def group_blocks(self, group: int) -> int:
        """Blocks in a group, fewer in the last."""
        return min(BLOCKS_PER_GROUP, self.blocks - group * BLOCKS_PER_GROUP)

    def bitmaps(self, group: int) -> int:
        """Block number of a group's block bitmap; its inode bitmap and inode table follow."""
        copies = 1 + self.descriptor_blocks if has_superblock(group) else 0
        return group * BLOCKS_PER_GROUP + copies

    def data_start(self, group: int) -> int:
        """Block number of a group's first block for data."""
        return self.bitmaps(group) + 2 + self.table_blocks

    @cached_property
    def _starts(self) -> list[int]:
        """For each group the number of data blocks before it; last their number."""
        counts = (
            group * BLOCKS_PER_GROUP + self.group_blocks(group) - self.data_start(group)
            for group in range(self.groups)
        )
        return list(accumulate(counts, initial=0))

    @property
    def data_blocks(self) -> int:
        """Number of blocks that can hold data."""
        return self._starts[-1]

    def data_number(self, block: int) -> int:
        """Return which of the data blocks a block of the file system is."""
        group = block // BLOCKS_PER_GROUP
        return self._starts[group] + block - self.data_start(group)

    def extents(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Yield block number and length of what the data blocks from ``first`` are in the file system."""
        while count > 0:
            group = bisect_right(self._starts, first) - 1
            size = min(count, self._starts[group + 1] - first)
            yield self.data_start(group) + first - self._starts[group], size
            first += size
            count -= size


def geometry(blocks: int, inodes: int) -> Geometry:
    """Lay ``blocks`` blocks out with room for at least ``inodes`` inodes.

    A last group that cannot hold its own metadata is left away. Raises ValueError where too few
    blocks are left for that many inodes.
    """
    if blocks > MAX_BLOCKS:
        raise ValueError("more blocks than ext2 can number")
    groups = -(-blocks // BLOCKS_PER_GROUP)
    while groups > 0:
        each = -(-inodes // groups)
        laid_out = Geometry(blocks, -(-each // INODES_PER_BLOCK) * INODES_PER_BLOCK)
        if laid_out.inodes_per_group > MAX_INODES_PER_GROUP:
            break
        if laid_out.data_start(groups - 1) < blocks:
            return laid_out
        groups -= 1
        blocks = groups * BLOCKS_PER_GROUP
    raise ValueError("too few blocks")


def smallest(data_blocks: int, inodes: int, multiple: int) -> Geometry:
    """Return the geometry of fewest blocks, a multiple of ``multiple``, that holds as much.

    Raises ValueError where ext2 cannot hold it.
    """
    least_groups = -(-inodes // MAX_INODES_PER_GROUP)
    blocks = max(data_blocks, (least_groups - 1) * BLOCKS_PER_GROUP)
    while True:
        blocks = -(-(blocks + 1) // multiple) * multiple
        if blocks > MAX_BLOCKS:
            raise ValueError("more blocks than ext2 can number")
        try:
            found = geometry(blocks, inodes)
        except ValueError:
            continue
        if found.data_blocks >= data_blocks:
            return found
        if found.blocks == blocks:  # else a last group, still too small, was left away
            blocks += data_blocks - found.data_blocks - 1


def bitmap(runs: Iterable[tuple[int, int]], size: int) -> bytes:
    """Return a block of bits: those of the runs (first, count) set, and those from ``size`` on."""
    bits = ((1 << 8 * BLOCK - size) - 1) << size
    for first, count in runs:
        bits |= ((1 << count) - 1) << first
    return bits.to_bytes(BLOCK, "little")


# Block maps

_DIRECT = 12
_PER_BLOCK = BLOCK // 4
_DOUBLE_LEAVES = _PER_BLOCK
_IN_INODE = {"leaf": 12, "double": 13, "triple": 14}
_Key = tuple[str, int]  # the kind of an indirect block, and its number among those of the kind
MAX_FILE_BLOCKS = _DIRECT + _PER_BLOCK + _PER_BLOCK**2 + _PER_BLOCK**3


class Run(NamedTuple):
    """Blocks of a file that are not a hole: the first one's number in the file, and how many."""

    first: int
    length: int


class IndexTree:
    """The indirect blocks of a file with these runs, numbered from 0 with parents before children.

    The leaf ``k`` names the blocks from 12 + 1024 k of the file. Leaf 0 hangs in the inode; leaves
    1 to 1024 below the double indirect block; later ones below the triple indirect one.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self._numbers: dict[_Key, int] = {}
        for run in runs:
            last = run.first + run.length - 1
            if last >= _DIRECT:
                for leaf in range(_leaf_of(max(run.first, _DIRECT)), _leaf_of(last) + 1):
                    self._add(("leaf", leaf))

    def _add(self, key: _Key) -> None:
        above = _parent(key)
        if above and above not in self._numbers:
            self._add(above)
        self._numbers.setdefault(key, len(self._numbers))

    @property
    def size(self) -> int:
        """Number of indirect blocks."""
        return len(self._numbers)

    def build(self, index: Sequence[int], data: Sequence[int]) -> tuple[bytes, list[bytes]]:
        """Return the 60 bytes of the inode and each indirect block's content.

        ``index`` has the indirect blocks' block numbers, ``data`` those of the runs, in order.
        """
        inode = [0] * 15
        blocks = [array("I", bytes(BLOCK)) for _ in range(self.size)]
        for key, place in self._numbers.items():
            above = _parent(key)
            if above:
                blocks[self._numbers[above]][_slot(key)] = index[place]
            else:
                inode[_IN_INODE[key[0]]] = index[place]
        at = 0
        for run in self.runs:
            for first, count in _split(run):
                numbers = data[at : at + count]
                at += count
                if first < _DIRECT:
                    inode[first : first + count] = numbers
                else:
                    leaf = self._numbers["leaf", _leaf_of(first)]
                    slot = (first - _DIRECT) % _PER_BLOCK
                    blocks[leaf][slot : slot + count] = array("I", numbers)
        return struct.pack("<15I", *inode), [_packed(block) for block in blocks]


def _packed(block: array[int]) -> bytes:
    if sys.byteorder == "big":
        block.byteswap()
    return block.tobytes()


def _leaf_of(block: int) -> int:
    return (block - _DIRECT) // _PER_BLOCK


def _split(run: Run) -> Iterator[Run]:
    """Yield a run in pieces that each lie in the inode or in one leaf."""
    first, left = run
    while left:
        end = _DIRECT if first < _DIRECT else _DIRECT + (_leaf_of(first) + 1) * _PER_BLOCK
        count = min(left, end - first)
        yield Run(first, count)
        first += count
        left -= count


def _parent(key: _Key) -> _Key | None:
    """Return the indirect block that names another one; None where the inode does."""
    kind, number = key
    if kind == "leaf" and number > _DOUBLE_LEAVES:
        return "middle", (number - 1 - _DOUBLE_LEAVES) // _PER_BLOCK
    if kind == "leaf" and number > 0:
        return "double", 0
    return ("triple", 0) if kind == "middle" else None


def _slot(key: _Key) -> int:
    """Return where in its parent an indirect block is named."""
    kind, number = key
    return number if kind == "middle" else (number - 1) % _PER_BLOCK
