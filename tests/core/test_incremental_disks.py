"""A build with a store brings the earlier disk up to date; only what changed is read.

MYST_DISK_CASES=1000 takes so many random edits instead of a few.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from disks import run, scan

from mystikos_tool.cache.incremental_disk import IncrementalDisks
from mystikos_tool.cache.store import Store
from mystikos_tool.io.content import ReadAt
from mystikos_tool.root.disk.writer import Disk, Options
from mystikos_tool.root.stripped import Stripping
from mystikos_tool.root.tree import Entry, Tree, join

BLOCK = 4096
CASES = int(os.environ.get("MYST_DISK_CASES", "20"))
AS_NEEDED = Options()


def settle(root: Path) -> None:
    """Wait until a change of a file cannot go unseen any more."""
    while scan(root).is_racy():
        pass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "lib").mkdir(parents=True)
    for number in range(10):
        (root / f"lib/file{number}").write_bytes(os.urandom(number * 3000))
    (root / "lib/large").write_bytes(os.urandom(200 * BLOCK))
    (root / "lib/program").write_bytes(Path("/proc/self/exe").read_bytes())
    (root / "one").write_bytes(b"linked")
    (root / "two").hardlink_to(root / "one")
    (root / "link").symlink_to("l" * 100)
    settle(root)
    return root


class Watched:
    """The files of a tree, which remember which of them were read."""

    def __init__(self) -> None:
        self.read: set[str] = set()

    def watch(self, tree: Tree) -> Tree:
        watching = [entry._replace(contents=_Watching(entry, self.read)) for entry in tree.entries]
        return Tree(tuple(watching), tree.left_out, tree.as_of)


class _Watching:
    def __init__(self, entry: Entry, read: set[str]) -> None:
        self._contents = entry.contents
        self._read = read

    def name(self, entry: Entry) -> str:
        return self._contents.name(entry)

    def owner(self, entry: Entry) -> tuple[int, int]:
        return self._contents.owner(entry)

    def identity(self, entry: Entry) -> bytes:
        return self._contents.identity(entry)

    def chunks(self, entry: Entry) -> Iterator[bytes | memoryview]:
        self._read.add(os.fsdecode(entry.path))
        return self._contents.chunks(entry)

    def opened(self, entry: Entry) -> AbstractContextManager[ReadAt]:
        self._read.add(os.fsdecode(entry.path))
        return self._contents.opened(entry)


class Builds:
    """Builds of one disk that share a store."""

    def __init__(self, directory: Path) -> None:
        self.disk = directory / "disk"
        self._new = directory / "new"
        self._store = Store(None)

    def build(
        self,
        trees: Sequence[Tree],
        options: Options = AS_NEEDED,
        *,
        owners: bool = False,
        stripping: bool = False,
    ) -> set[str]:
        """Build; hold the disk to what a build without a store makes; return the files that were read."""
        watched = Watched()
        made = self._write(self._store, self.disk, [*map(watched.watch, trees)], options, owners, stripping)
        expected = self._write(Store(None), self._new, trees, options, owners, stripping)
        assert made == expected
        assert self.disk.read_bytes() == self._new.read_bytes()
        return watched.read

    def _write(
        self,
        store: Store,
        target: Path,
        trees: Sequence[Tree],
        options: Options,
        owners: bool,
        stripping: bool,
    ) -> Disk:
        change = Stripping() if stripping else None
        made, _ = IncrementalDisks(store).write(
            trees, join(trees), target, options, preserve_owners=owners, change=change
        )
        return made


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    return Builds(tmp_path)


Edit = Callable[[Path], object]


def content(name: str, size: int) -> Edit:
    return lambda root: (root / name).write_bytes(os.urandom(size))


def replaced(root: Path) -> None:
    """Another file of the same name, as a compiler makes it."""
    (root / "new").write_bytes(os.urandom(9001))
    (root / "new").replace(root / "lib/file3")


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (content("lib/file3", 9000), {"lib/file3"}),
        (content("lib/large", 203 * BLOCK), {"lib/large"}),
        (replaced, {"lib/file3"}),
        (content("one", 6000), {"one", "two"}),
        (lambda root: (root / "lib/file9").chmod(0o755), {"lib/file9"}),
        (lambda root: (root / "link").unlink() or (root / "link").symlink_to("m" * 100), set()),
    ],
    ids=["rewritten", "larger", "replaced", "linked", "mode", "link"],
)
@pytest.mark.parametrize("owners", [False, True], ids=["root's", "owners"])
def test_what_changed_is_read_alone_and_the_disk_is_that_of_a_new_build(
    root: Path, builds: Builds, edit: Edit, changed: set[str], owners: bool
) -> None:
    builds.build([scan(root)], owners=owners)
    before = builds.disk.stat().st_ino
    edit(root)
    assert builds.build([scan(root)], owners=owners) <= changed
    assert builds.disk.stat().st_ino == before
    run("e2fsck", "-fn", builds.disk)


@pytest.mark.parametrize("edit", [content("lib/file1", 40_000), content("lib/file0", 1)])
def test_a_file_that_moves_others_makes_the_disk_of_a_new_build(
    root: Path, builds: Builds, edit: Edit
) -> None:
    builds.build([scan(root)])
    edit(root)
    builds.build([scan(root)])


@pytest.mark.parametrize("edit", [content("a", 1), lambda root: (root / "lib/file1").unlink()])
def test_a_file_keeps_its_blocks_where_others_come_and_go_beside_it(
    root: Path, builds: Builds, edit: Edit
) -> None:
    for name in ("lib/file2", "lib/file4", "lib/file6"):
        (root / name).write_bytes(os.urandom(5 * BLOCK))
    for name in ("lib/file3", "lib/file5", "lib/file7"):  # as large, with holes
        (root / name).write_bytes(os.urandom(BLOCK) + bytes(4 * BLOCK))
    settle(root)
    builds.build([scan(root)])
    edit(root)
    builds.build([scan(root)])


def test_nothing_is_read_where_nothing_changed(root: Path, builds: Builds) -> None:
    builds.build([scan(root)])
    assert builds.build([scan(root)]) == set()


def test_files_that_become_links_to_one_and_links_that_part_make_another_disk(
    root: Path, builds: Builds
) -> None:
    builds.build([scan(root)])
    (root / "lib/file3").unlink()
    (root / "lib/file3").hardlink_to(root / "lib/file2")
    builds.build([scan(root)])
    (root / "two").unlink()
    (root / "two").write_bytes(b"linked")
    builds.build([scan(root)])


def test_links_within_one_of_several_sources_are_links_and_across_them_are_none(
    root: Path, tmp_path: Path, builds: Builds
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "three").hardlink_to(root / "one")
    builds.build([scan(root), scan(other)])
    (root / "three").hardlink_to(root / "one")
    (other / "three").rename(other / "four")
    builds.build([scan(root), scan(other)])


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_an_owner_alone_that_changed_is_on_the_disk(root: Path, builds: Builds) -> None:
    builds.build([scan(root)], owners=True)
    for name in ("lib", "link", "lib/file4"):
        os.chown(root / name, 7, 8, follow_symlinks=False)
        builds.build([scan(root)], owners=True)


@pytest.mark.parametrize(
    "options", [Options(room=1 << 20), Options(time=5), Options(boots=False), Options(salt=bytes(32))]
)
def test_another_layout_makes_another_disk(root: Path, builds: Builds, options: Options) -> None:
    builds.build([scan(root)])
    content("lib/file3", 9000)(root)
    builds.build([scan(root)], options)


def test_a_disk_that_another_hand_changed_is_made_again(root: Path, builds: Builds) -> None:
    builds.build([scan(root)])
    with builds.disk.open("r+b") as file:
        file.seek(100 * BLOCK)
        file.write(b"another hand")
    content("lib/file3", 9000)(root)
    builds.build([scan(root)])


def test_a_file_that_is_stripped_is_stripped_again_when_it_changed(root: Path, builds: Builds) -> None:
    builds.build([scan(root)], stripping=True)
    content("lib/file3", 9000)(root)
    assert builds.build([scan(root)], stripping=True) <= {"lib/file3"}
    data = (root / "lib/program").read_bytes()
    (root / "lib/program").write_bytes(data)
    assert builds.build([scan(root)], stripping=True) <= {"lib/program", "lib/file3"}
    builds.build([scan(root)], stripping=False)


def test_many_changed_files_are_read_alone(root: Path, builds: Builds) -> None:
    for number in range(100):
        content(f"lib/many{number}", 5000)(root)
    settle(root)
    builds.build([scan(root)])
    changed = {f"lib/many{number}" for number in range(80)}
    for name in changed:
        content(name, 5000)(root)
    assert builds.build([scan(root)]) <= changed


def edit_at_random(root: Path, chance: random.Random) -> None:
    """Change contents, and now and then what is there."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    for path in chance.sample(files, chance.choice((1, 1, 1, 2, 5))):
        size = path.stat().st_size
        kind = chance.randrange(8)
        if kind == 0:
            path.write_bytes(chance.randbytes(chance.choice((0, 1, size + 1, size * 2, 60 * BLOCK))))
        elif kind == 1:
            os.truncate(path, chance.randrange(size + 1))
        elif kind == 2:
            os.truncate(path, size + chance.choice((1, BLOCK, 40 * BLOCK)))
        elif kind == 3:
            path.unlink()
        elif kind == 4:
            path.chmod(chance.choice((0o644, 0o755)))
        elif kind == 5:
            (path.parent / f"new{chance.randrange(1000)}").write_bytes(chance.randbytes(5000))
        elif size:
            data = bytearray(path.read_bytes())
            for _ in range(chance.choice((1, 3))):
                at = chance.randrange(size)
                new = chance.choice((chance.randbytes(1), bytes(3 * BLOCK)))[: size - at]
                data[at : at + len(new)] = new
            path.write_bytes(data)


@pytest.mark.parametrize("options", [Options(room=0), Options(size=8 << 20)], ids=["as needed", "of a size"])
def test_random_edits_make_the_disks_of_new_builds(root: Path, builds: Builds, options: Options) -> None:
    chance = random.Random(options.room)
    for _ in range(CASES // 2):
        builds.build([scan(root)], options)
        edit_at_random(root, chance)
    run("e2fsck", "-fn", builds.disk)
