"""MRENCLAVE: the SHA-256 that ECREATE, EADD and EEXTEND make of a layout (SDM volume 3D).

What is hashed is assembled in pieces of several hundred kilobytes, so that other threads run while one is
hashed. A piece is the same pages many times over: only their offsets, flags and content differ.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, takewhile
from typing import TypeGuard

from mystikos_tool.enclave.layout import Layout, Repeat, Run
from mystikos_tool.io.content import Bytes, whole
from mystikos_tool.io.pages import PAGE

SSA_FRAME_SIZE = 1

_ECREATE = struct.Struct("<8sIQ44x")
_EADD = struct.Struct("<8sQQ40x")
_EEXTEND = struct.Struct("<8sQ48x")
_WORD = 8
_BLOCK = 256
_BLOCKS = PAGE // _BLOCK
_EXTENDED = _EEXTEND.size + _BLOCK
MEASURED_PAGE = _EADD.size + _BLOCKS * _EXTENDED
_OFFSET, _FLAGS = 1, 2  # in EADD, in words of 8 bytes
_BLOCK_OFFSETS = range(_EADD.size + _WORD, MEASURED_PAGE, _EXTENDED)  # in what is hashed of a page
# For each block of a page, what the second byte of the page's offset is in the block's.
_BLOCK_NUMBERS = [bytes(byte | number for byte in range(256)) for number in range(_BLOCKS)]
_OFFSET_BITS = 48  # that are written; no address space of x86-64 is larger
_PAGES = 128  # with content, in a piece
_PIECE, _COPIES = 1 << 20, 4096  # bytes, and times, in a piece of pages that repeat
_FEW_PAGES = 4  # are not worth a buffer
_MANY_PAGES = 4096  # are worth another thread, and are not kept in memory

_Write = Callable[[bytes | memoryview], object]

# What the stream of the enclave that was measured last began with, and the digest behind each of it.
_last: list[tuple[int | Run | Repeat, hashlib._Hash]] = []


def mrenclave(layout: Layout) -> bytes:
    """Return a layout's MRENCLAVE, 32 bytes; the memory for it does not grow with the enclave.

    The streams of apps with one runtime begin alike: what the last one had in common is not hashed again.
    """
    global _last
    operations = (layout.size, *layout.stream)
    pairs = zip(_last, operations, strict=False)
    begun = [known for known, _ in takewhile(lambda pair: pair[0][0] == pair[1], pairs)]
    digest = begun[-1][1].copy() if begun else hashlib.sha256()
    kept = _kept(layout.stream)
    buffers = _buffers(operations[len(begun) :])
    for operation in operations[len(begun) :]:
        _write_operation(operation, digest.update, buffers)
        if len(begun) <= kept:
            begun.append((operation, digest.copy()))
    _last = begun
    return digest.digest()


def _kept(stream: Sequence[Run | Repeat]) -> int:
    """Return how many operations at the start of a stream may be kept: those with small content in memory."""
    pages = 0
    for number, operation in enumerate(stream):
        if not (isinstance(operation, Run) and isinstance(operation.content, Bytes)):
            return number
        pages += operation.pages
        if pages >= _MANY_PAGES or not isinstance(operation.content.data, bytes):
            return number
    return len(stream)


def write_stream(layout: Layout, write: _Write) -> None:
    """Give what is hashed for a layout's MRENCLAVE to ``write``, in pieces that it must not keep.

    This is SGXS: 64 bytes for each ECREATE, EADD and EEXTEND, and behind EEXTEND the 256 that it measures.
    """
    write_pages((layout.size, *layout.stream), write)


def write_pages(operations: Sequence[int | Run | Repeat], write: _Write) -> None:
    """Give to ``write`` what is hashed of a part of a stream, or of the size of an enclave."""
    buffers = _buffers(operations)
    for operation in operations:
        _write_operation(operation, write, buffers)


def hashed_size(layout: Layout) -> int:
    """Return how many bytes are hashed for a layout's MRENCLAVE, which tells how long that takes."""
    return sum(
        run.pages * (MEASURED_PAGE if run.measured else _EADD.size) * count
        for runs, count in map(_repetition, layout.stream)
        for run in runs
    )


def _repetition(operation: Run | Repeat) -> tuple[Sequence[Run], int]:
    return (operation.runs, operation.times) if isinstance(operation, Repeat) else ((operation,), 1)


def _buffers(operations: Sequence[int | Run | Repeat]) -> list[_MeasuredPages]:
    """Return buffers for the content of runs, two to be used in turn where there is much of it."""
    streams = (_repetition(operation)[0] for operation in operations if not isinstance(operation, int))
    most = max((run.pages for runs in streams for run in runs if _is_read(run)), default=0)
    return [_MeasuredPages(min(most, _PAGES)) for _ in range((most > 0) + (most >= _MANY_PAGES))]


def _is_read(operation: int | Run | Repeat) -> TypeGuard[Run]:
    """Tell whether an operation is a run with content that is worth a buffer."""
    if not (isinstance(operation, Run) and operation.measured):
        return False
    return operation.pages > _FEW_PAGES and operation.content.size > 0


def _write_operation(operation: int | Run | Repeat, write: _Write, buffers: list[_MeasuredPages]) -> None:
    """Write what is hashed of the size of an enclave, of a run or of a repetition."""
    if isinstance(operation, int):
        write(_ECREATE.pack(b"ECREATE\0", SSA_FRAME_SIZE, operation))
    elif _is_read(operation):
        if operation.pages < _MANY_PAGES:
            _write_all(write, _read(operation, buffers[:1]))
        else:
            _write_beside(write, _read(operation, buffers))
    elif isinstance(operation, Run) and operation.pages <= _FEW_PAGES:
        write(_once((operation,))[0])
    elif isinstance(operation, Run):  # each page repeats the one before
        page = operation._replace(pages=1, content=Bytes(b""), addresses=())
        _write_all(write, _repeated(Repeat((page,), operation.pages, PAGE)))
    elif _fits_in_piece(operation):
        _write_all(write, _repeated(operation))
    else:
        for run in operation.each():
            _write_operation(run, write, buffers)


def _fits_in_piece(repeat: Repeat) -> bool:
    """Tell whether a repetition is of few pages, all of them measured or none."""
    return len({run.measured for run in repeat.runs}) == 1 and sum(run.pages for run in repeat.runs) <= _PAGES


def _write_all(write: _Write, pieces: Iterator[memoryview]) -> None:
    for piece in pieces:
        write(piece)


def _write_beside(write: _Write, pieces: Iterator[memoryview]) -> None:
    """Write each piece while the next one is made in another buffer."""
    from concurrent.futures import Future, ThreadPoolExecutor  # small enclaves do without

    written: Future[object] | None = None
    with ThreadPoolExecutor(1) as executor:
        for piece in pieces:
            if written:
                written.result()
            written = executor.submit(write, piece)
    if written:
        written.result()


class _Copies:
    """What is hashed of pages, ``most`` times over, each time ``stride`` bytes further on.

    ``copy`` is what is hashed of them once, and ``places`` are its words that say where something lies. All
    of the pages are measured, or none.
    """

    def __init__(self, copy: bytes, places: Sequence[int], stride: int, most: int, measured: bool) -> None:
        self.most = most
        self.words = array("Q", copy) * most
        self.data = memoryview(self.words).cast("B")
        self._width, self._stride = len(copy) // _WORD, stride
        self._numbers = [(place, self.words[place], self.words[place] + most * stride) for place in places]
        self._pages = _middles(self.data, _OFFSET * _WORD)
        self._blocks = [
            (self.data[place + 1 :: MEASURED_PAGE], _middles(self.data, place), numbers)
            for place, numbers in zip(_BLOCK_OFFSETS, _BLOCK_NUMBERS, strict=True)
            if measured
        ]

    def at(self, distance: int, count: int) -> memoryview:
        """Return the first ``count`` copies, ``distance`` bytes further on than they were made.

        Raises OverflowError for what is too large for an offset.
        """
        for place, first, end in self._numbers:
            numbers = range(first + distance, end + distance, self._stride)
            self.words[place :: self._width] = array("Q", numbers)
        if self._blocks:
            self._move_blocks(distance)
        return self.data[: count * self._width * _WORD]

    def _move_blocks(self, distance: int) -> None:
        """Give all blocks their offsets, which differ from their page's in four bits of the second byte."""
        if (end := self._numbers[0][2] + distance) > 1 << _OFFSET_BITS:
            raise OverflowError(f"pages end at {end:#x}, outside of every address space")
        low = self.data[_OFFSET * _WORD + 1 :: MEASURED_PAGE].tobytes()
        for second, middle, numbers in self._blocks:
            second[:] = low.translate(numbers)
            middle[:] = self._pages


def _middles(data: memoryview, start: int) -> memoryview:
    """Return the bytes 2 to 5 of a field in each page: of an offset, those behind them are zero."""
    data = data[start + 2 :]
    return data[: len(data) // 4 * 4].cast("I")[:: MEASURED_PAGE // 4]


class _MeasuredPages(_Copies):
    """What is hashed of ``most`` measured pages; ``blocks`` are the places of the content, 256 bytes each."""

    def __init__(self, most: int) -> None:
        super().__init__(*_once((Run(0, 1, 0, True),)), PAGE, most, measured=True)
        self.blocks = [
            self.data[end - _BLOCK : end]
            for start in range(0, len(self.data), MEASURED_PAGE)
            for end in range(start + _EADD.size + _EXTENDED, start + MEASURED_PAGE + 1, _EXTENDED)
        ]


def _once(runs: Sequence[Run]) -> tuple[bytes, tuple[int, ...]]:
    """Return what is hashed of small runs, and which words of it are offsets of pages or addresses."""
    hashed, places = bytearray(), list[int]()
    for run in runs:
        content, start = whole(run.content).ljust(run.pages * PAGE, bytes([run.fill])), len(hashed)
        for offset in range(0, run.pages * PAGE, PAGE):
            places.append(len(hashed) // _WORD + _OFFSET)
            hashed += _EADD.pack(b"EADD\0\0\0\0", run.offset + offset, run.flags)
            for at in range(offset, offset + PAGE, _BLOCK) if run.measured else ():
                hashed += _EEXTEND.pack(b"EEXTEND\0", run.offset + at) + content[at : at + _BLOCK]
        places += ((start + _place(at)) // _WORD for at in run.addresses if run.measured)
    return bytes(hashed), tuple(places)


def _place(at: int) -> int:
    """Return where a byte of measured content is in what is hashed."""
    page, inside = divmod(at, PAGE)
    block, byte = divmod(inside, _BLOCK)
    return page * MEASURED_PAGE + _EADD.size + block * _EXTENDED + _EEXTEND.size + byte


def _repeated(repeat: Repeat) -> Iterator[memoryview]:
    """Yield what is hashed of a repetition, as many copies at a time as fit in a piece."""
    copy, places = _once(repeat.runs)
    most = min(_PIECE // len(copy), _COPIES, repeat.times)
    copies = _Copies(copy, places, repeat.stride, most, measured=repeat.runs[0].measured)
    for first in range(0, repeat.times, most):
        yield copies.at(first * repeat.stride, min(most, repeat.times - first))


def _read(run: Run, buffers: Sequence[_MeasuredPages]) -> Iterator[memoryview]:
    """Yield what is hashed of a run with its content, in buffers that are used again in turn."""
    for pages in buffers:
        pages.words[_FLAGS :: MEASURED_PAGE // _WORD] = array("Q", [run.flags]) * pages.most
    with run.content.opened() as content:
        for first, pages in zip(range(0, run.pages, _PAGES), cycle(buffers), strict=False):
            count = min(_PAGES, run.pages - first)
            blocks = pages.blocks[: count * _BLOCKS]
            _fill(blocks, content.read_into(blocks), run.fill)
            yield pages.at(run.offset + first * PAGE, count)


def _fill(blocks: Sequence[memoryview], start: int, value: int) -> None:
    """Give the bytes of blocks from ``start`` on one value."""
    full, rest = divmod(start, _BLOCK)
    if rest:
        blocks[full][rest:] = bytes([value]) * (_BLOCK - rest)
        full += 1
    with Bytes(bytes([value]) * (len(blocks) - full) * _BLOCK).opened() as content:
        content.read_into(blocks[full:])
