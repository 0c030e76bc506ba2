from __future__ import annotations

import io

import pytest

from mystikos_tool.io.console import shown, write_line


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "größe → 1…"),
        ("latin-1", "größe -> 1..."),
        ("ascii", r"gr\xf6\xdfe -> 1..."),
    ],
)
def test_text_has_the_characters_that_the_stream_can_write(encoding: str, expected: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert shown("größe → 1…", stream) == expected
    write_line("größe → 1…", stream)


def test_a_name_that_is_no_text_can_be_written() -> None:
    assert shown("a\udcff", io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == r"a\udcff"


def test_a_stream_without_an_encoding_takes_everything() -> None:
    stream = io.StringIO()
    write_line("→", stream)
    assert stream.getvalue() == "→\n"
