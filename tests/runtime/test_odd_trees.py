"""Odd trees on disks: the file systems' own tools and both readers find in them what was put in."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from compiling import needs_compiler
from making_disks import BLOCK
from test_ext2_reader import assert_agreement, filesystem

from mystikos_tool.errors import UserError
from mystikos_tool.formats import ext2, fssig
from mystikos_tool.root.disk import writer
from mystikos_tool.root.disk.nodes import nodes_of
from mystikos_tool.root.source import DirectorySource

pytestmark = [needs_compiler, pytest.mark.long]

PER_BLOCK = BLOCK // 4
DOUBLE, TRIPLE = 12 + PER_BLOCK, 12 + PER_BLOCK + PER_BLOCK**2
# Where the levels of a map begin, in blocks of 4096 bytes and of 1024.
LEVELS = (12, 12 + 256, DOUBLE, 12 + 256 + 256**2, DOUBLE + PER_BLOCK, TRIPLE, TRIPLE + PER_BLOCK)
DATA = writer.Options(boots=False, room=1 << 20)

Grow = Callable[[Path], object]


def bytes_of(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def put(path: Path, size: int, *places: int) -> None:
    """A file of a size that has content at these offsets alone, 5 bytes each."""
    with path.open("wb") as file:
        file.truncate(size)
        for place in places:
            file.seek(place)
            file.write(b"bytes"[: size - place])


# Trees


def names_of_all_lengths(root: Path) -> None:
    for length in range(1, 256):
        (root / ("n" * length)).write_bytes(b"%d" % length)
    every = bytes(byte for byte in range(1, 256) if byte != ord("/"))
    for at in range(0, len(every), 100):
        Path(os.fsdecode(os.fsencode(root) + b"/x" + every[at : at + 100])).write_bytes(b"odd")


def directories_that_fill_their_blocks(root: Path) -> None:
    """Behind "." and "..", 24 bytes, names of 8 bytes take 16 each, and one of 4 fills the block."""
    for name, count in {"nearly": 253, "full": 254, "over": 255, "two": 254 + 256, "more": 254 + 257}.items():
        (root / name).mkdir()
        for number in range(count):
            (root / name / f"{number:08}").write_bytes(b"")
    (root / "full" / "last").write_bytes(b"")
    (root / "wide").mkdir()
    for number in range(200):
        (root / "wide" / f"{number:0255}").mkdir()


def deep_directories(root: Path) -> None:
    for name in ("d", "x" * 255):
        place = os.open(root, os.O_DIRECTORY)
        for _ in range((4000 - len(os.fsencode(root))) // (len(name) + 1)):
            os.mkdir(name, dir_fd=place)
            place, above = os.open(name, os.O_DIRECTORY, dir_fd=place), place
            os.close(above)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=place))
        os.close(place)


def a_file_with_65000_links(root: Path) -> None:
    (root / "first").write_bytes(b"of many names")
    for number in range(64_999):
        os.link(root / "first", root / f"{number}")


def a_directory_of_64998_directories(root: Path) -> None:
    (root / "many").mkdir()
    for number in range(64_998):
        (root / f"many/{number}").mkdir()


def files_around_every_level(root: Path) -> None:
    for start in LEVELS:
        for size in (start * BLOCK + step for step in (-BLOCK - 1, -BLOCK, -1, 0, 1, BLOCK, BLOCK + 1)):
            put(root / f"both-{size}", size, 0, start * BLOCK - 7)
            if start < TRIPLE:
                put(root / f"last-{size}", size, size - 5)
                put(root / f"hole-{size}", size)


def holes_at_every_level(root: Path) -> None:
    size = (TRIPLE + PER_BLOCK + 3) * BLOCK + 17
    for start in LEVELS:
        put(root / f"only-{start}", size, start * BLOCK)
        put(root / f"but-{start}", size, *(at * BLOCK - 1 for at in LEVELS if at != start))
    put(root / "all", size, *(at * BLOCK + step for at in LEVELS for step in (-BLOCK, 0, BLOCK)))


def dense_files(root: Path) -> None:
    for start in (12, 12 + 256, DOUBLE, DOUBLE + PER_BLOCK, 12 + 256 + 256**2):
        for blocks in (start - 1, start, start + 1) if start < 10_000 else (start,):
            (root / f"{blocks}").write_bytes(bytes_of(BLOCK) * blocks)


def symbolic_links(root: Path) -> None:
    for size in (1, 58, 59, 60, 61, 1021, 1022, 1023, 4094, 4095):
        (root / f"link-{size}").symlink_to("t" * size)
    (root / "itself").symlink_to("itself")
    (root / "odd").symlink_to(os.fsdecode(bytes(byte for byte in range(1, 256))))


def what_is_no_file(root: Path) -> None:
    for name in ("empty", "empty/below", "nothing"):
        (root / name).mkdir()
    os.mkfifo(root / "pipe")
    if os.geteuid() == 0:
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (root / "file").write_bytes(b"with attributes")
    os.setxattr(root / "file", "user.odd", b"x" * 1000)


def modes(root: Path) -> None:
    for mode in range(0, 0o10000, 0o13):
        path = root / f"{mode:o}"
        path.write_bytes(b"%o" % mode)
        path.chmod(mode | (0 if os.geteuid() == 0 else 0o400))


TREES: list[Grow] = [
    names_of_all_lengths,
    directories_that_fill_their_blocks,
    deep_directories,
    a_file_with_65000_links,
    a_directory_of_64998_directories,
    files_around_every_level,
    holes_at_every_level,
    dense_files,
    symbolic_links,
    what_is_no_file,
    modes,
]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "tree"
    directory.mkdir()
    yield directory
    subprocess.run(["chmod", "-R", "u+rwX", directory], check=True)
    subprocess.run(["rm", "-rf", directory], check=True)  # deeper than shutil goes


def tool(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def accepted_by_tools(disk: Path) -> None:
    data = fssig.parse(disk.read_bytes()[-fssig.SIZE :], disk.stat().st_size, "disk")
    checked = subprocess.run([tool("e2fsck"), "-fn", disk], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    command = [tool("veritysetup"), "verify", f"--hash-offset={data.hash_offset}", disk, disk]
    subprocess.run([*command, data.root_hash.hex()], check=True, capture_output=True)


def made(root: Path, disk: Path, options: writer.Options = DATA) -> None:
    writer.write(nodes_of(DirectorySource(root, preserve_modes=True).tree()), disk, options)


def paths_below(root: Path) -> set[bytes]:
    """All that a disk holds, however deep it lies."""
    words = [
        "find",
        ".",
        "-mindepth",
        "1",
        "(",
        "-type",
        "f",
        "-o",
        "-type",
        "d",
        "-o",
        "-type",
        "l",
        ")",
        "-print0",
    ]
    found = subprocess.run(words, cwd=root, capture_output=True, check=True).stdout.split(b"\0")
    return {path.removeprefix(b"./") for path in found if path}


@pytest.mark.parametrize("grow", TREES, ids=lambda grow: grow.__name__)
def test_tools_and_both_readers_find_what_was_put_in(
    disk_reader: Path, root: Path, tmp_path: Path, grow: Grow
) -> None:
    grow(root)
    disk = tmp_path / "disk"
    made(root, disk)
    accepted_by_tools(disk)
    assert_agreement(disk_reader, disk)
    read = filesystem(disk)
    assert {member.path for member in read.members} == paths_below(root)
    for member in read.members:
        place = root / os.fsdecode(member.path)
        status = place.lstat()
        assert member.mode == status.st_mode
        if stat.S_ISLNK(member.mode):
            assert read.data(member) == os.fsencode(place.readlink())
        elif stat.S_ISREG(member.mode):
            assert (member.size, member.links) == (status.st_size, status.st_nlink)
            assert {at: read.block(block) for at, block in read.map_of(member)} == dict(blocks_in(place))


def blocks_in(path: Path) -> Iterator[tuple[int, bytes]]:
    """The blocks of a file that are not zero, by number."""
    with path.open("rb") as file:
        at = 0
        while True:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // BLOCK
            except OSError:
                return
            block = os.pread(file.fileno(), BLOCK, at * BLOCK)
            if any(block):
                yield at, block.ljust(BLOCK, b"\0")
            at = (at + 1) * BLOCK


def test_debugfs_reads_every_block_of_what_has_holes(root: Path, tmp_path: Path) -> None:
    size = (DOUBLE + PER_BLOCK) * BLOCK + 5
    for start in (1, 12, 12 + 256, DOUBLE, DOUBLE + PER_BLOCK):
        put(root / f"from-{start}", size, start * BLOCK - 3)
    (root / "dense").write_bytes(bytes_of((DOUBLE + 1) * BLOCK))
    made(root, tmp_path / "disk")
    for path in root.iterdir():
        command = [tool("debugfs"), "-R", f"dump {path.name} {tmp_path / 'dumped'}", tmp_path / "disk"]
        subprocess.run(command, check=True, capture_output=True)
        digests = [hashlib.sha256(one.read_bytes()).hexdigest() for one in (path, tmp_path / "dumped")]
        assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("grow", "problem"),
    [
        (a_file_with_65000_links, "more than 65,000 links"),
        (a_directory_of_64998_directories, "or directories in it"),
    ],
    ids=["links", "directories"],
)
def test_one_link_more_than_ext2_has_is_refused(root: Path, tmp_path: Path, grow: Grow, problem: str) -> None:
    grow(root)
    nodes = nodes_of(DirectorySource(root).tree())
    last = nodes[-1]
    more = last._replace(path=last.path + b"z")
    with pytest.raises(UserError, match=problem):
        writer.write([*nodes, more], tmp_path / "disk", DATA)
    assert not (tmp_path / "disk").exists()


def test_a_socket_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 107 bytes
    Path("tree").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("tree/socket")
    with pytest.raises(UserError, match="tree/socket: is a socket"):
        made(Path("tree"), tmp_path / "disk")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_block_device_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    os.mknod(root / "block", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    with pytest.raises(UserError, match="block: is a block device"):
        made(root, tmp_path / "disk")


# Sizes

GROUP = ext2.BLOCKS_PER_GROUP


@pytest.mark.parametrize(
    "blocks",
    [
        64,
        65,
        127,
        128,
        129,
        130,
        1000,
        16_384,
        16_385,
        *(count * GROUP + step for count in (1, 2, 4) for step in (-1, 0, 1, 2, 3, 100, 259, 260, 261, 600)),
    ],
)
def test_a_size_around_a_group_or_a_level_of_the_tree_makes_a_sound_disk(
    disk_reader: Path, root: Path, tmp_path: Path, blocks: int
) -> None:
    (root / "file").write_bytes(bytes_of(20 * BLOCK))
    made(root, tmp_path / "disk", writer.Options(boots=False, size=blocks * BLOCK))
    accepted_by_tools(tmp_path / "disk")
    assert_agreement(disk_reader, tmp_path / "disk")


@pytest.mark.parametrize("count", [1, 30, 500])
def test_the_least_size_holds_the_content_and_one_block_less_does_not(
    disk_reader: Path, root: Path, tmp_path: Path, count: int
) -> None:
    for number in range(count):
        (root / f"{number}").write_bytes(bytes_of(number * 300 + 1))
    with pytest.raises(UserError, match="the content alone needs") as refused:
        made(root, tmp_path / "disk", writer.Options(boots=False, size=4 * BLOCK))
    words = refused.value.problem.replace(",", "").split()
    least = int(next(word for word in words if word.isdigit()))
    with pytest.raises(UserError, match="is too small"):
        made(root, tmp_path / "disk", writer.Options(boots=False, size=least - BLOCK))
    made(root, tmp_path / "disk", writer.Options(boots=False, size=least))
    accepted_by_tools(tmp_path / "disk")
    assert_agreement(disk_reader, tmp_path / "disk")
