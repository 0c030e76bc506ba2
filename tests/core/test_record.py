from __future__ import annotations

import pytest

from mystikos_tool.formats.record import Field, Record

RECORD = Record(16, (Field("number", 2, "H"), Field("name", 8, "4s")))


@pytest.mark.parametrize("value", [b"", b"for", b"fours"])
def test_bytes_that_do_not_have_the_size_of_their_field_are_a_bug(value: bytes) -> None:
    with pytest.raises(ValueError, match=f"name has 4 bytes, not {len(value)}"):
        RECORD.pack({"name": value})


@pytest.mark.parametrize("size", [15, 17])
def test_a_record_of_another_size_is_a_bug(size: int) -> None:
    with pytest.raises(ValueError, match=f"a record of 16 bytes was expected, not of {size}"):
        RECORD.patch(bytes(size), {"number": 1})
