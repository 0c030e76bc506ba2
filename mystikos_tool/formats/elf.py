"""ELF images: what a loader needs to know of one, and appending sections to one.

Reading is pyelftools'; appending follows docs/formats.md, section 2, to the byte.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from mystikos_tool.errors import UserError
from mystikos_tool.io.pages import PAGE, align_up, page_up

PF_X, PF_W, PF_R = 1, 2, 4

R_X86_64_64 = 1
R_X86_64_COPY = 5
R_X86_64_GLOB_DAT = 6
R_X86_64_JUMP_SLOT = 7
R_X86_64_RELATIVE = 8
R_X86_64_DTPMOD64 = 16
R_X86_64_TPOFF64 = 18

_EHDR_SHOFF = 0x28
_EHDR_SHNUM = 0x3C
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SHDR_OFFSET = 0x18
_SHDR_SIZE = 0x20
_RELA = struct.Struct("<QQQ")
_SHT_PROGBITS = 1
_NAME_UNIT = 64
_MAX_SHNUM = 0xFF00
_MAX_IMAGE_SIZE = 1 << 30
_DAMAGED = ("is a damaged ELF file", "build or install it again")


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
    address: int
    offset: int
    size: int
    align: int
    entry_size: int
    nobits: bool


@dataclass(frozen=True)
class Image:
    """An x86-64 ELF file in memory; ``where`` names it in messages.

    ``loads`` are in order of their addresses, and ``in_order`` says whether they are in the file too.
    """

    where: str
    data: bytes
    type: str
    entry: int
    section_headers_offset: int
    section_names_index: int
    loads: tuple[Segment, ...]
    in_order: bool
    tls: Segment | None
    section_list: tuple[Section, ...]
    dynamic_tags: tuple[str, ...]

    @cached_property
    def _sections(self) -> Mapping[str, Sequence[Section]]:
        named: dict[str, list[Section]] = {}
        for section in self.section_list:
            named.setdefault(section.name, []).append(section)
        return named

    def find_section(self, name: str) -> Section | None:
        """Return the section called ``name``, None where there is none; raise UserError for two."""
        found = self._sections.get(name, ())
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
        section = self.section(name)
        return b"" if section.nobits else self.data[section.offset : section.offset + section.size]

    @cached_property
    def dynamic_symbols(self) -> tuple[tuple[str, int], ...]:
        """Name and value of every entry of ``.dynsym``, in order of their index."""
        section = self.find_section(".dynsym")
        if section is None:
            return ()
        with _malformed(self.where):
            table = ELFFile(io.BytesIO(self.data)).get_section(section.number)
            if not isinstance(table, SymbolTableSection):
                raise UserError(self.where, ".dynsym is no symbol table", "replace the file")
            return tuple((symbol.name, symbol["st_value"]) for symbol in table.iter_symbols())

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


@lru_cache(maxsize=16)
def parse(data: bytes, where: str) -> Image:
    """Read an x86-64 ELF image from its bytes.

    Raises UserError for anything that is not a well-formed 64-bit little-endian x86-64 ELF
    file whose section and program headers lie within the file.
    """
    if data[:4] != b"\x7fELF":
        raise UserError(where, "is not an ELF file", "give an x86-64 ELF file")
    with _malformed(where):
        image = _describe(_open(io.BytesIO(data), where), data, where)
    _check_bounds(image)
    return image


def read_sections(path: Path) -> tuple[Section, ...]:
    """Return the section headers of an ELF file of any size, without reading the rest of it.

    Raises UserError for anything that is not a well-formed x86-64 ELF file.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"\x7fELF":
                raise UserError(str(path), "is not an ELF file", "give an x86-64 ELF file")
            with _malformed(str(path)):
                return _sections(_open(stream, str(path)))
    except OSError as error:
        raise UserError(
            str(path), (error.strerror or "cannot be read").lower(), "give an existing file"
        ) from error


def _open(stream: BinaryIO, where: str) -> ELFFile:
    file = ELFFile(stream)
    if not (file.elfclass == 64 and file.little_endian and file["e_machine"] == "EM_X86_64"):
        raise UserError(
            where,
            f"is an ELF file for {file.get_machine_arch()}, not 64-bit x86-64",
            "give one built for x86-64",
        )
    sizes = (file["e_ehsize"], file["e_shentsize"], file["e_phentsize"] if file["e_phnum"] else 56)
    if sizes != (64, 64, 56):
        raise UserError(where, *_DAMAGED)
    return file


@contextmanager
def _malformed(where: str) -> Iterator[None]:
    """Turn pyelftools' complaints about a damaged file into a UserError."""
    try:
        yield
    except (
        ELFError,
        ConstructError,
        AssertionError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        UnicodeDecodeError,
        struct.error,
    ) as error:
        raise UserError(where, *_DAMAGED) from error


def _describe(file: ELFFile, data: bytes, where: str) -> Image:
    segments = [(header["p_type"], _segment(header)) for header in (s.header for s in file.iter_segments())]
    loads = [segment for kind, segment in segments if kind == "PT_LOAD"]
    dynamic = file.get_section_by_name(".dynamic")
    tags = (
        tuple(str(tag.entry.d_tag) for tag in dynamic.iter_tags())
        if isinstance(dynamic, DynamicSection)
        else ()
    )
    return Image(
        where=where,
        data=data,
        type=file["e_type"],
        entry=file["e_entry"],
        section_headers_offset=file["e_shoff"],
        section_names_index=file["e_shstrndx"],
        loads=tuple(sorted(loads, key=lambda load: load.address)),
        in_order=all(one.address < other.address for one, other in pairwise(loads)),
        tls=next((s for kind, s in segments if kind == "PT_TLS"), None),
        section_list=_sections(file),
        dynamic_tags=tags,
    )


def _sections(file: ELFFile) -> tuple[Section, ...]:
    return tuple(
        Section(
            section.name,
            index,
            section["sh_addr"],
            section["sh_offset"],
            section["sh_size"],
            section["sh_addralign"],
            section["sh_entsize"],
            section["sh_type"] == "SHT_NOBITS",
        )
        for index, section in enumerate(file.iter_sections())
    )


def _segment(header: Mapping[str, int]) -> Segment:
    return Segment(
        header["p_vaddr"],
        header["p_offset"],
        header["p_filesz"],
        header["p_memsz"],
        header["p_flags"],
        header["p_align"],
    )


def _check_bounds(image: Image) -> None:
    size = len(image.data)
    for section in image.section_list[1:]:
        if not section.nobits and section.offset + section.size > size:
            raise UserError(
                f"{image.where}, section {section.name}",
                "lies beyond the end of the file",
                "the file is truncated: build or install it again",
            )
    for number, segment in enumerate(image.loads):
        if segment.offset + segment.file_size > size or segment.file_size > segment.memory_size:
            raise UserError(
                f"{image.where}, PT_LOAD {number}",
                "lies beyond the end of the file",
                "the file is truncated: build or install it again",
            )


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
            raise UserError(
                image.where, f"its PT_LOADs overlap in the page at {following.address:#x}", remedy
            )
    data = image.find_section(".tdata")
    if image.tls and ((data.size if data else 0) != image.tls.file_size):
        raise UserError(image.where, "PT_TLS and .tdata differ in size", remedy)
    if image.tls and data and data.address != image.tls.address:
        raise UserError(image.where, "PT_TLS and .tdata differ in address", remedy)


def loaded(image: Image) -> bytearray:
    """Return the image as it lies in memory: ``image.size`` bytes, gaps and .bss zero."""
    memory = bytearray(image.size)
    for segment in image.loads:
        memory[segment.address : segment.address + segment.file_size] = image.data[
            segment.offset : segment.offset + segment.file_size
        ]
    return memory


def relocations(image: Image, sections: Sequence[str], accepted: frozenset[int]) -> bytes:
    """Return the relocation region: the named sections' entries, zero-padded to whole pages.

    The addend of an R_X86_64_TPOFF64 becomes its symbol's value, so that nobody has to look up
    symbols in the enclave. Nothing where the first section is absent. Raises UserError for a
    relocation type that is not in ``accepted``.
    """
    entries = bytearray()
    for name in sections:
        if image.find_section(name):
            entries += _relocation_entries(image, name, accepted)
    if not image.find_section(sections[0]):
        return b""
    return bytes(entries).ljust(page_up(len(entries)), b"\0")


def _relocation_entries(image: Image, name: str, accepted: frozenset[int]) -> bytearray:
    where = f"{image.where}, section {name}"
    entries = bytearray(image.section_bytes(name))
    if len(entries) % _RELA.size or image.section(name).entry_size != _RELA.size:
        raise UserError(where, "is not a table of RELA entries", "build or install the file again")
    for number, (offset, info, _) in enumerate(_RELA.iter_unpack(bytes(entries))):
        kind, symbol = info & 0xFFFFFFFF, info >> 32
        if kind not in accepted:
            raise UserError(
                where,
                f"relocation {number} has type {kind}, which an enclave cannot apply",
                "compile the image as position-independent code (-fPIE) with hidden symbols",
            )
        if kind == R_X86_64_TPOFF64:
            if symbol >= len(image.dynamic_symbols):
                raise UserError(
                    where,
                    f"relocation {number} names symbol {symbol}, which is not there",
                    "build or install the file again",
                )
            value = image.dynamic_symbols[symbol][1]
            _RELA.pack_into(entries, number * _RELA.size, offset, info, value)
    return entries


def with_sections(image: Image, added: Sequence[tuple[str, int]]) -> list[bytes | int]:
    """Plan the file that has sections appended to ``image``, without touching their bodies.

    ``added`` gives each section's name and the size of its body in bytes. The file is the
    concatenation of the returned pieces, where an int stands for the body with that index.
    Raises UserError for a name that is there already and for a file without ``.shstrtab`` or
    whose section headers are not at its end.
    """
    _check_appendable(image, [name for name, _ in added])
    names = image.section_list[image.section_names_index]
    headers = _SectionHeaders(image)
    inserted_names = bytearray()
    name_offsets = []
    for name, size in added:
        field = name.encode() + b"\0"
        body_offset = headers.offsets[names.number]
        headers.insert(body_offset, size)
        name_offsets.append(names.size + len(inserted_names))
        inserted_names += field.ljust(align_up(len(field), _NAME_UNIT), b"\0")
        headers.insert(
            headers.offsets[names.number] + name_offsets[-1],
            names.size + len(inserted_names) - name_offsets[-1],
        )
        headers.offsets.append(body_offset)
    data = headers.patched(names.number, names.size + len(inserted_names))
    new_headers = b"".join(
        _SHDR.pack(name_offset, _SHT_PROGBITS, 0, 0, offset, size, 0, 0, 1, 0)
        for name_offset, offset, (_, size) in zip(
            name_offsets, headers.offsets[len(image.section_list) :], added, strict=True
        )
    )
    start, end = names.offset, names.offset + names.size
    return [data[:start], *range(len(added)), data[start:end] + inserted_names + data[end:] + new_headers]


def _check_appendable(image: Image, added: Sequence[str]) -> None:
    if not 0 < image.section_names_index < len(image.section_list):
        raise UserError(image.where, "has no .shstrtab", "link it without stripping its section headers")
    end = image.section_headers_offset + len(image.section_list) * _SHDR.size
    if end != len(image.data):
        raise UserError(
            image.where, "its section headers are not at its end", "take the file as the linker made it"
        )
    if len(image.section_list) + len(added) >= _MAX_SHNUM:
        raise UserError(image.where, "has too many sections", "strip it")
    names = image.section_list[image.section_names_index]
    if any(load.file_size and load.offset + load.file_size > names.offset for load in image.loads):
        raise UserError(
            image.where, "has a PT_LOAD behind its .shstrtab", "take the file as the linker made it"
        )
    present = [name for name in added if image.find_section(name)]
    if present:
        raise UserError(
            image.where,
            f"has a section {present[0]} already",
            "give the file as the runtime has it, not a package",
        )


class _SectionHeaders:
    """The file offsets in an ELF file's headers, kept right while bytes are inserted.

    A section without content moves as well when something is inserted where it lies.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self.table = image.section_headers_offset
        self.offsets = [section.offset for section in image.section_list]

    def insert(self, offset: int, size: int) -> None:
        if size == 0:
            return
        self.offsets = [value + size if value >= offset else value for value in self.offsets]
        if self.table >= offset:
            self.table += size

    def patched(self, names_index: int, names_size: int) -> bytes:
        """Return the original file with the offsets, the count and .shstrtab's size set anew."""
        data = bytearray(self._image.data)
        table = self._image.section_headers_offset
        for section in self._image.section_list:
            offset_field = table + section.number * _SHDR.size + _SHDR_OFFSET
            struct.pack_into("<Q", data, offset_field, self.offsets[section.number])
        struct.pack_into("<Q", data, table + names_index * _SHDR.size + _SHDR_SIZE, names_size)
        struct.pack_into("<Q", data, _EHDR_SHOFF, self.table)
        struct.pack_into("<H", data, _EHDR_SHNUM, len(self.offsets))
        return bytes(data)
