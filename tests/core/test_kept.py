from __future__ import annotations

import os
from pathlib import Path

import pytest

from mystikos_tool.errors import UserError
from mystikos_tool.io.atomic import read_input
from mystikos_tool.io.kept import kept

LONG_AGO = 10**18


class Reading:
    """A kept function that counts how often it reads."""

    def __init__(self, files: int = 2) -> None:
        self.reads = 0
        self.of = kept(files)(self._read)

    def _read(self, path: Path) -> bytes:
        self.reads += 1
        return read_input(path, "file")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is not racy: by the clock of this test it was written long ago."""
    monkeypatch.setattr("time.time_ns", lambda: 1 << 62)
    (tmp_path / "file").write_bytes(b"one")
    return tmp_path / "file"


def test_a_file_that_stays_as_it_is_is_read_once(path: Path) -> None:
    reading = Reading()
    assert [reading.of(path) for _ in range(3)] == [b"one"] * 3
    assert reading.reads == 1


def test_a_changed_file_is_read_again(path: Path) -> None:
    reading = Reading()
    reading.of(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    assert reading.of(path) == b"two"


def test_a_replaced_file_is_read_again(path: Path) -> None:
    reading = Reading()
    reading.of(path)
    other = path.with_name("other")
    other.write_bytes(b"two")
    other.replace(path)
    assert reading.of(path) == b"two"


def test_what_was_just_written_is_not_kept(tmp_path: Path) -> None:
    path, reading = tmp_path / "file", Reading()
    path.write_bytes(b"one")
    reading.of(path)
    reading.of(path)
    assert reading.reads == 2


def test_no_more_files_are_kept_than_it_is_told(path: Path) -> None:
    reading, other = Reading(files=1), path.with_name("other")
    other.write_bytes(b"two")
    for one in (path, other, path):
        reading.of(one)
    assert reading.reads == 3


def test_a_missing_file_is_told_each_time(path: Path) -> None:
    reading = Reading()
    for _ in range(2):
        with pytest.raises(UserError, match="there is no such file"):
            reading.of(path.with_name("missing"))
