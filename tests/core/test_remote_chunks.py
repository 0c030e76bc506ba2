"""Large files are cut where REAPI's servers cut them; kept chunks may be lost or damaged."""

from __future__ import annotations

import hashlib
import io
import os
import random
from pathlib import Path

from mystikos_tool.cache.remote.chunks import ChunkStore, cut
from mystikos_tool.cache.remote.digest import Digest, of
from mystikos_tool.cache.remote.server import Chunking

MASKS = {12: 0x0000D90103530000, 16: 0x0000D90303537000}  # FastCDC 2020, by the bits of a size
GEAR = [int.from_bytes(hashlib.md5(bytes([byte]) * 64).digest()[:8], "big") for byte in range(256)]


def reference(data: bytes, average: int) -> list[int]:
    """The sizes of the chunks, by the paper's algorithm, a byte a step."""
    sizes = []
    while data:
        size = first_cut(data, average)
        sizes.append(size)
        data = data[size:]
    return sizes


def first_cut(data: bytes, average: int) -> int:
    least, most = average // 4, average * 4
    if len(data) <= least:
        return len(data)
    gear = 0
    for at in range(least, min(len(data), most)):
        gear = (gear << 1) + GEAR[data[at]] & (1 << 64) - 1
        if not gear & MASKS[16 if at < min(average, len(data)) else 12]:
            return at
    return min(len(data), most)


def test_files_are_cut_as_the_paper_says() -> None:
    data = random.Random(1).randbytes(400_000)
    found = cut(io.BytesIO(data), Chunking(1 << 14, 0))
    assert found.digest == of(data)
    assert [chunk.digest.size for chunk in found.chunks] == reference(data, 1 << 14)


def test_chunks_make_up_the_file() -> None:
    data = random.Random(2).randbytes(300_000)
    kept: dict[Digest, bytes] = {}
    found = cut(io.BytesIO(data), Chunking(1 << 14, 666), kept.__setitem__)
    assert b"".join(kept[chunk.digest] for chunk in found.chunks) == data
    assert [data[chunk.offset :][: chunk.digest.size] for chunk in found.chunks] == list(kept.values())


def test_an_empty_file_has_no_chunks() -> None:
    assert cut(io.BytesIO(b""), Chunking(1 << 14, 0)) == (of(b""), [])


def test_a_chunk_comes_back_unless_it_is_damaged(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path / "chunks", 10**6)
    store.put(of(b"chunk"), b"chunk")
    assert of(b"chunk") in store
    assert store.get(of(b"chunk")) == b"chunk"
    assert store.get(of(b"other")) is None
    (kept,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_bytes(b"chunK")
    assert store.get(of(b"chunk")) is None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, 1000)
    blobs = [bytes([number]) * 100 for number in range(12)]
    for age, data in enumerate(blobs):
        store.put(of(data), data)
        path = tmp_path / of(data).hash[:2] / of(data).hash
        os.utime(path, (10**9 + age, 10**9 + age))
    store.get(of(blobs[0]))
    store.trim()
    kept = [number for number, data in enumerate(blobs) if of(data) in store]
    assert kept == [0, 5, 6, 7, 8, 9, 10, 11]


def test_a_store_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for directory in (None, tmp_path / "file" / "below"):
        store = ChunkStore(directory, 1000)
        store.put(of(b"x"), b"x")
        assert store.get(of(b"x")) is None
        store.trim()
