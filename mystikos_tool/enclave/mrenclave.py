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
from functools import lru_cache
from itertools import cycle

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
            _hash(write, _repeated(operation))
        elif not operation.measured:
            header = Run(operation.offset, 1, operation.flags, False)
            _hash(write, _repeated(Repeat((header,), operation.pages, PAGE)))
        elif operation.pages < _MANY_PAGES:
            _hash(write, _measured(operation, [pages]))
        else:
            _hash_beside(write, _measured(operation, [pages, _MeasuredPages()]))


def hashed_size(layout: Layout) -> int:
    """Return how many bytes are hashed for a layout's MRENCLAVE, which tells how long that takes."""
    return sum(
        run.pages * (_MEASURED_PAGE if run.measured else _EADD.size) * count
        for runs, count in map(_repetition, layout.stream)
        for run in runs
    )


def _repetition(operation: Run | Repeat) -> tuple[Sequence[Run], int]:
    return (operation.runs, operation.count) if isinstance(operation, Repeat) else ((operation,), 1)


def _hash(update: Callable[[memoryview], object], pieces: Iterator[memoryview]) -> None:
    for piece in pieces:
        update(piece)


def _hash_beside(update: Callable[[memoryview], object], pieces: Iterator[memoryview]) -> None:
    """Hash each piece while the next one is made in another buffer."""
    from concurrent.futures import Future, ThreadPoolExecutor  # small enclaves do without

    hashed: Future[object] | None = None
    with ThreadPoolExecutor(1) as executor:
        for piece in pieces:
            if hashed:
                hashed.result()
            hashed = executor.submit(update, piece)
    if hashed:
        hashed.result()


def _each_in_pieces(stream: Sequence[Run | Repeat]) -> Iterator[Run | Repeat]:
    """Yield a stream, with repetitions of runs that are too large for a piece written out."""
    for operation in stream:
        if isinstance(operation, Repeat) and sum(run.pages for run in operation.runs) > _PAGES:
            yield from operation.each()
        else:
            yield operation


def _repeated(repeat: Repeat) -> Iterator[memoryview]:
    copies = _Copies(repeat)
    for first in range(0, repeat.count, copies.count):
        yield copies.at(first * repeat.stride, min(copies.count, repeat.count - first))


class _Copies:
    """What is hashed of a repetition, as many times as a piece has room for (``count``)."""

    def __init__(self, repeat: Repeat) -> None:
        unit, offsets, self._addresses = _unit(repeat.runs)
        self.size = len(unit)
        self.count = min(repeat.count, max(_PAGES * _MEASURED_PAGE // self.size, 1))
        self.data = memoryview(bytearray(unit * self.count))
        self.words = self.data.cast("Q")
        self._stride = repeat.stride
        self._first = min(offsets.values())
        self._step = math.gcd(repeat.stride, *(offset - self._first for offset in offsets.values()))
        self._words = [
            (place // _WORD.size, (offset - self._first) // self._step) for place, offset in offsets.items()
        ]
        self._last = max(offsets.values()) - self._first

    def at(self, distance: int, count: int) -> memoryview:
        """Return ``count`` copies, the first of them ``distance`` bytes further on than in the layout.

        All offsets are numbers of one arithmetic progression: those in one word of the copies
        begin with the word's number and are ``stride`` apart.
        """
        first, span, width = self._first + distance, (count - 1) * self._stride, self.size // _WORD.size
        offsets = _progression(first, (self._last + span) // self._step + 1, self._step)
        every, behind = self._stride // self._step, span // self._step + 1
        words, end = self.words, count * width
        for word, number in self._words:
            words[word:end:width] = offsets[number : number + behind : every]
        for place, address in self._addresses.items():
            first = address + distance
            words[place // _WORD.size : end : width] = _progression(first, count, self._stride)
        return self.data[: count * self.size]


def _progression(start: int, count: int, step: int) -> memoryview:
    """Return 64-bit words from ``start`` on: one addition to all of them, as one large number.

    It takes a fourth of the time of an array of a range. Raises OverflowError where a word would
    run over into the next one.
    """
    if start + count * step >= 1 << 64:
        raise OverflowError(f"{count} words from {start:#x} on do not all have 64 bits")
    words, ones = _words(count, step)
    return memoryview((words + start * ones).to_bytes(count * _WORD.size, "little")).cast("Q")


@lru_cache(maxsize=64)
def _words(count: int, step: int) -> tuple[int, int]:
    """Return the words 0, ``step``, twice ``step`` and so on as one number, and as many ones."""
    words = b"".join(map(_WORD.pack, range(0, count * step, step)))
    return int.from_bytes(words, "little"), int.from_bytes(_WORD.pack(1) * count, "little")


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
        width = self._copies.size // _WORD.size
        every_flags = memoryview(array("Q", [flags]) * count)
        self._copies.words[_FLAGS // _WORD.size : count * width : width] = every_flags
        return self._copies.at(offset, count)


def _measured(run: Run, buffers: Sequence[_MeasuredPages]) -> Iterator[memoryview]:
    """Yield what is hashed of a run with its content, in buffers that are used again in turn."""
    with run.content.opened() as content:
        for first, pages in zip(range(0, run.pages, _PAGES), cycle(buffers), strict=False):
            count = min(_PAGES, run.pages - first)
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
