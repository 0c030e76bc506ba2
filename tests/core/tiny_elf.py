"""Small x86-64 ELF files made byte by byte, for what no linker would make on demand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mystikos_tool.formats import elf

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
SHDR = struct.Struct("<IIQQQQIIQQ")
SYM = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")

ET_DYN = 3
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_TLS = 1, 2, 3, 7
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_DYNAMIC, SHT_NOBITS, SHT_DYNSYM = 1, 2, 3, 4, 6, 8, 11
X, W, R = 1, 2, 4


@dataclass(frozen=True)
class Load:
    """A PT_LOAD behind the first one, which holds the headers and the dynamic tables."""

    address: int
    data: bytes = b""
    memory_size: int = 0
    flags: int = R | W

    @property
    def size(self) -> int:
        return max(self.memory_size, len(self.data))


@dataclass(frozen=True)
class Placed:
    """A section within a Load, or without content when it is NOBITS."""

    name: str
    address: int
    size: int
    align: int = 1
    nobits: bool = False


@dataclass(frozen=True)
class Tls:
    address: int
    file_size: int
    memory_size: int
    align: int = 1


Relocations = tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True)
class _Header:
    """A section header but for its name's offset."""

    name: str
    type: int
    address: int
    offset: int
    size: int
    link: int = 0
    align: int = 1
    entry_size: int = 0


class _File:
    """A file that grows: its bytes and section headers so far."""

    def __init__(self, segment_count: int) -> None:
        self.data = bytearray(EHDR.size + segment_count * PHDR.size)
        self.headers = [_Header("", 0, 0, 0, 0, align=0)]

    def pad(self, multiple: int, remainder: int = 0) -> None:
        self.data += bytes((remainder - len(self.data)) % multiple)

    def table(self, name: str, kind: int, body: bytes, *, link: int = 0, entry_size: int = 0) -> _Header:
        """Add a section; those before the first load's end lie in memory where they lie in the file."""
        self.pad(8)
        header = _Header(name, kind, len(self.data), len(self.data), len(body), link, 8, entry_size)
        self.headers.append(header)
        self.data += body
        return header

    def symbols(self, symbols: tuple[tuple[str, int], ...]) -> None:
        names = b"\0"
        entries = SYM.pack(0, 0, 0, 0, 0, 0)
        for name, value in symbols:
            entries += SYM.pack(len(names), 0x11, 0, 1, value, 8)
            names += name.encode() + b"\0"
        self.table(".dynsym", SHT_DYNSYM, entries, link=2, entry_size=24)
        self.table(".dynstr", SHT_STRTAB, names)

    def relocations(self, name: str, rows: Relocations | None) -> None:
        if rows is not None:
            body = b"".join(
                RELA.pack(offset, symbol << 32 | kind, addend) for offset, kind, symbol, addend in rows
            )
            self.table(name, SHT_RELA, body, link=1, entry_size=24)

    def load(self, load: Load, page: int) -> int:
        """Add a segment's bytes; return their offset."""
        self.pad(page, load.address % page)
        offset = len(self.data)
        self.data += load.data
        return offset

    def place(self, section: Placed, loads: tuple[Load, ...], offsets: list[int]) -> None:
        offset = 0
        for load, start in zip(loads, offsets, strict=True):
            if load.address <= section.address <= load.address + load.size:
                offset = start + section.address - load.address
        kind = SHT_NOBITS if section.nobits else SHT_PROGBITS
        self.headers.append(
            _Header(section.name, kind, section.address, offset, section.size, 0, section.align)
        )

    def section_table(self) -> int:
        """Add ``.shstrtab`` and the section headers; return their offset."""
        names = b"\0" + b"".join(header.name.encode() + b"\0" for header in self.headers[1:]) + b".shstrtab\0"
        self.headers.append(_Header(".shstrtab", SHT_STRTAB, 0, len(self.data), len(names)))
        self.data += names
        self.pad(8)
        table = len(self.data)
        for header in self.headers:
            name_offset = names.index(b"\0" + header.name.encode() + b"\0") + 1 if header.name else 0
            self.data += SHDR.pack(
                name_offset,
                header.type,
                0,
                header.address,
                header.offset,
                header.size,
                header.link,
                0,
                header.align,
                header.entry_size,
            )
        return table


def build(
    loads: tuple[Load, ...] = (),
    placed: tuple[Placed, ...] = (),
    *,
    entry: int = 0x40,
    symbols: tuple[tuple[str, int], ...] = (),
    rela_dyn: Relocations | None = None,
    rela_plt: Relocations | None = None,
    dynamic: tuple[tuple[int, int], ...] = (),
    tls: Tls | None = None,
    symtab_size: int = 24,
    strtab: bytes = b"\0",
    behind_strtab: bytes = b"",
    first_flags: int = R,
    kind: int = ET_DYN,
    page: int = 4096,
) -> bytes:
    """Return a shared object; ``page`` is what file offsets and addresses agree by.

    Relocations are (offset, type, symbol, addend), dynamic entries (tag, value). ``.symtab``
    holds ``symtab_size`` bytes; ``behind_strtab`` lies between ``.strtab`` and ``.shstrtab``.
    """
    file = _File(1 + len(loads) + bool(tls) + bool(dynamic))
    segments = []
    file.symbols(symbols)
    file.headers.append(_Header(".text", SHT_PROGBITS, EHDR.size, EHDR.size, 1))
    file.relocations(".rela.dyn", rela_dyn)
    file.relocations(".rela.plt", rela_plt)
    if dynamic:
        body = b"".join(struct.pack("<QQ", *row) for row in (*dynamic, (0, 0)))
        header = file.table(".dynamic", SHT_DYNAMIC, body, link=2, entry_size=16)
        segments.append((PT_DYNAMIC, R, header.offset, header.address, header.size, header.size, 8))
    if tls:
        segments.append((PT_TLS, R, 0, tls.address, tls.file_size, tls.memory_size, tls.align))
    segments.append((PT_LOAD, first_flags, 0, 0, len(file.data), len(file.data), 4096))

    offsets = [file.load(load, page) for load in loads]
    segments += [
        (PT_LOAD, load.flags, offset, load.address, len(load.data), load.size, 4096)
        for load, offset in zip(loads, offsets, strict=True)
    ]
    for section in placed:
        file.place(section, loads, offsets)
    file.table(".symtab", SHT_SYMTAB, bytes(symtab_size), link=len(file.headers) + 1, entry_size=24)
    file.table(".strtab", SHT_STRTAB, strtab)
    file.data += behind_strtab
    table = file.section_table()

    for index, (type_, flags, offset, address, *rest) in enumerate(segments):
        PHDR.pack_into(
            file.data, EHDR.size + index * PHDR.size, type_, flags, offset, address, address, *rest
        )
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    counts = (EHDR.size, PHDR.size, len(segments), SHDR.size, len(file.headers), len(file.headers) - 1)
    EHDR.pack_into(file.data, 0, identity, kind, 62, 1, entry, EHDR.size, table, 0, *counts)
    return bytes(file.data)


def program(
    *,
    interpreter: str = "",
    needed: Sequence[str] = (),
    search: Sequence[str] = (),
    rpath: Sequence[str] = (),
    soname: str = "",
    only_own: bool = False,
    kind: int = ET_DYN,
    imports: Sequence[str] = (),
    exports: Sequence[str] = (),
    pie: bool = False,
    memory: int = 0,
    machine: int = 62,
) -> bytes:
    """Return a program or library without sections, as far as a dynamic linker looks at one.

    ``imports`` are taken from other files, by relocations; ``memory`` is what it has beyond its file.
    """
    strings, entries = b"\0", b""
    sonames = [soname] if soname else []
    # DT_NEEDED, DT_SONAME, DT_RPATH, DT_RUNPATH
    for tag, names in ((1, needed), (14, sonames), (15, rpath), (29, search)):
        for name in names:
            entries += struct.pack("<QQ", tag, len(strings))
            strings += name.encode() + b"\0"
    symbols, relocations = SYM.pack(0, 0, 0, 0, 0, 0), b""
    for number, name in enumerate((*exports, *imports), 1):
        symbols += SYM.pack(len(strings), 0x12, 0, number <= len(exports), 0, 0)
        strings += name.encode() + b"\0"
        relocations += RELA.pack(0, number << 32 | 7, 0)  # R_X86_64_JUMP_SLOT
    interp = interpreter.encode() + b"\0"
    count = 2 + bool(interpreter)
    start = EHDR.size + count * PHDR.size
    at_strings = start + len(interp)
    at_symbols = at_strings + len(strings)
    at_relocations = at_symbols + len(symbols)
    at_dynamic = at_relocations + len(relocations)
    entries += struct.pack("<QQQQ", 5, at_strings, 10, len(strings))  # DT_STRTAB, DT_STRSZ
    if relocations:  # DT_SYMTAB, DT_JMPREL, DT_PLTRELSZ
        entries += struct.pack("<QQQQQQ", 6, at_symbols, 23, at_relocations, 2, len(relocations))
    flags = 0x800 * only_own | 0x08000000 * pie  # DF_1_NODEFLIB, DF_1_PIE
    entries += struct.pack("<QQQQ", 0x6FFFFFFB, flags, 0, 0)  # DT_FLAGS_1, DT_NULL
    size = at_dynamic + len(entries)
    rows = [(PT_LOAD, 0, size, size + memory), (PT_DYNAMIC, at_dynamic, len(entries), len(entries))]
    rows += [(PT_INTERP, start, len(interp), len(interp))] if interpreter else []
    segments = (PHDR.pack(type_, R, at, at, at, length, space, 8) for type_, at, length, space in rows)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = EHDR.pack(identity, kind, machine, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, count, 0, 0, 0)
    return header + b"".join(segments) + interp + strings + symbols + relocations + entries


def oeinfo(
    *,
    heap_pages: int = 2,
    stack_pages: int = 2,
    tcs_count: int = 1,
    flags: int = 1,
    attributes: int = 6,
    start_address: int = 0,
    size: int = 1960,
    end_marker: int = 0xECECECECECECECEC,
) -> bytes:
    """Return an ``.oeinfo`` record as a runtime has it, not yet signed."""
    head = struct.pack("<IIQQQHHI", size, 2, heap_pages, stack_pages, tcs_count, 1, 1, flags)
    attributes_ = struct.pack("<QQQ", attributes, 0, start_address)
    return (head + bytes(32) + attributes_).ljust(1952, b"\0") + struct.pack("<Q", end_marker)


ENCLAVE_SYMBOLS = (
    "_enclave_rva",
    "_reloc_rva",
    "_reloc_size",
    "_td_from_tcs_offset",
    "_tdata_rva",
    "_tdata_size",
    "_tdata_align",
    "_tbss_size",
    "_tbss_align",
)


def enclave(
    record: bytes, loads: tuple[Load, ...] = (), placed: tuple[Placed, ...] = (), **more: object
) -> bytes:
    """Return an enclave image: at 0x2000 the words that the symbols name, at 0x2100 the record."""
    words = Load(0x2000, bytes(0x100) + record)
    symbols = tuple((name, 0x2000 + 8 * index) for index, name in enumerate(ENCLAVE_SYMBOLS))
    arguments: dict[str, object] = {"symbols": symbols, "entry": 0x1000, **more}
    return build(
        (words, *loads),
        (Placed(".oeinfo", 0x2100, len(record), 8), *placed),
        **arguments,  # type: ignore[arg-type]
    )


def patched(data: bytes, offset: int, form: str, *values: int | bytes) -> bytes:
    """Return ``data`` with little-endian values at ``offset``."""
    result = bytearray(data)
    struct.pack_into("<" + form, result, offset, *values)
    return bytes(result)


def with_sections(data: bytes, *added: tuple[str, bytes]) -> bytes:
    """Return an ELF file with sections appended as packages have them."""
    plan = elf.with_sections(elf.Image(data, "file"), [(name, len(body)) for name, body in added])
    return b"".join(added[piece][1] if isinstance(piece, int) else piece for piece in plan)


def section_header(file: bytes, name: str) -> int:
    """Return where in an ELF file the header of its section of a name is."""
    image = elf.Image(file, "file")
    return image.sections_offset + 64 * image.section_list.index(image.section(name))


def resize_section(path: Path, name: str, size: int) -> None:
    """Let the header of a file's section say another size."""
    data = path.read_bytes()
    path.write_bytes(patched(data, section_header(data, name) + 0x20, "Q", size))
