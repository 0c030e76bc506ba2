"""MRENCLAVE: the SHA-256 that ECREATE, EADD and EEXTEND make of a layout (SDM volume 3D).

What is hashed is assembled in pieces of several hundred kilobytes, so that other threads run while
one is hashed. A piece is the same pages with their headers many times over, in which only the
offsets, the flags and the content differ.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import cycle

from mystikos_tool.enclave.layout import Layout, Repeat, Run
from mystikos_tool.io.content import Bytes, whole
from mystikos_tool.io.pages import PAGE

SSA_FRAME_SIZE = 1

_ECREATE = struct.Struct("<8sIQ44x")
_EADD = struct.Struct("<8sQQ40x")
_EEXTEND = struct.Struct("<8sQ48x")
_OFFSET, _FLAGS = 8, 16  # where these fields are in the headers
_WORD = 8
_BLOCK = 256
_BLOCKS = PAGE // _BLOCK
_EXTENDED = _EEXTEND.size + _BLOCK
_MEASURED_PAGE = _EADD.size + _BLOCKS * _EXTENDED
_PAGES = 128  # of a piece: they stay in the cache of a core
_UNMEASURED_PAGES = 4096  # of a piece: their headers are all that is hashed of them
_MANY_PAGES = 4096  # are worth another thread


def mrenclave(layout: Layout) -> bytes:
    """Return a layout's MRENCLAVE, 32 bytes; the memory for it does not grow with the enclave."""
    digest = hashlib.sha256()
    write_stream(layout, digest.update)
    return digest.digest()


def write_stream(layout: Layout, write: Callable[[bytes | memoryview], object]) -> None:
    """Give what is hashed for a layout's MRENCLAVE to ``write``, in pieces that it must not keep.

    It is the enclave in the SGXS format: 64 bytes for each ECREATE, EADD and EEXTEND, the last with the
    256 bytes that it measures behind it.
    """
    write(_ECREATE.pack(b"ECREATE\0", SSA_FRAME_SIZE, layout.size))
    pages = _MeasuredPages()
    for operation in _each_in_pieces(layout.stream):
        if isinstance(operation, Repeat):
            _write(write, _repeated(operation, pages))
        elif not operation.measured:
            _write(write, _unmeasured(operation))
        elif operation.pages < _MANY_PAGES:
            _write(write, _measured(operation, [pages]))
        else:
            _write_beside(write, _measured(operation, [pages, _MeasuredPages()]))


def hashed_size(layout: Layout) -> int:
    """Return how many bytes are hashed for a layout's MRENCLAVE, which tells how long that takes."""
    return sum(
        run.pages * (_MEASURED_PAGE if run.measured else _EADD.size) * count
        for runs, count in map(_repetition, layout.stream)
        for run in runs
    )


def _repetition(operation: Run | Repeat) -> tuple[Sequence[Run], int]:
    return (operation.runs, operation.count) if isinstance(operation, Repeat) else ((operation,), 1)


def _write(write: Callable[[bytes | memoryview], object], pieces: Iterator[memoryview]) -> None:
    for piece in pieces:
        write(piece)


def _write_beside(write: Callable[[bytes | memoryview], object], pieces: Iterator[memoryview]) -> None:
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


def _each_in_pieces(stream: Sequence[Run | Repeat]) -> Iterator[Run | Repeat]:
    """Yield a stream, with repetitions written out that are no measured pages, or too many for a piece."""
    for operation in stream:
        if isinstance(operation, Repeat) and not _fits(operation.runs):
            yield from operation.each()
        else:
            yield operation


def _fits(runs: Sequence[Run]) -> bool:
    return all(run.measured for run in runs) and sum(run.pages for run in runs) <= _PAGES


class _Pages:
    """What is hashed of up to ``count`` pages that are added, with 64-bit words in it to be set."""

    def __init__(self, page: bytes, offsets: Sequence[tuple[int, int]], count: int) -> None:
        self.data = memoryview(bytearray(page * count))
        self.words = self.data.cast("Q")
        self.width = len(page) // _WORD
        self._offsets = offsets  # the places of offsets in a page's words, and how far they are from its own

    def set_flags(self, flags: array[int]) -> None:
        """Set the SECINFO flags of the first pages."""
        self.words[_FLAGS // _WORD : len(flags) * self.width : self.width] = memoryview(flags)

    def at(self, offsets: int, count: int) -> memoryview:
        """Return the first ``count`` pages as those at ``offsets``, a number of as many words."""
        ones, size, end = _ones(count), count * _WORD, count * self.width
        for place, distance in self._offsets:
            words = memoryview((offsets + distance * ones).to_bytes(size, "little")).cast("Q")
            self.words[place : end : self.width] = words
        return self.data[: end * _WORD]


class _MeasuredPages(_Pages):
    """What is hashed of ``_PAGES`` measured pages.

    ``blocks`` are the places of the content, 256 bytes each.
    """

    def __init__(self) -> None:
        block = _EEXTEND.pack(b"EEXTEND\0", 0) + bytes(_BLOCK)
        page = _EADD.pack(b"EADD\0\0\0\0", 0, 0) + block * _BLOCKS
        places = [(_EADD.size + at * _EXTENDED + _OFFSET) // _WORD for at in range(_BLOCKS)]
        extended = [(place, at * _BLOCK) for at, place in enumerate(places)]
        super().__init__(page, [(_OFFSET // _WORD, 0), *extended], _PAGES)
        self.blocks = [
            self.data[end - _BLOCK : end]
            for start in range(0, len(self.data), _MEASURED_PAGE)
            for end in range(start + _EADD.size + _EXTENDED, start + _MEASURED_PAGE + 1, _EXTENDED)
        ]


def _measured(run: Run, buffers: Sequence[_MeasuredPages]) -> Iterator[memoryview]:
    """Yield what is hashed of a run with its content, in buffers that are used again in turn."""
    for pages in buffers:
        pages.set_flags(array("Q", [run.flags]) * min(run.pages, _PAGES))
    with run.content.opened() as content:
        for first, pages in zip(range(0, run.pages, _PAGES), cycle(buffers), strict=False):
            count = min(_PAGES, run.pages - first)
            blocks = pages.blocks[: count * _BLOCKS]
            _fill(blocks, content.read_into(blocks), run.fill)
            yield pages.at(_progression(run.offset + first * PAGE, count, PAGE), count)


def _fill(blocks: Sequence[memoryview], start: int, value: int) -> None:
    """Give the bytes of blocks from ``start`` on one value."""
    full, rest = divmod(start, _BLOCK)
    if rest:
        blocks[full][rest:] = bytes([value]) * (_BLOCK - rest)
        full += 1
    with Bytes(bytes([value]) * (len(blocks) - full) * _BLOCK).opened() as content:
        content.read_into(blocks[full:])


def _unmeasured(run: Run) -> Iterator[memoryview]:
    most = min(run.pages, _UNMEASURED_PAGES)
    pages = _Pages(_EADD.pack(b"EADD\0\0\0\0", 0, run.flags), [(_OFFSET // _WORD, 0)], most)
    for first in range(0, run.pages, most):
        count = min(most, run.pages - first)
        yield pages.at(_progression(run.offset + first * PAGE, count, PAGE), count)


def _repeated(repeat: Repeat, pages: _MeasuredPages) -> Iterator[memoryview]:
    """Yield what is hashed of a repetition of measured pages, as many copies at a time as fit."""
    flags = [run.flags for run in repeat.runs for _ in range(run.pages)]
    offsets = [run.offset + at * PAGE for run in repeat.runs for at in range(run.pages)]
    width, step = len(flags), len(flags) * pages.width
    most = min(repeat.count, _PAGES // width)
    content = b"".join(whole(run.content).ljust(run.pages * PAGE, bytes([run.fill])) for run in repeat.runs)
    with Bytes(content * most).opened() as copies:
        copies.read_into(pages.blocks[: most * width * _BLOCKS])
    pages.set_flags(array("Q", flags * most))
    addresses = [(_place(at), *struct.unpack_from("<Q", content, at)) for at in _addresses(repeat.runs)]
    starts = range(0, repeat.count * repeat.stride, repeat.stride)
    for first in range(0, repeat.count, most):
        copied = starts[first : first + most]
        for place, address in addresses:
            pages.words[place : len(copied) * step : step] = memoryview(
                array("Q", [address + at for at in copied])
            )
        yield pages.at(_number([offset + at for at in copied for offset in offsets]), len(copied) * width)


def _addresses(runs: Sequence[Run]) -> Iterator[int]:
    """Yield where the addresses of runs are in the content of all of them."""
    start = 0
    for run in runs:
        yield from (start + at for at in run.addresses)
        start += run.pages * PAGE


def _place(at: int) -> int:
    """Return the number of the word that has a byte of the content in what is hashed."""
    page, inside = divmod(at, PAGE)
    block, byte = divmod(inside, _BLOCK)
    return (page * _MEASURED_PAGE + _EADD.size + block * _EXTENDED + _EEXTEND.size + byte) // _WORD


def _number(words: Iterable[int]) -> int:
    """Return 64-bit words as one number: an addition to it is one to all of them.

    It takes a fourth of the time of additions one by one.
    """
    return int.from_bytes(array("Q", words).tobytes(), "little")


def _progression(start: int, count: int, step: int) -> int:
    """Return the number of the words ``start``, ``start + step`` and so on.

    Raises OverflowError where a word would run over into the next one.
    """
    if start + count * step >= 1 << 64:
        raise OverflowError(f"{count} words from {start:#x} on do not all have 64 bits")
    return _multiples(count, step) + start * _ones(count)


@lru_cache(maxsize=64)
def _multiples(count: int, step: int) -> int:
    return _number(range(0, count * step, step))


@lru_cache(maxsize=64)
def _ones(count: int) -> int:
    return _number([1] * count)
