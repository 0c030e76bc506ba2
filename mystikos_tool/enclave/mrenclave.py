"""MRENCLAVE: the SHA-256 that ECREATE, EADD and EEXTEND make of a layout (SDM volume 3D).

What is hashed is assembled in pieces of several hundred kilobytes, so that other threads run while
one is hashed. A piece is the same pages with their headers many times over, in which only the
addresses and the content differ.
"""

from __future__ import annotations

import hashlib
import math
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

from mystikos_tool.enclave.layout import Layout, Repeat, Run
from mystikos_tool.io.content import whole
from mystikos_tool.io.pages import PAGE

SSA_FRAME_SIZE = 1

_ECREATE = struct.Struct("<8sIQ44x")
_EADD = struct.Struct("<8sQQ40x")
_EEXTEND = struct.Struct("<8sQ48x")
_ADDRESS, _FLAGS = 8, 16  # offsets of these fields in the headers
_WORD = struct.Struct("<Q")
_BLOCK = 256
_PAGES = 128  # of a piece: they stay in the cache of a core
_MANY_PAGES = 4096  # from here on another core is worth it


def mrenclave(layout: Layout) -> bytes:
    """Return a layout's MRENCLAVE, 32 bytes; the memory for it does not grow with the enclave."""
    digest = hashlib.sha256(_ECREATE.pack(b"ECREATE\0", SSA_FRAME_SIZE, layout.size))
    pages = [_MeasuredPages()]
    for operation in _whole_in_a_piece(layout.stream):
        if isinstance(operation, Run) and operation.measured and operation.pages > _MANY_PAGES:
            _hash_beside(digest.update, _measured(operation, [*pages, _MeasuredPages()]))
        else:
            for piece in _pieces(operation, pages):
                digest.update(piece)
    return digest.digest()


def _hash_beside(hash_piece: Callable[[memoryview], None], pieces: Iterator[memoryview]) -> None:
    """Hash each piece while the next one is made, in another buffer."""
    from concurrent.futures import Future, ThreadPoolExecutor  # small enclaves do without

    hashed: Future[None] | None = None
    with ThreadPoolExecutor(1) as executor:
        for piece in pieces:
            if hashed:
                hashed.result()
            hashed = executor.submit(hash_piece, piece)
    if hashed:
        hashed.result()


def _whole_in_a_piece(stream: Sequence[Run | Repeat]) -> Iterator[Run | Repeat]:
    """Yield a stream, with repetitions that are too large for a piece written out."""
    for operation in stream:
        if isinstance(operation, Repeat) and sum(run.pages for run in operation.runs) > _PAGES:
            yield from operation.each()
        else:
            yield operation


def _pieces(operation: Run | Repeat, pages: Sequence[_MeasuredPages]) -> Iterator[memoryview]:
    """Yield what is hashed of pages; each piece stays as it is until the next is asked for."""
    if isinstance(operation, Repeat):
        return _repeated(operation)
    if operation.measured:
        return _measured(operation, pages)
    header = Run(operation.offset, 1, operation.flags, False)
    return _repeated(Repeat((header,), operation.pages, PAGE))


def _repeated(repeat: Repeat) -> Iterator[memoryview]:
    copies = _Copies(repeat)
    for first in range(0, repeat.count, copies.count):
        yield copies.at(first * repeat.stride, min(copies.count, repeat.count - first))


class _Copies:
    """What is hashed of a repetition, as many times as a piece has room for (``count``)."""

    def __init__(self, repeat: Repeat) -> None:
        unit, addresses = _unit(repeat.runs)
        self.size = len(unit)
        self.count = min(repeat.count, max(_PAGES * _measured_size(1) // self.size, 1))
        self.data = memoryview(bytearray(unit * self.count))
        self.words = self.data.cast("Q")
        self._first = min(addresses.values())
        self._step = math.gcd(repeat.stride, *(address - self._first for address in addresses.values()))
        self._stride = repeat.stride // self._step
        self._numbers = [
            (place // _WORD.size, (address - self._first) // self._step)
            for place, address in addresses.items()
        ]
        self._length = max(number for _, number in self._numbers) + 1

    def at(self, distance: int, count: int) -> memoryview:
        """Return ``count`` copies, the first of them ``distance`` bytes further on than in the layout.

        All their addresses are in one arithmetic progression, of which each place of an address
        takes every ``_stride``-th one from its number on.
        """
        start, length = self._first + distance, self._length + (count - 1) * self._stride
        progression = range(start, start + length * self._step, self._step)
        addresses = memoryview(array("Q", list(progression)))  # sooner made of a list than of a range
        width = self.size // _WORD.size
        for word, number in self._numbers:
            end = number + (count - 1) * self._stride + 1
            self.words[word : count * width : width] = addresses[number : end : self._stride]
        return self.data[: count * self.size]


def _unit(runs: Sequence[Run]) -> tuple[bytes, dict[int, int]]:
    """Return what is hashed of runs, and all addresses in it, 64-bit words, by their places."""
    data = bytearray()
    addresses = {}
    for run in runs:
        content = whole(run.content).ljust(run.pages * PAGE, bytes([run.fill]))
        for page in range(0, len(content), PAGE):
            addresses[len(data) + _ADDRESS] = run.offset + page
            data += _EADD.pack(b"EADD\0\0\0\0", run.offset + page, run.flags)
            for start in range(page, page + PAGE if run.measured else page, _BLOCK):
                addresses[len(data) + _ADDRESS] = run.offset + start
                data += _EEXTEND.pack(b"EEXTEND\0", run.offset + start)
                for place in run.addresses:
                    if start <= place < start + _BLOCK:
                        (address,) = _WORD.unpack_from(content, place)
                        addresses[len(data) + place - start] = address
                data += content[start : start + _BLOCK]
    return bytes(data), addresses


def _measured_size(pages: int) -> int:
    """Return how many bytes are hashed of measured pages."""
    return pages * (_EADD.size + PAGE // _BLOCK * (_EEXTEND.size + _BLOCK))


class _MeasuredPages:
    """What is hashed of ``_PAGES`` consecutive measured pages, whatever their content and flags.

    ``blocks`` are the places of the content, 256 bytes each.
    """

    def __init__(self) -> None:
        self._copies = _Copies(Repeat((Run(0, 1, 0, True),), _PAGES, PAGE))
        block = _EEXTEND.size + _BLOCK
        self.blocks = [
            self._copies.data[end - _BLOCK : end]
            for page in range(0, len(self._copies.data), self._copies.size)
            for end in range(page + _EADD.size + block, page + self._copies.size + 1, block)
        ]

    def at(self, offset: int, flags: int, count: int) -> memoryview:
        """Return the first ``count`` pages as those at an offset in the enclave."""
        width = self._copies.size // _WORD.size
        every_flags = memoryview(array("Q", [flags]) * count)
        self._copies.words[_FLAGS // _WORD.size : count * width : width] = every_flags
        return self._copies.at(offset, count)


def _measured(run: Run, buffers: Sequence[_MeasuredPages]) -> Iterator[memoryview]:
    """Yield what is hashed of a run with its content, in buffers that are used again in turn."""
    with run.content.opened() as content:
        for first, pages in zip(range(0, run.pages, _PAGES), cycle(buffers)):
            blocks = pages.blocks[: min(_PAGES, run.pages - first) * PAGE // _BLOCK]
            _fill(blocks, content.read_into(blocks), run.fill)
            yield pages.at(run.offset + first * PAGE, run.flags, len(blocks) * _BLOCK // PAGE)


def _fill(blocks: Sequence[memoryview], start: int, value: int) -> None:
    """Give the bytes of blocks from ``start`` on one value."""
    filler = bytes([value]) * _BLOCK
    full, rest = divmod(start, _BLOCK)
    if rest:
        blocks[full][rest:] = filler[rest:]
        full += 1
    for block in blocks[full:]:
        block[:] = filler
