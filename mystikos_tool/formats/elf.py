"""ELF images: what a loader needs to know of one, and appending sections to one.

Only the headers are read, and the tables that they name, as System V's ABI and its supplement for
x86-64 have them. Appending follows docs/formats.md, section 2, to the byte.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, takewhile
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.io.content import Content
from mystikos_tool.io.pages import PAGE, align_up, page_up

PF_X, PF_W, PF_R = 1, 2, 4

R_X86_64_64 = 1
R_X86_64_COPY = 5
R_X86_64_GLOB_DAT = 6
R_X86_64_JUMP_SLOT = 7
R_X86_64_RELATIVE = 8
R_X86_64_DTPMOD64 = 16
R_X86_64_TPOFF64 = 18

ET_DYN = 3
DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_TEXTREL = 1, 15, 29, 22

_MAGIC = b"\x7fELF"
_ELFCLASS64, _ELFDATA2LSB, _EM_X86_64 = 2, 1, 62
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_EHDR_SHOFF = 0x28
_EHDR_SHNUM = 0x3C
_PHDR = struct.Struct("<IIQQQQQQ")
_PT_LOAD, _PT_TLS = 1, 7
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SHDR_OFFSET = 0x18
_SHDR_SIZE = 0x20
SHT_PROGBITS, _SHT_DYNAMIC, _SHT_NOBITS, _SHT_DYNSYM = 1, 6, 8, 11
_SYM = struct.Struct("<IBBHQQ")
_DYN = struct.Struct("<QQ")
_DT_NULL = 0
_RELA = struct.Struct("<QQQ")
_RELA_TYPE = 2  # the number of its 32-bit word in an entry
_NAME_UNIT = 64
_MAX_NAME_SIZE = 1 << 16
_MAX_NAMES_SIZE = 1 << 24
_MAX_SHNUM = 0xFF00
_MAX_IMAGE_SIZE = 1 << 30
_DAMAGED = ("is a damaged ELF file", "build or install it again")
_CUT = ("lies beyond the end of the file", "the file is truncated: build or install it again")
_AS_LINKED = "take the file as the linker made it"

Piece = bytes | memoryview


class Segment(NamedTuple):
    """A program header: addresses and sizes in bytes, ``flags`` of PF_R, PF_W, PF_X."""

    address: int
    offset: int
    file_size: int
    memory_size: int
    flags: int
    align: int

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.address + self.memory_size


class Section(NamedTuple):
    """A section header and its number: address, file offset, size and alignment in bytes."""

    name: str
    number: int
    type: int
    address: int
    offset: int
    size: int
    link: int
    align: int
    entry_size: int

    @property
    def nobits(self) -> bool:
        """Whether the section has no content in the file."""
        return self.type == _SHT_NOBITS


@dataclass(frozen=True, eq=False)
class Image:
    """An x86-64 ELF file in memory; ``where`` names it in messages. It is equal to itself only.

    ``loads`` are in order of their addresses, and ``in_order`` says whether they are in the file too.
    ``in_memory`` is what :func:`loaded` has returned of segments.
    """

    where: str
    data: bytes
    type: int
    entry: int
    section_headers_offset: int
    section_names_index: int
    loads: tuple[Segment, ...]
    in_order: bool
    tls: Segment | None
    section_list: tuple[Section, ...]
    in_memory: dict[Segment, bytes] = field(default_factory=dict)

    def find_section(self, name: str) -> Section | None:
        """Return the section called ``name``, None where there is none; raise UserError for two."""
        found = [section for section in self.section_list if section.name == name]
        if len(found) > 1:
            raise UserError(self.where, f"has the section {name} {len(found)} times", "replace the file")
        return found[0] if found else None

    def section(self, name: str) -> Section:
        """Return the section called ``name``; raise UserError unless there is exactly one."""
        section = self.find_section(name)
        if section is None:
            raise UserError(self.where, f"has no section {name}", "take the file from a Mystikos runtime")
        return section

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
        if section.type != _SHT_DYNSYM or section.entry_size != _SYM.size or len(table) % _SYM.size:
            raise UserError(self.where, ".dynsym is no symbol table", "replace the file")
        if section.link >= len(self.section_list):
            raise UserError(self.where, *_DAMAGED)
        names = self._content(self.section_list[section.link])
        rows = _SYM.iter_unpack(table)
        return tuple((_string(names, name, self.where), value) for name, _, _, _, value, _ in rows)

    @cached_property
    def dynamic_tags(self) -> frozenset[int]:
        """The tags (DT_…) of ``.dynamic``."""
        section = self.find_section(".dynamic")
        if section is None or section.type != _SHT_DYNAMIC:
            return frozenset()
        table = self.section_bytes(".dynamic")
        tags = (tag for tag, _ in _DYN.iter_unpack(table[: len(table) // _DYN.size * _DYN.size]))
        return frozenset(takewhile(lambda tag: tag != _DT_NULL, tags))

    @property
    def size(self) -> int:
        """Bytes in memory, whole pages: the end of the last PT_LOAD, the first starting at 0."""
        return page_up(max(segment.end for segment in self.loads))

    @property
    def tls_size(self) -> int:
        """Bytes of a thread's local data, whole pages (docs/formats.md, section 4)."""
        size = 0
        data, zeros = self.find_section(".tdata"), self.find_section(".tbss")
        if data and data.size:
            size += align_up(data.size, self.tdata_align)
        if zeros and zeros.size:
            size += align_up(zeros.size, zeros.align)
        return page_up(size)

    @property
    def tdata_align(self) -> int:
        """Alignment of ``.tdata``: that of PT_TLS, which can be larger than the section's."""
        section = self.section(".tdata")
        return self.tls.align if self.tls and self.tls.address == section.address else section.align


def parse(data: bytes, where: str) -> Image:
    """Read an x86-64 ELF image from its bytes.

    Raises UserError for anything that is not a well-formed 64-bit little-endian x86-64 ELF
    file whose section and program headers lie within the file.
    """
    file = _File(lambda offset, size: data[offset : offset + size], where)
    segments = file.segments()
    loads = [segment for kind, segment in segments if kind == _PT_LOAD]
    image = Image(
        where=where,
        data=data,
        type=file.type,
        entry=file.entry,
        section_headers_offset=file.sections_offset,
        section_names_index=file.names_index,
        loads=tuple(sorted(loads, key=lambda load: load.address)),
        in_order=all(one.address < other.address for one, other in pairwise(loads)),
        tls=next((segment for kind, segment in segments if kind == _PT_TLS), None),
        section_list=file.sections(),
    )
    _check_bounds(image)
    return image


def read_sections(content: Content, where: str) -> tuple[Section, ...]:
    """Return the section headers of an ELF file of any size, without reading the rest of it.

    Raises UserError for anything that is not a well-formed x86-64 ELF file.
    """
    with content.at_any_offset() as read_at:

        def whole(offset: int, size: int) -> bytes:
            return read_at(offset, size) if offset + size <= content.size else b""

        return _File(whole, where).sections()


class _File:
    """The header and the tables of an ELF file; ``read`` returns up to a number of bytes from an offset.

    ``sections_offset`` is where the section headers are, ``names_index`` the number of ``.shstrtab``.
    """

    def __init__(self, read: Callable[[int, int], bytes], where: str) -> None:
        self._read = read
        self._where = where
        if read(0, len(_MAGIC)) != _MAGIC:
            raise UserError(where, "is not an ELF file", "give an x86-64 ELF file")
        start = self._bytes(0, _EHDR.size)
        identity, self.type, machine, _, self.entry, *rest = _EHDR.unpack(start)
        self._segments_offset, self.sections_offset, _, header_size, *sizes = rest
        segment_size, self._segment_count, section_size, self._section_count, self.names_index = sizes
        if (identity[4], identity[5], machine) != (_ELFCLASS64, _ELFDATA2LSB, _EM_X86_64):
            problem = f"is an ELF file for {self._machine(start)}, not 64-bit x86-64"
            raise UserError(where, problem, "give one built for x86-64")
        rows = (header_size, section_size, segment_size if self._segment_count else _PHDR.size)
        if rows != (_EHDR.size, _SHDR.size, _PHDR.size):
            raise UserError(where, *_DAMAGED)

    def _machine(self, header: bytes) -> str:
        """Name the architecture of a file that is not for x86-64."""
        from elftools.common.exceptions import ELFError  # for this message only
        from elftools.elf.elffile import ELFFile

        up_to_entry = io.BytesIO(header[:24].ljust(_EHDR.size, b"\0"))
        try:
            return str(ELFFile(up_to_entry).get_machine_arch())
        except ELFError as error:
            raise UserError(self._where, *_DAMAGED) from error

    def _bytes(self, offset: int, size: int) -> bytes:
        data = self._read(offset, size)
        if len(data) < size:
            raise UserError(self._where, *_DAMAGED)
        return data

    def segments(self) -> list[tuple[int, Segment]]:
        """Return every program header and its type."""
        table = self._bytes(self._segments_offset, self._segment_count * _PHDR.size)
        return [
            (kind, Segment(address, offset, file_size, memory_size, flags, align))
            for kind, flags, offset, address, _, file_size, memory_size, align in _PHDR.iter_unpack(table)
        ]

    def sections(self) -> tuple[Section, ...]:
        """Return every section header with its name."""
        table = self._bytes(self.sections_offset, self._section_count * _SHDR.size)
        rows = list(_SHDR.iter_unpack(table))
        names = self._section_names(rows)
        return tuple(
            Section(
                _string(names, name, self._where) if names else "",
                *(number, kind, address, offset, size, link, align, entry_size),
            )
            for number, (name, kind, _, address, offset, size, link, _, align, entry_size) in enumerate(rows)
        )

    def _section_names(self, rows: Sequence[tuple[int, ...]]) -> bytes:
        number = self.names_index
        if number == 0 or not rows:
            return b""
        if number >= len(rows) or rows[number][5] > _MAX_NAMES_SIZE:
            raise UserError(self._where, *_DAMAGED)
        return self._bytes(*rows[number][4:6])


def _string(table: bytes, start: int, where: str) -> str:
    """Return a string of a string table; raise UserError where none begins."""
    end = table.find(b"\0", start, start + _MAX_NAME_SIZE)
    if end < 0:
        raise UserError(where, *_DAMAGED)
    return table[start:end].decode(errors="replace")


def _check_bounds(image: Image) -> None:
    size = len(image.data)
    for section in image.section_list[1:]:
        if not section.nobits and section.offset + section.size > size:
            raise UserError(f"{image.where}, section {section.name}", *_CUT)
    for number, segment in enumerate(image.loads):
        if segment.offset + segment.file_size > size or segment.file_size > segment.memory_size:
            raise UserError(f"{image.where}, PT_LOAD {number}", *_CUT)


def check_loadable(image: Image) -> None:
    """Raise UserError unless the image can be laid out: PT_LOADs from address 0, none sharing a page.

    The rules are those of the reference's loaders (docs/formats.md, sections 4 and 5).
    """
    remedy = "link it as a shared object or static PIE with pages of 4096 bytes"
    if not image.loads or image.loads[0].address != 0:
        raise UserError(image.where, "its first PT_LOAD does not start at address 0", remedy)
    if image.size == 0:
        raise UserError(image.where, "its PT_LOADs are empty", remedy)
    if image.size > _MAX_IMAGE_SIZE:
        raise UserError(image.where, "its PT_LOADs span more than 1 GiB", remedy)
    for segment, following in zip(image.loads, image.loads[1:], strict=False):
        if segment.end > following.address // PAGE * PAGE:
            problem = f"its PT_LOADs overlap in the page at {following.address:#x}"
            raise UserError(image.where, problem, remedy)
    data = image.find_section(".tdata")
    if image.tls and ((data.size if data else 0) != image.tls.file_size):
        raise UserError(image.where, "PT_TLS and .tdata differ in size", remedy)
    if image.tls and data and data.address != image.tls.address:
        raise UserError(image.where, "PT_TLS and .tdata differ in address", remedy)


def loaded(image: Image, segment: Segment, patches: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """Return what lies in memory from the start of a PT_LOAD's first page on; zeros follow it to the last.

    ``patches`` are addresses and what lies there in place of what the file has. Without one in the
    segment the same object is returned each time.
    """
    start, end = segment.address // PAGE * PAGE, page_up(segment.end)
    over = [(at - start, data) for at, data in patches if at < end and at + len(data) > start]
    whole = image.in_memory.get(segment)
    if not over and whole is not None:
        return whole
    content = memoryview(image.data)[segment.offset : segment.offset + segment.file_size]
    memory = bytearray(segment.address - start) + content
    for at, data in over:
        memory.extend(bytes(max(at + len(data) - len(memory), 0)))
        memory[max(at, 0) : at + len(data)] = data[max(-at, 0) :]
    del memory[end - start :]
    whole = bytes(memory)
    if not over:
        image.in_memory[segment] = whole
    return whole


def relocations(image: Image, sections: Sequence[str], accepted: frozenset[int]) -> bytes:
    """Return the relocation region: the named sections' entries, zero-padded to whole pages.

    The addend of an R_X86_64_TPOFF64 becomes its symbol's value, so that nobody has to look up
    symbols in the enclave. Nothing where the first section is absent. Raises UserError for a
    relocation type that is not in ``accepted``.
    """
    there = [name for name in sections if image.find_section(name)]
    entries = b"".join(_relocation_entries(image, name, accepted) for name in there)
    return entries.ljust(page_up(len(entries)), b"\0") if sections[0] in there else b""


def _relocation_entries(image: Image, name: str, accepted: frozenset[int]) -> bytearray:
    where = f"{image.where}, section {name}"
    entries = bytearray(image.section_bytes(name))
    if len(entries) % _RELA.size or image.section(name).entry_size != _RELA.size:
        raise UserError(where, "is not a table of RELA entries", "build or install the file again")
    kinds = memoryview(entries).cast("I")[_RELA_TYPE :: _RELA.size // 4].tolist()
    unknown = set(kinds) - accepted
    if unknown:
        number = next(number for number, kind in enumerate(kinds) if kind in unknown)
        problem = f"relocation {number} has type {kinds[number]}, which an enclave cannot apply"
        remedy = "compile the image as position-independent code (-fPIE) with hidden symbols"
        raise UserError(where, problem, remedy)
    if R_X86_64_TPOFF64 in kinds:
        for number in (number for number, kind in enumerate(kinds) if kind == R_X86_64_TPOFF64):
            offset, info, _ = _RELA.unpack_from(entries, number * _RELA.size)
            if info >> 32 >= len(image.dynamic_symbols):
                problem = f"relocation {number} names symbol {info >> 32}, which is not there"
                raise UserError(where, problem, "build or install the file again")
            value = image.dynamic_symbols[info >> 32][1]
            _RELA.pack_into(entries, number * _RELA.size, offset, info, value)
    return entries


def with_sections(image: Image, added: Sequence[tuple[str, int]]) -> list[Piece | int]:
    """Plan the file that has sections appended to ``image``, without touching their bodies.

    ``added`` gives each section's name and the size of its body in bytes. The file is the
    concatenation of the returned pieces, where an int stands for the body with that index.
    Raises UserError for a name that is there already and for a file without ``.shstrtab`` or
    whose section headers are not at its end.
    """
    _check_appendable(image, [name for name, _ in added])
    data, headers, bodies = image.data, image.section_headers_offset, sum(size for _, size in added)
    names = image.section_list[image.section_names_index]
    names_end = names.offset + names.size
    new_names = [name.encode() + bytes(_name_size(name) - len(name)) for name, _ in added]
    new_size = sum(map(len, new_names))

    def moved(offset: int) -> int:
        """Return where something is whose offset was this one; also what has no content moves."""
        return offset + (bodies if offset >= names.offset else 0) + (new_size if offset >= names_end else 0)

    file_header, table = bytearray(data[: _EHDR.size]), bytearray(data[headers:])
    struct.pack_into("<Q", file_header, _EHDR_SHOFF, moved(headers))
    struct.pack_into("<H", file_header, _EHDR_SHNUM, len(image.section_list) + len(added))
    for number, section in enumerate(image.section_list):
        struct.pack_into("<Q", table, number * _SHDR.size + _SHDR_OFFSET, moved(section.offset))
    struct.pack_into("<Q", table, names.number * _SHDR.size + _SHDR_SIZE, names.size + new_size)
    name, body = names.size, names.offset
    for (_, size), padded in zip(added, new_names, strict=True):
        offset = body if size else names.offset + bodies  # what is empty moves with the names
        table += _SHDR.pack(name, SHT_PROGBITS, 0, 0, offset, size, 0, 0, 1, 0)
        name, body = name + len(padded), body + size
    return [
        bytes(file_header),
        memoryview(data)[_EHDR.size : names.offset],
        *range(len(added)),
        b"".join((data[names.offset : names_end], *new_names, data[names_end:headers], table)),
    ]


def _name_size(name: str) -> int:
    """Return how many bytes an added section's name gets, its NUL among them."""
    return align_up(len(name.encode()) + 1, _NAME_UNIT)


def _check_appendable(image: Image, added: Sequence[str]) -> None:
    if not 0 < image.section_names_index < len(image.section_list):
        raise UserError(image.where, "has no .shstrtab", "link it without stripping its section headers")
    end = image.section_headers_offset + len(image.section_list) * _SHDR.size
    if end != len(image.data):
        raise UserError(image.where, "its section headers are not at its end", _AS_LINKED)
    if len(image.section_list) + len(added) >= _MAX_SHNUM:
        raise UserError(image.where, "has too many sections", "strip it")
    names = image.section_list[image.section_names_index]
    if names.offset < _EHDR.size or names.offset + names.size > image.section_headers_offset:
        raise UserError(image.where, *_DAMAGED)
    if any(load.file_size and load.offset + load.file_size > names.offset for load in image.loads):
        raise UserError(image.where, "has a PT_LOAD behind its .shstrtab", _AS_LINKED)
    present = [name for name in added if image.find_section(name)]
    if present:
        remedy = "give the file as the runtime has it, not a package"
        raise UserError(image.where, f"has a section {present[0]} already", remedy)


def without_sections(start: bytes, rest: bytes, added: Sequence[tuple[str, int]]) -> bytes:
    """Return the file that :func:`with_sections` was given, from what it put around the bodies.

    ``start`` is what comes before the first body, ``rest`` what follows the last; ``added`` is as
    there. Of any other file the result is none that sections were appended to: whoever wants to
    know appends them again. Raises ValueError where the headers do not even lie in the file.
    """
    names_size = sum(_name_size(name) for name, _ in added)
    bodies_size = sum(size for _, size in added)
    data = bytearray(start + rest)
    try:
        headers = struct.unpack_from("<Q", data, _EHDR_SHOFF)[0] - bodies_size
        count, names = struct.unpack_from("<HH", data, _EHDR_SHNUM)
        names_offset, names_end = struct.unpack_from("<QQ", data, headers + names * _SHDR.size + _SHDR_OFFSET)
        kept = count - len(added)
        names_offset -= bodies_size
        names_end += names_offset - names_size
        for number in range(kept):
            field = headers + number * _SHDR.size + _SHDR_OFFSET
            (offset,) = struct.unpack_from("<Q", data, field)
            if offset >= names_offset + bodies_size:
                offset -= bodies_size
                offset -= names_size if offset >= names_end + names_size else 0
                struct.pack_into("<Q", data, field, offset)
        struct.pack_into("<Q", data, headers + names * _SHDR.size + _SHDR_SIZE, names_end - names_offset)
        struct.pack_into("<Q", data, _EHDR_SHOFF, headers - names_size)
        struct.pack_into("<H", data, _EHDR_SHNUM, kept)
    except struct.error:
        raise ValueError("the headers lie outside of the file") from None
    end = headers + kept * _SHDR.size
    return bytes(data[:names_end] + data[names_end + names_size : end])
