"""Digests that cost a stat: right whatever happens to files and store, and read only what changed."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mystikos_tool.cache import digest_worker
from mystikos_tool.cache.digests import Digests
from mystikos_tool.cache.store import Store
from mystikos_tool.errors import UserError
from mystikos_tool.io import fingerprint
from mystikos_tool.root.source import DirectorySource, PlacedSource


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
    found = Digests(kept).tree(DirectorySource(root), "root")
    kept.save()
    return found


def settle(root: Path, store: Path) -> bytes:
    """Digest when no file could be changed and keep its fingerprint."""
    while DirectorySource(root).is_racy():
        pass
    return digest(root, store)


def fresh(root: Path) -> bytes:
    return Digests(Store(None)).tree(DirectorySource(root), "root")


def test_nothing_is_read_where_nothing_changed(
    root: Path, tmp_path: Path, opened: Callable[[], set[str]]
) -> None:
    before = settle(root, tmp_path / "store")
    opened()
    assert digest(root, tmp_path / "store") == before
    assert not opened() & {"a", "b", "c"}


def test_a_large_tree_is_read_by_several_processes_with_the_same_digest(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3000):
        (root / f"{number}").write_bytes(b"%d" % number * (number % 90))
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 20)
        sparse.write(b"start")
    started: list[object] = []
    start = subprocess.Popen
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)))
    monkeypatch.setattr(
        subprocess, "Popen", lambda *given, **named: started.append(start(*given, **named)) or started[-1]
    )
    several = fresh(root)
    assert len(started) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert fresh(root) == several and len(started) == 2


def test_a_process_reads_every_file_that_is_as_it_was_found(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    found = fingerprint.content_version(fingerprint.of(file.stat()))
    (tmp_path / "link").hardlink_to(file)  # another ctime
    as_found = bytes(file), 7, found
    assert digest_worker.digests([as_found]) == [hashlib.sha256(b"content").digest()]
    file.write_bytes(b"another")
    os.utime(file, ns=(0, 0))
    assert digest_worker.digests([as_found, (bytes(tmp_path), 7, found)]) == [None, None]


def test_what_no_process_reads_is_read_here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1500):
        (root / f"{number}").write_bytes(b"%d" % number)
    expected = fresh(root)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2)))
    for interpreter in ("/does/not/exist", "/bin/false"):
        monkeypatch.setattr(sys, "executable", interpreter)
        assert fresh(root) == expected


def test_a_file_that_another_process_may_not_read_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1500):
        (root / f"{number}").write_bytes(b"%d" % number)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2)))
    source = DirectorySource(root)
    source.tree()
    (root / "999").unlink()
    (root / "999").symlink_to("a")
    with pytest.raises(UserError, match="999: changed while it was read"):
        Digests(Store(None)).tree(source, "root")


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
    for number in range(15):
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
    assert Digests(one).tree(DirectorySource(root), "root") == expected
    one.save()
    assert Digests(other).tree(DirectorySource(root), "root") == expected
    other.save()
    assert digest(root, store) == expected


def test_a_store_that_cannot_be_written_costs_only_time(root: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert digest(root, tmp_path / "store") == fresh(root)


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert Digests(Store(None)).file(tmp_path / "file") == hashlib.sha256(b"content").digest()


def test_every_file_of_a_tree_has_its_digest(root: Path, tmp_path: Path) -> None:
    settle(root, tmp_path / "store")
    rows = Digests(Store(tmp_path / "store")).rows("root")
    assert {path: content for path, (mode, content) in rows.items() if stat.S_ISREG(mode)} == {
        name: hashlib.sha256(b"content of " + name).digest() for name in (b"a", b"b", b"directory/c")
    }


def test_a_tree_is_not_made_where_nothing_changed(root: Path, tmp_path: Path) -> None:
    """A link's target is read for its tree alone, and then cannot be: nothing has asked for it."""
    before = settle(root, tmp_path / "store")
    source = DirectorySource(root)
    source.fingerprint()
    (root / "link").unlink()
    assert Digests(Store(tmp_path / "store")).tree(source, "root") == before
    with pytest.raises(UserError, match="link: changed while it was read"):
        source.tree()


def test_the_same_files_with_other_options_have_another_digest(root: Path, tmp_path: Path) -> None:
    (root / "a").chmod(0o600)
    settle(root, tmp_path / "store")
    kept = Digests(Store(tmp_path / "store"))
    digests = [
        kept.tree(source, "root")
        for source in (
            DirectorySource(root),
            DirectorySource(root, preserve_modes=True),
            DirectorySource(root, exclude=("b",)),
            PlacedSource(DirectorySource(root), "opt"),
            PlacedSource(DirectorySource(root), "opt/app"),
        )
    ]
    assert len(set(digests)) == len(digests)


def test_a_file_that_changed_since_its_tree_was_made_is_told(root: Path) -> None:
    tree = DirectorySource(root).tree()
    (root / "a").write_text("longer than it was before")
    with pytest.raises(UserError, match="a: changed while it was read"):
        Digests(Store(None)).tree(tree, "root")


def test_what_is_told_of_a_file_that_changes_again_within_the_clocks_tick_is_its_last_content(
    root: Path, tmp_path: Path
) -> None:
    digests = Digests(Store(tmp_path / "store"))
    for content in (b"first", b"other"):
        (root / "a").write_bytes(content)
        digests.tree(DirectorySource(root), "root")
        assert digests.rows("root")[b"a"][1] == hashlib.sha256(content).digest()
