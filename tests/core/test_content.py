from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mystikos_tool.errors import UserError
from mystikos_tool.io.content import Bytes, FileContent, pieces, whole
from mystikos_tool.io.pages import align_up, page_up, power_of_two_up


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.binary(max_size=30), st.integers(1, 100))
def test_a_part_of_a_file_is_like_bytes_in_memory(
    tmp_path: Path, data: bytes, before: bytes, size: int
) -> None:
    (tmp_path / "file").write_bytes(before + data + b"behind")
    in_file, in_memory = FileContent(tmp_path / "file", len(data), len(before)), Bytes(data)
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    for content in (in_file, in_memory):
        assert content.size == len(data)
        assert content.read() == data
        assert [bytes(chunk) for chunk in content.chunks(size)] == parts
        assert content.part(len(data) // 2, len(data) // 3).read() == data[len(data) // 2 :][: len(data) // 3]
        with content.at_any_offset() as read_at:
            for at in (0, 1, len(data) // 2, len(data), len(data) + 1):
                assert read_at(at, size) == data[at : at + size]
        with (tmp_path / "target").open("w+b") as target:
            target.write(b"<")
            content.write_to(target)
            target.write(b">")
        assert (tmp_path / "target").read_bytes() == b"<" + data + b">"


def test_what_is_read_in_pieces_and_ends_before_it_should_is_told() -> None:
    error = UserError("file", "ends", "make it again")
    with Bytes(b"0123456789" * 300_000).at_any_offset() as read_at:
        found = list(pieces(read_at, 5, 2_500_000, error))
        assert b"".join(found) == b"5678901234" * 250_000
        assert max(map(len, found)) == 1 << 20
        with pytest.raises(UserError) as raised:
            list(pieces(read_at, 5, 3_000_000, error))
    assert raised.value is error


def test_a_whole_file_is_taken_with_its_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert FileContent.of(tmp_path / "file") == FileContent(tmp_path / "file", 5)


def test_content_is_equal_to_the_same_content_and_to_no_tuple() -> None:
    assert Bytes(b"1") == Bytes(b"1")
    assert Bytes(b"1") != (b"1",)
    assert FileContent(Path("file"), 5) != (Path("file"), 5, 0)
    assert FileContent(Path("file"), 5) != FileContent(Path("file"), 5, 1)


@pytest.mark.parametrize("size", [0, 1, 5000])
def test_small_content_is_read_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    assert whole(FileContent.of(tmp_path / "file")) == whole(Bytes(b"x" * size)) == b"x" * size


@pytest.mark.parametrize(
    ("name", "problem"), [("missing", "no such file or directory"), ("fifo", "is not a regular file")]
)
def test_what_is_no_file_is_told(tmp_path: Path, name: str, problem: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UserError, match=f"{name}: {problem}"):
        FileContent.of(tmp_path / name)


def test_a_file_that_became_shorter_is_told_by_every_way_to_read_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    content = FileContent.of(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"123")
    with (tmp_path / "target").open("w+b") as target:
        for read in (content.read, lambda: list(content.chunks(2)), lambda: content.write_to(target)):
            with pytest.raises(UserError, match="file: became shorter while it was read; build again"):
                read()


@given(st.integers(0, 1 << 60), st.sampled_from([0, 1, 2, 3, 64, 4096]))
def test_sizes_are_rounded_up_to_the_least_multiple(size: int, step: int) -> None:
    rounded = align_up(size, step)
    assert rounded % max(step, 1) == 0
    assert size <= rounded < size + max(step, 1)
    assert page_up(size) == align_up(size, 4096)


@given(st.integers(1, 1 << 60))
def test_sizes_are_rounded_up_to_the_least_power_of_two(size: int) -> None:
    power = power_of_two_up(size)
    assert power & (power - 1) == 0
    assert power // 2 < size <= power
