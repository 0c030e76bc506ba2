"""Disks whose structures lie: both readers refuse them or agree, in bounded time.

MYST_DISK_CASES=1000 takes so many of each kind instead of a few.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from compiling import needs_compiler
from making_disks import BLOCK, make_disk_of
from test_ext2_reader import data_size, line

from mystikos_tool.errors import UserError
from mystikos_tool.formats import ext2
from mystikos_tool.formats.ext2_reader import Filesystem
from mystikos_tool.formats.record import Record

pytestmark = needs_compiler

CASES = int(os.environ.get("MYST_DISK_CASES", "5"))
SECONDS = 20.0

Lie = Callable[[random.Random, bytearray], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """A disk with a file at each level of indirection but the third, and the size of its file system."""
    tree = tmp_path_factory.mktemp("sound") / "tree"
    (tree / "lib/deep/er").mkdir(parents=True)
    for number in range(40):
        (tree / f"lib/file{number}").write_bytes(b"%d" % number * number * 50)
    with (tree / "sparse").open("wb") as file:
        for block in (0, 11, 12, 1036, 1037, 2061, 3000):
            file.seek(block * BLOCK)
            file.write(b"data")
    (tree / "short").symlink_to("lib")
    (tree / "long").symlink_to("l" * 200)
    os.link(tree / "sparse", tree / "again")
    disk = make_disk_of(tree, tree.parent / "disk")
    return disk.read_bytes()[: data_size(disk)], data_size(disk)


def filesystem(data: bytes | bytearray) -> Filesystem:
    return Filesystem(lambda offset, size: bytes(data[offset : offset + size]), len(data), "disk")


def interesting(chance: random.Random, now: int, size: int) -> int:
    """A value for a field of so many bytes."""
    most = (1 << 8 * size) - 1
    near = now + chance.choice((-1, 1, 8, -8))
    return (
        chance.choice((0, 1, 2, now ^ 1 << chance.randrange(8 * size), near, now * 2, most, most >> 1)) & most
    )


def lie_in_record(chance: random.Random, data: bytearray, record: Record, at: int) -> None:
    field = chance.choice(list(record.fields.values()))
    place = at + field.offset + chance.randrange(0, max(field.size - 3, 1), 4 if field.size > 4 else 1)
    size = min(field.size, 4)
    now = int.from_bytes(data[place : place + size], "little")
    data[place : place + size] = interesting(chance, now, size).to_bytes(size, "little")


def lie_in_superblock(chance: random.Random, data: bytearray) -> None:
    lie_in_record(chance, data, ext2.SUPERBLOCK, ext2.SUPERBLOCK_OFFSET)


def lie_in_group(chance: random.Random, data: bytearray) -> None:
    lie_in_record(chance, data, ext2.GROUP, BLOCK)


def inode_at(chance: random.Random, data: bytearray) -> int:
    table = struct.unpack_from("<I", data, BLOCK + 8)[0] * BLOCK
    return int(table) + (chance.choice((2, *range(11, 75))) - 1) * ext2.INODE_SIZE


def lie_in_inode(chance: random.Random, data: bytearray) -> None:
    lie_in_record(chance, data, ext2.INODE, inode_at(chance, data))


def blocks_of_kind(data: bytearray, *, directories: bool) -> list[int]:
    """The blocks of directories, or those that name others."""
    read = filesystem(data)
    inodes = {member.inode: member for member in read.members}
    if directories:
        inodes[ext2.ROOT_INODE] = read._root
        return [
            block
            for member in inodes.values()
            if member.mode & 0o170000 == 0o040000
            for block in read.blocks_of(member)
        ]
    found = []
    for number in inodes:
        pointers = struct.unpack("<15I", bytes(read.inode(number)["blocks"]))
        found += [pointer for pointer in pointers[12:] if 0 < pointer < read.blocks]
        if pointers[13] and pointers[13] < read.blocks:
            found += [one for (one,) in struct.iter_unpack("<I", read.block(pointers[13])) if one]
    return found


def lie_in_directory(chance: random.Random, data: bytearray) -> None:
    block = chance.choice(blocks_of_kind(data, directories=True))
    entries, at = [], block * BLOCK
    while at < (block + 1) * BLOCK:
        entries.append(at)
        at += struct.unpack_from("<H", data, at + 4)[0]
    entry = chance.choice(entries)
    place, size = chance.choice(((0, 4), (4, 2), (6, 1), (7, 1), (8, 1)))
    now = int.from_bytes(data[entry + place : entry + place + size], "little")
    data[entry + place : entry + place + size] = interesting(chance, now, size).to_bytes(size, "little")


def lie_in_map(chance: random.Random, data: bytearray) -> None:
    block = chance.choice(blocks_of_kind(data, directories=False))
    place = block * BLOCK + 4 * chance.choice((0, 1, 1023, chance.randrange(1024)))
    others = blocks_of_kind(data, directories=False)
    now = int.from_bytes(data[place : place + 4], "little")
    value = chance.choice((interesting(chance, now, 4), block, chance.choice(others)))
    data[place : place + 4] = value.to_bytes(4, "little")


LIES: list[Lie] = [lie_in_superblock, lie_in_group, lie_in_inode, lie_in_directory, lie_in_map]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_disk_that_lies_is_refused_or_read_alike_in_bounded_time(
    disk_reader: Path, sound: tuple[bytes, int], tmp_path: Path, lie: Lie
) -> None:
    data, size = sound
    disk = tmp_path / "disk"
    for seed in range(CASES):
        chance, lying = random.Random(seed), bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 3))):
            try:
                lie(chance, lying)
            except UserError:
                break  # the lie before it was enough
        disk.write_bytes(lying)
        began = time.monotonic()
        done = subprocess.run(
            [disk_reader, disk, str(size)], capture_output=True, check=False, timeout=SECONDS
        )
        assert done.stderr == b"", seed
        assert done.returncode in (0, 1), seed
        try:
            read = filesystem(lying)
            found = sorted(line(read, member) for member in read.members)
        except UserError as error:
            assert error.problem, seed
            continue
        finally:
            assert time.monotonic() - began < SECONDS, seed
        if done.returncode == 0:
            assert sorted(done.stdout.split(b"\0")[:-1]) == found, seed
