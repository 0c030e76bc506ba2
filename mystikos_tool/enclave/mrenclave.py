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
from itertools import chain, cycle
from threading import Thread

from mystikos_tool.enclave.layout import Layout, Repeat, Run
from mystikos_tool.io.content import whole
from mystikos_tool.io.pages import PAGE

SSA_FRAME_SIZE = 1

_ECREATE = struct.Struct("<8sIQ44x")
_EADD = struct.Struct("<8sQQ40x")
_EEXTEND = struct.Struct("<8sQ48x")
_OFFSET, _FLAGS = 8, 16  # where these fields are in the headers
_WORD = struct.Struct("<Q")
_BLOCK = 256
_MEASURED_PAGE = _EADD.size + PAGE // _BLOCK * (_EEXTEND.size + _BLOCK)
_PAGES = 128  # of a piece: they stay in the cache of a core
_LARGE_PIECE = 32 * _MEASURED_PAGE  # takes longer to hash than a thread to start


def mrenclave(layout: Layout) -> bytes:
    """Return a layout's MRENCLAVE, 32 bytes; the memory for it does not grow with the enclave."""
    digest = hashlib.sha256(_ECREATE.pack(b"ECREATE\0", SSA_FRAME_SIZE, layout.size))
    _hash_beside(digest.update, _pieces(layout.stream))
    return digest.digest()


def _hash_beside(update: Callable[[memoryview], None], pieces: Iterator[memoryview]) -> None:
    """Hash pieces in their order, a large one in a thread while the next one is made."""
    hashing = _Hashing()
    try:
        for piece in pieces:
            hashing.finish()
            if len(piece) >= _LARGE_PIECE:
                hashing.start(update, piece)
            else:
                update(piece)
    finally:
        hashing.finish()


class _Hashing:
    """A piece that is hashed in a thread of its own."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def start(self, update: Callable[[memoryview], None], piece: memoryview) -> None:
        """Begin to hash a piece."""

        def run() -> None:
            try:
                update(piece)
            except BaseException as error:  # is raised by `finish`
                self._error = error

        self._thread = Thread(target=run)
        self._thread.start()

    def finish(self) -> None:
        """Wait until the piece is hashed."""
        if self._thread:
            self._thread.join()
            self._thread = None
        if self._error:
            raise self._error


def _pieces(stream: Sequence[Run | Repeat]) -> Iterator[memoryview]:
    """Yield what is hashed of all pages; a piece stays as it is until the one after the next is made."""
    buffers = cycle((_MeasuredPages(), _MeasuredPages()))
    for operation in stream:
        if isinstance(operation, Run):
            yield from _run(operation, buffers)
        elif sum(run.pages for run in operation.runs) <= _PAGES:
            yield from _repeated(operation)
        else:
            yield from chain.from_iterable(_run(run, buffers) for run in operation.each())


def _run(run: Run, buffers: Iterator[_MeasuredPages]) -> Iterator[memoryview]:
    if run.measured:
        return _measured(run, buffers)
    return _repeated(Repeat((Run(run.offset, 1, run.flags, False),), run.pages, PAGE))


def _repeated(repeat: Repeat) -> Iterator[memoryview]:
    first_copies = _Copies(repeat)
    is_one_piece = first_copies.count == repeat.count
    buffers = cycle((first_copies,) if is_one_piece else (first_copies, _Copies(repeat)))
    for first in range(0, repeat.count, first_copies.count):
        count = min(first_copies.count, repeat.count - first)
        yield next(buffers).at(first * repeat.stride, count)


class _Copies:
    """What is hashed of a repetition, as many times as a piece has room for (``count``)."""

    def __init__(self, repeat: Repeat) -> None:
        unit, offsets, self._addresses = _unit(repeat.runs)
        self.size = len(unit)
        self.count = min(repeat.count, max(_PAGES * _MEASURED_PAGE // self.size, 1))
        self.data = memoryview(bytearray(unit * self.count))
        self._words = self.data.cast("Q")
        self._stride = repeat.stride
        self._first = min(offsets.values())
        self._step = math.gcd(repeat.stride, *(offset - self._first for offset in offsets.values()))
        self._numbers = [(place, (offset - self._first) // self._step) for place, offset in offsets.items()]

    def at(self, distance: int, count: int) -> memoryview:
        """Return ``count`` copies, the first of them ``distance`` bytes further on than in the layout.

        All offsets are numbers of one arithmetic progression: those at one place of the copies
        begin with the place's number and are ``stride`` apart.
        """
        first, last = self._first + distance, max(number for _, number in self._numbers)
        end = first + (count - 1) * self._stride + last * self._step + 1
        offsets = _words(first, end, self._step)
        every = self._stride // self._step
        for place, number in self._numbers:
            self.set(place, count, offsets[number : number + (count - 1) * every + 1 : every])
        for place, address in self._addresses.items():
            first = address + distance
            self.set(place, count, _words(first, first + count * self._stride, self._stride))
        return self.data[: count * self.size]

    def set(self, place: int, count: int, values: memoryview) -> None:
        """Write a 64-bit value at one place of each copy."""
        width = self.size // _WORD.size
        self._words[place // _WORD.size : count * width : width] = values


def _words(start: int, end: int, step: int) -> memoryview:
    return memoryview(array("Q", list(range(start, end, step))))  # made sooner of a list than of a range


def _unit(runs: Sequence[Run]) -> tuple[bytes, dict[int, int], dict[int, int]]:
    """Return what is hashed of runs once, with the offsets and the addresses in it by their places."""
    data = bytearray()
    offsets, addresses = {}, {}
    for run in runs:
        content = whole(run.content).ljust(run.pages * PAGE, bytes([run.fill]))
        for page in range(0, len(content), PAGE):
            offsets[len(data) + _OFFSET] = run.offset + page
            data += _EADD.pack(b"EADD\0\0\0\0", run.offset + page, run.flags)
            for start in range(page, page + PAGE if run.measured else page, _BLOCK):
                offsets[len(data) + _OFFSET] = run.offset + start
                data += _EEXTEND.pack(b"EEXTEND\0", run.offset + start)
                for at in run.addresses:
                    if start <= at < start + _BLOCK:
                        (addresses[len(data) + at - start],) = _WORD.unpack_from(content, at)
                data += content[start : start + _BLOCK]
    return bytes(data), offsets, addresses


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
        self._copies.set(_FLAGS, count, memoryview(array("Q", [flags]) * count))
        return self._copies.at(offset, count)


def _measured(run: Run, buffers: Iterator[_MeasuredPages]) -> Iterator[memoryview]:
    """Yield what is hashed of a run with its content."""
    with run.content.opened() as content:
        for first in range(0, run.pages, _PAGES):
            pages, count = next(buffers), min(_PAGES, run.pages - first)
            blocks = pages.blocks[: count * PAGE // _BLOCK]
            _fill(blocks, content.read_into(blocks), run.fill)
            yield pages.at(run.offset + first * PAGE, run.flags, count)


def _fill(blocks: Sequence[memoryview], start: int, value: int) -> None:
    """Give the bytes of blocks from ``start`` on one value."""
    filler = bytes([value]) * _BLOCK
    full, rest = divmod(start, _BLOCK)
    if rest:
        blocks[full][rest:] = filler[rest:]
        full += 1
    for block in blocks[full:]:
        block[:] = filler
