from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystikos_tool.io.sha256 import BLOCK, Sha256, is_available

pytestmark = pytest.mark.skipif(not is_available(), reason="needs OpenSSL's SHA256_Update")

pieces = st.lists(st.binary(max_size=5 * BLOCK))


@given(st.integers(0, 20).map(lambda count: bytes(count * BLOCK)), pieces)
def test_a_digest_that_goes_on_from_a_state_is_that_of_hashlib(begun: bytes, rest: list[bytes]) -> None:
    first, second = Sha256(), Sha256()
    first.update(begun)
    second.go_on(first.state, first.size)
    for piece in rest:
        first.update(piece)
        second.update(memoryview(bytearray(piece)))
    expected = hashlib.sha256(begun + b"".join(rest)).digest()
    assert first.digest() == second.digest() == expected
    assert first.size == second.size == len(begun) + len(b"".join(rest))


@pytest.mark.parametrize("blocks", [(1 << 23) - 1, 1 << 23, 1 << 40])
def test_a_state_behind_more_than_half_a_gigabyte_counts_all_bits(blocks: int) -> None:
    digest = Sha256()
    digest.go_on(bytes(32), blocks * BLOCK)
    padding = b"\x80" + bytes(55) + (blocks * BLOCK * 8).to_bytes(8, "big")
    other = Sha256()
    other.go_on(bytes(32), blocks * BLOCK)
    other.update(padding)
    assert digest.digest() == other.state
