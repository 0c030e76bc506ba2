"""Archives made out of earlier ones: the same bytes, and nothing read that did not change."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from mystikos_tool.cache.incremental import IncrementalArchives, rewritten
from mystikos_tool.cache.store import Store
from mystikos_tool.errors import UserError
from mystikos_tool.io import fingerprint
from mystikos_tool.root import archive
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.root.tree import Entry, Tree

MANY = 300


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree that is large enough to be remembered, and old enough to be believed."""
    root = tmp_path / "root"
    root.mkdir()
    for number in range(MANY):
        (root / f"file{number}").write_text(str(number))
    while DirectorySource(root).is_racy():
        pass
    return root


def pack(root: Path, target: Path, store: Path) -> None:
    """Pack as a build would: with a store that is loaded and saved."""
    kept = Store(store)
    IncrementalArchives(kept).pack(DirectorySource(root).tree(), target)
    kept.save()


def packed_anew(root: Path, directory: Path) -> bytes:
    archive.write(DirectorySource(root).tree(), directory / "anew")
    return (directory / "anew").read_bytes()


@pytest.fixture
def settled(root: Path, tmp_path: Path) -> Path:
    """An archive of the tree, old enough to be written into."""
    path = tmp_path / "archive"
    pack(root, path, tmp_path / "store")
    while fingerprint.is_racy(fingerprint.of(path.stat()), time.time_ns()):
        pass
    return path


@pytest.mark.parametrize(
    ("change", "read"),
    [
        (lambda root: None, set()),
        (lambda root: (root / "file7").write_text("changed"), {"file7"}),
        (lambda root: (root / "file7").touch(), {"file7"}),
        (lambda root: (root / "file7").chmod(0o755), {"file7"}),
        (lambda root: (root / "file7").unlink(), set()),
        (lambda root: (root / "file7").rename(root / "file999"), {"file999"}),
        (lambda root: (root / "file999").write_text("new"), {"file999"}),
    ],
    ids=["nothing", "content", "touched", "mode", "removed", "renamed", "new"],
)
def test_only_what_changed_is_read_and_the_bytes_are_the_same(
    root: Path,
    tmp_path: Path,
    settled: Path,
    opened: Callable[[], set[str]],
    change: Callable[[Path], object],
    read: set[str],
) -> None:
    change(root)
    opened()
    pack(root, settled, tmp_path / "store")
    assert {name for name in opened() if name.startswith("file")} == read
    assert settled.read_bytes() == packed_anew(root, tmp_path)


def test_what_changed_and_kept_its_size_is_written_into_the_archive_itself(
    root: Path, tmp_path: Path, settled: Path, opened: Callable[[], set[str]]
) -> None:
    inode = settled.stat().st_ino
    for name, content in (("file7", "x"), ("file299", "xyz")):
        (root / name).write_text(content)
    opened()
    pack(root, settled, tmp_path / "store")
    assert {name for name in opened() if name.startswith("file")} == {"file7", "file299"}
    assert settled.read_bytes() == packed_anew(root, tmp_path)
    assert settled.stat().st_ino == inode
    (root / "file7").write_text("y")
    pack(root, settled, tmp_path / "store")
    assert settled.read_bytes() == packed_anew(root, tmp_path)


@pytest.mark.parametrize(("limit", "is_rewritten"), [(4, True), (3, False)])
def test_more_than_is_held_in_memory_is_not_written_into_an_archive(
    root: Path, tmp_path: Path, settled: Path, monkeypatch: pytest.MonkeyPatch, limit: int, is_rewritten: bool
) -> None:
    monkeypatch.setattr("mystikos_tool.cache.incremental._MOST_REWRITTEN", limit)
    inode = settled.stat().st_ino
    for name, content in (("file7", "x"), ("file299", "xyz")):
        (root / name).write_text(content)
    pack(root, settled, tmp_path / "store")
    assert (settled.stat().st_ino == inode) is is_rewritten
    assert settled.read_bytes() == packed_anew(root, tmp_path)


def test_what_was_written_into_an_archive_is_known_while_it_is_that_one(
    root: Path, tmp_path: Path, settled: Path
) -> None:
    assert rewritten(settled) is None
    before = fingerprint.of(settled.stat())
    (root / "file7").write_text("x")
    pack(root, settled, tmp_path / "store")
    member = archive.read(settled).by_path[b"file7"]
    assert rewritten(settled) == (before, fingerprint.of(settled.stat()), [(member.offset, member.size)])
    settled.touch()
    assert rewritten(settled) is None


def test_an_archive_with_another_link_is_not_written_into(root: Path, tmp_path: Path, settled: Path) -> None:
    (tmp_path / "link").hardlink_to(settled)
    before = settled.read_bytes()
    (root / "file7").write_text("x")
    pack(root, settled, tmp_path / "store")
    assert settled.read_bytes() == packed_anew(root, tmp_path)
    assert (tmp_path / "link").read_bytes() == before


def test_a_file_that_cannot_be_read_leaves_the_archive_as_it_was(
    root: Path, tmp_path: Path, settled: Path
) -> None:
    before = settled.read_bytes()
    (root / "file7").write_text("x")
    tree = DirectorySource(root).tree()
    (root / "file7").unlink()
    with pytest.raises(UserError, match="changed while it was read"):
        IncrementalArchives(Store(tmp_path / "store")).pack(tree, settled)
    assert settled.read_bytes() == before


def test_files_as_young_as_the_clocks_tick_are_read_again(
    root: Path, tmp_path: Path, opened: Callable[[], set[str]]
) -> None:
    (root / "file7").write_text("young")
    pack(root, tmp_path / "archive", tmp_path / "store")
    opened()
    pack(root, tmp_path / "archive", tmp_path / "store")
    assert "file7" in opened()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.unlink(),
    ],
    ids=["written again", "truncated", "removed"],
)
def test_an_archive_that_somebody_else_touched_is_not_believed(
    root: Path, tmp_path: Path, opened: Callable[[], set[str]], spoil: Callable[[Path], object]
) -> None:
    pack(root, tmp_path / "archive", tmp_path / "store")
    spoil(tmp_path / "archive")
    opened()
    pack(root, tmp_path / "archive", tmp_path / "store")
    assert len({name for name in opened() if name.startswith("file")}) == MANY
    assert (tmp_path / "archive").read_bytes() == packed_anew(root, tmp_path)


def test_what_is_in_an_archive_is_known_until_somebody_else_writes_it(
    root: Path, tmp_path: Path, opened: Callable[[], set[str]]
) -> None:
    path = tmp_path / "archive"
    pack(root, path, tmp_path / "store")
    opened()
    by_whoever_wrote_it, later = (IncrementalArchives(Store(tmp_path / "store")).read(path) for _ in range(2))
    assert "archive" not in opened()
    assert by_whoever_wrote_it == later == archive.read(path)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="is no CPIO archive"):
        IncrementalArchives(Store(tmp_path / "store")).read(path)


def test_what_was_packed_is_not_read_to_be_measured(tmp_path: Path, opened: Callable[[], set[str]]) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "f").write_bytes(b"content")
    tree, path, archives = (
        DirectorySource(tmp_path / "small").tree(),
        tmp_path / "a",
        IncrementalArchives(Store(None)),
    )
    archives.pack(tree, path)
    opened()
    found = archives.read(path)
    assert "a" not in opened()
    assert found == archive.read(path)
    archives.pack(tree, path)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="is no CPIO archive"):
        archives.read(path)


def test_a_tree_that_has_become_small_is_forgotten(
    root: Path, tmp_path: Path, opened: Callable[[], set[str]]
) -> None:
    pack(root, tmp_path / "archive", tmp_path / "store")
    size = (tmp_path / "store").stat().st_size
    for path in sorted(root.iterdir())[10:]:
        path.unlink()
    pack(root, tmp_path / "archive", tmp_path / "store")
    assert (tmp_path / "archive").read_bytes() == packed_anew(root, tmp_path)
    assert (tmp_path / "store").stat().st_size < size / 10
    for by_whoever_wrote_it in (True, False):
        opened()
        IncrementalArchives(Store(tmp_path / "store")).read(tmp_path / "archive")
        assert ("archive" in opened()) is not by_whoever_wrote_it


class Counting:
    """Files whose content is counted when it is read, and waits for another thread the first time."""

    def __init__(self, wait: Event) -> None:
        self.begun = Event()
        self.read: list[bytes] = []
        self._wait = wait

    def name(self, entry: Entry) -> str:
        return os.fsdecode(entry.path)

    def owner(self, entry: Entry) -> tuple[int, int]:
        return 0, 0

    def identity(self, entry: Entry) -> bytes:
        return b""

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        self.read.append(entry.path)
        self.begun.set()
        assert self._wait.wait(60)
        yield b"content"


def counted(wait: Event) -> tuple[Counting, Tree]:
    files = Counting(wait)
    paths = (b"one", b"two")
    entries = [
        Entry(path, 0o100644, 7, os.urandom(8), fingerprint.of(Path().stat()), files) for path in paths
    ]
    return files, Tree(tuple(entries), (), 0)


def test_a_tree_that_several_threads_pack_is_read_once(tmp_path: Path) -> None:
    second_comes = Event()
    files, tree = counted(second_comes)
    archives = IncrementalArchives(Store(None))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(archives.pack, tree, tmp_path / "first")
        assert files.begun.wait(60)
        second = threads.submit(archives.pack, tree, tmp_path / "second")
        second_comes.set()
        first.result()
        second.result()
    assert files.read == [b"one", b"two"]
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"other"), lambda path: path.unlink()])
def test_a_tree_is_read_again_where_the_first_archive_of_it_is_not_there_any_more(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    wait = Event()
    wait.set()
    files, tree = counted(wait)
    archives = IncrementalArchives(Store(None))
    archives.pack(tree, tmp_path / "first")
    packed = (tmp_path / "first").read_bytes()
    spoil(tmp_path / "first")
    archives.pack(tree, tmp_path / "second")
    assert len(files.read) == 4
    assert (tmp_path / "second").read_bytes() == packed


def test_two_trees_of_the_same_names_from_other_places_are_packed_each(tmp_path: Path) -> None:
    wait = Event()
    wait.set()
    archives = IncrementalArchives(Store(None))
    for name in ("first", "second"):
        files, tree = counted(wait)
        archives.pack(tree, tmp_path / name)
        assert len(files.read) == 2


def test_what_is_copied_from_another_archive_is_as_old_as_that_one(
    root: Path, tmp_path: Path, opened: Callable[[], set[str]]
) -> None:
    (root / "file7").write_text("young")
    kept = Store(tmp_path / "store")
    tree = DirectorySource(root).tree()
    IncrementalArchives(kept).pack(tree, tmp_path / "first")
    while DirectorySource(root).is_racy():
        pass
    opened()
    IncrementalArchives(kept).pack(tree, tmp_path / "second")
    assert not {name for name in opened() if name.startswith("file")}
    kept.save()
    pack(root, tmp_path / "second", tmp_path / "store")
    assert {name for name in opened() if name.startswith("file")} == {"file7"}
