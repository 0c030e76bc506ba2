from __future__ import annotations

import os
import random
import re
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mystikos_tool.errors import UserError
from mystikos_tool.root.source import DirectorySource, Excluding, scan_file
from mystikos_tool.root.tree import Tree, canonical_mode


def scan(directory: Path, *, preserve_modes: bool = False) -> Tree:
    return DirectorySource(directory, preserve_modes=preserve_modes).tree()


def told(directory: Path) -> str:
    with pytest.raises(UserError) as error:
        scan(directory)
    return str(error.value)


def paths(tree: Tree) -> list[bytes]:
    return [entry.path for entry in tree.entries]


def modes(tree: Tree) -> dict[bytes, int]:
    return {entry.path: entry.mode for entry in tree.entries}


def test_directories_files_and_links_are_described(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "app").write_bytes(b"12345")
    (tmp_path / "bin" / "link").symlink_to("app")
    tree = scan(tmp_path)
    assert [(entry.path, stat.S_IFMT(entry.mode), entry.size, entry.target) for entry in tree.entries] == [
        (b"bin", stat.S_IFDIR, 0, b""),
        (b"bin/app", stat.S_IFREG, 5, b""),
        (b"bin/link", stat.S_IFLNK, 3, b"app"),
    ]
    assert [entry.origin for entry in tree.entries] == [
        os.fsencode(tmp_path / path) for path in ("bin", "bin/app", "bin/link")
    ]
    assert (tree.files, tree.size, tree.left_out) == (1, 5, ())


def test_entries_come_in_the_byte_order_of_their_paths(tmp_path: Path) -> None:
    names = ["a", "a-b", "a.c", "a/x", "a/x/y", "aa", "B", "b", "ä", "\udcff", "~", " ", "a\nb"]
    directories = {"a", "a/x"}
    for name in random.Random(1).sample(names, len(names)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in directories:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(b"")
    found = paths(scan(tmp_path))
    assert found == sorted(os.fsencode(name) for name in names)
    assert found[:4] == [b" ", b"B", b"a", b"a\nb"]


def test_a_directory_comes_before_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "d" / "e" / "f").mkdir(parents=True)
    (tmp_path / "d-").mkdir()
    assert paths(scan(tmp_path)) == [b"d", b"d-", b"d/e", b"d/e/f"]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_canonical_modes_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "root" / "d").mkdir(parents=True)
        (tmp_path / "root" / "file").touch()
        os.close(os.open(tmp_path / "root" / "app", os.O_CREAT, 0o777))
    finally:
        os.umask(before)
    assert modes(scan(tmp_path / "root")) == {b"d": 0o40755, b"file": 0o100644, b"app": 0o100755}


@pytest.mark.parametrize(
    ("mode", "canonical"),
    [
        (0o100600, 0o100644),
        (0o100666, 0o100644),
        (0o100655, 0o100644),
        (0o100100, 0o100755),
        (0o104711, 0o104755),
        (0o102640, 0o102644),
        (0o101777, 0o101755),
        (0o40700, 0o40755),
        (0o41777, 0o41755),
        (0o42000, 0o42755),
        (0o120777, 0o120777),
    ],
)
def test_canonical_mode(mode: int, canonical: int) -> None:
    """What the owner may execute anyone may; set-id and sticky bits stay."""
    assert canonical_mode(mode) == canonical


@settings(deadline=None)
@given(st.integers(0, 0o7777))
def test_canonical_modes_are_their_own_canonical_modes(permissions: int) -> None:
    for kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        mode = canonical_mode(kind | permissions)
        assert canonical_mode(mode) == mode
        assert stat.S_IFMT(mode) == kind


def test_modes_are_preserved_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o2710)
    (tmp_path / "f").touch()
    (tmp_path / "f").chmod(0o4601)
    assert modes(scan(tmp_path, preserve_modes=True)) == {b"d": 0o42710, b"f": 0o104601}
    assert modes(scan(tmp_path)) == {b"d": 0o42755, b"f": 0o104644}


def test_paths_that_only_the_embedded_runtime_boots_are_told(tmp_path: Path) -> None:
    (tmp_path / ("d" * 200)).mkdir()
    for length in (253, 254, 255):
        (tmp_path / ("d" * 200) / ("f" * (length - 201))).touch()
    assert [len(path) for path in scan(tmp_path).too_long_to_boot] == [254, 255]


def test_fifos_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "pipe")
    os.mkfifo(tmp_path / "b-pipe")
    tree = scan(tmp_path)
    assert paths(tree) == [b"d"]
    assert tree.left_out == ("b-pipe", "d/pipe")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_character_devices_are_left_out_and_block_devices_refused(tmp_path: Path, kind: int) -> None:
    (tmp_path / "file").touch()
    try:
        os.mknod(tmp_path / "device", kind | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container makes no devices")
    if kind == stat.S_IFCHR:
        assert scan(tmp_path).left_out == ("device",)
    else:
        assert "is a block device" in told(tmp_path)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
    assert told(tmp_path) == (
        f"{tmp_path}/s: is a socket, which a root file system cannot hold; remove it from the directory"
    )


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    assert told(tmp_path / "a") == (
        f"{tmp_path}/a: no such file or directory; create the application directory first"
    )


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    expected = f"{tmp_path}/a: is a symbolic link to b, which is not there; make that, or correct the link"
    assert told(tmp_path / "a") == expected
    with pytest.raises(UserError, match=re.escape(expected)):
        scan_file(tmp_path / "a", "a")


class Removing(Excluding):
    """Keeps nothing out, and removes each file when it is asked for."""

    directory: Path

    def __call__(self, path: bytes) -> bool:
        (self.directory / os.fsdecode(path)).unlink()
        return False


def test_what_goes_while_its_directory_is_looked_at_is_told_to_have_changed(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    removing = Removing(("kept out",))
    removing.directory = tmp_path
    with pytest.raises(UserError, match=f"{tmp_path}/f: changed while it was read; build again when"):
        DirectorySource(tmp_path, exclude=removing).tree()


def test_a_file_in_place_of_the_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert told(tmp_path / "a") == f"{tmp_path}/a: is no directory; give the application directory"


def test_an_empty_directory_is_told(tmp_path: Path) -> None:
    assert told(tmp_path) == f"{tmp_path}: is empty; put the application and its files into it"


def test_a_directory_given_by_a_link_is_read_and_links_within_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "loop").symlink_to(".")
    (tmp_path / "real" / "dangling").symlink_to("/nowhere")
    (tmp_path / "given").symlink_to("real")
    assert paths(scan(tmp_path / "given")) == [b"dangling", b"loop"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every directory")
def test_an_unreadable_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0)
    assert told(tmp_path) == f"{tmp_path}/d: permission denied; make it readable for the build"
