"""What a kernel and a dynamic linker read of a program: a script's first line, an ELF file's segments.

Sections are not looked at: a program may have none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

from mystikos_tool.io.content import ReadAt

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_DYN = struct.Struct("<QQ")
_IDENTITY = b"\x7fELF\x02\x01"  # 64-bit, little-endian
_EM_X86_64 = 62
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 10, 15, 29
_MAX_TABLE = 1 << 22
_MAX_PATH = 4096
_MAX_OFFSET = 1 << 62
_SCRIPT = b"#!"
_MAX_SCRIPT_LINE = 255  # as Linux reads it


class Script(NamedTuple):
    """A script; ``interpreter`` is the path behind ``#!``."""

    interpreter: bytes


class Executable(NamedTuple):
    """An x86-64 ELF program or shared library.

    ``interpreter`` is that of PT_INTERP; ``needed`` are the libraries of DT_NEEDED, ``search`` the
    directories of DT_RPATH and DT_RUNPATH as they are written.
    """

    position_independent: bool
    interpreter: bytes | None = None
    needed: tuple[bytes, ...] = ()
    search: tuple[bytes, ...] = ()


def read(read_at: ReadAt) -> Script | Executable | None:
    """Return what a file is that is to be started or loaded; None where Linux could do neither."""
    start = read_at(0, max(_EHDR.size, _MAX_SCRIPT_LINE))
    if start.startswith(_SCRIPT):
        words = start[len(_SCRIPT) :].split(b"\n")[0].split(b"\0")[0].split()
        return Script(words[0]) if words else None
    if len(start) < _EHDR.size or not start.startswith(_IDENTITY):
        return None
    _, kind, machine, _, _, offset, _, _, _, row_size, rows, *_ = _EHDR.unpack(start[: _EHDR.size])
    if machine != _EM_X86_64 or kind not in (_ET_EXEC, _ET_DYN) or row_size != _PHDR.size:
        return None
    table = _read(read_at, offset, rows * _PHDR.size)
    if len(table) < rows * _PHDR.size:
        return None
    return _linked(read_at, kind == _ET_DYN, list(_PHDR.iter_unpack(table)))


def _linked(read_at: ReadAt, position_independent: bool, segments: list[tuple[int, ...]]) -> Executable:
    interpreter, dynamic = None, b""
    for kind, _, offset, _, _, size, _, _ in segments:
        if kind == _PT_INTERP:
            interpreter = _read(read_at, offset, min(size, _MAX_PATH)).split(b"\0")[0]
        elif kind == _PT_DYNAMIC:
            dynamic = _read(read_at, offset, min(size, _MAX_TABLE))
    whole = dynamic[: len(dynamic) // _DYN.size * _DYN.size]
    entries = list(takewhile(lambda entry: entry[0] != _DT_NULL, _DYN.iter_unpack(whole)))
    names = _names(read_at, segments, dict(entries))
    search = [names_at for tag in (_DT_RPATH, _DT_RUNPATH) for names_at in _strings(names, entries, tag)]
    return Executable(
        position_independent,
        interpreter,
        tuple(_strings(names, entries, _DT_NEEDED)),
        tuple(directory for paths in search for directory in paths.split(b":") if directory),
    )


def _names(read_at: ReadAt, segments: list[tuple[int, ...]], values: dict[int, int]) -> bytes:
    """Return the string table, whose address is one in memory."""
    address, size = values.get(_DT_STRTAB, 0), min(values.get(_DT_STRSZ, 0), _MAX_TABLE)
    for kind, _, offset, start, _, file_size, _, _ in segments:
        if kind == _PT_LOAD and start <= address < start + file_size:
            return _read(read_at, offset + address - start, size)
    return b""


def _strings(names: bytes, entries: list[tuple[int, ...]], wanted: int) -> Iterator[bytes]:
    for tag, start in entries:
        if tag == wanted and names.find(b"\0", start) >= 0:
            yield names[start : names.find(b"\0", start)]


def _read(read_at: ReadAt, offset: int, size: int) -> bytes:
    return read_at(offset, size) if offset < _MAX_OFFSET else b""
