"""Archives made out of earlier ones: the same bytes, and nothing read that did not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mystikos_tool.cache.incremental import IncrementalArchives
from mystikos_tool.cache.store import Store
from mystikos_tool.errors import UserError
from mystikos_tool.root import archive
from mystikos_tool.root.source import DirectorySource

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
    opened: Callable[[], set[str]],
    change: Callable[[Path], object],
    read: set[str],
) -> None:
    pack(root, tmp_path / "archive", tmp_path / "store")
    change(root)
    opened()
    pack(root, tmp_path / "archive", tmp_path / "store")
    assert {name for name in opened() if name.startswith("file")} == read
    assert (tmp_path / "archive").read_bytes() == packed_anew(root, tmp_path)


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
    found = IncrementalArchives(Store(tmp_path / "store")).read(path)
    assert "archive" not in opened()
    assert found == archive.read(path)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="is no CPIO archive"):
        IncrementalArchives(Store(tmp_path / "store")).read(path)


def test_a_tree_that_has_become_small_is_forgotten(root: Path, tmp_path: Path) -> None:
    pack(root, tmp_path / "archive", tmp_path / "store")
    size = (tmp_path / "store").stat().st_size
    for path in sorted(root.iterdir())[10:]:
        path.unlink()
    pack(root, tmp_path / "archive", tmp_path / "store")
    assert (tmp_path / "archive").read_bytes() == packed_anew(root, tmp_path)
    assert (tmp_path / "store").stat().st_size < size / 10
