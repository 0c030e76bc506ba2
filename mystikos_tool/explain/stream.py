"""Where the page streams of two enclaves differ: the first operation, and the pages of each area."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from mystikos_tool.enclave.layout import (
    SECINFO_R,
    SECINFO_TCS,
    SECINFO_W,
    SECINFO_X,
    Layout,
    Run,
)
from mystikos_tool.explain.areas import HEAP, IMAGE, RELOCATIONS, THREADS, Area, areas
from mystikos_tool.io.content import Reader
from mystikos_tool.io.pages import PAGE

_PAGES = 64  # that are read at once: both buffers stay in the cache of a core
_BLOCK = 256  # bytes that one EEXTEND measures

_PERMISSIONS = ((SECINFO_R, "r"), (SECINFO_W, "w"), (SECINFO_X, "x"))


@dataclass(frozen=True)
class Operation:
    """An operation of the page stream that is not the same in both: its name, offset, area, and what differs.

    ``a`` and ``b`` are None where that stream has ended.
    """

    name: str
    offset: int
    area: str
    a: str | None
    b: str | None


@dataclass(frozen=True)
class Place:
    """Offset in the enclave range, and size, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class AreaChange:
    """An area that is not the same in both; None where one has none.

    ``first_page`` is the offset, from the area's start, of the first page that differs, None where
    the area only moved; ``different_pages`` counts those that differ, None where the pages of one have
    no counterpart behind the first.
    """

    name: str
    a: Place | None
    b: Place | None
    first_page: int | None
    different_pages: int | None


@dataclass
class Pages:
    """What comparing two areas page by page found.

    ``first`` is the first operation that differs, with its offset from the area's start; ``different``
    the numbers of pages whose content differs, up to the number ``compared``.
    """

    first: Operation | None = None
    different: list[int] = field(default_factory=list)
    compared: int = 0

    def equal(self, start: int, end: int) -> bool:
        """Tell whether the bytes between two offsets of the area are known to be the same in both."""
        found = bisect_left(self.different, start // PAGE)
        inside = found < len(self.different) and self.different[found] * PAGE < end
        return not inside and end <= self.compared * PAGE


@dataclass
class Comparison:
    """What differs between two layouts; ``pages`` has what is known of each area's pages by its name."""

    first: Operation | None
    changes: list[AreaChange]
    pages: dict[str, Pages]


def compare(a: Layout, b: Layout) -> Comparison:
    """Compare two page streams; what is the same by its kind, as memory of zeros, takes one step."""
    first = None
    if a.size != b.size:
        first = Operation("ECREATE", 0, "enclave", f"size {a.size:#x}", f"size {b.size:#x}")
    changes, pages = [], {}
    of_b = {area.name: area for area in areas(b)}
    of_a = {area.name: area for area in areas(a)}
    for name in _names(areas(a), areas(b)):
        one, other = of_a.get(name), of_b.get(name)
        if one is None or other is None:
            first = first or _alone(one, other)
            changes.append(AreaChange(name, _place(one), _place(other), 0, None))
            continue
        found = pages[name] = _compare_pages(one, other)
        if one.offset != other.offset:
            first = first or Operation("EADD", one.offset, name, _at(one.offset), _at(other.offset))
        if found.first:
            first = first or _moved(found.first, one.offset)
        if found.first or one.offset != other.offset:
            changes.append(_change(one, other, found))
    return Comparison(first, changes, pages)


def _names(a: Sequence[Area], b: Sequence[Area]) -> list[str]:
    """Return the names of the areas of both, in the order of the stream."""
    names = {area.name for area in (*a, *b)}
    between = dict.fromkeys(
        area.name for area in (*a, *b) if area.name not in (IMAGE, RELOCATIONS, HEAP, THREADS)
    )
    return [name for name in (IMAGE, RELOCATIONS, *between, HEAP, THREADS) if name in names]


def _alone(one: Area | None, other: Area | None) -> Operation | None:
    """Return the first operation of an area that only one has."""
    for area, sides in ((one, ("added", None)), (other, (None, "added"))):
        if area:
            return Operation("EADD", area.offset, area.name, *sides)
    return None


def _place(area: Area | None) -> Place | None:
    return Place(area.offset, area.size) if area else None


def _at(offset: int) -> str:
    return f"offset {offset:#x}"


def _moved(operation: Operation, distance: int) -> Operation:
    return Operation(operation.name, operation.offset + distance, operation.area, operation.a, operation.b)


def _change(a: Area, b: Area, found: Pages) -> AreaChange:
    first = None if found.first is None else found.first.offset // PAGE * PAGE
    whole = a.size == b.size and found.compared * PAGE >= a.size
    return AreaChange(a.name, _place(a), _place(b), first, len(found.different) if whole else None)


_END = Run(-PAGE, 0, 0, False)


class _Pages:
    """The pages of an area, one after the other; ``run`` is the one that the next page is of, or `_END`."""

    def __init__(self, area: Area) -> None:
        self._runs: Iterator[Run] = area.runs
        self._start = area.offset
        self._stack = ExitStack()
        self._reader: Reader | None = None
        self._buffer = bytearray(_PAGES * PAGE)
        self.run = _END
        self.left = 0
        self._next_run()

    def __enter__(self) -> _Pages:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def ended(self) -> bool:
        """Whether there is no next page."""
        return self.run is _END

    @property
    def offset(self) -> int:
        """Of the next page from the area's start, in bytes."""
        return self.run.offset - self._start + (self.run.pages - self.left) * PAGE

    @property
    def constant(self) -> int | None:
        """The one value of all bytes of the run, where there is one."""
        return self.run.fill if self.run.content.size == 0 else None

    def read(self, pages: int) -> bytearray:
        """Return the content of the next pages, so many of the run; once some are read, all are.

        The buffer is used again by the next call.
        """
        if self._reader is None:
            self._reader = self._stack.enter_context(self.run.content.opened())
        whole = self._buffer if pages == _PAGES else bytearray(pages * PAGE)
        size = self._reader.read_into([memoryview(whole)])
        if size < len(whole):
            whole[size:] = bytes([self.run.fill]) * (len(whole) - size)
        return whole

    def skip(self, pages: int) -> None:
        """Go on behind the next pages, so many of the run."""
        self.left -= pages
        if self.left == 0:
            self._next_run()

    def _next_run(self) -> None:
        self._stack.close()
        self._reader = None
        self.run = next(self._runs, _END)
        self.left = self.run.pages


def _compare_pages(a: Area, b: Area) -> Pages:
    """Compare two areas page by page, from the start of each, until the kinds of their pages part.

    Behind the first page that differs, areas of different sizes are not compared: what follows has moved.
    """
    found = Pages()
    with _Pages(a) as one, _Pages(b) as other:
        while not (one.ended or other.ended):
            if parted := _parted(one, other, a.name):
                found.first = found.first or parted
                return found
            pages = min(one.left, other.left)
            if one.run.measured and (one.constant is None or one.constant != other.constant):
                pages = min(pages, _PAGES)
                _compare_content(one, other, pages, a.name, found)
            if found.first and a.size != b.size:
                return found
            found.compared = one.offset // PAGE + pages
            one.skip(pages)
            other.skip(pages)
        if one.ended and other.ended:
            found.compared = a.size // PAGE
        elif not found.first:
            offset, sides = (other.offset, (None, "added")) if one.ended else (one.offset, ("added", None))
            found.first = Operation("EADD", offset, a.name, *sides)
    return found


def _parted(one: _Pages, other: _Pages, name: str) -> Operation | None:
    """Return how the next page of one differs from that of the other in its place or its kind."""
    at = min(one.offset, other.offset)
    if one.offset != other.offset:
        return Operation("EADD", at, name, _at(one.offset), _at(other.offset))
    if one.run.flags != other.run.flags:
        return Operation("EADD", at, name, permissions(one.run.flags), permissions(other.run.flags))
    if one.run.measured != other.run.measured:
        sides = ("measured" if side.run.measured else "not measured" for side in (one, other))
        return Operation("EEXTEND", at, name, *sides)
    return None


def _compare_content(one: _Pages, other: _Pages, pages: int, name: str, found: Pages) -> None:
    mine, theirs = one.read(pages), other.read(pages)
    if mine == theirs:
        return
    for at in range(0, pages * PAGE, PAGE):
        if mine[at : at + PAGE] != theirs[at : at + PAGE]:
            found.different.append((one.offset + at) // PAGE)
            if found.first is None:
                blocks = mine[at : at + PAGE], theirs[at : at + PAGE]
                found.first = _extension(*blocks, one.offset + at, name)


def _extension(mine: bytearray, theirs: bytearray, offset: int, name: str) -> Operation:
    """Return the operation that measures the first different block of a page."""
    first = next(n for n, (x, y) in enumerate(zip(mine, theirs, strict=True)) if x != y)
    shown = (f"{page[first : first + 8].hex(' ')} from byte {first % _BLOCK}" for page in (mine, theirs))
    return Operation("EEXTEND", offset + first // _BLOCK * _BLOCK, name, *shown)


def permissions(flags: int) -> str:
    """Return the flags of a page's SECINFO as people write them: ``r-x``, ``---``, ``TCS``."""
    if flags & SECINFO_TCS:
        return "TCS"
    return "".join(letter if flags & bit else "-" for bit, letter in _PERMISSIONS)
