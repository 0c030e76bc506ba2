"""The runtime's reader of ext2, held against the packager's."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from compiling import needs_compiler
from making_disks import BLOCK, change, make_disk_of
from packaging import DATA, write_appdir

from mystikos_tool.formats import ext2, fssig
from mystikos_tool.formats.ext2_reader import Filesystem, Member
from mystikos_tool.formats.record import Record

pytestmark = needs_compiler

LARGE = 1 << 26
DISKS = [path for path in sorted((DATA / "disks").iterdir()) if "luks" not in path.name]


def data_size(disk: Path) -> int:
    data = disk.read_bytes()
    return fssig.parse(data[-BLOCK:], len(data), "disk").hash_offset


def list_disk(disk_reader: Path, disk: Path) -> tuple[int, bytes]:
    done = subprocess.run(
        [disk_reader, disk, str(data_size(disk))], capture_output=True, check=False, timeout=60
    )
    assert done.stderr == b""
    return done.returncode, done.stdout


def filesystem(disk: Path) -> Filesystem:
    data = disk.read_bytes()
    return Filesystem(lambda offset, size: data[offset : offset + size], data_size(disk), str(disk))


def line(read: Filesystem, member: Member) -> bytes:
    content = b""
    if stat.S_ISREG(member.mode):
        content = digest(read, member).encode()
    if stat.S_ISLNK(member.mode):
        content = read.data(member)
    numbers = f"{member.mode:o} {member.size} {member.links} {member.time} ".encode()
    return numbers + content + b" " + member.path


def digest(read: Filesystem, member: Member) -> str:
    """As list_disk.c says it."""
    hashed = hashlib.sha256()
    if member.size > LARGE:
        for number, block in read.map_of(member):
            at = number * read.block_size
            hashed.update(struct.pack("<Q", at) + read.block(block)[: member.size - at])
    else:
        for piece in read.content(member):
            hashed.update(piece)
    return hashed.hexdigest()


def assert_agreement(disk_reader: Path, disk: Path) -> None:
    status, output = list_disk(disk_reader, disk)
    expected = filesystem(disk)
    assert status == 0
    assert sorted(output.split(b"\0")[:-1]) == sorted(line(expected, member) for member in expected.members)


@pytest.mark.parametrize("recorded", DISKS, ids=lambda path: path.name)
def test_recorded_disks_are_read_as_the_packager_reads_them(
    disk_reader: Path, tmp_path: Path, recorded: Path
) -> None:
    disk = tmp_path / "disk"
    name = json.loads((recorded / "case.json").read_text())["image"]
    disk.write_bytes(gzip.decompress((recorded / name).read_bytes()))
    assert_agreement(disk_reader, disk)


@pytest.fixture
def disk(original: Path, tmp_path: Path) -> Path:
    """A copy of the disk, to be changed."""
    return Path(shutil.copyfile(original, tmp_path / "disk"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long names, deep directories, links of both lengths, hard links, holes in the map."""
    directory = tmp_path_factory.mktemp("disk")
    tree = write_appdir(
        directory / "tree", {"a": b"", "d/" + "n" * 255: b"x", "d/e/f/g": bytes(BLOCK) + b"y"}
    )
    (tree / "short").symlink_to("a")
    (tree / "long").symlink_to("a" * 3000)
    os.link(tree / "d" / "e" / "f" / "g", tree / "again")
    with (tree / "sparse").open("wb") as file:
        for block in (0, 11, 12, 13, 1035, 1036, 1037, 2060):
            file.seek(block * BLOCK + 7)
            file.write(b"data")
    for number in range(300):
        (tree / "many" / str(number)).mkdir(parents=True)
    return make_disk_of(tree, directory / "disk")


def test_disks_of_ours_are_read_as_the_packager_reads_them(disk_reader: Path, disk: Path) -> None:
    assert_agreement(disk_reader, disk)


# What a hostile party may write


def field(record: Record, name: str, value: int) -> tuple[int, bytes]:
    """Where a field of a record is, and its bytes with a value."""
    found = record.fields[name]
    return found.offset, struct.pack("<" + found.format, value)


def refusal(disk_reader: Path, disk: Path, offset: int, data: bytes) -> str:
    change(disk, offset, data)
    status, output = list_disk(disk_reader, disk)
    assert status == 1
    return output.rpartition(b"\0")[2].decode()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("magic", 0, "is no ext2 file system"),
        ("revision", 0, "revision 0"),
        ("log_block_size", 4, "has blocks of more than 8192 bytes"),
        ("log_block_size", 0xFFFFFFFF, "has blocks of more than 8192 bytes"),
        ("blocks_count", 1 << 20, "is larger than the data area"),
        ("blocks_count", 0, "begins at a wrong block"),
        ("inode_size", 64, "has inodes of another size"),
        ("incompat", 0x42, "has features"),
        ("incompat", 0, "has features"),
        ("ro_compat", 0x200, "has features"),
        ("blocks_per_group", 0, "has groups of a wrong size"),
        ("blocks_per_group", 32769, "has groups of a wrong size"),
        ("inodes_per_group", 0, "has groups of a wrong size"),
        ("first_data_block", 1, "begins at a wrong block"),
        ("inodes_count", 0xFFFFFFFF, "has no inodes, or more than its groups hold"),
        ("inodes_count", 0, "has no inodes, or more than its groups hold"),
        ("inodes_count", 1, "names an inode that does not exist"),
    ],
)
def test_a_superblock_that_mystikos_does_not_read_is_refused(
    disk_reader: Path, disk: Path, name: str, value: int, problem: str
) -> None:
    offset, data = field(ext2.SUPERBLOCK, name, value)
    assert problem in refusal(disk_reader, disk, ext2.SUPERBLOCK_OFFSET + offset, data)


def test_a_group_whose_inodes_are_not_on_the_disk_is_refused(disk_reader: Path, disk: Path) -> None:
    offset, data = field(ext2.GROUP, "inode_table", 0xFFFFFFF)
    assert "group 0 names a block that the disk does not have" in refusal(
        disk_reader, disk, BLOCK + offset, data
    )


def inode_offset(disk: Path, number: int) -> int:
    """Of the disks here, which have one group."""
    table = ext2.GROUP.get_int(disk.read_bytes()[BLOCK : BLOCK + ext2.GROUP.size], "inode_table")
    return table * BLOCK + (number - 1) * ext2.INODE.size


@pytest.mark.parametrize(
    ("path", "name", "value", "problem"),
    [
        ("sparse", "flags", 0x80000, "has extents or inline data"),
        ("sparse", "flags", 0x10000000, "has extents or inline data"),
        ("sparse", "mode", 0o40755, "has another type in its directory"),
        ("sparse", "mode", 0o20755, "has another type in its directory"),
        ("short", "size", 0, "is a symbolic link with a target of a wrong size"),
        ("short", "size", 0xFFFFFFFF, "is a symbolic link with a target of a wrong size"),
        ("short", "size", 30, "is a symbolic link with a NUL in its target"),
        ("long", "size", 4096, "is a symbolic link with a target of a wrong size"),
        ("d", "size", 100, "is a directory of a wrong size"),
        ("d", "size", 0xFFFFF000, "is a directory of a wrong size"),
        ("d", "size", 2 * BLOCK, "is a directory with a hole"),
    ],
)
def test_an_inode_that_is_not_in_order_is_refused(
    disk_reader: Path, disk: Path, path: str, name: str, value: int, problem: str
) -> None:
    member = filesystem(disk).entry(path)
    assert member
    offset, data = field(ext2.INODE, name, value)
    assert problem in refusal(disk_reader, disk, inode_offset(disk, member.inode) + offset, data)


@pytest.mark.parametrize(("path", "slot"), [("sparse", 0), ("sparse", 12), ("sparse", 13), ("many", 0)])
def test_a_block_that_the_disk_has_not_is_refused(
    disk_reader: Path, disk: Path, path: str, slot: int
) -> None:
    read = filesystem(disk)
    member = read.entry(path)
    assert member
    at = inode_offset(disk, member.inode) + 40 + 4 * slot
    for number in (read.blocks, 0xFFFFFFFF):
        problem = refusal(disk_reader, disk, at, struct.pack("<I", number))
        assert problem.endswith("names a block that the disk does not have\n")


ENTRY = [
    (4, b"\0\0", "has an entry of a wrong length"),
    (4, b"\x0b\0", "has an entry of a wrong length"),
    (4, b"\4\0", "has an entry of a wrong length"),
    (4, b"\0\x20", "has an entry of a wrong length"),
    (4, b"\xe4\x0f", "has an entry that does not fit its block"),
    (0, b"\xff\xff\xff\xff", "names an inode that does not exist"),
    (6, b"\0", "has an entry with a name that no file can have"),
    (6, b"\xff", "has an entry of a wrong length"),
    (7, b"\0", "has an entry of no type"),
    (7, b"\x08", "has an entry of no type"),
    (7, b"\7", "has another type in its directory than in its inode"),
    (8, b"/", "has an entry with a name that no file can have"),
    (8, b"\0", "has an entry with a name that no file can have"),
]


@pytest.mark.parametrize(("offset", "data", "problem"), ENTRY)
def test_a_directory_that_is_not_in_order_is_refused(
    disk_reader: Path, disk: Path, offset: int, data: bytes, problem: str
) -> None:
    read = filesystem(disk)
    member = read.entry("d")
    assert member
    block = next(iter(read.blocks_of(member))) * BLOCK
    dots = 24  # the entries of "." and ".."
    assert problem in refusal(disk_reader, disk, block + dots + offset, data)


def test_devices_pipes_and_sockets_are_left_out(disk_reader: Path, disk: Path) -> None:
    read = filesystem(disk)
    member = read.entry("a")
    assert member
    before = read_lines(disk_reader, disk)
    block = disk.read_bytes().index(struct.pack("<IHBB", member.inode, 12, 1, 1) + b"a")
    for kind in (3, 4, 5, 6):
        change(disk, block + 7, bytes([kind]))
        assert before - read_lines(disk_reader, disk) == {line(read, member)}


def read_lines(disk_reader: Path, disk: Path) -> set[bytes]:
    status, output = list_disk(disk_reader, disk)
    assert status == 0
    return set(output.split(b"\0")[:-1])
