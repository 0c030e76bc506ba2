"""A runtime with the sizes of an installed Mystikos, whose files nobody has to have: nothing in it runs.

Sizes on disk and in memory, sections, threads and stack pages are those of a release build; so is
about the number of its relocations and symbols, which a packager reads one by one.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

from mystikos_tool.formats.oeinfo import ENCLAVE_TYPE_SGX, END_MARKER, FLAG_CAPTURE_PF_GP, OEINFO
from mystikos_tool.formats.sigstruct import ATTRIBUTE_MODE64BIT
from mystikos_tool.io.pages import PAGE, page_up
from mystikos_tool.runtime import Runtime

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_ET_DYN, _EM_X86_64, _PT_LOAD = 3, 62, 1
_R, _W, _X = 4, 2, 1
_PROGBITS, _SYMTAB, _STRTAB, _RELOCATIONS, _DYNSYM = 1, 2, 3, 4, 11
_R_X86_64_RELATIVE = 8
_SEED = 9

_ENCLAVE_SYMBOLS = ("_enclave_rva", "_reloc_rva", "_reloc_size", "_td_from_tcs_offset")


@dataclass(frozen=True)
class _Shape:
    """The sizes, in bytes, and numbers of one file.

    ``data`` is what its writable segment begins with.
    """

    on_disk: int
    loaded: int
    sections: int
    relocations: int
    symbols: int
    data: bytes = b""
    exported: tuple[str, ...] = ()


def _record() -> bytes:
    values = {
        "size": OEINFO.size,
        "enclave_type": ENCLAVE_TYPE_SGX,
        "heap_pages": 1024,
        "stack_pages": 2,
        "tcs_count": 1024,
        "flags": FLAG_CAPTURE_PF_GP,
        "attributes": ATTRIBUTE_MODE64BIT,
        "end_marker": END_MARKER,
    }
    return OEINFO.pack(values)


_LOADER = _Shape(1_800_000, 600_000, 32, 1_500, 300)
_ENCLAVE = _Shape(3_800_000, 2_100_000, 38, 6_000, 60, _record(), _ENCLAVE_SYMBOLS)
_KERNEL = _Shape(2_000_000, 950_000, 36, 4_000, 400)
_CRT = _Shape(3_100_000, 1_000_000, 34, 3_000, 1_800)


def write(directory: Path) -> Runtime:
    """Write the runtime's files, the same in every run, and return where they are."""
    runtime = Runtime.at(directory)
    files = (
        (runtime.loader, _LOADER),
        (runtime.enclave, _ENCLAVE),
        (runtime.kernel, _KERNEL),
        (runtime.crt, _CRT),
    )
    for number, (path, shape) in enumerate(files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_image(shape, random.Random(_SEED + number)))
    runtime.loader.chmod(0o755)
    return runtime


@dataclass
class _File:
    """A file that grows: its bytes and its section headers so far."""

    data: bytearray
    names: bytearray = field(default_factory=lambda: bytearray(1))
    headers: list[bytes] = field(default_factory=lambda: [bytes(_SHDR.size)])

    def section(
        self, name: str, kind: int, body: bytes, *, loaded: bool = False, link: int = 0, entry: int = 0
    ) -> int:
        """Add a section, which lies in memory where it lies in the file; return its offset."""
        self.data += bytes(-len(self.data) % 8)
        offset = len(self.data)
        address = offset if loaded else 0
        self.headers.append(
            _SHDR.pack(len(self.names), kind, 2 * loaded, address, offset, len(body), link, 0, 8, entry)
        )
        self.names += name.encode() + b"\0"
        self.data += body
        return offset


def _image(shape: _Shape, source: random.Random) -> bytes:
    """Return a shared object: headers and tables, code, data, and what is not loaded."""
    file = _File(bytearray(_EHDR.size + 3 * _PHDR.size))
    data_size = page_up(shape.loaded // 8)
    data_start = page_up(shape.loaded) - data_size
    exported = [(name, data_start + page_up(OEINFO.size) + 8 * at) for at, name in enumerate(shape.exported)]
    others = [(f"exported_function_{at:05}", PAGE + at) for at in range(shape.symbols)]
    _symbols(file, ".dynsym", _DYNSYM, ".dynstr", [*exported, *others], loaded=True)
    rows = (_RELA.pack(data_start + 8 * at, _R_X86_64_RELATIVE, PAGE + at) for at in range(shape.relocations))
    file.section(".rela.dyn", _RELOCATIONS, b"".join(rows), loaded=True, link=1, entry=_RELA.size)
    tables = len(file.data)
    file.data += bytes(-tables % PAGE)
    code_start = len(file.data)
    file.section(".text", _PROGBITS, source.randbytes(data_start - code_start), loaded=True)
    data = shape.data + source.randbytes(data_size - len(shape.data))
    if shape.data:
        file.section(".oeinfo", _PROGBITS, shape.data, loaded=True)
        file.data += data[len(shape.data) :]
    else:
        file.section(".data", _PROGBITS, data, loaded=True)
    _not_loaded(file, shape, source)
    _finish(
        file,
        ((_R, 0, tables), (_R | _X, code_start, data_start), (_R | _W, data_start, data_start + data_size)),
    )
    return bytes(file.data)


def _symbols(
    file: _File, name: str, kind: int, names: str, rows: list[tuple[str, int]], *, loaded: bool
) -> None:
    text = bytearray(1)
    table = bytearray(_SYM.size)
    for symbol, value in rows:
        table += _SYM.pack(len(text), 0x12, 0, 1, value, 8)
        text += symbol.encode() + b"\0"
    file.section(name, kind, bytes(table), loaded=loaded, link=len(file.headers) + 1, entry=_SYM.size)
    file.section(names, _STRTAB, bytes(text), loaded=loaded)


def _not_loaded(file: _File, shape: _Shape, source: random.Random) -> None:
    """Add sections for debuggers until the file has its size and its number of sections."""
    rows = [(f"a_function_of_the_image_{at:05}", PAGE + at) for at in range(4_000)]
    left = shape.sections - len(file.headers) - 3
    size = (shape.on_disk - len(file.data) - 4_000 * (_SYM.size + 30)) // left
    for number in range(left):
        file.section(f".debug_{number:02}", _PROGBITS, source.randbytes(size))
    _symbols(file, ".symtab", _SYMTAB, ".strtab", rows, loaded=False)


def _finish(file: _File, segments: tuple[tuple[int, int, int], ...]) -> None:
    """Add the names and headers of the sections, and write the file's headers."""
    file.names += b".shstrtab\0"
    names = file.names
    file.headers.append(
        _SHDR.pack(len(names) - len(b".shstrtab\0"), _STRTAB, 0, 0, len(file.data), len(names), 0, 0, 1, 0)
    )
    file.data += names
    file.data += bytes(-len(file.data) % 8)
    table = len(file.data)
    file.data += b"".join(file.headers)
    for number, (flags, start, end) in enumerate(segments):
        header = (_PT_LOAD, flags, start, start, start, end - start, end - start, PAGE)
        _PHDR.pack_into(file.data, _EHDR.size + number * _PHDR.size, *header)
    sizes = (_EHDR.size, _PHDR.size, len(segments), _SHDR.size, len(file.headers), len(file.headers) - 1)
    magic = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    _EHDR.pack_into(file.data, 0, magic, _ET_DYN, _EM_X86_64, 1, segments[1][1], _EHDR.size, table, 0, *sizes)
