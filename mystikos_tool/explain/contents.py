"""Where two contents differ: the first byte, the lines of a text, the sections of an ELF file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf
from mystikos_tool.io.content import Content
from mystikos_tool.printable import printable

_CHUNK = 1 << 20
_MAX_TEXT = 1 << 20  # bytes of a text whose lines are compared
_MAX_LINES = 400  # lines between the first and the last that differ; comparing takes the square of them
_MAX_LINE = 160
_CONTEXT = 2
_MAX_SHOWN = 60
_HUNK = re.compile(r"(?<=[ ])([-+])(\d+)")
_ELF_MAGIC = b"\x7fELF"


def first_difference(a: Content, b: Content) -> int | None:
    """Return the offset of the first byte that is not the same in both, None where all are."""
    return first_difference_of(_pairs(a, b))


def _pairs(a: Content, b: Content) -> Iterator[tuple[bytes, bytes]]:
    for one, other in zip_longest(a.chunks(_CHUNK), b.chunks(_CHUNK), fillvalue=b""):
        yield bytes(one), bytes(other)


def first_difference_of(pieces: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return the offset of the first byte that differs in two contents that are given piece by piece."""
    offset = 0
    for one, other in pieces:
        if one != other:
            return offset + _first(one, other)
        offset += len(one)
    return None


def _first(a: bytes, b: bytes) -> int:
    """Return where two different strings begin to differ, by halving."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def text_difference(a: Content, b: Content) -> tuple[str, ...]:
    """Return the lines of a unified diff of two texts, fit to be printed; none where one is no text.

    Of long texts and long lines the rest is left out, which the last line says.
    """
    if max(a.size, b.size) > _MAX_TEXT:
        return ()
    texts = [_text(content.read()) for content in (a, b)]
    if texts[0] is None or texts[1] is None:
        return ()
    one, other = texts[0].split("\n"), texts[1].split("\n")
    start, end = _same_around(one, other)
    lines = [side[max(start - _CONTEXT, 0) : len(side) - max(end - _CONTEXT, 0)] for side in (one, other)]
    if max(map(len, lines)) > _MAX_LINES:
        return tuple(_block(one, other, start, end))
    shown = list(difflib.unified_diff(lines[0], lines[1], n=_CONTEXT, lineterm=""))[2:]
    return tuple(_limited(_numbered(shown, max(start - _CONTEXT, 0))))


def _text(data: bytes) -> str | None:
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _same_around(a: Sequence[str], b: Sequence[str]) -> tuple[int, int]:
    """Return how many lines are the same at the start, and how many of the others at the end."""
    shorter = min(len(a), len(b))
    start = next((number for number in range(shorter) if a[number] != b[number]), shorter)
    end = next(
        (number for number in range(shorter - start) if a[-1 - number] != b[-1 - number]), shorter - start
    )
    return start, end


def _numbered(lines: Sequence[str], distance: int) -> Iterator[str]:
    """Yield a diff of parts of two texts with the line numbers of the whole texts."""
    for line in lines:
        if line.startswith("@@"):
            line = _HUNK.sub(lambda match: f"{match[1]}{int(match[2]) + distance}", line)
        yield printable(line, _MAX_LINE)


def _block(a: Sequence[str], b: Sequence[str], start: int, end: int) -> Iterator[str]:
    """Yield what is between the common start and the common end of two long texts."""
    counts = [len(side) - start - end for side in (a, b)]
    yield f"@@ -{start + 1},{counts[0]} +{start + 1},{counts[1]} @@"
    half = _MAX_SHOWN // 2
    for sign, side, count in (("-", a, counts[0]), ("+", b, counts[1])):
        yield from (printable(sign + line, _MAX_LINE) for line in side[start : start + min(count, half)])
        if count > half:
            yield f"… {count - half:,} more lines"


def _limited(lines: Iterator[str]) -> Iterator[str]:
    shown = list(lines)
    yield from shown[:_MAX_SHOWN]
    if len(shown) > _MAX_SHOWN:
        yield f"… {len(shown) - _MAX_SHOWN:,} more lines"


@dataclass(frozen=True)
class SectionChange:
    """A section of an ELF file that is not the same in both: sizes in bytes, None where one has it not.

    ``first_byte`` is the offset in the section of the first byte that differs.
    """

    name: str
    size_a: int | None
    size_b: int | None
    first_byte: int | None


def is_elf(content: Content) -> bool:
    """Tell whether a content begins as an ELF file."""
    return content.part(0, min(content.size, len(_ELF_MAGIC))).read() == _ELF_MAGIC


def section_differences(
    a: Content, b: Content, without: frozenset[str] = frozenset()
) -> tuple[SectionChange, ...]:
    """Return which sections of two ELF files for x86-64 differ; none where one is no such file.

    Of several sections of one name the first counts. No more is read than the files have: sections
    that overlap are left out once as much was read.
    """
    try:
        one, other = (_sections(content) for content in (a, b))
    except UserError:
        return ()
    changes = []
    left = a.size + b.size
    for name in [*one, *(name for name in other if name not in one)]:
        mine, theirs = one.get(name), other.get(name)
        if name in without:
            continue
        if mine is None or theirs is None:
            changes.append(SectionChange(printable(name), _size(mine), _size(theirs), None))
            continue
        if mine.nobits or theirs.nobits:
            if mine.size != theirs.size:
                changes.append(SectionChange(printable(name), mine.size, theirs.size, None))
            continue
        left -= mine.size + theirs.size
        if left < 0:
            break
        first = first_difference(a.part(mine.offset, mine.size), b.part(theirs.offset, theirs.size))
        if first is not None:
            changes.append(SectionChange(printable(name), mine.size, theirs.size, first))
    return tuple(changes)


def section_content(content: Content, name: str) -> Content | None:
    """Return the content of an ELF file's first section of a name, None where there is none."""
    try:
        section = _sections(content).get(name)
    except UserError:
        return None
    return None if section is None or section.nobits else content.part(section.offset, section.size)


def _sections(content: Content) -> dict[str, elf.Section]:
    """Return the first section of each name but the empty one, with no more in it than the file has."""
    found: dict[str, elf.Section] = {}
    for section in elf.read_sections(content, "file"):
        if section.name:
            inside = max(min(section.size, content.size - section.offset), 0)
            size = section.size if section.nobits else inside
            found.setdefault(section.name, section._replace(size=size))
    return found


def _size(section: elf.Section | None) -> int | None:
    return None if section is None else section.size
