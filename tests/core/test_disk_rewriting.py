"""A disk of an earlier build is brought up to date: the bytes of a new one, for the price of what changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disks import run, scan

from mystikos_tool.errors import UserError
from mystikos_tool.formats import luks
from mystikos_tool.io.atomic import rewriting
from mystikos_tool.root.disk import writer as disk
from mystikos_tool.root.disk.nodes import Node, nodes_of
from mystikos_tool.root.disk.writer import Options

BLOCK = 4096


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "lib").mkdir(parents=True)
    for number in range(30):
        (root / f"lib/file{number:02}").write_bytes(os.urandom(number * 3000 + 1))
    (root / "lib/large").write_bytes(os.urandom(200 * BLOCK))
    (root / "lib/holes").write_bytes(b"start" + bytes(50 * BLOCK) + b"end")
    (root / "link").symlink_to("l" * 100)
    return root


def unread() -> Iterator[bytes]:
    raise AssertionError("a file that has not changed was read")


def rewrite(tree: Path, target: Path, changed: set[bytes], options: Options = Options()) -> disk.Disk:  # noqa: B008
    """Write the tree to where an earlier disk is; no file but the changed ones can be read."""
    nodes = nodes_of(scan(tree))
    unchanged = {node.path for node in nodes} - changed
    found = [node._replace(chunks=unread) if node.path in unchanged else node for node in nodes]
    return disk.write(found, target, options, unchanged)


Edit = Callable[[Path], object]


def content(name: str, data: bytes) -> Edit:
    return lambda root: (root / name).write_bytes(data)


def patched(name: str, offset: int) -> Edit:
    def edit(root: Path) -> None:
        data = bytearray((root / name).read_bytes())
        data[offset] ^= 1
        (root / name).write_bytes(data)

    return edit


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("lib/file10", patched("lib/file10", 5000)),
        ("lib/large", patched("lib/large", 100 * BLOCK)),
        ("lib/large", content("lib/large", os.urandom(205 * BLOCK))),  # within what is kept free
        ("lib/large", content("lib/large", os.urandom(195 * BLOCK) + bytes(9 * BLOCK) + b"end")),
        ("lib/holes", content("lib/holes", b"s" + bytes(30 * BLOCK) + b"end" + bytes(9 * BLOCK))),
        ("lib/file00", content("lib/file00", os.urandom(BLOCK + 1))),
        ("lib/file29", lambda root: (root / "lib/file29").chmod(0o755)),
    ],
    ids=["a byte", "a byte of many", "larger", "with holes", "other holes", "a block more", "mode"],
)
def test_a_changed_file_alone_is_read_and_the_disk_is_that_of_a_new_build(
    tree: Path, tmp_path: Path, name: str, edit: Edit
) -> None:
    disk.write(nodes_of(scan(tree)), tmp_path / "disk")
    before = (tmp_path / "disk").stat().st_ino
    edit(tree)
    made = rewrite(tree, tmp_path / "disk", {name.encode()})
    expected = disk.write(nodes_of(scan(tree)), tmp_path / "new")
    assert made == expected
    assert (tmp_path / "disk").read_bytes() == (tmp_path / "new").read_bytes()
    assert (tmp_path / "disk").stat().st_ino == before  # in place
    run("e2fsck", "-fn", tmp_path / "disk")


def test_what_a_larger_file_moves_is_written_again(tree: Path, tmp_path: Path) -> None:
    options = Options(size=16 << 20)
    disk.write(nodes_of(scan(tree)), tmp_path / "disk", options)
    before = (tmp_path / "disk").stat().st_ino
    (tree / "lib/file05").write_bytes(os.urandom(20 * BLOCK))
    nodes = nodes_of(scan(tree))
    disk.write(nodes, tmp_path / "disk", options, {node.path for node in nodes} - {b"lib/file05"})
    disk.write(nodes, tmp_path / "new", options)
    assert (tmp_path / "disk").read_bytes() == (tmp_path / "new").read_bytes()
    assert (tmp_path / "disk").stat().st_ino == before


def test_few_bytes_are_written_for_a_changed_block(tree: Path, tmp_path: Path) -> None:
    disk.write(nodes_of(scan(tree)), tmp_path / "disk")
    before = (tmp_path / "disk").read_bytes()
    patched("lib/large", 100 * BLOCK)(tree)
    rewrite(tree, tmp_path / "disk", {b"lib/large"})
    after = (tmp_path / "disk").read_bytes()
    places = range(0, len(before), BLOCK)
    differing = [at for at in places if before[at : at + BLOCK] != after[at : at + BLOCK]]
    # The file's block, the superblock, their hash blocks, the hash tree's superblock and the FSSIG.
    assert len(differing) <= 2 + 2 * 3 + 2


Damage = Callable[[Path, Path], object]


def add_file(tree: Path, target: Path) -> None:
    (tree / "another").write_bytes(b"another")


def grow_the_disk(tree: Path, target: Path) -> None:
    (tree / "lib/file00").write_bytes(os.urandom(3 << 20))


def no_disk(tree: Path, target: Path) -> None:
    target.write_bytes(b"no disk")


def missing(tree: Path, target: Path) -> None:
    target.unlink()


def broken_inodes(tree: Path, target: Path) -> None:
    with target.open("r+b") as file:
        file.seek(4 * BLOCK)
        file.write(os.urandom(BLOCK))


@pytest.mark.parametrize("damage", [add_file, grow_the_disk, no_disk, missing, broken_inodes])
def test_a_disk_that_is_of_no_use_is_written_anew(tree: Path, tmp_path: Path, damage: Damage) -> None:
    disk.write(nodes_of(scan(tree)), tmp_path / "disk")
    damage(tree, tmp_path / "disk")
    nodes = nodes_of(scan(tree))
    disk.write(
        nodes, tmp_path / "disk", unchanged={node.path for node in nodes} - {b"lib/file00", b"another"}
    )
    disk.write(nodes, tmp_path / "new")
    assert (tmp_path / "disk").read_bytes() == (tmp_path / "new").read_bytes()


def test_an_encrypted_disk_is_written_anew(tree: Path, tmp_path: Path) -> None:
    options = Options(encryption=luks.Encryption(bytes(range(64))), room=0)
    for name in ("disk", "new"):
        disk.write(nodes_of(scan(tree)), tmp_path / name, options)
    nodes = nodes_of(scan(tree))
    disk.write(nodes, tmp_path / "disk", options, {node.path for node in nodes})
    assert (tmp_path / "disk").read_bytes() == (tmp_path / "new").read_bytes()


def test_another_name_of_the_earlier_disk_keeps_its_content(tree: Path, tmp_path: Path) -> None:
    disk.write(nodes_of(scan(tree)), tmp_path / "disk")
    (tmp_path / "kept").hardlink_to(tmp_path / "disk")
    before = (tmp_path / "kept").read_bytes()
    (tree / "lib/file01").write_bytes(b"changed")
    nodes = nodes_of(scan(tree))
    disk.write(nodes, tmp_path / "disk", unchanged={node.path for node in nodes} - {b"lib/file01"})
    assert (tmp_path / "kept").read_bytes() == before
    assert (tmp_path / "disk").read_bytes() != before


def test_a_disk_that_another_process_writes_is_left_to_it(tree: Path, tmp_path: Path) -> None:
    disk.write(nodes_of(scan(tree)), tmp_path / "disk")
    with rewriting(tmp_path / "disk") as first:
        assert first
        assert not (tmp_path / "disk").exists()  # out of sight
        with rewriting(tmp_path / "disk") as second:
            assert second is None
        nodes = nodes_of(scan(tree))
        disk.write(nodes, tmp_path / "disk", unchanged={node.path for node in nodes})
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_process_left_does_not_stand_in_the_way(tree: Path, tmp_path: Path) -> None:
    disk.write(nodes_of(scan(tree)), tmp_path / "disk")
    (tmp_path / ".disk.mystikos-part").write_bytes(b"half a disk")
    patched("lib/large", 5)(tree)
    rewrite(tree, tmp_path / "disk", {b"lib/large"})
    disk.write(nodes_of(scan(tree)), tmp_path / "new")
    assert (tmp_path / "disk").read_bytes() == (tmp_path / "new").read_bytes()
    assert not (tmp_path / ".disk.mystikos-part").exists()


def changing(node: Node) -> Node:
    """The same file, which changes after it was read once."""
    times = []

    def chunks() -> Iterator[bytes]:
        times.append(1)
        if len(times) > 1:
            raise UserError(node.name, "changed while it was read", "build again")
        return node.chunks()

    return node._replace(chunks=chunks)


def test_a_rewriting_that_fails_leaves_no_half_written_disk(tree: Path, tmp_path: Path) -> None:
    disk.write(nodes_of(scan(tree)), tmp_path / "disk")
    (tree / "lib/file20").write_bytes(os.urandom(60_000))
    nodes = [changing(node) if node.path == b"lib/file20" else node for node in nodes_of(scan(tree))]
    with pytest.raises(UserError, match="changed while"):
        disk.write(nodes, tmp_path / "disk", unchanged={node.path for node in nodes} - {b"lib/file20"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree"]
