"""Digests that cost a stat: right whatever happens to files and store, and read only what changed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mystikos_tool.cache.digests import Digests, _TreeRecord
from mystikos_tool.cache.store import Store
from mystikos_tool.root.tree import scan


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "directory").mkdir(parents=True)
    for name in ("a", "b", "directory/c"):
        (root / name).write_text(f"content of {name}")
    (root / "link").symlink_to("a")
    return root


def digest(root: Path, store: Path) -> bytes:
    """The digest as a build would get it: from a store that is loaded and saved."""
    kept = Store(store)
    found = Digests(kept).tree(scan(root), "root")
    kept.save()
    return found


def settle(root: Path, store: Path) -> bytes:
    """Digest until every file is older than the clock's tick."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        kept = Store(store)
        found = Digests(kept).tree(scan(root), "root")
        kept.save()
        if _TreeRecord(*kept.table("trees")["root"]).settled:
            return found
    raise AssertionError("the files did not settle")


def fresh(root: Path) -> bytes:
    return Digests(Store(None)).tree(scan(root), "root")


def test_nothing_is_read_where_nothing_changed(
    root: Path, tmp_path: Path, opened: Callable[[], set[str]]
) -> None:
    before = settle(root, tmp_path / "store")
    opened()
    assert digest(root, tmp_path / "store") == before
    assert not opened() & {"a", "b", "c"}


def test_only_the_file_that_changed_is_read(
    root: Path, tmp_path: Path, opened: Callable[[], set[str]]
) -> None:
    before = settle(root, tmp_path / "store")
    (root / "b").write_text("changed")
    opened()
    assert digest(root, tmp_path / "store") not in (before, b"")
    assert opened() & {"a", "b", "c"} == {"b"}


def test_a_file_as_young_as_the_clocks_tick_is_read_again(
    root: Path, tmp_path: Path, opened: Callable[[], set[str]]
) -> None:
    (root / "b").write_text("young")
    digest(root, tmp_path / "store")
    opened()
    digest(root, tmp_path / "store")
    assert "b" in opened()


def test_a_change_within_the_clocks_tick_is_seen(root: Path, tmp_path: Path) -> None:
    for number in range(50):
        (root / "b").write_text(f"{number:08}")
        assert digest(root, tmp_path / "store") == fresh(root)


def test_a_touched_file_has_the_same_digest(root: Path, tmp_path: Path) -> None:
    before = settle(root, tmp_path / "store")
    os.utime(root / "a", (1, 1))
    assert digest(root, tmp_path / "store") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a").write_text("another"),
        lambda root: (root / "a").chmod(0o755),
        lambda root: (root / "a").rename(root / "z"),
        lambda root: (root / "new").touch(),
        lambda root: (root / "empty").mkdir(),
        lambda root: (root / "directory/c").unlink(),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("b")),
        lambda root: ((root / "link").unlink(), (root / "link").write_text("a")),
        lambda root: (
            (root / "directory").rename(root.parent / "moved"),
            (root / "directory").symlink_to("../moved"),
        ),
    ],
    ids=[
        "content",
        "mode",
        "name",
        "file",
        "directory",
        "removed",
        "link target",
        "file for a link",
        "link for a directory",
    ],
)
def test_every_change_of_the_tree_changes_its_digest(
    root: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    before = settle(root, tmp_path / "store")
    change(root)
    assert digest(root, tmp_path / "store") != before
    assert digest(root, tmp_path / "store") == fresh(root)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: None,
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"digests", b"digestz", 1),
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda data: os.urandom(len(data)),
    ],
    ids=["lost", "empty", "truncated", "another version", "last bit", "check sum", "noise"],
)
def test_a_store_that_is_not_as_it_was_written_is_not_believed(
    root: Path, tmp_path: Path, damage: Callable[[bytes], bytes | None]
) -> None:
    store = tmp_path / "store"
    before = settle(root, store)
    damaged = damage(store.read_bytes())
    store.unlink()
    if damaged is not None:
        store.write_bytes(damaged)
    assert digest(root, store) == before


def test_a_store_of_another_copy_of_the_tree_is_not_believed(root: Path, tmp_path: Path) -> None:
    settle(root, tmp_path / "store")
    (root / "a").unlink()
    (root / "a").write_text("same size, b:ut not it"[: len("content of a")])
    assert digest(root, tmp_path / "store") == fresh(root)


def test_two_builds_at_once_are_both_right(root: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    settle(root, store)
    one, other = Store(store), Store(store)
    (root / "a").write_text("between")
    expected = fresh(root)
    assert Digests(one).tree(scan(root), "root") == expected
    one.save()
    assert Digests(other).tree(scan(root), "root") == expected
    other.save()
    assert digest(root, store) == expected


def test_a_store_that_cannot_be_written_costs_only_time(root: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert digest(root, tmp_path / "store") == fresh(root)


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert Digests(Store(None)).file(tmp_path / "file") == hashlib.sha256(b"content").digest()
