"""The content of a source's files, in pieces."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from mystikos_tool.errors import UserError
from mystikos_tool.io import buffers
from mystikos_tool.io.content import FileContent
from mystikos_tool.root.source import scan_file
from mystikos_tool.root.tree import Entry

SIZE = buffers.SIZE


def entry_of(path: Path) -> Entry:
    return scan_file(path, "file").entries[0]


def sparse(path: Path, size: int, *places: int) -> None:
    """Make a file with a few bytes at places and holes elsewhere."""
    with path.open("wb") as file:
        for place in places:
            file.seek(place)
            file.write(b"content")
        file.truncate(size)


@pytest.mark.parametrize(
    ("size", "places"),
    [
        (0, ()),
        (1, ()),
        (3 * SIZE + 5, ()),
        (3 * SIZE, (0,)),
        (3 * SIZE + 7, (SIZE - 3, 2 * SIZE + 4097)),
        (5 * SIZE, (5 * SIZE - 7,)),
        (SIZE, (0, 4096, SIZE - 7)),
    ],
)
def test_a_file_with_holes_is_read_as_if_it_had_none(
    tmp_path: Path, size: int, places: tuple[int, ...]
) -> None:
    sparse(tmp_path / "file", size, *places)
    pieces = list(map(bytes, entry_of(tmp_path / "file").chunks()))
    assert b"".join(pieces) == (tmp_path / "file").read_bytes()
    assert all(0 < len(piece) <= SIZE for piece in pieces)


def test_a_hole_costs_no_reading(tmp_path: Path) -> None:
    sparse(tmp_path / "file", 200 << 30, 100 << 30)
    assert sum(map(len, entry_of(tmp_path / "file").chunks())) == 200 << 30


@pytest.mark.parametrize("now", [0, 3, SIZE, 2 * SIZE + 1, 4 * SIZE])
@pytest.mark.parametrize("holes", [True, False])
def test_a_file_that_becomes_shorter_or_longer_meanwhile_is_refused(
    tmp_path: Path, now: int, holes: bool
) -> None:
    path = tmp_path / "file"
    sparse(path, 2 * SIZE, *([SIZE] if holes else range(0, 2 * SIZE - 7, 4096)))
    pieces = entry_of(path).chunks()
    next(pieces)
    os.truncate(path, now)
    with pytest.raises(UserError, match="changed while it was read"):
        list(pieces)


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_has_taken_the_place_of_a_file_is_not_read_and_not_waited_for(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    entry = entry_of(path)
    path.unlink()
    put(path)
    with pytest.raises(UserError, match="changed while it was read"):
        list(entry.chunks())


def test_two_files_are_read_at_a_time_without_disturbing_each_other(tmp_path: Path) -> None:
    contents = [os.urandom(3 * SIZE) for _ in range(2)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}").write_bytes(content)
    pieces = zip(*(entry_of(tmp_path / f"{number}").chunks() for number in range(2)), strict=True)
    found = [(bytes(one), bytes(other)) for one, other in pieces]
    assert [b"".join(piece[number] for piece in found) for number in range(2)] == contents


@pytest.mark.parametrize("size", [7, SIZE + 7], ids=["small", "large"])
def test_a_disk_that_fails_is_told_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "file").write_bytes(bytes(size))
    entry = entry_of(tmp_path / "file")
    for name in ("pread", "preadv", "readv"):
        monkeypatch.setattr(os, name, fail)
    with pytest.raises(UserError, match=f"{tmp_path}/file: input/output error; make it readable"):
        list(entry.chunks())
    with entry.contents.opened(entry) as read_at, pytest.raises(UserError, match="/file: input/output error"):
        read_at(0, 1)
    content = FileContent.of(tmp_path / "file")
    with pytest.raises(UserError, match="/file: input/output error; see that it can be read"):
        content.read()
    with content.at_any_offset() as read_at, pytest.raises(UserError, match="/file: input/output error"):
        read_at(0, 1)


def test_a_file_that_is_not_there_is_not_called_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        scan_file(tmp_path / "none", "none")
    assert str(error.value) == f"{tmp_path}/none: no such file or directory; create it, or correct the path"
