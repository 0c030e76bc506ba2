"""What a kernel and a dynamic linker read of a program: a script's first line, an ELF file's segments.

Sections are not looked at: a program may have none.
"""

from __future__ import annotations

import struct
from itertools import takewhile
from typing import NamedTuple

from mystikos_tool.io.content import ReadAt

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_DYN = struct.Struct("<QQ")
_MAGIC = b"\x7fELF"
_IDENTITY = _MAGIC + b"\x02\x01"  # 64-bit, little-endian
_EM_X86_64 = 62
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29
_DT_FLAGS_1, _DF_1_NODEFLIB = 0x6FFFFFFB, 0x800
_MAX_TABLE = 1 << 16  # of DT_NEEDED, the largest of programs have some hundreds
_MAX_PATH = 4096
_MAX_SEARCH = 1 << 16  # bytes of DT_RPATH or DT_RUNPATH
_MAX_OFFSET = 1 << 62
_SCRIPT = b"#!"
_MAX_SCRIPT_LINE = 255  # as Linux reads it


class Script(NamedTuple):
    """A script; ``interpreter`` is the path behind ``#!``, ``argument`` all that follows it on the line."""

    interpreter: bytes
    argument: bytes = b""


class Executable(NamedTuple):
    """An x86-64 ELF program or shared library.

    ``interpreter`` is that of PT_INTERP; ``needed`` are the libraries of DT_NEEDED, ``rpath`` and
    ``runpath`` the directories of DT_RPATH and DT_RUNPATH as they are written, None where there is no
    such entry. With ``only_own_directories`` (DF_1_NODEFLIB) libraries are not looked for in those of
    the system.
    """

    position_independent: bool
    interpreter: bytes | None = None
    needed: tuple[bytes, ...] = ()
    soname: bytes = b""
    rpath: tuple[bytes, ...] | None = None
    runpath: tuple[bytes, ...] | None = None
    only_own_directories: bool = False


def read(read_at: ReadAt) -> Script | Executable | None:
    """Return what a file is that is to be started or loaded; None where Linux could do neither."""
    start = read_at(0, max(_EHDR.size, _MAX_SCRIPT_LINE))
    if start.startswith(_SCRIPT):
        line = start[len(_SCRIPT) :].split(b"\n")[0].split(b"\0")[0].strip(b" \t")
        words = line.split(None, 1)
        return Script(*words) if words else None
    if len(start) < _EHDR.size or not start.startswith(_IDENTITY):
        return None
    _, kind, machine, _, _, offset, _, _, _, row_size, rows, *_ = _EHDR.unpack(start[: _EHDR.size])
    if machine != _EM_X86_64 or kind not in (_ET_EXEC, _ET_DYN) or row_size != _PHDR.size:
        return None
    table = _read(read_at, offset, rows * _PHDR.size)
    if len(table) < rows * _PHDR.size:
        return None
    return _linked(read_at, kind == _ET_DYN, list(_PHDR.iter_unpack(table)))


def other_architecture(read_at: ReadAt) -> str | None:
    """Return the name of the architecture, as elf.h has it, of an ELF file that is not for x86-64."""
    start = read_at(0, _EHDR.size)
    if len(start) < _EHDR.size or not start.startswith(_MAGIC):
        return None
    machine = int.from_bytes(start[18:20], "big" if start[5] == 2 else "little")
    if machine == _EM_X86_64 and start.startswith(_IDENTITY):
        return None
    from elftools.elf.enums import ENUM_E_MACHINE  # loads a library, for this message only

    names = (name for name, number in ENUM_E_MACHINE.items() if number == machine)
    bits = " with 32-bit addresses" if machine == _EM_X86_64 else ""
    return next(names, f"machine {machine}") + bits


def _linked(read_at: ReadAt, position_independent: bool, segments: list[tuple[int, ...]]) -> Executable:
    interpreter, dynamic = None, b""
    for kind, _, offset, _, _, size, _, _ in segments:
        if kind == _PT_INTERP:
            interpreter = _read(read_at, offset, min(size, _MAX_PATH)).split(b"\0")[0]
        elif kind == _PT_DYNAMIC:
            dynamic = _read(read_at, offset, min(size, _MAX_TABLE))
    whole = dynamic[: len(dynamic) // _DYN.size * _DYN.size]
    entries = list(takewhile(lambda entry: entry[0] != _DT_NULL, _DYN.iter_unpack(whole)))
    values = dict(entries)
    names = _offset_of_names(segments, values)

    def string(tag: int, limit: int) -> bytes | None:
        return _string(read_at, names, values[tag], limit) if tag in values else None

    needed = (_string(read_at, names, at, _MAX_PATH) for tag, at in entries if tag == _DT_NEEDED)
    return Executable(
        position_independent,
        interpreter,
        tuple(name for name in dict.fromkeys(needed) if name),
        string(_DT_SONAME, _MAX_PATH) or b"",
        _directories(string(_DT_RPATH, _MAX_SEARCH)),
        _directories(string(_DT_RUNPATH, _MAX_SEARCH)),
        bool(values.get(_DT_FLAGS_1, 0) & _DF_1_NODEFLIB),
    )


def _directories(written: bytes | None) -> tuple[bytes, ...] | None:
    if written is None:
        return None
    return tuple(dict.fromkeys(directory for directory in written.split(b":") if directory))


def _offset_of_names(segments: list[tuple[int, ...]], values: dict[int, int]) -> int:
    """Return where in the file the string table is, whose address is one in memory."""
    address = values.get(_DT_STRTAB, 0)
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
