"""Fingerprints: which changes of a file they tell, and from when on they are not racy."""

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


def made(mtime: int, ctime: int) -> bytes:
    return struct.pack("=QQQqqQ", 1, 2, 3, mtime, ctime, 0o100644)


@pytest.mark.parametrize(
    ("mtime", "ctime", "racy"),
    [
        (NOW - 101 * MS, NOW - 101 * MS, False),
        (NOW - 99 * MS, NOW - 101 * MS, True),
        (NOW - 101 * MS, NOW - 99 * MS, True),
        (NOW - SECOND, NOW - SECOND, True),  # a file system that keeps whole seconds
        (NOW - 3 * SECOND, NOW - 3 * SECOND, False),
        (NOW + SECOND, NOW - 3 * SECOND, True),
        (0, NOW - 3 * SECOND, False),
    ],
)
def test_a_fingerprint_is_racy_until_it_is_older_than_the_clocks_tick(
    mtime: int, ctime: int, racy: bool
) -> None:
    assert fingerprint.is_racy(made(mtime, ctime), NOW) is racy


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.sampled_from([0o100644, 0o40755]))))
def test_several_fingerprints_are_split_again(files: list[tuple[int, int]]) -> None:
    several = [struct.pack("=QQQqqQ", 1, 2, size, 3, 4, mode) for size, mode in files]
    assert list(fingerprint.split(b"".join(several))) == several
    assert list(fingerprint.sizes_and_modes(b"".join(several))) == files


def test_a_file_has_its_fingerprint_until_it_changes_or_is_gone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    known = fingerprint.of((tmp_path / "file").stat())
    assert fingerprint.is_of(known, tmp_path / "file")
    (tmp_path / "file").write_text("longer content")
    assert not fingerprint.is_of(known, tmp_path / "file")
    (tmp_path / "file").unlink()
    assert not fingerprint.is_of(known, tmp_path / "file")


def test_a_new_link_to_a_file_changes_its_fingerprint_and_not_its_contents_version(tmp_path: Path) -> None:
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
