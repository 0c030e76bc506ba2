"""Permissions by path, and what is hardly meant for a root."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mystikos_tool.errors import UserError
from mystikos_tool.root import leftovers
from mystikos_tool.root.permissions import PermittedSource, pair, permissions, unmatched
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.root.tree import join


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("bin/tool", "etc/key", "etc/deep/key", "etc/[x]"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "etc" / "link").symlink_to("key")
    return tmp_path


def asked_modes(root: Path, asked: list[tuple[str, object]]) -> dict[str, int]:
    tree = PermittedSource(DirectorySource(root), permissions(asked)).tree()
    return {entry.path.decode(): stat.S_IMODE(entry.mode) for entry in tree.entries}


def test_a_name_matches_everywhere_a_path_in_one_place_and_the_last_of_several_counts(root: Path) -> None:
    found = asked_modes(root, [("key", 0o600), ("/etc/key", "0640"), ("bin", "0700"), ("etc/[[]x]", 0o4711)])
    assert (found["etc/key"], found["etc/deep/key"]) == (0o640, 0o600)
    assert found["bin"] == 0o700
    assert found["etc/[x]"] == 0o4711
    assert found["bin/tool"] == 0o644
    assert asked_modes(root, [("etc/key", 0o640), ("key", 0o600)])["etc/key"] == 0o600


def test_a_wildcard_is_for_files_only_and_a_link_has_no_permissions(root: Path) -> None:
    found = asked_modes(root, [("etc/*", 0o600), ("*", 0o400), ("link", 0o700)])
    assert found["etc/key"] == found["etc/deep/key"] == found["bin/tool"] == 0o400
    assert found["etc/deep"] == found["etc"] == 0o755
    assert found["etc/link"] == 0o777


def test_other_permissions_are_another_fingerprint(root: Path) -> None:
    sources = [
        PermittedSource(DirectorySource(root), permissions([("key", mode)])) for mode in (0o600, 0o640)
    ]
    assert sources[0].fingerprint() != sources[1].fingerprint()
    assert sources[0].is_racy() == DirectorySource(root).is_racy()


def test_a_pattern_that_matches_nothing_is_named(root: Path) -> None:
    entries = DirectorySource(root).tree().entries
    asked = dict.fromkeys(("key", "etc/link", "etc/kye", "*.so", "deep/key", "etc/de*"), entries)
    assert list(unmatched(asked)) == ["etc/link", "etc/kye", "*.so", "deep/key"]


@pytest.mark.parametrize("mode", ["rwx", "0o600", "", "99", -1, 0o10000, True, None, 6.0])
def test_what_is_no_mode_is_refused(mode: object) -> None:
    with pytest.raises(UserError, match="cannot have the mode"):
        permissions([("etc/key", mode)])


@pytest.mark.parametrize("mode", [755, 644, 600])
def test_a_mode_in_decimal_digits_is_told_to_be_another(mode: int) -> None:
    with pytest.raises(UserError, match=f"{mode} is decimal; write 0o{mode}"):
        permissions([("etc/key", mode)])
    assert permissions([("tmp", 0o1777), ("bin", 0o755), ("etc", "755")])


@pytest.mark.parametrize("text", ["etc/key", "=0600", ""])
def test_text_without_a_pattern_and_a_mode_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no pattern with a mode"):
        pair(text)
    assert pair("a=b=0600") == ("a=b", "0600")


def test_of_joined_trees_the_later_wins_where_that_is_asked_for(tmp_path: Path) -> None:
    for name, content in (("one", "1"), ("two", "22"), ("three", "333")):
        (tmp_path / name / "etc").mkdir(parents=True)
        (tmp_path / name / "etc" / "both").write_text(content)
        (tmp_path / name / "etc" / name).write_text(content)
    trees = [DirectorySource(tmp_path / name).tree() for name in ("one", "two", "three")]
    joined = join(trees, later_wins=True)
    assert {entry.path: entry.size for entry in joined.entries if entry.size} == {
        b"etc/both": 3,
        b"etc/one": 1,
        b"etc/three": 3,
        b"etc/two": 2,
    }
    assert joined.paths == sorted(joined.paths)
    with pytest.raises(UserError, match="MYST_ROOTFS_OVERLAY=True"):
        join(trees)


# What is hardly meant


def keep_out(patterns: object) -> str:
    return f"keep out {patterns}"


def test_leftovers_are_found_by_the_pattern_that_keeps_them_out() -> None:
    paths = [
        b".DS_Store",
        b".git",
        b".git-hooks",
        b".git/a~",
        b".git/config",
        b"a/.x.swp",
        b"a/swp",
        b"lib/__pycache__",
        b"lib/__pycache__/x.pyc",
        b"lib/x~",
        b"x.swp",
        b"~/x",
    ]
    assert leftovers.found(paths) == {
        ".DS_Store": [".DS_Store"],
        ".git": [".git"],
        ".*.swp": ["a/.x.swp"],
        "__pycache__": ["lib/__pycache__"],
        "*~": ["lib/x~"],
    }


def test_leftovers_are_a_warning_an_error_or_nothing() -> None:
    paths = [b"%d/.git" % number for number in range(8)]
    (warning,) = leftovers.told(paths, "root", "warn", keep_out)
    assert "/0/.git, /1/.git" in warning
    assert "/4/.git and 3 more; keep out ['.git']" in warning
    with pytest.raises(UserError, match="hardly meant"):
        leftovers.told(paths, "root", "error", keep_out)
    assert leftovers.told(paths, "root", "allow", keep_out) == []
    assert leftovers.told([b"bin/tool"], "root", "error", keep_out) == []
