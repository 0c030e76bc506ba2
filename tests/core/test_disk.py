"""Disks of a tree: what goes in comes out, others accept them, and nothing but the content decides."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disks import RECORDED, SIGNED, nodes, run, scan, tool

from mystikos_tool.errors import UserError
from mystikos_tool.formats import ext2, luks
from mystikos_tool.formats.ext2_reader import Filesystem, Member
from mystikos_tool.root.disk import reader as disk_reader
from mystikos_tool.root.disk import writer as disk
from mystikos_tool.root.disk.nodes import Node, nodes_of
from mystikos_tool.root.disk.writer import Options
from mystikos_tool.signing.disk_key import load_disk_key

BLOCK = 4096
DATA = Options(boots=False)  # a disk with nothing in it but the tree
KEY = bytes(range(64))


def open_disk(path: Path) -> tuple[Filesystem, Callable[[str], bytes]]:
    """A disk's file system, and a function that reads a file of it."""
    image = path.read_bytes()
    with disk_reader.opened(path) as opened:
        size = opened.fssig.hash_offset
    read = Filesystem(lambda offset, count: image[offset : offset + count], size, str(path))

    def content(name: str) -> bytes:
        member = read.entry(name)
        assert member
        return b"".join(read.content(member))

    return read, content


def paths(read: Filesystem) -> set[str]:
    return {os.fsdecode(member.path) for member in read.members}


def write_blocks(path: Path, numbers: range | list[int]) -> None:
    """Write a file with these blocks, holes between; the last block is not whole."""
    with path.open("wb") as file:
        for number in numbers:
            file.seek(number * BLOCK)
            file.write(hashlib.sha256(b"%d" % number).digest() * (BLOCK // 32 - 1))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Long names, all kinds of links, sparse and empty files, odd modes."""
    root = tmp_path / "tree"
    for directory in ("bin", "empty/deep", "holes", "names", "links", "modes"):
        (root / directory).mkdir(parents=True)
    (root / "bin/hi").write_bytes(b"#!/bin/sh\n")
    (root / "bin/hi").chmod(0o755)
    for name in (b"x" * 249, b"\xff\xfe", b"new\nline", b" ", b"...", "ünïcode".encode()):
        (root / "names" / os.fsdecode(name)).write_bytes(name)
    for number in range(300):
        (root / "names" / f"one-of-many-{number:0100}").write_bytes(b"")
    for length in (1, 59, 60, 61, 1022, 4095):
        (root / "links" / f"to{length:04}").symlink_to("/".join(["t" * 200] * 21)[:length])
    (root / "links/back").symlink_to("../bin/hi")
    (root / "bin/same").hardlink_to(root / "bin/hi")
    (root / "links/same").hardlink_to(root / "bin/hi")
    write_blocks(root / "holes/begin", [5])
    write_blocks(root / "holes/many", list(range(0, 40, 3)))
    (root / "holes/end").write_bytes(b"start" + bytes(9 * BLOCK))
    (root / "holes/all").write_bytes(bytes(100_000))
    for mode in (0o000, 0o600, 0o4755, 0o2711, 0o1777):
        path = root / "modes" / f"{mode:04o}"
        path.write_bytes(b"mode")
        path.chmod(mode)
    (root / "modes/sticky").mkdir()
    (root / "modes/sticky").chmod(0o1777)
    return root


def assert_same(root: Path, read: Filesystem, content: Callable[[str], bytes]) -> None:
    """The file system holds what the directory does."""
    members = {os.fsdecode(member.path): member for member in read.members}
    there = [str(path.relative_to(root)) for path in root.rglob("*")]
    assert set(members) == set(there)
    for path in there:
        status, member = (root / path).lstat(), members[path]
        assert member.mode == status.st_mode, path
        if stat.S_ISLNK(status.st_mode):
            assert read.data(member) == os.fsencode((root / path).readlink())
        elif stat.S_ISREG(status.st_mode):
            assert member.links == status.st_nlink, path
            assert content(path) == (root / path).read_bytes(), path
        else:
            assert member.links == 2 + sum(child.is_dir() for child in (root / path).iterdir()), path


@pytest.mark.skipif(os.geteuid() != 0, reason="files of mode 0000 are readable by root only")
def test_what_is_in_the_directory_is_in_the_disk(tree: Path, tmp_path: Path) -> None:
    made = disk.write(nodes(tree), tmp_path / "disk", DATA)
    read, content = open_disk(tmp_path / "disk")
    assert_same(tree, read, content)
    with disk_reader.opened(tmp_path / "disk") as opened:
        opened.check()
        assert opened.fssig.root_hash == made.root_hash
    assert (tmp_path / "disk").stat().st_size == made.size


@pytest.mark.skipif(os.geteuid() != 0, reason="files of mode 0000 are readable by root only")
def test_e2fsck_debugfs_and_veritysetup_accept_it(tree: Path, tmp_path: Path) -> None:
    made = disk.write(nodes(tree), tmp_path / "disk", DATA)
    run("e2fsck", "-fn", tmp_path / "disk")
    offset = made.size - BLOCK - BLOCK
    with disk_reader.opened(tmp_path / "disk") as opened:
        offset = opened.fssig.hash_offset
    place = tmp_path / "disk"
    run("veritysetup", "verify", f"--hash-offset={offset}", place, place, made.root_hash.hex())
    (tmp_path / "dump").mkdir()
    run("debugfs", "-R", f"rdump / {tmp_path / 'dump'}", place)
    for path in ("holes/many", "holes/all", "bin/same", "names/" + "x" * 249):
        assert (tmp_path / "dump" / path).read_bytes() == (tree / path).read_bytes()


def test_the_kernel_mounts_it(tree: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    disk.write(nodes(tree), tmp_path / "disk", DATA)
    target = tmp_path / "mounted"
    target.mkdir()
    command = [tool("mount"), "-o", "loop,ro", str(tmp_path / "disk"), str(target)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"this machine mounts no loop devices: {mounted.stderr.decode().strip()}")
    try:
        for path in tree.rglob("*"):
            here, there = path.lstat(), (target / path.relative_to(tree)).lstat()
            assert (here.st_mode, here.st_size if path.is_file() else 0) == (
                there.st_mode,
                there.st_size if path.is_file() else 0,
            )
            if path.is_file() and not path.is_symlink():
                assert path.read_bytes() == (target / path.relative_to(tree)).read_bytes()
    finally:
        run("umount", target)


@pytest.mark.parametrize("blocks", [1, 11, 12, 13, 1035, 1036, 1037, 1036 + 1024, 1036 + 1025])
def test_a_file_of_each_size_around_a_level_of_indirection_comes_back(tmp_path: Path, blocks: int) -> None:
    (tmp_path / "tree").mkdir()
    write_blocks(tmp_path / "tree/file", range(blocks))
    disk.write(nodes(tmp_path / "tree"), tmp_path / "disk", DATA)
    _, content = open_disk(tmp_path / "disk")
    assert content("file") == (tmp_path / "tree/file").read_bytes()
    run("e2fsck", "-fn", tmp_path / "disk")


def sparse_node(size: int, blocks: dict[int, bytes]) -> Node:
    """A file that is mostly a hole, as some source yields it, without reading gigabytes of zeros."""

    zeros = bytes(1 << 20)

    def chunks() -> Any:
        at = 0
        for number, data in sorted(blocks.items()):
            while at < number:
                step = min(number - at, len(zeros) // BLOCK)
                yield zeros[: step * BLOCK]
                at += step
            yield data
            at += 1
        yield bytes(size - at * BLOCK)

    return Node(b"file", stat.S_IFREG | 0o644, size, b"", (0, 0), b"", "file", chunks)


def test_a_file_beyond_4_gib_has_triple_indirect_blocks_and_stays_sparse(tmp_path: Path) -> None:
    triple = 12 + 1024 + 1024**2
    blocks = {number: os.urandom(BLOCK) for number in (0, triple - 1, triple, triple + 3)}
    disk.write([sparse_node((triple + 5) * BLOCK + 7, blocks)], tmp_path / "disk", DATA)
    assert (tmp_path / "disk").stat().st_size < 16 << 20
    read, _ = open_disk(tmp_path / "disk")
    file = read.entry("file")
    assert file
    assert file.size == (triple + 5) * BLOCK + 7
    image = (tmp_path / "disk").read_bytes()
    found = [image[number * BLOCK : (number + 1) * BLOCK] for number in read.blocks_of(file)]
    assert found == [blocks[number] for number in sorted(blocks)]
    run("e2fsck", "-fn", tmp_path / "disk")


def test_names_of_255_bytes_and_paths_of_4095_are_kept(tmp_path: Path) -> None:
    parts = [bytes([97 + number]) * 255 for number in range(16)]
    found = [
        Node(b"/".join(parts[:count]), stat.S_IFDIR | 0o755, 0, b"", (0, 0), b"", "", lambda: iter(()))
        for count in range(1, 17)
    ]
    disk.write(found, tmp_path / "disk", DATA)
    assert [member.path for member in open_disk(tmp_path / "disk")[0].members] == [
        node.path for node in found
    ]
    run("e2fsck", "-fn", tmp_path / "disk")


def test_a_disk_of_several_groups_is_sound(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"content")
    made = disk.write(nodes(tmp_path / "tree"), tmp_path / "disk", Options(size=(600 << 20) + 40960))
    assert (tmp_path / "disk").stat().st_blocks * 512 < 32 << 20  # free blocks are holes
    run("e2fsck", "-fn", tmp_path / "disk")
    assert made.free > 580 << 20


def test_an_empty_directory_makes_an_empty_file_system(tmp_path: Path) -> None:
    disk.write([], tmp_path / "disk", DATA)
    run("e2fsck", "-fn", tmp_path / "disk")
    assert open_disk(tmp_path / "disk")[0].members == ()


# The same bytes


def copy_shuffled(source: Path, target: Path, seed: int) -> None:
    """Copy a tree, files in another order and without holes."""
    chance = random.Random(seed)
    every = sorted(source.rglob("*"))
    for path in every:
        if path.is_dir() and not path.is_symlink():
            (target / path.relative_to(source)).mkdir(parents=True, exist_ok=True)
    files = [path for path in every if path.is_symlink() or path.is_file()]
    chance.shuffle(files)
    for path in files:
        place = target / path.relative_to(source)
        if path.is_symlink():
            place.symlink_to(path.readlink())
        else:
            place.write_bytes(path.read_bytes())
            place.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def test_order_umask_time_and_holes_of_the_source_do_not_change_a_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "lib/deep").mkdir(parents=True)
    for number in range(40):
        (first / f"lib/file{number}").write_bytes(b"%d" % number * number * 200)
    write_blocks(first / "lib/deep/holes", [3, 9])
    (first / "link").symlink_to("lib")
    umask = os.umask(0o077)
    try:
        copy_shuffled(first, second, 7)
    finally:
        os.umask(umask)
    os.utime(second / "lib/file3", (1, 1))
    for source in (first, second):
        disk.write(nodes_of(scan(source)), tmp_path / f"{source.name}.disk")
    assert (tmp_path / "first.disk").read_bytes() == (tmp_path / "second.disk").read_bytes()


def test_hard_links_are_one_file_and_copies_are_two(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").write_bytes(b"content")
    (tmp_path / "tree/b").hardlink_to(tmp_path / "tree/a")
    (tmp_path / "tree/c").write_bytes(b"content")
    disk.write(nodes(tmp_path / "tree"), tmp_path / "disk", DATA)
    a, b, c = open_disk(tmp_path / "disk")[0].members
    assert (a.inode, a.links, c.links) == (b.inode, 2, 1)
    assert a.inode != c.inode


def test_salt_uuid_and_time_are_as_given(tmp_path: Path, tree: Path) -> None:
    salt, uuid = bytes(range(32)), bytes(range(16))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_bytes(b"")
    disk.write(nodes(tmp_path / "in"), tmp_path / "disk", Options(salt=salt, uuid=uuid, time=1_000_000_000))
    with disk_reader.opened(tmp_path / "disk") as opened:
        assert opened.superblock.salt == salt
        assert opened.filesystem().uuid == uuid
        assert {member.time for member in opened.filesystem().members} == {1_000_000_000}


def test_the_salt_follows_from_the_paths_and_the_uuid_from_all_content(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    found = []
    for name, content in (("file", b"1"), ("file", b"2"), ("other", b"2")):
        shutil.rmtree(tmp_path / "in")
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / name).write_bytes(content)
        disk.write(nodes(tmp_path / "in"), tmp_path / "disk")
        with disk_reader.opened(tmp_path / "disk") as opened:
            found.append((opened.superblock.salt, opened.filesystem().uuid))
    (salt1, uuid1), (salt2, uuid2), (salt3, uuid3) = found
    assert salt1 == salt2 != salt3
    assert len({uuid1, uuid2, uuid3}) == 3


# Signed and encrypted


def test_a_signed_disk_has_the_signature_of_its_key(tmp_path: Path) -> None:
    private, public = SIGNED[0].keys
    signer = load_disk_key(private, public)
    made = disk.write([], tmp_path / "disk", Options(signer=signer))
    root, signature = tmp_path / "root", tmp_path / "signature"
    with disk_reader.opened(tmp_path / "disk") as opened:
        root.write_bytes(made.root_hash)
        signature.write_bytes(opened.fssig.signature)
    run(
        *("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-in", root, "-sigfile", signature),
        *("-pkeyopt", "digest:sha256", "-pkeyopt", "rsa_padding_mode:pkcs1"),
    )


def test_an_encrypted_disk_holds_the_same_files_for_its_key_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/secret").write_bytes(b"content to be kept secret " * 1000)
    encrypted = Options(encryption=luks.Encryption(KEY))
    disk.write(nodes(tmp_path / "in"), tmp_path / "disk", encrypted)
    first = (tmp_path / "disk").read_bytes()
    assert b"secret" not in first
    with disk_reader.opened(tmp_path / "disk") as opened:
        opened.check()
        assert opened.is_encrypted
        read = opened.filesystem(KEY)
        file = read.find("/secret")
        assert isinstance(file, Member)
        assert b"".join(read.content(file)) == (tmp_path / "in/secret").read_bytes()
        with pytest.raises(UserError, match="another key"):
            opened.filesystem(KEY[::-1])
        with pytest.raises(UserError, match="is encrypted"):
            opened.filesystem()
    disk.write(nodes(tmp_path / "in"), tmp_path / "disk", encrypted)
    assert (tmp_path / "disk").read_bytes() == first


def test_others_decrypt_it_to_a_sound_file_system(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_blocks(tmp_path / "in/file", range(30))
    phrase = "fourteen bytes and more"
    encryption = luks.Encryption(KEY, phrase.encode(), iterations=1000)
    made = disk.write(nodes(tmp_path / "in"), tmp_path / "disk", Options(encryption=encryption, room=1 << 20))
    secret = f"secret,id=p,data={phrase}"
    source = f"driver=luks,key-secret=p,file.filename={tmp_path / 'disk'}"
    run("qemu-img", "convert", "--object", secret, "--image-opts", source, "-O", "raw", tmp_path / "plain")
    run("e2fsck", "-fn", tmp_path / "plain")
    run("debugfs", "-R", f"dump /file {tmp_path / 'file'}", tmp_path / "plain")
    assert (tmp_path / "file").read_bytes() == (tmp_path / "in/file").read_bytes()
    assert made.size == (tmp_path / "disk").stat().st_size


# What boots


def boots(root: Path, target: Path) -> set[str]:
    disk.write(nodes_of(scan(root, may_be_missing=True)), target)
    return paths(open_disk(target)[0])


def test_the_directories_that_the_kernel_needs_are_made(tmp_path: Path) -> None:
    made = boots(tmp_path / "nothing", tmp_path / "disk")
    assert made == {"dev", "etc", "proc", "tmp", "usr", "usr/local", "usr/local/etc"}
    tmp = open_disk(tmp_path / "disk")[0].find("/tmp")
    assert tmp
    assert stat.S_IMODE(tmp.mode) == 0o1777


def test_they_are_made_where_links_lead(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "var").mkdir(parents=True)
    (root / "tmp").symlink_to("/var/tmp")
    (root / "usr").symlink_to("system/usr")
    made = boots(root, tmp_path / "disk")
    assert {"var/tmp", "system/usr/local/etc"} <= made
    assert "usr/local" not in made
    read, _ = open_disk(tmp_path / "disk")
    assert stat.S_IMODE((read.find("/tmp") or read.members[0]).mode) == 0o1777
    assert read.find("/usr/local/etc")


def test_a_resolv_conf_that_leads_somewhere_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "run").mkdir()
    (root / "run/resolv.conf").write_bytes(b"")
    (root / "etc/resolv.conf").symlink_to("../run/resolv.conf")
    assert "etc/resolv.conf" in boots(root, tmp_path / "disk")


def link(path: str, target: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)

    return make


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"), "the kernel would not start"),
        (link("tmp", "tmp"), "a circle"),
        (lambda root: (root / "proc").write_bytes(b""), "needs the directory /proc"),
        (lambda root: (root / "usr").write_bytes(b""), "needs the directory /usr"),
    ],
)
def test_what_keeps_the_kernel_from_starting_is_refused(
    tmp_path: Path, make: Callable[[Path], None], problem: str
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    make(root)
    with pytest.raises(UserError, match=problem):
        boots(root, tmp_path / "disk")
    assert not (tmp_path / "disk").exists()
    disk.write(nodes_of(scan(root)), tmp_path / "disk", DATA)  # but programs may mount it


# Sizes


def test_the_room_that_is_asked_for_is_free(tmp_path: Path) -> None:
    for room in (0, 1 << 20, 50 << 20):
        made = disk.write([], tmp_path / "disk", Options(room=room))
        assert room <= made.free < room + (3 << 20)


@pytest.mark.parametrize("content", [b"x", bytes(range(1, 256)) * 2000], ids=["small files", "large files"])
def test_the_smallest_size_that_is_told_is_enough(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in").mkdir()
    for number in range(50):
        (tmp_path / f"in/file{number}").write_bytes(content)
    with pytest.raises(UserError, match=r"needs ([\d,]+)") as error:
        disk.write(nodes(tmp_path / "in"), tmp_path / "disk", Options(size=BLOCK * 5))
    least = int(error.value.problem.split("needs ")[1].split(", and")[0].replace(",", ""))
    disk.write(nodes(tmp_path / "in"), tmp_path / "disk", Options(size=least))
    run("e2fsck", "-fn", tmp_path / "disk")
    with pytest.raises(UserError, match="too small"):
        disk.write(nodes(tmp_path / "in"), tmp_path / "disk", Options(size=least - BLOCK))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (Options(size=8 * 1024 * 1024 + 1024), "kernel refuses"),
        (Options(size=0), "too small"),
        (Options(size=2 << 20, encryption=luks.Encryption(KEY)), "LUKS header only"),
        (Options(time=-1), "31 bits"),
        (Options(time=1 << 31), "31 bits"),
        (Options(room=1 << 45), "larger than ext2"),
    ],
)
def test_a_size_or_time_that_cannot_be_is_refused(tmp_path: Path, options: Options, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        disk.write([], tmp_path / "disk", options)
    assert not (tmp_path / "disk").exists()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"path": b"n" * 256}, "more than 255 bytes"),
        ({"mode": stat.S_IFLNK | 0o777, "target": b"t" * 4096}, "more than 4,095 bytes"),
        ({"owner": (1 << 32, 0)}, "beyond 32 bits"),
        ({"size": (ext2.MAX_FILE_BLOCKS + 1) * BLOCK}, "too large for ext2"),
    ],
)
def test_what_ext2_has_no_room_for_is_refused(tmp_path: Path, values: dict[str, Any], problem: str) -> None:
    node = Node(b"file", stat.S_IFREG | 0o644, 0, b"", (0, 0), b"", "file", lambda: iter(()))
    with pytest.raises(UserError, match=problem):
        disk.write([node._replace(**values)], tmp_path / "disk", DATA)


def test_owners_are_roots_unless_they_are_preserved(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_bytes(b"")
    if os.geteuid() == 0:
        os.chown(tmp_path / "in/file", 70000, 3_000_000_000)
    status = (tmp_path / "in/file").stat()
    for preserve, owner in ((False, (0, 0)), (True, (status.st_uid, status.st_gid))):
        disk.write(
            nodes_of(scan(tmp_path / "in"), preserve_owners=preserve),
            tmp_path / "disk",
            DATA,
        )
        (member,) = open_disk(tmp_path / "disk")[0].members
        assert (member.uid, member.gid) == owner


def test_a_file_that_changes_while_it_is_read_leaves_the_earlier_disk(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_bytes(b"before")
    found = nodes(tmp_path / "in")
    (tmp_path / "disk").write_bytes(b"earlier")
    (tmp_path / "in/file").write_bytes(b"after it")
    with pytest.raises(UserError, match="changed while it was read"):
        disk.write(found, tmp_path / "disk")
    assert (tmp_path / "disk").read_bytes() == b"earlier"


# Reading


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
def test_a_recorded_disk_is_found_sound(recorded: Any, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(recorded.image)
    with disk_reader.opened(tmp_path / "disk") as opened:
        opened.check()
        assert opened.is_encrypted == bool(recorded.case["luks"])


def test_a_changed_block_is_found_and_the_file_it_belongs_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        write_blocks(tmp_path / "in" / name, range(20))
    disk.write(nodes(tmp_path / "in"), tmp_path / "disk", DATA)
    with disk_reader.opened(tmp_path / "disk") as opened:
        member = opened.filesystem().find("/b")
        assert member
        number = list(opened.filesystem().blocks_of(member))[17]
    with (tmp_path / "disk").open("r+b") as file:
        file.seek(number * BLOCK + 100)
        file.write(b"tampered")
    with disk_reader.opened(tmp_path / "disk") as opened:
        assert opened.wrong_blocks() == [number]
        assert disk_reader.owners(opened.filesystem(), [number, 0]) == {number: "/b"}
        with pytest.raises(UserError, match="not what its hash says"):
            opened.check()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data[:100], "no FSSIG"),
        (lambda data: data + bytes(4096), "no FSSIG"),
        (lambda data: data[:-8192] + data[-4096:], "does not cover|another size"),
        (lambda data: data[:-4096] + bytes(4096) + data[-4096:], "does not cover|another size"),
    ],
)
def test_a_disk_that_is_cut_or_lengthened_is_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes], problem: str
) -> None:
    disk.write([], tmp_path / "disk")
    (tmp_path / "disk").write_bytes(damage((tmp_path / "disk").read_bytes()))
    with pytest.raises(UserError, match=problem), disk_reader.opened(tmp_path / "disk"):
        pass


def test_links_are_followed_inside_of_the_disk_only(tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_bytes(b"")
    (root / "up").symlink_to("../../../a/b")
    (root / "a/abs").symlink_to("/up/file")
    (root / "loop").symlink_to("loop")
    disk.write(nodes(root), tmp_path / "disk", DATA)
    read, _ = open_disk(tmp_path / "disk")
    found = read.find("/a/abs")
    assert found
    assert found.path == b"a/b/file"
    assert read.find("/loop") is None
    assert read.find("/a/b/file/x") is None
    assert read.find("/") == read.entry("/")
