"""The enclave page by page, as docs/formats.md describes it and as plainly as that can be written.

Nothing of the tool is used here, so that its layout and measurement have something to be held to.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

P = 4096
R, W, X, TCS, REG = 1, 2, 4, 0x100, 0x200
TPOFF64 = 18


def up(size: int, multiple: int = P) -> int:
    return (size + multiple - 1) // multiple * multiple


def power_of_two(size: int) -> int:
    power = 1
    while power < size:
        power *= 2
    return power


@dataclass(frozen=True)
class Page:
    offset: int
    flags: int
    content: bytes
    measured: bool


@dataclass(frozen=True)
class Section:
    index: int
    type: int
    address: int
    offset: int
    size: int
    align: int


class Elf:
    """The headers of an ELF file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.entry, program_table, self.table = struct.unpack_from("<QQQ", data, 24)
        program_count, _, self.count, self.names_index = struct.unpack_from("<HHHH", data, 56)
        self.segments = [
            struct.unpack_from("<IIQQQQQQ", data, program_table + 56 * i) for i in range(program_count)
        ]
        raw = [struct.unpack_from("<IIQQQQIIQQ", data, self.table + 64 * i) for i in range(self.count)]
        names_offset = raw[self.names_index][4]
        self.sections = {}
        for index, header in enumerate(raw):
            start = names_offset + header[0]
            name = data[start : data.index(b"\0", start)].decode()
            self.sections[name] = Section(index, header[1], header[3], header[4], header[5], header[8])

    @property
    def loads(self) -> list[tuple[int, int, int, int, int]]:
        """Address, offset, file size, memory size and flags of each PT_LOAD in order of address."""
        return sorted((s[3], s[2], s[5], s[6], s[1]) for s in self.segments if s[0] == 1)

    @property
    def size(self) -> int:
        return up(max(address + memory for address, _, _, memory, _ in self.loads))

    def content(self, name: str) -> bytes:
        section = self.sections[name]
        return self.data[section.offset : section.offset + section.size]

    def symbols(self) -> list[tuple[str, int]]:
        """Name and value of the dynamic symbols."""
        names, entries = self.content(".dynstr"), self.content(".dynsym")
        rows = struct.iter_unpack("<IBBHQQ", entries)
        return [(names[row[0] : names.index(b"\0", row[0])].decode(), row[4]) for row in rows]

    def memory(self) -> bytearray:
        memory = bytearray(self.size)
        for address, offset, size, _, _ in self.loads:
            memory[address : address + size] = self.data[offset : offset + size]
        return memory

    def relocations(self, *names: str) -> bytes:
        if ".rela.dyn" not in self.sections:
            return b""
        entries = b"".join(self.content(name) for name in names if name in self.sections)
        result = b""
        for offset, info, addend in struct.iter_unpack("<QQq", entries):
            if info & 0xFFFFFFFF == TPOFF64:
                addend = self.symbols()[info >> 32][1]
            result += struct.pack("<QQq", offset, info, addend)
        return result.ljust(up(len(result)), b"\0")


def append_section(data: bytes, name: str, body: bytes) -> bytes:
    """Section 2, insertion by insertion."""

    def insert(data: bytes, place: int, piece: bytes) -> bytes:
        moved = bytearray(data[:place] + piece + data[place:])
        table = struct.unpack_from("<Q", data, 40)[0]
        if table >= place:
            table += len(piece)
        struct.pack_into("<Q", moved, 40, table)
        for index in range(struct.unpack_from("<H", data, 60)[0]):
            field = table + 64 * index + 24
            offset = struct.unpack_from("<Q", moved, field)[0]
            struct.pack_into("<Q", moved, field, offset + len(piece) if offset >= place else offset)
        return bytes(moved)

    elf = Elf(data)
    names = elf.sections[".shstrtab"]
    body_offset = names.offset
    if body:
        data = insert(data, body_offset, body)
    padded = name.encode() + b"\0"
    padded += bytes(-len(padded) % 64)
    names = Elf(data).sections[".shstrtab"]
    data = insert(data, names.offset + names.size, padded)
    table, count = struct.unpack_from("<Q", data, 40)[0], elf.count
    result = bytearray(data)
    struct.pack_into("<Q", result, table + 64 * names.index + 32, names.size + len(padded))
    struct.pack_into("<H", result, 60, count + 1)
    return bytes(result) + struct.pack("<IIQQQQIIQQ", names.size, 1, 0, 0, body_offset, len(body), 0, 0, 1, 0)


@dataclass(frozen=True)
class Enclave:
    """What an enclave is made of: the files of a runtime and what is packaged with them."""

    image: bytes
    kernel: bytes
    crt: bytes
    rootfs: bytes
    pubkeys: bytes
    roothashes: bytes
    config: bytes
    memory_size: int
    debug: bool
    product_id: int
    security_version: int
    zero_base: bool | None
    start_address: int | None

    def signed_record(self) -> bytes:
        """The record as it is set before measuring (section 4)."""
        elf = Elf(append_section(self.image, ".mystconfig", self.config))
        record = bytearray(elf.content(".oeinfo")[:1960])
        zero_base = bool(record[36] & 2) if self.zero_base is None else self.zero_base
        struct.pack_into("<HHI", record, 32, self.product_id, self.security_version, 1 + 2 * zero_base)
        record[40:72] = bytes(32)
        struct.pack_into("<Q", record, 72, 4 + 2 * self.debug)
        if zero_base:
            struct.pack_into("<Q", record, 88, self.start_address or 0x100000000)
        record[144:1952] = bytes(1808)
        return bytes(record)


@dataclass(frozen=True)
class Laid:
    size: int
    pages: list[Page]

    def mrenclave(self) -> bytes:
        digest = hashlib.sha256(b"ECREATE\0" + struct.pack("<IQ", 1, self.size) + bytes(44))
        for page in self.pages:
            digest.update(b"EADD\0\0\0\0" + struct.pack("<QQ", page.offset, page.flags) + bytes(40))
            for block in range(0, P, 256) if page.measured else ():
                digest.update(b"EEXTEND\0" + struct.pack("<Q", page.offset + block) + bytes(48))
                digest.update(page.content[block : block + 256])
        return digest.digest()


def image_pages(elf: Elf, memory: bytes) -> Iterator[Page]:
    for address, _, _, size, permissions in elf.loads:
        flags = (
            REG
            | (R if permissions & 4 else 0)
            | (W if permissions & 2 else 0)
            | (X if permissions & 1 else 0)
        )
        offset = address // P * P
        while offset < address + size:
            yield Page(offset, flags, bytes(memory[offset : offset + P]), True)
            offset += P


def data_pages(data: bytes, flags: int = REG | R) -> Iterator[Page]:
    for offset in range(0, len(data), P):
        yield Page(offset, flags, data[offset : offset + P].ljust(P, b"\0"), True)


def filled(count: int, flags: int, *, measured: bool, byte: int = 0, start: int = 0) -> Iterator[Page]:
    for index in range(count):
        yield Page(start + index * P, flags, bytes([byte]) * P, measured)


def regions(enclave: Enclave) -> Iterator[tuple[str, list[Page], int, int | None]]:
    """Name, pages counted from the region's start, size, and the file size where it is another."""
    kernel, crt = Elf(enclave.kernel), Elf(enclave.crt)

    def data(name: str, body: bytes) -> tuple[str, list[Page], int, int | None]:
        return name, list(data_pages(body)), up(len(body)), len(body)

    def symbols(name: str) -> bytes:
        section = kernel.sections[name]
        return kernel.data[section.offset :][: up(section.size)].ljust(up(section.size), b"\0")

    def strings(name: str) -> bytes:
        return kernel.content(name).ljust(up(len(kernel.content(name))), b"\0")

    n = enclave.memory_size // P
    yield "kernel", list(image_pages(kernel, kernel.memory())), kernel.size, None
    yield data("kernel.reloc", kernel.relocations(".rela.dyn"))
    yield data("kernel.symtab", symbols(".symtab"))
    yield data("kernel.dynsym", symbols(".dynsym"))
    yield data("kernel.strtab", strings(".strtab"))
    yield data("kernel.dynstr", strings(".dynstr"))
    yield "crt", list(image_pages(crt, crt.memory())), crt.size, None
    yield data("crt.reloc", crt.relocations(".rela.dyn"))
    yield data("rootfs", enclave.rootfs)
    yield "fdmappings", list(filled(up(32 * n) // P, REG | R | W, measured=True)), up(32 * n), 32 * n
    yield data("pubkeys", enclave.pubkeys)
    yield data("roothashes", enclave.roothashes)
    guard = Page(0, REG, bytes(P), True)
    inner = list(filled(n, REG | R | W | X, measured=False, start=P))
    yield "mman", [guard, *inner, replace(guard, offset=(n + 1) * P)], (n + 2) * P, None
    yield data("config", enclave.config)
    yield (
        "kernel.enter.stack",
        [guard, *filled(31, REG | R | W, measured=False, start=P)],
        32 * P,
        None,
    )
    yield "mman.pids", list(filled(up(4 * n) // P, REG | R | W, measured=True)), up(4 * n), 4 * n


def lay_out(enclave: Enclave) -> Laid:
    elf = Elf(append_section(enclave.image, ".mystconfig", enclave.config))
    record = enclave.signed_record()
    heap, stack, threads = struct.unpack_from("<QQQ", record, 8)
    flags = struct.unpack_from("<I", record, 36)[0]
    start = struct.unpack_from("<Q", record, 88)[0] if flags & 2 else 0
    relocations = elf.relocations(".rela.dyn", ".rela.plt")

    pages: list[Page] = []
    offset = elf.size + len(relocations)
    for index, (name, content, size, file_size) in enumerate(regions(enclave)):
        pages += (replace(page, offset=offset + page.offset) for page in content)
        offset += size
        trailer = struct.pack(
            "<Q256sQQQ",
            0x1C8093CA739F4E61,
            name.encode(),
            size,
            size if file_size is None else file_size,
            index,
        )
        pages.append(Page(offset, REG | R, trailer.ljust(P, b"\0"), True))
        offset += P
    heap_rva = offset
    pages += filled(heap, REG | R | W, measured=False, start=offset)
    offset += heap * P

    tls = tls_sizes(elf)
    tls_pages = up(sum(up(size, max(align, 1)) for _, size, align in tls.values() if size)) // P
    for _ in range(threads):
        offset += P
        pages += filled(stack, REG | R | W, measured=True, byte=0xCC, start=offset)
        offset += stack * P + P
        base = start + offset + (tls_pages + 4) * P
        tcs = struct.pack(
            "<QQQIIQQQQII",
            0,
            0,
            start + offset + P,
            0,
            2,
            start + elf.entry,
            0,
            base,
            base,
            0xFFFFFFFF,
            0xFFFFFFFF,
        )
        pages.append(Page(offset, TCS, tcs.ljust(P, b"\0"), True))
        pages += filled(2, REG | R | W, measured=True, start=offset + P)
        pages += filled(tls_pages + 1, REG | R | W, measured=True, start=offset + 4 * P)
        offset += (4 + tls_pages + 1) * P
    enclave_size = power_of_two(offset)

    memory = elf.memory()
    place = elf.sections[".oeinfo"].address
    fields = (place, 1960, elf.size, len(relocations), heap_rva, enclave_size)
    memory[place : place + 1960] = record[:96] + struct.pack("<6Q", *fields) + record[144:]
    values = {
        "_enclave_rva": dict(elf.symbols())["_enclave_rva"],
        "_reloc_rva": elf.size,
        "_reloc_size": len(relocations),
        "_td_from_tcs_offset": (tls_pages + 4) * P,
    }
    if tls["tdata"][1]:
        values |= dict(zip(("_tdata_rva", "_tdata_size", "_tdata_align"), tls["tdata"], strict=True))
    if tls["tbss"][1]:
        values |= dict(zip(("_tbss_size", "_tbss_align"), tls["tbss"][1:], strict=True))
    for name, value in values.items():
        if name in dict(elf.symbols()):
            struct.pack_into("<Q", memory, dict(elf.symbols())[name], value)
    pages = [*image_pages(elf, memory), *moved(list(data_pages(relocations)), elf.size), *pages]
    size = power_of_two(offset + start) if flags & 2 else enclave_size
    return Laid(size, moved(pages, start))


def tls_sizes(elf: Elf) -> dict[str, tuple[int, int, int]]:
    """Address, size and alignment of .tdata and .tbss; PT_TLS has the better alignment for the first."""
    found = {}
    for name in ("tdata", "tbss"):
        section = elf.sections.get("." + name)
        found[name] = (section.address, section.size, section.align) if section else (0, 0, 1)
    for segment in elf.segments:
        if segment[0] == 7 and found["tdata"][1]:
            found["tdata"] = (*found["tdata"][:2], segment[7])
    return found


def moved(pages: list[Page], by: int) -> list[Page]:
    return [replace(page, offset=page.offset + by) for page in pages]
