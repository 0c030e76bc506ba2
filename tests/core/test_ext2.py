"""ext2, bytes to values and back; and a reader that hostile disks neither fool nor keep busy."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import struct
import time
from collections.abc import Iterator

import pytest
from disks import PLAIN, Recorded, filesystem
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from mystikos_tool.errors import UserError
from mystikos_tool.formats import ext2
from mystikos_tool.formats.ext2 import BLOCK, BLOCKS_PER_GROUP, IndexTree, Name, Run

LEAF = 1024
DOUBLE = 12 + LEAF
TRIPLE = 12 + LEAF + LEAF**2


@pytest.mark.parametrize("disk", PLAIN, ids=lambda disk: disk.name)
def test_a_recorded_disk_is_read_whole(disk: Recorded) -> None:
    read = filesystem(disk.image, disk.case["filesystem_size"])
    members = {b"/" + member.path: member for member in read.members if member.path != b"lost+found"}
    assert set(members) == set(disk.tree)
    for path, row in disk.tree.items():
        member = members[path]
        assert (member.mode, member.links) == (int(row["mode"], 8), row["nlink"])
        assert (member.uid, member.gid) == (row["uid"], row["gid"])
        if "sha256" in row:
            content = b"".join(read.content(member))
            assert (len(content), hashlib.sha256(content).hexdigest()) == (row["size"], row["sha256"])
        if "target" in row:
            assert read.data(member) == row["target"].encode("latin-1")
        assert read.entry(os.fsdecode(path)) == member


# Directories

names = st.lists(
    st.builds(Name, st.integers(1, 1 << 31), st.sampled_from([1, 2, 7]), st.binary(min_size=1, max_size=255)),
    max_size=80,
)


@given(names)
def test_the_entries_of_a_directory_are_read_as_they_were_written(entries: list[Name]) -> None:
    data = ext2.directory(entries)
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    assert all(len(block) == BLOCK for block in blocks)
    assert [name for block in blocks for name in ext2.names(block)] == entries


@pytest.mark.parametrize("length", [0, 1, 7, 10, 4100, 65532])
def test_a_directory_entry_of_a_wrong_length_is_refused(length: int) -> None:
    block = bytearray(ext2.directory([Name(11, 1, b"file")]))
    struct.pack_into("<H", block, 4, length)
    with pytest.raises(ValueError, match="wrong length"):
        list(ext2.names(bytes(block)))


# Groups


def test_the_superblock_is_in_groups_0_1_and_the_powers_of_3_5_and_7() -> None:
    assert [group for group in range(130) if ext2.has_superblock(group)] == [
        *(0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125)
    ]


@given(st.integers(1, 5_000_000), st.integers(11, 200_000))
@settings(deadline=None, max_examples=examples(20))
def test_the_smallest_file_system_holds_what_it_should_and_a_smaller_one_does_not(
    data: int, inodes: int
) -> None:
    found = ext2.smallest(data, inodes, 256)
    assert found.data_blocks >= data
    assert found.inodes >= inodes
    assert found.inodes_per_group <= ext2.MAX_INODES_PER_GROUP
    try:
        less = ext2.geometry(found.blocks - 256, inodes)
    except ValueError:
        return
    assert less.data_blocks < data


@given(st.integers(1000, 1_000_000), st.integers(0, 900_000), st.integers(0, 200_000))
def test_data_blocks_lie_apart_from_the_metadata_of_their_groups(blocks: int, first: int, count: int) -> None:
    laid_out = ext2.geometry(blocks, 5000)
    first = min(first, laid_out.data_blocks)
    count = min(count, laid_out.data_blocks - first)
    extents = list(laid_out.extents(first, count))
    assert sum(length for _, length in extents) == count
    for block, length in extents:
        group = block // BLOCKS_PER_GROUP
        assert laid_out.data_start(group) <= block
        assert block + length <= group * BLOCKS_PER_GROUP + laid_out.group_blocks(group)


def test_a_last_group_too_small_for_its_metadata_is_left_away() -> None:
    assert ext2.geometry(BLOCKS_PER_GROUP + 3, 1000).blocks == BLOCKS_PER_GROUP
    assert ext2.geometry(BLOCKS_PER_GROUP + 200, 1000).blocks == BLOCKS_PER_GROUP + 200


@pytest.mark.parametrize(("blocks", "inodes"), [(1, 11), (4, 11), (1000, 100_000), (1 << 32, 11)])
def test_what_has_no_room_for_its_inodes_is_no_file_system(blocks: int, inodes: int) -> None:
    with pytest.raises(ValueError, match="blocks"):
        ext2.geometry(blocks, inodes)


def test_a_bitmap_has_its_runs_and_its_end_set() -> None:
    bits = int.from_bytes(ext2.bitmap([(0, 2), (5, 1)], 8 * BLOCK - 4), "little")
    assert bits == 0b100011 | 0b1111 << (8 * BLOCK - 4)


# Block maps


def looked_up(pointers: bytes, blocks: dict[int, bytes], number: int) -> int:
    """The block that a map names for a block of a file, from ext2's description of maps."""
    inode = struct.unpack("<15I", pointers)
    if number < 12:
        return int(inode[number])
    number -= 12
    for depth, place in ((1, 12), (2, 13), (3, 14)):
        if number < LEAF**depth:
            block = inode[place]
            for level in reversed(range(depth)):
                if block == 0:
                    return 0
                block = struct.unpack_from("<I", blocks[block], 4 * (number // LEAF**level % LEAF))[0]
            return int(block)
        number -= LEAF**depth
    raise AssertionError(number)


EDGES = [0, 1, 11, 12, 13, DOUBLE - 1, DOUBLE, DOUBLE + 1, DOUBLE + LEAF - 1, DOUBLE + LEAF]
EDGES += [TRIPLE - 1, TRIPLE, TRIPLE + 1, TRIPLE + LEAF, TRIPLE + LEAF**2 - 1, TRIPLE + LEAF**2]


def check_map(runs: list[Run], holes: list[int]) -> None:
    tree = IndexTree(runs)
    count = sum(run.length for run in runs)
    index = range(10, 10 + tree.size)
    pointers, blocks = tree.build(index, range(100_000, 100_000 + count))
    stored = dict(zip(index, blocks, strict=True))
    expected = iter(range(100_000, 100_000 + count))
    for run in runs:
        for number in range(run.first, run.first + run.length):
            assert looked_up(pointers, stored, number) == next(expected), number
    for number in holes:
        assert looked_up(pointers, stored, number) == 0, number


@pytest.mark.parametrize("blocks", [edge for edge in EDGES if 0 < edge < 4000])
def test_a_dense_file_of_each_number_of_blocks_around_a_level_is_found_again(blocks: int) -> None:
    check_map([Run(0, blocks)], [blocks, DOUBLE + 2 * LEAF, TRIPLE, TRIPLE + 5 * LEAF**2])


@pytest.mark.parametrize("edge", EDGES[1:])
def test_runs_across_the_edges_of_levels_with_holes_between_are_found_again(edge: int) -> None:
    check_map([Run(edge - 1, 2), Run(edge + 5, 3000)], [edge + 1, edge + 4, edge + 3005])


def test_a_map_has_no_indirect_block_that_it_does_not_need() -> None:
    sizes = {
        (Run(0, 12),): 0,
        (Run(0, 13),): 1,
        (Run(DOUBLE - 1, 1),): 1,
        (Run(DOUBLE, 1),): 2,
        (Run(DOUBLE - 1, 2),): 3,
        (Run(TRIPLE, 1),): 3,
        (Run(TRIPLE - 1, 2),): 5,
        (Run(TRIPLE + LEAF**2 - 1, 2),): 5,
    }
    assert {runs: IndexTree(runs).size for runs in sizes} == sizes


# Hostile disks

SMALL = next(disk for disk in PLAIN if disk.name == "p6-4k-minimal")
TABLE = ext2.GROUP.get_int(SMALL.image[BLOCK : BLOCK + 32], "inode_table") * BLOCK


def damaged(offset: int, data: bytes) -> bytes:
    image = bytearray(SMALL.image[: SMALL.case["filesystem_size"]])
    image[offset : offset + len(data)] = data
    return bytes(image)


def superblock_with(**values: int) -> bytes:
    return damaged(1024, ext2.SUPERBLOCK.patch(SMALL.image[1024:2048], values))


def inode_with(path: str, **values: int | bytes) -> bytes:
    number = found.inode if (found := filesystem(SMALL.image).entry(path)) else 0
    offset = TABLE + (number - 1) * ext2.INODE_SIZE
    return damaged(offset, ext2.INODE.patch(SMALL.image[offset : offset + ext2.INODE_SIZE], values))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"magic": 0}, "is no ext2"),
        ({"revision": 0}, "revision 0"),
        ({"log_block_size": 4}, "more than 8192"),
        ({"log_block_size": 0xFFFFFFFF}, "more than 8192"),
        ({"blocks_count": 1025}, "larger than the data area"),
        ({"inode_size": 512}, "inodes of 512"),
        ({"inode_size": 0}, "inodes of 0"),
        ({"blocks_per_group": 0}, "groups of a wrong size"),
        ({"inodes_per_group": 0}, "groups of a wrong size"),
        ({"inodes_per_group": 1 << 30}, "groups of a wrong size"),
        ({"first_data_block": 1}, "wrong block"),
        ({"blocks_count": 0}, "wrong block"),
        ({"inodes_count": 1 << 31}, "more inodes"),
        ({"incompat": 0}, "features"),
        ({"incompat": 0x42}, "features"),  # extents
        ({"incompat": 0x82}, "features"),  # 64bit
        ({"incompat": 0x8002}, "features"),  # inline data
        ({"ro_compat": 0x200}, "features"),  # bigalloc
    ],
)
def test_a_superblock_that_cannot_be_is_refused(values: dict[str, int], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        filesystem(superblock_with(**values))


@pytest.mark.parametrize("size", [0, 100, 1024, 2047])
def test_a_file_too_short_for_a_superblock_is_no_ext2(size: int) -> None:
    with pytest.raises(UserError, match="is no ext2"):
        filesystem(SMALL.image[:size])


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"flags": ext2.FLAG_EXTENTS}, "extents"),
        ({"flags": ext2.FLAG_INLINE_DATA}, "extents or inline"),
        ({"size": 100}, "directory of 100 bytes"),
        ({"size": 0xFFFFF000}, "more blocks than the disk"),
        ({"blocks": struct.pack("<15I", 0xFFFFFFFF, *[0] * 14)}, "block 4294967295"),
        ({"blocks": struct.pack("<15I", 1024, *[0] * 14)}, "block 1024"),
        ({"mode": stat.S_IFREG | 0o644}, "another type"),
    ],
)
def test_an_inode_that_the_kernel_would_hang_on_or_misread_is_refused(
    values: dict[str, int | bytes], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        _ = filesystem(inode_with("/bin", **values)).members


def test_a_directory_that_contains_itself_is_refused() -> None:
    bin_inode = filesystem(SMALL.image).entry("/bin")
    assert bin_inode
    block = ext2.directory([Name(bin_inode.inode, 2, b"again")])
    number = next(iter(filesystem(SMALL.image).blocks_of(bin_inode)))
    with pytest.raises(UserError, match="two names"):
        _ = filesystem(damaged(number * BLOCK, block)).members


@pytest.mark.parametrize("name", [b"a/b", b"a\0b"])
def test_a_name_that_is_none_is_refused(name: bytes) -> None:
    read = filesystem(SMALL.image)
    directory, file = read.entry("/bin"), read.entry("/bin/hi")
    assert directory
    assert file
    block = ext2.directory([Name(file.inode, 1, name)])
    number = next(iter(read.blocks_of(directory)))
    with pytest.raises(UserError, match="has an entry"):
        _ = filesystem(damaged(number * BLOCK, block)).members


def test_a_file_of_nothing_but_itself_is_read_no_longer_than_the_disk_is() -> None:
    """Every indirect block is the same, and names itself: 4 TB of content in one block."""
    block = 1000
    loop = struct.pack(f"<{LEAF}I", *[block] * LEAF)
    image = bytearray(inode_with("/bin/hi", blocks=struct.pack("<15I", *[block] * 15), size_high=1000))
    image[block * BLOCK : (block + 1) * BLOCK] = loop
    read = filesystem(bytes(image))
    file = read.entry("/bin/hi")
    assert file
    started = time.process_time()
    with pytest.raises(UserError, match="more blocks than the disk"):
        list(read.blocks_of(file))
    assert time.process_time() - started < 1  # following each of the blocks takes hours


def test_the_blocks_of_a_hole_of_terabytes_cost_nothing() -> None:
    read = filesystem(inode_with("/bin/hi", blocks=bytes(60), size_high=1000))
    file = read.entry("/bin/hi")
    assert file
    assert file.size > 4 * 10**12
    assert list(read.blocks_of(file)) == []


def everything(image: bytes) -> Iterator[object]:
    read = filesystem(image)
    for member in read.members:
        yield from read.blocks_of(member)
        if stat.S_ISLNK(member.mode):
            yield read.data(member)
        yield read.find("/" + os.fsdecode(member.path))


@pytest.mark.parametrize("seed", range(60))
def test_a_disk_with_wrong_bytes_is_read_or_refused_and_does_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    image = bytearray(SMALL.image[: SMALL.case["filesystem_size"]])
    for _ in range(chance.randint(1, 30)):
        area = chance.choice(
            [(1024, 1400), (BLOCK, BLOCK + 32), (TABLE, TABLE + 64 * 128), (BLOCK, 60 * BLOCK)]
        )
        image[chance.randrange(*area)] = chance.choice([0, 1, 255, chance.randrange(256)])
    try:
        found = list(everything(bytes(image)))
    except UserError as error:
        assert str(error).startswith("disk")
    else:
        assert found
