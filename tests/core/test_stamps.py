"""Stamps: which changes of a file they tell, and from when on they can be believed."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystikos_tool import stamps

MS = 1_000_000
SECOND = 1000 * MS
NOW = 1_700_000_000 * SECOND


def stamp(mtime: int, ctime: int) -> bytes:
    return struct.pack("=QQQqqQ", 1, 2, 3, mtime, ctime, 0o100644)


@pytest.mark.parametrize(
    ("mtime", "ctime", "settled"),
    [
        (NOW - 101 * MS, NOW - 101 * MS, True),
        (NOW - 99 * MS, NOW - 101 * MS, False),
        (NOW - 101 * MS, NOW - 99 * MS, False),
        (NOW - SECOND, NOW - SECOND, False),  # a file system that keeps whole seconds
        (NOW - 3 * SECOND, NOW - 3 * SECOND, True),
        (NOW + SECOND, NOW - 3 * SECOND, False),
        (0, NOW - 3 * SECOND, True),
    ],
)
def test_a_stamp_is_settled_when_it_is_older_than_the_clocks_tick(
    mtime: int, ctime: int, settled: bool
) -> None:
    assert stamps.is_settled(stamp(mtime, ctime), NOW) is settled


times = st.integers(NOW - 4 * SECOND, NOW + SECOND) | st.sampled_from([NOW - 3 * SECOND, NOW - 2 * SECOND])


@given(st.lists(st.tuples(times, times)))
def test_many_stamps_are_judged_like_one(drawn: list[tuple[int, int]]) -> None:
    taken = [stamp(mtime, ctime) for mtime, ctime in drawn]
    assert stamps.settled(taken, NOW) == [stamps.is_settled(one, NOW) for one in taken]


def test_a_new_link_to_a_file_changes_its_stamp_and_not_its_contents_version(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    before = stamps.of((tmp_path / "file").stat())
    assert stamps.of((tmp_path / "file").stat()) == before
    while stamps.of((tmp_path / "file").stat()) == before:
        (tmp_path / "link").unlink(missing_ok=True)
        os.link(tmp_path / "file", tmp_path / "link")
    after = stamps.of((tmp_path / "file").stat())
    assert stamps.content_version(after) == stamps.content_version(before)
    (tmp_path / "file").write_text("longer content")
    assert stamps.content_version(stamps.of((tmp_path / "file").stat())) != stamps.content_version(before)
