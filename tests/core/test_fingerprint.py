"""Stamps: which changes of a file they tell, and from when on they can be believed."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystikos_tool.io import fingerprint

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
    assert fingerprint.is_settled(stamp(mtime, ctime), NOW) is settled


names = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), unique=True)
old_stamps = st.lists(st.sampled_from([b"", stamp(1, 1), stamp(2, 2)]), min_size=4, max_size=4)
new_stamps = st.lists(st.sampled_from([stamp(1, 1), stamp(2, 2)]), min_size=4, max_size=4)


@given(names, old_stamps, names, new_stamps)
def test_a_file_is_known_by_its_path_and_its_stamp(
    old: list[bytes], old_stamps: list[bytes], new: list[bytes], new_stamps: list[bytes]
) -> None:
    old_stamps, new_stamps = old_stamps[: len(old)], new_stamps[: len(new)]
    before = list(zip(old, old_stamps, strict=True))
    expected = [before.index(file) if file in before else -1 for file in zip(new, new_stamps, strict=True)]
    assert fingerprint.known(new, new_stamps, old, old_stamps) == expected


def test_where_no_path_changed_only_stamps_are_compared() -> None:
    old, young = stamp(1, 1), stamp(2, 2)
    assert fingerprint.known([b"a", b"b"], [old, young], [b"a", b"b"], [old, old]) == [0, -1]


def test_a_stamp_is_believed_when_it_was_before_or_is_settled() -> None:
    old, young = stamp(1, NOW - 3 * SECOND), stamp(1, NOW)
    assert fingerprint.believed([old, young, young, old], [-1, -1, 3, 0], NOW) == [old, b"", young, old]


def test_a_new_link_to_a_file_changes_its_stamp_and_not_its_contents_version(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    before = fingerprint.of((tmp_path / "file").stat())
    assert fingerprint.of((tmp_path / "file").stat()) == before
    while fingerprint.of((tmp_path / "file").stat()) == before:
        (tmp_path / "link").unlink(missing_ok=True)
        os.link(tmp_path / "file", tmp_path / "link")
    after = fingerprint.of((tmp_path / "file").stat())
    assert fingerprint.content_version(after) == fingerprint.content_version(before)
    (tmp_path / "file").write_text("longer content")
    assert fingerprint.content_version(
        fingerprint.of((tmp_path / "file").stat())
    ) != fingerprint.content_version(before)
