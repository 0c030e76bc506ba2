"""Take what no loader reads out of an ELF file: debug information and the symbol table.

What the program headers and the loaded sections cover stays where it is, byte for byte; sections behind
it move up. What is taken out before the end of what is loaded, as in a file that patchelf has written,
leaves zeros. Of relocatable files and of archives of them nothing is taken: linkers read it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mystikos_tool.formats import elf
from mystikos_tool.formats.elf import EHDR_SHNUM, EHDR_SHOFF, SHDR
from mystikos_tool.formats.program import EHDR, PHDR
from mystikos_tool.io.content import ReadAt

# Bytes that are new, a number of zeros, or the offset and the size of bytes of the file.
Piece = bytes | int | tuple[int, int]

_IDENTITY = b"\x7fELF\x02\x01"  # 64-bit, little-endian
_LINKED = (2, 3)  # ET_EXEC, ET_DYN
_SHT_RELA, _SHT_REL = 4, 9
_SHF_ALLOC, _SHF_INFO_LINK = 0x2, 0x40
_MAX_NAMES = 1 << 24
_MAX_NAME = 4096
_MAX_ALIGNMENT = 4096
_MAX_PADDING = 4096  # bytes behind the last section
_DEBUG = (".debug", ".zdebug", ".gdb_index", ".stab", ".gnu.debuglto")
_SYMBOLS = (".symtab", ".symtab_shndx", ".strtab")


class Section(elf.Section):
    """A section of an ELF file; its properties tell what it is for."""

    __slots__ = ()

    @property
    def is_loaded(self) -> bool:
        """Tell whether the section is in the program's memory."""
        return bool(self.flags & _SHF_ALLOC)

    @property
    def is_debug(self) -> bool:
        """Tell whether the section holds debug information."""
        return not self.is_loaded and self.name.startswith(_DEBUG)

    @property
    def end(self) -> int:
        """Offset behind the section's bytes in the file."""
        return self.offset + (0 if self.nobits else self.size)

    def packed(self) -> bytes:
        """Return the row of the table."""
        return SHDR.pack(*self[1:])


class _Linked(NamedTuple):
    """A program or a shared library: its header, its sections, and what is loaded, as starts and ends."""

    header: bytes
    names_index: int
    table_end: int
    sections: list[Section]
    loaded: list[tuple[int, int]]

    @property
    def loaded_end(self) -> int:
        """Offset behind all that is loaded."""
        return max(end for _, end in self.loaded)

    @property
    def end(self) -> int:
        """Offset behind all that the headers speak of."""
        return max(self.loaded_end, self.table_end, *(section.end for section in self.sections))


def sections(read_at: ReadAt) -> list[Section]:
    """Return the sections of a program or shared library for 64 bits; none of any other file."""
    linked = _read(read_at)
    return linked.sections if linked else []


def plan(read_at: ReadAt, size: int) -> list[Piece] | str | None:
    """Return the pieces of the stripped file in their order, without reading what stays.

    ``size`` is that of the file in bytes. None where there is nothing to strip; text that says why
    where there is, and it cannot be taken out.
    """
    linked = _read(read_at)
    if not linked:
        return None
    removed = _removed(linked)
    if not removed:
        return None
    fault = _fault(linked, read_at, size, removed)
    if fault:
        # Who has asked for no debug information does not miss that a symbol table went with it.
        return fault if any(linked.sections[number].is_debug for number in removed) else None
    return _pieces(linked, removed)


def size_of(pieces: Sequence[Piece]) -> int:
    """Return the size of what pieces make, in bytes."""
    return sum(
        piece if isinstance(piece, int) else len(piece) if isinstance(piece, bytes) else piece[1]
        for piece in pieces
    )


def _read(read_at: ReadAt) -> _Linked | None:
    header = read_at(0, EHDR.size)
    if len(header) < EHDR.size or not header.startswith(_IDENTITY):
        return None
    _, kind, _, _, _, ph_at, sh_at, _, _, ph_size, ph_count, sh_size, sh_count, names = EHDR.unpack(header)
    fits = kind in _LINKED and ph_size == PHDR.size and sh_size == SHDR.size and names < sh_count
    if not fits or max(ph_at, sh_at) >= 1 << 62:
        return None
    rows = list(_rows(SHDR, read_at, sh_at, sh_count))
    segments = list(_rows(PHDR, read_at, ph_at, ph_count))
    if len(rows) < sh_count or len(segments) < ph_count or rows[names][5] > _MAX_NAMES:
        return None
    table = read_at(rows[names][4], rows[names][5]) if rows[names][4] < 1 << 62 else b""
    found = [Section(_name(table, row[0]), *row) for row in rows]
    loaded = [(0, EHDR.size), (ph_at, ph_at + ph_count * PHDR.size)]
    loaded += [(segment[2], segment[2] + segment[5]) for segment in segments if segment[5]]
    loaded += [(section.offset, section.end) for section in found if section.is_loaded]
    return _Linked(header, names, sh_at + sh_count * SHDR.size, found, loaded)


def _rows(row: struct.Struct, read_at: ReadAt, offset: int, count: int) -> Iterator[tuple[int, ...]]:
    data = read_at(offset, count * row.size)
    return row.iter_unpack(data[: len(data) // row.size * row.size])


def _name(table: bytes, start: int) -> str:
    end = table.find(b"\0", start, start + _MAX_NAME)
    return table[start:end].decode(errors="replace") if end >= 0 else ""


def _removed(linked: _Linked) -> set[int]:
    removed = {
        number
        for number, section in enumerate(linked.sections)
        if number != linked.names_index
        and (section.is_debug or (not section.is_loaded and section.name in _SYMBOLS))
    }
    # What a linker was asked to keep of its relocations is of no use without what they are for.
    return removed | {
        number
        for number, section in enumerate(linked.sections)
        if section.type in (_SHT_REL, _SHT_RELA)
        and not section.is_loaded
        and (section.info in removed or section.link in removed)
    }


def _fault(linked: _Linked, read_at: ReadAt, size: int, removed: set[int]) -> str | None:
    """Return why a file cannot be stripped."""
    if linked.end > size:
        return "its sections lie beyond its end"
    behind = read_at(linked.end, min(size - linked.end, _MAX_PADDING + 1))
    if len(behind) > _MAX_PADDING or any(behind):
        return "it has data behind its sections, which whoever put them there may look for"
    for number, section in enumerate(linked.sections):
        if number not in removed and not section.is_loaded and section.link in removed and section.link:
            return f"its section {section.name} needs what would be taken out"
        if section.align > _MAX_ALIGNMENT and not section.is_loaded:
            return "a section that is not loaded has a large alignment"
    holes = sorted(_holes(linked, removed))
    covered = sorted([*linked.loaded, *_others(linked, removed)])
    # Both are in order of their starts: each hole is held against what begins before its end.
    reached, number = 0, 0
    for start, end in holes:
        while number < len(covered) and covered[number][0] < end:
            reached = max(reached, covered[number][1])
            number += 1
        if start < reached:
            return "its debug information lies among what is loaded"
        reached = end
    return None


def _holes(linked: _Linked, removed: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the places of what is taken out before the end of what is loaded."""
    for number in removed:
        section = linked.sections[number]
        if section.end > section.offset and section.offset < linked.loaded_end:
            yield section.offset, section.end


def _others(linked: _Linked, removed: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the places of sections that stay and are not loaded."""
    for number, section in enumerate(linked.sections):
        if number not in removed and not section.is_loaded:
            yield section.offset, section.end


def _pieces(linked: _Linked, removed: set[int]) -> list[Piece]:
    kept = [number for number in range(len(linked.sections)) if number not in removed]
    number_of = {old: new for new, old in enumerate(kept)}
    at = linked.loaded_end
    pieces: list[Piece] = []
    behind = EHDR.size
    for start, end in sorted(_holes(linked, removed)):
        pieces += [(behind, start - behind), end - start]
        behind = end
    pieces.append((behind, at - behind))
    offsets = {}
    for number in sorted(kept, key=lambda number: (linked.sections[number].offset, number)):
        section = linked.sections[number]
        if section.offset < linked.loaded_end or section.is_loaded or not section.end > section.offset:
            offsets[number] = min(section.offset, at)
            continue
        gap = -at % max(section.align, 1)
        offsets[number] = at + gap
        pieces += [gap, (section.offset, section.size)]
        at += gap + section.size
    gap = -at % 8
    table = b"".join(
        _renumbered(linked.sections[number]._replace(offset=offsets[number]), number_of).packed()
        for number in kept
    )
    header = bytearray(linked.header)
    struct.pack_into("<Q", header, EHDR_SHOFF, at + gap)
    struct.pack_into("<HH", header, EHDR_SHNUM, len(kept), number_of[linked.names_index])
    return [bytes(header), *pieces, gap, table]


def _renumbered(section: Section, number_of: dict[int, int]) -> Section:
    """Return a section with the new numbers of those that it names; 0 for one that is taken out."""
    names_info = section.type in (_SHT_REL, _SHT_RELA) or section.flags & _SHF_INFO_LINK
    info = number_of.get(section.info, 0) if names_info else section.info
    return section._replace(link=number_of.get(section.link, 0), info=info)
