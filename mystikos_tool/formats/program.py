"""What a kernel and a dynamic linker read of a program: a script's first line, an ELF file's segments.

Sections are not looked at: a program may have none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import chain, islice, takewhile
from typing import NamedTuple

from mystikos_tool.io.content import ReadAt

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_DYN = struct.Struct("<QQ")
_IDENTITY = b"\x7fELF\x02\x01"  # 64-bit, little-endian
_EM_X86_64 = 62
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ = 0, 1, 5, 6, 7, 8
_DT_STRSZ, _DT_RPATH, _DT_PLTRELSZ, _DT_JMPREL, _DT_RUNPATH, _DT_FLAGS_1 = 10, 15, 2, 23, 29, 0x6FFFFFFB
_DF_1_PIE = 0x08000000
_SYM = struct.Struct("<IBBHQQ")
_RELA_SIZE = 24
_SHN_UNDEF = 0
# What is believed of a file, in bytes: real ones stay far below.
_MAX_DYNAMIC = 1 << 16
_MAX_NAMES = 1 << 24
_MAX_SYMBOLS = 1 << 24
_RELOCATIONS_AT_ONCE = _RELA_SIZE << 15
_MAX_NEEDED, _MAX_SEARCH = 1024, 64
_MAX_PATH = 4096
_MAX_SYMBOL = 256
_MAX_OFFSET = 1 << 62
_SCRIPT = b"#!"
_MAX_SCRIPT_LINE = 255  # as Linux reads it


class Script(NamedTuple):
    """A script; ``interpreter`` is the path behind ``#!``, ``arguments`` the words behind that."""

    interpreter: bytes
    arguments: tuple[bytes, ...] = ()


class Executable(NamedTuple):
    """An x86-64 ELF program or shared library.

    ``interpreter`` is that of PT_INTERP; ``needed`` are the libraries of DT_NEEDED, ``search`` the
    directories of DT_RPATH and DT_RUNPATH as they are written. ``is_pie`` is the mark that tells a
    static PIE from a library, ``memory`` the bytes of its PT_LOADs in memory.
    """

    position_independent: bool
    interpreter: bytes | None = None
    needed: tuple[bytes, ...] = ()
    search: tuple[bytes, ...] = ()
    is_pie: bool = False
    memory: int = 0

    @property
    def is_program(self) -> bool:
        """Whether this is a program, and no library."""
        return self.interpreter is not None or self.is_pie or not self.position_independent


def read(read_at: ReadAt) -> Script | Executable | None:
    """Return what a file is that is to be started or loaded; None where Linux could do neither."""
    start = read_at(0, max(_EHDR.size, _MAX_SCRIPT_LINE))
    if start.startswith(_SCRIPT):
        words = start[len(_SCRIPT) :].split(b"\n")[0].split(b"\0")[0].split()
        return Script(words[0], tuple(words[1:])) if words else None
    linked = _linked(read_at)
    return linked.executable() if linked else None


def imports(read_at: ReadAt) -> frozenset[bytes] | None:
    """Return the names that a program or library takes from others, as its relocations name them.

    None where there are more than is looked at; nothing of a file that is neither.
    """
    linked = _linked(read_at)
    return linked.imports() if linked else frozenset()


def _linked(read_at: ReadAt) -> _Linked | None:
    start = read_at(0, _EHDR.size)
    if len(start) < _EHDR.size or not start.startswith(_IDENTITY):
        return None
    _, kind, machine, _, _, offset, _, _, _, row_size, rows, *_ = _EHDR.unpack(start)
    if machine != _EM_X86_64 or kind not in (_ET_EXEC, _ET_DYN) or row_size != _PHDR.size:
        return None
    table = _read(read_at, offset, rows * _PHDR.size)
    if len(table) < rows * _PHDR.size:
        return None
    return _Linked(read_at, kind == _ET_DYN, list(_PHDR.iter_unpack(table)))


class _Linked:
    """The segments of an ELF file, and what its PT_DYNAMIC says."""

    def __init__(self, read_at: ReadAt, position_independent: bool, segments: list[tuple[int, ...]]) -> None:
        self._read_at = read_at
        self._position_independent = position_independent
        self._segments = segments
        dynamic = self._segment(_PT_DYNAMIC, _MAX_DYNAMIC) or b""
        whole = dynamic[: len(dynamic) // _DYN.size * _DYN.size]
        self._entries = list(takewhile(lambda entry: entry[0] != _DT_NULL, _DYN.iter_unpack(whole)))
        self._values = dict(self._entries)

    def executable(self) -> Executable:
        names = self._names()
        tags = (_DT_RPATH, _DT_RUNPATH)
        search = [text for tag in tags for text in self._strings(names, tag)]
        interpreter = self._segment(_PT_INTERP, _MAX_PATH)
        loads = [
            (segment[3], segment[3] + segment[6]) for segment in self._segments if segment[0] == _PT_LOAD
        ]
        return Executable(
            self._position_independent,
            None if interpreter is None else interpreter.split(b"\0")[0],
            tuple(islice(self._strings(names, _DT_NEEDED), _MAX_NEEDED)),
            tuple(
                islice(filter(None, chain.from_iterable(paths.split(b":") for paths in search)), _MAX_SEARCH)
            ),
            bool(self._values.get(_DT_FLAGS_1, 0) & _DF_1_PIE),
            max((end for _, end in loads), default=0) - min((start for start, _ in loads), default=0),
        )

    def imports(self) -> frozenset[bytes] | None:
        used: set[int] = set()
        for table, size in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
            for data in self._relocations(self._values.get(table, 0), self._values.get(size, 0)):
                numbers = {info >> 32 for info in memoryview(data).cast("Q")[1::3]}
                if max(numbers) * _SYM.size >= _MAX_SYMBOLS:
                    return None
                used |= numbers
        symbols = self._at(self._values.get(_DT_SYMTAB, 0), (max(used, default=0) + 1) * _SYM.size)
        names = self._names()
        undefined = (
            name
            for number, (name, _, _, section, _, _) in enumerate(_whole_symbols(symbols))
            if section == _SHN_UNDEF and number in used
        )
        return frozenset(_string(names, name, _MAX_SYMBOL) or b"" for name in undefined) - {b""}

    def _relocations(self, address: int, size: int) -> Iterator[bytes]:
        for start in range(0, size, _RELOCATIONS_AT_ONCE):
            data = self._at(address + start, min(_RELOCATIONS_AT_ONCE, size - start))
            whole = len(data) // _RELA_SIZE * _RELA_SIZE
            if not whole:
                return
            yield data[:whole]

    def _segment(self, wanted: int, limit: int) -> bytes | None:
        """Return the content of the last segment of a type; None where there is none."""
        found = [segment for segment in self._segments if segment[0] == wanted]
        return _read(self._read_at, found[-1][2], min(found[-1][5], limit)) if found else None

    def _names(self) -> bytes:
        """Return the string table, whose address is one in memory."""
        return self._at(self._values.get(_DT_STRTAB, 0), min(self._values.get(_DT_STRSZ, 0), _MAX_NAMES))

    def _at(self, address: int, size: int) -> bytes:
        """Return up to ``size`` bytes from an address in memory, those that the file has."""
        for kind, _, offset, start, _, file_size, _, _ in self._segments:
            if kind == _PT_LOAD and start <= address < start + file_size:
                inside = min(size, start + file_size - address)
                return _read(self._read_at, offset + address - start, inside)
        return b""

    def _strings(self, names: bytes, wanted: int) -> Iterator[bytes]:
        for tag, start in self._entries:
            text = _string(names, start, _MAX_PATH) if tag == wanted else None
            if text is not None:
                yield text


def _whole_symbols(table: bytes) -> Iterator[tuple[int, ...]]:
    return _SYM.iter_unpack(table[: len(table) // _SYM.size * _SYM.size])


def _string(names: bytes, start: int, limit: int) -> bytes | None:
    """Return a string of a string table; None where none of up to ``limit`` bytes begins."""
    end = names.find(b"\0", start, start + limit)
    return None if end < 0 else names[start:end]


def _read(read_at: ReadAt, offset: int, size: int) -> bytes:
    return read_at(offset, size) if offset < _MAX_OFFSET else b""
