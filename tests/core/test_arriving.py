"""A file that comes piece by piece can be read before it is whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mystikos_tool.io.arriving import Arriving, RefusedError
from mystikos_tool.io.content import FileContent, whole
from mystikos_tool.root import archive
from mystikos_tool.root.archive import DifferentError, Held
from mystikos_tool.root.source import DirectorySource


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "program").write_bytes(bytes(range(256)) * 5000)
    (root / "text").write_text("text")
    return root


def test_what_is_there_is_read_before_the_rest_comes(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as opened, ThreadPoolExecutor(1) as reader:
        file = Arriving(opened, 8)
        file.write(b"1234")
        with file.at_any_offset() as read_at:
            assert read_at(1, 3) == b"234"
            rest = reader.submit(read_at, 2, 6)
            file.write(b"56")
            assert not rest.done()
            file.write(b"78")
            assert rest.result(10) == b"345678"


def test_what_is_refused_is_not_written_on(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as opened:
        file = Arriving(opened, 8)
        file.write(b"1234")
        file.refuse()
        with pytest.raises(RefusedError):
            file.write(b"5678")
        assert file.written == 4


def test_reading_ends_where_no_more_comes(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as opened, ThreadPoolExecutor(1) as reader:
        file = Arriving(opened, 8)
        file.write(b"1234")
        with file.at_any_offset() as read_at:
            cut, nothing = reader.submit(read_at, 2, 6), reader.submit(read_at, 6, 2)
            file.end()
            assert cut.result(10) == b"34"
            assert nothing.result(10) == b""


def test_an_archive_is_held_to_its_tree_while_it_comes(root: Path, tmp_path: Path) -> None:
    tree = DirectorySource(root).tree()
    archive.write(tree, tmp_path / "archive")
    data = (tmp_path / "archive").read_bytes()
    with (tmp_path / "file").open("w+b") as opened, ThreadPoolExecutor(1) as reader:
        file = Arriving(opened, len(data) + 7)
        held = Held(tree, file, 7)
        read = reader.submit(whole, held)
        for at in range(0, len(data), 100_000):
            file.write(bytes(7)[at:] + data[at : at + 100_000])
        assert read.result(10) == data and held.is_same


@pytest.mark.parametrize("place", [0, 115, 500_000, -1])
def test_an_archive_that_differs_in_one_byte_is_another(root: Path, tmp_path: Path, place: int) -> None:
    tree = DirectorySource(root).tree()
    archive.write(tree, tmp_path / "archive")
    data = bytearray((tmp_path / "archive").read_bytes())
    data[place] ^= 1
    (tmp_path / "archive").write_bytes(data)
    held = Held(tree, FileContent.of(tmp_path / "archive"), 0)
    with pytest.raises(DifferentError):
        whole(held)
    assert not held.is_same


def test_an_archive_that_ends_too_early_is_another(root: Path, tmp_path: Path) -> None:
    tree = DirectorySource(root).tree()
    with (tmp_path / "file").open("w+b") as opened:
        file = Arriving(opened, 1_000_000)
        file.write(b"070701")
        file.end()
        with pytest.raises(DifferentError):
            whole(Held(tree, file, 0))
