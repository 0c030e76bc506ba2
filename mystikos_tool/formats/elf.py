"""ELF images: what a loader needs to know of one, and appending sections (docs/formats.md, section 2).

Only headers and the tables that they name are read (System V's ABI and its supplement for x86-64).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise, takewhile
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.program import DT_NULL, DYN, EHDR, PHDR, SYM, other_architecture
from mystikos_tool.io.content import Content, ReadAt
from mystikos_tool.io.pages import PAGE, align_up, page_up

PF_X, PF_W, PF_R = 1, 2, 4
R_X86_64_64, R_X86_64_COPY, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT = 1, 5, 6, 7
R_X86_64_RELATIVE, R_X86_64_DTPMOD64, R_X86_64_TPOFF64 = 8, 16, 18
ET_DYN = 3
DT_NEEDED, DT_RPATH, DT_RUNPATH = 1, 15, 29

_MAGIC = b"\x7fELF"
EHDR_SHOFF, EHDR_SHNUM = 0x28, 0x3C
_PT_LOAD, _PT_TLS = 1, 7
SHDR = struct.Struct("<IIQQQQIIQQ")
_OFFSET, _SIZE = 4, 5  # where these fields are in a row of it
SHT_PROGBITS, _SHT_DYNAMIC, _SHT_NOBITS, _SHT_DYNSYM = 1, 6, 8, 11
_RELA = struct.Struct("<QQQ")
_RELA_TYPE = 2  # the number of its 32-bit word in an entry
_NAME_UNIT = 64
_MAX_NAME_SIZE = 1 << 16
_MAX_NAMES_SIZE = 1 << 24
_MAX_SHNUM = 0xFF00
_MAX_IMAGE_SIZE = 1 << 30
_DAMAGED = ("is a damaged ELF file", "build or install it again")
_CUT = ("lies beyond the end of the file", "the file is truncated: build or install it again")
AS_LINKED = "take the file as the linker made it"

Piece = bytes | memoryview


class Segment(NamedTuple):
    """A row of the program headers: addresses and sizes in bytes, ``flags`` of PF_R, PF_W, PF_X."""

    type: int
    flags: int
    offset: int
    address: int
    physical_address: int
    file_size: int
    memory_size: int
    align: int

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.address + self.memory_size


class Section(NamedTuple):
    """A name, and its row of the section headers: address, file offset, size and alignment in bytes."""

    name: str
    name_offset: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int

    @property
    def nobits(self) -> bool:
        """Whether the section has no content in the file."""
        return self.type == _SHT_NOBITS


class _File:
    """The header and the section headers of an ELF file; ``names_index`` is the number of ``.shstrtab``."""

    def __init__(self, read: ReadAt, where: str) -> None:
        self._read = read
        self.where = where
        if read(0, len(_MAGIC)) != _MAGIC:
            raise UserError(where, "is not an ELF file", "give an x86-64 ELF file")
        _, self.type, _, _, self.entry, *rest = EHDR.unpack(self._bytes(0, EHDR.size))
        if architecture := other_architecture(read):
            problem = f"is an ELF file for {architecture}, not 64-bit x86-64"
            raise UserError(where, problem, "give one built for x86-64")
        self._segments_offset, self.sections_offset, _, header_size, *sizes = rest
        segment_size, self._segment_count, section_size, section_count, self.names_index = sizes
        rows = (header_size, section_size, segment_size if self._segment_count else PHDR.size)
        if rows != (EHDR.size, SHDR.size, PHDR.size):
            raise UserError(where, *_DAMAGED)
        self.section_list = self._sections(section_count)

    def _bytes(self, offset: int, size: int) -> bytes:
        data = self._read(offset, size)
        if len(data) < size:
            raise UserError(self.where, *_DAMAGED)
        return data

    def _sections(self, count: int) -> list[Section]:
        rows = list(SHDR.iter_unpack(self._bytes(self.sections_offset, count * SHDR.size)))
        names = b""
        if self.names_index and rows:
            if self.names_index >= len(rows) or rows[self.names_index][_SIZE] > _MAX_NAMES_SIZE:
                raise UserError(self.where, *_DAMAGED)
            names = self._bytes(*rows[self.names_index][_OFFSET : _SIZE + 1])
        return [Section(self._string(names, row[0]) if names else "", *row) for row in rows]

    def _string(self, table: bytes, start: int) -> str:
        """Return a string of a string table; raise UserError where none begins."""
        end = table.find(b"\0", start, start + _MAX_NAME_SIZE)
        if end < 0:
            raise UserError(self.where, *_DAMAGED)
        return table[start:end].decode(errors="replace")


class Image(_File):
    """An x86-64 ELF file in memory; raises UserError where it is not well-formed or not whole.

    ``loads`` are in order of their addresses, and ``in_order`` says whether they are in the file too.
    ``in_memory`` is what :func:`loaded` has returned of segments, ``relocated`` what :func:`relocations` has.
    """

    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(lambda offset, size: data[offset : offset + size], where)
        self.data = data
        table = self._bytes(self._segments_offset, self._segment_count * PHDR.size)
        segments = [Segment(*row) for row in PHDR.iter_unpack(table)]
        loads = [segment for segment in segments if segment.type == _PT_LOAD]
        self.loads = sorted(loads, key=lambda load: load.address)
        self.in_order = all(one.address < other.address for one, other in pairwise(loads))
        self.tls = next((segment for segment in segments if segment.type == _PT_TLS), None)
        self.in_memory: dict[Segment, bytes] = {}
        self.relocated: dict[tuple[tuple[str, ...], frozenset[int]], bytes] = {}
        for section in self.section_list[1:]:
            if not section.nobits and section.offset + section.size > len(data):
                raise UserError(f"{where}, section {section.name}", *_CUT)
        for number, load in enumerate(self.loads):
            if load.offset + load.file_size > len(data) or load.file_size > load.memory_size:
                raise UserError(f"{where}, PT_LOAD {number}", *_CUT)

    def find_section(self, name: str) -> Section | None:
        """Return the section called ``name``, None where there is none; raise UserError for two."""
        found = [section for section in self.section_list if section.name == name]
        if len(found) > 1:
            raise UserError(self.where, f"has the section {name} {len(found)} times", "replace the file")
        return found[0] if found else None

    def section(self, name: str) -> Section:
        """Return the section called ``name``; raise UserError unless there is exactly one."""
        if section := self.find_section(name):
            return section
        raise UserError(self.where, f"has no section {name}", "take the file from a Mystikos runtime")

    def section_bytes(self, name: str) -> bytes:
        """Return the content of a section."""
        return self._content(self.section(name))

    def _content(self, section: Section) -> bytes:
        return b"" if section.nobits else self.data[section.offset : section.offset + section.size]

    @cached_property
    def dynamic_symbols(self) -> tuple[tuple[str, int], ...]:
        """Name and value of every entry of ``.dynsym``, in order of their index."""
        section = self.find_section(".dynsym")
        if section is None:
            return ()
        table = self.section_bytes(".dynsym")
        if section.type != _SHT_DYNSYM or section.entry_size != SYM.size or len(table) % SYM.size:
            raise UserError(self.where, ".dynsym is no symbol table", "replace the file")
        if section.link >= len(self.section_list):
            raise UserError(self.where, *_DAMAGED)
        names = self._content(self.section_list[section.link])
        rows = SYM.iter_unpack(table)
        return tuple((self._string(names, name), value) for name, _, _, _, value, _ in rows)

    @cached_property
    def dynamic_tags(self) -> frozenset[int]:
        """The tags (DT_…) of ``.dynamic``."""
        section = self.find_section(".dynamic")
        if section is None or section.type != _SHT_DYNAMIC:
            return frozenset()
        table = self.section_bytes(".dynamic")
        tags = (tag for tag, _ in DYN.iter_unpack(table[: len(table) // DYN.size * DYN.size]))
        return frozenset(takewhile(lambda tag: tag != DT_NULL, tags))

    @property
    def size(self) -> int:
        """Bytes in memory, whole pages: the end of the last PT_LOAD, the first starting at 0."""
        return page_up(max(segment.end for segment in self.loads))

    @property
    def thread_data(self) -> list[Section]:
        """``.tdata``, aligned as PT_TLS and not only as its section, and ``.tbss``; none that is empty."""
        data, zeros = self.find_section(".tdata"), self.find_section(".tbss")
        if data and self.tls and self.tls.address == data.address:
            data = data._replace(align=self.tls.align)
        return [section for section in (data, zeros) if section and section.size]

    @property
    def tls_size(self) -> int:
        """Bytes of a thread's local data, whole pages (docs/formats.md, section 4)."""
        return page_up(sum(align_up(section.size, section.align) for section in self.thread_data))


def read_sections(content: Content, where: str) -> list[Section]:
    """Return the section headers of a file, and read no more; raise UserError unless it is ELF for x86-64."""
    end = content.size
    with content.at_any_offset() as read:
        return _File(lambda at, size: read(at, size) if at + size <= end else b"", where).section_list


def check_loadable(image: Image) -> None:
    """Raise UserError unless the reference's loaders take the image (docs/formats.md, sections 4 and 5)."""
    remedy = "link it as a shared object or static PIE with pages of 4096 bytes"
    if not image.loads or image.loads[0].address != 0:
        raise UserError(image.where, "its first PT_LOAD does not start at address 0", remedy)
    if image.size == 0:
        raise UserError(image.where, "its PT_LOADs are empty", remedy)
    if image.size > _MAX_IMAGE_SIZE:
        raise UserError(image.where, "its PT_LOADs span more than 1 GiB", remedy)
    for segment, following in pairwise(image.loads):
        if segment.end > following.address // PAGE * PAGE:
            problem = f"its PT_LOADs overlap in the page at {following.address:#x}"
            raise UserError(image.where, problem, remedy)
    data = image.find_section(".tdata")
    if image.tls and (data.size if data else 0) != image.tls.file_size:
        raise UserError(image.where, "PT_TLS and .tdata differ in size", remedy)
    if image.tls and data and data.address != image.tls.address:
        raise UserError(image.where, "PT_TLS and .tdata differ in address", remedy)


def loaded(image: Image, segment: Segment, patches: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """Return what lies in memory from the start of a PT_LOAD's first page on; zeros follow it to the last.

    ``patches`` are addresses and bytes in place of the file's. Without one there the same object is returned.
    """
    start, end = segment.address // PAGE * PAGE, page_up(segment.end)
    whole = image.in_memory.get(segment)
    if whole is None:
        content = memoryview(image.data)[segment.offset : segment.offset + segment.file_size]
        whole = image.in_memory[segment] = bytes(segment.address - start) + content
    over = [(at - start, data) for at, data in patches if at < end and at + len(data) > start]
    if not over:
        return whole
    memory = bytearray(whole)
    for at, data in over:
        memory.extend(bytes(max(at + len(data) - len(memory), 0)))
        memory[max(at, 0) : at + len(data)] = data[max(-at, 0) :]
    return bytes(memory[: end - start])


def relocations(image: Image, sections: Sequence[str], accepted: frozenset[int]) -> bytes:
    """Return the named sections' entries, zero-padded to whole pages; nothing where the first is absent.

    The addend of an R_X86_64_TPOFF64 becomes its symbol's value, so that nobody has to look up
    symbols in the enclave. Raises UserError for a relocation type that is not in ``accepted``.
    """
    key = tuple(sections), accepted
    if key not in image.relocated:
        there = [name for name in sections if image.find_section(name)]
        entries = b"".join(_relocation_entries(image, name, accepted) for name in there)
        image.relocated[key] = entries.ljust(page_up(len(entries)), b"\0") if sections[0] in there else b""
    return image.relocated[key]


def _relocation_entries(image: Image, name: str, accepted: frozenset[int]) -> bytearray:
    where, again = f"{image.where}, section {name}", "build or install the file again"
    entries = bytearray(image.section_bytes(name))
    if len(entries) % _RELA.size or image.section(name).entry_size != _RELA.size:
        raise UserError(where, "is not a table of RELA entries", again)
    kinds = memoryview(entries).cast("I")[_RELA_TYPE :: _RELA.size // 4].tolist()
    if unknown := set(kinds) - accepted:
        number = next(number for number, kind in enumerate(kinds) if kind in unknown)
        problem = f"relocation {number} has type {kinds[number]}, which an enclave cannot apply"
        remedy = "compile the image as position-independent code (-fPIE) with hidden symbols"
        raise UserError(where, problem, remedy)
    for number in (number for number, kind in enumerate(kinds) if kind == R_X86_64_TPOFF64):
        offset, info, _ = _RELA.unpack_from(entries, number * _RELA.size)
        symbol = info >> 32
        if symbol >= len(image.dynamic_symbols):
            raise UserError(where, f"relocation {number} names symbol {symbol}, which is not there", again)
        _RELA.pack_into(entries, number * _RELA.size, offset, info, image.dynamic_symbols[symbol][1])
    return entries


def with_sections(image: Image, added: Sequence[tuple[str, int]]) -> list[Piece | int]:
    """Plan the file that has sections appended to ``image``; ``added`` gives their names and sizes in bytes.

    Returns its pieces in order, where an int stands for the body with that index. Raises UserError for a name
    that is there already and for a file without ``.shstrtab`` or whose section headers are not at its end.
    """
    _check_appendable(image, [name for name, _ in added])
    data, names = image.data, image.section_list[image.names_index]
    bodies, names_end = sum(size for _, size in added), names.offset + names.size
    new_names = [name.encode().ljust(_name_size(name), b"\0") for name, _ in added]
    inserted = ((names.offset, bodies), (names_end, sum(map(len, new_names))))
    sections, name, body = [], names.size, names.offset
    for (_, size), padded in zip(added, new_names, strict=True):
        offset = body if size else names.offset + bodies  # what is empty moves with the names
        sections.append(Section("", name, SHT_PROGBITS, 0, 0, offset, size, 0, 0, 1, 0))
        name, body = name + len(padded), body + size
    header, table = _headers(image, data, inserted, image.section_list, sections)
    behind_names = data[names_end : image.sections_offset]
    return [
        header,
        memoryview(data)[EHDR.size : names.offset],
        *range(len(added)),
        b"".join((data[names.offset : names_end], *new_names, behind_names, table)),
    ]


def _headers(
    file: _File, start: bytes, inserted: Sequence[tuple[int, int]], kept: list[Section], added: list[Section]
) -> tuple[bytes, bytes]:
    """Return the header of a file, which begins with ``start``, and its section headers, once it is changed.

    ``inserted`` has two places, of bodies and of names of sections, and how many bytes are inserted there,
    fewer than none where some are taken out. Also what has no content moves.
    """

    def moved(offset: int) -> int:
        return offset + sum(size for place, size in inserted if offset >= place)

    header = bytearray(start[: EHDR.size])
    struct.pack_into("<Q", header, EHDR_SHOFF, moved(file.sections_offset))
    struct.pack_into("<H", header, EHDR_SHNUM, len(kept) + len(added))
    rows = [[*section[1:]] for section in (*kept, *added)]
    for row in rows[: len(kept)]:
        row[_OFFSET] = moved(row[_OFFSET])
    rows[file.names_index][_SIZE] += inserted[1][1]
    return bytes(header), b"".join(SHDR.pack(*row) for row in rows)


def _name_size(name: str) -> int:
    """Return how many bytes an added section's name gets, its NUL among them."""
    return align_up(len(name.encode()) + 1, _NAME_UNIT)


def _check_appendable(image: Image, added: Sequence[str]) -> None:
    if not 0 < image.names_index < len(image.section_list):
        raise UserError(image.where, "has no .shstrtab", "link it without stripping its section headers")
    if image.sections_offset + len(image.section_list) * SHDR.size != len(image.data):
        raise UserError(image.where, "its section headers are not at its end", AS_LINKED)
    if len(image.section_list) + len(added) >= _MAX_SHNUM:
        raise UserError(image.where, "has too many sections", "strip it")
    names = image.section_list[image.names_index]
    if names.offset < EHDR.size or names.offset + names.size > image.sections_offset:
        raise UserError(image.where, *_DAMAGED)
    if any(load.file_size and load.offset + load.file_size > names.offset for load in image.loads):
        raise UserError(image.where, "has a PT_LOAD behind its .shstrtab", AS_LINKED)
    if present := [name for name in added if image.find_section(name)]:
        remedy = "give the file as the runtime has it, not a package"
        raise UserError(image.where, f"has a section {present[0]} already", remedy)


def without_sections(start: bytes, rest: bytes, added: Sequence[tuple[str, int]]) -> bytes:
    """Return the file that :func:`with_sections` was given, from what it put before and behind the bodies.

    Of any other file the result is none that sections were appended to: whoever wants to know appends them
    again. Raises UserError where the headers do not lie in the file, and ValueError where it cannot be one.
    """
    data, bodies = start + rest, sum(size for _, size in added)
    names_size = sum(_name_size(name) for name, _ in added)

    def read(offset: int, size: int) -> bytes:
        at = offset - (bodies if offset >= len(start) else 0)
        return data[at : at + size]

    file = _File(read, "")
    kept = file.section_list[: -len(added)]
    try:
        names = kept[file.names_index]
        names_end = names.offset + names.size
        header, table = _headers(file, start, ((names.offset, -bodies), (names_end, -names_size)), kept, [])
    except (IndexError, struct.error):  # the names are in what was added, or something begins before the file
        raise ValueError("no sections were appended to the file") from None
    before = data[EHDR.size : names_end - bodies - names_size]
    return header + before + data[names_end - bodies : file.sections_offset - bodies] + table
