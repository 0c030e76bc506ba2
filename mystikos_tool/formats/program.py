"""What a kernel and a dynamic linker read of a program: a script's first line, an ELF file's segments.

Sections are not looked at: a program may have none.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

from mystikos_tool.io.content import ReadAt

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
DYN = struct.Struct("<QQ")
_MAGIC = b"\x7fELF"
_IDENTITY = _MAGIC + b"\x02\x01"  # 64-bit, little-endian
_EM_X86_64 = 62
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29
_DT_FLAGS_1, _DF_1_NODEFLIB, _DF_1_PIE = 0x6FFFFFFB, 0x800, 0x08000000
_DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_PLTRELSZ, _DT_STRSZ, _DT_JMPREL = 6, 7, 8, 2, 10, 23
SYM = struct.Struct("<IBBHQQ")
_RELA_SIZE = 24
_SHN_UNDEF = 0
_MAX_TABLE = 1 << 16  # of DT_NEEDED, the largest of programs have some hundreds
_MAX_PATH = 4096
_MAX_SEARCH = 1 << 16  # bytes of DT_RPATH or DT_RUNPATH
# Bytes of symbols and of their names that are looked at: real files stay far below.
_MAX_SYMBOLS = 1 << 24
_MAX_NAMES = 1 << 24
_MAX_SYMBOL = 256
_RELOCATIONS_AT_ONCE = _RELA_SIZE << 15
_MAX_OFFSET = 1 << 62
_SCRIPT = b"#!"
_BLANKS = re.compile(rb"[ \t]+")  # a carriage return belongs to a word
_MAX_SCRIPT_LINE = 255  # as Linux reads it


class Script(NamedTuple):
    """A script; ``interpreter`` is the path behind ``#!``, ``argument`` all that follows it on the line."""

    interpreter: bytes
    argument: bytes = b""

    @property
    def ends_in_return(self) -> bool:
        """Whether the line ends as on Windows: for a kernel the return is a part of the last word."""
        return (self.argument or self.interpreter).endswith(b"\r")


# What is wrong with a script whose first line ends so, and the remedy.
ENDS_IN_RETURN = (
    "its first line ends with a carriage return, which goes to the interpreter as a part of its argument"
    " or name",
    "save it with the line ends of Unix, as dos2unix does",
)


class Executable(NamedTuple):
    """An x86-64 ELF program or shared library.

    ``interpreter`` is that of PT_INTERP; ``needed`` are the libraries of DT_NEEDED, ``rpath`` and
    ``runpath`` the directories of DT_RPATH and DT_RUNPATH as they are written, None where there is no
    such entry. With ``only_own_directories`` (DF_1_NODEFLIB) libraries are not looked for in those of
    the system. ``is_pie`` is the mark that tells a static PIE from a library, ``memory`` the bytes of its
    PT_LOADs in memory; ``is_truncated`` says that the file ends before one of them does.
    """

    position_independent: bool
    interpreter: bytes | None = None
    needed: tuple[bytes, ...] = ()
    soname: bytes = b""
    rpath: tuple[bytes, ...] | None = None
    runpath: tuple[bytes, ...] | None = None
    only_own_directories: bool = False
    is_pie: bool = False
    memory: int = 0
    is_truncated: bool = False

    @property
    def is_program(self) -> bool:
        """Whether this is a program, and no library."""
        return self.interpreter is not None or self.is_pie or not self.position_independent


def read(read_at: ReadAt) -> Script | Executable | None:
    """Return what a file is that is to be started or loaded; None where Linux could do neither."""
    start = read_at(0, max(EHDR.size, _MAX_SCRIPT_LINE))
    if start.startswith(_SCRIPT):
        line = start[len(_SCRIPT) :].split(b"\n")[0].split(b"\0")[0].strip(b" \t")
        words = _BLANKS.split(line, maxsplit=1) if line else []
        return Script(*words) if words else None
    headers = _headers(start, read_at)
    return _linked(read_at, *headers) if headers else None


def imports(read_at: ReadAt) -> frozenset[bytes] | None:
    """Return the names that a program or library takes from others, as its relocations name them.

    None where there are too many to look at; a file that is neither has none.
    """
    headers = _headers(read_at(0, EHDR.size), read_at)
    if not headers:
        return frozenset()
    segments = headers[1]
    values = dict(_dynamic(read_at, segments))
    used: set[int] = set()
    for table, size in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
        for data in _relocations(read_at, _offset_of(segments, values.get(table, 0)), values.get(size, 0)):
            numbers = {info >> 32 for info in memoryview(data).cast("Q")[1::3]}
            if max(numbers) * SYM.size >= _MAX_SYMBOLS:
                return None
            used |= numbers
    symbols = _read(
        read_at,
        _offset_of(segments, values.get(_DT_SYMTAB, 0)),
        (max(used, default=0) + 1) * SYM.size,
    )
    names = _read(
        read_at, _offset_of(segments, values.get(_DT_STRTAB, 0)), min(values.get(_DT_STRSZ, 0), _MAX_NAMES)
    )
    rows = SYM.iter_unpack(symbols[: len(symbols) // SYM.size * SYM.size])
    starts = [row[0] for number, row in enumerate(rows) if number in used and row[3] == _SHN_UNDEF]
    ends = ((start, names.find(b"\0", start, start + _MAX_SYMBOL)) for start in starts)
    return frozenset(names[start:end] for start, end in ends if end > start)


def _relocations(read_at: ReadAt, offset: int, size: int) -> Iterator[bytes]:
    """Yield the table in pieces of whole rows, as far as the file has it."""
    for start in range(0, size, _RELOCATIONS_AT_ONCE):
        data = _read(read_at, offset + start, min(_RELOCATIONS_AT_ONCE, size - start))
        whole = len(data) // _RELA_SIZE * _RELA_SIZE
        if not whole:
            return
        yield data[:whole]


def _headers(start: bytes, read_at: ReadAt) -> tuple[bool, list[tuple[int, ...]]] | None:
    """Return whether an ELF file is position-independent, and its segments; None of another file."""
    if len(start) < EHDR.size or not start.startswith(_IDENTITY):
        return None
    _, kind, machine, _, _, offset, _, _, _, row_size, rows, *_ = EHDR.unpack(start[: EHDR.size])
    if machine != _EM_X86_64 or kind not in (_ET_EXEC, _ET_DYN) or row_size != PHDR.size:
        return None
    table = _read(read_at, offset, rows * PHDR.size)
    if len(table) < rows * PHDR.size:
        return None
    return kind == _ET_DYN, list(PHDR.iter_unpack(table))


def other_architecture(read_at: ReadAt) -> str | None:
    """Return the name of the architecture, as elf.h has it, of an ELF file that is not for x86-64."""
    start = read_at(0, EHDR.size)
    if len(start) < EHDR.size or not start.startswith(_MAGIC):
        return None
    machine = int.from_bytes(start[18:20], "big" if start[5] == 2 else "little")
    if machine == _EM_X86_64 and start.startswith(_IDENTITY):
        return None
    from elftools.elf.enums import ENUM_E_MACHINE  # loads a library, for this message only

    names = (name for name, number in ENUM_E_MACHINE.items() if number == machine)
    bits = " with 32-bit addresses" if machine == _EM_X86_64 else ""
    return next(names, f"machine {machine}") + bits


def _linked(read_at: ReadAt, position_independent: bool, segments: list[tuple[int, ...]]) -> Executable:
    interpreter = _segment(read_at, segments, _PT_INTERP, _MAX_PATH)
    entries = _dynamic(read_at, segments)
    values = dict(entries)
    names = _offset_of(segments, values.get(_DT_STRTAB, 0))
    loads = [(start, start + size) for kind, _, _, start, _, _, size, _ in segments if kind == _PT_LOAD]

    def string(tag: int, limit: int) -> bytes | None:
        return _string(read_at, names, values[tag], limit) if tag in values else None

    needed = (_string(read_at, names, at, _MAX_PATH) for tag, at in entries if tag == _DT_NEEDED)
    return Executable(
        position_independent,
        None if interpreter is None else interpreter.split(b"\0")[0],
        tuple(name for name in dict.fromkeys(needed) if name),
        string(_DT_SONAME, _MAX_PATH) or b"",
        _directories(string(_DT_RPATH, _MAX_SEARCH)),
        _directories(string(_DT_RUNPATH, _MAX_SEARCH)),
        bool(values.get(_DT_FLAGS_1, 0) & _DF_1_NODEFLIB),
        bool(values.get(_DT_FLAGS_1, 0) & _DF_1_PIE),
        max((end for _, end in loads), default=0) - min((start for start, _ in loads), default=0),
        any(
            size and not _read(read_at, offset + size - 1, 1)
            for kind, _, offset, _, _, size, _, _ in segments
            if kind == _PT_LOAD
        ),
    )


def _segment(read_at: ReadAt, segments: list[tuple[int, ...]], wanted: int, limit: int) -> bytes | None:
    """Return the content of the last segment of a type; None where there is none."""
    found = [segment for segment in segments if segment[0] == wanted]
    return _read(read_at, found[-1][2], min(found[-1][5], limit)) if found else None


def _dynamic(read_at: ReadAt, segments: list[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Return the entries of PT_DYNAMIC."""
    table = _segment(read_at, segments, _PT_DYNAMIC, _MAX_TABLE) or b""
    whole = table[: len(table) // DYN.size * DYN.size]
    entries = ((tag, value) for tag, value in DYN.iter_unpack(whole))
    return list(takewhile(lambda entry: entry[0] != DT_NULL, entries))


def _directories(written: bytes | None) -> tuple[bytes, ...] | None:
    if written is None:
        return None
    return tuple(dict.fromkeys(directory for directory in written.split(b":") if directory))


def _offset_of(segments: list[tuple[int, ...]], address: int) -> int:
    """Return where in the file a table is, whose address is one in memory."""
    for kind, _, offset, start, _, file_size, _, _ in segments:
        if kind == _PT_LOAD and start <= address < start + file_size:
            return offset + address - start
    return _MAX_OFFSET


def _string(read_at: ReadAt, names: int, at: int, limit: int) -> bytes | None:
    """Return a string of the table, which of a large library is large; None where it does not end."""
    found, end, _ = _read(read_at, names + at, limit).partition(b"\0")
    return found if end else None


def _read(read_at: ReadAt, offset: int, size: int) -> bytes:
    return read_at(offset, size) if offset < _MAX_OFFSET else b""
