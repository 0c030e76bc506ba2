"""The hash tree: the same bytes as veritysetup's, written and checked on all cores."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import RECORDED, Recorded, run

from mystikos_tool.errors import UserError
from mystikos_tool.formats import fssig, verity
from mystikos_tool.formats.verity import BLOCK, Shape
from mystikos_tool.root.disk import hash_worker, hashtree

SALT = bytes(range(32))


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


def build(descriptor: int, data: bytes, salt: bytes = SALT, blocks: int | None = None) -> tuple[Shape, bytes]:
    """Write data and its tree; a larger number of blocks leaves a hole behind the data."""
    shape = Shape(blocks or len(data) // BLOCK)
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, shape.end)
    return shape, hashtree.write(descriptor, shape, salt)


def model(data: bytes, salt: bytes) -> tuple[bytes, list[bytes]]:
    """The root hash and the levels, leaf first, written down from the format's description."""
    levels = []
    while True:
        digests = [hashlib.sha256(salt + data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK)]
        if levels and len(digests) == 1:
            return digests[0], levels
        data = b"".join(digests)
        data += bytes(-len(data) % BLOCK)
        levels.append(data)


@pytest.mark.parametrize("disk", RECORDED, ids=lambda disk: disk.name)
def test_tree_and_superblock_of_a_recorded_disk_follow_from_its_data(disk: Recorded, descriptor: int) -> None:
    image, known = disk.image, disk.case["verity"]
    salt = bytes.fromhex(known["salt"])
    shape, root_hash = build(descriptor, image[: known["hash_offset"]], salt)
    superblock = verity.superblock(shape.data_blocks, salt, bytes.fromhex(known["uuid"].replace("-", "")))
    os.pwrite(descriptor, superblock, shape.hash_offset)
    assert [level.blocks for level in shape.levels] == known["level_blocks_leaf_first"]
    assert os.pread(descriptor, len(image), 0) == image[: -fssig.SIZE]
    assert root_hash.hex() == known["root_hash"]


@pytest.mark.parametrize(
    ("blocks", "levels"),
    [
        (1, [1]),
        (128, [1]),
        (129, [2, 1]),
        (2048, [16, 1]),
        (16384, [128, 1]),
        (16385, [129, 2, 1]),
        (128**3, [16384, 128, 1]),
        (128**3 + 1, [16385, 129, 2, 1]),
    ],
)
def test_a_level_has_a_block_for_128_blocks_below(blocks: int, levels: list[int]) -> None:
    shape = Shape(blocks)
    assert [level.blocks for level in shape.levels] == levels
    assert shape.levels[-1].offset == shape.hash_offset + BLOCK  # the top comes first
    assert shape.end == shape.hash_offset + BLOCK + sum(levels) * BLOCK


@pytest.mark.parametrize(
    "blocks",
    [
        *(1, 2, 127, 128, 129, 255, 256, 257, 383, 384, 385),
        *(pytest.param(blocks, marks=pytest.mark.long) for blocks in range(16382, 16387)),
    ],
)
def test_each_number_of_blocks_around_the_end_of_a_hash_block_has_the_tree_of_the_model(
    descriptor: int, blocks: int
) -> None:
    data = b"".join(number.to_bytes(4, "big") * (BLOCK // 4) for number in range(1, blocks + 1))
    shape, root_hash = build(descriptor, data)
    expected, levels = model(data, SALT)
    assert root_hash == expected
    assert [os.pread(descriptor, level.blocks * BLOCK, level.offset) for level in shape.levels] == levels


def test_a_hole_has_the_hashes_of_zeros(descriptor: int) -> None:
    data = b"\1" * BLOCK * 3
    _, root_hash = build(descriptor, data, blocks=700)
    assert root_hash == model(data + bytes(697 * BLOCK), SALT)[0]


def test_a_large_disk_is_hashed_by_several_processes_to_the_same_tree(descriptor: int) -> None:
    blocks = 3 << 14
    os.ftruncate(descriptor, blocks * BLOCK)
    for number in (0, 9000, 17000, 30000, 40000, blocks - 1):
        os.pwrite(descriptor, b"%d" % number, number * BLOCK)
    shape, root_hash = build(descriptor, b"", blocks=blocks)
    leaf = shape.levels[0]
    leaves = os.pread(descriptor, leaf.blocks * BLOCK, leaf.offset)
    hash_worker.write(descriptor, 0, blocks, SALT, leaf.offset)
    assert os.pread(descriptor, leaf.blocks * BLOCK, leaf.offset) == leaves
    assert hashtree.is_sound(descriptor, shape, SALT, root_hash)
    assert hashtree.wrong_blocks(descriptor, shape, SALT) == []
    changed = [0, 1, 16384, 20000, 39999, blocks - 1]
    for number in changed:
        os.pwrite(descriptor, b"other", number * BLOCK)
    assert hashtree.wrong_blocks(descriptor, shape, SALT) == changed


@pytest.mark.parametrize("mode", [0o755, 0o644], ids=["failing", "not executable"])
def test_without_further_processes_one_does_it_all(
    descriptor: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int
) -> None:
    shape, root_hash = build(descriptor, b"data", blocks=3 << 14)
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\nexit 1\n")
    failing.chmod(mode)
    monkeypatch.setattr(sys, "executable", str(failing))
    assert build(descriptor, b"data", blocks=3 << 14) == (shape, root_hash)


def test_changed_blocks_change_their_paths_alone(descriptor: int) -> None:
    data = os.urandom(300 * BLOCK)
    shape, _ = build(descriptor, data)
    changed = bytearray(data)
    tree = hashtree.HashTree(descriptor, shape, SALT)
    for number in (5, 299):
        changed[number * BLOCK : (number + 1) * BLOCK] = bytes(BLOCK)
        tree.put(number, bytes(BLOCK))
    root_hash = tree.root_hash()
    assert root_hash == model(bytes(changed), SALT)[0]
    assert not hashtree.is_sound(descriptor, shape, SALT, root_hash)  # nothing is written yet
    tree.write()
    assert hashtree.is_sound(descriptor, shape, SALT, root_hash)


def test_a_tree_that_changes_much_is_written_meanwhile(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(1000 * BLOCK)
    shape, _ = build(descriptor, bytes(1000 * BLOCK))
    monkeypatch.setattr(hashtree, "_MAX_HELD", 2)
    tree = hashtree.HashTree(descriptor, shape, SALT)
    for number in range(0, 1000, 7):
        tree.put(number, os.urandom(BLOCK))
    for number in range(1000):
        tree.put(number, data[number * BLOCK : (number + 1) * BLOCK])
    root_hash = tree.root_hash()
    tree.write()
    assert root_hash == model(data, SALT)[0]
    assert hashtree.is_sound(descriptor, shape, SALT, root_hash)


@pytest.mark.parametrize("place", ["leaf", "top", "padding"])
def test_a_tree_that_was_tampered_with_is_not_sound(descriptor: int, place: str) -> None:
    shape, root_hash = build(descriptor, b"\1" * BLOCK * 200)
    assert hashtree.is_sound(descriptor, shape, SALT, root_hash)
    offset = {
        "leaf": shape.levels[0].offset,
        "top": shape.levels[1].offset,
        "padding": shape.end - 1,
    }[place]
    byte = os.pread(descriptor, 1, offset)[0]
    os.pwrite(descriptor, bytes([byte ^ 1]), offset)
    assert not hashtree.is_sound(descriptor, shape, SALT, root_hash)


def test_veritysetup_makes_the_same_bytes(descriptor: int, tmp_path: Path) -> None:
    data = os.urandom(130 * BLOCK)
    shape, root_hash = build(descriptor, data)
    os.pwrite(descriptor, verity.superblock(130, SALT, bytes(15) + b"\1"), shape.hash_offset)
    theirs = tmp_path / "theirs"
    theirs.write_bytes(data)
    options = ["--salt", SALT.hex(), "--uuid", "00000000-0000-0000-0000-000000000001"]
    printed = run("veritysetup", "format", f"--hash-offset={len(data)}", *options, theirs, theirs)
    assert theirs.read_bytes() == os.pread(descriptor, shape.end, 0)
    assert root_hash.hex() in printed


@pytest.mark.parametrize(
    "field", ["signature", "version", "hash_type", "algorithm", "data_block_size", "salt_size"]
)
def test_a_superblock_that_the_kernel_refuses_is_refused_by_name(field: str) -> None:
    block = verity.superblock(7, SALT, bytes(16))
    assert verity.parse(block, "disk") == (7, SALT, bytes(16))
    other: int | bytes = (
        b"x" * verity.SUPERBLOCK.fields[field].size if field in ("signature", "algorithm") else 2
    )
    damaged = verity.SUPERBLOCK.patch(block[:512], {field: other})
    with pytest.raises(UserError, match=field.replace("_", " ")):
        verity.parse(damaged, "disk")


def test_a_superblock_that_is_cut_off_is_refused() -> None:
    with pytest.raises(UserError, match="ends before"):
        verity.parse(b"verity", "disk")
