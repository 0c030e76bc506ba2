"""MRENCLAVE: the SHA-256 that ECREATE, EADD and EEXTEND make of a layout (SDM volume 3D)."""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import cycle
from queue import SimpleQueue
from threading import Thread

from mystikos_tool.enclave.layout import Layout, Run
from mystikos_tool.io.pages import PAGE

SSA_FRAME_SIZE = 1

_ECREATE = struct.Struct("<8sIQ44x")
_HEADER_START = struct.Struct("<8sQQ")
_HEADER = 64
_BLOCK = 256
_BLOCKS = PAGE // _BLOCK
_EXTENDED_BLOCK = _HEADER + _BLOCK
_EXTENDED_PAGE = _HEADER + _BLOCKS * _EXTENDED_BLOCK
_WORD = 8
_OFFSET = 1  # the header's word that says where a page or block lies
_FLAGS = 2
_PAGES = 128
_FEW_PAGES = 12
_ADDED_PAGES = 1024
_WORTH_A_THREAD = (_FEW_PAGES + 1) * _EXTENDED_PAGE
# One is filled, one hashed, and one waits, so that neither thread does.
_BUFFERS = 3


def mrenclave(layout: Layout) -> bytes:
    """Return a layout's MRENCLAVE, 32 bytes.

    What is hashed is assembled in one buffer while another thread hashes what is in the others,
    some hundred KiB each, whatever the size of the enclave.
    """
    digest = hashlib.sha256(_ECREATE.pack(b"ECREATE\0", SSA_FRAME_SIZE, layout.size))
    with _Hashing(digest.update) as hashing:
        for piece in _pieces(layout):
            hashing.update(piece)
    return digest.digest()


class _Hashing:
    """Hashes pieces in their order, large ones in a thread of its own, to the end of the context."""

    def __init__(self, hash_piece: Callable[[bytes | memoryview], None]) -> None:
        self._hash = hash_piece
        self._pieces: SimpleQueue[bytes | memoryview | None] = SimpleQueue()
        self._hashed: SimpleQueue[BaseException | None] = SimpleQueue()
        self._waiting = 0
        self._thread = Thread(target=self._run)

    def __enter__(self) -> _Hashing:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pieces.put(None)
        self._thread.join()
        if kind is None:
            self._wait(0)

    def update(self, piece: bytes | memoryview) -> None:
        """Hash a piece; a large one is to stay as it is until so many others were given."""
        if len(piece) >= _WORTH_A_THREAD:
            self._pieces.put(piece)
            self._waiting += 1
            self._wait(_BUFFERS - 1)
        else:
            self._wait(0)
            self._hash(piece)

    def _wait(self, left: int) -> None:
        """Wait until no more than ``left`` pieces are still to be hashed."""
        while self._waiting > left:
            self._waiting -= 1
            if error := self._hashed.get():
                raise error

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            try:
                self._hash(piece)
            except BaseException as error:  # is raised where the piece was given
                self._hashed.put(error)
            else:
                self._hashed.put(None)


def _pieces(layout: Layout) -> Iterator[bytes | memoryview]:
    """Yield what is hashed of all pages, in buffers that are used again in turn.

    The small one's pieces are not worth a thread: they are hashed before the next one is asked for.
    """
    small = cycle([_ExtendedPages(_FEW_PAGES)])
    large: Iterator[_ExtendedPages] | None = None
    for run in layout.runs:
        if not run.measured:
            yield from _added(run)
        elif run.pages <= _PAGES:
            yield from _extended(run, small)
        else:
            large = large or cycle([_ExtendedPages(_PAGES) for _ in range(_BUFFERS)])
            yield from _extended(run, large)


def _added(run: Run) -> Iterator[bytes]:
    """Yield the EADDs of pages whose content is not measured."""
    end = run.offset + run.pages * PAGE
    for start in range(run.offset, end, _ADDED_PAGES * PAGE):
        count = min((end - start) // PAGE, _ADDED_PAGES)
        headers = bytearray(_header(b"EADD\0\0\0\0", run.flags) * count)
        memoryview(headers).cast("Q")[_OFFSET :: _HEADER // _WORD] = _every(PAGE, start, count)
        yield bytes(headers)


def _extended(run: Run, buffers: Iterator[_ExtendedPages]) -> Iterator[memoryview]:
    """Yield the EADD and the sixteen EEXTENDs of each page of a run."""
    left = run.pages
    with run.content.opened() as content:
        while left:
            buffer = next(buffers)
            count = min(left, buffer.pages)
            blocks = buffer.blocks[: count * _BLOCKS]
            size = content.read_into(blocks)
            if size < count * PAGE:
                _fill(blocks, size, run.fill)
            buffer.place(run.offset + (run.pages - left) * PAGE, run.flags, count)
            left -= count
            yield buffer.data[: count * _EXTENDED_PAGE]


def _fill(blocks: list[memoryview], start: int, value: int) -> None:
    """Give the bytes of blocks from ``start`` one value."""
    filler = bytes([value]) * _BLOCK
    full, rest = divmod(start, _BLOCK)
    if rest:
        blocks[full][rest:] = filler[rest:]
        full += 1
    for block in blocks[full:]:
        block[:] = filler


class _ExtendedPages:
    """What is hashed for measured pages: of each its EADD, then sixteen EEXTENDs with 256 bytes of it.

    ``blocks`` are the places of the content between the headers.
    """

    def __init__(self, pages: int) -> None:
        page = _header(b"EADD\0\0\0\0") + (_header(b"EEXTEND\0") + bytes(_BLOCK)) * _BLOCKS
        self.data = memoryview(bytearray(page * pages))
        self.pages = pages
        self._words = self.data.cast("Q")
        self.blocks = [
            self.data[start + _HEADER : start + _EXTENDED_BLOCK]
            for page_start in range(_HEADER, len(self.data), _EXTENDED_PAGE)
            for start in range(page_start, page_start + _BLOCKS * _EXTENDED_BLOCK, _EXTENDED_BLOCK)
        ]

    def place(self, offset: int, flags: int, count: int) -> None:
        """Write into the headers where ``count`` pages lie, one behind the other, and their flags."""
        stride = _EXTENDED_PAGE // _WORD
        words = self._words[: count * stride]
        blocks = _every(_BLOCK, offset, count * _BLOCKS)
        words[_OFFSET::stride] = blocks[::_BLOCKS]
        words[_FLAGS::stride] = memoryview(array("Q", [flags]) * count)
        for block in range(_BLOCKS):
            header = (_HEADER + block * _EXTENDED_BLOCK) // _WORD
            words[header + _OFFSET :: stride] = blocks[block::_BLOCKS]


def _header(tag: bytes, flags: int = 0) -> bytes:
    return _HEADER_START.pack(tag, 0, flags).ljust(_HEADER, b"\0")


def _every(step: int, start: int, count: int) -> memoryview:
    """Return ``count`` words from ``start`` on: one addition to all, as one large number."""
    words, ones = _words(step, count)
    return memoryview((words + start * ones).to_bytes(count * _WORD, sys.byteorder)).cast("Q")


@lru_cache
def _words(step: int, count: int) -> tuple[int, int]:
    """Return the words 0, ``step``, twice ``step`` and so on as one number, and as many ones."""
    words = array("Q", range(0, count * step, step)), array("Q", [1]) * count
    return int.from_bytes(words[0], sys.byteorder), int.from_bytes(words[1], sys.byteorder)
