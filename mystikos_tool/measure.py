"""MRENCLAVE: the SHA-256 that ECREATE, EADD and EEXTEND make of a layout (SDM volume 3D)."""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

from mystikos_tool.layout import Layout, Run
from mystikos_tool.pages import PAGE

SSA_FRAME_SIZE = 1

_ECREATE = struct.Struct("<8sIQ44x")
_HEADER_START = struct.Struct("<8sQQ")
_BLOCK = 256
_HEADER = 64
_BLOCKS = PAGE // _BLOCK
_CHUNK_PAGES = 64
_BATCH = 1 << 18


def mrenclave(layout: Layout) -> bytes:
    """Return a layout's MRENCLAVE, 32 bytes.

    What is hashed is assembled while another thread hashes what was assembled before, a few
    hundred KiB at a time, whatever the size of the enclave.
    """
    digest = hashlib.sha256(_ECREATE.pack(b"ECREATE\0", SSA_FRAME_SIZE, layout.size))
    hashing: Future[None] | None = None
    with ThreadPoolExecutor(1) as thread:
        for batch in _batches(piece for run in layout.runs for piece in _measured(run)):
            if hashing:
                hashing.result()
            hashing = thread.submit(digest.update, batch)
        if hashing:
            hashing.result()
    return digest.digest()


def _batches(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces, so that handing one to the other thread costs little beside hashing it."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _BATCH:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)


def _measured(run: Run) -> Iterator[bytes]:
    """Yield what a run of pages adds to the measurement."""
    offset, end = run.offset, run.offset + run.pages * PAGE
    if not run.measured:
        for start in range(offset, end, _CHUNK_PAGES * _BLOCKS * PAGE):
            yield _eadds(run, start, min((end - start) // PAGE, _CHUNK_PAGES * _BLOCKS))
        return
    for chunk in run.content.chunks(_CHUNK_PAGES * PAGE):
        pages = -(-len(chunk) // PAGE)
        if len(chunk) % PAGE:
            chunk = bytes(chunk).ljust(pages * PAGE, bytes([run.fill]))
        yield _extended(run, offset, pages, struct.unpack(_pieces(_BLOCK, pages * _BLOCKS), chunk))
        offset += pages * PAGE
    while offset < end:
        pages = min((end - offset) // PAGE, _CHUNK_PAGES)
        yield _extended(run, offset, pages, (bytes([run.fill]) * _BLOCK,) * (pages * _BLOCKS))
        offset += pages * PAGE


def _extended(run: Run, offset: int, pages: int, blocks: tuple[bytes, ...]) -> bytes:
    """Return the EADD and the sixteen EEXTENDs of each of ``pages`` pages."""
    eextends = _headers(b"EEXTEND\0", range(offset, offset + pages * PAGE, _BLOCK))
    headers = struct.unpack(_pieces(_HEADER, len(blocks)), eextends)
    stride = 1 + 2 * _BLOCKS
    pieces: list[bytes] = [b""] * (pages * stride)
    pieces[::stride] = struct.unpack(_pieces(_HEADER, pages), _eadds(run, offset, pages))
    for block in range(_BLOCKS):
        pieces[1 + 2 * block :: stride] = headers[block::_BLOCKS]
        pieces[2 + 2 * block :: stride] = blocks[block::_BLOCKS]
    return b"".join(pieces)


def _eadds(run: Run, offset: int, pages: int) -> bytes:
    return _headers(b"EADD\0\0\0\0", range(offset, offset + pages * PAGE, PAGE), run.flags)


def _headers(tag: bytes, offsets: range, flags: int = 0) -> bytes:
    """Return a header of 64 bytes for every offset."""
    headers = bytearray(_HEADER_START.pack(tag, 0, flags).ljust(_HEADER, b"\0") * len(offsets))
    memoryview(headers).cast("Q")[1 :: _HEADER // 8] = memoryview(array("Q", offsets))
    return bytes(headers)


@lru_cache
def _pieces(size: int, count: int) -> str:
    """Return the format of ``count`` strings of ``size`` bytes."""
    return f"{size}s" * count
