"""A disk of an earlier build is brought up to date: the bytes of a new one, for the price of what changed."""

from __future__ import annotations

import filecmp
import os
import stat
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


# Nothing but a few files' contents is another one: the disk is not laid out again


class Written:
    """A disk of a tree, in which some of its files alone are written again."""

    def __init__(self, tree: Path, target: Path, options: Options = Options()) -> None:  # noqa: B008
        self._tree, self._target, self._options = tree, target, options
        nodes = nodes_of(scan(tree))
        _, self._layout = disk.lay_out(nodes, target, options)
        numbers = self._layout.numbers()
        self._inodes = {node.path: number for node, number in zip(nodes, numbers, strict=True)}

    def rewrite(self, names: set[str]) -> disk.Disk | None:
        paths = set(map(os.fsencode, names))
        return self.rewrite_nodes([node for node in nodes_of(scan(self._tree)) if node.path in paths])

    def rewrite_nodes(self, nodes: list[Node]) -> disk.Disk | None:
        numbered = [(self._inodes[node.path], node) for node in nodes]
        return disk.rewrite(numbered, self._target, self._layout, self._options)


def of_blocks(*blocks: int, end: int = 0) -> bytes:
    """A file that has content in these of its blocks alone."""
    data = bytearray(max((*blocks, end - 1)) * BLOCK + BLOCK)
    for number in blocks:
        data[number * BLOCK : (number + 1) * BLOCK] = os.urandom(BLOCK)
    return bytes(data)


@pytest.mark.parametrize(
    ("edits", "options"),
    [
        ({"lib/file10": os.urandom(30_001)}, Options()),
        ({"lib/large": os.urandom(205 * BLOCK + 5)}, Options()),
        ({"lib/large": os.urandom(195 * BLOCK), "lib/file07": os.urandom(20_000)}, Options()),
        ({"lib/large": of_blocks(*range(195), 260, end=300)}, Options()),
        ({"lib/holes": of_blocks(40, 51)}, Options()),
        ({"lib/few": of_blocks(*range(10), 20)}, Options()),
        ({"lib/few": of_blocks(*range(6), 20, 1040)}, Options()),
        ({"lib/large": os.urandom(200 * BLOCK - 99)}, Options(size=16 << 20, salt=bytes(32), uuid=bytes(16))),
    ],
    ids=[
        "a byte more",
        "larger",
        "smaller",
        "holes",
        "other holes",
        "indirect",
        "double indirect",
        "no room",
    ],
)
def test_other_contents_of_some_files_make_the_disk_of_a_new_build(
    tree: Path, tmp_path: Path, edits: dict[str, bytes], options: Options
) -> None:
    (tree / "lib/few").write_bytes(of_blocks(*range(11)))
    written = Written(tree, tmp_path / "disk", options)
    before = (tmp_path / "disk").stat().st_ino
    for name, data in edits.items():
        (tree / name).write_bytes(data)
    made = written.rewrite(set(edits))
    assert made == disk.write(nodes_of(scan(tree)), tmp_path / "new", options)
    assert (tmp_path / "disk").read_bytes() == (tmp_path / "new").read_bytes()
    assert (tmp_path / "disk").stat().st_ino == before
    run("e2fsck", "-fn", tmp_path / "disk")


def dense(name: bytes, blocks: int) -> Node:
    """A file of so many blocks, all with the same content."""
    piece = b"block" * (100 * BLOCK)

    def chunks() -> Iterator[bytes]:
        for at in range(0, blocks, 500):
            yield piece[: min(500, blocks - at) * BLOCK]

    return Node(name, stat.S_IFREG | 0o644, blocks * BLOCK, b"", (0, 0), b"", "file", chunks)


@pytest.mark.long
@pytest.mark.parametrize("sizes", [(30_750, 32_000), (32_000, 30_750)], ids=["grows", "shrinks"])
def test_a_file_that_grows_into_another_group_is_counted_in_both(
    tmp_path: Path, sizes: tuple[int, int]
) -> None:
    first, second = ([dense(b"a", 1000), dense(b"b", size)] for size in sizes)
    _, layout = disk.lay_out(first, tmp_path / "disk")
    made = disk.rewrite([(layout.numbers()[1], second[1])], tmp_path / "disk", layout)
    assert made == disk.write(second, tmp_path / "new")
    assert filecmp.cmp(tmp_path / "disk", tmp_path / "new", shallow=False)


@pytest.mark.parametrize(
    ("name", "data", "options"),
    [
        ("lib/file05", os.urandom(20 * BLOCK), Options()),
        ("lib/file00", b"not empty any more", Options()),
        ("lib/large", os.urandom(201 * BLOCK), Options(size=16 << 20)),
        ("lib/linked", b"with two names", Options()),
        ("lib/large", os.urandom(200 * BLOCK), Options(encryption=luks.Encryption(bytes(range(64))), room=0)),
    ],
    ids=["too large", "was empty", "size given", "linked", "encrypted"],
)
def test_where_more_than_contents_would_change_nothing_is_done(
    tree: Path, tmp_path: Path, name: str, data: bytes, options: Options
) -> None:
    (tree / "lib/file00").write_bytes(b"")
    (tree / "lib/linked").write_bytes(b"linked")
    (tree / "lib/other").hardlink_to(tree / "lib/linked")
    written = Written(tree, tmp_path / "disk", options)
    before = (tmp_path / "disk").read_bytes()
    (tree / name).write_bytes(data)
    assert written.rewrite({name}) is None
    assert (tmp_path / "disk").read_bytes() == before


def test_another_disk_than_the_one_that_was_written_is_not_touched(tree: Path, tmp_path: Path) -> None:
    written, whole = Written(tree, tmp_path / "disk"), (tmp_path / "disk").read_bytes()
    for other in (b"no disk", whole[:-BLOCK], whole + bytes(BLOCK), bytes(len(whole))):
        (tmp_path / "disk").write_bytes(other)
        assert written.rewrite({"lib/large"}) is None
        assert (tmp_path / "disk").read_bytes() == other
    (tmp_path / "disk").unlink()
    assert written.rewrite({"lib/large"}) is None


def test_contents_that_cannot_be_read_leave_no_half_written_disk(tree: Path, tmp_path: Path) -> None:
    written = Written(tree, tmp_path / "disk")
    (tree / "lib/large").write_bytes(os.urandom(200 * BLOCK))
    nodes = [changing(node) for node in nodes_of(scan(tree)) if node.path == b"lib/large"]
    with pytest.raises(UserError, match="changed while"):
        written.rewrite_nodes(nodes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree"]


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
