"""What is shown of names and texts that may be a hostile package's."""

from __future__ import annotations

import os
import sys
import unicodedata

import pytest

from mystikos_tool import printable
from mystikos_tool.errors import UserError

SHOWN = [
    ("größe 名前 🙂", "größe 名前 🙂"),
    ("a\x1b[2Kb\r\x00\x7f\x9b", r"a\x1b[2Kb\x0d\x00\x7f\x9b"),
    ("a\nb\tc\x0b\x0c\x85", r"a\x0ab\x09c\x0b\x0c\x85"),
    ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
    ("\u202egnp.exe\u2066\u200f\u061c", r"\u202egnp.exe\u2066\u200f\u061c"),
    ("zero\u200b\ufeff\u00adwidth", r"zero\u200b\ufeff\xadwidth"),
    ("\U000e0041\U0010fffd", r"\U000e0041\U0010fffd"),
    (os.fsdecode(b"a\xff"), r"a\xff"),
    ("\ud800", r"\ud800"),
]


@pytest.mark.parametrize(("text", "shown"), SHOWN, ids=[ascii(text) for text, _ in SHOWN])
def test_what_prints_nothing_or_moves_what_does_is_shown_by_its_number(text: str, shown: str) -> None:
    assert printable.one_line(text) == printable.printable(text) == shown
    assert str(UserError(text, text, "mend it")) == f"{shown}: {shown}; mend it"


def test_of_all_characters_none_is_shown_as_it_is_that_begins_a_line_or_turns_the_direction() -> None:
    turning = {"RLE", "LRE", "RLO", "LRO", "PDF", "RLI", "LRI", "FSI", "PDI"}
    shown = printable.one_line("".join(map(chr, range(sys.maxunicode + 1))))
    assert len(shown.splitlines()) == 1
    assert not {unicodedata.bidirectional(character) for character in shown} & turning
    assert not {"\u200e", "\u200f", "\u061c"} & set(shown)


def test_several_lines_keep_their_ends_and_tabs_and_nothing_else() -> None:
    assert printable.lines("a\tb\nc\r\u2028d\n") == "a\tb\nc\\x0d\\u2028d\n"


def test_of_a_long_text_the_rest_is_left_out() -> None:
    assert printable.printable("x" * 500) == "x" * 400 + "…"
    assert printable.printable(b"\xff" * 10**6, 8) == r"\xff\xff…"
